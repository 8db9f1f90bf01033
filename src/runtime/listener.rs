//! TCP listeners, which every core binds for itself.

use crate::runtime::{Socket, sleep};
use glommio::net::TcpListener;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

/// A listening socket of one core. Every core binds the same address, and the kernel spreads connections.
pub struct Listener {
    listener: TcpListener,
    /// A duplicate, because glommio keeps its own to itself.
    descriptor: OwnedFd,
}

impl Listener {
    /// Listens on `address` with `SO_REUSEPORT`, keeping at most `backlog` connections that nobody has accepted.
    ///
    /// Because of `SO_REUSEPORT` a second broker of the same user is not refused: ask `is_port_in_use` once before.
    /// The error is the system's: address not of this machine, privileged port, no descriptor.
    pub fn bind(address: SocketAddr, backlog: i32) -> io::Result<Self> {
        let descriptor = bound_socket(address, true)?;
        net::listen(&descriptor, backlog)?;
        let duplicate = descriptor.try_clone()?;
        // SAFETY: the descriptor is an open, listening socket, owned by nobody else from here on.
        let listener = unsafe { TcpListener::from_raw_fd(duplicate.into_raw_fd()) };
        Ok(Self { listener, descriptor })
    }

    /// The address it listens on, with the port the system chose when 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// The next connection, with `TCP_NODELAY` set.
    ///
    /// Out of descriptors or memory, it waits 10 ms and tries again, while existing connections go on. An error says
    /// that the listener was stopped.
    pub async fn accept(&self) -> io::Result<Socket> {
        loop {
            match self.listener.accept().await {
                Ok(stream) => {
                    // An error here says that the peer has gone already.
                    if let Ok(socket) = Socket::new(stream) {
                        return Ok(socket);
                    }
                }
                Err(error) => wait_after(error.into()).await?,
            }
        }
    }

    /// What stops this listener from another task.
    pub fn stopper(&self) -> io::Result<ListenerStopper> {
        Ok(ListenerStopper {
            descriptor: self.descriptor.try_clone()?,
        })
    }
}

/// After an error of accept: waits where waiting helps, fails where the listener has ended.
async fn wait_after(error: io::Error) -> io::Result<()> {
    match Errno::from_io_error(&error) {
        Some(Errno::INVAL | Errno::BADF) => return Err(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => sleep(ACCEPT_PAUSE).await,
        _ => {} // one connection failed, not the listener
    }
    Ok(())
}

/// Stops a listener: the port is free, and its `accept` returns an error.
pub struct ListenerStopper {
    descriptor: OwnedFd,
}

impl ListenerStopper {
    /// Stops the listener; a second call does nothing.
    pub fn stop(&self) {
        // Fails only when it is stopped already.
        let _ = net::shutdown(&self.descriptor, Shutdown::Both);
    }
}

/// Whether another socket listens on `address`, by binding it for a moment without `SO_REUSEPORT`. It does not listen, so
/// that no client is accepted and dropped.
///
/// Looks again for half a second before it says so, and blocks meanwhile: the rings of a process that was killed hold its
/// sockets a while longer than itself. Errors other than "in use" are left to `Listener::bind`.
pub fn is_port_in_use(address: SocketAddr) -> bool {
    let begun = Instant::now();
    let is_in_use =
        || bound_socket(address, false).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    while is_in_use() {
        if begun.elapsed() > LINGER_MAX {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// How long a killed process may seem to listen.
const LINGER_MAX: Duration = Duration::from_millis(500);

fn bound_socket(address: SocketAddr, reuse_port: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let socket = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    Ok(socket)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{block_on, spawn, within};

    fn listen() -> (Listener, SocketAddr) {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), 16).expect("a port");
        let address = listener.local_addr().expect("a bound address");
        (listener, address)
    }

    #[test]
    fn a_stopped_listener_ends_its_accept_and_frees_the_port() {
        block_on(async {
            let (listener, address) = listen();
            assert!(is_port_in_use(address));
            let stopper = listener.stopper().expect("a descriptor");
            spawn(async move {
                sleep(Duration::from_millis(2)).await;
                stopper.stop();
            });
            let accepted = within(Duration::from_secs(5), listener.accept())
                .await
                .expect("accept ended");
            assert!(accepted.is_err());
            assert!(!is_port_in_use(address));
        });
    }

    #[test]
    fn a_port_that_becomes_free_in_a_moment_is_not_in_use() {
        let dying = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = dying.local_addr().expect("bound");
        let ending = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(dying);
        });
        assert!(!is_port_in_use(address));
        ending.join().expect("it ends");
    }

    #[test]
    fn two_cores_listen_on_one_port() {
        block_on(async {
            let (first, address) = listen();
            let second = Listener::bind(address, 16).expect("the port is shared");
            assert_eq!(
                first.local_addr().expect("bound"),
                second.local_addr().expect("bound")
            );
        });
    }
}
