//! Recovery: what the logs hold becomes the topology, the queues and their messages, dealt to the cores that own them.
//!
//! ```text
//!   data directory/
//!     clean              present only after an orderly stop
//!     shard-0000/ …      one log a core; core 0's holds what is declared
//! ```
//!
//! All logs are opened at once, a thread each. Messages lie in the log of the core that owned their queue; when the
//! broker starts with fewer cores, or a queue has another owner than before, they are copied to the owner's log and
//! synced there before the old log is told that they are gone. A crash in between leaves both copies, which are one
//! message again by queue and sequence. The log of a core that this run does not have stays, with nothing live in it.

use super::admit::Wishes;
use super::control::Control;
use super::control_change::ControlChange;
use super::deduplicate::restore_values;
use super::import::Decision;
use super::queues::{QueueSlot, Queues};
use super::settings::Random;
use crate::auth::Users;
use crate::config::Config;
use crate::definitions::{Definitions, Problem};
use crate::model::{Content, QueueId, QueueSequence, ShardId};
use crate::queue::{self, Locator};
use crate::runtime::disk::{Disk, RealDisk};
use crate::storage::{
    Appended, EntryHeader, Log, LogOptions, RecoveredLog, RecoveredMessage, RecoveredQueue, SettleKind,
    StorageError, Tail, shard_directory_name,
};
use crate::topology::{Change, QueueDefinition, Topology};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use tracing::{info, warn};

/// What a core begins with.
pub struct Dealt {
    /// Its log.
    pub log: Log,
    /// Its queues.
    pub queues: Queues,
    /// What is declared.
    pub topology: Topology,
    /// Who may do what.
    pub users: Users,
    /// Control, for core 0.
    pub control: Option<Control>,
    /// Messages recovered into its queues.
    pub messages: u64,
}

/// A log that was opened, and what it holds.
pub struct OpenedLog {
    /// The log.
    pub log: Log,
    /// What it holds.
    pub found: RecoveredLog,
}

/// How logs are opened and what is made of them.
#[derive(Clone, Copy)]
pub struct RecoveryOptions {
    /// Cores of this run.
    pub shards: u16,
    /// Whether the last run stopped in order, so that the logs know of every delivery.
    pub was_clean: bool,
    /// The lowest id that a new queue may get; above all ids ever given if the clock never went back.
    pub least_queue: u64,
    /// The time, in milliseconds since 1970.
    pub unix_milliseconds: u64,
}

/// Name of the file that says that the last run stopped in order.
const CLEAN_STOP: &str = "clean";
/// Bytes that are copied to another log between two syncs, so that a long queue needs no more memory than that.
const COPIED_BYTES_A_SYNC: usize = 64 << 20;

/// Why there is nothing to begin with.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The directory or a log cannot be opened or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The definitions do not fit what the logs hold.
    #[error("definitions do not fit what is declared")]
    Definitions(Vec<Problem>),
}

/// Opens the logs of `config`'s data directory for `shards` cores and deals out what they hold, with `definitions` imported
/// over it.
///
/// # Errors
/// The directory or a log cannot be opened, or is damaged; the definitions do not fit.
pub fn recover(
    config: &Config,
    definitions: Option<&Definitions>,
    shards: u16,
    unix_milliseconds: u64,
) -> Result<Vec<Dealt>, RecoverError> {
    let directory = &config.data_dir;
    let root = RealDisk::open(directory).map_err(StorageError::from)?;
    let was_clean = take_clean_stop(&root)?;
    let options = LogOptions {
        segment_bytes: config.log.segment_bytes.get(),
        spare_segments: config.log.spare_segments.get() as usize,
        log_id: unix_milliseconds,
    };
    let logs = open_logs(directory, shards.max(existing_shards(&root)?), options)?;
    logs.iter()
        .enumerate()
        .for_each(|(shard, opened)| tell_tail(shard, &opened.found));
    let least_queue = unix_milliseconds << 12;
    let options = RecoveryOptions {
        shards,
        was_clean,
        least_queue,
        unix_milliseconds,
    };
    let dealt = deal_with(logs, definitions, options);
    if was_clean && matches!(dealt, Err(RecoverError::Definitions(_))) {
        // The broker does not run: its last run is still the one that stopped in order.
        note_clean_stop(directory)?;
    }
    dealt
}

