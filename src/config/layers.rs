//! Laying the sources of settings over each other.
//!
//! Each layer is read on its own over what lies below it, so that a refusal belongs to exactly one source. The file
//! is read as text, because only the text knows line and column; the other layers are single values.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::advice::{fix_for, key_at, lookup};
use super::error::{ConfigError, Origin, Place};
use super::settings::Config;

/// What environment variables for settings begin with: `LANEMQ_LIMITS__FRAME_MAX`, `LANEMQ_DATA_DIR`.
const ENVIRONMENT_PREFIX: &str = "LANEMQ_";

/// One setting from outside the config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Where it was written, for refusals.
    pub origin: Origin,
    /// The setting, `section.key`.
    pub key: String,
    /// Its value: bare text, or TOML as the config file would have it.
    pub value: String,
}

/// An argument that sets nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected KEY=VALUE such as limits.frame_max=65536, found {found}")]
pub struct NotSetting {
    found: String,
}

impl Override {
    /// The setting of `--set KEY=VALUE`.
    pub fn from_argument(argument: &str) -> Result<Self, NotSetting> {
        let (key, value) = argument
            .split_once('=')
            .filter(|(key, _)| !key.trim().is_empty())
            .ok_or_else(|| NotSetting {
                found: argument.to_owned(),
            })?;
        let origin = Origin::Argument(format!("--set {argument}"));
        Ok(Self {
            origin,
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
        })
    }

    /// The setting of a command line option of its own, such as `--data-dir`.
    pub fn from_option(option: &str, key: &str, value: &str) -> Self {
        let origin = Origin::Argument(format!("{option} {value}"));
        Self {
            origin,
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }

    /// The setting that an environment variable means, or `None` when it is not one of ours.
    ///
    /// A variable with a double underscore names section and key, and must name them right. One without is ours only
    /// if it names a setting: a service called `lanemq` in Kubernetes brings `LANEMQ_PORT` and others of no concern.
    fn from_variable(name: &str, value: &str, defaults: &Table) -> Option<Self> {
        let rest = name.strip_prefix(ENVIRONMENT_PREFIX)?;
        let key = rest.replace("__", ".").to_ascii_lowercase();
        let is_ours = rest.contains("__") || defaults.get(&key).is_some_and(|value| !value.is_table());
        let origin = Origin::Environment(name.to_owned());
        is_ours.then(|| Self {
            origin,
            key,
            value: value.to_owned(),
        })
    }
}

/// The settings of a file, if one is named, then of the environment, then of `overrides` in their order.
///
/// Errors: a file that cannot be read, text that is not TOML, an unknown key, a value outside its range, values that
/// do not fit together.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &[Override],
) -> Result<Config, ConfigError> {
    let defaults = table_of(&Config::default());
    let mut config = match file {
        Some(path) => read_file(path, &defaults)?,
        None => Config::default(),
    };
    let variables = environment
        .into_iter()
        .filter_map(|(name, value)| Override::from_variable(&name, &value, &defaults))
        .collect::<Vec<_>>();
    for setting in variables.iter().chain(overrides) {
        config = lay_over(&config, setting, &defaults)?;
    }
    check_together(&config)?;
    Ok(config)
}

fn read_file(path: &Path, defaults: &Table) -> Result<Config, ConfigError> {
    let origin = Origin::File(path.to_owned());
    let text = fs::read_to_string(path).map_err(|error| ConfigError {
        origin: origin.clone(),
        place: None,
        key: None,
        problem: format!("cannot be read: {error}"),
        fix: "name a readable file with -c, or leave -c out to run with the defaults".to_owned(),
    })?;
    read_text(&text, origin, defaults)
}

fn read_text(text: &str, origin: Origin, defaults: &Table) -> Result<Config, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| Box::new(Place::at(text, span.start)));
        let key = place.as_ref().and_then(|place| key_at(text, place.line));
        let fix = fix_for(key.as_deref(), defaults);
        ConfigError {
            origin,
            place,
            key,
            problem: error.message().to_owned(),
            fix,
        }
    })
}

/// `config` with one setting changed.
fn lay_over(config: &Config, setting: &Override, defaults: &Table) -> Result<Config, ConfigError> {
    let refuse = |problem: String| ConfigError {
        origin: setting.origin.clone(),
        place: None,
        key: Some(setting.key.clone()),
        problem,
        fix: fix_for(Some(&setting.key), defaults),
    };
    let known = lookup(defaults, &setting.key).ok_or_else(|| refuse("unknown setting".to_owned()))?;
    if known.is_table() {
        return Err(refuse("expected section.key, found a section alone".to_owned()));
    }
    let mut table = table_of(config);
    set(&mut table, &setting.key, value_like(known, &setting.value));
    Config::deserialize(Value::Table(table)).map_err(|error| refuse(error.message().to_owned()))
}

