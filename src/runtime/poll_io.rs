//! One trip through the ring, for a loop that always has work.

use glommio::io::BufferedFile;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};

/// Makes the executor poll its I/O.
///
/// glommio polls only when every task waits, and yielding does not count. While each read fills its buffer, the loop
/// always finds work, no completion is ever seen, and a consumer whose socket was full is never found writable. The
/// cure: at least every fourth tick the loop awaits a read that is always ready, of an eventfd in semaphore mode.
/// A timer is none: one of zero length is ready without a poll.
pub struct IoPoll {
    always_readable: BufferedFile,
}

impl IoPoll {
    /// Opens the descriptor, on the executor of this thread.
    ///
    /// The error is the system's when it has no descriptor to spare.
    pub fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE)?;
        rustix::io::write(&descriptor, &(u64::MAX - 1).to_ne_bytes())?;
        // SAFETY: the descriptor is open and owned by nobody else from here on.
        let always_readable = unsafe { BufferedFile::from_raw_fd(descriptor.into_raw_fd()) };
        Ok(Self { always_readable })
    }

    /// Waits until the executor has been through its ring once and run what became ready before this.
    pub async fn trip(&self) {
        self.always_readable
            .read_at(0, 8)
            .await
            .expect("an eventfd with 2^64 reads left can be read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Inbox, block_on, now, sleep, spawn};
    use std::time::Duration;

    #[test]
    fn a_timer_fires_beside_a_loop_that_never_waits_but_for_trips() {
        block_on(async {
            let inbox = Inbox::new();
            let timer = inbox.clone();
            spawn(async move {
                sleep(Duration::from_millis(5)).await;
                timer.push(());
            });
            let poll = IoPoll::new().expect("a descriptor");
            let begun = now();
            while inbox.is_empty() {
                poll.trip().await;
                assert!(
                    now().milliseconds_since(begun) < 5_000,
                    "the timer was never seen"
                );
            }
        });
    }
}
