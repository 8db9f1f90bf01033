//! The log against a naive model, over random work, power cuts and damage.
//!
//! The model is the list of what was appended, each with its lsn. Whatever happens, the log that is opened again must
//! be exactly a prefix of that list, at least as long as what was promised durable.

use super::*;
use crate::model::{Content, Lsn, Position, QueueId, QueueSequence, ShardId, VshardId};
use crate::runtime::disk::{Disk, Faults, MemoryDisk, RealDisk};
use proptest::prelude::*;
use std::collections::BTreeMap;

const QUEUES: u64 = 4;
const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 64 * 1024,
    spare_segments: 2,
    log_id: 7,
};

/// What was appended.
#[derive(Clone, Debug)]
enum Event {
    Published {
        queue: u64,
        sequence: u64,
        body: u64,
    },
    Settled {
        queue: u64,
        first: u64,
        last: u64,
    },
    Requeued {
        queue: u64,
        sequence: u64,
        delivery_count: u16,
    },
    Purged {
        queue: u64,
        below: u64,
    },
    Deleted {
        queue: u64,
    },
    Topology(Vec<u8>),
    Snapshot(Vec<Vec<u8>>),
}

/// What the events up to some lsn amount to.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    live: BTreeMap<(u64, u64), (u64, u16)>,
    topology: Vec<Vec<u8>>,
}

impl Outcome {
    fn of(events: &[(Lsn, Event)], through: Lsn) -> Self {
        let mut outcome = Self::default();
        events
            .iter()
            .take_while(|(lsn, _)| *lsn <= through)
            .for_each(|(_, event)| outcome.apply(event));
        outcome
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Published {
                queue,
                sequence,
                body,
            } => {
                self.live.insert((*queue, *sequence), (*body, 0));
            }
            Event::Settled { queue, first, last } => {
                self.live.retain(|(q, s), _| q != queue || s < first || s > last);
            }
            Event::Requeued {
                queue,
                sequence,
                delivery_count,
            } => {
                if let Some(message) = self.live.get_mut(&(*queue, *sequence)) {
                    message.1 = *delivery_count;
                }
            }
            Event::Purged { queue, below } => self.live.retain(|(q, s), _| q != queue || s >= below),
            Event::Deleted { queue } => self.live.retain(|(q, _), _| q != queue),
            Event::Topology(change) => self.topology.push(change.clone()),
            Event::Snapshot(changes) => self.topology = changes.clone(),
        }
    }
}

/// The body that stands for a number: it begins with the number; its length and every other byte follow from it.
fn body_of(number: u64) -> Vec<u8> {
    let length = match number % 16 {
        15 => 20_000 + number as usize % 40_000,
        14 => 3000 + number as usize % 3000,
        class => class as usize * 30 + number as usize % 30,
    };
    let rest = (0..length).map(|at| (number as usize * 31 + at * 7) as u8);
    number.to_le_bytes().into_iter().chain(rest).collect()
}

fn content_of(body: &[u8]) -> Content<'_> {
    Content {
        exchange: b"amq.direct",
        routing_key: b"key",
        properties: &[0x10, 0, 2],
        body,
    }
}

#[derive(Clone, Copy)]
struct Held {
    position: Position,
    body: u64,
    delivery_count: u16,
}

/// A process that uses the log, and remembers.
struct World {
    disk: MemoryDisk,
    log: Log,
    events: Vec<(Lsn, Event)>,
    /// What the process believes to be live.
    held: BTreeMap<(u64, u64), Held>,
    next_sequence: BTreeMap<u64, u64>,
    topology: Vec<Vec<u8>>,
    /// Released, its record to be appended before the next flush.
    unsettled: Vec<(u64, u64)>,
    sync: Option<SyncRequest>,
    prepare: Option<PrepareRequest>,
    next_body: u64,
}

