//! Connections over loopback: a loop on an executor here, blocking clients on threads.

use super::*;
use crate::runtime::{BufferPool, Inbox, IoPoll, Listener, block_on, sleep, within, yield_now};
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// A loop in small: one inbox, and whatever a test does with its events.
struct Loop {
    inbox: Inbox<SocketEvent>,
    events: std::collections::VecDeque<SocketEvent>,
    pool: BufferPool,
    address: SocketAddr,
    _listener: ListenerHandle,
}

impl Loop {
    fn start(buffer_bytes: usize) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().expect("an address"), 1024).expect("a port");
        let address = listener.local_addr().expect("a bound address");
        let inbox = Inbox::new();
        let listener = start_listener(listener, 7, inbox.clone()).expect("a descriptor");
        let (pool, events) = (BufferPool::new(buffer_bytes, 8), Default::default());
        Self {
            inbox,
            events,
            pool,
            address,
            _listener: listener,
        }
    }

    async fn next(&mut self) -> SocketEvent {
        while self.events.is_empty() {
            within(DEADLINE, self.inbox.wait())
                .await
                .expect("an event before the deadline");
            let mut events = Vec::new();
            self.inbox.drain_into(&mut events);
            self.events.extend(events);
        }
        self.events.pop_front().expect("not empty")
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("the listener accepts");
        client.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        client
    }

    async fn open(&mut self, slot: u32) -> SocketHandle<SocketEvent> {
        let SocketEvent::Accepted { socket, listener: 7 } = self.next().await else {
            panic!("an accept was due")
        };
        SocketHandle::open(
            socket,
            SocketToken { slot, generation: 1 },
            self.pool.clone(),
            self.inbox.clone(),
        )
    }

    async fn received(&mut self) -> Vec<u8> {
        match self.next().await {
            SocketEvent::Received { buffer, .. } => buffer.to_vec(),
            SocketEvent::Closed { reason, .. } => panic!("bytes were due: {reason}"),
            _ => panic!("bytes were due"),
        }
    }
}

fn outbound(bytes: &[u8]) -> Outbound {
    let mut outbound = Outbound::new();
    outbound.buffer().extend_from_slice(bytes);
    outbound
}

#[test]
fn nothing_is_read_until_the_loop_resumes_and_the_leftover_comes_first() {
    block_on(async {
        let mut core = Loop::start(1024);
        let mut client = core.client();
        let handle = core.open(1).await;
        client.write_all(b"abc").expect("open");
        assert_eq!(core.received().await, b"abc");
        client.write_all(b"def").expect("open");
        assert!(
            within(Duration::from_millis(20), core.inbox.wait())
                .await
                .is_none(),
            "the reader waits"
        );
        handle.resume_reading(b"bc");
        assert_eq!(core.received().await, b"bcdef");
        handle.resume_reading(b"");
        drop(client);
        assert!(matches!(
            core.next().await,
            SocketEvent::Closed {
                reason: CloseReason::Eof,
                ..
            }
        ));
    });
}

#[test]
fn a_leftover_without_more_bytes_ends_as_the_end_of_the_stream() {
    block_on(async {
        let mut core = Loop::start(1024);
        let client = core.client();
        let handle = core.open(1).await;
        (&client).write_all(b"abc").expect("open");
        core.received().await;
        handle.resume_reading(b"c");
        drop(client);
        let SocketEvent::Closed {
            token,
            reason: CloseReason::Eof,
        } = core.next().await
        else {
            panic!("an end was due")
        };
        assert_eq!(
            token,
            SocketToken {
                slot: 1,
                generation: 1
            }
        );
    });
}

#[test]
fn a_frame_larger_than_a_buffer_closes_the_connection() {
    block_on(async {
        let mut core = Loop::start(64);
        let client = core.client();
        let handle = core.open(1).await;
        (&client).write_all(&[1; 64]).expect("open");
        let bytes = core.received().await;
        handle.resume_reading(&bytes);
        assert!(matches!(
            core.next().await,
            SocketEvent::Closed {
                reason: CloseReason::Error(_),
                ..
            }
        ));
    });
}

#[test]
fn a_blocked_socket_says_when_it_is_writable_and_loses_no_byte() {
    block_on(async {
        let mut core = Loop::start(1024);
        let mut client = core.client();
        let mut handle = core.open(1).await;
        let mut output = outbound(b"");
        let mut expected = Vec::new();
        for number in 0..200_000u32 {
            output.buffer().extend_from_slice(&number.to_be_bytes());
            expected.extend_from_slice(&number.to_be_bytes());
            if number % 1_000 == 0 {
                output.push_shared(Bytes::from(vec![number as u8; 100_000]));
                expected.extend_from_slice(&[number as u8; 100_000]);
            }
        }
        while handle.send(&mut output).expect("open") == SendProgress::Unfinished {}
        assert!(
            handle.is_blocked() && !output.is_empty(),
            "20 MB do not fit into a socket"
        );
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).expect("open");
            bytes
        });
        while !output.is_empty() {
            if handle.send(&mut output).expect("open") == SendProgress::Blocked {
                assert!(matches!(core.next().await, SocketEvent::Writable { .. }));
            }
        }
        handle.close_after_flush(output);
        while !reading.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(reading.join().expect("a reader") == expected);
    });
}

