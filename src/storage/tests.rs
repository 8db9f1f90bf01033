//! The log against a naive model, over random work, power cuts and damage.
//!
//! The model is the list of what was appended, each with its lsn. Whatever happens, the log that is opened again must
//! be exactly a prefix of that list, at least as long as what was promised durable.

mod world;

use super::*;
use crate::model::{QueueId, QueueSequence, ShardId, VshardId};
use crate::runtime::disk::{Disk, Faults, MemoryDisk, RealDisk};
use proptest::prelude::*;
use world::*;

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

    // A tick that wrote early goes on, and reads what it appends.
    world.publish(1, 2);
    for held in world.held.values() {
        assert_eq!(world.log.read(held.position).content.body, body_of(held.body));
    }

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
fn a_spare_that_fails_for_another_reason_than_a_full_disk_ends_the_log() {
    let failed_write = Faults {
        writes_left: Some(0),
        ..Faults::default()
    };
    // The file's own sync succeeds, that of the directory fails.
    let failed_sync = Faults {
        syncs_left: Some(1),
        ..Faults::default()
    };
    for faults in [failed_write, failed_sync] {
        let mut world = World::new();
        world.publish(1, 15);
        world.flush();
        let request = world.log.maintenance_request().unwrap();
        world.disk.set_faults(faults);
        let prepared = request.run();
        world.disk.set_faults(Faults::default());
        assert!(matches!(
            world.log.prepared(prepared),
            Err(StorageError::Io { .. })
        ));
        assert!(world.log.sync_request().is_none());
        assert!(matches!(world.log.flush(), Err(StorageError::Failed)));
    }
}

#[test]
fn what_a_failed_sync_lost_is_not_taken_for_durable_by_the_next_life() {
    let mut world = World::new();
    world.publish(1, 1);
    settle_down(&mut world);
    let durable = world.log.durable_lsn();
    world.publish(1, 2);
    world.flush();
    world.disk.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    let request = world.log.sync_request().unwrap();
    let result = request.run();
    assert!(world.log.synced(request, result).is_err());
    world.disk = world.disk.kill();
    world.reopen(durable);
    assert_eq!(world.held.len(), 1);
    world.cut_power(1);
    assert_eq!(world.held.len(), 1);
}

#[test]
fn a_sync_that_failed_is_known_to_the_next_life_though_the_process_never_heard_of_it() {
    let mut world = World::new();
    world.publish(1, 1);
    settle_down(&mut world);
    let durable = world.log.durable_lsn();
    world.publish(1, 2);
    world.flush();
    world.disk.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    assert!(world.log.sync_request().unwrap().run().is_err());
    world.disk = world.disk.kill();
    world.reopen(durable);
    assert_eq!(world.held.len(), 1);
    world.cut_power(1);
    assert_eq!(world.held.len(), 1);
}

#[test]
fn a_sync_here_covers_what_a_sync_under_way_was_to_make_durable() {
    let mut world = World::new();
    world.publish(1, 1);
    world.flush();
    world.begin_sync();
    world.log.sync_here().unwrap();
    assert_eq!(world.log.durable_lsn(), world.log.flushed_lsn());
    world.publish(1, 2);
    world.flush();
    world.log.sync_here().unwrap();
    let durable = world.log.durable_lsn();
    assert_eq!(durable, world.log.flushed_lsn());
    world.end_sync();
    assert_eq!(world.log.durable_lsn(), durable);
    world.cut_power(1);
    assert_eq!(world.held.len(), 2);
}

#[test]
fn a_sync_here_fails_when_the_sync_under_way_has_failed() {
    let mut world = World::new();
    world.publish(1, 1);
    world.flush();
    world.disk.set_faults(Faults {
        syncs_left: Some(0),
        ..Faults::default()
    });
    let request = world.log.sync_request().unwrap();
    assert!(request.run().is_err());
    world.disk.set_faults(Faults::default());
    assert!(matches!(world.log.sync_here(), Err(StorageError::Io { .. })));
    assert!(matches!(world.log.sync_here(), Err(StorageError::Failed)));
}

