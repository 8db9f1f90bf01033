//! Who may do what: SASL steps, users, and their permissions in virtual hosts.
//!
//! ```text
//!   connection.start-ok                          connection.open
//!     mechanism ── Mechanism::parse ─► 503         vhost ── Users::may_open_vhost ─► 530
//!     response ─── decode_plain / decode_amqplain ─► 502
//!        └─ Users::authenticate ─► LoginRefused: 403 for the client, its reason for the log
//!
//!   a method ── Users::check_access, check_topic ─► 403
//! ```
//!
//! In the beginning there is one user, `guest` with the password `guest`, who may log in from this machine only and has every
//! permission in the vhost `/`. Others come as [`UserChange`]s, which every core applies in the same order. The folder knows
//! nothing of connections: it is told whether the peer is on a loopback address, and it delays nobody. Which vhosts,
//! exchanges and queues exist it does not know either; permissions are for names.

mod change;
mod password;
mod permission;
mod sasl;
mod users;

pub use change::{UserChange, UserChangeError};
pub use password::{HashAlgorithm, PasswordHash, PasswordHashError};
pub use permission::{Access, Permissions, Resource, TopicPatterns, TopicPermissions, access_pattern};
pub use sasl::{Credentials, Mechanism, Password, SaslError, decode_amqplain, decode_plain};
pub use users::{
    DEFAULT_USER, LoginRefused, LoginRefusedReason, User, UserLimits, UserRecord, UserUsage, Users,
};
