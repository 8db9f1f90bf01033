//! What a queue promises, sentence by sentence, and a naive queue to compare with.

use super::*;
use crate::model::{ChannelNumber, ConnectionId, ShardId};
use proptest::prelude::*;

fn connection(slot: u32) -> ConnectionId {
    ConnectionId {
        shard: ShardId(0),
        slot,
        generation: 0,
    }
}

fn id(slot: u32, channel: u16, number: u32) -> ConsumerId {
    ConsumerId {
        connection: connection(slot),
        channel: ChannelNumber(channel),
        number,
    }
}

fn acking(number: u32, prefetch_count: u16) -> Consumer {
    Consumer {
        id: id(0, 1, number),
        no_ack: false,
        prefetch_count,
        exclusive: false,
        priority: 0,
        pauses: Pauses::default(),
        grant: u32::MAX,
    }
}

fn entry(body_bytes: u32) -> Entry {
    let locator = Locator::Shared(body_bytes);
    Entry {
        locator,
        body_bytes,
        delivery_count: 0,
        priority: 0,
        redelivered: false,
    }
}

fn queue_with(consumers: &[Consumer], messages: u32) -> Queue {
    let mut queue = Queue::new();
    for consumer in consumers {
        queue.add_consumer(*consumer).expect("nobody is exclusive");
    }
    for message in 1..=messages {
        queue.push(entry(message));
    }
    queue
}

fn deliver_all(queue: &mut Queue) -> Vec<(u64, u32)> {
    std::iter::from_fn(|| queue.next_delivery())
        .map(|delivery| (delivery.sequence.0, delivery.consumer.number))
        .collect()
}

#[test]
fn messages_go_round_robin_to_consumers_below_their_prefetch() {
    let mut queue = queue_with(&[acking(1, 2), acking(2, 0)], 6);
    assert_eq!(
        deliver_all(&mut queue),
        [(1, 1), (2, 2), (3, 1), (4, 2), (5, 2), (6, 2)]
    );
    queue.acknowledge(QueueSequence(1));
    assert!(!queue.can_deliver());
    queue.push(entry(7));
    queue.push(entry(8));
    assert_eq!(deliver_all(&mut queue), [(7, 2), (8, 1)]);
    queue.check_invariants();
}

#[test]
fn requeued_messages_return_in_order_before_newer_ones() {
    let mut queue = queue_with(&[acking(1, 4)], 6);
    assert_eq!(deliver_all(&mut queue).len(), 4);
    for sequence in [3, 1, 2] {
        assert!(
            queue
                .requeue(QueueSequence(sequence))
                .expect("it is unacked")
                .redelivered
        );
    }
    queue.acknowledge(QueueSequence(4));
    let redelivered = |delivery: Delivery| {
        (
            delivery.sequence.0,
            delivery.entry.redelivered,
            delivery.entry.delivery_count,
        )
    };
    let delivered: Vec<_> = std::iter::from_fn(|| queue.next_delivery())
        .map(redelivered)
        .collect();
    assert_eq!(
        delivered,
        [(1, true, 1), (2, true, 1), (3, true, 1), (5, false, 0)]
    );
}

#[test]
fn cancel_leaves_messages_unacked() {
    let mut queue = queue_with(&[acking(1, 0)], 2);
    deliver_all(&mut queue);
    assert_eq!(
        queue.remove_consumer(id(0, 1, 1)),
        Some(Removed { was_last: true })
    );
    assert_eq!(queue.remove_consumer(id(0, 1, 1)), None);
    assert_eq!(
        (queue.ready_count(), queue.unacked_count(), queue.consumer_count()),
        (0, 2, 0)
    );
    assert!(queue.acknowledge(QueueSequence(1)).is_some());
    queue.check_invariants();
}

#[test]
fn exclusive_use_is_refused_both_ways_and_ends_with_its_consumer() {
    let exclusive = Consumer {
        exclusive: true,
        ..acking(1, 0)
    };
    let mut queue = queue_with(&[acking(2, 0)], 0);
    assert_eq!(queue.add_consumer(exclusive), Err(ConsumeRefused::InExclusiveUse));
    queue.remove_consumer(id(0, 1, 2));
    assert_eq!(queue.add_consumer(exclusive), Ok(()));
    assert_eq!(
        queue.add_consumer(acking(3, 0)),
        Err(ConsumeRefused::InExclusiveUse)
    );
    queue.remove_consumer(id(0, 1, 1));
    assert_eq!(queue.add_consumer(acking(3, 0)), Ok(()));
    assert!(queue.has_had_consumer());
}

