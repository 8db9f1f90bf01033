//! `Users`: who exists, with which password, and what they may open.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::sasl::{Mechanism, Password, SaslError};
use crate::model::{Refusal, ReplyCode, ShortString};

/// What is known of a user. Permissions on exchanges and queues will have their place here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The password.
    pub password: Password,
    /// Whether the user may log in from this machine only.
    pub is_loopback_only: bool,
    /// The virtual hosts the user may open.
    pub vhosts: BTreeSet<ShortString>,
}

/// A user who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: ShortString,
}

/// All users and virtual hosts.
#[derive(Clone, Debug)]
pub struct Users {
    records: BTreeMap<ShortString, UserRecord>,
    vhosts: BTreeSet<ShortString>,
    /// Compared with when the name is unknown, so that the answer takes as long as for a known one.
    nobody: Password,
}

impl Default for Users {
    /// The user `guest` with the password `guest`, from this machine only, and the virtual host `/`.
    fn default() -> Self {
        let vhosts = BTreeSet::from([ShortString::from("/")]);
        let guest = UserRecord {
            password: Password::new(b"guest"),
            is_loopback_only: true,
            vhosts: vhosts.clone(),
        };
        Self::new(BTreeMap::from([(ShortString::from("guest"), guest)]), vhosts)
    }
}

impl Users {
    /// These users and virtual hosts.
    pub fn new(records: BTreeMap<ShortString, UserRecord>, vhosts: BTreeSet<ShortString>) -> Self {
        Self {
            records,
            vhosts,
            nobody: Password::new(b""),
        }
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
        let is_right = password.equals(&claim.password);
        let user = User { name: claim.user };
        match record {
            Some(record) if is_right && (is_from_loopback || !record.is_loopback_only) => Ok(user),
            Some(_) if is_right => Err(refuse(LoginRefusedReason::NotFromLoopback { user: user.name })),
            _ => Err(refuse(LoginRefusedReason::Credentials { user: user.name })),
        }
    }

    /// Whether `user` may open `vhost`. Error: 530 with RabbitMQ's texts, for an unknown vhost and for a forbidden one.
    pub fn may_open_vhost(&self, user: &User, vhost: &[u8]) -> Result<(), Refusal> {
        let shown = String::from_utf8_lossy(vhost);
        if !self.vhosts.contains(vhost) {
            return Err(Refusal::new(
                ReplyCode::NotAllowed,
                format!("vhost {shown} not found"),
            ));
        }
        let is_allowed = self
            .records
            .get(&user.name)
            .is_some_and(|record| record.vhosts.contains(vhost));
        if !is_allowed {
            let explanation = format!("access to vhost '{shown}' refused for user '{}'", user.name);
            return Err(Refusal::new(ReplyCode::NotAllowed, explanation));
        }
        Ok(())
    }
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
    fn a_malformed_response_is_a_syntax_error() {
        let refused = log_in(b"guest", true).expect_err("no NUL");
        assert_eq!(refused.refusal().code, ReplyCode::SyntaxError);
    }

    #[test]
    fn a_vhost_is_refused_with_rabbitmqs_texts() {
        let guest = User {
            name: ShortString::from("guest"),
        };
        let users = Users::default();
        assert_eq!(users.may_open_vhost(&guest, b"/"), Ok(()));
        let refusal = users.may_open_vhost(&guest, b"shop").expect_err("no such vhost");
        assert_eq!(refusal.to_string(), "530 NOT_ALLOWED - vhost shop not found");

        let stranger = User {
            name: ShortString::from("stranger"),
        };
        let refusal = users.may_open_vhost(&stranger, b"/").expect_err("not hers");
        assert_eq!(
            refusal.to_string(),
            "530 NOT_ALLOWED - access to vhost '/' refused for user 'stranger'"
        );
    }
}
