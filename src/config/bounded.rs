//! Numbers that are known to lie in their range, because they cannot be made otherwise.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};

use super::byte_count::parse_bytes;

/// What a setting's number counts; it decides how the number may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes: a whole number, or a text such as "64 MiB".
    Bytes,
    /// Anything else, named in the plural: a whole number.
    Of(&'static str),
}

/// A value outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {range}, found {found}")]
pub struct OutOfRange {
    range: Range,
    found: u64,
}

impl OutOfRange {
    /// The refusal of `found` by `range`.
    pub fn new(range: Range, found: u64) -> Self {
        Self { range, found }
    }
}

/// The range of a setting, ends included, and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least value.
    pub least: u64,
    /// The greatest value.
    pub greatest: u64,
    /// What is counted.
    pub unit: Unit,
}

impl Range {
    /// Whether `value` lies in the range.
    pub fn holds(self, value: u64) -> bool {
        (self.least..=self.greatest).contains(&value)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Bytes => write!(
                f,
                "bytes from {} to {}, as a whole number or as \"64 KiB\", \"16 MiB\", \"1 GiB\"",
                self.least, self.greatest
            ),
            Unit::Of(things) => write!(
                f,
                "a whole number of {things} from {} to {}",
                self.least, self.greatest
            ),
        }
    }
}

impl Visitor<'_> for Range {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        if self.holds(value) {
            Ok(value)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(value), &self))
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        let unsigned =
            u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))?;
        self.visit_u64(unsigned)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let value = match self.unit {
            Unit::Bytes => parse_bytes(text),
            Unit::Of(_) => None,
        };
        value
            .filter(|&value| self.holds(value))
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Declares a number type with a range: `new`, `get`, a default, and how it is read from and written to TOML.
macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident($inner:ty), $least:literal..=$greatest:literal, $unit:expr, default $default:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name($inner);

        impl $name {
            /// The values it may have, and what they count.
            pub const RANGE: Range = Range { least: $least, greatest: $greatest, unit: $unit };

            /// The number, or why it is refused.
            pub fn new(value: $inner) -> Result<Self, OutOfRange> {
                let wide = value as u64;
                if Self::RANGE.holds(wide) { Ok(Self(value)) } else { Err(OutOfRange::new(Self::RANGE, wide)) }
            }

            /// The number.
            #[inline]
            pub fn get(self) -> $inner {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                const { assert!($least <= $default && $default <= $greatest, "the default lies in the range") };
                Self($default)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match Self::RANGE.unit {
                    Unit::Bytes => crate::config::byte_count::serialize_bytes(self.0 as u64, serializer),
                    Unit::Of(_) => serializer.serialize_u64(self.0 as u64),
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                const { assert!($greatest <= <$inner>::MAX as u64, "the range fits the type") };
                deserializer.deserialize_any(Self::RANGE).map(|value| Self(value as $inner))
            }
        }
    };
}

pub(super) use bounded;

#[cfg(test)]
mod tests {
    use super::*;

    bounded! {
        /// A number for the tests.
        Spoons(u8), 2..=12, Unit::Of("spoons"), default 6
    }

    #[test]
    fn a_number_outside_its_range_is_refused_with_both_ends_named() {
        assert_eq!(Spoons::new(12).map(Spoons::get), Ok(12));
        let refusal = Spoons::new(13).expect_err("13 lies outside").to_string();
        assert_eq!(
            refusal,
            "expected a whole number of spoons from 2 to 12, found 13"
        );
    }

    #[test]
    fn a_negative_number_and_a_text_are_refused_as_they_were_written() {
        #[derive(Debug, serde::Deserialize)]
        struct Drawer {
            #[expect(dead_code, reason = "only the refusal is looked at")]
            spoons: Spoons,
        }
        for (text, found) in [
            ("spoons = -1", "-1"),
            ("spoons = \"six\"", "\"six\""),
            ("spoons = 2.5", "2.5"),
        ] {
            let error = toml::from_str::<Drawer>(text)
                .expect_err("not a count of spoons")
                .to_string();
            assert!(error.contains(found) && error.contains("from 2 to 12"), "{error}");
        }
    }
}