impl World {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let (log, recovered) = Log::open(disk.share(), ShardId(3), OPTIONS).unwrap();
        assert!(recovered.queues.is_empty() && recovered.tail == Tail::Whole);
        Self {
            disk,
            log,
            events: Vec::new(),
            held: BTreeMap::new(),
            next_sequence: BTreeMap::new(),
            topology: Vec::new(),
            unsettled: Vec::new(),
            sync: None,
            prepare: None,
            next_body: 0,
        }
    }

    fn record(&mut self, event: Event) {
        self.events.push((self.log.appended_lsn(), event));
    }

    fn publish(&mut self, queues: u64, number: u64) {
        let chosen: Vec<u64> = (0..QUEUES).filter(|queue| queues >> queue & 1 == 1).collect();
        if chosen.is_empty() {
            return;
        }
        self.next_body += 1;
        let number = self.next_body * 16 + number % 16;
        let body = body_of(number);
        let mut entries = Vec::new();
        for &queue in &chosen {
            let sequence = self.next_sequence.entry(queue).or_insert(1);
            entries.push(EntryHeader::new(
                QueueId(queue),
                VshardId(queue as u16 * 7),
                QueueSequence(*sequence),
            ));
            *sequence += 1;
        }
        let appended = self.log.append_message(&entries, content_of(&body));
        for entry in entries {
            let key = (entry.queue.0, entry.sequence.0);
            self.held.insert(
                key,
                Held {
                    position: appended.position,
                    body: number,
                    delivery_count: 0,
                },
            );
            self.record(Event::Published {
                queue: key.0,
                sequence: key.1,
                body: number,
            });
        }
    }

    fn some_held(&self, choice: u64) -> Option<(u64, u64)> {
        let index = choice.checked_rem(self.held.len() as u64)?;
        // The oldest are settled more often than the rest, as in a queue.
        let index = if choice % 3 > 0 { index / 8 } else { index };
        self.held.keys().nth(index as usize).copied()
    }

    fn settle(&mut self, choice: u64, is_now: bool) {
        let Some(key) = self.some_held(choice) else { return };
        let held = self.held.remove(&key).unwrap();
        self.log.release(held.position);
        self.unsettled.push(key);
        if is_now {
            self.append_settles();
        }
    }

    fn append_settles(&mut self) {
        for (queue, sequence) in std::mem::take(&mut self.unsettled) {
            let range = (QueueSequence(sequence), QueueSequence(sequence));
            self.log
                .append_settle(QueueId(queue), vshard(queue), SettleKind::Acknowledged, &[range]);
            self.record(Event::Settled {
                queue,
                first: sequence,
                last: sequence,
            });
        }
    }

    fn settle_front(&mut self, queue: u64, count: u64) {
        let keys: Vec<_> = self
            .held
            .range((queue, 0)..(queue + 1, 0))
            .take(count as usize)
            .map(|(key, _)| *key)
            .collect();
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return;
        };
        let range = (QueueSequence(first.1), QueueSequence(last.1));
        self.log
            .append_settle(QueueId(queue), vshard(queue), SettleKind::Rejected, &[range]);
        self.record(Event::Settled {
            queue,
            first: first.1,
            last: last.1,
        });
        self.release_all(&keys);
    }

    fn release_all(&mut self, keys: &[(u64, u64)]) {
        for key in keys {
            let held = self.held.remove(key).unwrap();
            self.log.release(held.position);
        }
    }

    fn requeue(&mut self, choice: u64) {
        let Some(key) = self.some_held(choice) else { return };
        let held = self.held.get_mut(&key).unwrap();
        held.delivery_count += 1;
        let delivery_count = held.delivery_count;
        self.log.append_requeue(
            QueueId(key.0),
            vshard(key.0),
            &[(QueueSequence(key.1), delivery_count)],
        );
        self.record(Event::Requeued {
            queue: key.0,
            sequence: key.1,
            delivery_count,
        });
    }

    fn purge(&mut self, queue: u64) {
        let below = *self.next_sequence.entry(queue).or_insert(1);
        self.log
            .append_purge(QueueId(queue), vshard(queue), QueueSequence(below));
        self.record(Event::Purged { queue, below });
        self.forget(queue);
    }

    fn delete(&mut self, queue: u64) {
        self.log.append_queue_deleted(QueueId(queue), vshard(queue));
        self.record(Event::Deleted { queue });
        self.forget(queue);
    }

    fn forget(&mut self, queue: u64) {
        let keys: Vec<_> = self
            .held
            .range((queue, 0)..(queue + 1, 0))
            .map(|(key, _)| *key)
            .collect();
        self.release_all(&keys);
    }

    fn change_topology(&mut self, number: u64) {
        let change = vec![number as u8; number as usize % 300];
        self.log.append_topology(&change);
        self.record(Event::Topology(change.clone()));
        self.topology.push(change);
    }

    fn snapshot_topology(&mut self) {
        let kept = self.topology.len().min(3);
        self.topology.drain(..self.topology.len() - kept);
        self.log
            .append_topology_snapshot(self.topology.iter().map(Vec::as_slice));
        self.record(Event::Snapshot(self.topology.clone()));
    }

    fn flush(&mut self) {
        self.append_settles();
        self.log.flush().unwrap();
    }

    fn begin_sync(&mut self) {
        if self.sync.is_none() {
            self.sync = self.log.sync_request();
        }
    }

    fn end_sync(&mut self) {
        if let Some(request) = self.sync.take() {
            let result = request.run();
            self.log.synced(request, result).unwrap();
        }
    }

    /// What a broker does in its ticks besides traffic.
    fn keep_house(&mut self, budget: u64) {
        if self.log.wants_topology_snapshot() {
            self.snapshot_topology();
        }
        self.compact(budget);
        if self.log.needs_durable_mark() {
            self.log.append_durable_mark();
        }
    }

    fn compact(&mut self, budget: u64) {
        let World { log, held, .. } = self;
        log.compaction_step(budget, &mut Queues(held)).unwrap();
    }

    fn prepare(&mut self) {
        match self.prepare.take() {
            Some(request) => self.log.prepared(request.run()).unwrap(),
            None => self.prepare = self.log.maintenance_request(),
        }
    }

    fn cut_power(&mut self, seed: u64) {
        let durable = self.log.durable_lsn();
        self.disk = self.disk.crash(seed);
        self.reopen(durable);
    }

    fn kill(&mut self) {
        let flushed = self.log.flushed_lsn();
        self.disk = self.disk.kill();
        self.reopen(flushed);
    }

    fn reopen(&mut self, promised: Lsn) {
        let appended = self.log.appended_lsn();
        let (log, recovered) = Log::open(self.disk.share(), ShardId(3), OPTIONS).unwrap();
        let kept = log.appended_lsn();
        assert!(
            promised <= kept && kept <= appended,
            "{promised} was promised, {kept} of {appended} recovered"
        );
        self.log = log;
        (self.sync, self.prepare) = (None, None);
        self.unsettled.clear();
        self.events.retain(|(lsn, _)| *lsn <= kept);
        assert_eq!(outcome_of(&recovered, &self.log), Outcome::of(&self.events, kept));
        self.adopt(recovered);
        self.check();
    }

    fn adopt(&mut self, recovered: RecoveredLog) {
        self.held.clear();
        self.next_sequence.clear();
        self.topology = recovered.topology;
        for (queue, recovered) in recovered.queues {
            self.next_sequence
                .insert(queue.0, recovered.next_sequence.0.max(1));
            for (sequence, message) in recovered.live {
                let (position, delivery_count) = (message.position, message.delivery_count);
                let body = number_of(&self.log, position);
                self.held.insert(
                    (queue.0, sequence.0),
                    Held {
                        position,
                        body,
                        delivery_count,
                    },
                );
            }
        }
    }

    fn check(&self) {
        self.log.check_invariants();
        for held in self.held.values() {
            assert_eq!(number_of(&self.log, held.position), held.body);
        }
    }
}