#[test]
fn the_last_answer_arrives_although_the_peer_keeps_sending() {
    block_on(async {
        let mut core = Loop::start(1024);
        let mut client = core.client();
        let handle = core.open(1).await;
        client.write_all(&[1; 4096]).expect("open");
        core.received().await;
        // Unread bytes lie in the socket: a plain close would reset the connection.
        let last = outbound(&[9; 300_000]);
        handle.close_after_flush(last);
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).expect("no reset");
            bytes
        });
        while !reading.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(reading.join().expect("a reader"), vec![9; 300_000]);
        assert!(core.inbox.is_empty(), "a connection being closed is silent");
    });
}

#[test]
fn closing_ends_the_stream_and_aborting_resets_it() {
    block_on(async {
        let mut core = Loop::start(1024);
        let mut client = core.client();
        core.open(1).await.close();
        assert_eq!(client.read(&mut [0; 8]).expect("an end"), 0);
        let mut client = core.client();
        core.open(2).await.abort();
        assert_eq!(
            client.read(&mut [0; 8]).expect_err("a reset").kind(),
            std::io::ErrorKind::ConnectionReset
        );
        sleep(Duration::from_millis(5)).await;
        assert!(core.inbox.is_empty(), "the loop asked for it and is told nothing");
    });
}

#[test]
fn a_flood_of_connections_is_accepted_and_each_is_told_apart() {
    block_on(async {
        let mut core = Loop::start(1024);
        let clients: Vec<_> = (0..200).map(|_| core.client()).collect();
        let mut handles = Vec::new();
        for slot in 0..200 {
            handles.push(core.open(slot).await);
        }
        for client in &clients {
            (&mut &*client).write_all(b"x").expect("open");
        }
        let mut seen = vec![0; 200];
        for _ in 0..200 {
            let SocketEvent::Received { token, .. } = core.next().await else {
                panic!("bytes were due")
            };
            seen[token.slot as usize] += 1;
            core.pool.collect_returned();
        }
        assert_eq!(seen, vec![1; 200], "8 buffers serve 200 readers");
    });
}

/// Publishers that fill every buffer, and work of its own, keep the loop busy for ever. Without trips through the
/// ring the consumer, once blocked, is never seen writable again, and this test fails.
#[test]
fn a_blocked_consumer_is_served_under_saturating_publishers() {
    const DELIVERED_BYTES: usize = 24 << 20;
    let blocked_count = block_on(async {
        let mut core = Loop::start(4096);
        let consumer = core.client();
        let mut consumer_handle = core.open(0).await;
        let mut publisher_handles = Vec::new();
        let publishers: Vec<_> = (0..4).map(|_| core.client()).collect();
        for slot in 0..4 {
            publisher_handles.push(core.open(slot).await);
        }
        for mut publisher in publishers {
            thread::spawn(move || while publisher.write_all(&[5; 1 << 20]).is_ok() {});
        }
        let consuming = thread::spawn(move || consume(consumer, DELIVERED_BYTES));
        let (poll, begun) = (IoPoll::new().expect("a descriptor"), Instant::now());
        let (mut output, mut events, mut blocked_count) = (Outbound::new(), Vec::new(), 0);
        for tick in 0.. {
            if tick % 4 == 0 {
                poll.trip().await;
            }
            yield_now().await;
            core.inbox.drain_into(&mut events);
            for event in events.drain(..) {
                match event {
                    SocketEvent::Received { token, buffer } => {
                        if output.len() < 1 << 20 {
                            output.buffer().extend_from_slice(&buffer);
                        }
                        publisher_handles[token.slot as usize].resume_reading(&[]);
                    }
                    SocketEvent::Writable { .. } => blocked_count += 1,
                    SocketEvent::Accepted { .. } | SocketEvent::Closed { .. } => return blocked_count,
                }
            }
            let _ = consumer_handle.send(&mut output);
            if consuming.is_finished() {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "the consumer was starved");
        }
        blocked_count
    });
    assert!(
        blocked_count > 3,
        "the consumer was to be blocked now and then, not {blocked_count} times"
    );
}

fn consume(mut consumer: TcpStream, bytes: usize) {
    let (mut total, mut buffer) = (0, vec![0; 1 << 16]);
    while total < bytes {
        total += consumer.read(&mut buffer).expect("deliveries");
        thread::sleep(Duration::from_millis(2));
    }
}

const DEADLINE: Duration = Duration::from_secs(10);
