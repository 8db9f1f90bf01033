//! Receive buffers: few, large, counted, shared by all connections of a core.
//!
//! A buffer leaves the pool when a socket has bytes, and comes back when they are handled; an idle connection holds
//! none. Memory is zeroed when a buffer is first made and never again. Large bodies are cut out of the buffer
//! without a copy (`slice`); the buffer then comes back when the last slice is dropped, on whatever core that is.
//! Each is a mapping of its own, so a buffer that is freed goes back to the system whatever the allocator keeps.

use bytes::Bytes;
use memmap2::MmapMut;
use std::cell::{Cell, OnceCell};
use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Waker;

/// The buffers of one core; clones share them.
#[derive(Clone)]
pub struct BufferPool {
    shared: Rc<Shared>,
}

struct Shared {
    buffer_bytes: usize,
    count_max: usize,
    /// Buffers made and not freed: in `free`, lent, sliced, or in `returned`.
    made: Cell<usize>,
    /// Last in, first out: the buffer whose pages are in the cache.
    free: Cell<Vec<Arc<Memory>>>,
    waiting: Cell<VecDeque<Waker>>,
    returns: Sender<MmapMut>,
    returned: Receiver<MmapMut>,
}

/// A buffer's bytes; whoever drops the last reference sends them home.
struct Memory {
    /// Present until drop.
    bytes: Option<MmapMut>,
    home: Sender<MmapMut>,
}

impl Memory {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.as_ref().expect("bytes are present until drop")
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut().expect("bytes are present until drop")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // A pool that is gone leaves the memory to be freed here.
        let _ = self.bytes.take().map(|bytes| self.home.send(bytes));
    }
}

impl BufferPool {
    /// A pool of at most `count_max` buffers of `buffer_bytes` each, made when first needed.
    pub fn new(buffer_bytes: usize, count_max: usize) -> Self {
        assert!(buffer_bytes > 0 && count_max > 0, "a pool has room for a buffer");
        let (returns, returned) = channel();
        let (made, free, waiting) = (Cell::new(0), Cell::new(Vec::new()), Cell::new(VecDeque::new()));
        Self {
            shared: Rc::new(Shared {
                buffer_bytes,
                count_max,
                made,
                free,
                waiting,
                returns,
                returned,
            }),
        }
    }

    /// Bytes of one buffer: the most that a single read returns, and the bound of a frame.
    pub fn buffer_bytes(&self) -> usize {
        self.shared.buffer_bytes
    }

    /// Bytes of all buffers made and not freed, whoever holds them.
    pub fn resident_bytes(&self) -> usize {
        self.shared.made.get() * self.shared.buffer_bytes
    }

    /// An empty buffer, or `None` when all are in use.
    #[inline]
    pub fn take(&self) -> Option<ReceiveBuffer> {
        let memory = match self.take_free() {
            Some(memory) => memory,
            None => self.take_returned().or_else(|| self.make())?,
        };
        Some(ReceiveBuffer {
            memory: Some(memory),
            filled: 0,
            shared: OnceCell::new(),
            pool: self.clone(),
        })
    }

    /// A buffer that holds `bytes` as if a socket had received them: for the simulator's sockets. `None` when all are in
    /// use.
    ///
    /// # Panics
    /// When `bytes` are more than a buffer.
    pub fn holding(&self, bytes: &[u8]) -> Option<ReceiveBuffer> {
        let mut buffer = self.take()?;
        buffer.fill(bytes, 0);
        Some(buffer)
    }

    /// Wakes `waker` when a buffer comes back. It may find that others were quicker, and waits again then.
    pub(super) fn wait(&self, waker: &Waker) {
        let mut waiting = self.shared.waiting.take();
        waiting.push_back(waker.clone());
        self.shared.waiting.set(waiting);
    }

    /// Takes back what came home from other cores or from dropped slices, and wakes as many waiting readers as there
    /// are buffers. The core's loop calls it every tick.
    pub fn collect_returned(&self) {
        while let Some(memory) = self.take_returned() {
            self.put_free(memory);
        }
        if self.has_waiting() {
            let available = self.free_count() + (self.shared.count_max - self.shared.made.get());
            (0..available).for_each(|_| self.wake_one());
        }
    }

    /// Frees all but `count` of the buffers nobody uses; a core that has gone quiet calls it.
    pub fn trim(&self, count: usize) {
        let mut free = self.shared.free.take();
        while free.len() > count {
            // Sends the bytes home, where they are dropped instead of kept.
            drop(free.pop());
            if self.shared.returned.try_recv().is_ok() {
                self.shared.made.set(self.shared.made.get() - 1);
            }
        }
        self.shared.free.set(free);
    }

    fn give_back(&self, memory: Arc<Memory>) {
        self.put_free(memory);
        self.wake_one();
    }

    fn take_free(&self) -> Option<Arc<Memory>> {
        let mut free = self.shared.free.take();
        let memory = free.pop();
        self.shared.free.set(free);
        memory
    }

    fn put_free(&self, memory: Arc<Memory>) {
        let mut free = self.shared.free.take();
        free.push(memory);
        self.shared.free.set(free);
    }

    fn take_returned(&self) -> Option<Arc<Memory>> {
        let bytes = self.shared.returned.try_recv().ok()?;
        Some(Arc::new(Memory {
            bytes: Some(bytes),
            home: self.shared.returns.clone(),
        }))
    }

