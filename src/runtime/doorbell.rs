//! Waking a core from another thread, at the cost of one load while it is awake.

use crate::runtime::Inbox;
use glommio::io::BufferedFile;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Wakes one core. Made before the cores start; clones go to every thread that sends to it.
#[derive(Clone)]
pub struct Doorbell {
    shared: Arc<Shared>,
}

struct Shared {
    descriptor: OwnedFd,
    is_asleep: AtomicBool,
    is_closed: AtomicBool,
}

impl Doorbell {
    /// A doorbell nobody listens to yet.
    ///
    /// The error is the system's when it has no descriptor to spare.
    pub fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC)?;
        let shared = Shared {
            descriptor,
            is_asleep: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Says that something was sent: call it after the item is in its ring.
    ///
    /// Sender and core each write, then read what the other wrote: the sender the ring then `is_asleep`, the core
    /// `is_asleep` then the rings. The two fences order each write before the read that follows, so at least one of
    /// them sees the other: either the core finds the item and stays awake, or the sender finds the core asleep and
    /// writes the eventfd. The exchange lets one of several senders pay for the system call.
    #[inline]
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.shared.is_asleep.load(Ordering::Relaxed)
            && self.shared.is_asleep.swap(false, Ordering::AcqRel)
        {
            self.shared.write();
        }
    }
}

impl Shared {
    /// Cannot block: the counter would have to pass 2^64 between two reads.
    fn write(&self) {
        rustix::io::write(&self.descriptor, &1u64.to_ne_bytes()).expect("an eventfd takes one more");
    }
}

/// The core's side of its doorbell. Dropping it ends the task that listens.
///
/// The loop's use of it:
/// ```text
/// listener.about_to_sleep();
/// if every ring is empty { inbox.wait().await }
/// listener.awake();
/// ```
pub struct DoorbellListener {
    shared: Arc<Shared>,
    descriptor: Rc<BufferedFile>,
}

impl DoorbellListener {
    /// Listens to `doorbell` on the executor of this thread; one listener a doorbell.
    ///
    /// The error is the system's when it has no descriptor to spare.
    pub fn new(doorbell: &Doorbell) -> io::Result<Self> {
        let duplicate = doorbell.shared.descriptor.try_clone()?;
        // SAFETY: the descriptor is open and owned by nobody else from here on.
        let descriptor = unsafe { BufferedFile::from_raw_fd(duplicate.into_raw_fd()) };
        Ok(Self {
            shared: doorbell.shared.clone(),
            descriptor: Rc::new(descriptor),
        })
    }

    /// Starts the task that turns each ring into `inbox.notify()`.
    pub fn start<T: 'static>(&self, inbox: Inbox<T>) {
        let (shared, descriptor) = (self.shared.clone(), self.descriptor.clone());
        crate::runtime::spawn(async move {
            while descriptor.read_at(0, 8).await.is_ok() && !shared.is_closed.load(Ordering::Acquire) {
                inbox.notify();
            }
        });
    }

    /// From now on senders ring. Look into every ring once more after this and before waiting.
    pub fn about_to_sleep(&self) {
        self.shared.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// From now on senders need not ring.
    pub fn awake(&self) {
        self.shared.is_asleep.store(false, Ordering::Relaxed);
    }
}

impl Drop for DoorbellListener {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{block_on, ring};
    use std::thread;

    /// A lost wake-up shows as a test that never ends.
    #[test]
    fn no_item_is_left_in_a_ring_while_the_core_sleeps() {
        const COUNT: u64 = 200_000;
        let doorbell = Doorbell::new().expect("a descriptor");
        let (mut sender, mut receiver) = ring::<u64>(64);
        let bell = doorbell.clone();
        let sending = thread::spawn(move || {
            for number in 0..COUNT {
                while sender.try_send(number).is_err() {
                    thread::yield_now();
                }
                bell.ring();
                if number % 1_000 == 0 {
                    thread::sleep(std::time::Duration::from_micros(200));
                }
            }
        });
        block_on(async move {
            let inbox: Inbox<()> = Inbox::new();
            let listener = DoorbellListener::new(&doorbell).expect("a descriptor");
            listener.start(inbox.clone());
            let mut expected = 0;
            while expected < COUNT {
                listener.about_to_sleep();
                if receiver.is_empty() {
                    inbox.wait().await;
                }
                listener.awake();
                inbox.drain_into(&mut Vec::new());
                while let Some(number) = receiver.receive() {
                    assert_eq!(number, expected);
                    expected += 1;
                }
            }
        });
        sending.join().expect("the sender sent all");
    }
}
