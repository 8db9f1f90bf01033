//! `ShortString`: a name, as AMQP's shortstr carries it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Up to 255 bytes, cheap to clone and to send to another core; any bytes, usually UTF-8 (AMQP 0-9-1 §4.2.5.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortString(Arc<[u8]>);

impl ShortString {
    /// Most bytes a short string holds.
    pub const LENGTH_MAX: usize = 255;

    /// The name, or `None` when `bytes` are more than 255.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= Self::LENGTH_MAX).then(|| Self(bytes.into()))
    }

    /// The name cut to its first 255 bytes, back to a character's beginning.
    pub fn truncated(text: &str) -> Self {
        let end = (0..=Self::LENGTH_MAX.min(text.len()))
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        Self(text.as_bytes()[..end].into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Default for ShortString {
    fn default() -> Self {
        Self([].into())
    }
}

impl Borrow<[u8]> for ShortString {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ShortString {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&'static str> for ShortString {
    fn from(text: &'static str) -> Self {
        assert!(
            text.len() <= Self::LENGTH_MAX,
            "a name written in the source fits a shortstr"
        );
        Self(text.as_bytes().into())
    }
}

impl fmt::Display for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// The 22 characters that RabbitMQ ends generated names with: 16 bytes in the URL-safe base64 of RFC 4648 §5, without padding.
pub fn base64url(bytes: u128) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |index: u32| {
        let shift = 122 - 6 * index as i32;
        let bits = if shift >= 0 {
            bytes >> shift
        } else {
            bytes << -shift
        };
        char::from(ALPHABET[(bits & 63) as usize])
    };
    (0..22).map(digit).collect()
}

/// The bytes that `base64url` wrote as these characters; `None` for any others.
pub fn from_base64url(digits: &[u8]) -> Option<u128> {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let (&last, others) = digits.split_last().filter(|(_, others)| others.len() == 21)?;
    let join = |bytes: u128, &digit: &u8| Some(bytes << 6 | u128::from(value(digit)?));
    let bytes = others.iter().try_fold(0, join)?;
    // Of the last character's six bits, two are the end of the sixteen bytes and four are nothing.
    let last = value(last).filter(|value| value & 15 == 0)?;
    Some(bytes << 2 | u128::from(last >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_become_the_bytes_they_stand_for() {
        for bytes in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef << 60] {
            assert_eq!(from_base64url(base64url(bytes).as_bytes()), Some(bytes));
        }
        let digits = base64url(u128::MAX);
        for wrong in [
            &digits[1..],
            &format!("{digits}A"),
            "_____________________x",
            "/____________________w",
        ] {
            assert_eq!(from_base64url(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn sixteen_bytes_become_twenty_two_characters() {
        assert_eq!(base64url(0), "A".repeat(22));
        assert_eq!(base64url(u128::MAX), format!("{}w", "_".repeat(21)));
        assert_eq!(
            base64url(u128::from_be_bytes(*b"sixteen bytes ok")),
            "c2l4dGVlbiBieXRlcyBvaw"
        );
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let name = ShortString::truncated(&"é".repeat(200));
        assert_eq!(name.as_bytes().len(), 254);
        assert!(ShortString::new(&[0; 256]).is_none());
    }
}
