//! `Workload`: what a TOML file in `perf/workloads/` says, checked.

use std::fs;
use std::path::Path;

use super::body::BODY_CHECKED_MIN;
use super::setting::overridden;
pub use super::workload_error::WorkloadError;
use serde::{Deserialize, Serialize};

/// A load to put on a broker. Every key has a default but `name` and the groups' sizes that make it a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Short name: letters, digits, `-` and `_`. Part of the report's directory and of the queues' names.
    pub name: String,
    /// One sentence: what the figures show.
    #[serde(default)]
    pub why: String,
    /// Seconds at full load before measuring begins.
    #[serde(default = "default_warmup_seconds")]
    pub warmup_seconds: f64,
    /// Seconds measured.
    #[serde(default = "default_duration_seconds")]
    pub duration_seconds: f64,
    /// Seconds that messages may take to arrive after the publishers stopped; what is missing then counts as lost.
    #[serde(default = "default_drain_seconds")]
    pub drain_seconds: f64,
    /// Messages published and not yet delivered at which closed-loop publishers pause, so that a slow broker is not
    /// measured by filling its memory. Default: 200,000, or as many as hold 64 MiB of bodies if that is fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u64>,
    /// The whole body of every so many-th message is compared with what was sent; 1 compares each.
    #[serde(default = "default_verify_every")]
    pub verify_body_every: u64,
    /// Where publishers publish to.
    #[serde(default)]
    pub exchange: ExchangeGroup,
    /// Queues, numbered through all groups.
    #[serde(rename = "queue")]
    pub queues: Vec<QueueGroup>,
    /// Publishers, numbered through all groups; each is a connection with one channel.
    #[serde(rename = "publisher", default)]
    pub publishers: Vec<PublisherGroup>,
    /// Consumers, numbered through all groups; each is a connection with one channel.
    #[serde(rename = "consumer", default)]
    pub consumers: Vec<ConsumerGroup>,
}

/// The exchange between publishers and queues.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExchangeGroup {
    /// Kind of exchange.
    pub kind: ExchangeKind,
    /// Whether it is declared durable.
    pub durable: bool,
    /// Bindings beside the used ones, which no message matches.
    pub idle_bindings: u32,
}

/// How messages find their queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeKind {
    /// The default exchange: the routing key is the queue's name.
    #[default]
    Default,
    /// A key for each queue.
    Direct,
    /// Every message goes to every queue.
    Fanout,
    /// A key `route.N.event` for each queue, bound as `route.N.*`.
    Topic,
    /// A header `route` for each queue, bound with `x-match: all`.
    Headers,
}

/// Queues that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueGroup {
    /// Number of queues.
    #[serde(default = "default_one")]
    pub count: u32,
    /// Whether they are declared durable.
    #[serde(default)]
    pub durable: bool,
    /// Arguments of the declaration, such as `x-lane`, `x-max-length` or `x-queue-type`.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub arguments: toml::Table,
}

/// Publishers that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherGroup {
    /// Number of publishers.
    #[serde(default = "default_one")]
    pub count: u32,
    /// Size of the body in bytes, or a list that is gone through in turn. From 16 bytes on a body carries its
    /// publisher, number and check, from 24 on also its intended send time.
    pub body_bytes: Sizes,
    /// Whether messages are persistent (delivery mode 2).
    #[serde(default)]
    pub persistent: bool,
    /// Whether messages that find no queue come back.
    #[serde(default)]
    pub mandatory: bool,
    /// Messages that may wait for their confirm; 0: no confirms.
    #[serde(default)]
    pub confirm_window: u32,
    /// Messages a second of the whole group on a fixed schedule (open loop); 0: as fast as it goes (closed loop).
    #[serde(default)]
    pub rate: f64,
    /// How the scheduled messages are spread in time.
    #[serde(default)]
    pub arrival: Arrival,
    /// Which queues each publisher reaches, unless the exchange is a fanout.
    #[serde(default)]
    pub spread: Spread,
    /// The broker's core that must have accepted their connections, if it tells (LaneMQ's `lane`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<u16>,
}

/// One size or several in turn, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sizes {
    /// All the same.
    One(u32),
    /// The n-th message has the size at n modulo the length.
    Turns(Vec<u32>),
}

/// How the messages of an open loop are spread in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// Equal intervals.
    #[default]
    Constant,
    /// Independent intervals with the rate as their mean.
    Poisson,
}

/// Which queues a publisher reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// All, in turn.
    #[default]
    All,
    /// One: publisher N reaches queue N modulo the number of queues.
    Own,
}

