//! The header `x-delivery-count` of a quorum queue's deliveries: how often the message came back before. A first delivery
//! goes without, what basic.get brings always has it, as in RabbitMQ.

use crate::model::{Content, FieldTable};
use crate::protocol::properties::{Properties, PropertiesBuilder};

const DELIVERY_COUNT: &[u8] = b"x-delivery-count";

/// Properties of a message that came back `count` times.
pub(super) fn counted(properties: &[u8], count: u16) -> Vec<u8> {
    let properties = Properties::trusted(properties);
    let headers = properties.headers().unwrap_or_default();
    let others = headers
        .iter()
        .map_while(Result::ok)
        .filter(|(name, _)| *name != DELIVERY_COUNT);
    let headers = others
        .fold(FieldTable::builder(), |table, (name, value)| {
            table.value(name, value)
        })
        .long(DELIVERY_COUNT, i64::from(count))
        .build();
    let mut counted = Vec::new();
    PropertiesBuilder {
        headers: Some(headers.as_ref()),
        ..PropertiesBuilder::from(properties)
    }
    .encode(&mut counted);
    counted
}

/// An encoded message that came back `count` times, with the header that says so.
pub(super) fn counted_content(bytes: &[u8], count: u16) -> Vec<u8> {
    let content = super::dispatch::whole(bytes);
    let properties = counted(content.properties, count);
    let mut counted = Vec::new();
    Content {
        properties: &properties,
        ..content
    }
    .encode(&mut counted);
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_takes_the_place_of_an_older_one_and_leaves_the_rest() {
        let headers = FieldTable::builder()
            .long("x-delivery-count", 7)
            .string("mine", "kept")
            .build();
        let mut properties = Vec::new();
        PropertiesBuilder {
            headers: Some(headers.as_ref()),
            app_id: Some(b"app"),
            ..PropertiesBuilder::default()
        }
        .encode(&mut properties);
        let counted = counted(&properties, 2);
        let counted = Properties::new_checked(&counted).expect("they are well formed");
        let expected = FieldTable::builder()
            .string("mine", "kept")
            .long("x-delivery-count", 2)
            .build();
        assert_eq!(counted.headers(), Some(expected.as_ref()));
        assert_eq!(counted.app_id(), Some(&b"app"[..]));
    }
}
