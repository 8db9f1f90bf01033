//! A process that uses a log and remembers what it appended: the naive model.

use crate::model::{Content, Lsn, Position, QueueId, QueueSequence, ShardId, VshardId};
use crate::runtime::disk::{Disk, MemoryDisk};
use crate::storage::*;
use std::collections::BTreeMap;

pub const QUEUES: u64 = 4;
pub const OPTIONS: LogOptions = LogOptions {
    segment_bytes: 64 * 1024,
    spare_segments: 2,
    log_id: 7,
};

/// What was appended.
#[derive(Clone, Debug)]
pub enum Event {
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
pub struct Outcome {
    pub live: BTreeMap<(u64, u64), (u64, u16)>,
    pub topology: Vec<Vec<u8>>,
}

impl Outcome {
    pub fn of(events: &[(Lsn, Event)], through: Lsn) -> Self {
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
pub fn body_of(number: u64) -> Vec<u8> {
    let length = match number % 16 {
        15 => 20_000 + number as usize % 40_000,
        14 => 3000 + number as usize % 3000,
        class => class as usize * 30 + number as usize % 30,
    };
    let rest = (0..length).map(|at| (number as usize * 31 + at * 7) as u8);
    number.to_le_bytes().into_iter().chain(rest).collect()
}

pub fn content_of(body: &[u8]) -> Content<'_> {
    Content {
        exchange: b"amq.direct",
        routing_key: b"key",
        properties: &[0x10, 0, 2],
        body,
    }
}

#[derive(Clone, Copy)]
pub struct Held {
    pub position: Position,
    pub body: u64,
    pub delivery_count: u16,
}

/// A process that uses the log, and remembers.
pub struct World {
    pub disk: MemoryDisk,
    pub log: Log,
    pub events: Vec<(Lsn, Event)>,
    /// What the process believes to be live.
    pub held: BTreeMap<(u64, u64), Held>,
    pub next_sequence: BTreeMap<u64, u64>,
    pub topology: Vec<Vec<u8>>,
    /// Released, its record to be appended before the next flush.
    pub unsettled: Vec<(u64, u64)>,
    pub sync: Option<SyncRequest>,
    pub prepare: Option<PrepareRequest>,
    pub next_body: u64,
}

impl World {
    pub fn new() -> Self {
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

    pub fn record(&mut self, event: Event) {
        self.events.push((self.log.appended_lsn(), event));
    }

    pub fn publish(&mut self, queues: u64, number: u64) {
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
        let appended = self.log.append_message(&entries, content_of(&body), None);
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

    pub fn some_held(&self, choice: u64) -> Option<(u64, u64)> {
        let index = choice.checked_rem(self.held.len() as u64)?;
        // The oldest are settled more often than the rest, as in a queue.
        let index = if !choice.is_multiple_of(3) {
            index / 8
        } else {
            index
        };
        self.held.keys().nth(index as usize).copied()
    }

    pub fn settle(&mut self, choice: u64, is_now: bool) {
        let Some(key) = self.some_held(choice) else { return };
        let held = self.held.remove(&key).unwrap();
        self.log.release(held.position);
        self.unsettled.push(key);
        if is_now {
            self.append_settles();
        }
    }

    pub fn append_settles(&mut self) {
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

    pub fn settle_front(&mut self, queue: u64, count: u64) {
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

    pub fn release_all(&mut self, keys: &[(u64, u64)]) {
        for key in keys {
            let held = self.held.remove(key).unwrap();
            self.log.release(held.position);
        }
    }

    pub fn requeue(&mut self, choice: u64) {
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

    pub fn purge(&mut self, queue: u64) {
        let below = *self.next_sequence.entry(queue).or_insert(1);
        self.log
            .append_purge(QueueId(queue), vshard(queue), QueueSequence(below));
        self.record(Event::Purged { queue, below });
        self.forget(queue);
    }

    pub fn delete(&mut self, queue: u64) {
        self.log.append_queue_deleted(QueueId(queue), vshard(queue));
        self.record(Event::Deleted { queue });
        self.forget(queue);
    }

    pub fn forget(&mut self, queue: u64) {
        let keys: Vec<_> = self
            .held
            .range((queue, 0)..(queue + 1, 0))
            .map(|(key, _)| *key)
            .collect();
        self.release_all(&keys);
    }

    /// A decision of one to three changes, which are there together or not at all.
    pub fn change_topology(&mut self, number: u64) {
        let change = vec![number as u8; number as usize % 300];
        let decision = vec![change; 1 + number as usize % 3];
        self.log.append_topology(decision.iter().map(Vec::as_slice));
        for change in decision {
            self.record(Event::Topology(change.clone()));
            self.topology.push(change);
        }
    }

    pub fn snapshot_topology(&mut self) {
        let kept = self.topology.len().min(3);
        self.topology.drain(..self.topology.len() - kept);
        self.log
            .append_topology_snapshot(self.topology.iter().map(Vec::as_slice));
        self.record(Event::Snapshot(self.topology.clone()));
    }

    pub fn flush(&mut self) {
        self.append_settles();
        self.log.flush().unwrap();
    }

    pub fn begin_sync(&mut self) {
        if self.sync.is_none() {
            self.sync = self.log.sync_request();
        }
    }

    pub fn end_sync(&mut self) {
        if let Some(request) = self.sync.take() {
            let result = request.run();
            self.log.synced(request, result).unwrap();
        }
    }

    /// What a broker does in its ticks besides traffic.
    pub fn keep_house(&mut self, budget: u64) {
        if self.log.wants_topology_snapshot() {
            self.snapshot_topology();
        }
        self.compact(budget);
        if self.log.needs_durable_mark() {
            self.log.append_durable_mark();
        }
    }

    pub fn compact(&mut self, budget: u64) {
        let World { log, held, .. } = self;
        log.compaction_step(budget, &mut Queues(held)).unwrap();
    }

    pub fn prepare(&mut self) {
        match self.prepare.take() {
            Some(request) => self.log.prepared(request.run()).unwrap(),
            None => self.prepare = self.log.maintenance_request(),
        }
    }

    pub fn cut_power(&mut self, seed: u64) {
        let durable = self.log.durable_lsn();
        self.disk = self.disk.crash(seed);
        self.reopen(durable);
    }

    pub fn kill(&mut self) {
        let flushed = self.log.flushed_lsn();
        self.disk = self.disk.kill();
        self.reopen(flushed);
    }

    pub fn reopen(&mut self, promised: Lsn) {
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

    pub fn adopt(&mut self, recovered: RecoveredLog) {
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

    pub fn check(&self) {
        self.log.check_invariants();
        for held in self.held.values() {
            assert_eq!(number_of(&self.log, held.position), held.body);
        }
    }
}

pub fn vshard(queue: u64) -> VshardId {
    VshardId(queue as u16 * 7)
}

pub fn whole_body(log: &Log, position: Position) -> Vec<u8> {
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
pub fn number_of(log: &Log, position: Position) -> u64 {
    let body = whole_body(log, position);
    let number = u64::from_le_bytes(*body.first_chunk().expect("every body begins with its number"));
    assert!(body == body_of(number), "the body of {number} is whole");
    number
}

pub fn outcome_of(recovered: &RecoveredLog, log: &Log) -> Outcome {
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

pub struct Queues<'a>(&'a mut BTreeMap<(u64, u64), Held>);

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

pub fn segment_files(disk: &MemoryDisk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name.ends_with(".segment"));
    names.sort();
    names
}

/// Runs the broker's round until nothing changes: house, flush, sync, files.
pub fn settle_down(world: &mut World) {
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

pub fn settle_one_round(world: &mut World) {
    world.keep_house(1 << 20);
    world.flush();
    world.begin_sync();
    world.end_sync();
    world.prepare();
    world.prepare();
}
