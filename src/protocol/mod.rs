//! AMQP 0-9-1 bytes ⇄ frames, methods, properties and contents.
//!
//! Everything here borrows: a decoded method points into the receive buffer, and what is encoded is appended to a
//! buffer of the caller's. A message takes the way at the bottom, which parses nothing twice:
//!
//! ```text
//!  general     input ─ frame ─┬─ method ──────── field_reader / field_writer
//!                             └─ content ─────── properties ─ model::FieldTableRef
//!
//!  hot         input ─ publish   the bytes of the channel's last basic.publish, then header and one body frame
//!              deliver ─ out     a prepared basic.deliver, with tag, flag and sizes patched
//! ```
//!
//! The methods are one table, in `method`, and its rows are those of the specification as RabbitMQ extended it. A code
//! generator over the specification's XML was set aside: the table is as short, and it is read where it is used.
//!
//! This folder knows no connection and no channel: it does not know which method may come when, which channel is open,
//! or what a limit is, except that the caller tells it `frame_max`. Whatever cannot be decoded is an error that knows
//! RabbitMQ's reply code and text.

pub mod blind_copies;
pub mod content;
pub mod deliver;
pub mod erlang;
pub mod field_reader;
pub mod field_writer;
pub mod frame;
pub mod header;
pub mod method;
pub mod method_error;
mod method_table;
pub mod properties;
pub mod publish;

#[cfg(test)]
mod tests;
