//! `UserChange`: one step of who may do what, and its bytes in the log.
//!
//! ```text
//!  0      1      2
//!  ┌──────┬──────┬───────────┐      version 1
//!  │ v u8 │ k u8 │ fields ...│      all numbers big-endian
//!  └──────┴──────┴───────────┘
//!   k                             fields
//!  64  user set                   name · algorithm u8 · hash · tags · most connections i64 · most channels i64
//!  65  user deleted               name
//!  66  permissions set            user · vhost · configure · write · read
//!  67  permissions cleared        user · vhost
//!  68  topic permissions set      user · vhost · exchange · write · read
//!  69  topic permissions cleared  user · vhost · exchange
//!
//!  name, user, vhost, exchange   length u8, bytes
//!  configure, write, read        length u32, UTF-8
//!  hash                          length u32, bytes: salt and digest
//!  algorithm                     0 SHA-256, 1 SHA-512, 2 MD5
//!  tags                          count u16, each a name
//!  most ...                      -1 for no limit
//! ```
//!
//! The kinds begin above those of what is declared, whose records lie in the same log.

use crate::model::record_fields::{Fields, FieldsError, put_bytes, put_limit, put_name, put_names};
use crate::model::{Pattern, PatternError, ShortString};

use super::password::{HashAlgorithm, PasswordHash, PasswordHashError};
use super::permission::{Permissions, TopicPatterns, TopicPermissions};
use super::users::{UserLimits, UserUsage};

/// One change of who may do what, decided by the control shard and applied by every core in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// A user begins, or is another from now on; permissions stay.
    UserSet {
        /// The name.
        name: ShortString,
        /// What is kept of the password.
        password: PasswordHash,
        /// The tags.
        tags: Vec<ShortString>,
        /// What bounds the user.
        limits: UserLimits,
        /// Where a new user's connections and channels on all cores are counted; not logged.
        usage: UserUsage,
    },
    /// A user ends, with all permissions.
    UserDeleted {
        /// The name.
        name: ShortString,
    },
    /// A user's permissions in a vhost, in the place of those before.
    PermissionsSet {
        /// The user.
        user: ShortString,
        /// The vhost.
        vhost: ShortString,
        /// The permissions.
        permissions: Permissions,
    },
    /// A user may open a vhost no more.
    PermissionsCleared {
        /// The user.
        user: ShortString,
        /// The vhost.
        vhost: ShortString,
    },
    /// A user's permissions for the keys of a topic exchange, in the place of those before.
    TopicPermissionsSet {
        /// The user.
        user: ShortString,
        /// The vhost.
        vhost: ShortString,
        /// The exchange.
        exchange: ShortString,
        /// The permissions.
        patterns: TopicPatterns,
    },
    /// A topic exchange's keys are free for a user.
    TopicPermissionsCleared {
        /// The user.
        user: ShortString,
        /// The vhost.
        vhost: ShortString,
        /// The exchange.
        exchange: ShortString,
    },
}

/// Why bytes are not a change of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserChangeError {
    /// A field cannot be read.
    #[error("a change of users: {0}")]
    Fields(#[from] FieldsError),
    /// Bytes are left behind the last field.
    #[error("a change of users has {0} bytes behind its last field")]
    TooLong(usize),
    /// A version, kind or algorithm that this program does not know.
    #[error("a change of users has {found} as {field}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// What it holds.
        found: u8,
    },
    /// A hash that is none of its algorithm.
    #[error("a change of users has a password hash that is none: {0}")]
    Password(#[from] PasswordHashError),
    /// A pattern that is none.
    #[error("a change of users has a pattern that is none: {0}")]
    Pattern(#[from] PatternError),
}

const VERSION: u8 = 1;

const USER_SET: u8 = 64;
const USER_DELETED: u8 = 65;
const PERMISSIONS_SET: u8 = 66;
const PERMISSIONS_CLEARED: u8 = 67;
const TOPIC_PERMISSIONS_SET: u8 = 68;
const TOPIC_PERMISSIONS_CLEARED: u8 = 69;

impl UserChange {
    /// Whether a record begins as one of these does.
    pub fn is_kind_of(bytes: &[u8]) -> bool {
        bytes.get(1).is_some_and(|&kind| kind >= USER_SET)
    }

    /// Appends the change's bytes, as drawn at the head of this file.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            UserChange::UserSet {
                name,
                password,
                tags,
                limits,
                ..
            } => {
                put_named(out, USER_SET, &[name]);
                out.push(password.algorithm() as u8);
                put_bytes(out, password.as_bytes());
                put_names(out, tags);
                put_limit(out, limits.max_connections);
                put_limit(out, limits.max_channels);
            }
            UserChange::UserDeleted { name } => put_named(out, USER_DELETED, &[name]),
            UserChange::PermissionsSet {
                user,
                vhost,
                permissions,
            } => {
                put_named(out, PERMISSIONS_SET, &[user, vhost]);
                for pattern in [&permissions.configure, &permissions.write, &permissions.read] {
                    put_bytes(out, pattern.text().as_bytes());
                }
            }
            UserChange::PermissionsCleared { user, vhost } => {
                put_named(out, PERMISSIONS_CLEARED, &[user, vhost]);
            }
            UserChange::TopicPermissionsSet {
                user,
                vhost,
                exchange,
                patterns,
            } => {
                put_named(out, TOPIC_PERMISSIONS_SET, &[user, vhost, exchange]);
                put_bytes(out, patterns.permissions.write.as_bytes());
                put_bytes(out, patterns.permissions.read.as_bytes());
            }
            UserChange::TopicPermissionsCleared {
                user,
                vhost,
                exchange,
            } => put_named(out, TOPIC_PERMISSIONS_CLEARED, &[user, vhost, exchange]),
        }
    }

    /// The change of these bytes, which are to hold nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, UserChangeError> {
        let mut fields = Fields(bytes);
        match fields.byte()? {
            VERSION => {}
            found => return Err(unknown("version", found)),
        }
        let change = match fields.byte()? {
            USER_SET => user_set(&mut fields)?,
            USER_DELETED => UserChange::UserDeleted { name: fields.name()? },
            PERMISSIONS_SET => UserChange::PermissionsSet {
                user: fields.name()?,
                vhost: fields.name()?,
                permissions: Permissions {
                    configure: Pattern::new(fields.text()?)?,
                    write: Pattern::new(fields.text()?)?,
                    read: Pattern::new(fields.text()?)?,
                },
            },
            PERMISSIONS_CLEARED => UserChange::PermissionsCleared {
                user: fields.name()?,
                vhost: fields.name()?,
            },
            TOPIC_PERMISSIONS_SET => topic_permissions_set(&mut fields)?,
            TOPIC_PERMISSIONS_CLEARED => UserChange::TopicPermissionsCleared {
                user: fields.name()?,
                vhost: fields.name()?,
                exchange: fields.name()?,
            },
            found => return Err(unknown("kind", found)),
        };
        match fields.0.len() {
            0 => Ok(change),
            left => Err(UserChangeError::TooLong(left)),
        }
    }
}