fn vshard(queue: u64) -> VshardId {
    VshardId(queue as u16 * 7)
}

fn whole_body(log: &Log, position: Position) -> Vec<u8> {
    let stored = log.read(position);
    let mut body = stored.content.body.to_vec();
    stored.parts().for_each(|part| body.extend_from_slice(part));
    assert_eq!(stored.body_bytes(), body.len() as u64);
    assert_eq!(
        stored.content,
        Content {
            body: stored.content.body,
            ..content_of(&[])
        }
    );
    body
}

/// The number that a stored body stands for.
fn number_of(log: &Log, position: Position) -> u64 {
    let body = whole_body(log, position);
    let number = u64::from_le_bytes(*body.first_chunk().expect("every body begins with its number"));
    assert!(body == body_of(number), "the body of {number} is whole");
    number
}

fn outcome_of(recovered: &RecoveredLog, log: &Log) -> Outcome {
    let mut outcome = Outcome {
        topology: recovered.topology.clone(),
        ..Outcome::default()
    };
    for (queue, recovered) in &recovered.queues {
        for (sequence, message) in &recovered.live {
            let number = number_of(log, message.position);
            outcome
                .live
                .insert((queue.0, sequence.0), (number, message.delivery_count));
            assert_eq!(message.body_bytes as usize, body_of(number).len());
            assert!(*sequence < recovered.next_sequence);
        }
    }
    outcome
}

