//! Helper threads: for calls that block, such as `fdatasync` and password hashing.

use crate::runtime::Doorbell;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads that share one queue of jobs. They may run on any processor of the process, since a helper pinned
/// beside a core competes with it. Clones share the threads, which end when the last clone is gone.
///
/// Jobs start in the order they were submitted; with several threads they may end in another.
#[derive(Clone)]
pub struct HelperPool {
    jobs: Sender<Job>,
}

impl HelperPool {
    /// Starts `threads` threads named `name`, allowed on `cpus`, the processors of the process.
    ///
    /// The error is the system's when it makes no thread.
    pub fn start(threads: usize, name: &str, cpus: &[usize]) -> io::Result<Self> {
        assert!(threads > 0, "a helper pool has a thread");
        let (jobs, queue) = channel();
        // Only helpers take this lock, each while it waits for its next job; a core never does.
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..threads {
            let (queue, mask) = (queue.clone(), cpu_set(cpus));
            thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || work(&queue, &mask))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `job` on a helper; nobody waits for it.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs
            .send(Box::new(job))
            .expect("helper threads live as long as a pool");
    }

    /// Runs `job` on a helper and puts what it returns into `replies`, then rings that core's doorbell.
    ///
    /// Submitting does not block, and has no bound: the caller keeps the number of its jobs under way small.
    pub fn submit<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> R + Send + 'static,
        replies: &ReplySender<R>,
    ) {
        let replies = replies.clone();
        self.run(move || replies.send(job()));
    }
}

fn cpu_set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    set
}

fn work(queue: &Mutex<Receiver<Job>>, mask: &CpuSet) {
    // A thread inherits the mask of its maker, which may be a pinned core.
    if let Err(error) = sched_setaffinity(None, mask) {
        tracing::warn!(%error, "helper thread keeps the cpus of its maker");
    }
    loop {
        let job = queue.lock().expect("a panic ends the process").recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

/// Makes the queue in which a core finds answers; `doorbell` is that core's.
pub fn reply_queue<R: Send>(doorbell: Doorbell) -> (ReplySender<R>, ReplyReceiver<R>) {
    let (sender, receiver) = channel();
    (ReplySender { sender, doorbell }, ReplyReceiver { receiver })
}

/// The end of a reply queue that threads answer to.
pub struct ReplySender<R> {
    sender: Sender<R>,
    doorbell: Doorbell,
}

impl<R> Clone for ReplySender<R> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            doorbell: self.doorbell.clone(),
        }
    }
}

impl<R: Send> ReplySender<R> {
    /// Sends `reply` and rings. A reply to a core that has stopped is dropped.
    pub fn send(&self, reply: R) {
        if self.sender.send(reply).is_ok() {
            self.doorbell.ring();
        }
    }
}

/// The core's end of a reply queue.
pub struct ReplyReceiver<R> {
    receiver: Receiver<R>,
}

impl<R: Send> ReplyReceiver<R> {
    /// The oldest reply, if there is one. Ask after `DoorbellListener::about_to_sleep` too, as for a ring.
    pub fn receive(&self) -> Option<R> {
        self.receiver.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{CoreOptions, DoorbellListener, Inbox, available_cpus, run_on_core};

    #[test]
    fn every_answer_reaches_the_sleeping_core_that_asked() {
        let cpus = available_cpus().expect("an affinity mask");
        let all = cpus.clone();
        let core = run_on_core(CoreOptions::on_cpu(cpus[0]), move || async move {
            let pool = HelperPool::start(2, "helper", &all).expect("threads");
            let doorbell = Doorbell::new().expect("a descriptor");
            let (replies, answers) = reply_queue(doorbell.clone());
            let inbox: Inbox<()> = Inbox::new();
            let listener = DoorbellListener::new(&doorbell).expect("a descriptor");
            listener.start(inbox.clone());
            let mut sum = 0;
            for number in 0..2_000u64 {
                pool.submit(
                    move || (number, available_cpus().expect("an affinity mask").len()),
                    &replies,
                );
                loop {
                    listener.about_to_sleep();
                    if let Some((answer, cpu_count)) = answers.receive() {
                        assert_eq!((answer, cpu_count), (number, all.len()), "helpers are not pinned");
                        sum += answer;
                        break;
                    }
                    inbox.wait().await;
                    inbox.drain_into(&mut Vec::new());
                }
            }
            sum
        });
        assert_eq!(core.expect("a thread").join().expect("an executor"), 1_999_000);
    }
}
