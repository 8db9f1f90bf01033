//! One connection: handshake, heartbeats, and the channels it owns, decided without I/O.
//!
//! ```text
//!   AwaitHeader ─▶ AwaitStartOk ─▶ (login) ─▶ AwaitTuneOk ─▶ AwaitOpen ─▶ (vhost) ─▶ Running
//!        any state ──refusal──▶ Closing ──close-ok──▶ Closed          Running ──close──▶ PeerClosing ─▶ Closed
//! ```
//!
//! A connection is *pulled* one step at a time ([`Connection::pull`]): it decodes the next frame, answers what
//! concerns it alone, and hands every other method up as a [`Step`] that the caller carries out before it pulls
//! again, because a refusal or a declare decides what the bytes behind it mean. A run of publishes to one place is
//! one step. Replies are appended to a buffer the caller lends.
//!
//! The connection knows nothing of queues, exchanges, users or other connections.

mod capabilities;
mod closing;
mod handshake;
mod pull;

pub use capabilities::ClientCapabilities;
pub use handshake::{ServerIdentity, Tuning};
pub use pull::{Pulled, RUN_MAX, Step};

use crate::channel::{Channel, UsedNumbers};
use crate::model::{ChannelNumber, Moment, Refusal, ReplyCode, Share, ShortString, Usage};
use crate::protocol::frame::encode_heartbeat;
use std::collections::BTreeMap;

/// Where the conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// The protocol header is awaited.
    AwaitHeader,
    /// connection.start went out.
    AwaitStartOk,
    /// Credentials are being judged.
    LoggingIn,
    /// connection.tune went out.
    AwaitTuneOk,
    /// connection.open is awaited.
    AwaitOpen,
    /// The vhost is being judged.
    Opening,
    /// Open for methods on channels.
    Running,
    /// The peer sent connection.close; close-ok goes out when its queues are gone.
    PeerClosing,
    /// connection.close went out; all but close and close-ok is discarded.
    Closing,
    /// Nothing more is read; the socket closes once the output is written.
    Closed,
}

/// One client connection.
pub struct Connection {
    state: ConnectionState,
    tuning: Tuning,
    capabilities: ClientCapabilities,
    channels: Vec<Option<Box<Channel>>>,
    open_channels: u16,
    /// Where the user's channels of all connections are counted, and how many there may be.
    channels_of_user: Usage,
    channels_of_user_max: Option<u64>,
    shares: BTreeMap<ChannelNumber, Share>,
    /// What channels that are gone have used.
    used_numbers: UsedNumbers,
    last_publisher: u16,
    message_bytes_max: u64,
    vhost: ShortString,
    user: ShortString,
    opened_at: Moment,
    received_at: Moment,
    sent_at: Moment,
}

impl Connection {
    /// A connection just accepted at `now`; `offer` is what connection.tune will propose.
    pub fn new(offer: Tuning, message_bytes_max: u64, now: Moment) -> Self {
        Self {
            state: ConnectionState::AwaitHeader,
            tuning: offer,
            capabilities: ClientCapabilities::default(),
            channels: Vec::new(),
            open_channels: 0,
            channels_of_user: Usage::default(),
            channels_of_user_max: None,
            shares: BTreeMap::new(),
            used_numbers: UsedNumbers::default(),
            last_publisher: 0,
            message_bytes_max,
            vhost: ShortString::default(),
            user: ShortString::default(),
            opened_at: now,
            received_at: now,
            sent_at: now,
        }
    }

    /// Where the conversation stands.
    #[inline]
    pub fn state(&self) -> ConnectionState {
        self.state
    }

    /// Largest frame in bytes that may be sent, 0 for no limit.
    #[inline]
    pub fn frame_max(&self) -> u32 {
        self.tuning.frame_max
    }

    /// The vhost it is open to.
    pub fn vhost(&self) -> &ShortString {
        &self.vhost
    }

    /// Who it is logged in as.
    pub fn user(&self) -> &ShortString {
        &self.user
    }

    /// The user's channels are counted in `usage`, and there may be so many.
    pub fn count_channels(&mut self, usage: Usage, most: Option<u64>) {
        (self.channels_of_user, self.channels_of_user_max) = (usage, most);
    }

    /// The user may have so many channels from now on; those that are open stay.
    pub fn bound_channels(&mut self, most: Option<u64>) {
        self.channels_of_user_max = most;
    }

    /// What the client can be sent.
    pub fn capabilities(&self) -> ClientCapabilities {
        self.capabilities
    }

    /// The channel with `number`, open or closing.
    #[inline]
    pub fn channel_mut(&mut self, number: ChannelNumber) -> Option<&mut Channel> {
        self.channels.get_mut(usize::from(number.0))?.as_deref_mut()
    }

