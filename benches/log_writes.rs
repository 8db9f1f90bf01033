//! The two ways to write a log: positioned writes with `fdatasync` elsewhere, as `storage` does, against stores into a
//! mapped file with `msync`. Same file, same batches, group commit with one sync under way.
//!
//! Not a benchmark of an instant but of a disk, so it prints throughput and the longest stall of the writing thread
//! itself. `LANEMQ_BENCH_DIR` names the directory (of the file system in question), `LANEMQ_BENCH_BYTES` how much is
//! written.

use memmap2::MmapMut;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const SEGMENT_BYTES: usize = 64 << 20;
const BATCH_BYTES: usize = 128 << 10;

/// What was seen of one way.
struct Seen {
    elapsed: Duration,
    stall: Duration,
    syncs: u64,
}

fn main() {
    // `cargo test --benches` only wants to see it run.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let default = if is_test { SEGMENT_BYTES } else { 1 << 30 };
    let total = std::env::var("LANEMQ_BENCH_BYTES").map_or(default, |text| {
        text.parse().expect("LANEMQ_BENCH_BYTES is a number")
    });
    let directory =
        std::env::var("LANEMQ_BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    println!(
        "{} MiB in batches of {} KiB below {directory}",
        total >> 20,
        BATCH_BYTES >> 10
    );
    for round in 1..=3 {
        for (name, run) in WAYS {
            let path = PathBuf::from(&directory).join("log_writes");
            let seen = run(&path, total);
            std::fs::remove_file(&path).expect("the file was made");
            println!(
                "round {round}  {name:<28} {:>7.0} MB/s   longest stall {:>8.3} ms   {:>5} syncs",
                total as f64 / 1e6 / seen.elapsed.as_secs_f64(),
                seen.stall.as_secs_f64() * 1e3,
                seen.syncs,
            );
        }
    }
}

type Way = fn(&Path, usize) -> Seen;
const WAYS: [(&str, Way); 2] = [
    ("positioned writes, fdatasync", positioned),
    ("mapped stores, msync", mapped),
];

/// A file of one segment, zeros written and synced, as a segment is prepared.
fn prepared(path: &Path) -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .expect("the directory takes files");
    let zeros = vec![0; 1 << 20];
    for megabyte in 0..SEGMENT_BYTES >> 20 {
        file.write_all_at(&zeros, (megabyte << 20) as u64)
            .expect("the disk has room");
    }
    file.sync_all().expect("the disk syncs");
    file
}

fn positioned(path: &Path, total: usize) -> Seen {
    let file = Arc::new(prepared(path));
    let syncing = Arc::clone(&file);
    let batch = vec![b'.'; BATCH_BYTES];
    write_all(
        total,
        move |at| file.write_all_at(&batch, at as u64).expect("the disk has room"),
        move || syncing.sync_data().expect("the disk syncs"),
    )
}

fn mapped(path: &Path, total: usize) -> Seen {
    let file = prepared(path);
    // SAFETY: the file is this program's own and keeps its size while it is mapped.
    let mut stores = unsafe { MmapMut::map_mut(&file).expect("the file can be mapped") };
    // SAFETY: as above; this map is only synced, never read or written.
    let syncing = unsafe { MmapMut::map_mut(&file).expect("the file can be mapped") };
    let batch = vec![b'.'; BATCH_BYTES];
    write_all(
        total,
        move |at| stores[at..at + BATCH_BYTES].copy_from_slice(&batch),
        move || syncing.flush().expect("the disk syncs"),
    )
}

/// Writes `total` bytes round and round the segment while a helper syncs, one sync after the other; ends with a sync.
fn write_all(total: usize, mut write: impl FnMut(usize), sync: impl Fn() + Send + 'static) -> Seen {
    let (ask, asked): (Sender<()>, Receiver<()>) = channel();
    let (done, ended) = channel();
    let helper = std::thread::spawn(move || {
        for () in asked {
            sync();
            if done.send(()).is_err() {
                return;
            }
        }
    });
    let begun = Instant::now();
    let mut seen = Seen {
        elapsed: Duration::ZERO,
        stall: Duration::ZERO,
        syncs: 0,
    };
    let mut is_syncing = false;
    for number in 0..total / BATCH_BYTES {
        let before = Instant::now();
        write(number * BATCH_BYTES % SEGMENT_BYTES);
        seen.stall = seen.stall.max(before.elapsed());
        if ended.try_recv().is_ok() {
            is_syncing = false;
        }
        if !std::mem::replace(&mut is_syncing, true) {
            ask.send(()).expect("the helper runs");
            seen.syncs += 1;
        }
    }
    if is_syncing {
        ended.recv().expect("the helper runs");
    }
    ask.send(()).expect("the helper runs");
    ended.recv().expect("the helper runs");
    seen.elapsed = begun.elapsed();
    seen.syncs += 1;
    drop(ask);
    helper.join().expect("the helper ends");
    seen
}