struct Queues<'a>(&'a mut BTreeMap<(u64, u64), Held>);

impl Survivors for Queues<'_> {
    fn resolve(&mut self, queue: QueueId, sequence: QueueSequence, position: Position) -> Option<Survivor> {
        let held = self
            .0
            .get(&(queue.0, sequence.0))
            .filter(|held| held.position == position)?;
        Some(Survivor {
            delivery_count: held.delivery_count,
            redelivered: held.delivery_count > 0,
        })
    }

    fn moved(&mut self, queue: QueueId, sequence: QueueSequence, to: Appended) {
        self.0.get_mut(&(queue.0, sequence.0)).unwrap().position = to.position;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u64, u64),
    Settle(u64, bool),
    SettleFront(u64, u64),
    Requeue(u64),
    Purge(u64),
    Delete(u64),
    Topology(u64),
    Flush,
    BeginSync,
    EndSync,
    KeepHouse(u64),
    Prepare,
    CutPower(u64),
    Kill,
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (1..16u64, any::<u64>()).prop_map(|(queues, number)| Step::Publish(queues, number)),
        24 => (any::<u64>(), any::<bool>()).prop_map(|(choice, is_now)| Step::Settle(choice, is_now)),
        4 => (0..QUEUES, 1..40u64).prop_map(|(queue, count)| Step::SettleFront(queue, count)),
        4 => any::<u64>().prop_map(Step::Requeue),
        1 => (0..QUEUES).prop_map(Step::Purge),
        1 => (0..QUEUES).prop_map(Step::Delete),
        3 => any::<u64>().prop_map(Step::Topology),
        12 => Just(Step::Flush),
        8 => Just(Step::BeginSync),
        8 => Just(Step::EndSync),
        8 => (0..60_000u64).prop_map(Step::KeepHouse),
        8 => Just(Step::Prepare),
        1 => any::<u64>().prop_map(Step::CutPower),
        1 => Just(Step::Kill),
        1 => Just(Step::Check),
    ]
}

fn take(world: &mut World, step: &Step) {
    match *step {
        Step::Publish(queues, number) => world.publish(queues, number),
        Step::Settle(choice, is_now) => world.settle(choice, is_now),
        Step::SettleFront(queue, count) => world.settle_front(queue, count),
        Step::Requeue(choice) => world.requeue(choice),
        Step::Purge(queue) => world.purge(queue),
        Step::Delete(queue) => world.delete(queue),
        Step::Topology(number) => world.change_topology(number),
        Step::Flush => world.flush(),
        Step::BeginSync => world.begin_sync(),
        Step::EndSync => world.end_sync(),
        Step::KeepHouse(budget) => world.keep_house(budget),
        Step::Prepare => world.prepare(),
        Step::CutPower(seed) => world.cut_power(seed),
        Step::Kill => world.kill(),
        Step::Check => world.check(),
    }
}

