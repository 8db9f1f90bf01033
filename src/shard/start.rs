//! Starting and stopping the broker: directory, logs, rings, cores.
//!
//! ```text
//!   ports free? ─▶ helper threads ─▶ a thread a log: lock, open and scan it ─▶ topology from core 0's
//!               ─▶ queues dealt to their cores ─▶ rings ─▶ every core listens
//! ```

use super::core_loop::{CoreLoop, HelperReply};
use super::definitions_file::{DefinitionsError, Importer, read_definitions};
use super::mailbox::Batch;
use super::recover::{Dealt, RecoverError, note_clean_stop, recover};
use super::{Beginning, Shard, settings::Settings};
use crate::config::Config;
use crate::connection::ServerIdentity;
use crate::definitions::Definitions;
use crate::model::ShardId;
use crate::runtime::memory::BusyCores;
use crate::runtime::{
    self, CoreOptions, CoreThread, Doorbell, HelperPool, ReplyReceiver, ReplySender, RingReceiver, RingSender,
};
use crate::storage::StorageError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Batches a ring holds.
const RING_SLOTS: usize = 256;
/// Most connections the kernel holds for one listener before they are accepted.
const BACKLOG: i32 = 4096;

/// How far the broker is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StopRequest {
    /// It runs.
    Run,
    /// Clients are told to go.
    Drain,
    /// It stops at once.
    Now,
    /// It has stopped.
    Stopped,
}

/// The stop request, as every core sees it.
#[derive(Clone, Debug)]
pub struct StopFlag(Arc<AtomicU8>);

impl StopFlag {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(StopRequest::Run as u8)))
    }

    /// What is asked.
    pub fn get(&self) -> StopRequest {
        match self.0.load(Ordering::Acquire) {
            0 => StopRequest::Run,
            1 => StopRequest::Drain,
            2 => StopRequest::Now,
            _ => StopRequest::Stopped,
        }
    }

    fn raise(&self, request: StopRequest) {
        self.0.fetch_max(request as u8, Ordering::AcqRel);
    }
}

/// What a core's loop is given besides its shard.
pub struct CoreParts {
    /// Addresses to accept on.
    pub addresses: Vec<SocketAddr>,
    /// Most connections waiting to be accepted.
    pub backlog: i32,
    /// Most connections of all cores.
    pub connections_max: usize,
    /// Connections of all cores.
    pub connections: Arc<AtomicUsize>,
    /// How many cores are busy.
    pub busy_cores: BusyCores,
    /// Most connections of this core that have not opened their vhost.
    pub unauthenticated_connections_max: usize,
    /// Size of a receive buffer.
    pub receive_buffer_bytes: usize,
    /// Most receive buffers.
    pub receive_buffers: usize,
    /// Rings to other cores; none to itself.
    pub senders: Vec<Option<RingSender<Batch>>>,
    /// Rings from other cores; none from itself.
    pub receivers: Vec<Option<RingReceiver<Batch>>>,
    /// Every core's doorbell.
    pub doorbells: Vec<Doorbell>,
    /// Helper threads.
    pub helpers: Arc<HelperPool>,
    /// Where helpers answer.
    pub reply_sender: ReplySender<HelperReply>,
    /// Where their answers are found.
    pub replies: ReplyReceiver<HelperReply>,
    /// Whether to stop.
    pub stop: StopFlag,
    /// Cores that have not seen their last client go.
    pub undrained: Arc<AtomicUsize>,
    /// Told once this core listens, and dropped then: when all are gone, no core is starting any more.
    pub started: Option<mpsc::Sender<()>>,
}

impl CoreParts {
    /// Says that the last client of this core has gone; the last core to say so lets all stop.
    pub fn tell_drained(&self) {
        if self.undrained.fetch_sub(1, Ordering::AcqRel) == 1 {
            Stopper {
                stop: self.stop.clone(),
                doorbells: self.doorbells.clone(),
            }
            .stop(StopRequest::Now);
        }
    }

    /// Says that this core listens. Nobody may be waiting any more, which is no matter.
    pub fn tell_started(&mut self) {
        if let Some(started) = self.started.take() {
            let _nobody_waits = started.send(());
        }
    }
}

/// A broker that runs.
pub struct Broker {
    cores: Vec<CoreThread<Result<(), StorageError>>>,
    stop: StopFlag,
    doorbells: Vec<Doorbell>,
    data_dir: PathBuf,
    importer: Importer,
    /// How long it took to read the logs and to listen.
    pub startup: Startup,
}