/// Notes in the data directory that the broker stopped in order.
///
/// # Errors
/// Whatever the system says.
pub fn note_clean_stop(directory: &Path) -> Result<(), StorageError> {
    let root = RealDisk::open(directory)?;
    root.create(CLEAN_STOP, 0)?;
    root.sync_directory()?;
    Ok(())
}

fn take_clean_stop(root: &RealDisk) -> Result<bool, StorageError> {
    let was_clean = root.list()?.iter().any(|name| name == CLEAN_STOP);
    if was_clean {
        root.remove(CLEAN_STOP)?;
        root.sync_directory()?;
    }
    Ok(was_clean)
}

/// One more than the highest core that has a log.
fn existing_shards(root: &RealDisk) -> Result<u16, StorageError> {
    let names = root.list()?;
    let has_log = |shard: &u16| names.contains(&shard_directory_name(ShardId(*shard)));
    Ok((0..u16::MAX).rev().find(has_log).map_or(0, |highest| highest + 1))
}

fn open_logs(directory: &Path, count: u16, options: LogOptions) -> Result<Vec<OpenedLog>, StorageError> {
    let open = |shard: u16| {
        let disk = RealDisk::open(&directory.join(shard_directory_name(ShardId(shard))))?;
        let options = LogOptions {
            log_id: options.log_id + u64::from(shard),
            ..options
        };
        let (log, found) = Log::open(Box::new(disk), ShardId(shard), options)?;
        Ok(OpenedLog { log, found })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|shard| scope.spawn(move || open(shard))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a panic ends the process"))
            .collect()
    })
}

fn tell_tail(shard: usize, found: &RecoveredLog) {
    info!(
        shard,
        records = found.records,
        queues = found.queues.len(),
        "log read"
    );
    if let Tail::Torn { file, byte } = &found.tail {
        warn!(
            shard,
            file, byte, "the log ended in a record that was never confirmed; it was cut there"
        );
    }
}

/// Makes of opened logs what each core begins with.
///
/// # Errors
/// A log cannot be written, or the topology in it cannot be decoded.
pub fn deal(logs: Vec<OpenedLog>, options: RecoveryOptions) -> Result<Vec<Dealt>, StorageError> {
    deal_with(logs, None, options).map_err(|error| match error {
        RecoverError::Storage(error) => error,
        RecoverError::Definitions(_) => unreachable!("there are none"),
    })
}

fn deal_with(
    mut logs: Vec<OpenedLog>,
    definitions: Option<&Definitions>,
    options: RecoveryOptions,
) -> Result<Vec<Dealt>, RecoverError> {
    let (topology, users) = read_topology(&logs[0].found, options.shards)?;
    let next_queue = next_queue(&topology, &logs).max(options.least_queue);
    level_segments(&mut logs);
    move_strays(&mut logs, &topology, COPIED_BYTES_A_SYNC)?;
    let mut control = Control::new(topology, users, options.shards, next_queue);
    if let Some(definitions) = definitions {
        import(&mut control, definitions, &mut logs[0])?;
    }
    let (topology, users) = (control.decided().clone(), control.users().clone());
    let mut control = Some(control);
    let mut dealt = Vec::new();
    for (index, opened) in logs.into_iter().enumerate().take(usize::from(options.shards)) {
        let id = ShardId(index as u16);
        let OpenedLog { mut log, found } = opened;
        let (queues, messages) = restore_queues(id, &topology, found, &mut log, options);
        dealt.push(Dealt {
            log,
            queues,
            topology: topology.clone(),
            users: users.clone(),
            control: control.take(),
            messages,
        });
    }
    Ok(dealt)
}

/// Imports definitions over what the control shard's log holds; their changes are durable when this returns.
fn import(
    control: &mut Control,
    definitions: &Definitions,
    opened: &mut OpenedLog,
) -> Result<(), RecoverError> {
    let mut random = Random::seeded(crate::runtime::random_seed());
    let salts = std::iter::repeat_with(|| random.next_u64() as u32);
    let salts: Vec<u32> = salts.take(definitions.users.len()).collect();
    let is_fresh = opened.found.topology.is_empty();
    let imported = control
        .import(definitions, &salts, is_fresh)
        .map_err(RecoverError::Definitions)?;
    imported.warnings.iter().for_each(|warning| warn!("{warning}"));
    let Decision { changes, durable } = imported.decision;
    info!(changes = changes.len(), "definitions imported");
    if !durable.is_empty() {
        let durable: Vec<_> = durable.iter().map(|&at| &changes[at]).collect();
        super::decide::append(&mut opened.log, &durable);
        save(&mut opened.log)?;
    }
    Ok(())
}

