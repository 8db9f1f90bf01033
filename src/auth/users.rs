//! `Users`: who exists, with which password, and what they may do.

use std::collections::BTreeMap;
use std::fmt;

use super::change::UserChange;
use super::password::{HashAlgorithm, PasswordHash};
use super::permission::{Access, Permissions, Resource, TopicPatterns, access_refused, topic_refused};
use super::sasl::{Mechanism, SaslError};
use crate::model::{Refusal, ReplyCode, ShortString, Usage};

/// The user that exists from the beginning, who may log in from this machine only.
pub const DEFAULT_USER: &str = "guest";

/// How much there may be of a user's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Most connections.
    pub max_connections: Option<u64>,
    /// Most channels of all connections.
    pub max_channels: Option<u64>,
}

/// Where a user's connections and channels on all cores are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserUsage {
    /// Connections.
    pub connections: Usage,
    /// Channels.
    pub channels: Usage,
}

/// What is known of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// What is kept of the password.
    pub password: PasswordHash,
    /// `administrator`, `monitoring` and others.
    pub tags: Vec<ShortString>,
    /// What bounds the user.
    pub limits: UserLimits,
    /// What counts for the limits.
    pub usage: UserUsage,
    /// The permissions by vhost; a vhost that is not here may not be opened.
    pub permissions: BTreeMap<ShortString, Permissions>,
    /// The permissions for topics by vhost and exchange; the topics of one that is not here are free.
    pub topics: BTreeMap<(ShortString, ShortString), TopicPatterns>,
}

/// A user who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: ShortString,
}

/// All users.
#[derive(Clone, Debug)]
pub struct Users {
    records: BTreeMap<ShortString, UserRecord>,
    /// Compared with when the name is unknown, so that the answer takes as long as for a known one.
    nobody: PasswordHash,
    revision: u64,
}

impl Default for Users {
    /// The user `guest` with the password `guest` and every permission in the vhost `/`.
    fn default() -> Self {
        let mut users = Self::none();
        let guest = UserRecord {
            password: PasswordHash::of(HashAlgorithm::Sha256, *b"lane", b"guest"),
            tags: vec![ShortString::from("administrator")],
            limits: UserLimits::default(),
            usage: UserUsage::default(),
            permissions: BTreeMap::from([(ShortString::from("/"), Permissions::all())]),
            topics: BTreeMap::new(),
        };
        users.records.insert(ShortString::from(DEFAULT_USER), guest);
        users
    }
}

impl Users {
    fn none() -> Self {
        Self {
            records: BTreeMap::new(),
            nobody: PasswordHash::of(HashAlgorithm::Sha256, [0; 4], b""),
            revision: 0,
        }
    }

    /// Makes `change` true. One that does not fit, such as a permission of nobody, is passed over.
    pub fn apply(&mut self, change: &UserChange) {
        self.revision += 1;
        match change {
            UserChange::UserSet {
                name,
                password,
                tags,
                limits,
                usage,
            } => {
                let record = self.records.entry(name.clone()).or_insert_with(|| UserRecord {
                    password: password.clone(),
                    tags: Vec::new(),
                    limits: *limits,
                    usage: usage.clone(),
                    permissions: BTreeMap::new(),
                    topics: BTreeMap::new(),
                });
                record.password = password.clone();
                record.tags.clone_from(tags);
                record.limits = *limits;
            }
            UserChange::UserDeleted { name } => drop(self.records.remove(name)),
            UserChange::PermissionsSet {
                user,
                vhost,
                permissions,
            } => self.change(user, |record| {
                record.permissions.insert(vhost.clone(), permissions.clone());
            }),
            UserChange::PermissionsCleared { user, vhost } => self.change(user, |record| {
                record.permissions.remove(vhost);
            }),
            UserChange::TopicPermissionsSet {
                user,
                vhost,
                exchange,
                patterns,
            } => self.change(user, |record| {
                let place = (vhost.clone(), exchange.clone());
                record.topics.insert(place, patterns.clone());
            }),
            UserChange::TopicPermissionsCleared {
                user,
                vhost,
                exchange,
            } => self.change(user, |record| {
                record.topics.remove(&(vhost.clone(), exchange.clone()));
            }),
        }
    }

    /// A vhost has ended: nobody has permissions in it any more.
    pub fn forget_vhost(&mut self, vhost: &ShortString) {
        self.revision += 1;
        for record in self.records.values_mut() {
            record.permissions.remove(vhost);
            record.topics.retain(|(of, _), _| of != vhost);
        }
    }

