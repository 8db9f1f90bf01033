//! The simulation: the shard's own code under a virtual clock, with clients, crashes and an auditor, all from one seed.
//!
//! ```text
//!   World ─┬─ Scheduler   what happens next: schedule, network, dice, trace
//!          ├─ Broker      two Cores around real `Shard`s, lanes, a MemoryDisk each; dies, and starts by real recovery
//!          ├─ Scene       what this run is about: its limits, and its cast of
//!          ├─ Clients     real bytes: Seat ─ Actor: Publisher Committer Consumer Sharer Getter Flooder, Declarer Rival Tenant,
//!          │              Founder Sweeper Drainer
//!          └─ Auditor     what was promised: published, confirmed, delivered, settled, by message and queue
//!                         and Bounds, what a core may hold meanwhile
//! ```
//!
//! It replaces `shard::core_loop`, `net` and the helper threads, which await, and nothing else: a tick takes what the
//! scheduler lets it see, batches arrive late but in order, syncs take their time, reads and writes are cut anywhere.
//! A broken promise ends the run; its seed repeats it, to the last byte of the trace.
//!
//! The folder decides nothing about messages, and knows of the broker's insides only what it asks when all is quiet.

pub mod actor;
pub mod auditor;
pub mod bounds;
pub mod broker;
pub mod catalogue;
pub mod client;
pub mod committer;
pub mod consumer;
pub mod copies;
pub mod core;
pub mod declarer;
pub mod dice;
pub mod drainer;
pub mod flooder;
pub mod founder;
pub mod getter;
pub mod letter;
pub mod manner;
pub mod network;
pub mod publisher;
pub mod quiet;
pub mod rival;
pub mod scene;
pub mod schedule;
pub mod scheduler;
pub mod seat;
pub mod session;
pub mod sharer;
pub mod sweeper;
pub mod tenancies;
pub mod tenant;
pub mod trace;
pub mod trouble;
pub mod world;

pub use auditor::Tally;
pub use trace::Trace;

use world::World;

/// Happenings for which the clients of a run work, unless told otherwise.
pub const STEPS: u64 = 20_000;

/// Runs `seed`, whose clients work for `steps` happenings; what happened goes to `trace`. Returns what was counted.
///
/// # Errors
/// The promise that the broker broke.
pub fn run_seed(seed: u64, steps: u64, trace: &Trace) -> Result<Tally, String> {
    World::new(seed, steps, trace.clone()).run()
}