fn segment_files(disk: &MemoryDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".segment"));
    names.sort();
    names
}

proptest! {
    // A case is a life of a thousand steps; `PROPTEST_CASES` asks for more of them.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 4))]

    #[test]
    fn whatever_happens_the_log_is_a_prefix_of_what_was_appended(steps in prop::collection::vec(step(), 1..1000)) {
        let mut world = World::new();
        for step in &steps {
            take(&mut world, step);
        }
        world.flush();
        world.check();
        world.kill();
        world.cut_power(1);
    }

    #[test]
    fn damage_is_reported_or_leaves_a_prefix(
        steps in prop::collection::vec(step(), 1..400), file: prop::sample::Index, at: prop::sample::Index,
        bit in 0..8u8, is_cut: bool,
    ) {
        let mut world = World::new();
        for step in &steps {
            take(&mut world, step);
        }
        world.flush();
        let disk = world.disk.kill();
        let names = segment_files(&disk);
        prop_assume!(!names.is_empty());
        let name = file.get(&names);
        let size = disk.open(name).unwrap().size() as usize;
        match is_cut {
            true => disk.truncate(name, at.index(size)),
            false => disk.damage(name, at.index(size), 1 << bit),
        }
        if let Ok((log, recovered)) = Log::open(disk.share(), ShardId(3), OPTIONS) {
            let kept = log.appended_lsn();
            prop_assert!(kept <= world.log.appended_lsn());
            prop_assert_eq!(outcome_of(&recovered, &log), Outcome::of(&world.events, kept));
        }
    }
}

/// Runs the broker's round until nothing changes: house, flush, sync, files.
fn settle_down(world: &mut World) {
    for _ in 0..40 {
        world.keep_house(1 << 20);
        world.flush();
        world.end_sync();
        world.begin_sync();
        world.end_sync();
        world.prepare();
        world.prepare();
    }
}

#[test]
fn a_long_life_keeps_the_log_short_and_loses_nothing() {
    let mut world = World::new();
    let mut random = 1u64;
    for round in 0..1000u64 {
        for _ in 0..8 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            world.publish(random >> 60, random >> 33);
            if world.held.len() > 40 {
                world.settle(random >> 17, true);
                world.settle(random >> 21, false);
            }
        }
        if round % 50 == 0 {
            world.change_topology(round);
        }
        world.keep_house(64 << 10);
        world.flush();
        world.end_sync();
        world.begin_sync();
        world.prepare();
        world.prepare();
        if round % 20 == 0 {
            settle_down(&mut world);
            let live = 4 * world.log.live_bytes() / u64::from(OPTIONS.segment_bytes);
            assert!(
                world.log.segment_count() as u64 <= live.max(8) + 2,
                "{} segments",
                world.log.segment_count()
            );
        }
        if round % 300 == 299 {
            world.cut_power(round);
        }
    }
    world.check();
    let metrics = *world.log.metrics();
    assert!(
        metrics.segments_recycled > 0 && metrics.segments_begun > metrics.sparse_rolls,
        "{metrics:?}"
    );
}

#[test]
fn one_forgotten_message_does_not_hold_the_log() {
    let mut world = World::new();
    world.publish(1, 15);
    world.publish(1, 5);
    for number in 0..1000 {
        world.publish(2, 14 + (number & 1));
        world.settle_front(1, 1);
        settle_one_round(&mut world);
    }
    settle_down(&mut world);
    assert!(
        world.log.segment_count() <= 9,
        "{} segments",
        world.log.segment_count()
    );
    assert_eq!(world.held.len(), 2);
    assert!(world.log.metrics().messages_moved > 0);
    world.cut_power(5);
    assert_eq!(world.held.len(), 2);
}

fn settle_one_round(world: &mut World) {
    world.keep_house(1 << 20);
    world.flush();
    world.begin_sync();
    world.end_sync();
    world.prepare();
    world.prepare();
}