#[test]
fn the_next_consumer_of_one_at_a_time_goes_on_though_the_last_one_holds_messages() {
    let mut queue = Queue::new();
    queue.serve_one_consumer(Succession::ByPriority);
    for consumer in [acking(1, 2), acking(2, 0), acking(3, 0)] {
        queue.add_consumer(consumer).expect("nobody is exclusive");
    }
    for message in 1..=3 {
        queue.push(entry(message));
    }
    assert_eq!(deliver_all(&mut queue), [(1, 1), (2, 1)]);
    queue.remove_consumer(id(0, 1, 1));
    assert_eq!(deliver_all(&mut queue), [(3, 2)]);
    queue.requeue(QueueSequence(1));
    assert_eq!(deliver_all(&mut queue), [(1, 2)]);
    queue.check_invariants();
}

#[test]
fn who_becomes_active_is_served_only_if_nothing_else_holds_it_back() {
    let mut queue = Queue::new();
    queue.serve_one_consumer(Succession::ByPriority);
    for consumer in [acking(1, 0), acking(2, 0), acking(3, 0)] {
        queue.add_consumer(consumer).expect("nobody is exclusive");
    }
    queue.pause(id(0, 1, 2), Pause::Output);
    queue.push(entry(1));
    queue.remove_consumer(id(0, 1, 1));
    assert_eq!(deliver_all(&mut queue), [], "the third does not step in");
    queue.resume(id(0, 1, 2), Pause::Output);
    assert_eq!(deliver_all(&mut queue), [(1, 2)]);
}

#[test]
fn a_queue_that_serves_one_at_a_time_has_no_exclusive_consumer() {
    let mut queue = Queue::new();
    queue.serve_one_consumer(Succession::ByPriority);
    let exclusive = Consumer {
        exclusive: true,
        ..acking(1, 0)
    };
    assert_eq!(queue.add_consumer(exclusive), Err(ConsumeRefused::InExclusiveUse));
}

#[test]
fn what_did_not_arrive_comes_again_as_if_new_unless_others_got_later_ones() {
    let mut queue = queue_with(&[acking(1, 0)], 3);
    assert_eq!(deliver_all(&mut queue).len(), 3);
    for sequence in [2, 3] {
        queue.take_back(QueueSequence(sequence));
    }
    let again = queue.next_delivery().expect("the second is back");
    assert_eq!((again.sequence.0, again.entry.redelivered), (2, false));
    queue.add_consumer(acking(2, 0)).expect("nobody is exclusive");
    queue.pause(id(0, 1, 1), Pause::Output);
    assert_eq!(deliver_all(&mut queue), [(3, 2)]);
    queue.take_back(QueueSequence(2));
    let late = queue.next_delivery().expect("it is back once more");
    assert!(
        late.entry.redelivered,
        "the third went to another consumer before"
    );
    queue.check_invariants();
}

#[test]
fn hand_off_passes_a_batch_only_to_a_lone_consumer_without_ack_of_an_empty_queue() {
    let no_ack = |number| Consumer {
        no_ack: true,
        ..acking(number, 1)
    };
    let mut queue = queue_with(&[no_ack(1)], 1);
    assert_eq!(queue.hand_off(10), None, "the ready message goes first");
    assert_eq!(deliver_all(&mut queue), [(1, 1)]);
    let batch = HandOff {
        consumer: id(0, 1, 1),
        count: 10,
        first_sequence: QueueSequence(2),
    };
    assert_eq!(queue.hand_off(10), Some(batch));
    queue.add_consumer(no_ack(2)).expect("nobody is exclusive");
    let numbers = [0; 3].map(|_| {
        queue
            .hand_off(10)
            .map(|batch| (batch.consumer.number, batch.count))
    });
    assert_eq!(numbers, [Some((1, 1)), Some((2, 1)), Some((1, 1))]);
    assert_eq!(queue.next_sequence(), QueueSequence(15));
    queue
        .add_consumer(Consumer {
            priority: 1,
            ..acking(3, 1)
        })
        .expect("nobody is exclusive");
    assert_eq!(queue.hand_off(10), None, "whose turn it is acks");
}