/// What the control shard's log says of what is declared and who may do what.
fn read_topology(found: &RecoveredLog, shards: u16) -> Result<(Topology, Users), StorageError> {
    let (mut topology, mut users) = (Topology::new(), Users::default());
    for bytes in &found.topology {
        let change = ControlChange::decode(bytes).map_err(|error| {
            std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("declared topology: {error}"),
            )
        })?;
        match change {
            ControlChange::Topology(change) => {
                if let Change::VhostDeleted { name } = &change {
                    users.forget_vhost(name);
                }
                topology.apply(&housed(change, shards));
            }
            ControlChange::Users(change) => users.apply(&change),
        }
    }
    Ok((topology, users))
}

/// A queue of a core that this run does not have gets an owner by its vshard.
fn housed(change: Change, shards: u16) -> Change {
    match change {
        Change::QueueDeclared(queue) if queue.owner.0 >= shards => {
            let owner = ShardId(queue.vshard.0 % shards);
            Change::QueueDeclared(QueueDefinition { owner, ..queue })
        }
        change => change,
    }
}

fn next_queue(topology: &Topology, logs: &[OpenedLog]) -> u64 {
    let declared = topology.queues().map(|queue| queue.id);
    let logged = logs.iter().flat_map(|opened| opened.found.queues.keys().copied());
    declared.chain(logged).map(|id| id.0 + 1).max().unwrap_or(1)
}

/// Lets every log hold each other's records, as they may have been written with larger segments than are asked for now.
fn level_segments(logs: &mut [OpenedLog]) {
    let largest = logs.iter().map(|opened| opened.log.segment_bytes()).max();
    for opened in logs {
        opened.log.raise_segment_bytes(largest.unwrap_or(0));
    }
}

/// Copies messages to the logs of their queues' owners, where they lie in another, and syncs about every `bytes_a_sync`
/// bytes.
fn move_strays(logs: &mut [OpenedLog], topology: &Topology, bytes_a_sync: usize) -> Result<(), StorageError> {
    for from in 0..logs.len() {
        let strays: Vec<(QueueId, ShardId)> = logs[from]
            .found
            .queues
            .keys()
            .filter_map(|&id| Some((id, topology.queue_by_id(id)?.owner)))
            .filter(|(_, owner)| usize::from(owner.0) != from)
            .collect();
        for (id, owner) in strays {
            let queue = logs[from].found.queues.remove(&id).expect("just listed");
            let to = usize::from(owner.0);
            let [source, target] = logs.get_disjoint_mut([from, to]).expect("two cores' logs");
            copy_queue(&source.log, target, id, &queue, bytes_a_sync)?;
            settle_moved(&mut source.log, id, &queue)?;
        }
    }
    Ok(())
}

/// Copies what the owner's log does not have yet; all of it is durable when this returns.
fn copy_queue(
    source: &Log,
    target: &mut OpenedLog,
    id: QueueId,
    queue: &RecoveredQueue,
    bytes_a_sync: usize,
) -> Result<(), StorageError> {
    let home = target.found.queues.entry(id).or_default();
    home.vshard = queue.vshard;
    home.next_sequence = home.next_sequence.max(queue.next_sequence);
    for (&sequence, message) in &queue.live {
        if let Entry::Vacant(vacant) = home.live.entry(sequence) {
            let appended = copy_message(source, &mut target.log, id, sequence, queue, message);
            vacant.insert(RecoveredMessage {
                position: appended.position,
                length: appended.length,
                ..*message
            });
            if target.log.unwritten_bytes() >= bytes_a_sync {
                save(&mut target.log)?;
            }
        }
    }
    save(&mut target.log)
}

/// Tells the log that a queue's messages have left it.
fn settle_moved(source: &mut Log, id: QueueId, queue: &RecoveredQueue) -> Result<(), StorageError> {
    let ranges = ranges(queue.live.keys().copied());
    source.append_settle(id, queue.vshard, SettleKind::Dropped, &ranges);
    queue
        .live
        .values()
        .for_each(|message| source.release(message.position));
    save(source)
}

