//! The story of an import: definitions become changes, and a decision like any other.
//!
//! **What is in the log and what in the file.** Whatever a file asks for that is not so yet becomes a change, decided by
//! control, logged and replicated like a declaration; what is so already changes nothing and is not logged. The log alone
//! tells what there is, and the file is not needed again; where it is named in the settings, it is read over what the log
//! tells at each start and at SIGHUP. An import adds and replaces and takes nothing away, as RabbitMQ's: a user, a permission
//! or a policy takes the place of the one of its name, a vhost gets its limits, and a queue or exchange that exists stays as
//! it is. What was taken out of the file stays in the log.
//!
//! In a broker that nothing was ever declared in, the file takes the place of the defaults, as RabbitMQ's `load_definitions`
//! does: if it names users there is no `guest` but its own, if it names vhosts there is no `/` but its own.
//!
//! An import is one decision: all of it is logged, or nothing.

use super::Shard;
use super::control::Control;
use super::control_change::ControlChange;
use crate::auth::{DEFAULT_USER, PasswordHash, UserChange, UserUsage};
use crate::definitions::{
    BindingDefinition, Definitions, End, ExchangeDefinition, PasswordDefinition, Place, PolicyDefinition,
    Problem, QueueEntry, UserDefinition, VhostDefinition,
};
use crate::model::{ShortString, Usage};
use crate::topology::{Change, DEFAULT_VHOST, Destination, Exchange, QueueDefinition};
use std::collections::BTreeSet;
use tracing::{error, info, warn};

/// The changes of one decision, each true at control already.
#[derive(Debug, Default)]
pub struct Decision {
    /// The changes, in order.
    pub changes: Vec<ControlChange>,
    /// Which of them are to be logged.
    pub durable: Vec<usize>,
}

/// What an import came to.
#[derive(Debug, Default)]
pub struct Imported {
    /// Its changes.
    pub decision: Decision,
    /// What the file asks for and cannot have, or has already in another form.
    pub warnings: Vec<Problem>,
}

impl Shard {
    /// Imports definitions at control, and tells the log what came of it. A file that does not fit changes nothing.
    pub(super) fn import(&mut self, definitions: &Definitions) {
        let salts = std::iter::repeat_with(|| self.random.next_u64() as u32);
        let salts: Vec<u32> = salts.take(definitions.users.len()).collect();
        let Shard { control, log, .. } = self;
        let Some(control) = control.as_mut() else {
            return;
        };
        match control.import(definitions, &salts, false) {
            Ok(imported) => {
                imported.warnings.iter().for_each(|warning| warn!("{warning}"));
                let changes = imported.decision.changes.len();
                info!(changes, "definitions imported");
                control.enqueue(imported.decision, &mut |decision| {
                    super::decide::append(log, decision)
                });
                self.announce();
            }
            Err(problems) => {
                problems.iter().for_each(|problem| error!("{problem}"));
                error!("definitions do not fit what there is; nothing was changed");
            }
        }
    }
}

impl Control {
    /// Makes definitions true here. `salts` has one for each user, for those whose passwords are not hashed yet;
    /// `is_fresh` tells that nothing was ever declared.
    ///
    /// # Errors
    /// Everything that names a user or vhost that neither exists nor is defined; nothing is changed then.
    pub fn import(
        &mut self,
        definitions: &Definitions,
        salts: &[u32],
        is_fresh: bool,
    ) -> Result<Imported, Vec<Problem>> {
        self.check_references(definitions, is_fresh)?;
        let mut import = Import {
            control: self,
            imported: Imported::default(),
        };
        for (user, salt) in definitions.users.iter().zip(salts) {
            import.user(user, *salt);
        }
        definitions.vhosts.iter().for_each(|vhost| import.vhost(vhost));
        if is_fresh {
            import.forget_defaults(definitions);
        }
        import.permissions(definitions);
        definitions
            .policies
            .iter()
            .for_each(|policy| import.policy(policy));
        definitions.queues.iter().for_each(|queue| import.queue(queue));
        definitions
            .exchanges
            .iter()
            .for_each(|exchange| import.exchange(exchange));
        definitions
            .bindings
            .iter()
            .for_each(|binding| import.binding(binding));
        Ok(import.imported)
    }

