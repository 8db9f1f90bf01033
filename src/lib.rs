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
//!   [shard] holds the thread: its stories connect · declare · publish · deliver · settle · delete · close
//! ```
//!
//! To follow one message, open these in order:
//!
//! 1. [`net`]: a reader task fills a buffer of the core's pool and posts it; [`shard::core_loop`] turns it into an event.
//! 2. [`Shard::tick`](shard::Shard::tick) takes the events in, and `converse` in [`shard::connect`] pulls one step after
//!    the other from the connection: [`connection`] says what comes next, [`shard::obey`] does what a method asks.
//! 3. A publish takes one of two ways to [`shard::publish`]:
//!    - like the one before and whole in the buffer, it is recognised by [`protocol::publish`], with all its like that
//!      follow: a *run* (`publish_run`);
//!    - the first to a target, one cut by the end of a read, or with a body of several frames, is put together by
//!      [`channel::Assembly`] (`publish_assembled`).
//!
//!      During an alarm, [`shard::alarm`] lets it go on later; it also bounds what unfinished messages may take.
//!
//!    [`shard::route`] asks [`routing`] for the queues when the channel's cache is stale, and [`shard::credit`] whether
//!    the cores that own them may be sent more; else the run waits. In [`shard::enqueue`], what must survive goes to
//!    [`storage`], which appends its record to the tick's batch, and its place there to the [`queue`]; of any other
//!    message the queue says who takes it at once, or keeps it.
//! 4. A queue of another core gets it from [`shard::forward`], by a word in the batch of [`shard::mailbox`]; at the tick's
//!    end [`shard::core_loop`] puts the batch into the ring and rings. Over there [`shard::mail`] opens it and hands each
//!    word to its story: a publish goes on in `take_forwarded`, and so to that core's `enqueue`.
//! 5. [`shard::deliver`] takes what queues can give, and reads what lies in the log from the batch or the segment's map;
//!    [`shard::dispatch`] has the [`channel`] number it and [`protocol::deliver`] patch its frames, or sends it across to
//!    the core that holds the connection; [`shard::pressure`] pauses who takes too little. `collect` lists the outputs,
//!    and [`shard::core_loop`] has [`net`] send each with one write.
//! 6. Before that, `write_log` in [`shard::confirm`] writes the batch to the log with one positioned write, and asks for a
//!    sync if someone waits for one, or one is due; a helper thread runs it, and its end comes back as an event. With
//!    `durability = "write"` nobody waits for it.
//! 7. [`channel::Confirms`] knows which owners a publish waits for (`sent_to`) and what they have told (`safe_at`): the
//!    lowest watermark is confirmed, by [`shard::confirm`]. [`shard::settle`] takes the consumer's ack: the queue's slot
//!    notes it, and the tick's end appends all that were noted to the same log (`append_settles`). What a queue is asked
//!    otherwise (consume, get, purge) is in [`shard::owner`].
//!
//! A message that does not end by an ack has stories of its own. One that finds no queue is [`shard::unroutable`]. A queue
//! with rules takes its messages one by one, in [`shard::admit`]; what runs out leaves by [`shard::expire`], which the
//! core's time index wakes; what is given up is published once more by [`shard::transfer`], as a [`shard::dead_letter`] or
//! because its [`shard::delay`] is over. Exchanges that remember do so in a queue ([`topology`]'s memory): delays,
//! [`shard::history`], and [`shard::deduplicate`], from where [`shard::pass_on`] takes a message further. A commit is
//! [`shard::transaction`], a reply straight to its requester [`shard::reply`].
//!
//! Around the messages: [`shard::connect`] and [`shard::close`] begin and end connections and channels, [`shard::obey`] has
//! qos and recover, [`shard::overdue`] the time in which deliveries are to be settled, [`shard::heartbeat`] all other time.
//! What is declared goes by [`shard::declare`] to the one core that decides ([`shard::decide`], [`shard::control`]), and from
//! there to all ([`shard::control_change`]); [`shard::permit`] asks who may, [`shard::in_force`] applies policies,
//! [`shard::import`] a file of definitions. A start is [`shard::start`] and [`shard::recover`]. What a message asks for when
//! it is published (user-id, CC, expiration) is judged by [`channel::examine`].
//!
//! A message has four forms on its way: [`RecognisedPublish`](protocol::publish::RecognisedPublish) is where its parts lie
//! in a buffer; a [`Place`](shard::mailbox::Place) in a run the same, checked, with the target named once for all; a
//! [`Content`](model::Content) its parts, borrowed from wherever they lie; and an [`Entry`](queue::Entry) what its queue
//! knows of it, 24 bytes that say where the content is kept.
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
//! | `definitions` | `model topology auth` |
//! | `storage` | `model metrics config runtime` |
//! | `shard` | all above |
//! | `perf` | `model metrics config runtime protocol net` |
//! | `simulation` | `shard` and all above it but `perf` |
//! | `cli` | all above |
//!
//! `model protocol connection channel topology routing queue auth definitions` are sans-io: input and time come in, decisions go
//! out; no `async`, no clock, no socket, no file, no randomness. `tests/layout.rs` holds the table.

pub mod auth;
pub mod channel;
pub mod cli;
pub mod config;
pub mod connection;
pub mod definitions;
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