    fn make(&self) -> Option<Arc<Memory>> {
        if self.shared.made.get() == self.shared.count_max {
            return None;
        }
        let bytes = MmapMut::map_anon(self.shared.buffer_bytes).ok()?;
        self.shared.made.set(self.shared.made.get() + 1);
        Some(Arc::new(Memory {
            bytes: Some(bytes),
            home: self.shared.returns.clone(),
        }))
    }

    fn free_count(&self) -> usize {
        let free = self.shared.free.take();
        let count = free.len();
        self.shared.free.set(free);
        count
    }

    fn has_waiting(&self) -> bool {
        let waiting = self.shared.waiting.take();
        let has_waiting = !waiting.is_empty();
        self.shared.waiting.set(waiting);
        has_waiting
    }

    fn wake_one(&self) {
        let mut waiting = self.shared.waiting.take();
        let waker = waiting.pop_front();
        self.shared.waiting.set(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Bytes a socket received, in a buffer of the pool; dereferences to them. Empty means the end of the stream.
pub struct ReceiveBuffer {
    /// Present until drop.
    memory: Option<Arc<Memory>>,
    filled: usize,
    shared: OnceCell<Bytes>,
    pool: BufferPool,
}

impl ReceiveBuffer {
    /// A part of the bytes that outlives this buffer, without a copy.
    ///
    /// It keeps the whole buffer from being used again, so it is for bodies not much smaller than one.
    ///
    /// # Panics
    /// When `range` leaves the received bytes.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        self.shared.get_or_init(|| self.share()).slice(range)
    }

    /// The room after the first `offset` bytes, for a read.
    pub(super) fn space_after(&mut self, offset: usize) -> &mut [u8] {
        let memory = self.memory.as_mut().expect("memory is present until drop");
        &mut Arc::get_mut(memory)
            .expect("a buffer is filled before it is sliced")
            .bytes_mut()[offset..]
    }

    /// Makes the buffer hold `prefix` and the `count` bytes that were read behind it.
    pub(super) fn fill(&mut self, prefix: &[u8], count: usize) {
        self.space_after(0)[..prefix.len()].copy_from_slice(prefix);
        self.filled = prefix.len() + count;
    }

    fn share(&self) -> Bytes {
        let memory = self.memory.clone().expect("memory is present until drop");
        Bytes::from_owner(View {
            memory,
            filled: self.filled,
        })
    }
}

impl Deref for ReceiveBuffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self
            .memory
            .as_ref()
            .expect("memory is present until drop")
            .bytes()[..self.filled]
    }
}

impl Drop for ReceiveBuffer {
    fn drop(&mut self) {
        drop(self.shared.take());
        let mut memory = self.memory.take().expect("memory is present until drop");
        // With slices about, the last of them sends the memory home.
        if Arc::get_mut(&mut memory).is_some() {
            self.pool.give_back(memory);
        }
    }
}

struct View {
    memory: Arc<Memory>,
    filled: usize,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        &self.memory.bytes()[..self.filled]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(pool: &BufferPool, text: &[u8]) -> ReceiveBuffer {
        let mut buffer = pool.take().expect("a free buffer");
        buffer.space_after(2)[..text.len()].copy_from_slice(text);
        buffer.fill(b"> ", text.len());
        buffer
    }

    #[test]
    fn a_buffer_holds_its_prefix_and_what_was_read_behind_it() {
        let pool = BufferPool::new(64, 1);
        assert_eq!(&*filled(&pool, b"hello"), b"> hello");
    }

    #[test]
    fn the_pool_never_exceeds_its_count_and_reuses_buffers() {
        let pool = BufferPool::new(64, 2);
        let (first, _second) = (pool.take(), pool.take());
        assert!(pool.take().is_none());
        drop(first);
        assert!(pool.take().is_some());
        assert_eq!(pool.resident_bytes(), 128);
    }

    #[test]
    fn slices_outlive_the_buffer_and_bring_it_home_from_another_thread() {
        let pool = BufferPool::new(64, 1);
        let buffer = filled(&pool, b"hello world");
        let (hello, world) = (buffer.slice(2..7), buffer.slice(8..13));
        drop(buffer);
        assert!(pool.take().is_none(), "two slices hold the buffer");
        std::thread::spawn(move || {
            assert_eq!(hello, "hello");
            drop(hello);
            assert_eq!(world, "world");
        })
        .join()
        .expect("the slices kept their bytes");
        pool.collect_returned();
        assert!(pool.take().is_some());
    }

    #[test]
    fn trimming_frees_what_nobody_uses() {
        let pool = BufferPool::new(64, 4);
        let buffers: Vec<_> = (0..3).map(|_| pool.take()).collect();
        drop(buffers);
        pool.trim(1);
        assert_eq!(pool.resident_bytes(), 64);
        assert!(
            (0..4)
                .map(|_| pool.take())
                .collect::<Vec<_>>()
                .iter()
                .all(Option::is_some)
        );
    }

    #[test]
    fn slices_may_outlive_the_pool() {
        let pool = BufferPool::new(64, 1);
        let slice = filled(&pool, b"late").slice(2..6);
        drop(pool);
        assert_eq!(slice, "late");
    }
}
