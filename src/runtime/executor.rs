//! Executors: one pinned thread a core, and the tasks on it.

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use rustix::thread::{CpuSet, sched_getaffinity};
use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

/// Where and how a core's executor runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreOptions {
    /// The processor the thread is pinned to, as Linux numbers them.
    pub cpu: usize,
    /// Name of the thread; the executor's own number is added.
    pub name: String,
    /// Memory registered with the executor's rings, at least 64 KiB. Direct I/O draws from it, and this broker uses
    /// none, so the least is enough; it is locked three times over.
    pub io_memory_bytes: usize,
    /// Entries in each of the executor's rings.
    pub ring_depth: usize,
}

impl CoreOptions {
    /// The usual options on processor `cpu`.
    pub fn on_cpu(cpu: usize) -> Self {
        Self {
            cpu,
            name: format!("core-{cpu}"),
            io_memory_bytes: 64 * 1024,
            ring_depth: 1024,
        }
    }
}

/// A core's thread, running until its future is done.
pub struct CoreThread<T: Send + 'static> {
    handle: ExecutorJoinHandle<T>,
}

impl<T: Send + 'static> CoreThread<T> {
    /// Waits for the thread and returns what its future returned.
    ///
    /// An error says that the executor could not be made (io_uring refused, memlock too low); `self_check` tells which.
    pub fn join(self) -> io::Result<T> {
        self.handle.join().map_err(io::Error::from)
    }
}

/// Starts a pinned thread with an executor, and on it the future that `make` returns.
///
/// Returns when the thread exists; whether the executor could be made is learned from `CoreThread::join`, so a caller
/// that needs to know sends itself word from inside `make`.
pub fn run_on_core<F, Fut, T>(options: CoreOptions, make: F) -> io::Result<CoreThread<T>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    let handle = LocalExecutorBuilder::new(Placement::Fixed(options.cpu))
        .name(&options.name)
        .io_memory(options.io_memory_bytes)
        .ring_depth(options.ring_depth)
        .preempt_timer(PREEMPT_TIMER)
        .spin_before_park(SPIN_BEFORE_PARK)
        .spawn(make)
        .map_err(io::Error::from)?;
    Ok(CoreThread { handle })
}

/// Runs `future` on an unpinned executor on this thread: for tests and small programs.
///
/// # Panics
/// When the executor cannot be made, or this thread runs one already.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 * 1024)
        .ring_depth(256)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .expect("io_uring is available here")
        .run(future)
}

/// Starts a task on this core. It is never cancelled: whoever starts it gives it a signal to end by, because a
/// cancelled task of glommio 0.9.0 leaks.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) {
    drop(glommio::spawn_local(future).detach());
}

/// Lets every other runnable task of this core run once. It does not poll I/O: see `IoPoll`.
pub async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The processors this thread may run on, ascending. Ask before any thread is pinned.
pub fn available_cpus() -> io::Result<Vec<usize>> {
    let mask = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect())
}

/// Processors from a list such as `0-3,5`, ascending, each once.
///
/// The error is a sentence for the person who wrote the list.
pub fn parse_cpu_list(list: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_cpu(first, list)?, parse_cpu(last, list)?);
        if first > last {
            return Err(format!(
                "cpu list '{list}': the range '{}' runs backwards",
                part.trim()
            ));
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

fn parse_cpu(text: &str, list: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(cpu) if cpu < CpuSet::MAX_CPU => Ok(cpu),
        Ok(cpu) => Err(format!(
            "cpu list '{list}': cpu {cpu} is not below {}",
            CpuSet::MAX_CPU
        )),
        Err(_) => Err(format!(
            "cpu list '{list}': '{}' is not a cpu number (expected e.g. 0-3,5)",
            text.trim()
        )),
    }
}

/// How long a core looks for more to do before it sleeps. Going to sleep and waking cost four trips into the kernel: at
/// 10,000 messages a second this takes a quarter off the median latency, and most of the ninth decile's, for 25 µs of
/// processor time a message. An idle core wakes ten times a second, so it costs nothing to speak of there.
const SPIN_BEFORE_PARK: Duration = Duration::from_micros(30);

