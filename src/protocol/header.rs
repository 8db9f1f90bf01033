//! The protocol header, the first eight bytes of a connection (AMQP 0-9-1 §4.2.2).

/// `AMQP`, 0, then the version: 0-9-1.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The header of AMQP 0-9, whose methods are the same; RabbitMQ accepts it.
const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

/// What a connection's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderVerdict {
    /// The beginning of a header; more bytes are needed.
    Incomplete,
    /// A header of this protocol, eight bytes long.
    Accepted,
    /// Another version, or another protocol.
    Refused {
        /// What to send before closing: the header this broker speaks.
        answer: [u8; 8],
    },
}

/// Judges a connection's first bytes, of which there may be more than the header, or fewer.
///
/// Bytes of another protocol are refused at the first that does not fit. AMQP 1.0 is not offered, so every refusal
/// names 0-9-1.
pub fn judge_protocol_header(input: &[u8]) -> HeaderVerdict {
    let length = input.len().min(PROTOCOL_HEADER.len());
    let head = &input[..length];
    let fits = [PROTOCOL_HEADER, PROTOCOL_HEADER_0_9]
        .iter()
        .any(|header| header.starts_with(head));
    match (fits, length) {
        (true, 8) => HeaderVerdict::Accepted,
        (true, _) => HeaderVerdict::Incomplete,
        (false, _) => HeaderVerdict::Refused {
            answer: PROTOCOL_HEADER,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_may_arrive_byte_by_byte() {
        for header in [PROTOCOL_HEADER, PROTOCOL_HEADER_0_9] {
            for end in 0..8 {
                assert_eq!(judge_protocol_header(&header[..end]), HeaderVerdict::Incomplete);
            }
            assert_eq!(judge_protocol_header(&header), HeaderVerdict::Accepted);
            assert_eq!(
                judge_protocol_header(&[&header[..], b"\x01\x00"].concat()),
                HeaderVerdict::Accepted
            );
        }
    }

    #[test]
    fn another_version_or_protocol_is_answered_with_ours() {
        let strangers: [&[u8]; 6] = [
            b"AMQP\0\0\x09\x02",
            b"AMQP\0\0\x08\0",
            b"AMQP\x03\x01\0\0",
            b"AMQP\x01\x01\x08\0",
            b"GET / HT",
            b"\x16\x03",
        ];
        for stranger in strangers {
            assert_eq!(
                judge_protocol_header(stranger),
                HeaderVerdict::Refused {
                    answer: PROTOCOL_HEADER
                }
            );
        }
    }
}