/// What starting took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Startup {
    /// From the beginning to every log read.
    pub recovery: Duration,
    /// From the beginning to every core listening.
    pub listening: Duration,
    /// Messages recovered.
    pub messages: u64,
    /// Queues recovered.
    pub queues: u64,
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process listens there.
    #[error("{address} is in use: stop the process that listens there (`ss -ltnp 'sport = :{}'` names it) or choose another address with --listen", address.port())]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The definitions cannot be imported.
    #[error(transparent)]
    Definitions(#[from] DefinitionsError),
    /// A core cannot be started.
    #[error("core {cpu} cannot be started: {error}; `lanemq check io-uring` tells what is missing")]
    Core {
        /// The processor.
        cpu: usize,
        /// Why.
        error: std::io::Error,
    },
    /// A core ended while it started.
    #[error("a core ended while starting; its message is above")]
    Ended,
}

impl Broker {
    /// Starts a broker on `cpus`, a core each, and returns when every core listens.
    ///
    /// # Errors
    /// A port in use, a directory or log that cannot be opened, a core that cannot be started.
    pub fn start(config: &Config, cpus: &[usize]) -> Result<Self, StartError> {
        let begun = Instant::now();
        let addresses: Vec<SocketAddr> = config.listen.iter().collect();
        check_ports(&addresses)?;
        let shards = cpus.len() as u16;
        let doorbells = new_doorbells(cpus)?;
        let stop = StopFlag::new();
        let helpers = Arc::new(HelperPool::start(2, "lanemq-helper", cpus).map_err(core_error(cpus[0]))?);
        let definitions = definitions_of(config)?;
        let dealt = recover(config, definitions.as_ref(), shards, runtime::unix_milliseconds());
        let dealt = dealt.map_err(|error| start_error(error, config))?;
        let recovery = begun.elapsed();
        let messages = dealt.iter().map(|dealt| dealt.messages).sum();
        let queues = dealt.iter().map(|dealt| dealt.queues.len() as u64).sum();
        let (started, starts) = mpsc::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let busy_cores = BusyCores::new(cpus.len());
        let undrained = Arc::new(AtomicUsize::new(cpus.len()));
        let mut importer = None;
        let mut cores = Vec::new();
        let mut rings = Rings::new(cpus.len());
        for ((index, &cpu), dealt) in cpus.iter().enumerate().zip(dealt) {
            let (senders, receivers) = rings.take(index);
            let (reply_sender, replies) = runtime::reply_queue(doorbells[index].clone());
            importer.get_or_insert_with(|| Importer {
                file: config.definitions.file.clone(),
                control: reply_sender.clone(),
            });
            let parts = CoreParts {
                addresses: addresses.clone(),
                backlog: BACKLOG,
                connections_max: config.limits.connections_max.get() as usize,
                connections: connections.clone(),
                busy_cores: busy_cores.clone(),
                unauthenticated_connections_max: (config.limits.unauthenticated_connections_max.get()
                    as usize)
                    .div_ceil(cpus.len()),
                receive_buffer_bytes: config.net.receive_buffer_bytes.get() as usize,
                receive_buffers: config.net.receive_buffers.get() as usize,
                senders,
                receivers,
                doorbells: doorbells.clone(),
                helpers: helpers.clone(),
                reply_sender,
                replies,
                stop: stop.clone(),
                undrained: undrained.clone(),
                started: Some(started.clone()),
            };
            let core = CoreStart {
                id: ShardId(index as u16),
                shards,
                config: config.clone(),
                dealt,
            };
            let options = CoreOptions {
                name: format!("lanemq-{index}"),
                ..CoreOptions::on_cpu(cpu)
            };
            cores.push(runtime::run_on_core(options, move || core.run(parts)).map_err(core_error(cpu))?);
        }
        drop(started);
        let mut broker = Self {
            cores,
            stop,
            doorbells,
            data_dir: config.data_dir.clone(),
            importer: importer.expect("a broker has a core"),
            startup: Startup {
                recovery,
                listening: Duration::ZERO,
                messages,
                queues,
            },
        };
        if cpus.iter().any(|_| starts.recv().is_err()) {
            return Err(broker.give_up());
        }
        broker.startup.listening = begun.elapsed();
        Ok(broker)
    }

    /// A core did not come up: the others stop too. Returns what it was.
    fn give_up(self) -> StartError {
        self.request_stop(StopRequest::Now);
        match self.join() {
            Err(error) => error,
            Ok(()) => StartError::Ended,
        }
    }

    /// Asks for a stop: first to drain, when asked again to stop at once.
    pub fn request_stop(&self, request: StopRequest) {
        self.stopper().stop(request);
    }

