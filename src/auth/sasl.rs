//! SASL mechanisms: from the bytes of connection.start-ok to a name and a password.

use std::fmt;

use crate::model::{FieldTableRef, FieldValue, Refusal, ReplyCode, ShortString};

/// A SASL mechanism that connection.start offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616: authorisation identity, NUL, name, NUL, password; the first is left empty.
    Plain,
    /// AMQP 0-8's own: a field table with LOGIN and PASSWORD, without its length.
    AmqPlain,
}

impl Mechanism {
    /// What connection.start lists, best first, with blanks between.
    pub const OFFERED: &'static str = "PLAIN AMQPLAIN";

    /// The mechanism a client named. Error: 503, with RabbitMQ's text.
    pub fn parse(name: &[u8]) -> Result<Self, Refusal> {
        match name {
            b"PLAIN" => Ok(Mechanism::Plain),
            b"AMQPLAIN" => Ok(Mechanism::AmqPlain),
            _ => {
                let name = String::from_utf8_lossy(name);
                let explanation = format!("unknown authentication mechanism '{name}'");
                Err(Refusal::new(ReplyCode::CommandInvalid, explanation))
            }
        }
    }

    /// Its registered name.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::AmqPlain => "AMQPLAIN",
        }
    }

    /// What the response of connection.start-ok holds.
    pub fn decode(self, response: &[u8]) -> Result<Credentials, SaslError> {
        match self {
            Mechanism::Plain => decode_plain(response),
            Mechanism::AmqPlain => decode_amqplain(response),
        }
    }
}

/// What a client claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: ShortString,
    /// The password.
    pub password: Password,
}

/// A password, which is never printed; only its digest is kept and compared.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// The password made of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Its bytes, for a digest.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A response that its mechanism does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// A PLAIN response without its two NUL bytes, or with more.
    #[error("PLAIN response invalid: expected NUL, user, NUL, password")]
    PlainForm,
    /// An AMQPLAIN response that is not a field table.
    #[error("AMQPLAIN auth info is not a field table")]
    NotTable,
    /// A field is missing.
    #[error("AMQPLAIN auth info is missing LOGIN or PASSWORD field")]
    FieldMissing,
    /// A field is no string.
    #[error("AMQPLAIN auth info uses unsupported type for LOGIN or PASSWORD field")]
    FieldType,
    /// A user's name above 255 bytes.
    #[error("user name of {length} bytes, expected at most 255")]
    NameLength {
        /// Bytes of the name.
        length: usize,
    },
}

impl SaslError {
    /// 502, which closes the connection. RabbitMQ prints the response into the text; we do not, since it holds a
    /// password.
    pub fn refusal(self) -> Refusal {
        Refusal::new(ReplyCode::SyntaxError, self.to_string())
    }
}

/// Name and password of a PLAIN response (RFC 4616). As in RabbitMQ the authorisation identity must be empty.
pub fn decode_plain(response: &[u8]) -> Result<Credentials, SaslError> {
    let claim = response.strip_prefix(b"\0").ok_or(SaslError::PlainForm)?;
    let mut parts = claim.split(|&byte| byte == 0);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(user), Some(password), None) => credentials(user, password),
        _ => Err(SaslError::PlainForm),
    }
}

/// Name and password of an AMQPLAIN response: the entries of a field table, without its length.
pub fn decode_amqplain(response: &[u8]) -> Result<Credentials, SaslError> {
    let table = FieldTableRef(response);
    table.validate().map_err(|_| SaslError::NotTable)?;
    let field = |name: &[u8]| match table.get(name) {
        Some(FieldValue::LongString(bytes)) => Ok(bytes),
        Some(_) => Err(SaslError::FieldType),
        None => Err(SaslError::FieldMissing),
    };
    credentials(field(b"LOGIN")?, field(b"PASSWORD")?)
}

fn credentials(user: &[u8], password: &[u8]) -> Result<Credentials, SaslError> {
    let user = ShortString::new(user).ok_or(SaslError::NameLength { length: user.len() })?;
    Ok(Credentials {
        user,
        password: Password::new(password),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(credentials: &Credentials) -> (&[u8], &[u8]) {
        (credentials.user.as_bytes(), &credentials.password.0)
    }

    /// A field table's entry with a long string.
    fn string_entry(name: &str, value: &str) -> Vec<u8> {
        let mut entry = vec![name.len() as u8];
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'S');
        entry.extend_from_slice(&(value.len() as u32).to_be_bytes());
        entry.extend_from_slice(value.as_bytes());
        entry
    }

    #[test]
    fn a_plain_response_holds_a_name_and_a_password() {
        let credentials = decode_plain(b"\0guest\0secret").expect("well formed");
        assert_eq!(parts(&credentials), (&b"guest"[..], &b"secret"[..]));
        assert_eq!(
            parts(&decode_plain(b"\0\0").expect("both empty")),
            (&b""[..], &b""[..])
        );
    }

    #[test]
    fn a_plain_response_of_another_form_is_refused_with_502() {
        for response in [
            &b""[..],
            b"guest\0secret",
            b"\0guest",
            b"\0guest\0secret\0",
            b"someone\0guest\0secret",
        ] {
            assert_eq!(decode_plain(response), Err(SaslError::PlainForm), "{response:?}");
        }
        let long = [b"\0".as_slice(), &[b'x'; 256], b"\0"].concat();
        assert_eq!(decode_plain(&long), Err(SaslError::NameLength { length: 256 }));
        assert_eq!(SaslError::PlainForm.refusal().code, ReplyCode::SyntaxError);
    }

    #[test]
    fn an_amqplain_response_is_a_table_without_its_length() {
        let response = [string_entry("LOGIN", "guest"), string_entry("PASSWORD", "secret")].concat();
        assert_eq!(
            parts(&decode_amqplain(&response).expect("well formed")),
            (&b"guest"[..], &b"secret"[..])
        );
    }

    #[test]
    fn an_amqplain_response_without_both_strings_is_refused() {
        let login = string_entry("LOGIN", "guest");
        assert_eq!(decode_amqplain(&login), Err(SaslError::FieldMissing));
        assert_eq!(
            decode_amqplain(&login[..login.len() - 1]),
            Err(SaslError::NotTable)
        );
        let boolean = [login, b"\x08PASSWORDt\x01".to_vec()].concat();
        assert_eq!(decode_amqplain(&boolean), Err(SaslError::FieldType));
    }

    #[test]
    fn an_unknown_mechanism_is_refused_as_rabbitmq_does() {
        let refusal = Mechanism::parse(b"EXTERNAL").expect_err("not offered");
        assert_eq!(
            refusal.to_string(),
            "503 COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'"
        );
        for name in Mechanism::OFFERED.split(' ') {
            assert_eq!(Mechanism::parse(name.as_bytes()).map(Mechanism::name), Ok(name));
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let credentials = decode_plain(b"\0guest\0secret").expect("well formed");
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn no_response_makes_a_decoder_panic(response in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_plain(&response);
            let _ = decode_amqplain(&response);
        }
    }
}