/// Consumers that are alike. With fewer consumers than queues each consumes several queues on its channel, with more
/// they compete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerGroup {
    /// Number of consumers.
    #[serde(default = "default_one")]
    pub count: u32,
    /// How deliveries are acknowledged: `"auto"`, `"each"`, or `{ multiple = 100 }` for one ack every 100.
    #[serde(default)]
    pub ack: AckMode,
    /// Unacknowledged messages a consumer may hold (basic.qos); 0: no limit.
    #[serde(default)]
    pub prefetch: u16,
    /// The broker's core that must have accepted their connections, if it tells (LaneMQ's `lane`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<u16>,
}

/// How deliveries are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckMode {
    /// The broker takes them as acknowledged when sent (`no_ack`).
    #[default]
    Auto,
    /// A basic.ack for each.
    Each,
    /// A basic.ack with `multiple` for every so many.
    Multiple(u32),
}

impl Workload {
    /// Reads `path`, applies `settings` (`key=value` with dotted keys) in order and checks the whole.
    pub fn load(path: &Path, settings: &[String]) -> Result<Self, WorkloadError> {
        let text = fs::read_to_string(path).map_err(|source| WorkloadError::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string(), settings)
    }

    /// Like `load`, from `text`; `origin` names it in errors.
    pub fn parse(text: &str, origin: &str, settings: &[String]) -> Result<Self, WorkloadError> {
        let plain: Self = toml::from_str(text).map_err(|error| WorkloadError::parse(origin, &error))?;
        let workload = if settings.is_empty() {
            plain
        } else {
            overridden(text, origin, settings)?
        };
        workload.check()?;
        Ok(workload)
    }

    /// Number of queues of all groups.
    pub fn queue_count(&self) -> u32 {
        self.queues.iter().map(|group| group.count).sum()
    }

    /// `in_flight_max`, or its default for these bodies.
    pub fn in_flight_limit(&self) -> u64 {
        let largest = self
            .publishers
            .iter()
            .flat_map(|group| group.body_bytes.all())
            .max()
            .copied()
            .unwrap_or(0);
        let by_memory = IN_FLIGHT_BYTES_DEFAULT / u64::from(largest.max(1));
        self.in_flight_max
            .unwrap_or(IN_FLIGHT_DEFAULT.min(by_memory.max(16)))
    }

    fn check(&self) -> Result<(), WorkloadError> {
        check_name(&self.name)?;
        check_seconds("duration_seconds", self.duration_seconds, 0.1)?;
        check_seconds("warmup_seconds", self.warmup_seconds, 0.0)?;
        check_seconds("drain_seconds", self.drain_seconds, 0.0)?;
        let every = self.verify_body_every;
        require(every > 0, "verify_body_every", every, "1 or more")?;
        require(
            self.in_flight_max != Some(0),
            "in_flight_max",
            0,
            "1 or more, or leave it out",
        )?;
        self.check_counts()?;
        self.publishers
            .iter()
            .enumerate()
            .try_for_each(|(index, group)| group.check(index))?;
        self.consumers
            .iter()
            .enumerate()
            .try_for_each(|(index, group)| group.check(index))
    }

    fn check_counts(&self) -> Result<(), WorkloadError> {
        let queues = self.queue_count();
        require(
            (1..=100_000).contains(&queues),
            "queue.count",
            queues,
            "1 to 100,000 queues in all",
        )?;
        let publishers: u64 = self.publishers.iter().map(|group| u64::from(group.count)).sum();
        let expected = "1 to 20,000 publishers in all";
        require(
            (1..=20_000).contains(&publishers),
            "publisher.count",
            publishers,
            expected,
        )
    }
}

impl PublisherGroup {
    fn check(&self, index: usize) -> Result<(), WorkloadError> {
        let key = |name: &str| format!("publisher.{index}.{name}");
        let sizes = self.body_bytes.all();
        require(
            !sizes.is_empty() && sizes.len() <= 64,
            &key("body_bytes"),
            sizes.len(),
            "1 to 64 sizes",
        )?;
        for &size in sizes {
            require(
                size <= BODY_BYTES_MAX,
                &key("body_bytes"),
                size,
                "at most 128 MiB",
            )?;
        }
        require(
            self.rate.is_finite() && self.rate >= 0.0,
            &key("rate"),
            self.rate,
            "0 or messages a second",
        )?;
        require(
            self.confirm_window <= 1 << 22,
            &key("confirm_window"),
            self.confirm_window,
            "at most 4,194,304",
        )
    }
}

