//! Arguments of `lanemq serve`, and the settings they make together with file and environment.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{EXIT_CONFIG, logging, serve};
use crate::config::{self, Config, ConfigError, NotSetting, Override};

const SETTINGS_HELP: &str = "\
Settings come from, each over the one before: defaults, the config file, environment variables
(LANEMQ_LIMITS__FRAME_MAX=65536), --set, and the options above. --print-config shows the outcome;
config/lanemq.toml in the source shows and explains every setting.

Examples:
  lanemq serve                               on 127.0.0.1:5672, data in ./data, all cores
  lanemq serve --listen 0.0.0.0:5672 --listen [::]:5672
  lanemq serve -c /etc/lanemq.toml --set durability=write --set limits.memory=4GiB
  lanemq serve --print-config > lanemq.toml  a config file to start from";

/// Arguments of `lanemq serve`.
#[derive(Debug, Args)]
#[command(after_help = SETTINGS_HELP)]
pub struct ServeArguments {
    /// What the settings are.
    #[command(flatten)]
    pub settings: SettingsArguments,

    /// Print the settings in force as TOML and stop
    #[arg(long)]
    pub print_config: bool,
}

/// Where settings come from; shared by the commands that need them.
#[derive(Debug, Default, Args)]
pub struct SettingsArguments {
    /// Config file in TOML [default: none, all settings at their defaults]
    #[arg(short = 'c', long, value_name = "FILE", env = "LANEMQ_CONFIG")]
    pub config: Option<PathBuf>,

    /// IP address and port to accept AMQP on; may be given several times [default: 127.0.0.1:5672]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<String>,

    /// Directory of messages and declarations, made when missing; for one broker at a time [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,

    /// Cores that become lanes, by the kernel's numbers: "all" or a list such as 0-3,5 [default: all]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<String>,

    /// Set anything the config file can, such as limits.frame_max=65536; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub set: Vec<Override>,
}

fn parse_setting(argument: &str) -> Result<Override, NotSetting> {
    Override::from_argument(argument)
}

impl SettingsArguments {
    /// The settings of file, environment and these arguments.
    pub fn load(&self) -> Result<Config, ConfigError> {
        // A variable that is not Unicode is none of ours; `vars` would panic on it.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        config::load(self.config.as_deref(), environment, &self.overrides())
    }

    /// What the arguments set, later ones over earlier ones.
    fn overrides(&self) -> Vec<Override> {
        let listen = (!self.listen.is_empty()).then(|| self.listen.join(","));
        let options = [
            ("--listen", "listen", listen.as_ref()),
            ("--data-dir", "data_dir", self.data_dir.as_ref()),
            ("--cores", "cores", self.cores.as_ref()),
        ];
        let given = options
            .into_iter()
            .filter_map(|(option, key, value)| Some((option, key, value?)));
        self.set
            .iter()
            .cloned()
            .chain(given.map(|(option, key, value)| Override::from_option(option, key, value)))
            .collect()
    }
}

/// Runs a broker with the settings these arguments make, or prints them, or prints why they are refused.
pub fn run(arguments: &ServeArguments) -> ExitCode {
    let config = match arguments.settings.load() {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    if arguments.print_config {
        // A reader that closed the pipe has seen enough.
        let _ = std::io::stdout().write_all(config.to_toml().as_bytes());
        return ExitCode::SUCCESS;
    }
    logging::start(&config.logging);
    serve::run(&config)
}

/// Prints why settings are refused.
pub fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(EXIT_CONFIG)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArguments,
    }

    fn load(line: &str) -> Result<Config, ConfigError> {
        let line = Line::try_parse_from(line.split(' ')).expect("well formed");
        config::load(None, [], &line.serve.settings.overrides())
    }

    #[test]
    fn options_win_over_set() {
        let config = load(
            "serve --listen 127.0.0.1:1 --listen [::1]:2 --cores 0-1 --set cores=7 --set listen=[::1]:3",
        );
        let config = config.expect("all valid");
        assert_eq!(config.cores.to_string(), "0-1");
        let addresses: Vec<_> = config.listen.as_slice().iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1:1", "[::1]:2"]);
    }

    #[test]
    fn an_option_is_refused_by_its_own_name() {
        let error = load("serve --cores zero").expect_err("no core");
        let told = error.to_string();
        assert!(
            told.starts_with("argument --cores zero: cores: expected \"all\" or core numbers"),
            "{told}"
        );
        assert!(told.contains("its default is \"all\""), "{told}");
    }

    #[test]
    fn a_setting_without_a_value_is_wrong_usage() {
        let refusal = Line::try_parse_from(["serve", "--set", "frame_max"])
            .err()
            .expect("no value");
        assert!(refusal.to_string().contains("expected KEY=VALUE"), "{refusal}");
    }
}
