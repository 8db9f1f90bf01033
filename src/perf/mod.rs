//! The load generator: puts a described load on any AMQP 0-9-1 broker, and says what came of it.
//!
//! ```text
//!  workload ─ plan ─ generator ─┬─ worker (one thread a core) ─┬─ publisher: schedule, ring of encoded messages, confirms
//!                               │                              └─ consumer: delivery recogniser, tally (verify)
//!                               └─ progress, process, environment
//!                    measured ─ report (result.json, table, plot) ─ compare
//! ```
//!
//! It is a foreign client: it knows the broker only through its port, so RabbitMQ is measured by the same code. So as
//! not to be the bottleneck, a message is encoded once and then only stamped in place, a whole ring of them goes out
//! with one write, deliveries are recognised by comparing their constant bytes, and nothing is allocated for a
//! message: published, consumed and checked, it costs 30 to 40 ns at 16 bytes, and 80 to 100 ns with the kernel's
//! part (CPU time, taken on a busy machine). A thread waits in one place only.
//! A client library below each publisher and consumer was set aside for that reason.
//!
//! Latency counts from the time a message was meant to be sent (`schedule`), never from when it could be.

pub mod affinity;
pub mod body;
pub mod compare;
pub mod confirms;
pub mod connection;
pub mod consumer;
pub mod delivery;
pub mod embedded;
pub mod environment;
pub mod error;
pub mod generator;
pub mod measure;
pub mod plan;
pub mod plot;
pub mod poller;
pub mod process;
pub mod progress;
pub mod publisher;
pub mod report;
pub mod ring;
pub mod run;
pub mod schedule;
pub mod setting;
pub mod sink;
pub mod table;
pub mod tally;
pub mod topology;
pub mod uri;
pub mod verify;
pub mod worker;
pub mod workload;
pub mod workload_error;
