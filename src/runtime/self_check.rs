//! What this machine must offer: checked at start and by `lanemq check`, each with the command that mends it.
//!
//! Reading the facts and judging them are apart: `Facts::read` asks the system, `judge` is a pure function.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, in a word or two.
    pub name: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was found, as a sentence without a full stop.
    pub found: String,
    /// What to do; a command where there is one. Empty when all is well.
    pub remedy: String,
}

/// How a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Good.
    Ok,
    /// The broker runs, but not as well, or not for long.
    Warning,
    /// The broker cannot run.
    Failed,
}

/// What the system said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's release, such as `6.1.0-18-amd64`.
    pub kernel_release: String,
    /// What making a ring was answered: `None` when it worked.
    pub ring_error: Option<Errno>,
    /// The sysctl `kernel.io_uring_disabled`, where the kernel has it.
    pub io_uring_disabled: Option<u8>,
    /// Soft limit of locked memory in bytes; `None` is unlimited.
    pub memory_lock_bytes: Option<u64>,
    /// Soft limit of open files; `None` is unlimited.
    pub open_files: Option<u64>,
    /// The data directory, and what writing a file in it was answered.
    pub data_directory: PathBuf,
    /// What writing there was answered: `None` when it worked.
    pub data_error: Option<Errno>,
    /// Bytes free for us in the data directory's filesystem, where it exists.
    pub data_free_bytes: Option<u64>,
    /// Addresses to listen on that another process has.
    pub ports_in_use: Vec<SocketAddr>,
}

impl Facts {
    /// Asks the system. `listen` are the addresses the broker means to bind.
    pub fn read(data_directory: &Path, listen: &[SocketAddr]) -> Self {
        Self {
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            ring_error: probe_ring(),
            io_uring_disabled: read_number("/proc/sys/kernel/io_uring_disabled"),
            memory_lock_bytes: getrlimit(Resource::Memlock).current,
            open_files: getrlimit(Resource::Nofile).current,
            data_directory: data_directory.to_owned(),
            data_error: probe_directory(data_directory),
            data_free_bytes: free_bytes(data_directory),
            ports_in_use: listen
                .iter()
                .copied()
                .filter(|&address| super::is_port_in_use(address))
                .collect(),
        }
    }
}

/// Raises the soft limits of open files and locked memory to their hard limits; a refusal is left to the findings.
pub fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let Rlimit { maximum, .. } = getrlimit(resource);
        let _ = setrlimit(
            resource,
            Rlimit {
                current: maximum,
                maximum,
            },
        );
    }
}

/// Judges `facts`, one finding each, in the order of the questions a first start asks.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = judge_io_uring(facts);
    findings.extend([
        judge_open_files(facts),
        judge_data_directory(facts),
        judge_free_space(facts),
    ]);
    findings.extend(facts.ports_in_use.iter().map(judge_port));
    findings
}

/// The findings that decide whether an executor can be made: kernel, rings, locked memory.
pub fn judge_io_uring(facts: &Facts) -> Vec<Finding> {
    vec![judge_kernel(facts), judge_ring(facts), judge_memory_lock(facts)]
}

fn judge_kernel(facts: &Facts) -> Finding {
    let release = &facts.kernel_release;
    match parse_kernel(release) {
        Some(version) if version >= KERNEL_MIN => ok("kernel", format!("Linux {release}")),
        Some(_) => failed(
            "kernel",
            format!("Linux {release} is older than {}.{}", KERNEL_MIN.0, KERNEL_MIN.1),
            "upgrade the kernel",
        ),
        None => warning(
            "kernel",
            format!("the release '{release}' tells no version"),
            "uname -r",
        ),
    }
}

