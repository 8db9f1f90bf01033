//! The addresses that clients connect to.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::{Serialize, Serializer};

/// Socket addresses to accept AMQP on: at least one, each once, in the order they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddresses(Vec<SocketAddr>);

impl ListenAddresses {
    /// The addresses.
    pub fn as_slice(&self) -> &[SocketAddr] {
        &self.0
    }

    /// Each address.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.0.iter().copied()
    }

    fn add(&mut self, address: SocketAddr) {
        if !self.0.contains(&address) {
            self.0.push(address);
        }
    }
}

impl Default for ListenAddresses {
    fn default() -> Self {
        Self(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5672))])
    }
}

impl Serialize for ListenAddresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ListenAddresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressVisitor)
    }
}

/// Reads one text of addresses with commas between, or a list of such texts.
struct AddressVisitor;

impl<'de> Visitor<'de> for AddressVisitor {
    type Value = ListenAddresses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IP addresses with ports, such as [\"127.0.0.1:5672\", \"[::1]:5672\"] (a host name is not looked up)")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ListenAddresses, E> {
        let mut addresses = ListenAddresses(Vec::new());
        for item in text.split(',') {
            addresses.add(
                item.trim()
                    .parse()
                    .map_err(|_| E::invalid_value(Unexpected::Str(item), &self))?,
            );
        }
        Ok(addresses)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ListenAddresses, A::Error> {
        let mut addresses = ListenAddresses(Vec::new());
        while let Some(text) = items.next_element::<String>()? {
            AddressVisitor
                .visit_str::<A::Error>(&text)?
                .0
                .into_iter()
                .for_each(|address| addresses.add(address));
        }
        match addresses.0.is_empty() {
            true => Err(A::Error::invalid_value(Unexpected::Other("an empty list"), &self)),
            false => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Settings {
        listen: ListenAddresses,
    }

    fn read(text: &str) -> Result<Vec<String>, String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Ok(settings
            .listen
            .as_slice()
            .iter()
            .map(SocketAddr::to_string)
            .collect())
    }

    #[test]
    fn addresses_come_as_a_text_or_as_a_list() {
        let two = Ok(vec!["127.0.0.1:5672".to_owned(), "[::1]:5673".to_owned()]);
        assert_eq!(read("listen = '127.0.0.1:5672, [::1]:5673'"), two);
        assert_eq!(
            read("listen = ['127.0.0.1:5672', '[::1]:5673', '127.0.0.1:5672']"),
            two
        );
    }

    #[test]
    fn a_host_name_a_missing_port_and_an_empty_list_are_refused() {
        for text in [
            "listen = 'localhost:5672'",
            "listen = '127.0.0.1'",
            "listen = []",
            "listen = 5672",
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains("IP addresses with ports"), "{error}");
        }
    }
}
