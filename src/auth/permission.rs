//! Permissions: which names a user may configure, write to and read from in a vhost, and which topics.

use crate::model::{Pattern, PatternError, Refusal, ReplyCode, ShortString};

/// What a user wants with a queue or an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Declare or delete it.
    Configure,
    /// Put messages into it, or bind a queue.
    Write,
    /// Take messages from it, or bind to an exchange.
    Read,
}

/// What access is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A queue.
    Queue(&'a [u8]),
    /// An exchange; the default exchange goes by the name `amq.default`.
    Exchange(&'a [u8]),
}

impl<'a> Resource<'a> {
    fn name(self) -> &'a [u8] {
        match self {
            Resource::Exchange(b"") => b"amq.default",
            Resource::Queue(name) | Resource::Exchange(name) => name,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Resource::Queue(_) => "queue",
            Resource::Exchange(_) => "exchange",
        }
    }
}

/// A user's permissions in a vhost: patterns of the names of queues and exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// What may be declared and deleted.
    pub configure: Pattern,
    /// What may be written to.
    pub write: Pattern,
    /// What may be read from.
    pub read: Pattern,
}

impl Permissions {
    /// Those for every name.
    pub fn all() -> Self {
        let any = || Pattern::new(".*").expect("a pattern");
        Self {
            configure: any(),
            write: any(),
            read: any(),
        }
    }

    /// Whether they allow `access` to `resource`.
    pub fn allow(&self, access: Access, resource: Resource<'_>) -> bool {
        let pattern = match access {
            Access::Configure => &self.configure,
            Access::Write => &self.write,
            Access::Read => &self.read,
        };
        pattern.matches(resource.name())
    }
}

/// A user's permissions for the routing keys of a topic exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermissions {
    /// Keys that may be published with, as written: `{username}` and `{vhost}` stand for the user's and the vhost's name.
    pub write: String,
    /// Keys that may be bound with, likewise.
    pub read: String,
}

/// Topic permissions with the names put in and compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPatterns {
    /// Where they come from.
    pub permissions: TopicPermissions,
    write: Pattern,
    read: Pattern,
}

impl TopicPatterns {
    /// `permissions` for this user in this vhost; the first pattern that is none, with its name.
    pub fn new(
        permissions: TopicPermissions,
        user: &ShortString,
        vhost: &ShortString,
    ) -> Result<Self, (&'static str, PatternError)> {
        let compiled =
            |name, text: &str| access_pattern(&with_names(text, user, vhost)).map_err(|error| (name, error));
        Ok(Self {
            write: compiled("write", &permissions.write)?,
            read: compiled("read", &permissions.read)?,
            permissions,
        })
    }

    /// Whether they allow `access` with `routing_key`.
    pub fn allow(&self, access: Access, routing_key: &[u8]) -> bool {
        match access {
            Access::Read => self.read.matches(routing_key),
            Access::Write | Access::Configure => self.write.matches(routing_key),
        }
    }
}

/// A pattern of a permission: an empty one allows nothing.
pub fn access_pattern(text: &str) -> Result<Pattern, PatternError> {
    Pattern::new(if text.is_empty() { "^$" } else { text })
}

/// `text` with the names for their variables; their signs stand for themselves. `{client_id}` is MQTT's and stays.
fn with_names(text: &str, user: &ShortString, vhost: &ShortString) -> String {
    text.replace("{username}", &literal(user))
        .replace("{vhost}", &literal(vhost))
}

/// A pattern that matches the name and nothing else.
fn literal(name: &ShortString) -> String {
    let is_sign = |letter: &char| letter.is_ascii_punctuation() && !matches!(letter, '<' | '>');
    let name = name.to_string();
    let letters = name
        .chars()
        .flat_map(|letter| is_sign(&letter).then_some('\\').into_iter().chain([letter]));
    letters.collect()
}

/// 403: RabbitMQ 3.10's text.
pub(super) fn access_refused(resource: Resource<'_>, vhost: &[u8], user: &ShortString) -> Refusal {
    let (noun, name) = (resource.noun(), String::from_utf8_lossy(resource.name()));
    let vhost = String::from_utf8_lossy(vhost);
    let text = format!("access to {noun} '{name}' in vhost '{vhost}' refused for user '{user}'");
    Refusal::new(ReplyCode::AccessRefused, text)
}

/// 403: RabbitMQ 3.10's text.
pub(super) fn topic_refused(key: &[u8], exchange: &[u8], vhost: &[u8], user: &ShortString) -> Refusal {
    let [key, exchange, vhost] = [key, exchange, vhost].map(String::from_utf8_lossy);
    let text = format!(
        "access to topic '{key}' in exchange '{exchange}' in vhost '{vhost}' refused for user '{user}'"
    );
    Refusal::new(ReplyCode::AccessRefused, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pattern_allows_nothing_and_others_match_anywhere() {
        let permissions = Permissions {
            configure: access_pattern("").expect("valid"),
            write: access_pattern("orders").expect("valid"),
            read: access_pattern("^amq\\.default$").expect("valid"),
        };
        assert!(!permissions.allow(Access::Configure, Resource::Queue(b"q")));
        assert!(permissions.allow(Access::Write, Resource::Queue(b"eu.orders")));
        assert!(permissions.allow(Access::Read, Resource::Exchange(b"")));
        assert!(!permissions.allow(Access::Read, Resource::Queue(b"")));
    }

    #[test]
    fn names_stand_for_themselves_in_topics() {
        let permissions = TopicPermissions {
            write: "^{username}-{vhost}\\.".to_owned(),
            read: "^{client_id}".to_owned(),
        };
        let (user, vhost) = (ShortString::from("a.b"), ShortString::from("/"));
        let patterns = TopicPatterns::new(permissions, &user, &vhost).expect("valid");
        assert!(patterns.allow(Access::Write, b"a.b-/.x") && !patterns.allow(Access::Write, b"aXb-/.x"));
        assert!(patterns.allow(Access::Read, b"{client_id}") && !patterns.allow(Access::Read, b"x"));
    }
}