#[test]
fn smaller_segments_still_hold_the_records_that_are_there() {
    let options = LogOptions {
        segment_bytes: 1 << 20,
        ..OPTIONS
    };
    let disk = MemoryDisk::new();
    let content = crate::model::Content {
        properties: &[0; 100_000],
        ..content_of(b"body")
    };
    let entry = |sequence| EntryHeader::new(QueueId(1), VshardId(1), QueueSequence(sequence));
    let (mut log, _) = Log::open(disk.share(), ShardId(3), options).unwrap();
    log.append_message(&[entry(1)], content, None);
    log.flush().unwrap();
    let disk = disk.kill();
    let (mut log, _) = Log::open(disk.share(), ShardId(3), OPTIONS).unwrap();
    let moved = log.append_message(&[entry(2)], content, None);
    log.flush().unwrap();
    assert_eq!(log.read(moved.position).content, content);
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
fn a_decision_whose_last_change_is_torn_off_was_never_made() {
    let mut world = World::new();
    world.log.append_topology([b"declared".as_slice()]);
    world
        .log
        .append_topology([b"unbound", b"unbound", b"deleted".as_slice()]);
    world.log.flush().unwrap();
    let end = world.log.place.byte as usize;
    let disk = world.disk.kill();
    disk.damage("00000001.segment", end - 12, 1);
    let (mut log, recovered) = Log::open(disk.share(), ShardId(3), OPTIONS).unwrap();
    assert_eq!(recovered.topology, [b"declared"]);
    log.append_topology([b"bound".as_slice()]);
    log.flush().unwrap();
    let (_, recovered) = Log::open(disk.kill().share(), ShardId(3), OPTIONS).unwrap();
    assert_eq!(recovered.topology, [b"declared".as_slice(), b"bound"]);
}

#[test]
fn a_change_written_before_decisions_were_marked_is_a_decision_of_its_own() {
    let mut world = World::new();
    for change in [b"declared".as_slice(), b"bound"] {
        let head = super::frame::opaque_head(change);
        world
            .log
            .append_record(RecordKind::Topology, (0, 0), &head, change);
    }
    world.log.append_topology([b"deleted".as_slice()]);
    world.log.flush().unwrap();
    let (_, recovered) = Log::open(world.disk.kill().share(), ShardId(3), OPTIONS).unwrap();
    assert_eq!(recovered.topology, [b"declared".as_slice(), b"bound", b"deleted"]);
}

#[test]
fn the_log_tells_why_each_entry_left_its_queue() {
    let range = |kind, first, last| SettledRange {
        kind,
        first: QueueSequence(first),
        last: QueueSequence(last),
    };
    let settled = [
        range(SettleKind::Acknowledged, 1, 2),
        range(SettleKind::Acknowledged, 4, 4),
        range(SettleKind::Rejected, 5, 5),
        range(SettleKind::AutoAcknowledged, 6, 9),
        range(SettleKind::Acknowledged, 10, 10),
    ];
    let mut world = World::new();
    world.log.append_settles(QueueId(1), VshardId(1), &settled);
    world.log.flush().unwrap();
    let (mut found, mut records) = (Vec::new(), 0);
    scan_log(&world.disk.kill(), ShardId(3), &mut |met| {
        if let Record::Settle { kind, ranges, .. } = met.record {
            records += 1;
            found.extend(
                ranges
                    .iter()
                    .map(|(first, last)| SettledRange { kind, first, last }),
            );
        }
        true
    })
    .unwrap();
    assert_eq!(found, settled);
    assert_eq!(records, 4);
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
    assert!(segment_files(&world.disk)[0].as_str() > "00000002.segment");
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
        held.push((
            number,
            log.append_message(&[entry], content_of(&body), None).position,
        ));
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