    fn check_references(&self, definitions: &Definitions, is_fresh: bool) -> Result<(), Vec<Problem>> {
        let vhosts = definitions.vhosts.iter().filter(|vhost| vhost.metadata.is_some());
        let vhosts: BTreeSet<_> = vhosts.map(|vhost| &vhost.name).collect();
        let users: BTreeSet<_> = definitions.users.iter().map(|user| &user.name).collect();
        let has_vhost =
            |name: &ShortString| vhosts.contains(name) || self.decided().has_vhost(name.as_bytes());
        // A file with users takes the default user away, the first time.
        let stays = !is_fresh || users.is_empty();
        let has_user = |name: &ShortString| {
            users.contains(name) || (stays && self.users().get(name.as_bytes()).is_some())
        };
        let mut problems = Vec::new();
        for (place, name) in named_vhosts(definitions).filter(|(_, name)| !has_vhost(name)) {
            problems.push(missing(place, "vhost", name, "vhosts"));
        }
        for (place, name) in named_users(definitions).filter(|(_, name)| !has_user(name)) {
            problems.push(missing(place, "user", name, "users"));
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems),
        }
    }
}

/// Every vhost that an entry names, with the entry's place.
fn named_vhosts(definitions: &Definitions) -> impl Iterator<Item = (&Place, &ShortString)> {
    let limits = definitions.vhosts.iter().map(|entry| (&entry.place, &entry.name));
    let permissions = definitions.permissions.iter();
    let topics = definitions.topic_permissions.iter();
    limits
        .chain(permissions.map(|entry| (&entry.place, &entry.vhost)))
        .chain(topics.map(|entry| (&entry.place, &entry.vhost)))
        .chain(
            definitions
                .policies
                .iter()
                .map(|entry| (&entry.place, &entry.vhost)),
        )
        .chain(
            definitions
                .queues
                .iter()
                .map(|entry| (&entry.place, &entry.vhost)),
        )
        .chain(
            definitions
                .exchanges
                .iter()
                .map(|entry| (&entry.place, &entry.vhost)),
        )
        .chain(
            definitions
                .bindings
                .iter()
                .map(|entry| (&entry.place, &entry.vhost)),
        )
}

fn named_users(definitions: &Definitions) -> impl Iterator<Item = (&Place, &ShortString)> {
    let topics = definitions.topic_permissions.iter();
    let permissions = definitions.permissions.iter();
    permissions
        .map(|entry| (&entry.place, &entry.user))
        .chain(topics.map(|entry| (&entry.place, &entry.user)))
}

fn missing(place: &Place, field: &str, name: &ShortString, list: &str) -> Problem {
    Problem {
        place: Some(place.clone()),
        field: Some(field.to_owned()),
        problem: format!("expected a {field} that exists, found \"{name}\""),
        fix: format!("add it to {list}, or mend the name"),
    }
}

/// An import under way at control.
struct Import<'a> {
    control: &'a mut Control,
    imported: Imported,
}