fn unknown(field: &'static str, found: u8) -> UserChangeError {
    UserChangeError::UnknownValue { field, found }
}

fn put_named(out: &mut Vec<u8>, kind: u8, names: &[&ShortString]) {
    out.extend([VERSION, kind]);
    names.iter().for_each(|name| put_name(out, name));
}

fn user_set(fields: &mut Fields<'_>) -> Result<UserChange, UserChangeError> {
    let (name, algorithm) = (fields.name()?, fields.byte()?);
    let Some(&(algorithm, _)) = HashAlgorithm::ALL.get(usize::from(algorithm)) else {
        return Err(unknown("algorithm", algorithm));
    };
    Ok(UserChange::UserSet {
        name,
        password: PasswordHash::from_bytes(algorithm, fields.bytes()?)?,
        tags: fields.names()?,
        limits: UserLimits {
            max_connections: fields.limit()?,
            max_channels: fields.limit()?,
        },
        usage: UserUsage::default(),
    })
}

fn topic_permissions_set(fields: &mut Fields<'_>) -> Result<UserChange, UserChangeError> {
    let (user, vhost, exchange) = (fields.name()?, fields.name()?, fields.name()?);
    let permissions = TopicPermissions {
        write: fields.text()?.to_owned(),
        read: fields.text()?.to_owned(),
    };
    let patterns = TopicPatterns::new(permissions, &user, &vhost).map_err(|(_, error)| error)?;
    Ok(UserChange::TopicPermissionsSet {
        user,
        vhost,
        exchange,
        patterns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Vec<UserChange> {
        let name = ShortString::from;
        let topics = TopicPermissions {
            write: "^{username}".to_owned(),
            read: String::new(),
        };
        let patterns = TopicPatterns::new(topics, &name("u"), &name("v")).expect("valid");
        vec![
            UserChange::UserSet {
                name: name("u"),
                password: PasswordHash::of(HashAlgorithm::Sha512, *b"salt", b"secret"),
                tags: vec![name("administrator"), name("x")],
                limits: UserLimits {
                    max_connections: Some(0),
                    max_channels: None,
                },
                usage: UserUsage::default(),
            },
            UserChange::UserDeleted { name: name("u") },
            UserChange::PermissionsSet {
                user: name("u"),
                vhost: name("v"),
                permissions: Permissions::all(),
            },
            UserChange::PermissionsCleared {
                user: name("u"),
                vhost: name("v"),
            },
            UserChange::TopicPermissionsSet {
                user: name("u"),
                vhost: name("v"),
                exchange: name("x"),
                patterns,
            },
            UserChange::TopicPermissionsCleared {
                user: name("u"),
                vhost: name("v"),
                exchange: name("x"),
            },
        ]
    }

    #[test]
    fn a_change_decodes_to_what_was_encoded_and_not_when_it_was_cut_or_lengthened() {
        for change in changes() {
            let mut bytes = Vec::new();
            change.encode(&mut bytes);
            assert!(UserChange::is_kind_of(&bytes));
            assert_eq!(UserChange::decode(&bytes), Ok(change));
            for cut in 0..bytes.len() {
                assert!(UserChange::decode(&bytes[..cut]).is_err());
            }
            bytes.push(0);
            assert_eq!(UserChange::decode(&bytes), Err(UserChangeError::TooLong(1)));
        }
    }
}
