//! `Config`: every setting, its range and its default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::bounded::{OutOfRange, Range, Unit, bounded};
use super::{CoreSet, ListenAddresses, MemoryBudget};

/// All settings of a broker. `Config::default()` is what `config/lanemq.toml` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses to accept AMQP on.
    pub listen: ListenAddresses,
    /// Directory of the logs, made when missing; one broker at a time may use it.
    pub data_dir: PathBuf,
    /// The cores that become lanes.
    #[serde(with = "as_text")]
    pub cores: CoreSet,
    /// What a publisher confirm promises.
    pub durability: Durability,
    /// Bounds of connections, messages, buffers and memory.
    pub limits: Limits,
    /// Users, vhosts, policies and what is declared, from a file.
    pub definitions: DefinitionsFile,
    /// Each core's log.
    pub log: Log,
    /// Reading from sockets.
    pub net: Net,
    /// What the broker writes to standard error.
    pub logging: Logging,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ListenAddresses::default(),
            data_dir: PathBuf::from("./data"),
            cores: CoreSet::default(),
            durability: Durability::default(),
            limits: Limits::default(),
            definitions: DefinitionsFile::default(),
            log: Log::default(),
            net: Net::default(),
            logging: Logging::default(),
        }
    }
}

impl Config {
    /// The settings as TOML, in the form the config file has.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every setting has a form in TOML, and tables come after values")
    }
}

/// What has happened to a persistent message when its confirm is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on the disk: it survives a power cut.
    #[default]
    Fsync,
    /// It is in the kernel's page cache: it survives the end of the process, not a power cut.
    Write,
}

impl Durability {
    /// The word in the config file and in reports: "fsync" or "write".
    pub fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Write => "write",
        }
    }
}

/// `[limits]`: every buffer and table has a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest frame, offered in connection.tune.
    pub frame_max: FrameMax,
    /// Most channels a connection may open, offered in connection.tune.
    pub channel_max: ChannelMax,
    /// Heartbeat offered in connection.tune; 0 offers none.
    pub heartbeat_seconds: HeartbeatSeconds,
    /// Time a client has from its first byte to connection.open.
    pub handshake_timeout_milliseconds: HandshakeTimeoutMilliseconds,
    /// Time a delivery may stay unacknowledged before its channel is closed; 0 is for ever.
    pub consumer_timeout_milliseconds: ConsumerTimeoutMilliseconds,
    /// Largest message body.
    pub message_bytes_max: MessageBytesMax,
    /// Largest transaction of a channel.
    pub transaction_bytes_max: TransactionBytesMax,
    /// Most connections of the process.
    pub connections_max: ConnectionsMax,
    /// Most connections of the process that have not been authenticated yet.
    pub unauthenticated_connections_max: UnauthenticatedConnectionsMax,
    /// Bytes that may wait for one connection's socket before its queues stop pushing.
    pub output_bytes_max: OutputBytesMax,
    /// Bytes that one core may have under way to another.
    pub ring_credit_bytes: RingCreditBytes,
    /// Memory the broker plans to use, split evenly between its cores.
    #[serde(with = "as_text")]
    pub memory: MemoryBudget,
}

/// `[definitions]`: what is declared from a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DefinitionsFile {
    /// The file, in RabbitMQ's form; empty for none.
    pub file: PathBuf,
}

/// `[log]`: the log of each core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Size of a segment file; at least four times `limits.frame_max`.
    pub segment_bytes: SegmentBytes,
    /// Longest time a written record may wait for its sync when nobody asks for one.
    pub sync_interval_max_milliseconds: SyncIntervalMaxMilliseconds,
    /// Segments written with zeros ahead of need.
    pub spare_segments: SpareSegments,
}

/// `[net]`: reading from sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Net {
    /// Size of a receive buffer: the most that one read takes from a socket. At least `limits.frame_max` and 16 more.
    pub receive_buffer_bytes: ReceiveBufferBytes,
    /// Most receive buffers of a core; they are made when first needed.
    pub receive_buffers: ReceiveBuffers,
}

/// `[logging]`: the broker's own lines, written to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// The form of a line.
    pub format: LogFormat,
}

/// Severity of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs somebody's attention now.
    Error,
    /// What may come to need it.
    Warn,
    /// The broker's life and its connections'.
    #[default]
    Info,
    /// What each connection does.
    Debug,
    /// What each method does.
    Trace,
}

/// Form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time, level, message, fields.
    #[default]
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