#[test]
fn a_consumer_paused_for_two_reasons_needs_both_taken_back() {
    let mut queue = queue_with(&[acking(1, 0)], 1);
    queue.pause(id(0, 1, 1), Pause::Output);
    queue.pause(id(0, 1, 1), Pause::ChannelPrefetch);
    queue.resume(id(0, 1, 1), Pause::Output);
    assert_eq!(queue.next_delivery(), None);
    queue.resume(id(0, 1, 1), Pause::ChannelPrefetch);
    assert!(queue.next_delivery().is_some());
}

#[test]
fn restored_messages_keep_their_places_and_new_ones_follow() {
    let mut queue = Queue::new();
    for sequence in [5, 6, 900, 70_000] {
        queue.restore(QueueSequence(sequence), entry(1));
    }
    queue.set_next_sequence(QueueSequence(80_000));
    queue.set_next_sequence(QueueSequence(3));
    assert_eq!(queue.push(entry(1)), QueueSequence(80_000));
    let mut live: Vec<u64> = queue.live().map(|(sequence, _)| sequence.0).collect();
    live.sort_unstable();
    assert_eq!(live, [5, 6, 900, 70_000, 80_000]);
    queue.check_invariants();
}

#[derive(Clone, Debug)]
enum Step {
    Push { count: u32 },
    HandOff { count: u32 },
    Restore { gap: u64 },
    AddConsumer { consumer: Consumer },
    RemoveConsumer { id: ConsumerId },
    Pause { id: ConsumerId, reason: Pause },
    Resume { id: ConsumerId, reason: Pause },
    Grant { id: ConsumerId, most: u32 },
    Deliver { most: usize },
    Get { getter: ConsumerId, no_ack: bool },
    Acknowledge { nth: usize },
    AcknowledgeStale { sequence: u64 },
    Requeue { nth: usize },
    Purge,
    Drain,
    Shrink,
}

fn ids() -> impl Strategy<Value = ConsumerId> {
    (0..3u32, 1..3u16, 1..4u32).prop_map(|(slot, channel, number)| id(slot, channel, number))
}

fn consumers() -> impl Strategy<Value = Consumer> {
    let priority = prop_oneof![4 => Just(0), 1 => -1..3i64];
    (
        ids(),
        any::<bool>(),
        0..5u16,
        proptest::bool::weighted(0.05),
        priority,
        proptest::option::weighted(0.2, pauses()),
        proptest::option::weighted(0.2, 1..4u32),
    )
        .prop_map(
            |(id, no_ack, prefetch_count, exclusive, priority, pause, grant)| Consumer {
                id,
                no_ack,
                prefetch_count,
                exclusive,
                priority,
                pauses: pause.map_or(Pauses::default(), |reason| Pauses::default().and(reason, true)),
                grant: grant.unwrap_or(u32::MAX),
            },
        )
}

fn pauses() -> impl Strategy<Value = Pause> {
    prop_oneof![Just(Pause::Output), Just(Pause::ChannelPrefetch)]
}

fn successions() -> impl Strategy<Value = Option<Succession>> {
    let either = prop_oneof![Just(Succession::ByPriority), Just(Succession::BySubscription)];
    proptest::option::weighted(0.4, either)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (1..10u32).prop_map(|count| Step::Push { count }),
        4 => (0..5u32).prop_map(|count| Step::HandOff { count }),
        1 => (0..300u64).prop_map(|gap| Step::Restore { gap }),
        8 => consumers().prop_map(|consumer| Step::AddConsumer { consumer }),
        2 => ids().prop_map(|id| Step::RemoveConsumer { id }),
        2 => (ids(), pauses()).prop_map(|(id, reason)| Step::Pause { id, reason }),
        3 => (ids(), pauses()).prop_map(|(id, reason)| Step::Resume { id, reason }),
        3 => (ids(), 1..4u32).prop_map(|(id, most)| Step::Grant { id, most }),
        12 => (1..20usize).prop_map(|most| Step::Deliver { most }),
        3 => (ids(), any::<bool>()).prop_map(|(id, no_ack)| Step::Get { getter: ConsumerId { number: 0, ..id }, no_ack }),
        12 => any::<usize>().prop_map(|nth| Step::Acknowledge { nth }),
        1 => (0..400u64).prop_map(|sequence| Step::AcknowledgeStale { sequence }),
        5 => any::<usize>().prop_map(|nth| Step::Requeue { nth }),
        1 => Just(Step::Purge),
        1 => Just(Step::Drain),
        1 => Just(Step::Shrink),
    ];
    proptest::collection::vec(step, 1..250)
}

