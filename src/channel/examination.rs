//! `Examination`: what the properties of a message ask of the broker, judged as RabbitMQ judges them when it is published:
//! the user it says it is from, how long it may live, where else it goes (`CC` and `BCC`), and whether its replies go
//! straight to its channel.
//!
//! Most messages ask for nothing of that, which [`must_be_examined`] tells when properties are first seen.

use super::reply_to::is_reply_queue;
use crate::model::{FieldTableRef, FieldValue, Refusal, ReplyCode};
use crate::protocol::properties::{Properties, PropertiesBuilder};

/// Headers with routing keys besides the message's own.
const CC: &[u8] = b"CC";
/// The same, of which receivers hear nothing.
const BCC: &[u8] = b"BCC";
/// Longest time to live: ten years, as everywhere in RabbitMQ.
const EXPIRATION_MILLISECONDS_MAX: u128 = 315_360_000_000;

/// What a publish asks for besides its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined<'a> {
    /// Routing keys of `CC` and `BCC`.
    pub further_keys: Vec<&'a [u8]>,
    /// The properties that its receivers see, if these are others: without `BCC`, and with the address for replies.
    pub rewritten: Option<Vec<u8>>,
}

/// Whether a message with these checked properties must be examined before it is routed.
pub fn must_be_examined(properties: Properties<'_>) -> bool {
    properties.reply_to().is_some_and(is_reply_queue)
        || properties.user_id().is_some()
        || properties.expiration().is_some()
        || !matches!(properties.delivery_mode(), None | Some(1 | 2))
        || properties
            .headers()
            .is_some_and(|headers| headers.get(CC).is_some() || headers.get(BCC).is_some())
}

/// Judges checked properties of a message that `user` publishes on a channel that gets replies at `reply_address`.
///
/// # Errors
/// 406, which closes the channel: replies for a channel that has no consumer of them, another user's `user-id`, an `expiration` that is no time, a delivery mode or a `CC` that
/// is none.
pub fn examine<'a>(
    properties: Properties<'a>,
    user: &[u8],
    reply_address: Option<&[u8]>,
) -> Result<Examined<'a>, Refusal> {
    let reply_to = answered_at(properties, reply_address)?;
    check_user(properties, user)?;
    if let Some(expiration) = properties.expiration() {
        check_expiration(expiration)?;
    }
    if let Some(mode @ (0 | 3..)) = properties.delivery_mode() {
        return Err(refused(format!(
            "invalid message: {{delivery_mode_unknown,{mode}}}"
        )));
    }
    let headers = properties.headers().unwrap_or_default();
    let mut further_keys = keys_of(headers, CC, "CC")?;
    further_keys.extend(keys_of(headers, BCC, "BCC")?);
    let is_rewritten = headers.get(BCC).is_some() || reply_to != properties.reply_to();
    Ok(Examined {
        further_keys,
        rewritten: is_rewritten.then(|| rewrite(properties, reply_to)),
    })
}

/// The `reply-to` that receivers see.
fn answered_at<'a>(
    properties: Properties<'a>,
    reply_address: Option<&'a [u8]>,
) -> Result<Option<&'a [u8]>, Refusal> {
    match (properties.reply_to(), reply_address) {
        (Some(name), None) if is_reply_queue(name) => {
            Err(refused("fast reply consumer does not exist".to_owned()))
        }
        (Some(name), Some(address)) if is_reply_queue(name) => Ok(Some(address)),
        (reply_to, _) => Ok(reply_to),
    }
}

fn check_user(properties: Properties<'_>, user: &[u8]) -> Result<(), Refusal> {
    match properties.user_id() {
        Some(claimed) if claimed != user => Err(refused(format!(
            "user_id property set to '{}' but authenticated user was '{}'",
            String::from_utf8_lossy(claimed),
            String::from_utf8_lossy(user)
        ))),
        _ => Ok(()),
    }
}

