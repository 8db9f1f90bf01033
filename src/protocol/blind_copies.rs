//! Blind copies: the routing keys in a message's header `BCC`, which lead it but which no receiver sees.
//!
//! The header stays with a stored message, so that a dead letter or a delayed message goes where its blind copies go.
//! Such properties are marked by the one flag that AMQP leaves without a meaning, and whatever is written for a client
//! goes without the header and the mark. A client that sets the flag itself gains nothing: the broker believes a mark
//! only of properties that it has examined, and drops it on the way out.

use crate::model::FieldTableRef;
use crate::protocol::properties::{Properties, PropertiesBuilder};
use std::borrow::Cow;

/// Header with the routing keys.
pub const BCC: &[u8] = b"BCC";

/// The properties as clients may see them.
#[inline]
pub fn visible(properties: &[u8]) -> Cow<'_, [u8]> {
    match Properties::trusted(properties).is_marked_blind() {
        false => Cow::Borrowed(properties),
        true => Cow::Owned(without_blind_copies(properties)),
    }
}

#[cold]
#[inline(never)]
fn without_blind_copies(properties: &[u8]) -> Vec<u8> {
    let properties = Properties::trusted(properties);
    let kept = properties.headers().map(without_bcc);
    let mut visible = Vec::new();
    PropertiesBuilder {
        headers: kept.as_deref().map(FieldTableRef),
        is_marked_blind: false,
        ..PropertiesBuilder::from(properties)
    }
    .encode(&mut visible);
    visible
}

/// The table without `BCC`; every other byte as it came.
fn without_bcc(headers: FieldTableRef<'_>) -> Vec<u8> {
    let bytes = headers.as_bytes();
    let begin_of = |name: &[u8]| name.as_ptr() as usize - bytes.as_ptr() as usize - 1;
    let entries: Vec<(usize, &[u8])> = headers
        .iter()
        .map_while(Result::ok)
        .map(|(name, _)| (begin_of(name), name))
        .collect();
    let ends = entries
        .iter()
        .skip(1)
        .map(|(begin, _)| *begin)
        .chain([bytes.len()]);
    entries
        .iter()
        .zip(ends)
        .filter(|((_, name), _)| *name != BCC)
        .flat_map(|((begin, _), end)| &bytes[*begin..end])
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;

    #[test]
    fn clients_see_neither_the_header_nor_the_mark() {
        let headers = FieldTable::builder()
            .string("one", "1")
            .string("BCC", "blind")
            .string("two", "2")
            .build();
        let mut marked = Vec::new();
        PropertiesBuilder {
            headers: Some(headers.as_ref()),
            priority: Some(3),
            is_marked_blind: true,
            ..Default::default()
        }
        .encode(&mut marked);
        let shown = visible(&marked);
        let shown = Properties::new_checked(&shown).expect("they are well formed");
        assert!(!shown.is_marked_blind());
        assert_eq!(shown.priority(), Some(3));
        let headers = shown.headers().expect("two are left");
        let names: Vec<&[u8]> = headers
            .iter()
            .map(|entry| entry.expect("it is well formed").0)
            .collect();
        assert_eq!(names, [&b"one"[..], b"two"]);
    }

    #[test]
    fn other_properties_are_not_copied() {
        assert!(matches!(visible(&[0x08, 0, 5]), Cow::Borrowed(_)));
        assert!(matches!(visible(&[]), Cow::Borrowed(_)));
    }
}