/// Ascending sequences as ranges, first and last included.
fn ranges(sequences: impl Iterator<Item = QueueSequence>) -> Vec<(QueueSequence, QueueSequence)> {
    let mut ranges: Vec<(QueueSequence, QueueSequence)> = Vec::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some(last) if last.1.0 + 1 == sequence.0 => last.1 = sequence,
            _ => ranges.push((sequence, sequence)),
        }
    }
    ranges
}

fn copy_message(
    source: &Log,
    target: &mut Log,
    id: QueueId,
    sequence: QueueSequence,
    queue: &RecoveredQueue,
    message: &RecoveredMessage,
) -> Appended {
    let stored = source.read(message.position);
    let body: Vec<u8> = std::iter::once(stored.content.body)
        .chain(stored.parts())
        .flatten()
        .copied()
        .collect();
    let content = Content {
        body: &body,
        ..stored.content
    };
    let entry = EntryHeader {
        delivery_count: message.delivery_count,
        redelivered: message.redelivered,
        ..EntryHeader::new(id, queue.vshard, sequence)
    };
    target.set_published_at(stored.published_at());
    target.append_message(&[entry], content, stored.expires_at())
}

fn save(log: &mut Log) -> Result<(), StorageError> {
    log.flush()?;
    log.sync_here()
}

/// The queues of core `id`, with what its log holds of them. Messages of queues that are not declared any more are let go.
fn restore_queues(
    id: ShardId,
    topology: &Topology,
    found: RecoveredLog,
    log: &mut Log,
    options: RecoveryOptions,
) -> (Queues, u64) {
    let mut queues = Queues::default();
    let mut contents: BTreeMap<QueueId, RecoveredQueue> = found.queues;
    let mut messages = 0;
    for definition in topology.queues() {
        let recovered = contents.remove(&definition.id).unwrap_or_default();
        if definition.owner == id {
            messages += recovered.live.len() as u64;
            let settings = topology.queue_settings(definition);
            let slot = QueueSlot::new(definition, settings);
            let mut slot = restored(slot, recovered, log, options.was_clean);
            slot.last_used = options.unix_milliseconds;
            queues.add(slot);
        } else {
            queues.heard_of(definition.id);
        }
    }
    for (orphan, recovered) in contents {
        recovered
            .live
            .values()
            .for_each(|message| log.release(message.position));
        log.append_queue_deleted(orphan, recovered.vshard);
    }
    (queues, messages)
}

