//! `Broker`: two cores, the lanes between them, and a disk for each that outlives them.
//!
//! ```text
//!   core 0 ══ lanes, in order ══ core 1        a crash takes cores, lanes, and what the disks had not synced;
//!     │                            │           a start opens both logs and deals out what they hold
//!   disk 0                       disk 1
//! ```

use super::bounds::Bounds;
use super::core::Core;
use super::dice::Dice;
use super::scene::{Scene, Theme};
use super::scheduler::{CoreHappening, Scheduler};
use crate::config::Durability;
use crate::connection::{ServerIdentity, Tuning};
use crate::model::ShardId;
use crate::runtime::disk::{Faults, MemoryDisk};
use crate::shard::mailbox::Batch;
use crate::shard::queues::QueueSlot;
use crate::shard::recover::{Dealt, OpenedLog, RecoveryOptions, deal};
use crate::shard::settings::Settings;
use crate::shard::{Beginning, Shard};
use crate::storage::{Log, LogOptions, StorageError};
use std::collections::VecDeque;

/// Cores of the simulated broker.
pub const CORES: usize = 2;

/// Receive buffers of a core, more than it has connections.
const BUFFERS: usize = 64;
/// Receive buffers of a core that has too few.
const FEW_BUFFERS: usize = 4;

/// How a life of the broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The power is cut: each disk keeps what was synced, and of the rest what chance decides.
    PowerLoss,
    /// The process is killed: the disks keep everything written.
    Kill,
    /// An orderly stop, every client told and every log synced.
    Stop,
}

/// The broker under test.
pub struct Broker {
    settings: Settings,
    bounds: Bounds,
    /// Receive buffers of a core.
    buffers: usize,
    log: LogOptions,
    cores: Vec<Core>,
    disks: Vec<MemoryDisk>,
    /// By sender and receiver: batches under way.
    lanes: [[VecDeque<Batch>; CORES]; CORES],
    life: u32,
    was_clean: bool,
}

impl Broker {
    /// A broker that has never run, with limits that `scheduler`'s dice choose.
    pub fn new(durability: Durability, scene: &Scene, scheduler: &mut Scheduler) -> Self {
        let settings = choose_settings(durability, scene, scheduler);
        let segment_bytes = *scheduler.dice.pick(&[64 * 1024, 128 * 1024, 256 * 1024]);
        scheduler.say(format_args!("{settings:?}, segments of {segment_bytes} bytes"));
        Self {
            bounds: Bounds::new(&settings),
            settings,
            buffers: if scene.has(Theme::FewBuffers) {
                FEW_BUFFERS
            } else {
                BUFFERS
            },
            log: LogOptions {
                segment_bytes,
                spare_segments: scheduler.dice.below(3) as usize,
                log_id: scheduler.dice.seed(),
            },
            cores: Vec::new(),
            disks: (0..CORES).map(|_| MemoryDisk::new()).collect(),
            lanes: Default::default(),
            life: 0,
            was_clean: true,
        }
    }

