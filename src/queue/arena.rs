//! `Arena`: a queue's memory for the contents of small messages.
//!
//! Contents are appended to chunks, each after its length, and a chunk goes when all in it are released. Messages
//! of a queue leave roughly in the order they came, so chunks empty in that order too:
//!
//! ```text
//!  chunk 2 (sealed, 3 live)          chunk 5 (sealed, 1 live)     chunk 0 (the tail)
//!  ┌──────────┬─────────┬───         ┌───────────────────────┐    ┌──────────┬─────────┬─ ─ ─ ─ ─ ┐
//!  │ u32 LE n │ n bytes │ ...        │ one large content     │    │ u32 LE n │ n bytes │   room
//!  └──────────┴─────────┴───         └───────────────────────┘    └──────────┴─────────┴─ ─ ─ ─ ─ ┘
//!  ▲ offset of a slot
//! ```
//!
//! The first chunk is small, since most queues hold little; each that follows a full one is twice as large, up to a
//! bound. A content above a quarter of that bound that does not fit the tail has a chunk of its own size, so
//! that sealing the tail wastes at most a quarter of it. The tail is used again from its start when it becomes empty, and one chunk of full size is
//! kept in reserve, so that a queue in step does not allocate; `shrink` gives that memory back.
//!
//! Chunk numbers are places in a table and are used again. One forgotten message keeps its whole chunk.

use crate::model::Content;

/// Where a content lies in its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaSlot {
    chunk: u32,
    /// Byte in the chunk at which the content's length begins.
    offset: u32,
}

/// Memory for encoded contents, each of which is released by itself.
#[derive(Debug)]
pub struct Arena {
    /// A freed place has an empty buffer.
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    /// Where contents are appended, if there is a chunk for it.
    tail: Option<u32>,
    /// An empty buffer of full size.
    spare: Option<Vec<u8>>,
    /// Size of the next tail in bytes.
    tail_bytes: usize,
    bytes_allocated: usize,
    bytes_live: usize,
}

#[derive(Debug, Default)]
struct Chunk {
    /// Never grows: it has its capacity from the start.
    bytes: Vec<u8>,
    /// Contents not released.
    live: u32,
}