/// Milliseconds in decimal digits; what else is there is called by Erlang's names.
fn check_expiration(expiration: &[u8]) -> Result<(), Refusal> {
    let text = String::from_utf8_lossy(expiration);
    let digits_begin = usize::from(text.starts_with(['+', '-']));
    let digits_end = text[digits_begin..]
        .find(|character: char| !character.is_ascii_digit())
        .map_or(text.len(), |length| digits_begin + length);
    let invalid = |term: String| Err(refused(format!("invalid expiration '{text}': {term}")));
    if digits_end == digits_begin {
        return invalid("no_integer".to_owned());
    }
    if digits_end < text.len() {
        return invalid(format!("{{leftover_string,\"{}\"}}", &text[digits_end..]));
    }
    // A shortstr of digits can be beyond any integer here, and is too large in any case.
    let digits = text[digits_begin..].trim_start_matches('0');
    let is_negative = text.starts_with('-') && !digits.is_empty();
    if is_negative {
        return invalid(format!("{{value_negative,-{digits}}}"));
    }
    let is_too_large = digits.len() > 38
        || digits
            .parse::<u128>()
            .is_ok_and(|value| value > EXPIRATION_MILLISECONDS_MAX);
    match is_too_large {
        true => invalid(format!("{{value_too_large,{digits}}}")),
        false => Ok(()),
    }
}

/// The routing keys that a message's `CC` names, were it published again.
pub fn copy_keys(properties: Properties<'_>) -> Vec<Vec<u8>> {
    let keys = properties
        .headers()
        .and_then(|headers| keys_of(headers, CC, "CC").ok());
    keys.unwrap_or_default().into_iter().map(<[u8]>::to_vec).collect()
}

/// The routing keys in a header: the long strings of an array; what else is in it is passed over.
fn keys_of<'a>(headers: FieldTableRef<'a>, header: &[u8], name: &str) -> Result<Vec<&'a [u8]>, Refusal> {
    match headers.get(header) {
        None => Ok(Vec::new()),
        Some(FieldValue::Array(items)) => Ok(items
            .iter()
            .map_while(Result::ok)
            .filter_map(|item| match item {
                FieldValue::LongString(key) => Some(key),
                _ => None,
            })
            .collect()),
        Some(other) => Err(refused(format!(
            "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
            other.rabbit_type_name()
        ))),
    }
}

/// The properties without `BCC`, and with this `reply-to`; every other byte as it came.
fn rewrite(properties: Properties<'_>, reply_to: Option<&[u8]>) -> Vec<u8> {
    let kept = properties.headers().map(without_bcc);
    let mut rewritten = Vec::new();
    PropertiesBuilder {
        headers: kept.as_deref().map(FieldTableRef),
        reply_to,
        ..PropertiesBuilder::from(properties)
    }
    .encode(&mut rewritten);
    rewritten
}

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