    /// The channel with `number`, open or closing.
    pub fn channel(&self, number: ChannelNumber) -> Option<&Channel> {
        self.channels.get(usize::from(number.0))?.as_deref()
    }

    /// All channels, ascending by number.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().flatten().map(|channel| &**channel)
    }

    /// The same, to be changed.
    pub fn channels_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.channels.iter_mut().flatten().map(|channel| &mut **channel)
    }

    /// Numbers of all channels, ascending.
    pub fn channel_numbers(&self) -> Vec<ChannelNumber> {
        self.channels().map(Channel::number).collect()
    }

    /// Something was written to the peer at `now`.
    #[inline]
    pub fn sent(&mut self, now: Moment) {
        self.sent_at = now;
    }

    /// Sends a heartbeat if due, and judges the peer's silence (AMQP 0-9-1 §4.2.7).
    ///
    /// # Errors
    /// The time of silence in seconds, when nothing came for two intervals: the socket is to be closed without a word, as RabbitMQ does.
    /// The handshake has its own deadline.
    pub fn beat(
        &mut self,
        now: Moment,
        is_reading: bool,
        handshake_milliseconds: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), SilentPeer> {
        if self.state != ConnectionState::Running {
            return self.judge_handshake(now, handshake_milliseconds);
        }
        let interval = u64::from(self.tuning.heartbeat_seconds) * 1000;
        if interval == 0 {
            return Ok(());
        }
        if !is_reading {
            self.received_at = now;
        }
        if now.milliseconds_since(self.received_at) > 2 * interval {
            return Err(SilentPeer::Heartbeat {
                timeout_seconds: self.tuning.heartbeat_seconds,
            });
        }
        if now.milliseconds_since(self.sent_at) >= interval / 2 {
            encode_heartbeat(out);
            self.sent_at = now;
        }
        Ok(())
    }

    fn judge_handshake(&mut self, now: Moment, limit: u64) -> Result<(), SilentPeer> {
        let is_late = now.milliseconds_since(self.opened_at) > limit;
        match self.state {
            ConnectionState::Closing | ConnectionState::Closed | ConnectionState::PeerClosing => {
                let waited = now.milliseconds_since(self.opened_at.max(self.sent_at));
                if waited > limit {
                    Err(SilentPeer::Close)
                } else {
                    Ok(())
                }
            }
            _ if is_late => Err(SilentPeer::Handshake { state: self.state }),
            _ => Ok(()),
        }
    }

    fn open_channel(&mut self, number: ChannelNumber) -> Result<(), Refusal> {
        let index = usize::from(number.0);
        if self.channel(number).is_some() {
            return Err(Refusal::new(
                ReplyCode::ChannelError,
                "second 'channel.open' seen",
            ));
        }
        let limit = self.tuning.channel_max;
        if limit != 0 && self.open_channels >= limit {
            let (open, text) = (self.open_channels, "has reached the negotiated channel_max");
            return Err(Refusal::new(
                ReplyCode::NotAllowed,
                format!("number of channels opened ({open}) {text} ({limit})"),
            ));
        }
        if limit != 0 && number.0 > limit {
            return Err(Refusal::new(
                ReplyCode::NotAllowed,
                format!("channel number {number} is above the negotiated channel_max ({limit})"),
            ));
        }
        let Some(share) = self.channels_of_user.take(self.channels_of_user_max) else {
            let (user, most) = (&self.user, self.channels_of_user_max.unwrap_or(0));
            let text = "has reached the maximum allowed user limit of";
            return Err(Refusal::new(
                ReplyCode::NotAllowed,
                format!("number of channels opened for user '{user}' {text} ({most})"),
            ));
        };
        self.shares.insert(number, share);
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, || None);
        }
        self.channels[index] = Some(Box::new(Channel::new(number, self.used_numbers)));
        self.open_channels += 1;
        Ok(())
    }

    fn drop_channel(&mut self, number: ChannelNumber) {
        let place = self.channels.get_mut(usize::from(number.0));
        if let Some(channel) = place.and_then(Option::take) {
            let UsedNumbers { consumer, sequence } = channel.used_numbers();
            self.used_numbers.consumer = self.used_numbers.consumer.max(consumer);
            self.used_numbers.sequence = self.used_numbers.sequence.max(sequence);
            self.open_channels -= 1;
            self.shares.remove(&number);
        }
    }
}

/// Why a silent peer is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilentPeer {
    /// Nothing came for two heartbeat intervals.
    #[error("missed heartbeats from client, timeout: {timeout_seconds}s")]
    Heartbeat {
        /// The negotiated interval.
        timeout_seconds: u16,
    },
    /// The handshake did not end in time.
    #[error("handshake timeout in state {state:?}")]
    Handshake {
        /// Where it stopped.
        state: ConnectionState,
    },
    /// close-ok did not come.
    #[error("no connection.close-ok came")]
    Close,
}
