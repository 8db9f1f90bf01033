//! Bytes as Erlang prints them, for the reply texts that RabbitMQ makes of what it could not decode.

use std::fmt::{self, Write};

/// A binary as `~w` prints it: `<<0,5,97>>`.
#[derive(Clone, Copy, Debug)]
pub struct PlainBinary<'a>(pub &'a [u8]);

/// A binary as `~p` prints it: `<<"hello">>` where all bytes are printable, else as [`PlainBinary`].
#[derive(Clone, Copy, Debug)]
pub struct PrettyBinary<'a>(pub &'a [u8]);

/// The part of a frame's payload that a text names: `all octets = <<"ab">>`, at most 16 bytes of it.
#[derive(Clone, Copy, Debug)]
pub struct PayloadSnippet<'a>(pub &'a [u8]);

/// Most bytes of a payload that a text names.
pub const SNIPPET_LENGTH_MAX: usize = 16;

impl fmt::Display for PlainBinary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<<")?;
        for (index, byte) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{byte}")?;
        }
        f.write_str(">>")
    }
}

impl fmt::Display for PrettyBinary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || !self.0.iter().all(|byte| is_printable(*byte)) {
            return PlainBinary(self.0).fmt(f);
        }
        f.write_str("<<\"")?;
        for byte in self.0 {
            match escape_of(*byte) {
                Some(escape) => write!(f, "\\{escape}")?,
                None => f.write_char(char::from(*byte))?,
            }
        }
        f.write_str("\">>")
    }
}

impl fmt::Display for PayloadSnippet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..SNIPPET_LENGTH_MAX) {
            Some(first) if self.0.len() > SNIPPET_LENGTH_MAX => {
                write!(f, "first 16 octets = {}", PrettyBinary(first))
            }
            _ => write!(f, "all octets = {}", PrettyBinary(self.0)),
        }
    }
}

/// ASCII that Erlang takes as text; it takes Latin-1 letters as well, which a reply text in UTF-8 could not carry.
fn is_printable(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic() || escape_of(byte).is_some()
}

fn escape_of(byte: u8) -> Option<char> {
    Some(match byte {
        0x08 => 'b',
        0x09 => 't',
        0x0a => 'n',
        0x0b => 'v',
        0x0c => 'f',
        0x0d => 'r',
        0x1b => 'e',
        b'"' => '"',
        b'\\' => '\\',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_printed_as_numbers_or_as_text() {
        assert_eq!(PlainBinary(b"ab").to_string(), "<<97,98>>");
        assert_eq!(PrettyBinary(b"a \"b\"\n").to_string(), r#"<<"a \"b\"\n">>"#);
        assert_eq!(PrettyBinary(b"a\0").to_string(), "<<97,0>>");
        assert_eq!(PrettyBinary(b"").to_string(), "<<>>");
    }

    #[test]
    fn a_long_payload_is_cut_to_sixteen_bytes() {
        assert_eq!(
            PayloadSnippet(&[1; 16]).to_string(),
            "all octets = <<1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1>>"
        );
        assert_eq!(
            PayloadSnippet(&[b'h'; 17]).to_string(),
            "first 16 octets = <<\"hhhhhhhhhhhhhhhh\">>"
        );
    }
}