#[test]
fn an_idle_log_marks_what_is_durable_once_and_then_rests() {
    let mut world = World::new();
    world.publish(1, 1);
    settle_down(&mut world);
    let appended = world.log.appended_lsn();
    settle_down(&mut world);
    assert_eq!(world.log.appended_lsn(), appended);
    assert!(!world.log.needs_durable_mark() && world.log.sync_request().is_none());
}

#[test]
fn damage_below_a_mark_is_named_with_file_byte_and_checksums() {
    let mut world = World::new();
    world.publish(1, 5);
    let position = world.held[&(0, 1)].position;
    settle_down(&mut world);
    let disk = world.disk.kill();
    disk.damage("00000001.segment", position.byte as usize + 60, 4);
    let error = Log::open(disk.share(), ShardId(3), OPTIONS).err().unwrap();
    assert!(
        matches!(&error, StorageError::Corruption { byte, .. } if *byte == position.byte),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("00000001.segment") && text.contains("found, 0x") && text.contains("Restore"),
        "{text}"
    );
}

#[test]
fn a_torn_end_is_cut_and_what_lies_behind_it_never_returns() {
    for seed in 0..200 {
        let mut world = World::new();
        world.publish(1, 1);
        world.flush();
        world.begin_sync();
        world.end_sync();
        for number in 0..12 {
            world.publish(1, number);
            world.flush();
        }
        for life in 0..4 {
            world.cut_power(seed * 4 + life);
            assert!(world.held.contains_key(&(0, 1)));
            world.publish(2, life);
            world.publish(1, 3);
            world.flush();
        }
    }
}

#[test]
fn a_missing_segment_is_an_error_where_it_was_needed() {
    let mut world = World::new();
    for _ in 0..20 {
        world.publish(1, 15);
        settle_one_round(&mut world);
    }
    let names = segment_files(&world.disk);
    assert!(names.len() >= 4, "{names:?}");
    let disk = world.disk.kill();
    for name in &names[..names.len() - 1] {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.size() as usize];
        file.read_at(0, &mut bytes).unwrap();
        disk.remove(name).unwrap();
        let error = Log::open(disk.share(), ShardId(3), OPTIONS).err().unwrap();
        let is_missing = matches!(
            error,
            StorageError::MissingSegment { .. } | StorageError::MissingBeginning { .. }
        );
        assert!(is_missing, "without {name}: {error}");
        disk.create(name, bytes.len() as u64)
            .unwrap()
            .write_at(0, &bytes)
            .unwrap();
    }
    Log::open(disk.share(), ShardId(3), OPTIONS).unwrap();
}

#[test]
fn a_copied_segment_is_an_error() {
    let mut world = World::new();
    world.publish(1, 1);
    settle_down(&mut world);
    let disk = world.disk.kill();
    let mut bytes = vec![0; OPTIONS.segment_bytes as usize];
    disk.open("00000001.segment")
        .unwrap()
        .read_at(0, &mut bytes)
        .unwrap();
    for name in ["1.segment", "00000002.segment"] {
        disk.create(name, bytes.len() as u64)
            .unwrap()
            .write_at(0, &bytes)
            .unwrap();
        let error = Log::open(disk.share(), ShardId(3), OPTIONS).err().unwrap();
        assert!(matches!(error, StorageError::DuplicateSegment { .. }), "{error}");
        disk.remove(name).unwrap();
    }
    let error = Log::open(disk.share(), ShardId(4), OPTIONS).err().unwrap();
    assert!(matches!(error, StorageError::ForeignSegment { .. }), "{error}");
}

