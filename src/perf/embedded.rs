//! `EmbeddedBroker`: a broker of this very program, started for a run on a free port and stopped after it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::affinity::pinned_to;
use super::error::PerfError;
use super::uri::AmqpUri;

/// How the broker is started.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedOptions {
    /// Cores that become its lanes and its affinity mask; empty: all.
    pub cores: Vec<usize>,
    /// Its durability mode, `fsync` or `write`; `None`: its default.
    pub durability: Option<String>,
    /// Directory in which its data directory is made; `None`: `perf/runs` if there is a `perf`, else the system's
    /// temporary directory, which may be memory, where a sync costs nothing.
    pub data_parent: Option<PathBuf>,
    /// Further settings, as `lanemq serve --set` takes them.
    pub settings: Vec<String>,
}

/// A running broker; dropping it stops it and removes its data.
#[derive(Debug)]
pub struct EmbeddedBroker {
    child: Child,
    address: SocketAddr,
    data_dir: PathBuf,
}

impl EmbeddedBroker {
    /// Starts `program serve` and waits until it accepts connections.
    pub fn start(program: &Path, options: &EmbeddedOptions, suffix: u64) -> Result<Self, PerfError> {
        let address = free_address()?;
        let data_dir = data_parent(options).join(format!("embedded-{suffix:012x}"));
        fs::create_dir_all(&data_dir).map_err(PerfError::system(format!("making {}", data_dir.display())))?;
        let mut command = serve_command(program, options, address, &data_dir);
        let spawned = if options.cores.is_empty() {
            command.spawn()
        } else {
            pinned_to(&options.cores, || command.spawn())?
        };
        let child = spawned.map_err(PerfError::system(format!("starting {}", program.display())))?;
        let mut broker = Self {
            child,
            address,
            data_dir,
        };
        broker.wait_until_accepting()?;
        Ok(broker)
    }

    /// Where it listens.
    pub fn uri(&self) -> AmqpUri {
        let guest = "guest".to_owned();
        AmqpUri {
            user: guest.clone(),
            password: guest,
            host: self.address.ip().to_string(),
            port: self.address.port(),
            vhost: "/".to_owned(),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn wait_until_accepting(&mut self) -> Result<(), PerfError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(PerfError::Argument(format!(
                    "the embedded broker ended at once: {status}; its own words are above"
                )));
            }
            if Instant::now() > deadline {
                return Err(PerfError::Argument(format!(
                    "the embedded broker does not accept connections on {}",
                    self.address
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// SIGTERM, and after a while SIGKILL.
    fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let told = pid.map(|pid| kill_process(pid, Signal::TERM));
        let deadline = Instant::now()
            + if matches!(told, Some(Ok(()))) {
                STOP_TIMEOUT
            } else {
                Duration::ZERO
            };
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may have ended by itself meanwhile; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = fs::remove_dir_all(&self.data_dir) {
            eprintln!("cannot remove {}: {error}", self.data_dir.display());
        }
    }
}

fn serve_command(program: &Path, options: &EmbeddedOptions, address: SocketAddr, data_dir: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--listen")
        .arg(address.to_string())
        .arg("--data-dir")
        .arg(data_dir);
    if !options.cores.is_empty() {
        let cores: Vec<String> = options.cores.iter().map(usize::to_string).collect();
        command.arg("--cores").arg(cores.join(","));
    }
    if let Some(durability) = &options.durability {
        command.arg("--set").arg(format!("durability={durability}"));
    }
    // Its log would hide the report; a setting of the caller's comes later and wins.
    command.arg("--set").arg("logging.level=warn");
    for setting in &options.settings {
        command.arg("--set").arg(setting);
    }
    // Standard output is the report's; what the broker has to say goes to standard error.
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A port that was free a moment ago; the broker refuses to start should somebody take it meanwhile.
fn free_address() -> Result<SocketAddr, PerfError> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map_err(PerfError::system("looking for a free port"))
}

fn data_parent(options: &EmbeddedOptions) -> PathBuf {
    let in_checkout = || {
        if Path::new("perf").is_dir() {
            PathBuf::from("perf/runs")
        } else {
            std::env::temp_dir()
        }
    };
    options.data_parent.clone().unwrap_or_else(in_checkout)
}

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
