//! `MethodError`: why the payload of a method frame is not a method.

use thiserror::Error;

use crate::model::{Refusal, ReplyCode};
use crate::protocol::erlang::PlainBinary;
use crate::protocol::field_reader::FieldFault;
use crate::protocol::frame::{FrameKind, Snippet};

/// Why a payload is not a method. Each closes the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MethodError {
    /// The payload is shorter than the two ids.
    #[error("a method frame of less than four bytes")]
    NoIds {
        /// The payload.
        payload: Snippet,
    },
    /// No method has these ids.
    #[error("unknown method {class}.{method}")]
    Unknown {
        /// Id of the class.
        class: u16,
        /// Id of the method within it.
        method: u16,
    },
    /// A field cannot be read.
    #[error("field {field} of method {class}.{method} {fault}")]
    Malformed {
        /// Id of the class.
        class: u16,
        /// Id of the method within it.
        method: u16,
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        fault: FieldFault,
        /// The bytes of all fields, or the first of them.
        fields: FieldBytes,
    },
    /// There are bytes after the last field.
    #[error("{count} bytes after the fields of method {class}.{method}")]
    Trailing {
        /// Id of the class.
        class: u16,
        /// Id of the method within it.
        method: u16,
        /// Number of the bytes.
        count: usize,
        /// The bytes of all fields, or the first of them.
        fields: FieldBytes,
    },
}

/// The first bytes of a method's fields, as many as a reply text has room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldBytes(Vec<u8>);

impl FieldBytes {
    /// The first bytes of `fields`.
    pub fn of(fields: &[u8]) -> Self {
        Self(fields[..fields.len().min(128)].to_vec())
    }
}

impl MethodError {
    /// The refusal, with RabbitMQ's text where it has one. Where RabbitMQ drops the connection without a word, for an
    /// unknown method and a malformed table, the nearest text is used.
    pub fn refusal(&self) -> Refusal {
        match self {
            MethodError::NoIds { payload } => {
                let number = FrameKind::Method.number();
                let text = format!("type {number}, {}: unknown_frame", payload.display());
                Refusal::new(ReplyCode::FrameError, text)
            }
            MethodError::Unknown { .. } => Refusal::new(ReplyCode::CommandInvalid, "unimplemented method"),
            MethodError::Malformed {
                fault: FieldFault::NotUtf8,
                ..
            } => Refusal::new(ReplyCode::FrameError, "Malformed UTF-8 in shortstr"),
            MethodError::Malformed { fields, .. } | MethodError::Trailing { fields, .. } => Refusal::new(
                ReplyCode::FrameError,
                format!("cannot decode {}", PlainBinary(&fields.0)),
            ),
        }
    }

    /// Ids of class and method that the close names: those of the method that could not be read, or 0, as in RabbitMQ.
    pub fn ids(&self) -> (u16, u16) {
        match *self {
            MethodError::NoIds { .. } | MethodError::Unknown { .. } => (0, 0),
            MethodError::Malformed {
                fault: FieldFault::NotUtf8,
                ..
            } => (0, 0),
            MethodError::Malformed { class, method, .. } | MethodError::Trailing { class, method, .. } => {
                (class, method)
            }
        }
    }
}