/// The same queue, by looking at everything every time.
#[derive(Debug, Default)]
struct Naive {
    ready: Vec<(u64, Entry)>,
    unacked: Vec<(u64, Entry, ConsumerId)>,
    consumers: Vec<(Consumer, Vec<Pause>)>,
    /// Those that can be served, in the order in which they could, or were served last.
    waiting: Vec<ConsumerId>,
    next_sequence: u64,
    succession: Option<Succession>,
    active: Option<ConsumerId>,
}

impl Naive {
    fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        self.consumers
            .iter()
            .map(|(consumer, _)| consumer)
            .find(|consumer| consumer.id == id)
    }

    fn can_be_served(&self, id: ConsumerId) -> bool {
        let held = self.unacked.iter().filter(|unacked| unacked.2 == id).count();
        let has_room =
            |it: &Consumer| it.no_ack || it.prefetch_count == 0 || held < it.prefetch_count as usize;
        self.consumers
            .iter()
            .any(|(it, pauses)| it.id == id && pauses.is_empty() && has_room(it))
            && (self.succession.is_none() || self.active == Some(id))
    }

    fn sort_waiting(&mut self) {
        let kept: Vec<_> = self
            .waiting
            .iter()
            .copied()
            .filter(|&id| self.can_be_served(id))
            .collect();
        let ids = self.consumers.iter().map(|(consumer, _)| consumer.id);
        let joining: Vec<_> = ids
            .filter(|&id| !kept.contains(&id) && self.can_be_served(id))
            .collect();
        self.waiting = [kept, joining].concat();
    }

    fn next(&self) -> Option<&Consumer> {
        let priority = |id: ConsumerId| self.consumer(id).expect("who waits is a consumer").priority;
        let highest = self.waiting.iter().map(|&id| priority(id)).max()?;
        self.waiting
            .iter()
            .find(|&&id| priority(id) == highest)
            .and_then(|&id| self.consumer(id))
    }

    fn serve(&mut self, id: ConsumerId) {
        self.waiting.retain(|&waiting| waiting != id);
        if self.can_be_served(id) {
            self.waiting.push(id);
        }
    }

    fn add_consumer(&mut self, consumer: Consumer) -> Result<(), ConsumeRefused> {
        let is_exclusive = self.consumers.iter().any(|(other, _)| other.exclusive);
        let is_shared = !self.consumers.is_empty() || self.succession.is_some();
        if is_exclusive || consumer.exclusive && is_shared {
            return Err(ConsumeRefused::InExclusiveUse);
        }
        self.active = self.active.or(Some(consumer.id));
        let pauses = [Pause::Output, Pause::ChannelPrefetch];
        let pauses = pauses.into_iter().filter(|&reason| consumer.pauses.has(reason));
        self.consumers.push((consumer, pauses.collect()));
        self.sort_waiting();
        Ok(())
    }

    fn remove_consumer(&mut self, id: ConsumerId) -> Option<Removed> {
        let place = self.consumers.iter().position(|(it, _)| it.id == id)?;
        self.consumers.remove(place);
        if self.active == Some(id) {
            self.active = self.heir();
        }
        self.sort_waiting();
        Some(Removed {
            was_last: self.consumers.is_empty(),
        })
    }

    /// Who comes after the active consumer: all that are left, in the order of their subscription, are asked.
    fn heir(&self) -> Option<ConsumerId> {
        let priorities = self.consumers.iter().map(|(it, _)| it.priority);
        let highest = priorities.max()?;
        let is_heir = |it: &Consumer| match self.succession {
            Some(Succession::ByPriority) => it.priority == highest,
            _ => true,
        };
        let heir = self.consumers.iter().find(|(it, _)| is_heir(it));
        heir.map(|(it, _)| it.id)
    }

    fn deliver(&mut self) -> Option<Delivery> {
        let &(sequence, entry) = self.ready.first()?;
        let &Consumer { id, no_ack, .. } = self.next()?;
        self.ready.remove(0);
        if !no_ack {
            self.unacked.push((sequence, entry, id));
        }
        let spends_grant = !no_ack && self.spend_grant(id);
        self.serve(id);
        Some(Delivery {
            consumer: id,
            sequence: QueueSequence(sequence),
            entry,
            needs_ack: !no_ack,
            spends_grant,
        })
    }

    fn spend_grant(&mut self, id: ConsumerId) -> bool {
        let (consumer, pauses) = self
            .consumers
            .iter_mut()
            .find(|(consumer, _)| consumer.id == id)
            .expect("who is served is a consumer");
        if consumer.grant == u32::MAX {
            return false;
        }
        consumer.grant -= 1;
        if consumer.grant == 0 {
            pauses.push(Pause::ChannelPrefetch);
        }
        consumer.grant == 0
    }

    fn hand_off(&mut self, count: u32) -> Option<HandOff> {
        let &Consumer {
            id, no_ack, priority, ..
        } = self.next()?;
        if !no_ack || count == 0 || !self.ready.is_empty() {
            return None;
        }
        let equals = self
            .waiting
            .iter()
            .filter(|&&id| self.consumer(id).is_some_and(|it| it.priority == priority));
        let count = if equals.count() == 1 { count } else { 1 };
        self.serve(id);
        let first_sequence = QueueSequence(self.next_sequence);
        self.next_sequence += u64::from(count);
        Some(HandOff {
            consumer: id,
            count,
            first_sequence,
        })
    }

    fn acknowledge(&mut self, sequence: u64) -> Option<Entry> {
        let place = self.unacked.iter().position(|unacked| unacked.0 == sequence)?;
        let (_, entry, _) = self.unacked.remove(place);
        self.sort_waiting();
        Some(entry)
    }

    fn requeue(&mut self, sequence: u64) -> Option<Entry> {
        let mut entry = self.acknowledge(sequence)?;
        entry.redelivered = true;
        entry.delivery_count += 1;
        self.ready.push((sequence, entry));
        self.ready.sort_by_key(|ready| ready.0);
        Some(entry)
    }

    fn nth_unacked(&self, nth: usize) -> u64 {
        self.unacked
            .get(nth % self.unacked.len().max(1))
            .map_or(7, |unacked| unacked.0)
    }
}