bounded! {
    /// Largest frame in bytes, its 8 bytes of header and end included. RabbitMQ's floor is 8,192; older clients ask
    /// for 4,096. No limit is not offered, because every buffer has a bound.
    FrameMax(u32), 4_096..=16_777_216, Unit::Bytes, default 131_072
}
bounded! {
    /// Most channels of a connection.
    ChannelMax(u16), 1..=65_535, Unit::Of("channels"), default 2_047
}
bounded! {
    /// Heartbeat in seconds; 0 is none.
    HeartbeatSeconds(u16), 0..=65_535, Unit::Of("seconds"), default 60
}
bounded! {
    /// Time for the handshake.
    HandshakeTimeoutMilliseconds(u32), 100..=600_000, Unit::Of("milliseconds"), default 10_000
}
bounded! {
    /// Time for an acknowledgement, looked at once a second; 0 is for ever. RabbitMQ's default is 1,800,000; a client that
    /// works for longer than that on a message loses its channel there without having asked for a limit.
    ConsumerTimeoutMilliseconds(u32), 0..=2_147_483_647, Unit::Of("milliseconds"), default 0
}
bounded! {
    /// Largest body in bytes. RabbitMQ 3.10's default is the same.
    MessageBytesMax(u32), 1_024..=536_870_912, Unit::Bytes, default 134_217_728
}
bounded! {
    /// Bytes that the publishes of one transaction may take in memory until its commit; one message larger than this is
    /// still taken.
    TransactionBytesMax(u32), 65_536..=1_073_741_824, Unit::Bytes, default 67_108_864
}
bounded! {
    /// Most connections. Each takes a file descriptor, so the process's limit on open files bounds them as well.
    ConnectionsMax(u32), 1..=10_000_000, Unit::Of("connections"), default 100_000
}
bounded! {
    /// Most connections before authentication.
    UnauthenticatedConnectionsMax(u32), 1..=1_000_000, Unit::Of("connections"), default 1_024
}
bounded! {
    /// Bytes waiting for one socket; one message larger than this is still sent.
    OutputBytesMax(u32), 65_536..=1_073_741_824, Unit::Bytes, default 1_048_576
}
bounded! {
    /// Bytes between two cores; one message larger than this still passes, alone.
    RingCreditBytes(u32), 65_536..=1_073_741_824, Unit::Bytes, default 4_194_304
}
bounded! {
    /// Bytes of a segment file. The floor is what tests use; a position in a segment has 32 bits.
    SegmentBytes(u32), 1_048_576..=1_073_741_824, Unit::Bytes, default 67_108_864
}
bounded! {
    /// Time to a sync that nobody asked for.
    SyncIntervalMaxMilliseconds(u32), 1..=60_000, Unit::Of("milliseconds"), default 100
}
bounded! {
    /// Segments prepared ahead, for each core.
    SpareSegments(u16), 1..=64, Unit::Of("segments"), default 2
}
bounded! {
    /// Bytes of a receive buffer.
    ReceiveBufferBytes(u32), 16_384..=33_554_432, Unit::Bytes, default 262_144
}
bounded! {
    /// Receive buffers of a core.
    ReceiveBuffers(u32), 4..=65_536, Unit::Of("buffers"), default 128
}

/// Settings that have a text form of their own, read by `FromStr` and written by `Display`.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT_FILE: &str = include_str!("../../config/lanemq.toml");

    #[test]
    fn the_config_file_in_the_repository_holds_the_defaults() {
        let shown: Config = toml::from_str(DEFAULT_FILE).expect("config/lanemq.toml is valid");
        assert_eq!(shown, Config::default());
    }

    #[test]
    fn the_config_file_in_the_repository_shows_every_setting_below_a_comment() {
        let shown: toml::Table = toml::from_str(DEFAULT_FILE).expect("config/lanemq.toml is valid");
        let all: toml::Table = toml::from_str(&Config::default().to_toml()).expect("what we write is valid");
        assert_eq!(
            shown, all,
            "config/lanemq.toml lacks a setting, or writes it in another form"
        );

        let is_setting = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase());
        for (above, line) in DEFAULT_FILE.lines().zip(DEFAULT_FILE.lines().skip(1)) {
            assert!(
                !is_setting(line) || above.starts_with('#'),
                "`{line}` has no comment above it"
            );
        }
    }

    #[test]
    fn settings_written_as_toml_are_read_back_the_same() {
        let mut config = Config {
            durability: Durability::Write,
            cores: "0-3,5".parse().unwrap(),
            ..Config::default()
        };
        config.limits.frame_max = FrameMax::new(4_100).expect("in range");
        config.limits.memory = MemoryBudget::Bytes(1 << 30);
        config.logging.format = LogFormat::Json;
        assert_eq!(toml::from_str(&config.to_toml()), Ok(config));
    }
}