impl ConsumerGroup {
    fn check(&self, index: usize) -> Result<(), WorkloadError> {
        let AckMode::Multiple(every) = self.ack else {
            return Ok(());
        };
        let key = format!("consumer.{index}.ack.multiple");
        require(every > 0, &key, every, "1 or more")?;
        let is_reachable = self.prefetch == 0 || u32::from(self.prefetch) >= every;
        require(
            is_reachable,
            &key,
            every,
            "no more than prefetch, or no ack would ever be due",
        )
    }
}

impl Sizes {
    /// The sizes in turn.
    pub fn all(&self) -> &[u32] {
        match self {
            Self::One(size) => std::slice::from_ref(size),
            Self::Turns(sizes) => sizes,
        }
    }

    /// Whether every body is large enough to carry its number and check.
    pub fn are_checked(&self) -> bool {
        self.all().iter().all(|&size| size as usize >= BODY_CHECKED_MIN)
    }
}

fn check_name(name: &str) -> Result<(), WorkloadError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_good = !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain);
    require(is_good, "name", name, "1 to 64 letters, digits, '-' and '_'")
}

fn check_seconds(key: &str, seconds: f64, min: f64) -> Result<(), WorkloadError> {
    let is_good = seconds.is_finite() && (min..=86_400.0).contains(&seconds);
    require(
        is_good,
        key,
        seconds,
        "seconds, at most a day, and a tenth at least for the duration",
    )
}

fn require(
    holds: bool,
    key: &str,
    found: impl ToString,
    expected: &'static str,
) -> Result<(), WorkloadError> {
    if holds {
        return Ok(());
    }
    Err(WorkloadError::Invalid {
        key: key.to_owned(),
        found: found.to_string(),
        expected,
    })
}

fn default_warmup_seconds() -> f64 {
    2.0
}

fn default_duration_seconds() -> f64 {
    10.0
}

fn default_drain_seconds() -> f64 {
    30.0
}

fn default_verify_every() -> u64 {
    16
}

fn default_one() -> u32 {
    1
}

const IN_FLIGHT_DEFAULT: u64 = 200_000;
const IN_FLIGHT_BYTES_DEFAULT: u64 = 64 << 20;
const BODY_BYTES_MAX: u32 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "name = \"plain\"\n[[queue]]\n[[publisher]]\nbody_bytes = 16\n[[consumer]]\n";

    fn parse(text: &str, settings: &[&str]) -> Result<Workload, WorkloadError> {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        Workload::parse(text, "test.toml", &settings)
    }

    #[test]
    fn a_short_workload_gets_the_defaults() {
        let workload = parse(PLAIN, &[]).expect("the text is a workload");
        assert_eq!(workload.queue_count(), 1);
        assert_eq!(workload.consumers[0].ack, AckMode::Auto);
        assert_eq!(workload.exchange.kind, ExchangeKind::Default);
        assert_eq!(workload.in_flight_limit(), 200_000);
    }

    #[test]
    fn large_bodies_lower_the_backlog_that_is_allowed() {
        let workload = parse(PLAIN, &["publisher.body_bytes=65536"]).expect("the setting fits");
        assert_eq!(workload.in_flight_limit(), 1024);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse(&format!("{PLAIN}prefetsch = 3\n"), &[])
            .expect_err("the key is unknown")
            .to_string();
        assert!(error.contains("prefetsch") && error.contains("line 6"), "{error}");
    }

    #[test]
    fn an_ack_that_prefetch_could_never_reach_is_refused() {
        let error = parse(
            PLAIN,
            &["consumer.ack={ multiple = 100 }", "consumer.prefetch=10"],
        );
        let error = error.expect_err("it would stall").to_string();
        assert!(error.contains("consumer.0.ack.multiple"), "{error}");
    }

    #[test]
    fn every_workload_that_comes_with_the_program_is_valid_and_named_like_its_file() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("perf/workloads");
        let files = fs::read_dir(directory).expect("the workloads are there");
        let paths = files.map(|file| file.expect("the directory can be read").path());
        let mut count = 0;
        for path in paths {
            let workload = Workload::load(&path, &[]).expect("it is valid");
            assert_eq!(
                path.file_stem().and_then(|stem| stem.to_str()),
                Some(workload.name.as_str())
            );
            assert!(!workload.why.is_empty(), "{} says what it shows", path.display());
            count += 1;
        }
        assert!(count >= 8, "{count} workloads");
    }
}