/// A queue with its messages. After a crash nobody knows which were delivered, so all are marked.
fn restored(mut slot: QueueSlot, recovered: RecoveredQueue, log: &Log, was_clean: bool) -> QueueSlot {
    for (sequence, message) in recovered.live {
        let locator = Locator::Log {
            position: message.position,
            length: message.length,
        };
        let is_ruled = slot.has_rules || message.expires;
        let stored = is_ruled.then(|| log.read(message.position));
        let wishes = stored
            .as_ref()
            .map(|stored| Wishes::of(stored.content.properties));
        slot.queue.restore(
            sequence,
            queue::Entry {
                locator,
                body_bytes: message.body_bytes,
                delivery_count: message.delivery_count,
                priority: wishes.map_or(0, |wishes| wishes.priority.min(slot.queue.max_priority())),
                redelivered: message.redelivered || !was_clean,
            },
        );
        if let (Some(stored), Some(wishes)) = (stored, wishes) {
            slot.set_deadline(sequence, wishes, stored.published_at());
        }
    }
    slot.queue.set_next_sequence(recovered.next_sequence);
    restore_values(&mut slot, log);
    slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldTable, ShortString, VshardId};
    use crate::runtime::disk::{Faults, MemoryDisk};

    const QUEUE: QueueId = QueueId(1);
    const VSHARD: VshardId = VshardId(3);
    const ONE_CORE: RecoveryOptions = RecoveryOptions {
        shards: 1,
        was_clean: false,
        least_queue: 1,
        unix_milliseconds: 0,
    };

    fn opened(disk: &MemoryDisk, shard: u16) -> OpenedLog {
        let options = LogOptions {
            segment_bytes: 64 << 10,
            spare_segments: 0,
            log_id: 1,
        };
        let (log, found) = Log::open(disk.share(), ShardId(shard), options).expect("the log is whole");
        OpenedLog { log, found }
    }

    fn reopened(disks: &mut [MemoryDisk; 2]) -> Vec<OpenedLog> {
        *disks = [disks[0].kill(), disks[1].kill()];
        vec![opened(&disks[0], 0), opened(&disks[1], 1)]
    }

    fn declared_on_core_1() -> Vec<u8> {
        let mut bytes = Vec::new();
        Change::QueueDeclared(QueueDefinition {
            id: QUEUE,
            vhost: ShortString::from("/"),
            name: ShortString::from("q"),
            vshard: VSHARD,
            owner: ShardId(1),
            durable: true,
            exclusive: None,
            auto_delete: false,
            arguments: FieldTable::default(),
        })
        .encode(&mut bytes);
        bytes
    }

    fn content(body: &[u8]) -> Content<'_> {
        Content {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            body,
        }
    }

    /// Two cores' logs; the second has `count` messages, every other one expiring.
    fn two_logs(count: u64) -> [MemoryDisk; 2] {
        let disks = [MemoryDisk::new(), MemoryDisk::new()];
        let mut first = opened(&disks[0], 0).log;
        first.append_topology([declared_on_core_1().as_slice()]);
        first.flush().expect("written");
        let mut second = opened(&disks[1], 1).log;
        for number in 1..=count {
            let entry = EntryHeader::new(QUEUE, VSHARD, QueueSequence(number));
            second.set_published_at(1000 + number);
            let expires = (number % 2 == 0).then_some(5000 + number);
            second.append_message(&[entry], content(&[7; 1000]), expires);
        }
        second.flush().expect("written");
        disks
    }

    fn live(logs: &[OpenedLog]) -> Vec<usize> {
        let count = |opened: &OpenedLog| {
            opened
                .found
                .queues
                .get(&QUEUE)
                .map_or(0, |queue| queue.live.len())
        };
        logs.iter().map(count).collect()
    }

    #[test]
    fn a_message_that_moves_keeps_when_it_was_published_and_when_it_expires() {
        let mut disks = two_logs(4);
        let logs = reopened(&mut disks);
        assert_eq!(live(&logs), [0, 4]);
        assert_eq!(deal(logs, ONE_CORE).expect("moved")[0].messages, 4);
        let logs = reopened(&mut disks);
        assert_eq!(live(&logs), [4, 0]);
        for (sequence, message) in &logs[0].found.queues[&QUEUE].live {
            let stored = logs[0].log.read(message.position);
            assert_eq!(stored.published_at(), 1000 + sequence.0);
            let expires = sequence.0.is_multiple_of(2).then_some(5000 + sequence.0);
            assert_eq!(stored.expires_at(), expires);
        }
    }

    #[test]
    fn a_long_queue_moves_in_many_small_writes() {
        let mut disks = two_logs(100);
        let mut logs = reopened(&mut disks);
        let (topology, _) = read_topology(&logs[0].found, 1).expect("decoded");
        move_strays(&mut logs, &topology, 10_000).expect("moved");
        let metrics = logs[0].log.metrics();
        assert!(metrics.batches_written >= 9 && metrics.syncs >= 9, "{metrics:?}");
        assert_eq!(live(&reopened(&mut disks)), [100, 0]);
    }

    #[test]
    fn a_move_that_was_broken_off_is_finished_by_the_next_start() {
        for fails_in in 0..2 {
            for writes in 0..8 {
                let mut disks = two_logs(100);
                let mut logs = reopened(&mut disks);
                let (topology, _) = read_topology(&logs[0].found, 1).expect("decoded");
                disks[fails_in].set_faults(Faults {
                    writes_left: Some(writes),
                    ..Faults::default()
                });
                let moved = move_strays(&mut logs, &topology, 10_000);
                assert!(moved.is_err() || (fails_in, writes) >= (1, 1), "{writes} writes");
                let logs = reopened(&mut disks);
                assert_eq!(deal(logs, ONE_CORE).expect("moved")[0].messages, 100);
                assert_eq!(live(&reopened(&mut disks)), [100, 0]);
            }
        }
    }

    #[test]
    fn a_core_whose_log_is_missing_hides_none_behind_it() {
        let path = std::env::temp_dir().join(format!("lanemq-cores-{}", std::process::id()));
        let root = RealDisk::open(&path).expect("a directory");
        assert_eq!(existing_shards(&root).expect("listed"), 0);
        for shard in [0, 2] {
            root.create(&shard_directory_name(ShardId(shard)), 0)
                .expect("created");
        }
        assert_eq!(existing_shards(&root).expect("listed"), 3);
        std::fs::remove_dir_all(&path).expect("it was made");
    }
}
