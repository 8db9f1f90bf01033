//! Hashes that stay the same for as long as the messages of one key shall find the same queue: on every core, after a
//! restart, and in the next version. The maps' hash promises none of that.

/// The hash of `bytes`: FNV-1a, then mixed.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    });
    mix(folded)
}

/// Spreads each bit of `value` over all bits of the result, and gives different values different results.
#[inline]
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// `value`, evenly spread over all 64 bits, as one of `0..count`, which is not empty.
#[inline]
pub(super) fn scale(value: u64, count: usize) -> usize {
    ((u128::from(value) * count as u128) >> 64) as usize
}

/// What SplitMix64 adds between two of its numbers, which `mix` then spreads.
pub(super) const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_stays_what_it_was() {
        assert_eq!(hash(b""), 0xF52A_15E9_A9B5_E89B);
        assert_eq!(hash(b"orders"), 0x4598_7D0B_68FC_7229);
    }

    #[test]
    fn a_scaled_value_is_below_the_count() {
        assert_eq!(scale(0, 3), 0);
        assert_eq!(scale(u64::MAX, 3), 2);
        assert_eq!(scale(u64::MAX / 2, 2), 0);
    }
}
