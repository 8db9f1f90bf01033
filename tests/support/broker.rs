//! A `lanemq serve` process on a free port with a data directory of its own.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A broker process; killed when dropped.
pub struct Broker {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From its start to its first accepted connection.
    pub accepting_after: Duration,
}

impl Broker {
    /// Starts a broker over `data` on the processors `cores`, and waits until it accepts.
    pub fn start(data: &Path, cores: &str) -> Self {
        Self::start_with(data, cores, &[])
    }

    /// The same with settings, each `key=value`.
    pub fn start_with(data: &Path, cores: &str, settings: &[&str]) -> Self {
        let address = free_address();
        let begun = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_lanemq"))
            .args([
                "serve",
                "--listen",
                &address.to_string(),
                "--cores",
                cores,
                "--data-dir",
            ])
            .arg(data)
            .args(["--set", "logging.level=warn"])
            .args(settings.iter().flat_map(|setting| ["--set", *setting]))
            .stdin(Stdio::null())
            .stderr(Stdio::from(
                std::fs::File::create(data.join("../broker.log")).expect("a log beside the data"),
            ))
            .spawn()
            .expect("the program starts");
        let mut broker = Self {
            child,
            address,
            accepting_after: Duration::ZERO,
        };
        broker.wait_until_it_accepts(begun);
        broker
    }

    fn wait_until_it_accepts(&mut self, begun: Instant) {
        while TcpStream::connect(self.address).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the broker accepts within a minute"
            );
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                panic!("the broker ended while starting: {status}");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.accepting_after = begun.elapsed();
    }

    /// Memory it has in the machine.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("the system tells it");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>();
        kibibytes.expect("a number") << 10
    }

    /// Sends it SIGHUP.
    pub fn hang_up(&self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::HUP).expect("the broker runs");
    }

    /// Kills it with SIGKILL, as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("the broker runs");
        self.child.wait().expect("the broker ends");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of its own for a test, removed when dropped.
pub struct TestDirectory(PathBuf);

impl TestDirectory {
    /// An empty directory named for `test`.
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lanemq-{test}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("data")).expect("a temporary directory");
        Self(path)
    }

    /// Where the broker keeps its data.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What is left behind is in the system's temporary directory.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// An address of this machine that nobody listens on.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}

/// The processors this process may use, at most `count` of them, as `--cores` takes them.
pub fn cores(count: usize) -> String {
    let cpus = lanemq::runtime::available_cpus().expect("the affinity mask can be read");
    cpus.iter()
        .take(count)
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",")
}