/// As good as never: see the folder's doc.
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{BufferPool, Listener};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn cpu_lists_name_single_cpus_and_ranges() {
        assert_eq!(parse_cpu_list("0-3,5"), Ok(vec![0, 1, 2, 3, 5]));
        assert_eq!(parse_cpu_list(" 7 , 1-2,2"), Ok(vec![1, 2, 7]));
    }

    #[test]
    fn wrong_cpu_lists_are_refused_with_a_reason() {
        for (list, part) in [
            ("", "''"),
            ("a", "'a'"),
            ("3-1", "backwards"),
            ("1,,2", "''"),
            ("1-99999", "99999"),
        ] {
            let error = parse_cpu_list(list).expect_err("the list is wrong");
            assert!(error.contains(part), "{list}: {error}");
        }
    }

    #[test]
    fn a_core_runs_pinned_and_returns_its_result() {
        let cpu = available_cpus().expect("an affinity mask")[0];
        let core = run_on_core(CoreOptions::on_cpu(cpu), || async {
            available_cpus().expect("an affinity mask")
        });
        assert_eq!(core.expect("a thread").join().expect("an executor"), vec![cpu]);
    }

    #[test]
    fn other_tasks_run_while_one_yields() {
        let order = block_on(async {
            let inbox = crate::runtime::Inbox::new();
            let (first, second) = (inbox.clone(), inbox.clone());
            spawn(async move {
                first.push(1);
                yield_now().await;
                first.push(3);
            });
            spawn(async move { second.push(2) });
            let mut order = Vec::new();
            while order.len() < 3 {
                inbox.wait().await;
                inbox.drain_into(&mut order);
            }
            order
        });
        assert_eq!(order, vec![1, 2, 3]);
    }

    /// With a preempt timer of 100 µs this program hangs on every run: see the folder's doc.
    #[test]
    fn echoes_never_stall_beside_busy_threads() {
        let (report, address) = mpsc::channel();
        let cpu = available_cpus().expect("an affinity mask")[0];
        run_on_core(CoreOptions::on_cpu(cpu), move || echo_server(report)).expect("a thread");
        let address: SocketAddr = address.recv().expect("the server listens");
        let stop = Arc::new(AtomicBool::new(false));
        let echoes = Arc::new(AtomicU64::new(0));
        for _ in 0..2 {
            let stop = stop.clone();
            thread::spawn(move || while !stop.load(Relaxed) {});
        }
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (stop, echoes) = (stop.clone(), echoes.clone());
                thread::spawn(move || echo_client(address, &stop, &echoes))
            })
            .collect();
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Relaxed);
        for client in clients {
            client.join().expect("no client waited 8 s");
        }
        assert!(echoes.load(Relaxed) > 100, "only {} echoes", echoes.load(Relaxed));
    }

    async fn echo_server(report: mpsc::Sender<SocketAddr>) {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), 64).expect("a port");
        report
            .send(listener.local_addr().expect("a bound address"))
            .expect("the test waits");
        loop {
            let socket = listener.accept().await.expect("a client");
            spawn(async move {
                let (mut read, mut write) = socket.split();
                let pool = BufferPool::new(65_536, 4);
                while let Ok(buffer) = read.read(&pool, &[]).await {
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_micros(20) {}
                    if buffer.is_empty() || write.write_all(&buffer).await.is_err() {
                        break;
                    }
                }
            });
        }
    }

    fn echo_client(address: SocketAddr, stop: &AtomicBool, echoes: &AtomicU64) {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        stream
            .set_read_timeout(Some(Duration::from_secs(8)))
            .expect("a timeout");
        let mut echo = [0; 256];
        while !stop.load(Relaxed) {
            stream.write_all(&[7; 256]).expect("the server reads");
            stream.read_exact(&mut echo).expect("an echo within 8 s");
            echoes.fetch_add(1, Relaxed);
        }
    }
}