fn refused(text: String) -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;
    use crate::model::field_table::FieldArray;

    fn with(builder: PropertiesBuilder<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        builder.encode(&mut bytes);
        bytes
    }

    fn refusal_of(builder: PropertiesBuilder<'_>) -> String {
        let bytes = with(builder);
        let properties = Properties::new_checked(&bytes).expect("they are well formed");
        assert!(must_be_examined(properties));
        let refusal = examine(properties, b"guest", None).expect_err("they are refused");
        assert_eq!(refusal.code, ReplyCode::PreconditionFailed);
        refusal.explanation.to_string()
    }

    #[test]
    fn an_expiration_that_is_no_time_is_refused_with_rabbitmqs_terms() {
        let cases: [(&[u8], &str); 9] = [
            (b"abc", "'abc': no_integer"),
            (b"10s", "'10s': {leftover_string,\"s\"}"),
            (b"-1", "'-1': {value_negative,-1}"),
            (b"", "'': no_integer"),
            (b"1.5", "'1.5': {leftover_string,\".5\"}"),
            (b" 5", "' 5': no_integer"),
            (b"0x10", "'0x10': {leftover_string,\"x10\"}"),
            (b"315360000001", "'315360000001': {value_too_large,315360000001}"),
            (b"-", "'-': no_integer"),
        ];
        for (expiration, term) in cases {
            let builder = PropertiesBuilder {
                expiration: Some(expiration),
                ..Default::default()
            };
            assert_eq!(refusal_of(builder), format!("invalid expiration {term}"));
        }
        for fine in [b"0".as_slice(), b"+5", b"-0", b"007", b"315360000000"] {
            assert_eq!(check_expiration(fine), Ok(()));
        }
    }

    #[test]
    fn only_the_user_who_publishes_may_be_named() {
        let claims = |user_id| PropertiesBuilder {
            user_id: Some(user_id),
            ..Default::default()
        };
        for (claimed, shown) in [(b"nobody".as_slice(), "nobody"), (b"", "")] {
            assert_eq!(
                refusal_of(claims(claimed)),
                format!("user_id property set to '{shown}' but authenticated user was 'guest'")
            );
        }
        let bytes = with(claims(b"guest"));
        assert_eq!(
            examine(Properties::trusted(&bytes), b"guest", None),
            Ok(Examined::default())
        );
    }

    #[test]
    fn keys_of_both_headers_are_found_and_bcc_is_taken_out() {
        let array = |keys: &[&str]| {
            let keys = keys.iter().map(|key| FieldValue::LongString(key.as_bytes()));
            keys.fold(FieldArray::new(), FieldArray::with)
        };
        let (cc, bcc) = (array(&["one", "two"]), array(&["three"]));
        let headers = FieldTable::builder()
            .value(b"CC", FieldValue::Array(cc.as_ref()))
            .value(b"BCC", FieldValue::Array(bcc.as_ref()))
            .value(b"other", FieldValue::Int32(1))
            .build();
        let bytes = with(PropertiesBuilder {
            headers: Some(headers.as_ref()),
            app_id: Some(b"app"),
            ..Default::default()
        });
        let examined = examine(Properties::trusted(&bytes), b"guest", None).expect("it is fine");
        assert_eq!(examined.further_keys, [b"one".as_slice(), b"two", b"three"]);
        let stripped = examined.rewritten.expect("there was a BCC");
        let stripped = Properties::new_checked(&stripped).expect("it is well formed");
        let headers = stripped.headers().expect("there are others");
        assert!(headers.get(b"BCC").is_none() && headers.get(b"CC").is_some());
        assert_eq!(headers.get(b"other"), Some(FieldValue::Int32(1)));
        assert_eq!(stripped.app_id(), Some(b"app".as_slice()));
    }

    #[test]
    fn a_header_of_keys_that_is_no_array_is_refused() {
        let headers = FieldTable::builder().value(b"BCC", FieldValue::Int32(1)).build();
        let builder = PropertiesBuilder {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        assert_eq!(
            refusal_of(builder),
            "invalid message: {unacceptable_type_in_header,\"BCC\",signedint}"
        );
    }

    #[test]
    fn a_delivery_mode_is_one_or_two() {
        let builder = PropertiesBuilder {
            delivery_mode: Some(7),
            ..Default::default()
        };
        assert_eq!(refusal_of(builder), "invalid message: {delivery_mode_unknown,7}");
    }

    #[test]
    fn replies_go_to_the_channels_own_address_if_it_has_one() {
        let asks = |reply_to: &'static [u8]| {
            with(PropertiesBuilder {
                reply_to: Some(reply_to),
                message_id: Some(b"id"),
                ..Default::default()
            })
        };
        for name in [b"amq.rabbitmq.reply-to".as_slice(), b"amq.direct.reply-to"] {
            let bytes = asks(name);
            let properties = Properties::new_checked(&bytes).expect("they are well formed");
            assert!(must_be_examined(properties));
            assert_eq!(
                examine(properties, b"guest", None)
                    .expect_err("nobody is there")
                    .reply_text(),
                "PRECONDITION_FAILED - fast reply consumer does not exist"
            );
            let examined = examine(properties, b"guest", Some(b"address")).expect("it is fine");
            assert_eq!(examined.rewritten, Some(asks(b"address")));
        }
        let bytes = asks(b"amq.rabbitmq.reply-to.address");
        assert!(
            !must_be_examined(Properties::trusted(&bytes)),
            "an address is passed on"
        );
    }

    #[test]
    fn a_message_that_asks_for_nothing_need_not_be_examined() {
        for bytes in [
            with(PropertiesBuilder::default()),
            with(PropertiesBuilder {
                delivery_mode: Some(2),
                reply_to: Some(b"me"),
                ..Default::default()
            }),
        ] {
            assert!(!must_be_examined(Properties::trusted(&bytes)));
        }
    }
}
