//! Users, their permissions in vhosts, and for topics.

use super::entry::Entry;
use super::problem::Place;
use crate::auth::{
    HashAlgorithm, PasswordHash, Permissions, TopicPatterns, TopicPermissions, UserLimits, access_pattern,
};
use crate::model::{Pattern, ShortString};

/// How a password is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordDefinition {
    /// As a hash; an empty one lets nobody log in with a password.
    Hash(PasswordHash),
    /// As it is; whoever imports it makes a hash.
    Plain(crate::auth::Password, HashAlgorithm),
}

/// A user.
#[derive(Clone, Debug)]
pub struct UserDefinition {
    /// Where it stands.
    pub place: Place,
    /// The name.
    pub name: ShortString,
    /// The password.
    pub password: PasswordDefinition,
    /// The tags.
    pub tags: Vec<ShortString>,
    /// What bounds the user.
    pub limits: UserLimits,
}

/// A user's permissions in a vhost.
#[derive(Clone, Debug)]
pub struct PermissionDefinition {
    /// Where it stands.
    pub place: Place,
    /// The user.
    pub user: ShortString,
    /// The vhost.
    pub vhost: ShortString,
    /// The permissions.
    pub permissions: Permissions,
}

/// A user's permissions for the keys of a topic exchange.
#[derive(Clone, Debug)]
pub struct TopicPermissionDefinition {
    /// Where it stands.
    pub place: Place,
    /// The user.
    pub user: ShortString,
    /// The vhost.
    pub vhost: ShortString,
    /// The exchange.
    pub exchange: ShortString,
    /// The permissions.
    pub patterns: TopicPatterns,
}

const PATTERN_FIX: &str = "write a regular expression that an automaton can match";

pub(super) fn user(entry: &mut Entry<'_>) -> Option<UserDefinition> {
    entry.know(&[
        "name",
        "password_hash",
        "password",
        "hashing_algorithm",
        "tags",
        "limits",
    ]);
    let (name, password) = (entry.name("name"), password(entry));
    let (tags, limits) = (
        entry.tags("tags"),
        entry.limits("limits", ["max-connections", "max-channels"]),
    );
    let [max_connections, max_channels] = limits?;
    Some(UserDefinition {
        place: entry.place.clone(),
        name: name?,
        password: password?,
        tags: tags?,
        limits: UserLimits {
            max_connections,
            max_channels,
        },
    })
}

fn password(entry: &mut Entry<'_>) -> Option<PasswordDefinition> {
    let algorithm = algorithm(entry)?;
    if entry.get("password_hash").is_none()
        && let Some(password) = entry.optional_text("password")
    {
        let password = crate::auth::Password::new(password.as_bytes());
        return Some(PasswordDefinition::Plain(password, algorithm));
    }
    let text = entry.text("password_hash")?;
    match PasswordHash::from_base64(algorithm, text) {
        Ok(hash) => Some(PasswordDefinition::Hash(hash)),
        // The hash itself stays out of logs.
        Err(error) => {
            let fix = "take the hash that RabbitMQ exports, with its hashing_algorithm";
            entry.refuse_with(
                Some("password_hash"),
                format!("expected a hash in base64, found {error}"),
                fix,
            );
            None
        }
    }
}

fn algorithm(entry: &mut Entry<'_>) -> Option<HashAlgorithm> {
    let Some(value) = entry.get("hashing_algorithm") else {
        return Some(HashAlgorithm::Sha256);
    };
    let algorithm = value.as_str().and_then(HashAlgorithm::parse);
    if algorithm.is_none() {
        let names: Vec<_> = HashAlgorithm::ALL.iter().map(|(_, name)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        let fix = "set the user's password anew with one of these";
        entry.refuse(Some("hashing_algorithm"), &expected, value, fix);
    }
    algorithm
}

pub(super) fn permission(entry: &mut Entry<'_>) -> Option<PermissionDefinition> {
    entry.know(&["user", "vhost", "configure", "write", "read"]);
    let (user, vhost) = (entry.name("user"), entry.name("vhost"));
    let [configure, write, read] = ["configure", "write", "read"].map(|field| pattern(entry, field));
    Some(PermissionDefinition {
        place: entry.place.clone(),
        user: user?,
        vhost: vhost?,
        permissions: Permissions {
            configure: configure?,
            write: write?,
            read: read?,
        },
    })
}

fn pattern(entry: &mut Entry<'_>, field: &str) -> Option<Pattern> {
    let text = entry.text(field)?;
    match access_pattern(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let problem = format!("expected a regular expression, found {text:?}: {error}");
            entry.refuse_with(Some(field), problem, PATTERN_FIX);
            None
        }
    }
}

pub(super) fn topic_permission(entry: &mut Entry<'_>) -> Option<TopicPermissionDefinition> {
    entry.know(&["user", "vhost", "exchange", "write", "read"]);
    let (user, vhost, exchange) = (entry.name("user"), entry.name("vhost"), entry.name("exchange"));
    let (write, read) = (entry.text("write"), entry.text("read"));
    let (user, vhost, exchange) = (user?, vhost?, exchange?);
    let permissions = TopicPermissions {
        write: write?.to_owned(),
        read: read?.to_owned(),
    };
    match TopicPatterns::new(permissions, &user, &vhost) {
        Ok(patterns) => Some(TopicPermissionDefinition {
            place: entry.place.clone(),
            user,
            vhost,
            exchange,
            patterns,
        }),
        Err((field, error)) => {
            let problem = format!("expected a regular expression, found one that is none: {error}");
            entry.refuse_with(Some(field), problem, PATTERN_FIX);
            None
        }
    }
}
