//! The body of a measured message: who sent it, its number, a check, when it was meant to be sent, then a pattern.
//!
//! ```text
//!  0             4                    12         16                      24
//!  ┌─────────────┬────────────────────┬──────────┬───────────────────────┬───────────────────────┐
//!  │ publisher   │ number             │ check    │ intended send time    │ pattern …             │
//!  │ u32 LE      │ u64 LE, from 0     │ u32 LE   │ u64 LE, ns of the run │ by (number mod slots) │
//!  └─────────────┴────────────────────┴──────────┴───────────────────────┴───────────────────────┘
//!  ├─ bodies of 16 bytes and more ───────────────┤
//!  ├─ bodies of 24 bytes and more ───────────────────────────────────────┤
//! ```
//!
//! The check covers publisher, number and the run's seed: a foreign or damaged message is not counted as ours. The
//! pattern differs between neighbours, so a body that was cut or exchanged shows; it depends on the number modulo
//! the publisher's `slots`, because messages are encoded once, in a ring of that many, and then only stamped.

/// Smallest body that carries publisher, number and check.
pub const BODY_CHECKED_MIN: usize = 16;
/// Smallest body that carries its intended send time too.
pub const BODY_TIMED_MIN: usize = 24;

/// The stamp at a body's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the publisher in the run.
    pub publisher: u32,
    /// Number of the message among its publisher's, from 0.
    pub number: u64,
    /// Intended send time, 0 where the body has no room for it.
    pub intended: u64,
}

impl Stamp {
    /// Writes itself over the beginning of `body`, as far as there is room.
    #[inline]
    pub fn write(&self, seed: u64, body: &mut [u8]) {
        let Some(head) = body.first_chunk_mut::<BODY_CHECKED_MIN>() else {
            return;
        };
        head[..4].copy_from_slice(&self.publisher.to_le_bytes());
        head[4..12].copy_from_slice(&self.number.to_le_bytes());
        head[12..].copy_from_slice(&check(self.publisher, self.number, seed).to_le_bytes());
        if let Some(timed) = body.first_chunk_mut::<BODY_TIMED_MIN>() {
            timed[16..].copy_from_slice(&self.intended.to_le_bytes());
        }
    }

    /// The stamp of `body`, whose beginning suffices; `None` when the check does not fit or has no room.
    #[inline]
    pub fn read(seed: u64, body: &[u8]) -> Option<Self> {
        let head = body.first_chunk::<BODY_CHECKED_MIN>()?;
        let low = u64::from_le_bytes(*head.first_chunk()?);
        let high = u64::from_le_bytes(*head.last_chunk()?);
        let publisher = low as u32;
        let number = (low >> 32) | (high << 32);
        if (high >> 32) as u32 != check(publisher, number, seed) {
            return None;
        }
        let intended = body
            .first_chunk::<BODY_TIMED_MIN>()
            .and_then(|timed| timed.last_chunk());
        Some(Self {
            publisher,
            number,
            intended: intended.map_or(0, |bytes| u64::from_le_bytes(*bytes)),
        })
    }
}

#[inline]
fn check(publisher: u32, number: u64, seed: u64) -> u32 {
    let mixed = (number ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ u64::from(publisher).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed >> 32) as u32 ^ mixed as u32
}

/// The bytes behind the stamps of a run's bodies.
#[derive(Clone, Debug)]
pub struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    /// A pattern for bodies up to `body_bytes_max` in rings of at most `slots_max` messages.
    pub fn new(seed: u64, body_bytes_max: usize, slots_max: usize) -> Self {
        let mut state = seed | 1;
        let words = body_bytes_max.div_ceil(8) + slots_max.min(SHIFTS) + 1;
        let bytes = (0..words)
            .flat_map(|_| next_word(&mut state).to_le_bytes())
            .collect();
        Self { bytes }
    }

    /// `length` bytes of the body in `slot`, from byte `offset` of the body on.
    #[inline]
    pub fn slice(&self, slot: usize, offset: usize, length: usize) -> &[u8] {
        let start = (slot % SHIFTS) * 8 + offset;
        &self.bytes[start..start + length]
    }
}

fn next_word(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Distinct patterns; neighbours always differ.
const SHIFTS: usize = 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp {
            publisher: 70_000,
            number: u64::from(u32::MAX) + 9,
            intended: 123_456_789,
        };
        let mut body = [0u8; 40];
        stamp.write(5, &mut body);
        assert_eq!(Stamp::read(5, &body), Some(stamp));
        stamp.write(5, &mut body[..16]);
        assert_eq!(Stamp::read(5, &body[..16]), Some(Stamp { intended: 0, ..stamp }));
    }

    #[test]
    fn a_damaged_or_foreign_stamp_is_refused() {
        let mut body = [0u8; 24];
        Stamp {
            publisher: 3,
            number: 1_000,
            intended: 0,
        }
        .write(5, &mut body);
        assert_eq!(Stamp::read(6, &body), None);
        for bit in 0..128 {
            let mut damaged = body;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stamp::read(5, &damaged), None, "bit {bit}");
        }
    }

    #[test]
    fn small_bodies_carry_nothing() {
        let mut body = [7u8; 15];
        Stamp {
            publisher: 1,
            number: 1,
            intended: 1,
        }
        .write(5, &mut body);
        assert_eq!(body, [7; 15]);
        assert_eq!(Stamp::read(5, &body), None);
    }

    #[test]
    fn neighbours_have_different_patterns() {
        let pattern = Pattern::new(9, 1024, 256);
        assert_ne!(pattern.slice(3, 24, 1000), pattern.slice(4, 24, 1000));
        assert_eq!(pattern.slice(3, 24, 1000)[100..], *pattern.slice(3, 124, 900));
    }
}