    /// Its current life, counted from 1; 0 before the first.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        !self.cores.is_empty()
    }

    /// The core, if the broker runs and lives this life.
    pub fn core(&mut self, life: u32, core: usize) -> Option<&mut Core> {
        (life == self.life).then(|| self.cores.get_mut(core)).flatten()
    }

    /// The cores, none when it is down.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// Whether nothing is under way in it.
    pub fn is_idle(&self) -> bool {
        self.cores.iter().all(Core::is_idle) && self.lanes.iter().flatten().all(VecDeque::is_empty)
    }

    /// Whether a sync has failed in this life: a kill may then take what was written, like a power cut.
    pub fn has_failed_sync(&self) -> bool {
        self.disks.iter().any(MemoryDisk::has_failed_sync)
    }

    /// Whether something in it will die, or is on its way where dead letters go.
    pub fn has_dying(&self) -> bool {
        let dies = |queue: &QueueSlot| queue.settings.message_ttl.is_some() && queue.queue.live().count() > 0;
        let mut cores = self.cores.iter();
        cores.any(|core| core.shard.has_transfers() || core.shard.queues().iter().any(dies))
    }

    /// Opens the logs and begins another life. Returns how many messages were recovered.
    ///
    /// # Errors
    /// A log cannot be opened: it is damaged, or the disk fails.
    pub fn start(&mut self, scheduler: &mut Scheduler) -> Result<u64, StorageError> {
        self.life += 1;
        let mut logs = Vec::new();
        for (shard, disk) in self.disks.iter().enumerate() {
            let options = LogOptions {
                log_id: self.log.log_id + shard as u64,
                ..self.log
            };
            let (log, found) = Log::open(Box::new(disk.clone()), ShardId(shard as u16), options)?;
            logs.push(OpenedLog { log, found });
        }
        let dealt = deal(
            logs,
            RecoveryOptions {
                shards: CORES as u16,
                was_clean: std::mem::take(&mut self.was_clean),
                least_queue: u64::from(self.life) << 32,
                unix_milliseconds: scheduler.now().0 / 1_000_000,
            },
        )?;
        let messages = dealt.iter().map(|dealt| dealt.messages).sum();
        for (index, dealt) in dealt.into_iter().enumerate() {
            let shard = self.make_shard(index, dealt, scheduler.dice.seed());
            let buffer_bytes = self.settings.tuning.frame_max as usize + 16 * 1024;
            self.cores
                .push(Core::new(shard, self.life, (buffer_bytes, self.buffers)));
            scheduler.arrange(self.life, index, CoreHappening::Timer);
        }
        Ok(messages)
    }

    fn make_shard(&self, index: usize, dealt: Dealt, seed: u64) -> Shard {
        let Dealt {
            log,
            queues,
            topology,
            users,
            control,
            ..
        } = dealt;
        Shard::new(Beginning {
            id: ShardId(index as u16),
            shards: CORES as u16,
            settings: self.settings.clone(),
            identity: ServerIdentity::new(
                "simulation",
                self.settings.durability.name(),
                index as u16,
                "PLAIN",
            ),
            users,
            topology,
            queues,
            log,
            control,
            seed,
            secret_key: u128::from(seed),
        })
    }

    /// A tick of a core; its batches go into the lanes.
    ///
    /// # Errors
    /// The log failed: the broker must die.
    pub fn tick(&mut self, core: usize, scheduler: &mut Scheduler) -> Result<(), StorageError> {
        for (to, batch) in self.cores[core].tick(scheduler)? {
            let to = usize::from(to.0);
            self.lanes[core][to].push_back(batch);
            scheduler.arrange(self.life, to, CoreHappening::Mail { from: core });
        }
        Ok(())
    }

    /// Looks at what a core holds.
    ///
    /// # Errors
    /// What it holds too much of.
    pub fn check_bounds(&mut self, core: usize) -> Result<(), String> {
        self.bounds.check(&mut self.cores[core])
    }

    /// The next batch of a lane arrives.
    pub fn carry_mail(&mut self, from: usize, to: usize, scheduler: &mut Scheduler) {
        if let Some(batch) = self.lanes[from][to].pop_front() {
            self.cores[to].take_mail(from, batch, scheduler);
        }
    }

    /// Every client is told that the broker stops.
    pub fn drain(&mut self, scheduler: &mut Scheduler) {
        for core in &mut self.cores {
            core.drain(scheduler);
        }
    }

    /// Whether every client has gone since `drain`, and every word between cores was heard.
    pub fn is_drained(&self) -> bool {
        self.cores.iter().all(|core| core.shard.is_drained()) && self.is_idle()
    }

    /// Makes the disk of a core fail soon.
    pub fn break_disk(&mut self, core: usize, scheduler: &mut Scheduler) {
        let left = Some(scheduler.dice.below(20));
        let faults = match scheduler.dice.below(3) {
            0 => Faults {
                writes_left: left,
                ..Faults::default()
            },
            1 => Faults {
                syncs_left: left,
                ..Faults::default()
            },
            _ => Faults {
                names_left: left.map(|left| left / 8),
                ..Faults::default()
            },
        };
        scheduler.say(format_args!("disk {core} will fail: {faults:?}"));
        self.disks[core].set_faults(faults);
    }

    /// Makes the disks whole again, if they have not failed yet.
    pub fn mend_disks(&mut self) {
        self.disks
            .iter()
            .for_each(|disk| disk.set_faults(Faults::default()));
    }

    /// Ends this life.
    ///
    /// # Errors
    /// An orderly stop could not write its log.
    pub fn die(&mut self, death: Death, scheduler: &mut Scheduler) -> Result<(), StorageError> {
        if death == Death::Stop {
            self.cores
                .iter_mut()
                .try_for_each(|core| core.shard.finish_log())?;
        }
        self.was_clean = death == Death::Stop;
        self.cores.clear();
        self.lanes = Default::default();
        for disk in &mut self.disks {
            *disk = match death {
                Death::PowerLoss => disk.crash(scheduler.dice.seed()),
                Death::Kill | Death::Stop => disk.kill(),
            };
        }
        Ok(())
    }
}

/// Small limits, so that every bound is met often.
fn choose_settings(durability: Durability, scene: &Scene, scheduler: &mut Scheduler) -> Settings {
    let dice = &mut scheduler.dice;
    let frame_max = *dice.pick(&[4096, 8192, 131_072]);
    Settings {
        tuning: Tuning {
            channel_max: 16,
            // A run is of bodies in one frame each, also of large ones.
            frame_max: if scene.has(Theme::MixedRuns) {
                131_072
            } else {
                frame_max
            },
            heartbeat_seconds: 0,
        },
        message_bytes_max: 16 << 20,
        transaction_bytes_max: 64 << 20,
        handshake_milliseconds: 10_000,
        consumer_timeout_milliseconds: 0,
        output_bytes_max: choose_output_bytes(scene, dice),
        ring_credit_bytes: match scene.has(Theme::Pouring) {
            true => *dice.pick(&[500, 8_000]),
            false => *dice.pick(&[500, 8_000, 1 << 20]),
        },
        durability,
        sync_interval_max_milliseconds: dice.between(5..=100),
        message_memory_max: match scene.has(Theme::ShortMemory) {
            true => *dice.pick(&[100_000, 400_000, 2_000_000]),
            false => 1 << 30,
        },
        disk_free_min: 0,
        deliveries_a_tick: *dice.pick(&[1, 10, 16_384]),
    }
}

/// What floods could not exceed would prove nothing; nor would pouring, if its consumers were paused at once.
fn choose_output_bytes(scene: &Scene, dice: &mut Dice) -> usize {
    if scene.has(Theme::Floods) {
        *dice.pick(&[2_000, 20_000])
    } else if scene.has(Theme::Pouring) {
        1 << 20
    } else {
        *dice.pick(&[2_000, 20_000, 1 << 20])
    }
}
