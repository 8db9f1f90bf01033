//! What a connection's handle and its two tasks tell each other.

use crate::net::{CloseReason, SocketEvent, SocketToken};
use crate::runtime::Inbox;
use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// What the reader is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Wait for another order.
    Pause,
    /// Read once, post it, and pause.
    Read,
    /// Read to the end and discard it, because the connection is being closed.
    Discard,
    /// End.
    Stop,
}

/// Shared by a handle, its reader and its writer, all on one core.
pub(super) struct Control<E> {
    pub(super) token: SocketToken,
    inbox: Inbox<E>,
    order: Cell<Order>,
    reader: Cell<Option<Waker>>,
    closer: Cell<Option<Waker>>,
    leftover: Cell<Vec<u8>>,
    is_reader_done: Cell<bool>,
    is_blocked: Cell<bool>,
    is_silent: Cell<bool>,
}

impl<E: From<SocketEvent>> Control<E> {
    pub(super) fn new(token: SocketToken, inbox: Inbox<E>) -> Self {
        Self {
            token,
            inbox,
            order: Cell::new(Order::Read),
            reader: Cell::new(None),
            closer: Cell::new(None),
            leftover: Cell::new(Vec::new()),
            is_reader_done: Cell::new(false),
            is_blocked: Cell::new(false),
            is_silent: Cell::new(false),
        }
    }

    /// The order in force.
    pub(super) fn order(&self) -> Order {
        self.order.get()
    }

    /// Gives the reader an order; `Stop` is final, and only `Stop` follows `Discard`.
    pub(super) fn give_order(&self, order: Order) {
        let is_final = match self.order.get() {
            Order::Stop => true,
            Order::Discard => order != Order::Stop,
            Order::Pause | Order::Read => false,
        };
        if is_final {
            return;
        }
        self.order.set(order);
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    /// For the reader: waits for an order other than `Pause`.
    pub(super) async fn next_order(&self) -> Order {
        poll_fn(|context| match self.order.get() {
            Order::Pause => {
                self.reader.set(Some(context.waker().clone()));
                Poll::Pending
            }
            order => Poll::Ready(order),
        })
        .await
    }

    pub(super) fn set_leftover(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.leftover.set(bytes.to_vec());
        }
    }

    pub(super) fn take_leftover(&self) -> Vec<u8> {
        self.leftover.take()
    }

    /// Whether a writer task waits for the socket.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    pub(super) fn set_blocked(&self, is_blocked: bool) {
        self.is_blocked.set(is_blocked);
        self.wake_closer();
    }

    pub(super) fn set_reader_done(&self) {
        self.is_reader_done.set(true);
        self.wake_closer();
    }

    /// For the closer: waits until no writer task waits for the socket.
    pub(super) async fn until_unblocked(&self) {
        self.closer_until(|control| !control.is_blocked.get()).await
    }

    /// For the closer: waits until the reader has ended.
    pub(super) async fn until_reader_done(&self) {
        self.closer_until(|control| control.is_reader_done.get()).await
    }

    async fn closer_until(&self, is_so: impl Fn(&Self) -> bool) {
        poll_fn(|context| {
            if is_so(self) {
                return Poll::Ready(());
            }
            self.closer.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn wake_closer(&self) {
        if let Some(waker) = self.closer.take() {
            waker.wake();
        }
    }

    /// From now on the loop hears nothing of this connection.
    pub(super) fn silence(&self) {
        self.is_silent.set(true);
    }

    pub(super) fn post(&self, event: SocketEvent) {
        if !self.is_silent.get() {
            self.inbox.push(E::from(event));
        }
    }

    /// Posts `Closed` once, whichever task finds out first.
    pub(super) fn post_closed(&self, reason: CloseReason) {
        self.post(SocketEvent::Closed {
            token: self.token,
            reason,
        });
        self.silence();
    }
}
