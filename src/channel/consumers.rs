//! `Consumers`: the consumers of one channel, by tag for the client and by number for deliveries.

use crate::model::{QueueId, Refusal, ReplyCode, ShardId, ShortString};
use crate::protocol::deliver::DeliverTemplate;

/// A consumer of this channel.
#[derive(Debug)]
pub struct ChannelConsumer {
    /// Its tag.
    pub tag: ShortString,
    /// Its number on the channel, never used again on a channel of this number while the connection lives.
    pub number: u32,
    /// The queue it consumes from.
    pub queue: QueueId,
    /// The core that owns the queue.
    pub owner: ShardId,
    /// The queue's slot at the owner, when that is this core.
    pub queue_slot: u32,
    /// Whether deliveries need no acknowledgement.
    pub no_ack: bool,
    /// Returns that its owner, on another core, has not answered. Until it has, further deliveries go back too: they were sent
    /// behind those that the channel had no room for, and their order must hold.
    pub returning: u32,
    /// Grants that its owner, on another core, has not answered.
    pub granting: u32,
    template: Option<DeliverTemplate>,
}

impl ChannelConsumer {
    /// A consumer just accepted by its queue.
    pub fn new(
        tag: ShortString,
        number: u32,
        queue: QueueId,
        owner: ShardId,
        queue_slot: u32,
        no_ack: bool,
    ) -> Self {
        Self {
            tag,
            number,
            queue,
            owner,
            queue_slot,
            no_ack,
            returning: 0,
            granting: 0,
            template: None,
        }
    }

    /// The prepared frames of a delivery from `exchange` with `routing_key`, made anew only when these changed.
    #[inline]
    pub fn template(&mut self, channel: u16, exchange: &[u8], routing_key: &[u8]) -> &DeliverTemplate {
        let fits = self
            .template
            .as_ref()
            .is_some_and(|template| template.matches(exchange, routing_key));
        if !fits {
            self.template = Some(DeliverTemplate::new(
                channel,
                self.tag.as_bytes(),
                exchange,
                routing_key,
            ));
        }
        self.template
            .as_ref()
            .expect("made just above when it did not fit")
    }
}

/// The consumers of a channel, ascending by number: few, so a search by halves or a scan is quick.
#[derive(Default)]
pub struct Consumers {
    by_number: Vec<ChannelConsumer>,
    numbered: u32,
}

impl Consumers {
    /// None yet, on a channel whose predecessors used numbers up to `last`.
    pub fn after(last: u32) -> Self {
        Self {
            by_number: Vec::new(),
            numbered: last,
        }
    }

    /// The last number given out.
    pub fn last_number(&self) -> u32 {
        self.numbered
    }

    /// The number for a consumer that is about to be made; starts at 1, as 0 stands for basic.get.
    pub fn next_number(&mut self) -> u32 {
        self.numbered += 1;
        self.numbered
    }

    /// A tag in RabbitMQ's manner for a consumer whose client gave none.
    pub fn tag_for(random: u128) -> ShortString {
        ShortString::truncated(&format!(
            "amq.ctag-{}",
            crate::model::short_string::base64url(random)
        ))
    }

    /// Checks that `tag` is free: that neither one of these nor the consumer of replies has it.
    ///
    /// # Errors
    /// 530 `attempt to reuse consumer tag 't'`, which closes the connection.
    pub fn check_tag_is_free(&self, tag: &[u8], of_replies: Option<&ShortString>) -> Result<(), Refusal> {
        let has_it = |taken: &ShortString| taken.as_bytes() == tag;
        if self.by_tag(tag).is_some() || of_replies.is_some_and(has_it) {
            let tag = String::from_utf8_lossy(tag);
            return Err(Refusal::new(
                ReplyCode::NotAllowed,
                format!("attempt to reuse consumer tag '{tag}'"),
            ));
        }
        Ok(())
    }

    /// Adds a consumer; its number came from `next_number`, later than all numbers before it.
    pub fn add(&mut self, consumer: ChannelConsumer) {
        debug_assert!(
            self.by_number
                .last()
                .is_none_or(|last| last.number < consumer.number),
            "numbers ascend"
        );
        self.by_number.push(consumer);
    }

    /// The consumer with `number`.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut ChannelConsumer> {
        let index = match self.by_number.first() {
            Some(only) if only.number == number => 0,
            _ => self
                .by_number
                .binary_search_by_key(&number, |consumer| consumer.number)
                .ok()?,
        };
        self.by_number.get_mut(index)
    }

    /// Takes the consumer with `tag`.
    pub fn remove_tag(&mut self, tag: &[u8]) -> Option<ChannelConsumer> {
        let index = self
            .by_number
            .iter()
            .position(|consumer| consumer.tag.as_bytes() == tag)?;
        Some(self.by_number.remove(index))
    }

    /// Takes the consumer with `number`.
    pub fn remove_number(&mut self, number: u32) -> Option<ChannelConsumer> {
        let index = self
            .by_number
            .binary_search_by_key(&number, |consumer| consumer.number)
            .ok()?;
        Some(self.by_number.remove(index))
    }

    /// The consumer with `tag`.
    pub fn by_tag(&self, tag: &[u8]) -> Option<&ChannelConsumer> {
        self.by_number
            .iter()
            .find(|consumer| consumer.tag.as_bytes() == tag)
    }

    /// Takes all.
    pub fn take_all(&mut self) -> Vec<ChannelConsumer> {
        std::mem::take(&mut self.by_number)
    }

    /// All, in the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = &ChannelConsumer> {
        self.by_number.iter()
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut ChannelConsumer> {
        self.by_number.iter_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }
}