    /// Changes that lead from `Users::default()` to these users.
    pub fn snapshot(&self) -> impl Iterator<Item = UserChange> {
        let is_default = self.records == Self::default().records;
        let without_guest = UserChange::UserDeleted {
            name: ShortString::from(DEFAULT_USER),
        };
        let records = self
            .records
            .iter()
            .flat_map(|(name, record)| user_changes(name, record));
        let all = std::iter::once(without_guest).chain(records);
        all.filter(move |_| !is_default)
    }

    /// Number of changes so far.
    #[inline]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What is known of a user.
    pub fn get(&self, name: &[u8]) -> Option<&UserRecord> {
        self.records.get(name)
    }

    /// Whether messages of the user may have another's `user-id`.
    pub fn is_impersonator(&self, name: &ShortString) -> bool {
        let has_tag = |record: &UserRecord| record.tags.iter().any(|tag| tag.as_bytes() == b"impersonator");
        self.records.get(name).is_some_and(has_tag)
    }

    /// All users, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&ShortString, &UserRecord)> {
        self.records.iter()
    }

    /// The user who answers connection.start with `response`, or why the login is refused.
    pub fn authenticate(
        &self,
        mechanism: Mechanism,
        response: &[u8],
        is_from_loopback: bool,
    ) -> Result<User, LoginRefused> {
        let refuse = |reason| LoginRefused { mechanism, reason };
        let claim = mechanism
            .decode(response)
            .map_err(|error| refuse(LoginRefusedReason::Response(error)))?;
        let record = self.records.get(&claim.user);
        let password = record.map_or(&self.nobody, |record| &record.password);
        // RabbitMQ lets nobody in with a blank password, whatever is stored.
        let is_right =
            password.fits(&claim.password) && !claim.password.as_bytes().is_empty() && record.is_some();
        let user = User { name: claim.user };
        let is_loopback_only = user.name.as_bytes() == DEFAULT_USER.as_bytes();
        match is_right {
            true if is_from_loopback || !is_loopback_only => Ok(user),
            true => Err(refuse(LoginRefusedReason::NotFromLoopback { user: user.name })),
            false => Err(refuse(LoginRefusedReason::Credentials { user: user.name })),
        }
    }

    /// Whether `user` may open `vhost`, which exists. Error: 530 with RabbitMQ's text.
    pub fn may_open_vhost(&self, user: &ShortString, vhost: &[u8]) -> Result<(), Refusal> {
        let shown = String::from_utf8_lossy(vhost);
        match self.permissions(user, vhost) {
            Some(_) => Ok(()),
            None => {
                let explanation = format!("access to vhost '{shown}' refused for user '{user}'");
                Err(Refusal::new(ReplyCode::NotAllowed, explanation))
            }
        }
    }

    /// Whether `user` may have `access` to `resource`, which need not exist. Error: 403 with RabbitMQ's text.
    pub fn check_access(
        &self,
        user: &ShortString,
        vhost: &[u8],
        access: Access,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        let permissions = self.permissions(user, vhost);
        match permissions.is_some_and(|permissions| permissions.allow(access, resource)) {
            true => Ok(()),
            false => Err(access_refused(resource, vhost, user)),
        }
    }

    /// Whether `user` may have `access` to `exchange`, a topic exchange, with `routing_key`. Error: 403 with RabbitMQ's
    /// text.
    pub fn check_topic(
        &self,
        user: &ShortString,
        vhost: &ShortString,
        access: Access,
        exchange: &ShortString,
        routing_key: &[u8],
    ) -> Result<(), Refusal> {
        let topics = self.records.get(user).map(|record| &record.topics);
        let patterns = topics
            .filter(|topics| !topics.is_empty())
            .and_then(|topics| topics.get(&(vhost.clone(), exchange.clone())));
        match patterns.is_none_or(|patterns| patterns.allow(access, routing_key)) {
            true => Ok(()),
            false => Err(topic_refused(
                routing_key,
                exchange.as_bytes(),
                vhost.as_bytes(),
                user,
            )),
        }
    }

    fn permissions(&self, user: &ShortString, vhost: &[u8]) -> Option<&Permissions> {
        self.records.get(user)?.permissions.get(vhost)
    }

    fn change(&mut self, user: &ShortString, change: impl FnOnce(&mut UserRecord)) {
        if let Some(record) = self.records.get_mut(user) {
            change(record);
        }
    }
}

