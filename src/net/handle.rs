//! The loop's side of a connection.

use crate::net::control::{Control, Order};
use crate::net::{AcceptedSocket, Outbound, SocketEvent, SocketToken, reader, writer};
use crate::runtime::{BufferPool, Inbox, WriteHalf, spawn};
use std::io::{self, IoSlice};
use std::rc::Rc;

/// A connection's socket, in the hands of the core's loop. Dropping it closes the connection at once.
pub struct SocketHandle<E: From<SocketEvent> + 'static> {
    write: WriteHalf,
    control: Rc<Control<E>>,
    /// Whether a task of its own closes the connection.
    is_handed_over: bool,
}

/// How far `SocketHandle::send` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendProgress {
    /// Everything is with the kernel.
    Flushed,
    /// The socket is full; `SocketEvent::Writable` will say when to send again.
    Blocked,
    /// The socket takes more, but has had its share of this tick: send again in the next.
    Unfinished,
}

impl<E: From<SocketEvent> + 'static> SocketHandle<E> {
    /// Starts to read `socket` with buffers of `pool`; its events go to `inbox` under `token`.
    pub fn open(socket: AcceptedSocket, token: SocketToken, pool: BufferPool, inbox: Inbox<E>) -> Self {
        let control = Rc::new(Control::new(token, inbox));
        spawn(reader::read_connection(socket.read, control.clone(), pool));
        Self {
            write: socket.write,
            control,
            is_handed_over: false,
        }
    }

    /// Writes what the socket takes now, at most `SEND_BYTES_MAX`, and removes it from `outbound`.
    ///
    /// One system call where everything fits into 64 slices. Errors are the socket's; the reader meets them too, and
    /// posts `Closed`, so the loop may leave it to that.
    pub fn send(&mut self, outbound: &mut Outbound) -> io::Result<SendProgress> {
        if self.control.is_blocked() {
            return Ok(SendProgress::Blocked);
        }
        let mut sent = 0;
        while !outbound.is_empty() {
            if sent >= SEND_BYTES_MAX {
                return Ok(SendProgress::Unfinished);
            }
            let (offered, taken) = self.send_some(outbound)?;
            if taken < offered {
                self.wait_for_room(outbound);
                return Ok(SendProgress::Blocked);
            }
            sent += taken;
        }
        Ok(SendProgress::Flushed)
    }

    /// Whether the socket was full and no `Writable` has come since.
    pub fn is_blocked(&self) -> bool {
        self.control.is_blocked()
    }

    /// Lets the reader read once more, after the loop has used what it `Received`.
    ///
    /// `leftover` is what it could not use, the beginning of a frame: it is copied, and the next buffer begins with
    /// it. It is smaller than a receive buffer, or the connection ends with an error.
    pub fn resume_reading(&self, leftover: &[u8]) {
        self.control.set_leftover(leftover);
        self.control.give_order(Order::Read);
    }

    /// Sends what is left in `outbound`, then closes; the loop hears nothing more of this connection.
    ///
    /// A peer that neither reads nor closes is cut off after 10 s.
    pub fn close_after_flush(mut self, outbound: Outbound) {
        self.is_handed_over = true;
        self.control.silence();
        spawn(writer::close_after_flush(
            self.write.duplicate(),
            self.control.clone(),
            outbound,
        ));
    }

    /// Closes at once; the loop hears nothing more of this connection. The kernel still sends what it has.
    pub fn close(self) {
        drop(self);
    }

    /// Resets the connection: the peer sees an error, and what the kernel still has is discarded.
    pub fn abort(self) {
        self.control.silence();
        self.control.give_order(Order::Stop);
        self.write.abort();
    }

    /// Offers the first bytes to the socket: how many it was offered, how many it took.
    fn send_some(&mut self, outbound: &mut Outbound) -> io::Result<(usize, usize)> {
        let (offered, taken) = if outbound.has_shared() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let slices = outbound.fill_slices(&mut slices, SEND_BYTES_MAX);
            (
                slices.iter().map(|slice| slice.len()).sum(),
                self.write.try_write_vectored(slices)?,
            )
        } else {
            let slice = outbound.first_slice().unwrap_or(&[]);
            let slice = &slice[..slice.len().min(SEND_BYTES_MAX)];
            (slice.len(), self.write.try_write(slice)?)
        };
        outbound.consume(taken.unwrap_or(0));
        Ok((offered, taken.unwrap_or(0)))
    }

    /// Starts a task that waits for the socket. It takes a few bytes along, because only a send tells.
    fn wait_for_room(&mut self, outbound: &mut Outbound) {
        let slice = outbound
            .first_slice()
            .expect("a socket that refused bytes leaves some");
        let first = slice[..slice.len().min(WAITING_BYTES_MAX)].to_vec();
        outbound.consume(first.len());
        self.control.set_blocked(true);
        spawn(writer::write_when_writable(
            self.write.duplicate(),
            self.control.clone(),
            first,
        ));
    }
}

impl<E: From<SocketEvent> + 'static> Drop for SocketHandle<E> {
    fn drop(&mut self) {
        // Also after `Closed`: the peer may have ended its side only, and a writer may still wait for it.
        if !self.is_handed_over {
            self.control.silence();
            self.control.give_order(Order::Stop);
            self.write.shutdown();
        }
    }
}

/// The most that one connection sends in a tick, lest a fast peer holds up the others.
pub const SEND_BYTES_MAX: usize = 1 << 20;
const SLICES_MAX: usize = 64;
/// Few enough to fit whenever the kernel calls a socket writable.
const WAITING_BYTES_MAX: usize = 2048;
