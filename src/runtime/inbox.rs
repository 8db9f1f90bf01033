//! Events on their way from a core's tasks to the core's loop.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A list that tasks of one core append to and one task, the loop, waits for and empties.
///
/// Clones share the list. It takes no lock and no borrow: each call takes the list out, changes it, puts it back,
/// and awaits nothing between. It has no bound of its own; every poster has one (a socket has at most one event
/// under way in each direction).
pub struct Inbox<T> {
    shared: Rc<Shared<T>>,
}

struct Shared<T> {
    items: Cell<Vec<T>>,
    is_notified: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Inbox<T> {
    /// An empty inbox.
    pub fn new() -> Self {
        let shared = Shared {
            items: Cell::new(Vec::new()),
            is_notified: Cell::new(false),
            waiting: Cell::new(None),
        };
        Self {
            shared: Rc::new(shared),
        }
    }

    /// Appends `item` and wakes whoever waits.
    #[inline]
    pub fn push(&self, item: T) {
        let mut items = self.shared.items.take();
        items.push(item);
        self.shared.items.set(items);
        self.wake();
    }

    /// Wakes whoever waits, or makes the next wait return at once: for news that lies elsewhere, as in a ring.
    pub fn notify(&self) {
        self.shared.is_notified.set(true);
        self.wake();
    }

    /// Moves all items to the end of `target`, in the order they were pushed, and forgets earlier notifications.
    ///
    /// Into an empty `target` the lists are exchanged, so that a busy core reuses two allocations all day.
    pub fn drain_into(&self, target: &mut Vec<T>) {
        self.shared.is_notified.set(false);
        let mut items = self.shared.items.take();
        if target.is_empty() {
            std::mem::swap(&mut items, target);
        } else {
            target.append(&mut items);
        }
        self.shared.items.set(items);
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        let items = self.shared.items.take();
        let is_empty = items.is_empty();
        self.shared.items.set(items);
        is_empty
    }

    /// Returns when there are items, or a notification since the last `drain_into`. One task waits at a time.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.shared.is_notified.get() || !self.is_empty() {
                return Poll::Ready(());
            }
            self.shared.waiting.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    #[inline]
    fn wake(&self) {
        if let Some(waker) = self.shared.waiting.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{block_on, spawn};

    #[test]
    fn items_come_out_in_the_order_they_were_pushed() {
        let inbox = Inbox::new();
        inbox.push(1);
        inbox.push(2);
        let mut items = vec![0];
        inbox.drain_into(&mut items);
        assert_eq!(items, vec![0, 1, 2]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_notification_ends_the_wait_without_an_item() {
        block_on(async {
            let inbox: Inbox<u8> = Inbox::new();
            let other = inbox.clone();
            spawn(async move { other.notify() });
            inbox.wait().await;
            assert!(inbox.is_empty());
            inbox.drain_into(&mut Vec::new());
            let other = inbox.clone();
            spawn(async move { other.push(9) });
            inbox.wait().await;
            assert!(!inbox.is_empty(), "the old notification was forgotten");
        });
    }
}
