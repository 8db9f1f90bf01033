//! A connection's output on its way to the socket.

use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes to send: small ones encoded into one buffer, large bodies shared without a copy between them.
///
/// ```text
///   buffer   [ sent │ a a a a │ b b b b b ]
///                             ▲ position
///   shared                    S S S S S S S        sends  a a a a S S S S S S S b b b b b
/// ```
///
/// Positions count from the first byte ever encoded, so that the front of the buffer can be dropped without
/// touching them.
#[derive(Default)]
pub struct Outbound {
    buffer: Vec<u8>,
    /// Position of `buffer[0]`.
    buffer_position: u64,
    /// Bytes at the front of `buffer` that are sent.
    sent: usize,
    /// Shared stretches, each with the position before which it is sent; its front shrinks as it is sent.
    shared: VecDeque<(u64, Bytes)>,
    shared_bytes: usize,
    was_used: bool,
}

impl Outbound {
    /// Nothing to send, nothing allocated.
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffer to append encoded bytes to. What lies in it already must stay as it is, but for bytes appended
    /// since the last call of another method.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.was_used = true;
        &mut self.buffer
    }

    /// Appends `bytes` without copying them: for large bodies, since each takes a slice of a system call.
    pub fn push_shared(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.was_used = true;
            self.shared_bytes += bytes.len();
            self.shared
                .push_back((self.buffer_position + self.buffer.len() as u64, bytes));
        }
    }

    /// Bytes to send.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len() - self.sent + self.shared_bytes
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a shared stretch waits, so that more than one slice may be needed.
    #[inline]
    pub fn has_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// The first stretch to send, or `None` when there is none.
    pub fn first_slice(&self) -> Option<&[u8]> {
        self.slices().next()
    }

    /// Fills `slices` with the first stretches to send, stopping once they hold `bytes_max` bytes; returns those
    /// filled. The last stretch may pass the limit, since stretches are not cut.
    pub fn fill_slices<'s, 'a>(
        &'a self,
        slices: &'s mut [IoSlice<'a>],
        bytes_max: usize,
    ) -> &'s [IoSlice<'a>] {
        let (mut count, mut bytes) = (0, 0);
        for (target, slice) in slices.iter_mut().zip(self.slices()) {
            *target = IoSlice::new(slice);
            count += 1;
            bytes += slice.len();
            if bytes >= bytes_max {
                break;
            }
        }
        &slices[..count]
    }

    /// Removes the first `count` bytes, which were sent.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn consume(&mut self, mut count: usize) {
        assert!(count <= self.len(), "only what there is can have been sent");
        while count > 0 {
            let own = self.own_bytes_first().min(count);
            self.sent += own;
            count -= own;
            count -= self.consume_shared(count);
        }
        self.drop_sent();
    }

    /// Frees the allocation when nothing was sent since the last call; a core calls it now and then for every
    /// connection, so that an idle one costs no buffer.
    pub fn shrink_when_idle(&mut self) {
        if !self.was_used && self.is_empty() {
            self.buffer = Vec::new();
            self.shared = VecDeque::new();
        }
        self.was_used = false;
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = self.sent;
        let mut shared = self.shared.iter().peekable();
        std::iter::from_fn(move || {
            let end = shared.peek().map_or(self.buffer.len(), |(position, _)| {
                (position - self.buffer_position) as usize
            });
            if start < end {
                let slice = &self.buffer[start..end];
                start = end;
                return Some(slice);
            }
            shared.next().map(|(_, bytes)| &bytes[..])
        })
    }

    /// Bytes of the buffer to send before the first shared stretch.
    fn own_bytes_first(&self) -> usize {
        let end = self.shared.front().map_or(self.buffer.len(), |(position, _)| {
            (position - self.buffer_position) as usize
        });
        end - self.sent
    }

    /// Removes up to `count` bytes of the first shared stretch, if it is next; returns how many.
    fn consume_shared(&mut self, count: usize) -> usize {
        if self.own_bytes_first() > 0 {
            return 0;
        }
        let Some((_, bytes)) = self.shared.front_mut() else {
            return 0;
        };
        let taken = count.min(bytes.len());
        if taken == bytes.len() {
            self.shared.pop_front();
        } else {
            bytes::Buf::advance(bytes, taken);
        }
        self.shared_bytes -= taken;
        taken
    }

    /// Drops the front of the buffer when that is free, or cheap against what was sent.
    fn drop_sent(&mut self) {
        let is_worth_moving = self.sent >= MOVE_BYTES_MIN && self.sent >= self.buffer.len() / 2;
        if self.sent == self.buffer.len() || is_worth_moving {
            self.buffer_position += self.sent as u64;
            self.buffer.drain(..self.sent);
            self.sent = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > CAPACITY_KEPT {
            self.buffer.shrink_to(CAPACITY_KEPT);
        }
    }
}

const MOVE_BYTES_MIN: usize = 64 * 1024;
/// What a busy connection keeps between ticks; a burst above it is freed once sent.
const CAPACITY_KEPT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Encode(Vec<u8>),
        Share(Vec<u8>),
        Consume(usize),
        ShrinkWhenIdle,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..40),
            1 => (any::<u8>(), 0..90_000usize).prop_map(|(byte, count)| vec![byte; count]),
        ];
        let step = prop_oneof![
            3 => bytes.clone().prop_map(Step::Encode),
            2 => bytes.prop_map(Step::Share),
            3 => prop_oneof![0..60usize, 0..200_000usize].prop_map(Step::Consume),
            1 => Just(Step::ShrinkWhenIdle),
        ];
        prop::collection::vec(step, 0..60)
    }

    fn sent(outbound: &Outbound) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 4];
        outbound
            .fill_slices(&mut slices, usize::MAX)
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn bytes_leave_in_the_order_they_were_appended(steps in steps()) {
            let mut outbound = Outbound::new();
            let mut expected: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Encode(bytes) => {
                        outbound.buffer().extend_from_slice(&bytes);
                        expected.extend(bytes);
                    }
                    Step::Share(bytes) => {
                        expected.extend(&bytes);
                        outbound.push_shared(bytes.into());
                    }
                    Step::Consume(count) => {
                        let count = count.min(expected.len());
                        outbound.consume(count);
                        expected.drain(..count);
                    }
                    Step::ShrinkWhenIdle => outbound.shrink_when_idle(),
                }
                prop_assert_eq!(outbound.len(), expected.len());
                prop_assert_eq!(outbound.slices().collect::<Vec<_>>().concat(), &expected[..]);
                prop_assert!(expected.starts_with(&sent(&outbound)));
                prop_assert_eq!(outbound.first_slice().is_none(), expected.is_empty());
            }
        }
    }

    #[test]
    fn an_idle_connection_keeps_no_buffer() {
        let mut outbound = Outbound::new();
        outbound.buffer().extend_from_slice(&[1; 100]);
        outbound.consume(100);
        outbound.shrink_when_idle();
        assert!(outbound.buffer.capacity() > 0, "it was used since the last call");
        outbound.shrink_when_idle();
        assert_eq!(outbound.buffer.capacity(), 0);
    }

    #[test]
    fn a_burst_is_freed_once_sent() {
        let mut outbound = Outbound::new();
        outbound.buffer().resize(4 * CAPACITY_KEPT, 1);
        outbound.consume(4 * CAPACITY_KEPT);
        assert!(outbound.buffer.capacity() <= CAPACITY_KEPT);
    }
}
