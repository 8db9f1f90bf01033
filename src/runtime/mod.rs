//! The one door to the machine: executors, tasks, clocks, sockets, files, mapped memory, helper threads, signals.
//!
//! Everything above this folder uses our names and knows nothing of glommio, memmap2 or eventfds; `unsafe` lives
//! here and nowhere else. `runtime` decides nothing about AMQP: it knows neither frames nor queues.
//!
//! ```text
//!   other cores, helpers                      tasks of this core (each awaits one thing)
//!        │ RingSender::try_send, then               │ Inbox::push
//!        │ Doorbell::ring                           ▼
//!        └──────────► eventfd ── pump ──notify──► Inbox ──wait──► the core's loop
//! ```
//!
//! glommio 0.9.0 takes a preempt timer, or a completion on its latency ring, that lands between polling and running
//! tasks for "no work", and parks with runnable tasks. With the timer at one hour and every queue
//! `Latency::NotImportant` nothing lands there (a test in `executor` holds this). The price: nobody interrupts a
//! task, so whoever writes a loop bounds it, and makes a trip through the ring (`IoPoll`) now and then.

pub mod buffer_pool;
pub mod clock;
pub mod disk;
pub mod doorbell;
pub mod executor;
pub mod helper;
pub mod inbox;
pub mod listener;
pub mod memory;
pub mod poll_io;
pub mod ring;
pub mod self_check;
pub mod signals;
pub mod socket;
pub mod timer;

pub use buffer_pool::{BufferPool, ReceiveBuffer};
pub use clock::{now, random_seed, unix_milliseconds};
pub use doorbell::{Doorbell, DoorbellListener};
pub use executor::{
    CoreOptions, CoreThread, available_cpus, block_on, parse_cpu_list, run_on_core, spawn, yield_now,
};
pub use helper::{HelperPool, ReplyReceiver, ReplySender, reply_queue};
pub use inbox::Inbox;
pub use listener::{Listener, ListenerStopper, is_port_in_use};
pub use poll_io::IoPoll;
pub use ring::{RingReceiver, RingSender, ring};
pub use signals::{Signal, SignalListener};
pub use socket::{ReadHalf, Socket, WriteHalf};
pub use timer::{sleep, within};