fn push(queue: &mut Queue, naive: &mut Naive, message: Entry) {
    assert_eq!(queue.push(message).0, naive.next_sequence);
    naive.ready.push((naive.next_sequence, message));
    naive.next_sequence += 1;
}

fn restore(queue: &mut Queue, naive: &mut Naive, gap: u64) {
    let sequence = naive.next_sequence + gap;
    let message = Entry {
        redelivered: true,
        ..entry(gap as u32)
    };
    queue.restore(QueueSequence(sequence), message);
    naive.ready.push((sequence, message));
    naive.next_sequence = sequence + 1;
}

fn add(queue: &mut Queue, naive: &mut Naive, consumer: Consumer) {
    let is_used =
        naive.consumer(consumer.id).is_some() || naive.unacked.iter().any(|unacked| unacked.2 == consumer.id);
    if !is_used {
        assert_eq!(queue.add_consumer(consumer), naive.add_consumer(consumer));
    }
}

fn pause(queue: &mut Queue, naive: &mut Naive, id: ConsumerId, reason: Pause) {
    queue.pause(id, reason);
    if let Some((_, pauses)) = naive.consumers.iter_mut().find(|(consumer, _)| consumer.id == id) {
        pauses.push(reason);
    }
    naive.sort_waiting();
}

fn resume(queue: &mut Queue, naive: &mut Naive, id: ConsumerId, reason: Pause) {
    queue.resume(id, reason);
    if let Some((consumer, pauses)) = naive.consumers.iter_mut().find(|(it, _)| it.id == id) {
        pauses.retain(|&pause| pause != reason);
        if reason == Pause::ChannelPrefetch {
            consumer.grant = u32::MAX;
        }
    }
    naive.sort_waiting();
}

fn grant(queue: &mut Queue, naive: &mut Naive, id: ConsumerId, most: u32) {
    queue.grant(id, most);
    if let Some((consumer, pauses)) = naive.consumers.iter_mut().find(|(it, _)| it.id == id) {
        pauses.retain(|&pause| pause != Pause::ChannelPrefetch);
        consumer.grant = most;
    }
    naive.sort_waiting();
}

fn get(queue: &mut Queue, naive: &mut Naive, getter: ConsumerId, no_ack: bool) {
    let got = queue.get(getter, no_ack);
    assert_eq!(
        got.map(|got| (got.sequence.0, got.entry)),
        naive.ready.first().copied()
    );
    if let Some(Got {
        sequence,
        entry,
        remaining,
    }) = got
    {
        naive.ready.remove(0);
        assert_eq!(remaining as usize, naive.ready.len());
        if !no_ack {
            naive.unacked.push((sequence.0, entry, getter));
        }
    }
}