const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 256 << 10;
const SHARED_CHUNK_CONTENT_MAX: usize = CHUNK_BYTES_MAX / 4;
const LENGTH_BYTES: usize = size_of::<u32>();
/// Length of a released content, in debug builds.
const RELEASED: u32 = u32::MAX;

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl Arena {
    /// An empty arena; allocates nothing.
    pub const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            tail: None,
            spare: None,
            tail_bytes: CHUNK_BYTES_MIN,
            bytes_allocated: 0,
            bytes_live: 0,
        }
    }

    /// Copies a content in, of less than 4 GiB.
    #[inline]
    pub fn store(&mut self, content: &Content<'_>) -> ArenaSlot {
        let length = content.encoded_length();
        let number = self.chunk_with_room(LENGTH_BYTES + length);
        let chunk = &mut self.chunks[number as usize];
        // A chunk that can take more contents is at most `CHUNK_BYTES_MAX` long.
        let offset = chunk.bytes.len() as u32;
        chunk.bytes.extend_from_slice(&(length as u32).to_le_bytes());
        content.encode(&mut chunk.bytes);
        chunk.live += 1;
        self.bytes_live += LENGTH_BYTES + length;
        ArenaSlot {
            chunk: number,
            offset,
        }
    }

    /// The content in a slot that was not released, as `Content::encode` wrote it.
    #[inline]
    pub fn read(&self, slot: ArenaSlot) -> &[u8] {
        let chunk = &self.chunks[slot.chunk as usize];
        let start = slot.offset as usize + LENGTH_BYTES;
        &chunk.bytes[start..start + chunk.length_at(slot.offset)]
    }

    /// Gives up the content in a slot, which must not be used again.
    #[inline]
    pub fn release(&mut self, slot: ArenaSlot) {
        let chunk = &mut self.chunks[slot.chunk as usize];
        self.bytes_live -= LENGTH_BYTES + chunk.length_at(slot.offset);
        if cfg!(debug_assertions) {
            chunk.mark_released(slot.offset);
        }
        chunk.live -= 1;
        if chunk.live == 0 {
            self.empty(slot.chunk);
        }
    }

    /// Bytes of memory that the arena has for contents, used or not.
    pub fn bytes_allocated(&self) -> usize {
        self.bytes_allocated
    }

    /// Bytes of the contents it holds, with their lengths.
    pub fn bytes_live(&self) -> usize {
        self.bytes_live
    }

    /// Gives back the chunk in reserve and an empty tail, and starts small again: the queue has been idle for a
    /// while, or memory is short.
    pub fn shrink(&mut self) {
        if let Some(tail) = self.tail.take_if(|tail| self.chunks[*tail as usize].live == 0) {
            self.free(tail);
            self.tail_bytes = CHUNK_BYTES_MIN;
        }
        if let Some(spare) = self.spare.take() {
            self.bytes_allocated -= spare.capacity();
        }
    }

    /// Panics when the arena contradicts itself.
    pub fn check_invariants(&self) {
        let capacities = self.chunks.iter().map(|chunk| chunk.bytes.capacity());
        let spare = self.spare.as_ref().map_or(0, Vec::capacity);
        assert_eq!(
            capacities.sum::<usize>() + spare,
            self.bytes_allocated,
            "allocated bytes are the chunks'"
        );
        assert!(self.bytes_live <= self.bytes_allocated, "contents lie in chunks");
        for (number, chunk) in (0..).zip(&self.chunks) {
            let is_free = self.free.contains(&number);
            assert_eq!(
                chunk.bytes.capacity() == 0,
                is_free,
                "chunk {number} has memory unless it is free"
            );
            assert!(
                chunk.live > 0 || is_free || self.tail == Some(number),
                "chunk {number} holds something"
            );
        }
    }

    #[inline]
    fn chunk_with_room(&mut self, needed: usize) -> u32 {
        if let Some(tail) = self.tail
            && self.chunks[tail as usize].room() >= needed
        {
            return tail;
        }
        self.open(needed)
    }

    #[cold]
    fn open(&mut self, needed: usize) -> u32 {
        assert!(needed < RELEASED as usize, "a content is shorter than 4 GiB");
        if needed > SHARED_CHUNK_CONTENT_MAX {
            let bytes = self.allocate(needed);
            return self.place(bytes);
        }
        let bytes = self.tail_buffer(needed);
        let number = self.place(bytes);
        if let Some(sealed) = self.tail.replace(number)
            && self.chunks[sealed as usize].live == 0
        {
            self.free(sealed);
        }
        number
    }

    fn tail_buffer(&mut self, needed: usize) -> Vec<u8> {
        let bytes = self.tail_bytes.max(needed.next_power_of_two());
        self.tail_bytes = (bytes * 2).min(CHUNK_BYTES_MAX);
        match self.spare.take_if(|_| bytes == CHUNK_BYTES_MAX) {
            Some(spare) => spare,
            None => self.allocate(bytes),
        }
    }

    fn allocate(&mut self, bytes: usize) -> Vec<u8> {
        let buffer = Vec::with_capacity(bytes);
        self.bytes_allocated += buffer.capacity();
        buffer
    }

    fn place(&mut self, bytes: Vec<u8>) -> u32 {
        let chunk = Chunk { bytes, live: 0 };
        if let Some(number) = self.free.pop() {
            self.chunks[number as usize] = chunk;
            return number;
        }
        self.chunks.push(chunk);
        (self.chunks.len() - 1) as u32
    }

    /// All in the chunk is released.
    #[cold]
    fn empty(&mut self, number: u32) {
        if self.tail == Some(number) {
            self.chunks[number as usize].bytes.clear();
        } else {
            self.free(number);
        }
    }

    fn free(&mut self, number: u32) {
        let mut bytes = std::mem::take(&mut self.chunks[number as usize]).bytes;
        self.free.push(number);
        if self.spare.is_none() && bytes.capacity() == CHUNK_BYTES_MAX {
            bytes.clear();
            self.spare = Some(bytes);
        } else {
            self.bytes_allocated -= bytes.capacity();
        }
    }
}

impl Chunk {
    #[inline]
    fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    #[inline]
    fn length_at(&self, offset: u32) -> usize {
        let length = self.bytes[offset as usize..]
            .first_chunk()
            .expect("a slot begins with a length");
        let length = u32::from_le_bytes(*length);
        debug_assert_ne!(length, RELEASED, "a content is not used after its release");
        length as usize
    }

