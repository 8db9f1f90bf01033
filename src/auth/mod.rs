//! Who may do what: SASL steps, users, and which virtual hosts they may open.
//!
//! ```text
//!   connection.start-ok                          connection.open
//!     mechanism ── Mechanism::parse ─► 503         vhost ── Users::may_open_vhost ─► 530
//!     response ─── decode_plain / decode_amqplain ─► 502
//!        └─ Users::authenticate ─► LoginRefused: 403 for the client, its reason for the log
//! ```
//!
//! There is one user, `guest` with the password `guest`, who may log in from this machine only and open the virtual
//! host `/`; `Users` holds as many as it is given. The folder knows nothing of connections: it is told whether the
//! peer is on a loopback address, and it delays nobody.

mod sasl;
mod users;

pub use sasl::{Credentials, Mechanism, Password, SaslError, decode_amqplain, decode_plain};
pub use users::{LoginRefused, LoginRefusedReason, User, UserRecord, Users};
