//! `Examination`: what the properties of a message ask of the broker, judged as RabbitMQ judges them when it is published:
//! the user it says it is from, how long it may live, where else it goes (`CC` and `BCC`), and whether its replies go
//! straight to its channel.
//!
//! Most messages ask for nothing of that, which [`must_be_examined`] tells when properties are first seen.

use super::reply_to::is_reply_queue;
use crate::model::{FieldTableRef, FieldValue, Refusal, ReplyCode};
use crate::protocol::blind_copies::BCC;
use crate::protocol::properties::{Properties, PropertiesBuilder};

/// Headers with routing keys besides the message's own.
const CC: &[u8] = b"CC";
/// Longest time to live: ten years, as everywhere in RabbitMQ.
const EXPIRATION_MILLISECONDS_MAX: u128 = 315_360_000_000;

/// What a publish asks for besides its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined<'a> {
    /// Routing keys of `CC` and `BCC`.
    pub further_keys: Vec<&'a [u8]>,
    /// The properties it is stored with, if these are others: marked as with `BCC`, and with the address for replies.
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

/// Who publishes a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publisher<'a> {
    /// The user's name.
    pub user: &'a [u8],
    /// Whether a message may say that it is another user's: the user has RabbitMQ's tag `impersonator`.
    pub is_impersonator: bool,
    /// Where the channel gets replies, if it has a consumer of them.
    pub reply_address: Option<&'a [u8]>,
}

/// Judges checked properties of a message that `publisher` publishes.
///
/// # Errors
/// 406, which closes the channel: replies for a channel that has no consumer of them, another user's `user-id`, an `expiration` that is no time, a delivery mode or a `CC` that
/// is none.
pub fn examine<'a>(properties: Properties<'a>, publisher: Publisher<'_>) -> Result<Examined<'a>, Refusal> {
    let reply_to = answered_at(properties, publisher.reply_address)?;
    if !publisher.is_impersonator {
        check_user(properties, publisher.user)?;
    }
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

/// The routing keys that the `CC` of a stored message names, and its `BCC`, were it published again.
pub fn copy_keys(properties: Properties<'_>) -> Vec<Vec<u8>> {
    let headers = properties.headers().unwrap_or_default();
    let mut keys = keys_of(headers, CC, "CC").unwrap_or_default();
    if properties.is_marked_blind() {
        keys.extend(keys_of(headers, BCC, "BCC").unwrap_or_default());
    }
    keys.into_iter().map(<[u8]>::to_vec).collect()
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

/// The properties with this `reply-to`, and marked if they have `BCC`.
fn rewrite(properties: Properties<'_>, reply_to: Option<&[u8]>) -> Vec<u8> {
    let headers = properties.headers();
    let mut rewritten = Vec::new();
    PropertiesBuilder {
        reply_to,
        is_marked_blind: headers.is_some_and(|headers| headers.get(BCC).is_some()),
        ..PropertiesBuilder::from(properties)
    }
    .encode(&mut rewritten);
    rewritten
}

fn refused(text: String) -> Refusal {
    Refusal::new(ReplyCode::PreconditionFailed, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldTable;
    use crate::model::field_table::FieldArray;
    use crate::protocol::blind_copies::visible;

    const GUEST: Publisher<'_> = Publisher {
        user: b"guest",
        is_impersonator: false,
        reply_address: None,
    };

    fn with(builder: PropertiesBuilder<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        builder.encode(&mut bytes);
        bytes
    }

    fn refusal_of(builder: PropertiesBuilder<'_>) -> String {
        let bytes = with(builder);
        let properties = Properties::new_checked(&bytes).expect("they are well formed");
        assert!(must_be_examined(properties));
        let refusal = examine(properties, GUEST).expect_err("they are refused");
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
            examine(Properties::trusted(&bytes), GUEST),
            Ok(Examined::default())
        );
        let bytes = with(claims(b"nobody"));
        let impersonator = Publisher {
            is_impersonator: true,
            ..GUEST
        };
        assert!(examine(Properties::trusted(&bytes), impersonator).is_ok());
    }

    #[test]
    fn keys_of_both_headers_are_found_and_clients_do_not_see_bcc() {
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
        let examined = examine(Properties::trusted(&bytes), GUEST).expect("it is fine");
        assert_eq!(examined.further_keys, [b"one".as_slice(), b"two", b"three"]);
        let stored = examined.rewritten.expect("there was a BCC");
        let stored = Properties::new_checked(&stored).expect("it is well formed");
        assert_eq!(copy_keys(stored), [b"one".as_slice(), b"two", b"three"]);
        let shown = visible(stored.as_bytes());
        let shown = Properties::new_checked(&shown).expect("it is well formed");
        assert_eq!(copy_keys(shown), [b"one".as_slice(), b"two"]);
        let headers = shown.headers().expect("there are others");
        assert!(headers.get(b"BCC").is_none() && headers.get(b"CC").is_some());
        assert_eq!(headers.get(b"other"), Some(FieldValue::Int32(1)));
        assert_eq!(shown.app_id(), Some(b"app".as_slice()));
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
                examine(properties, GUEST)
                    .expect_err("nobody is there")
                    .reply_text(),
                "PRECONDITION_FAILED - fast reply consumer does not exist"
            );
            let replied_to = Publisher {
                reply_address: Some(b"address"),
                ..GUEST
            };
            let examined = examine(properties, replied_to).expect("it is fine");
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