impl Import<'_> {
    fn make(&mut self, change: impl Into<ControlChange>) {
        self.control.take(&mut self.imported.decision, change.into());
    }

    fn warn(&mut self, place: &Place, problem: &str) {
        self.imported.warnings.push(Problem {
            place: Some(place.clone()),
            field: None,
            problem: problem.to_owned(),
            fix: String::new(),
        });
    }

    fn user(&mut self, user: &UserDefinition, salt: u32) {
        let record = self.control.users().get(user.name.as_bytes());
        let before = record.map(|record| &record.password);
        let password = match &user.password {
            PasswordDefinition::Hash(hash) => hash.clone(),
            // A hash of the same password has another salt each time.
            PasswordDefinition::Plain(password, algorithm) => before
                .filter(|before| before.algorithm() == *algorithm && before.fits(password))
                .cloned()
                .unwrap_or_else(|| PasswordHash::salted(*algorithm, salt.to_be_bytes(), password)),
        };
        let is_same = record.is_some_and(|record| {
            record.password == password && record.tags == user.tags && record.limits == user.limits
        });
        if !is_same {
            self.make(UserChange::UserSet {
                name: user.name.clone(),
                password,
                tags: user.tags.clone(),
                limits: user.limits,
                usage: UserUsage::default(),
            });
        }
    }

    fn vhost(&mut self, vhost: &VhostDefinition) {
        let name = &vhost.name;
        if vhost.metadata.is_some() && !self.control.decided().has_vhost(name.as_bytes()) {
            self.make(Change::VhostDeclared {
                name: name.clone(),
                connections: Usage::default(),
            });
        }
        if let Some(metadata) = &vhost.metadata
            && self.control.decided().vhost_metadata(name.as_bytes()) != Some(metadata)
        {
            self.make(Change::VhostDescribed {
                name: name.clone(),
                metadata: metadata.clone(),
            });
        }
        if let Some(limits) = vhost.limits
            && self.control.decided().vhost_limits(name.as_bytes()) != Some(limits)
        {
            self.make(Change::VhostLimited {
                name: name.clone(),
                limits,
            });
        }
    }

    /// Takes away the user and the vhost that are there by themselves, where the file has others.
    fn forget_defaults(&mut self, definitions: &Definitions) {
        let is_guest = |user: &UserDefinition| user.name.as_bytes() == DEFAULT_USER.as_bytes();
        if !definitions.users.is_empty() && !definitions.users.iter().any(is_guest) {
            self.make(UserChange::UserDeleted {
                name: ShortString::from(DEFAULT_USER),
            });
        }
        let has_slash =
            named_vhosts(definitions).any(|(_, name)| name.as_bytes() == DEFAULT_VHOST.as_bytes());
        if !definitions.vhosts.is_empty() && !has_slash {
            self.make(Change::VhostDeleted {
                name: ShortString::from(DEFAULT_VHOST),
            });
        }
    }

    fn permissions(&mut self, definitions: &Definitions) {
        for entry in &definitions.permissions {
            let (user, vhost) = (&entry.user, &entry.vhost);
            let record = self.control.users().get(user.as_bytes());
            if record.and_then(|record| record.permissions.get(vhost)) != Some(&entry.permissions) {
                self.make(UserChange::PermissionsSet {
                    user: user.clone(),
                    vhost: vhost.clone(),
                    permissions: entry.permissions.clone(),
                });
            }
        }
        for entry in &definitions.topic_permissions {
            let place = (entry.vhost.clone(), entry.exchange.clone());
            let record = self.control.users().get(entry.user.as_bytes());
            if record.and_then(|record| record.topics.get(&place)) != Some(&entry.patterns) {
                self.make(UserChange::TopicPermissionsSet {
                    user: entry.user.clone(),
                    vhost: entry.vhost.clone(),
                    exchange: entry.exchange.clone(),
                    patterns: entry.patterns.clone(),
                });
            }
        }
    }

    fn policy(&mut self, entry: &PolicyDefinition) {
        let PolicyDefinition {
            vhost, kind, policy, ..
        } = entry;
        let decided = self.control.decided();
        if decided.policy(vhost.as_bytes(), *kind, policy.name.as_bytes()) != Some(policy) {
            self.make(Change::PolicySet {
                vhost: vhost.clone(),
                kind: *kind,
                policy: policy.clone(),
            });
        }
    }

    fn queue(&mut self, entry: &QueueEntry) {
        let (vhost, name) = (entry.vhost.as_bytes(), entry.name.as_bytes());
        if let Some(queue) = self.control.decided().queue(vhost, name) {
            let is_same = (queue.durable, queue.auto_delete) == (entry.durable, entry.auto_delete)
                && queue.arguments == entry.arguments;
            if !is_same {
                self.warn(
                    &entry.place,
                    "the queue exists with other properties, it stays as it is",
                );
            }
            return;
        }
        let (id, vshard, owner) = self.control.place_queue(None);
        self.make(Change::QueueDeclared(QueueDefinition {
            id,
            vhost: entry.vhost.clone(),
            name: entry.name.clone(),
            vshard,
            owner,
            durable: entry.durable,
            exclusive: None,
            auto_delete: entry.auto_delete,
            arguments: entry.arguments.clone(),
        }));
    }

    fn exchange(&mut self, entry: &ExchangeDefinition) {
        let exchange = entry.exchange.clone();
        let (vhost, name) = (entry.vhost.as_bytes(), exchange.name.as_bytes());
        if let Some(before) = self.control.decided().exchange(vhost, name) {
            // The alternate exchange may come of a policy.
            let alternate = exchange.alternate.clone();
            let before = Exchange {
                alternate,
                ..before.clone()
            };
            if before != exchange {
                self.warn(
                    &entry.place,
                    "the exchange exists with other properties, it stays as it is",
                );
            }
            return;
        }
        let declared = Change::ExchangeDeclared {
            vhost: entry.vhost.clone(),
            exchange,
        };
        let memory = self.control.memory_of(Some(&declared));
        self.make(declared);
        if let Some(memory) = memory.expect("the reader has checked the exchange's name") {
            self.make(memory);
        }
    }

    /// A binding without one of its ends is passed over, as RabbitMQ does.
    fn binding(&mut self, entry: &BindingDefinition) {
        let (vhost, decided) = (entry.vhost.as_bytes(), self.control.decided());
        let destination = match &entry.destination {
            End::Queue(name) => decided.queue_id(vhost, name.as_bytes()).map(Destination::Queue),
            End::Exchange(name) => {
                let exchange = decided.exchange(vhost, name.as_bytes());
                exchange.map(|exchange| Destination::Exchange(exchange.name.clone()))
            }
        };
        let (source, arguments) = (entry.source.as_bytes(), entry.arguments.as_ref());
        let key = &entry.routing_key;
        let changes = destination
            .filter(|_| decided.exchange(vhost, source).is_some())
            .map(|destination| decided.decide_binding(vhost, source, destination, key, arguments));
        match changes {
            Some(Ok(changes)) => changes.into_iter().for_each(|change| self.make(change)),
            Some(Err(refusal)) => self.warn(&entry.place, &format!("{}; ignored", refusal.explanation)),
            None => self.warn(&entry.place, "one end of the binding does not exist, ignored"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Users;
    use crate::model::Lsn;
    use crate::topology::{PolicyKind, Topology};

    const FILE: &str = r#"{
        "users": [{"name": "u", "password": "secret", "tags": ["monitoring"]}],
        "vhosts": [{"name": "v", "limits": {"max-queues": 5}}],
        "permissions": [{"user": "u", "vhost": "v", "configure": ".*", "write": ".*", "read": ".*"}],
        "topic_permissions": [{"user": "u", "vhost": "v", "exchange": "x", "write": "a", "read": "b"}],
        "policies": [{"vhost": "v", "name": "p", "pattern": "^q", "definition": {"max-length": 5}}],
        "queues": [{"name": "q", "vhost": "v", "durable": true, "auto_delete": false}],
        "exchanges": [{"name": "x", "vhost": "v", "type": "topic", "durable": true, "auto_delete": false}],
        "bindings": [{"source": "x", "vhost": "v", "destination": "q", "destination_type": "queue",
                      "routing_key": "a", "arguments": {}}]
    }"#;

    fn control() -> Control {
        Control::new(Topology::new(), Users::default(), 2, 1)
    }

    fn import(control: &mut Control, text: &str, is_fresh: bool) -> Result<Imported, Vec<Problem>> {
        let definitions = crate::definitions::read(text).expect("well formed");
        control.import(&definitions, &[7], is_fresh)
    }

    #[test]
    fn a_file_is_one_decision_and_the_same_file_again_is_none() {
        let mut control = control();
        let imported = import(&mut control, FILE, false).expect("it fits");
        assert_eq!(imported.decision.changes.len(), 9);
        assert_eq!(imported.decision.durable.len(), 9);
        assert!(imported.warnings.is_empty());
        let again = import(&mut control, FILE, false).expect("it fits");
        assert_eq!(again.decision.changes, []);

        let mut logged = Vec::new();
        control.enqueue(imported.decision, &mut |decision| {
            logged.push(decision.len());
            Lsn(1)
        });
        assert_eq!(logged, [9]);
        let (number, changes) = control.announce(Lsn(1)).expect("it is durable");
        assert_eq!((number, changes.len()), (9, 9));
        let queue = control.decided().queue(b"v", b"q").expect("it was declared");
        assert_eq!(control.decided().queue_settings(queue).max_length, Some(5));
    }

    #[test]
    fn what_is_changed_in_the_file_replaces_what_is_there_and_what_is_left_out_stays() {
        let mut control = control();
        import(&mut control, FILE, false).expect("it fits");
        let changed = r#"{
            "users": [{"name": "u", "password": "other", "tags": []}],
            "policies": [{"vhost": "v", "name": "p", "pattern": "^q", "definition": {"max-length": 6}}],
            "queues": [{"name": "q", "vhost": "v", "durable": false, "auto_delete": false}],
            "bindings": [{"source": "x", "vhost": "v", "destination": "gone", "destination_type": "queue",
                          "routing_key": "", "arguments": {}}]
        }"#;
        let imported = import(&mut control, changed, false).expect("it fits");
        assert_eq!(imported.decision.changes.len(), 2, "{:?}", imported.decision);
        let warnings: Vec<_> = imported.warnings.iter().map(ToString::to_string).collect();
        assert!(
            warnings[0].starts_with("queues[0] (\"q\" in vhost \"v\"): the queue exists"),
            "{warnings:?}"
        );
        assert!(
            warnings[1].contains("one end of the binding does not exist"),
            "{warnings:?}"
        );
        assert!(control.decided().queue(b"v", b"q").expect("it stays").durable);
        let policy = control.decided().policy(b"v", PolicyKind::User, b"p");
        let most = policy.and_then(|policy| policy.definition.as_ref().get(b"max-length"));
        assert_eq!(most.and_then(|most| most.as_integer()), Some(6));
        let user = control.users().get(b"u").expect("it stays");
        assert_eq!(
            (user.permissions.len(), user.topics.len(), user.tags.len()),
            (1, 1, 0)
        );
    }

    #[test]
    fn a_file_that_names_what_is_not_there_changes_nothing() {
        let mut control = control();
        let faulty = FILE.replace(r#""vhosts": [{"name": "v""#, r#""vhosts": [{"name": "w""#);
        let problems = import(&mut control, &faulty, true).expect_err("there is no vhost v");
        assert_eq!(problems.len(), 6, "{problems:#?}");
        let told = problems[0].to_string();
        assert!(
            told.contains("vhost: expected a vhost that exists, found \"v\"\n   fix: "),
            "{told}"
        );
        assert!(control.users().get(b"u").is_none() && !control.decided().has_vhost(b"w"));
    }

    #[test]
    fn in_a_fresh_broker_the_file_takes_the_place_of_the_defaults() {
        let mut control = control();
        import(&mut control, FILE, true).expect("it fits");
        assert!(control.users().get(b"guest").is_none() && !control.decided().has_vhost(b"/"));
        let mut control = self::control();
        import(&mut control, FILE, false).expect("it fits");
        assert!(control.users().get(b"guest").is_some() && control.decided().has_vhost(b"/"));
    }
}
