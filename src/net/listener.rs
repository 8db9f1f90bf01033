//! The task that accepts connections.

use crate::net::SocketEvent;
use crate::runtime::{Inbox, Listener, ListenerStopper, ReadHalf, Socket, WriteHalf, spawn, yield_now};
use std::io;
use std::net::SocketAddr;

/// A connection just made; dropping it closes it.
pub struct AcceptedSocket {
    /// The half that reads.
    pub read: ReadHalf,
    /// The half that writes.
    pub write: WriteHalf,
    /// The other end's address.
    pub peer: SocketAddr,
    /// This end's address.
    pub local: SocketAddr,
}

impl From<Socket> for AcceptedSocket {
    fn from(socket: Socket) -> Self {
        let (peer, local) = (socket.peer(), socket.local());
        let (read, write) = socket.split();
        Self {
            read,
            write,
            peer,
            local,
        }
    }
}

/// A listener at work; dropping it stops it.
pub struct ListenerHandle {
    stopper: ListenerStopper,
}

impl ListenerHandle {
    /// Stops accepting and frees the port. Connections that the kernel holds and nobody has accepted are reset.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for ListenerHandle {
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

/// Starts to accept from `listener`; each connection goes to `inbox` as `Accepted`, with `number` to tell listeners
/// apart.
///
/// The error is the system's when it has no descriptor to spare.
pub fn start_listener<E>(listener: Listener, number: u16, inbox: Inbox<E>) -> io::Result<ListenerHandle>
where
    E: From<SocketEvent> + 'static,
{
    let stopper = listener.stopper()?;
    spawn(accept_connections(listener, number, inbox));
    Ok(ListenerHandle { stopper })
}

async fn accept_connections<E: From<SocketEvent>>(listener: Listener, number: u16, inbox: Inbox<E>) {
    let mut accepted = 0;
    while let Ok(socket) = listener.accept().await {
        inbox.push(E::from(SocketEvent::Accepted {
            socket: socket.into(),
            listener: number,
        }));
        accepted += 1;
        if accepted % ACCEPTS_IN_A_ROW == 0 {
            yield_now().await;
        }
    }
}

/// A flood of connections is ready at once each time; after so many the loop has its turn.
const ACCEPTS_IN_A_ROW: u32 = 16;