    /// What asks for a stop from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            stop: self.stop.clone(),
            doorbells: self.doorbells.clone(),
        }
    }

    /// What imports the file of definitions anew.
    pub fn importer(&self) -> Importer {
        self.importer.clone()
    }

    /// Waits until every core has stopped.
    ///
    /// # Errors
    /// What made a core stop by itself.
    pub fn join(self) -> Result<(), StartError> {
        let mut first = Ok(());
        for (cpu, core) in self.cores.into_iter().enumerate() {
            let ended = match core.join() {
                Ok(ended) => ended.map_err(StartError::from),
                Err(error) => Err(StartError::Core { cpu, error }),
            };
            first = first.and(ended);
        }
        if first.is_ok() {
            note_clean_stop(&self.data_dir)?;
        }
        first
    }
}

/// Asks a broker to stop; may go to another thread.
#[derive(Clone)]
pub struct Stopper {
    stop: StopFlag,
    doorbells: Vec<Doorbell>,
}

impl Stopper {
    /// Asks for a stop.
    pub fn stop(&self, request: StopRequest) {
        self.stop.raise(request);
        self.doorbells.iter().for_each(Doorbell::ring);
    }

    /// What was asked.
    pub fn requested(&self) -> StopRequest {
        self.stop.get()
    }
}

/// What a core needs to begin.
struct CoreStart {
    id: ShardId,
    shards: u16,
    config: Config,
    dealt: Dealt,
}

impl CoreStart {
    /// Makes the shard of what recovery dealt, and serves.
    async fn run(self, parts: CoreParts) -> Result<(), StorageError> {
        let Dealt {
            log,
            queues,
            topology,
            users,
            control,
            ..
        } = self.dealt;
        let identity = ServerIdentity::new(
            "lanemq",
            self.config.durability.name(),
            self.id.0,
            "PLAIN AMQPLAIN",
        );
        let shard = Shard::new(Beginning {
            id: self.id,
            shards: self.shards,
            settings: Settings::new(&self.config, self.shards),
            identity,
            users,
            control,
            topology,
            queues,
            log,
            seed: runtime::random_seed(),
            secret_key: u128::from(runtime::random_seed()) << 64 | u128::from(runtime::random_seed()),
        });
        let stopper = Stopper {
            stop: parts.stop.clone(),
            doorbells: parts.doorbells.clone(),
        };
        let ended = CoreLoop::new(shard, parts).run().await;
        if let Err(error) = &ended {
            tracing::error!(shard = %self.id, %error, "the core stops, and with it the broker");
            stopper.stop(StopRequest::Now);
        }
        ended
    }
}

/// Rings to every other core, by its number.
type Senders = Vec<Option<RingSender<Batch>>>;
/// Rings from every other core, by its number.
type Receivers = Vec<Option<RingReceiver<Batch>>>;

/// The rings between all pairs of cores.
struct Rings {
    senders: Vec<Vec<Option<RingSender<Batch>>>>,
    receivers: Vec<Vec<Option<RingReceiver<Batch>>>>,
}

impl Rings {
    fn new(count: usize) -> Self {
        let mut senders: Vec<Vec<_>> = (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
        let mut receivers: Vec<Vec<_>> = (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
        for from in 0..count {
            for to in (0..count).filter(|&to| to != from) {
                let (sender, receiver) = runtime::ring(RING_SLOTS);
                senders[from][to] = Some(sender);
                receivers[to][from] = Some(receiver);
            }
        }
        Self { senders, receivers }
    }

    fn take(&mut self, core: usize) -> (Senders, Receivers) {
        (
            std::mem::take(&mut self.senders[core]),
            std::mem::take(&mut self.receivers[core]),
        )
    }
}

/// The definitions that the settings name, with their warnings told.
fn definitions_of(config: &Config) -> Result<Option<Definitions>, DefinitionsError> {
    let file = &config.definitions.file;
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let definitions = read_definitions(file)?;
    let shown = file.display();
    definitions
        .warnings
        .iter()
        .for_each(|warning| tracing::warn!("{shown}: {warning}"));
    Ok(Some(definitions))
}

fn start_error(error: RecoverError, config: &Config) -> StartError {
    match error {
        RecoverError::Storage(error) => StartError::Storage(error),
        RecoverError::Definitions(problems) => StartError::Definitions(DefinitionsError {
            file: config.definitions.file.clone(),
            problems,
        }),
    }
}

fn check_ports(addresses: &[SocketAddr]) -> Result<(), StartError> {
    match addresses
        .iter()
        .find(|&&address| runtime::is_port_in_use(address))
    {
        Some(&address) => Err(StartError::PortInUse { address }),
        None => Ok(()),
    }
}

fn new_doorbells(cpus: &[usize]) -> Result<Vec<Doorbell>, StartError> {
    cpus.iter()
        .map(|&cpu| Doorbell::new().map_err(core_error(cpu)))
        .collect()
}

fn core_error(cpu: usize) -> impl Fn(std::io::Error) -> StartError {
    move |error| StartError::Core { cpu, error }
}
