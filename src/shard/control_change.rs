//! `ControlChange`: what control decides and every core applies in the same order, and its record in the log.

use crate::auth::{UserChange, UserChangeError};
use crate::topology::{Change, ChangeError, Topology};

/// One change of what is declared, or of who may do what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlChange {
    /// Of what is declared.
    Topology(Change),
    /// Of who may do what.
    Users(UserChange),
}

/// Why a record is no change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlChangeError {
    /// It should be one of what is declared.
    #[error(transparent)]
    Topology(#[from] ChangeError),
    /// It should be one of users.
    #[error(transparent)]
    Users(#[from] UserChangeError),
}

impl ControlChange {
    /// Whether it must be logged, judged before it is applied to `topology`.
    pub fn is_durable(&self, topology: &Topology) -> bool {
        match self {
            ControlChange::Topology(change) => change.is_durable(topology),
            ControlChange::Users(_) => true,
        }
    }

    /// Its record: the change's own bytes, whose kinds tell which of the two it is.
    pub fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            ControlChange::Topology(change) => change.encode(&mut bytes),
            ControlChange::Users(change) => change.encode(&mut bytes),
        }
        bytes
    }

    /// The change of a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlChangeError> {
        Ok(match UserChange::is_kind_of(bytes) {
            true => ControlChange::Users(UserChange::decode(bytes)?),
            false => ControlChange::Topology(Change::decode(bytes)?),
        })
    }
}

impl From<Change> for ControlChange {
    fn from(change: Change) -> Self {
        ControlChange::Topology(change)
    }
}

impl From<UserChange> for ControlChange {
    fn from(change: UserChange) -> Self {
        ControlChange::Users(change)
    }
}
