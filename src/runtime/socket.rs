//! TCP connections, in two halves.
//!
//! Reading goes through glommio: receive first, poll through the ring when there is nothing. Writing is a direct
//! `send`, since most writes succeed at once; only a full socket is waited for through the ring. Both halves share
//! one descriptor, and the kernel closes the connection when the second half is dropped.
//!
//! Tasks that wait on a half end by `shutdown` or `abort` of the other, never by being cancelled.

use crate::runtime::{BufferPool, ReceiveBuffer};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{self, SendAncillaryBuffer, SendFlags, Shutdown};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// One connection, not split yet.
pub struct Socket {
    stream: Rc<Stream>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
        stream.set_nodelay(true)?;
        let descriptor = stream.as_raw_fd();
        Ok(Self {
            stream: Rc::new(Stream {
                stream: Cell::new(Some(stream)),
                descriptor,
            }),
            peer,
            local,
        })
    }

    /// A socket of this core from a connected descriptor, as when a connection moves here from another core.
    ///
    /// The error is the system's when the peer has gone.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is an open socket, owned by nobody else from here on.
        Self::new(unsafe { TcpStream::from_raw_fd(descriptor.into_raw_fd()) })
    }

    /// The other end's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This end's address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The half that reads and the half that writes, each for one task.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        (
            ReadHalf {
                stream: self.stream.clone(),
            },
            WriteHalf { stream: self.stream },
        )
    }
}

/// What both halves share.
struct Stream {
    /// Taken out for the length of one poll, which calls nothing of ours.
    stream: Cell<Option<TcpStream>>,
    descriptor: RawFd,
}

impl Stream {
    fn with<R>(&self, poll: impl FnOnce(Pin<&mut TcpStream>) -> R) -> R {
        let mut stream = self
            .stream
            .take()
            .expect("a poll of one half does not poll the other");
        let result = poll(Pin::new(&mut stream));
        self.stream.set(Some(stream));
        result
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: `descriptor` belongs to `stream`, which is present outside of `with` and lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.descriptor) }
    }
}

/// The half that reads.
pub struct ReadHalf {
    stream: Rc<Stream>,
}

impl ReadHalf {
    /// Waits for bytes and returns them in a buffer of `pool`, behind `prefix`: what the last read left undecoded.
    ///
    /// No buffer is held while it waits, neither for bytes nor for a buffer. An empty buffer, or one that holds only
    /// `prefix`, says that the peer has sent its last byte. Errors are the socket's (reset, timed out), and
    /// `InvalidInput` when `prefix` leaves no room in a buffer.
    pub async fn read(&mut self, pool: &BufferPool, prefix: &[u8]) -> io::Result<ReceiveBuffer> {
        if prefix.len() >= pool.buffer_bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a frame is larger than a receive buffer",
            ));
        }
        poll_fn(|context| self.poll_read(context, pool, prefix)).await
    }

    fn poll_read(
        &self,
        context: &mut Context<'_>,
        pool: &BufferPool,
        prefix: &[u8],
    ) -> Poll<io::Result<ReceiveBuffer>> {
        let Some(mut buffer) = pool.take() else {
            pool.wait(context.waker());
            return Poll::Pending;
        };
        let space = buffer.space_after(prefix.len());
        let result = self.stream.with(|stream| stream.poll_read(context, space));
        result.map_ok(|count| {
            buffer.fill(prefix, count);
            buffer
        })
    }

    /// Ends both directions: a task that waits on either half wakes.
    pub fn shutdown(&self) {
        shutdown(&self.stream, Shutdown::Both);
    }
}

/// The half that writes.
pub struct WriteHalf {
    stream: Rc<Stream>,
}

impl WriteHalf {
    /// Sends what the socket takes now: how many bytes, or `None` when it takes none. Errors are the socket's.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        sent(|| net::send(&*self.stream, bytes, SEND_FLAGS))
    }

    /// As `try_write`, from several slices with one system call; at most 1,024 of them.
    pub fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        sent(|| {
            net::sendmsg(
                &*self.stream,
                slices,
                &mut SendAncillaryBuffer::default(),
                SEND_FLAGS,
            )
        })
    }

    /// Sends some of `bytes`, waiting until the socket takes at least one. Errors are the socket's.
    ///
    /// Each poll tries to send first, so a task of its own awaits this; the loop uses `try_write`.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| self.stream.with(|stream| stream.poll_write(context, bytes))).await
    }

    /// Sends all of `bytes`, waiting as often as it must. Errors are the socket's.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write(bytes).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Says that nothing more is sent; the peer reads all of it, then the end.
    pub fn shutdown_write(&self) {
        shutdown(&self.stream, Shutdown::Write);
    }

    /// Ends both directions: a task that waits on either half wakes.
    pub fn shutdown(&self) {
        shutdown(&self.stream, Shutdown::Both);
    }

    /// Resets the connection: what was not sent is discarded, the peer sees an error, tasks that wait wake.
    pub fn abort(&self) {
        if net::connect_unspec(&*self.stream).is_err() {
            self.shutdown();
        }
    }

    /// A second descriptor of the connection, to take it to another core (`Socket::from_descriptor`).
    ///
    /// The error is the system's when it has no descriptor to spare.
    pub fn duplicate_descriptor(&self) -> io::Result<OwnedFd> {
        self.stream.as_fd().try_clone_to_owned()
    }

    /// A second handle for another task of this core; the two must not wait at the same time.
    pub fn duplicate(&self) -> WriteHalf {
        WriteHalf {
            stream: self.stream.clone(),
        }
    }
}