#[test]
fn a_failed_write_or_sync_ends_the_log() {
    let mut world = World::new();
    world.publish(1, 1);
    world.disk.set_faults(Faults {
        writes_left: Some(0),
        ..Faults::default()
    });
    assert!(matches!(world.log.flush(), Err(StorageError::Io { .. })));
    world.disk.set_faults(Faults::default());
    assert!(matches!(world.log.flush(), Err(StorageError::Failed)));

    let mut world = World::new();
    world.publish(1, 1);
    world.flush();
    world.disk.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    let request = world.log.sync_request().unwrap();
    let result = request.run();
    assert!(matches!(
        world.log.synced(request, result),
        Err(StorageError::Io { .. })
    ));
    assert!(world.log.sync_request().is_none());
}

#[test]
fn a_spare_that_finds_no_room_is_no_error() {
    let mut world = World::new();
    world.disk.set_capacity(u64::from(OPTIONS.segment_bytes) * 3 / 2);
    world.publish(1, 15);
    world.flush();
    world.prepare();
    world.prepare();
    world.prepare();
    assert_eq!(
        (
            world.log.metrics().spare_failures,
            world.log.metrics().spares_prepared
        ),
        (1, 0)
    );
    world.publish(1, 1);
    world.flush();
}

#[test]
fn parts_that_no_message_names_are_dead_after_a_restart() {
    let mut world = World::new();
    let part = world.log.append_part(&[1; 10_000]);
    let abandoned = world.log.append_part(&[2; 100]);
    world.log.abandon_parts(&[abandoned]);
    world.publish(1, 3);
    world.flush();
    let held = world.log.live_bytes();
    world.kill();
    assert!(world.log.live_bytes() + u64::from(part.length) <= held);
}

#[test]
fn vshard_lsns_outlive_the_records_that_told_them() {
    let mut world = World::new();
    world.publish(0b1000, 1);
    world.settle_front(3, 1);
    for number in 0..40 {
        world.publish(1, 14 + (number & 1));
        world.settle_front(0, 1);
        settle_one_round(&mut world);
    }
    assert!(segment_files(&world.disk)[0] > "00000002.segment".to_owned());
    world.cut_power(3);
    world.publish(0b1000, 1);
    let position = world.held[&(3, world.next_sequence[&3] - 1)].position;
    let record = super::message_record::MessageRecord::decode(world.log.record_at(position)).unwrap();
    assert_eq!(record.entries().next().unwrap().vshard_lsn, 3);
}

#[test]
fn the_same_log_lives_on_a_real_disk() {
    let path = std::env::temp_dir().join(format!("lanemq-log-{}", std::process::id()));
    let open = || Log::open(Box::new(RealDisk::open(&path).unwrap()), ShardId(0), OPTIONS).unwrap();
    let (mut log, _) = open();
    let mut held = Vec::new();
    for number in 0..400 {
        let body = body_of(number);
        let entry = EntryHeader::new(QueueId(1), VshardId(1), QueueSequence(number + 1));
        held.push((number, log.append_message(&[entry], content_of(&body)).position));
        if number % 7 == 6 {
            let (settled, position) = held.remove(0);
            let sequence = QueueSequence(settled + 1);
            log.append_settle(
                QueueId(1),
                VshardId(1),
                SettleKind::Acknowledged,
                &[(sequence, sequence)],
            );
            log.release(position);
            log.flush().unwrap();
            let request = log.sync_request().unwrap();
            let result = request.run();
            log.synced(request, result).unwrap();
            if let Some(request) = log.maintenance_request() {
                log.prepared(request.run()).unwrap();
            }
        }
        held.iter()
            .rev()
            .take(5)
            .for_each(|(number, at)| assert_eq!(number_of(&log, *at), *number));
    }
    log.flush().unwrap();
    assert!(log.metrics().spares_prepared > 0 && log.segment_count() > 3);
    drop(log);
    let (log, recovered) = open();
    let live = &recovered.queues[&QueueId(1)].live;
    assert!(
        live.keys()
            .map(|sequence| sequence.0 - 1)
            .eq(held.iter().map(|(number, _)| *number))
    );
    for (message, (number, _)) in live.values().zip(&held) {
        assert_eq!(number_of(&log, message.position), *number);
    }
    drop(log);
    std::fs::remove_dir_all(&path).unwrap();
}