/// The changes that make nobody this user.
fn user_changes(name: &ShortString, record: &UserRecord) -> impl Iterator<Item = UserChange> {
    let set = UserChange::UserSet {
        name: name.clone(),
        password: record.password.clone(),
        tags: record.tags.clone(),
        limits: record.limits,
        usage: record.usage.clone(),
    };
    let permissions = record.permissions.iter();
    let permissions = permissions.map(|(vhost, permissions)| UserChange::PermissionsSet {
        user: name.clone(),
        vhost: vhost.clone(),
        permissions: permissions.clone(),
    });
    let topics = record.topics.iter();
    let topics = topics.map(|((vhost, exchange), patterns)| UserChange::TopicPermissionsSet {
        user: name.clone(),
        vhost: vhost.clone(),
        exchange: exchange.clone(),
        patterns: patterns.clone(),
    });
    std::iter::once(set).chain(permissions).chain(topics)
}

/// A login refused. `refusal` is for the client and tells nothing; `Display` is for the log and tells the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRefused {
    /// The mechanism that was used.
    pub mechanism: Mechanism,
    /// Why.
    pub reason: LoginRefusedReason,
}

/// Why a login is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusedReason {
    /// The response has not the mechanism's form.
    #[error("{0}")]
    Response(SaslError),
    /// An unknown user, or a wrong password: the log does not tell which, as RabbitMQ's does not.
    #[error("user '{user}' - invalid credentials")]
    Credentials {
        /// The name that was claimed.
        user: ShortString,
    },
    /// The right password, from another machine.
    #[error("user '{user}' can only connect via localhost")]
    NotFromLoopback {
        /// The user.
        user: ShortString,
    },
}

impl LoginRefused {
    /// What a client is told that has the capability `authentication_failure_close`: 403. To another nothing is
    /// sent; its connection is closed after a pause. A response without the mechanism's form is always told: 502.
    pub fn refusal(&self) -> Refusal {
        match self.reason {
            LoginRefusedReason::Response(error) => error.refusal(),
            _ => {
                let name = self.mechanism.name();
                let explanation = format!(
                    "Login was refused using authentication mechanism {name}. For details see the broker logfile."
                );
                Refusal::new(ReplyCode::AccessRefused, explanation)
            }
        }
    }
}

impl fmt::Display for LoginRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} login refused: {}", self.mechanism.name(), self.reason)
    }
}

