//! `AmqpUri`: where the broker is and who we are, from `amqp://user:password@host:port/vhost`.

use thiserror::Error;

/// A parsed `amqp://` URI; missing parts have RabbitMQ's defaults (guest, guest, 127.0.0.1, 5672, `/`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpUri {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
    /// Host name or address, without the brackets of an IPv6 address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
}

/// Why a URI cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("uri {uri:?}: {reason}; write amqp://user:password@host:port/vhost")]
pub struct UriError {
    uri: String,
    reason: &'static str,
}

impl AmqpUri {
    /// Parses `text`; user, password and vhost may be percent-encoded (RabbitMQ URI specification).
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let refuse = |reason| UriError {
            uri: text.to_owned(),
            reason,
        };
        let rest = text
            .strip_prefix("amqp://")
            .ok_or_else(|| refuse("only amqp:// is spoken, no TLS"))?;
        let rest = rest.split(['?', '#']).next().unwrap_or(rest);
        let (authority, vhost) = rest
            .split_once('/')
            .map_or((rest, None), |(left, right)| (left, Some(right)));
        let (login, address) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(l, a)| (Some(l), a));
        let (user, password) = login.map_or(("guest", "guest"), |login| {
            login.split_once(':').unwrap_or((login, ""))
        });
        let (host, port) = split_address(address).ok_or_else(|| refuse("the port is not a number"))?;
        let decode =
            |part: &str| percent_decoded(part).ok_or_else(|| refuse("a percent sign needs two hex digits"));
        Ok(Self {
            user: decode(user)?,
            password: decode(password)?,
            host: host.to_owned(),
            port,
            vhost: vhost.map_or(Ok("/".to_owned()), |vhost| {
                if vhost.is_empty() {
                    Ok("/".to_owned())
                } else {
                    decode(vhost)
                }
            })?,
        })
    }
}

fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => address.find(':').map_or((address, ""), |at| address.split_at(at)),
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    match port.strip_prefix(':') {
        Some(port) => Some((host, port.parse().ok()?)),
        None => Some((host, 5672)),
    }
}

fn percent_decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_have_defaults() {
        let uri = AmqpUri::parse("amqp://").expect("it is valid");
        assert_eq!(
            (uri.user.as_str(), uri.host.as_str(), uri.port, uri.vhost.as_str()),
            ("guest", "127.0.0.1", 5672, "/")
        );
    }

    #[test]
    fn every_part_is_taken() {
        let uri = AmqpUri::parse("amqp://me:p%40ss@[::1]:5673/a%2Fb").expect("it is valid");
        assert_eq!((uri.user.as_str(), uri.password.as_str()), ("me", "p@ss"));
        assert_eq!(
            (uri.host.as_str(), uri.port, uri.vhost.as_str()),
            ("::1", 5673, "a/b")
        );
    }

    #[test]
    fn what_cannot_be_spoken_is_refused() {
        for text in [
            "amqps://host",
            "host:5672",
            "amqp://host:port",
            "amqp://a%2:b@host",
        ] {
            assert!(AmqpUri::parse(text).is_err(), "{text}");
        }
    }
}