fn judge_ring(facts: &Facts) -> Finding {
    let Some(error) = facts.ring_error else {
        return ok("io_uring", "a ring could be made".to_owned());
    };
    let (found, remedy) = match (error, facts.io_uring_disabled) {
        (Errno::NOSYS, _) => (
            "this kernel has no io_uring".to_owned(),
            "use a kernel built with CONFIG_IO_URING=y",
        ),
        (Errno::PERM, Some(2)) => (
            "io_uring is disabled by sysctl".to_owned(),
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        (Errno::PERM, Some(1)) => (
            "io_uring is reserved to the group in kernel.io_uring_group".to_owned(),
            "sysctl -w kernel.io_uring_disabled=0   # or: sysctl -w kernel.io_uring_group=$(id -g)",
        ),
        (Errno::PERM, _) | (Errno::ACCESS, _) => (
            "io_uring is forbidden by a seccomp filter, as containers do".to_owned(),
            "docker run --security-opt seccomp=unconfined   # or a profile that allows io_uring_setup, io_uring_enter, io_uring_register",
        ),
        (Errno::NOMEM, _) => (
            "no locked memory is left for a ring".to_owned(),
            REMEDY_MEMORY_LOCK,
        ),
        (Errno::MFILE | Errno::NFILE, _) => {
            ("no descriptor is left for a ring".to_owned(), REMEDY_OPEN_FILES)
        }
        (other, _) => (format!("making a ring failed: {other}"), "dmesg | tail"),
    };
    failed("io_uring", found, remedy)
}

/// The executor refuses to start below `MEMORY_LOCK_BYTES_MIN`, whatever it would need.
fn judge_memory_lock(facts: &Facts) -> Finding {
    match facts.memory_lock_bytes {
        Some(bytes) if bytes < MEMORY_LOCK_BYTES_MIN => {
            let found = format!(
                "{} KiB may be locked, at least {} are needed",
                bytes >> 10,
                MEMORY_LOCK_BYTES_MIN >> 10
            );
            failed("locked memory", found, REMEDY_MEMORY_LOCK)
        }
        Some(bytes) => ok("locked memory", format!("{} KiB may be locked", bytes >> 10)),
        None => ok("locked memory", "unlimited".to_owned()),
    }
}

fn judge_open_files(facts: &Facts) -> Finding {
    match facts.open_files {
        Some(count) if count < OPEN_FILES_MIN => {
            let found = format!("{count} files may be open: too few for many connections");
            warning("open files", found, REMEDY_OPEN_FILES)
        }
        Some(count) => ok("open files", format!("{count} files may be open")),
        None => ok("open files", "unlimited".to_owned()),
    }
}

fn judge_data_directory(facts: &Facts) -> Finding {
    let directory = facts.data_directory.display();
    match facts.data_error {
        None => ok("data directory", format!("{directory} is writable")),
        Some(Errno::NOENT) => failed(
            "data directory",
            format!("{directory} does not exist and cannot be made"),
            &format!("install -d -m 0750 -o $(id -un) {directory}"),
        ),
        Some(error) => failed(
            "data directory",
            format!("{directory} is not writable: {error}"),
            &format!("chown -R $(id -un) {directory}"),
        ),
    }
}

fn judge_free_space(facts: &Facts) -> Finding {
    let remedy = format!(
        "df -h {}   # then free some space",
        facts.data_directory.display()
    );
    match facts.data_free_bytes {
        Some(bytes) if bytes < FREE_BYTES_MIN => warning(
            "free space",
            format!("only {} MiB are free for the log", bytes >> 20),
            &remedy,
        ),
        Some(bytes) => ok("free space", format!("{} MiB are free", bytes >> 20)),
        None => warning("free space", "the filesystem does not tell".to_owned(), &remedy),
    }
}

fn judge_port(address: &SocketAddr) -> Finding {
    let remedy = format!(
        "ss -ltnp 'sport = :{}'   # shows who listens there",
        address.port()
    );
    failed("port", format!("{address} is in use"), &remedy)
}

fn ok(name: &'static str, found: String) -> Finding {
    Finding {
        name,
        status: Status::Ok,
        found,
        remedy: String::new(),
    }
}

fn warning(name: &'static str, found: String, remedy: &str) -> Finding {
    Finding {
        name,
        status: Status::Warning,
        found,
        remedy: remedy.to_owned(),
    }
}

fn failed(name: &'static str, found: String, remedy: &str) -> Finding {
    Finding {
        name,
        status: Status::Failed,
        found,
        remedy: remedy.to_owned(),
    }
}

fn parse_kernel(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn probe_ring() -> Option<Errno> {
    let mut parameters = rustix::io_uring::io_uring_params::default();
    // SAFETY: the parameters ask for no flag, and the kernel writes only into them; the ring is closed at once.
    unsafe { rustix::io_uring::io_uring_setup(2, &mut parameters) }.err()
}

/// Makes the directory where it is missing, then writes and removes a file in it.
fn probe_directory(directory: &Path) -> Option<Errno> {
    let probe = directory.join(format!(".write-check-{}", std::process::id()));
    let result = fs::create_dir_all(directory)
        .and_then(|()| fs::write(&probe, b"x"))
        .and_then(|()| fs::remove_file(&probe));
    result.err().map(|error| errno_of(&error))
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn free_bytes(directory: &Path) -> Option<u64> {
    let filesystem = rustix::fs::statvfs(directory).ok()?;
    Some(filesystem.f_bavail * filesystem.f_frsize)
}

fn read_number(path: &str) -> Option<u8> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The executor's rings need operations of this kernel.
const KERNEL_MIN: (u32, u32) = (5, 8);
const MEMORY_LOCK_BYTES_MIN: u64 = 512 << 10;
const OPEN_FILES_MIN: u64 = 4096;
const FREE_BYTES_MIN: u64 = 1 << 30;
const REMEDY_MEMORY_LOCK: &str =
    "ulimit -l unlimited   # systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1";
const REMEDY_OPEN_FILES: &str =
    "ulimit -n 65536   # systemd: LimitNOFILE=65536; docker: --ulimit nofile=65536";

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts {
            kernel_release: "6.1.0-18-amd64".to_owned(),
            ring_error: None,
            io_uring_disabled: Some(0),
            memory_lock_bytes: Some(8 << 20),
            open_files: Some(65_536),
            data_directory: PathBuf::from("/var/lib/lanemq"),
            data_error: None,
            data_free_bytes: Some(100 << 30),
            ports_in_use: Vec::new(),
        }
    }

    fn worst(facts: &Facts) -> Finding {
        judge(facts)
            .into_iter()
            .max_by_key(|finding| finding.status)
            .expect("there are findings")
    }

    #[test]
    fn a_good_machine_has_nothing_to_mend() {
        assert!(
            judge(&good())
                .iter()
                .all(|finding| finding.status == Status::Ok && finding.remedy.is_empty())
        );
    }

    #[test]
    fn each_way_to_forbid_io_uring_has_its_own_remedy() {
        let cases = [
            (Errno::NOSYS, None, "CONFIG_IO_URING"),
            (Errno::PERM, Some(2), "io_uring_disabled=0"),
            (Errno::PERM, Some(1), "io_uring_group"),
            (Errno::PERM, Some(0), "seccomp"),
            (Errno::PERM, None, "seccomp"),
            (Errno::NOMEM, Some(0), "memlock"),
        ];
        for (error, io_uring_disabled, remedy) in cases {
            let finding = worst(&Facts {
                ring_error: Some(error),
                io_uring_disabled,
                ..good()
            });
            assert_eq!((finding.name, finding.status), ("io_uring", Status::Failed));
            assert!(finding.remedy.contains(remedy), "{error}: {}", finding.remedy);
        }
    }

    #[test]
    fn limits_are_judged_at_their_bounds() {
        let locked = |bytes| {
            judge_memory_lock(&Facts {
                memory_lock_bytes: bytes,
                ..good()
            })
            .status
        };
        assert_eq!(locked(Some((512 << 10) - 1)), Status::Failed);
        assert_eq!(locked(Some(512 << 10)), Status::Ok);
        assert_eq!(locked(None), Status::Ok);
        let files = |count| {
            judge_open_files(&Facts {
                open_files: count,
                ..good()
            })
            .status
        };
        assert_eq!(files(Some(1024)), Status::Warning);
        assert_eq!(files(Some(4096)), Status::Ok);
    }

    #[test]
    fn kernels_are_told_apart_by_their_first_two_numbers() {
        let kernel = |release: &str| {
            judge_kernel(&Facts {
                kernel_release: release.to_owned(),
                ..good()
            })
            .status
        };
        assert_eq!(kernel("5.7.19"), Status::Failed);
        assert_eq!(kernel("5.8-rc1"), Status::Ok);
        assert_eq!(kernel("10.0.1"), Status::Ok);
        assert_eq!(kernel("custom"), Status::Warning);
    }

    #[test]
    fn a_missing_directory_a_full_disk_and_a_taken_port_are_named() {
        let missing = worst(&Facts {
            data_error: Some(Errno::NOENT),
            ..good()
        });
        assert!(missing.remedy.starts_with("install -d") && missing.remedy.ends_with("/var/lib/lanemq"));
        let forbidden = worst(&Facts {
            data_error: Some(Errno::ACCESS),
            ..good()
        });
        assert!(forbidden.remedy.starts_with("chown"));
        assert_eq!(
            worst(&Facts {
                data_free_bytes: Some(1 << 20),
                ..good()
            })
            .name,
            "free space"
        );
        let address = "0.0.0.0:5672".parse().expect("an address");
        assert!(
            worst(&Facts {
                ports_in_use: vec![address],
                ..good()
            })
            .found
            .contains("0.0.0.0:5672")
        );
    }

    #[test]
    fn this_machine_can_run_the_tests() {
        let directory = std::env::temp_dir().join(format!("self-check-{}", std::process::id()));
        let facts = Facts::read(&directory, &[]);
        fs::remove_dir(&directory).expect("the probe left the directory empty");
        assert!(
            judge(&facts)
                .iter()
                .all(|finding| finding.status != Status::Failed),
            "{facts:?}"
        );
    }
}
