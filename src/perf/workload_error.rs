//! `WorkloadError`: why a workload cannot be used.

use std::path::PathBuf;

use thiserror::Error;

/// Why a workload cannot be used.
#[derive(Debug, Error)]
pub enum WorkloadError {
    /// The file cannot be read.
    #[error("cannot read workload {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML, or a key is unknown or has another type; the text names line and key.
    #[error("workload {origin}: {message}")]
    Parse {
        /// File, or file with overrides.
        origin: String,
        /// What the parser said.
        message: String,
    },
    /// A `--set` does not fit the workload.
    #[error(
        "--set {setting}: {reason}; write key=value, as in publisher.body_bytes=1024 or queue.0.arguments.x-lane=1"
    )]
    Override {
        /// What was given.
        setting: String,
        /// Why it cannot be applied.
        reason: String,
    },
    /// A value is outside of what makes sense.
    #[error("workload key {key}: found {found}, expected {expected}")]
    Invalid {
        /// The key with its group.
        key: String,
        /// The value.
        found: String,
        /// What would do.
        expected: &'static str,
    },
}

impl WorkloadError {
    /// What the parser says of `origin`.
    pub(super) fn parse(origin: &str, error: &toml::de::Error) -> Self {
        Self::Parse {
            origin: origin.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        }
    }
}