impl std::error::Error for LoginRefused {}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_in(response: &[u8], is_from_loopback: bool) -> Result<User, LoginRefused> {
        Users::default().authenticate(Mechanism::Plain, response, is_from_loopback)
    }

    #[test]
    fn guest_logs_in_from_this_machine() {
        let user = log_in(b"\0guest\0guest", true).expect("guest is a user");
        assert_eq!(user.name.as_bytes(), b"guest");
    }

    #[test]
    fn guest_from_another_machine_is_refused_with_a_reason_for_the_log_alone() {
        let refused = log_in(b"\0guest\0guest", false).expect_err("not from here");
        assert_eq!(
            refused.to_string(),
            "PLAIN login refused: user 'guest' can only connect via localhost"
        );
        assert_eq!(
            refused.refusal().to_string(),
            "403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
             For details see the broker logfile."
        );
    }

    #[test]
    fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
        for response in [&b"\0guest\0wrong"[..], b"\0nobody\0guest", b"\0nobody\0"] {
            let refused = log_in(response, true).expect_err("no such pair");
            assert!(
                matches!(refused.reason, LoginRefusedReason::Credentials { .. }),
                "{refused}"
            );
            assert_eq!(refused.refusal().code, ReplyCode::AccessRefused);
        }
    }

    #[test]
    fn nobody_gets_in_with_a_blank_password() {
        let mut users = Users::default();
        users.apply(&UserChange::UserSet {
            name: name("blank"),
            password: PasswordHash::of(HashAlgorithm::Sha256, *b"salt", b""),
            tags: Vec::new(),
            limits: UserLimits::default(),
            usage: UserUsage::default(),
        });
        let plain = Mechanism::parse(b"PLAIN").expect("it is offered");
        let refused = users.authenticate(plain, b"\0blank\0", true);
        assert!(refused.is_err());
    }

    #[test]
    fn a_malformed_response_is_a_syntax_error() {
        let refused = log_in(b"guest", true).expect_err("no NUL");
        assert_eq!(refused.refusal().code, ReplyCode::SyntaxError);
    }

    fn name(text: &'static str) -> ShortString {
        ShortString::from(text)
    }

    fn permissions(user: &'static str, pattern: &str) -> UserChange {
        let pattern =
            |prefix: &str| crate::auth::access_pattern(&format!("^{prefix}{pattern}")).expect("valid");
        UserChange::PermissionsSet {
            user: name(user),
            vhost: name("v"),
            permissions: Permissions {
                configure: pattern("c"),
                write: pattern("w"),
                read: pattern("r"),
            },
        }
    }

    fn user(of: &'static str) -> UserChange {
        UserChange::UserSet {
            name: name(of),
            password: PasswordHash::of(HashAlgorithm::Md5, *b"salt", b"secret"),
            tags: Vec::new(),
            limits: UserLimits::default(),
            usage: UserUsage::default(),
        }
    }

    #[test]
    fn a_vhost_is_refused_with_rabbitmqs_text() {
        let users = Users::default();
        assert_eq!(users.may_open_vhost(&name("guest"), b"/"), Ok(()));
        let refusal = users
            .may_open_vhost(&name("stranger"), b"/")
            .expect_err("not hers");
        assert_eq!(
            refusal.to_string(),
            "530 NOT_ALLOWED - access to vhost '/' refused for user 'stranger'"
        );
    }

    #[test]
    fn access_is_judged_by_the_permissions_of_the_vhost() {
        let mut users = Users::default();
        users.apply(&user("u"));
        users.apply(&permissions("u", "1"));
        let check = |access, resource| users.check_access(&name("u"), b"v", access, resource);
        assert_eq!(check(Access::Configure, Resource::Queue(b"c1")), Ok(()));
        assert_eq!(check(Access::Write, Resource::Exchange(b"w1")), Ok(()));
        let refusal = check(Access::Write, Resource::Queue(b"c1")).expect_err("not written to");
        assert_eq!(
            refusal.to_string(),
            "403 ACCESS_REFUSED - access to queue 'c1' in vhost 'v' refused for user 'u'"
        );
        let refusal = check(Access::Write, Resource::Exchange(b"")).expect_err("not the default exchange");
        assert!(
            refusal
                .explanation
                .starts_with("access to exchange 'amq.default'")
        );
        let elsewhere = users.check_access(&name("u"), b"/", Access::Write, Resource::Queue(b"w1"));
        assert!(elsewhere.is_err());
    }

    #[test]
    fn topics_are_free_until_there_are_permissions_for_them() {
        let mut users = Users::default();
        users.apply(&user("u"));
        let check =
            |users: &Users, key| users.check_topic(&name("u"), &name("v"), Access::Write, &name("x"), key);
        assert_eq!(check(&users, b"any"), Ok(()));
        let topics = crate::auth::TopicPermissions {
            write: "^{username}\\.".to_owned(),
            read: String::new(),
        };
        users.apply(&UserChange::TopicPermissionsSet {
            user: name("u"),
            vhost: name("v"),
            exchange: name("x"),
            patterns: TopicPatterns::new(topics, &name("u"), &name("v")).expect("valid"),
        });
        assert_eq!(check(&users, b"u.1"), Ok(()));
        let refusal = check(&users, b"w.1").expect_err("another's");
        assert_eq!(
            refusal.to_string(),
            "403 ACCESS_REFUSED - access to topic 'w.1' in exchange 'x' in vhost 'v' refused for user 'u'"
        );
    }

    #[test]
    fn a_snapshot_leads_to_the_same_users() {
        assert_eq!(Users::default().snapshot().count(), 0);
        let mut users = Users::default();
        let deleted = UserChange::UserDeleted { name: name("guest") };
        for change in [user("u"), permissions("u", ""), user("w"), deleted] {
            users.apply(&change);
        }
        let mut restored = Users::default();
        users.snapshot().for_each(|change| restored.apply(&change));
        assert_eq!(restored.records, users.records);
        users.forget_vhost(&name("v"));
        assert!(users.may_open_vhost(&name("u"), b"v").is_err());
    }

    #[test]
    fn a_user_who_is_set_again_keeps_permissions_and_what_counts() {
        let mut users = Users::default();
        users.apply(&user("u"));
        users.apply(&permissions("u", ""));
        let share = users.get(b"u").expect("a user").usage.connections.take(None);
        users.apply(&user("u"));
        assert_eq!(users.may_open_vhost(&name("u"), b"v"), Ok(()));
        assert_eq!(users.get(b"u").expect("a user").usage.connections.count(), 1);
        drop(share);
    }
}
