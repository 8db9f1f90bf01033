//! LaneMQ: an AMQP 0-9-1 broker for Linux, one pinned core a lane.
//!
//! Every core has its own connections, its own copy of the exchanges, its own queues and its own log. Nothing on the
//! way of a message takes a lock; what a message must do on another core is sent there, in batches.
//!
//! # The road of a message
//!
//! ```text
//!   client                                                                                        disk
//!     │                                                                                            ▲
//!     ▼ bytes            frames             one step           queues            entry             │ records
//!   [net] ──────▶ [protocol] ──────▶ [connection] ──▶ [channel] ──▶ [routing] ──▶ [queue] ──▶ [storage]
//!                                                                                   │
//!   [net] ◀────── [protocol] ◀─────────────────────── [channel] ◀───────────────────┘
//!     ▲ one write     delivery from a template           delivery tag, unacked
//!     │ a tick
//!   [shard] holds the thread: its stories connect · declare · publish · deliver · settle · expire · close
//! ```
//!
//! To follow one message, open these in order:
//!
//! 1. [`net`]: a reader task fills a buffer of the core's pool and posts it; [`shard::run`] turns it into an event.
//! 2. [`shard`]'s `tick` gives it to `converse` in [`shard::connect`], which pulls steps from [`connection`].
//! 3. A run of publishes is recognised by [`protocol::publish`] and goes to [`shard::publish`]: [`routing`] names the
//!    queues, [`queue`] says who takes the message or keeps it, [`storage`] appends its record.
//! 4. [`shard::deliver`] takes what queues can give: [`channel`] numbers it, [`protocol::deliver`] patches its frames,
//!    and the tick's end writes them.
//! 5. [`shard::confirm`] asks for a sync and tells the publisher; [`shard::settle`] takes the consumer's ack, which
//!    becomes a record of the same log.
//! 6. Between cores, the same words travel in [`shard::mailbox`].
//!
//! # Who may import whom
//!
//! | folder | may import |
//! |---|---|
//! | `model` | nothing |
//! | `metrics` `config` `runtime` `protocol` `topology` `auth` | `model` |
//! | `net` | `model metrics config runtime` |
//! | `channel` | `model protocol` |
//! | `connection` | `model protocol channel` |
//! | `routing` `queue` | `model topology` |
//! | `storage` | `model metrics config runtime` |
//! | `shard` | all above |
//! | `perf` | `model metrics config runtime protocol net` |
//! | `simulation` | `shard` and all above it but `perf` |
//! | `cli` | all above |
//!
//! `model protocol connection channel topology routing queue auth` are sans-io: input and time come in, decisions go
//! out; no `async`, no clock, no socket, no file, no randomness. `tests/layout.rs` holds the table.

pub mod auth;
pub mod channel;
pub mod cli;
pub mod config;
pub mod connection;
pub mod metrics;
pub mod model;
pub mod net;
pub mod perf;
pub mod protocol;
pub mod queue;
pub mod routing;
pub mod runtime;
pub mod shard;
pub mod simulation;
pub mod storage;
pub mod topology;