/// What `text` means where `known` is the default: text for a text, so that nobody has to quote twice; else TOML.
fn value_like(known: &Value, text: &str) -> Value {
    let is_bare_text = known.is_str() && !text.starts_with('"');
    let parsed = if is_bare_text {
        None
    } else {
        toml::from_str::<Table>(&format!("value = {text}")).ok()
    };
    parsed
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// What no single setting can check.
fn check_together(config: &Config) -> Result<(), ConfigError> {
    check_receive_buffer(config)?;
    check_segment(config)
}

fn check_receive_buffer(config: &Config) -> Result<(), ConfigError> {
    let (buffer, frame) = (
        config.net.receive_buffer_bytes.get(),
        config.limits.frame_max.get(),
    );
    if buffer >= frame + 16 {
        return Ok(());
    }
    Err(ConfigError {
        origin: Origin::Together,
        place: None,
        key: Some("net.receive_buffer_bytes".to_owned()),
        problem: format!(
            "a receive buffer must hold a frame: expected at least {} bytes, found {buffer}",
            frame + 16
        ),
        fix: "raise net.receive_buffer_bytes or lower limits.frame_max".to_owned(),
    })
}

/// The arguments of a declaration or the properties of a message may fill a frame, and its record lies in one segment.
fn check_segment(config: &Config) -> Result<(), ConfigError> {
    let (segment, frame) = (config.log.segment_bytes.get(), config.limits.frame_max.get());
    if segment / 4 >= frame {
        return Ok(());
    }
    Err(ConfigError {
        origin: Origin::Together,
        place: None,
        key: Some("log.segment_bytes".to_owned()),
        problem: format!(
            "a segment of the log must hold four frames: expected at least {} bytes, which is four times \
             limits.frame_max, found {segment}",
            u64::from(frame) * 4
        ),
        fix: "raise log.segment_bytes or lower limits.frame_max".to_owned(),
    })
}

fn table_of(config: &Config) -> Table {
    Table::try_from(config).expect("every setting has a form in TOML")
}

fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        Some((section, rest)) => {
            let section = table.get_mut(section).and_then(Value::as_table_mut);
            set(
                section.expect("the key was looked up in a table of the same form"),
                rest,
                value,
            );
        }
        None => _ = table.insert(key.to_owned(), value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Durability, LogFormat};

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        read_text(
            text,
            Origin::File("lanemq.toml".into()),
            &table_of(&Config::default()),
        )
    }

    fn from_arguments(arguments: &[&str]) -> Result<Config, ConfigError> {
        let overrides: Vec<_> = arguments
            .iter()
            .map(|text| Override::from_argument(text).expect(text))
            .collect();
        load(None, [], &overrides)
    }

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(from_text(""), Ok(Config::default()));
        assert_eq!(load(None, [], &[]), Ok(Config::default()));
    }

    #[test]
    fn a_value_out_of_range_is_told_with_place_key_expected_found_and_fix() {
        let error =
            from_text("cores = \"0\"\n\n[limits]\n# small\nframe_max = 12\n").expect_err("12 is too small");
        assert_eq!(error.key.as_deref(), Some("limits.frame_max"));
        let place = error.place.clone().expect("it came from a text");
        assert_eq!((place.line, place.column), (5, 13));
        let told = error.to_string();
        for part in [
            "lanemq.toml:5:13: limits.frame_max: ",
            "`12`",
            "bytes from 4096 to 16777216",
            "128 KiB",
            "^",
        ] {
            assert!(told.contains(part), "`{part}` is not in:\n{told}");
        }
    }

    #[test]
    fn a_misspelt_key_is_answered_with_the_nearest() {
        let error = from_text("[limits]\nframe_maks = 1\n").expect_err("no such key");
        assert_eq!(error.fix, "did you mean limits.frame_max?");
        let error = from_text("frame_max = 8192\n").expect_err("no such key");
        assert_eq!(error.fix, "did you mean limits.frame_max?");
        let error = from_arguments(&["log.segment_byte=1"]).expect_err("no such key");
        assert_eq!(error.fix, "did you mean log.segment_bytes?");
    }

    #[test]
    fn text_that_is_not_toml_is_told_with_its_place() {
        let error = from_text("listen = [\n  'x'\n  'y'\n]").expect_err("a comma is missing");
        let place = error.place.expect("it came from a text");
        assert_eq!((place.line, error.key.as_deref()), (3, Some("listen")));
    }

    #[test]
    fn arguments_win_over_variables_and_variables_over_the_file() {
        let path = std::env::temp_dir().join(format!("lanemq-layers-{}.toml", std::process::id()));
        fs::write(
            &path,
            "durability = \"write\"\n[limits]\nchannel_max = 1\nheartbeat_seconds = 1\n",
        )
        .expect("written");
        let environment = [
            variable("LANEMQ_LIMITS__CHANNEL_MAX", "2"),
            variable("LANEMQ_LIMITS__HEARTBEAT_SECONDS", "2"),
        ];
        let argument = Override::from_argument("limits.heartbeat_seconds=3").expect("a setting");
        let config = load(Some(&path), environment, &[argument]).expect("all valid");
        fs::remove_file(&path).expect("it was there");

        assert_eq!(config.durability, Durability::Write);
        assert_eq!(config.limits.channel_max.get(), 2);
        assert_eq!(config.limits.heartbeat_seconds.get(), 3);
    }

    #[test]
    fn values_outside_the_file_need_no_quotes() {
        let config = from_arguments(&[
            "durability=write",
            "cores=0-1",
            "data_dir=42",
            "listen=127.0.0.1:0,[::1]:5672",
            "limits.frame_max=65536",
            "limits.message_bytes_max=1 MiB",
            "logging.format=\"json\"",
        ])
        .expect("all valid");
        assert_eq!(config.durability, Durability::Write);
        assert_eq!(config.cores.to_string(), "0-1");
        assert_eq!(config.data_dir, Path::new("42"));
        assert_eq!(config.listen.as_slice().len(), 2);
        assert_eq!(config.limits.frame_max.get(), 65_536);
        assert_eq!(config.limits.message_bytes_max.get(), 1 << 20);
        assert_eq!(config.logging.format, LogFormat::Json);
    }

    #[test]
    fn an_argument_is_refused_by_its_own_name() {
        let error = from_arguments(&["limits.channel_max=0"]).expect_err("0 is too small");
        assert_eq!(
            error.origin,
            Origin::Argument("--set limits.channel_max=0".into())
        );
        assert!(
            error
                .to_string()
                .contains("whole number of channels from 1 to 65535"),
            "{error}"
        );
        let error = from_arguments(&["limits=1"]).expect_err("a section is not a setting");
        assert!(error.problem.contains("section.key"), "{error}");
        assert!(Override::from_argument("frame_max").is_err());
    }

    #[test]
    fn variables_of_a_kubernetes_service_are_no_settings_but_misspelt_ones_are_refused() {
        let foreign = [
            variable("LANEMQ_PORT", "tcp://10.0.0.1:5672"),
            variable("LANEMQ_SERVICE_HOST", "10.0.0.1"),
        ];
        assert_eq!(load(None, foreign, &[]), Ok(Config::default()));
        let error = load(None, [variable("LANEMQ_LIMITS__FRAMEMAX", "1")], &[]).expect_err("no such key");
        assert_eq!(
            error.to_string().lines().next(),
            Some("environment variable LANEMQ_LIMITS__FRAMEMAX: limits.framemax: unknown setting")
        );
        let config = load(None, [variable("LANEMQ_DATA_DIR", "/var/lib/lanemq")], &[]).expect("valid");
        assert_eq!(config.data_dir, Path::new("/var/lib/lanemq"));
    }

    #[test]
    fn a_receive_buffer_that_cannot_hold_a_frame_is_refused() {
        let error = from_arguments(&["limits.frame_max=1 MiB"]).expect_err("the buffer is 256 KiB");
        assert_eq!(error.key.as_deref(), Some("net.receive_buffer_bytes"));
    }

    #[test]
    fn a_segment_that_may_be_too_small_for_a_record_is_refused() {
        let error = from_arguments(&[
            "limits.frame_max=512 KiB",
            "net.receive_buffer_bytes=1 MiB",
            "log.segment_bytes=1 MiB",
        ])
        .expect_err("4 frames do not fit");
        assert_eq!(error.key.as_deref(), Some("log.segment_bytes"));
        for part in ["2097152", "1048576", "limits.frame_max"] {
            assert!(error.to_string().contains(part), "`{part}` is not in:\n{error}");
        }
        from_arguments(&[
            "limits.frame_max=256 KiB",
            "net.receive_buffer_bytes=1 MiB",
            "log.segment_bytes=1 MiB",
        ])
        .expect("4 frames fit");
    }

    #[test]
    fn a_missing_file_is_told_with_what_to_do() {
        let error = load(Some(Path::new("/nonexistent/lanemq.toml")), [], &[]).expect_err("no such file");
        assert!(
            error
                .to_string()
                .contains("/nonexistent/lanemq.toml: cannot be read"),
            "{error}"
        );
    }
}