fn sent(send: impl Fn() -> rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match send() {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn shutdown(stream: &Stream, how: Shutdown) {
    // Fails only when the connection is gone already.
    let _ = net::shutdown(stream, how);
}

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Inbox, Listener, block_on, sleep, spawn, within};
    use std::io::{Read, Write};
    use std::thread;
    use std::time::Duration;

    async fn connected() -> (Socket, std::net::TcpStream) {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), 16).expect("a port");
        let address = listener.local_addr().expect("a bound address");
        let client = std::net::TcpStream::connect(address).expect("the backlog takes it");
        (listener.accept().await.expect("a client"), client)
    }

    #[test]
    fn bytes_arrive_behind_the_prefix_of_the_last_read() {
        block_on(async {
            let (socket, mut client) = connected().await;
            assert_eq!(socket.peer(), client.local_addr().expect("an address"));
            let pool = BufferPool::new(1024, 1);
            let (mut read, mut write) = socket.split();
            client.write_all(b"world").expect("a connection");
            assert_eq!(
                &*read.read(&pool, b"hello ").await.expect("bytes"),
                b"hello world"
            );
            assert_eq!(
                write
                    .try_write_vectored(&[IoSlice::new(b"ab"), IoSlice::new(b"c")])
                    .expect("open"),
                Some(3)
            );
            let mut answer = [0; 3];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"abc");
            drop(client);
            assert!(read.read(&pool, &[]).await.expect("the end").is_empty());
        });
    }

    #[test]
    fn readers_without_bytes_hold_no_buffer() {
        block_on(async {
            let (socket, mut client) = connected().await;
            let pool = BufferPool::new(1024, 1);
            let (mut read, _write) = socket.split();
            let seen = Inbox::new();
            let (inbox, shared) = (seen.clone(), pool.clone());
            spawn(async move { inbox.push(read.read(&shared, &[]).await.map(|buffer| buffer.to_vec())) });
            sleep(Duration::from_millis(2)).await;
            let held = pool.take().expect("the reader holds none");
            client.write_all(b"x").expect("a connection");
            assert!(
                within(Duration::from_millis(20), seen.wait()).await.is_none(),
                "no buffer, no read"
            );
            drop(held);
            seen.wait().await;
        });
    }

    #[test]
    fn a_full_socket_takes_nothing_until_the_peer_reads() {
        block_on(async {
            let (socket, mut client) = connected().await;
            let (_read, mut write) = socket.split();
            let block = vec![7; 1 << 20];
            let mut sent = 0;
            while let Some(count) = write.try_write(&block).expect("open") {
                sent += count;
            }
            let reading = thread::spawn(move || {
                let mut total = 0;
                let mut buffer = vec![0; 65_536];
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    total += count;
                }
                total
            });
            write.write_all(&block).await.expect("open");
            write.shutdown_write();
            drop((_read, write));
            assert_eq!(reading.join().expect("a reader"), sent + block.len());
        });
    }

    #[test]
    fn a_reader_that_waits_ends_by_shutdown_and_by_abort() {
        block_on(async {
            for is_abort in [false, true] {
                let (socket, mut client) = connected().await;
                let (mut read, write) = socket.split();
                let pool = BufferPool::new(1024, 1);
                let ended = Inbox::new();
                let inbox = ended.clone();
                spawn(async move {
                    inbox.push(read.read(&pool, &[]).await.is_ok_and(|buffer| !buffer.is_empty()))
                });
                sleep(Duration::from_millis(2)).await;
                if is_abort {
                    write.abort()
                } else {
                    write.shutdown()
                }
                within(Duration::from_secs(5), ended.wait())
                    .await
                    .expect("the reader ended");
                let end = client.read(&mut [0; 8]);
                assert_eq!(
                    end.is_err(),
                    is_abort,
                    "a reset is an error, an end is not: {end:?}"
                );
            }
        });
    }
}
