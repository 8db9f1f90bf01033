//! `Content`: a message as a queue, the log and a ring between cores carry it, in one stretch of bytes.
//!
//! ```text
//!  0      1              1+e    2+e            2+e+k      4+e+k
//!  ┌──────┬──────────────┬──────┬──────────────┬──────────┬────────────────┬──────────┐
//!  │ e u8 │ exchange (e) │ k u8 │ routing key  │ p u16 BE │ properties (p) │ body ... │
//!  └──────┴──────────────┴──────┴──────────────┴──────────┴────────────────┴──────────┘
//! ```
//!
//! `properties` are the bytes of the content header after its body size: the property flags and the values they
//! announce (AMQP 0-9-1 §4.2.6.1), kept as the publisher sent them. The body runs to the end, so whoever stores
//! the stretch keeps its length. A content header's payload is at most one frame, but a broker may allow frames
//! above 64 KiB: a `p` of 0xFFFF says that a u32 BE length follows.

/// A message's parts, borrowed from wherever they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// The exchange it was published to, at most 255 bytes.
    pub exchange: &'a [u8],
    /// Its routing key, at most 255 bytes.
    pub routing_key: &'a [u8],
    /// Property flags and values, as sent.
    pub properties: &'a [u8],
    /// The body, or its first part when the rest is stored elsewhere.
    pub body: &'a [u8],
}

/// An owned buffer that holds one stretch.
pub type ContentBuffer = Vec<u8>;

const WIDE_PROPERTIES: u16 = u16::MAX;

impl<'a> Content<'a> {
    /// Bytes that `encode` writes before the body.
    #[inline]
    pub fn prefix_length(&self) -> usize {
        let wide = if self.properties.len() >= WIDE_PROPERTIES as usize {
            4
        } else {
            0
        };
        4 + wide + self.exchange.len() + self.routing_key.len() + self.properties.len()
    }

    /// Bytes that `encode` writes.
    #[inline]
    pub fn encoded_length(&self) -> usize {
        self.prefix_length() + self.body.len()
    }

    /// Appends everything before the body.
    #[inline]
    pub fn encode_prefix(&self, out: &mut Vec<u8>) {
        debug_assert!(
            self.exchange.len() <= 255 && self.routing_key.len() <= 255,
            "names are short strings"
        );
        out.push(self.exchange.len() as u8);
        out.extend_from_slice(self.exchange);
        out.push(self.routing_key.len() as u8);
        out.extend_from_slice(self.routing_key);
        if self.properties.len() < WIDE_PROPERTIES as usize {
            out.extend_from_slice(&(self.properties.len() as u16).to_be_bytes());
        } else {
            out.extend_from_slice(&WIDE_PROPERTIES.to_be_bytes());
            out.extend_from_slice(&(self.properties.len() as u32).to_be_bytes());
        }
        out.extend_from_slice(self.properties);
    }

    /// Appends the whole stretch.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(self.encoded_length());
        self.encode_prefix(out);
        out.extend_from_slice(self.body);
    }

    /// The parts of a stretch that `encode` wrote, or `None` when `bytes` are not one.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (exchange, rest) = take_short(bytes)?;
        let (routing_key, rest) = take_short(rest)?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (length, rest) = match u16::from_be_bytes(*length) {
            WIDE_PROPERTIES => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                (u32::from_be_bytes(*length) as usize, rest)
            }
            length => (length as usize, rest),
        };
        let (properties, body) = rest.split_at_checked(length)?;
        Some(Self {
            exchange,
            routing_key,
            properties,
            body,
        })
    }
}

#[inline]
fn take_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_decodes_to_what_was_encoded() {
        for properties_length in [0, 2, 65_534, 65_535, 70_000] {
            let properties = vec![7; properties_length];
            let content = Content {
                exchange: b"amq.topic",
                routing_key: b"a.b",
                properties: &properties,
                body: b"hello",
            };
            let mut bytes = Vec::new();
            content.encode(&mut bytes);
            assert_eq!(bytes.len(), content.encoded_length());
            assert_eq!(Content::decode(&bytes), Some(content));
        }
    }

    #[test]
    fn a_stretch_cut_before_its_body_is_refused() {
        let content = Content {
            exchange: b"x",
            routing_key: b"key",
            properties: &[0, 0],
            body: b"",
        };
        let mut bytes = Vec::new();
        content.encode(&mut bytes);
        for end in 0..bytes.len() {
            assert_eq!(Content::decode(&bytes[..end]), None);
        }
    }
}