    fn mark_released(&mut self, offset: u32) {
        let start = offset as usize;
        self.bytes[start..start + LENGTH_BYTES].copy_from_slice(&RELEASED.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(body: &[u8]) -> Content<'_> {
        Content {
            exchange: b"",
            routing_key: b"q",
            properties: &[0, 0],
            body,
        }
    }

    fn encoded(body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        content(body).encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_queue_in_step_stays_in_its_first_chunk() {
        let mut arena = Arena::new();
        for _ in 0..10_000 {
            let slot = arena.store(&content(&[7; 16]));
            assert_eq!(arena.read(slot), encoded(&[7; 16]));
            arena.release(slot);
        }
        assert_eq!(
            (arena.bytes_allocated(), arena.bytes_live()),
            (CHUNK_BYTES_MIN, 0)
        );
    }

    #[test]
    fn a_backlog_that_drains_leaves_a_tail_and_a_reserve() {
        let mut arena = Arena::new();
        let slots: Vec<_> = (0..200_000).map(|_| arena.store(&content(&[1; 16]))).collect();
        assert!(arena.bytes_allocated() < arena.bytes_live() + arena.bytes_live() / 10);
        slots.into_iter().for_each(|slot| arena.release(slot));
        assert_eq!(
            (arena.bytes_allocated(), arena.bytes_live()),
            (2 * CHUNK_BYTES_MAX, 0)
        );
        arena.shrink();
        assert_eq!(arena.bytes_allocated(), 0);
        arena.store(&content(&[1; 16]));
        assert_eq!(arena.bytes_allocated(), CHUNK_BYTES_MIN);
        arena.check_invariants();
    }

    #[test]
    fn a_large_content_has_a_chunk_of_its_size() {
        let mut arena = Arena::new();
        let small = arena.store(&content(b"small"));
        let large = arena.store(&content(&vec![9; 1 << 20]));
        let length = LENGTH_BYTES + encoded(&vec![9; 1 << 20]).len();
        assert_eq!(arena.bytes_allocated(), CHUNK_BYTES_MIN + length);
        assert_eq!(arena.read(large), encoded(&vec![9; 1 << 20]));
        arena.release(large);
        assert_eq!(arena.bytes_allocated(), CHUNK_BYTES_MIN);
        assert_eq!(arena.read(small), encoded(b"small"));
    }

    #[test]
    #[should_panic(expected = "a content is not used after its release")]
    #[cfg(debug_assertions)]
    fn a_second_release_is_noticed() {
        let mut arena = Arena::new();
        let [first, _] = [arena.store(&content(b"a")), arena.store(&content(b"b"))];
        arena.release(first);
        arena.release(first);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Store { length: usize },
        ReleaseOldest,
        ReleaseNth { nth: usize },
        ReleaseAll,
        Shrink,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..200usize).prop_map(|length| Step::Store { length }),
            4 => (0..20_000usize).prop_map(|length| Step::Store { length }),
            1 => (0..400_000usize).prop_map(|length| Step::Store { length }),
            5 => Just(Step::ReleaseOldest),
            4 => any::<usize>().prop_map(|nth| Step::ReleaseNth { nth }),
            1 => Just(Step::ReleaseAll),
            1 => Just(Step::Shrink),
        ];
        proptest::collection::vec(step, 1..150)
    }

    fn release_nth(arena: &mut Arena, model: &mut Vec<(ArenaSlot, Vec<u8>)>, nth: usize) {
        if !model.is_empty() {
            let (slot, bytes) = model.remove(nth % model.len());
            assert_eq!(arena.read(slot), bytes);
            arena.release(slot);
        }
    }

    fn apply(step: &Step, arena: &mut Arena, model: &mut Vec<(ArenaSlot, Vec<u8>)>, stamp: u8) {
        match *step {
            Step::Store { length } => {
                let body = vec![stamp; length];
                model.push((arena.store(&content(&body)), encoded(&body)));
            }
            Step::ReleaseOldest => release_nth(arena, model, 0),
            Step::ReleaseNth { nth } => release_nth(arena, model, nth),
            Step::ReleaseAll => (0..model.len()).for_each(|_| release_nth(arena, model, 0)),
            Step::Shrink => arena.shrink(),
        }
    }

    proptest! {
        #[test]
        fn an_arena_behaves_like_a_list_of_buffers(steps in steps()) {
            let mut arena = Arena::new();
            let mut model = Vec::new();
            for (stamp, step) in steps.iter().enumerate() {
                apply(step, &mut arena, &mut model, stamp as u8);
                arena.check_invariants();
                let live: usize = model.iter().map(|(_, bytes)| LENGTH_BYTES + bytes.len()).sum();
                prop_assert_eq!(arena.bytes_live(), live);
            }
            for (slot, bytes) in &model {
                prop_assert_eq!(arena.read(*slot), bytes.as_slice());
            }
        }
    }
}
