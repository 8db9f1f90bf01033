//! `PerfError`: why a run could not be made, or not to its end.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::uri::UriError;
use super::workload::WorkloadError;
use crate::protocol::frame::FrameError;
use crate::protocol::method::MethodError;

/// Why a run failed. What a run finds (loss, duplicates) is no error but part of its result.
#[derive(Debug, Error)]
pub enum PerfError {
    /// The workload cannot be used.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The URI cannot be used.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The broker cannot be reached, or the connection broke.
    #[error("connection to {address} {doing}: {source}")]
    Connection {
        /// Where the broker was looked for.
        address: String,
        /// What was going on.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The broker closed a connection or channel.
    #[error("the broker closed the {what} with {code} {text:?}, while {doing}")]
    Closed {
        /// `connection` or `channel`.
        what: &'static str,
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
        /// What was going on.
        doing: String,
    },
    /// The broker sent something that does not belong there.
    #[error("the broker sent {found}, while {doing}")]
    Unexpected {
        /// What came.
        found: String,
        /// What was going on.
        doing: String,
    },
    /// The broker sent a frame that cannot be decoded.
    #[error("the broker sent a malformed frame: {0}")]
    Frame(#[from] FrameError),
    /// The broker sent a method that cannot be decoded.
    #[error("the broker sent a malformed method: {0}")]
    Method(#[from] MethodError),
    /// The system refused something.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A report cannot be read.
    #[error("report {path}: {reason}")]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An argument does not make sense.
    #[error("{0}")]
    Argument(String),
}

impl PerfError {
    /// For `map_err`: the system refused what was being done.
    pub fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System {
            doing: doing.into(),
            source,
        }
    }
}