fn purge(queue: &mut Queue, naive: &mut Naive) {
    let mut taken = Vec::new();
    let count = queue.purge(|sequence, entry| taken.push((sequence.0, entry)));
    assert_eq!((taken.len(), &taken), (count as usize, &naive.ready));
    naive.ready.clear();
}

fn drain(queue: &mut Queue, naive: &mut Naive) {
    let mut taken = Vec::new();
    let count = queue.drain(|sequence, entry| taken.push((sequence.0, entry)));
    assert_eq!(count as usize, naive.ready.len());
    while let Some(first) = naive.unacked.iter().map(|unacked| unacked.0).min() {
        let entry = naive.acknowledge(first).expect("it is unacked");
        naive.ready.push((first, entry));
    }
    assert_eq!(taken, std::mem::take(&mut naive.ready));
}

fn apply(step: &Step, queue: &mut Queue, naive: &mut Naive) {
    match *step {
        Step::Push { count } => (0..count).for_each(|nth| push(queue, naive, entry(nth * 100))),
        Step::HandOff { count } => assert_eq!(queue.hand_off(count), naive.hand_off(count)),
        Step::Restore { gap } => restore(queue, naive, gap),
        Step::AddConsumer { consumer } => add(queue, naive, consumer),
        Step::RemoveConsumer { id } => assert_eq!(queue.remove_consumer(id), naive.remove_consumer(id)),
        Step::Pause { id, reason } => pause(queue, naive, id, reason),
        Step::Resume { id, reason } => resume(queue, naive, id, reason),
        Step::Grant { id, most } => grant(queue, naive, id, most),
        Step::Deliver { most } => (0..most).for_each(|_| assert_eq!(queue.next_delivery(), naive.deliver())),
        Step::Get { getter, no_ack } => get(queue, naive, getter, no_ack),
        Step::Acknowledge { nth } => {
            let sequence = naive.nth_unacked(nth);
            assert_eq!(
                queue.acknowledge(QueueSequence(sequence)),
                naive.acknowledge(sequence)
            );
        }
        Step::AcknowledgeStale { sequence } => {
            assert_eq!(queue.reject(QueueSequence(sequence)), naive.acknowledge(sequence));
        }
        Step::Requeue { nth } => {
            let sequence = naive.nth_unacked(nth);
            assert_eq!(queue.requeue(QueueSequence(sequence)), naive.requeue(sequence));
        }
        Step::Purge => purge(queue, naive),
        Step::Drain => drain(queue, naive),
        Step::Shrink => queue.shrink(),
    }
}

fn compare(queue: &Queue, naive: &Naive) {
    queue.check_invariants();
    assert_eq!(queue.ready_count() as usize, naive.ready.len());
    assert_eq!(queue.unacked_count() as usize, naive.unacked.len());
    assert_eq!(
        queue.ready_bytes(),
        naive
            .ready
            .iter()
            .map(|ready| u64::from(ready.1.body_bytes))
            .sum::<u64>()
    );
    assert_eq!(queue.consumer_count() as usize, naive.consumers.len());
    assert_eq!(queue.next_sequence().0, naive.next_sequence);
    assert_eq!(
        queue.front().map(|(sequence, entry)| (sequence.0, *entry)),
        naive.ready.first().copied()
    );
    assert_eq!(
        queue.can_deliver(),
        !naive.ready.is_empty() && !naive.waiting.is_empty()
    );
    let unacked = naive
        .unacked
        .iter()
        .map(|&(sequence, entry, _)| (sequence, entry));
    let mut live: Vec<_> = naive.ready.iter().copied().chain(unacked).collect();
    live.sort_by_key(|live| live.0);
    let mut found: Vec<_> = queue
        .live()
        .map(|(sequence, entry)| (sequence.0, *entry))
        .collect();
    found.sort_by_key(|live| live.0);
    assert_eq!(found, live);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_queue_behaves_like_the_naive_one(succession in successions(), steps in steps()) {
        let mut queue = Queue::new();
        succession.into_iter().for_each(|succession| queue.serve_one_consumer(succession));
        let mut naive = Naive { next_sequence: 1, succession, ..Naive::default() };
        for step in &steps {
            apply(step, &mut queue, &mut naive);
            compare(&queue, &naive);
        }
    }
}
