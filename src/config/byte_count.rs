//! Numbers of bytes as people write them.

use serde::Serializer;

/// The units a number of bytes may be written in, greatest first. A unit is matched without regard to case.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// The bytes that `text` names: "64 MiB", "64MiB", "1 GB", "512 B" or "512"; `None` when it names none, or more
/// than 2^64.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.replace('_', "").parse().ok()?;
    let factor = match unit.trim() {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    number.checked_mul(factor)
}

/// `bytes` in the greatest binary unit that holds them without a remainder: "64 MiB", "1000 B".
pub fn format_bytes(bytes: u64) -> String {
    let is_binary = |name: &str| name.ends_with("iB") || name == "B";
    let (name, factor) = UNITS
        .into_iter()
        .find(|&(name, factor)| is_binary(name) && bytes >= factor && bytes.is_multiple_of(factor))
        .unwrap_or(("B", 1));
    format!("{} {name}", bytes / factor)
}

/// Writes whole kibibytes and more as a text with its unit, other numbers as numbers.
pub fn serialize_bytes<S: Serializer>(bytes: u64, serializer: S) -> Result<S::Ok, S::Error> {
    if bytes > 0 && bytes.is_multiple_of(1024) {
        serializer.serialize_str(&format_bytes(bytes))
    } else {
        serializer.serialize_u64(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_any_unit_people_use() {
        for (text, bytes) in [
            ("512", 512),
            ("1_000", 1_000),
            ("4 KiB", 4_096),
            ("4kib", 4_096),
            ("4 kB", 4_000),
            ("64MiB", 67_108_864),
            (" 1 GiB ", 1 << 30),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5 MiB", "4 MiBs", "99999999999999 GiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_are_written_in_the_greatest_unit_without_a_remainder() {
        for bytes in [0, 1, 1_000, 1_024, 1_536, 65_536, 64 << 20, 3 << 30] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
        }
        assert_eq!(format_bytes(64 << 20), "64 MiB");
        assert_eq!(format_bytes(1_000), "1000 B");
    }
}
