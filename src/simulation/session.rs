//! `Session`: one connection of a client, from the protocol header to its end: it logs in, opens a channel for each
//! role, and gives every frame to the seat it is for.

use super::actor::Actor;
use super::auditor::Auditor;
use super::client::Role;
use super::committer::Committer;
use super::consumer::Consumer;
use super::declarer::Declarer;
use super::drainer::Drainer;
use super::flooder::Flooder;
use super::founder::Founder;
use super::getter::Getter;
use super::network::LinkId;
use super::publisher::Publisher;
use super::rival::Rival;
use super::scheduler::Scheduler;
use super::seat::{Seat, Surroundings};
use super::sharer::Sharer;
use super::sweeper::Sweeper;
use super::tenant::Tenant;
use crate::model::FieldTable;
use crate::protocol::content::ContentHeader;
use crate::protocol::frame::{Frame, FrameKind, PROTOCOL_HEADER, decode_frame};
use crate::protocol::method::*;

/// Largest frame before connection.tune.
const HANDSHAKE_FRAME_MAX: u32 = 4096;
/// Code with which a broker that shuts down closes connections.
const CONNECTION_FORCED: u16 = 320;

/// What is around a client: its world, for one moment.
pub struct Outside<'a> {
    /// The auditor.
    pub auditor: &'a mut Auditor,
    /// The scheduler.
    pub scheduler: &'a mut Scheduler,
    /// Whether the run comes to its end.
    pub is_winding_down: bool,
    /// Whether the broker shuts down.
    pub is_draining: bool,
    /// Whether the client may be gone without a word because the broker lets its connection wait.
    pub may_vanish: bool,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    AwaitStart,
    AwaitTune,
    AwaitOpenOk,
    Running,
    Closing,
}

/// One connection of a client.
pub struct Session {
    client: usize,
    link: LinkId,
    stage: Stage,
    frame_max: u32,
    /// Whether an alarm holds its publishes.
    is_blocked: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    seats: Vec<Seat>,
}

impl Session {
    /// A connection just opened, that will have a channel for each of `roles`.
    pub fn new(client: usize, link: LinkId, roles: &[Role], scheduler: &mut Scheduler) -> Self {
        let seats = (1..).zip(roles);
        let seats = seats.map(|(channel, &role)| Seat::new(channel, actor(role, client, scheduler)));
        Self {
            client,
            link,
            stage: Stage::AwaitStart,
            frame_max: HANDSHAKE_FRAME_MAX,
            is_blocked: false,
            input: Vec::new(),
            output: PROTOCOL_HEADER.to_vec(),
            seats: seats.collect(),
        }
    }

    /// Its connection.
    pub fn link(&self) -> LinkId {
        self.link
    }

    /// Whether it is open.
    pub fn is_running(&self) -> bool {
        self.stage == Stage::Running
    }

    /// Whether it has asked for its end.
    pub fn is_closing(&self) -> bool {
        self.stage == Stage::Closing
    }

    /// Whether it reads what comes.
    pub fn is_listening(&self) -> bool {
        self.stage != Stage::Running || self.seats.iter().all(Seat::is_listening)
    }

    /// What it is doing.
    pub fn describe(&self) -> String {
        let seats: Vec<String> = self.seats.iter().map(Seat::describe).collect();
        let blocked = if self.is_blocked { ", blocked" } else { "" };
        format!(
            "on link {} {:?}{blocked}: {}",
            self.link,
            self.stage,
            seats.join("; ")
        )
    }

    /// Sends what is to be sent.
    pub fn send(&mut self, scheduler: &mut Scheduler) {
        if self.output.is_empty() {
            return;
        }
        if let Some(link) = scheduler.network.link(self.link) {
            link.send(&mut self.output);
        }
        self.output.clear();
        scheduler.arrange_reach(self.link);
    }

    /// Reads `bytes` and answers.
    pub fn read(&mut self, bytes: &[u8], roles: &[Role], outside: &mut Outside<'_>) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut used = 0;
        loop {
            match decode_frame(&input[used..], self.frame_max) {
                Ok(Some((frame, length))) => {
                    self.take_frame(&frame, roles, outside);
                    used += length;
                }
                Ok(None) => break,
                Err(error) => {
                    let client = self.client;
                    outside
                        .auditor
                        .accuse(format!("client {client} cannot read a frame: {error}"));
                    break;
                }
            }
        }
        self.input = input[used..].to_vec();
        self.send(outside.scheduler);
    }

    /// Its turn: its actors', and its end when all are at rest.
    pub fn act(&mut self, outside: &mut Outside<'_>) {
        if self.stage != Stage::Running || outside.is_draining {
            return;
        }
        let mut around = surroundings(self.frame_max, &mut self.output, outside);
        for seat in &mut self.seats {
            seat.act(&mut around);
        }
        if outside.is_winding_down && self.seats.iter().all(Seat::is_at_rest) {
            let (client, link) = (self.client, self.link);
            outside
                .scheduler
                .say(format_args!("client {client} is done and closes link {link}"));
            self.close(outside.auditor);
        }
        self.send(outside.scheduler);
    }

    /// Asks for its end in order.
    pub fn close(&mut self, auditor: &mut Auditor) {
        self.stage = Stage::Closing;
        self.seats.iter_mut().for_each(|seat| seat.begin_end(auditor));
        let close = ConnectionClose {
            reply_code: 200,
            reply_text: b"bye",
            class_id: 0,
            method_id: 0,
        };
        Method::from(close).encode(0, &mut self.output);
    }

    /// It has ended in order.
    pub fn end(&mut self, auditor: &mut Auditor) {
        self.seats.iter_mut().for_each(|seat| seat.end(auditor));
    }

    /// Its connection has broken.
    pub fn break_off(&mut self, auditor: &mut Auditor) {
        self.seats.iter_mut().for_each(|seat| seat.break_off(auditor));
    }

    fn take_frame(&mut self, frame: &Frame<'_>, roles: &[Role], outside: &mut Outside<'_>) {
        let method = match frame.kind {
            FrameKind::Method => match Method::decode(frame.payload) {
                Ok(method) => Some(method),
                Err(error) => {
                    return outside
                        .auditor
                        .accuse(format!("a method cannot be decoded: {error}"));
                }
            },
            FrameKind::Heartbeat => return,
            FrameKind::Header | FrameKind::Body => None,
        };
        match method {
            Some(method) if frame.channel == 0 => self.converse(&method, outside),
            Some(method) => self.take_method(frame.channel, &method, roles, outside),
            None => self.take_content(frame, outside),
        }
    }

    /// A method on a channel. One that is closed is opened again, by a new actor of its role.
    fn take_method(&mut self, channel: u16, method: &Method<'_>, roles: &[Role], outside: &mut Outside<'_>) {
        let is_closing = self.is_closing();
        let Some(seat) = self.seats.get_mut(usize::from(channel).wrapping_sub(1)) else {
            let name = method.name();
            return outside
                .auditor
                .accuse(format!("{name} came on channel {channel}, which is not open"));
        };
        let mut around = surroundings(self.frame_max, &mut self.output, outside);
        around.is_draining |= is_closing;
        let is_closed = seat.hear(method, &mut around);
        if is_closed && !is_closing {
            let role = roles[usize::from(channel) - 1];
            *seat = Seat::new(channel, actor(role, self.client, outside.scheduler));
            seat.open(&mut surroundings(self.frame_max, &mut self.output, outside));
        }
    }

    fn take_content(&mut self, frame: &Frame<'_>, outside: &mut Outside<'_>) {
        let is_closing = self.is_closing();
        let Some(seat) = self.seats.get_mut(usize::from(frame.channel).wrapping_sub(1)) else {
            let channel = frame.channel;
            return outside
                .auditor
                .accuse(format!("a content came on channel {channel}, which is not open"));
        };
        let mut around = surroundings(self.frame_max, &mut self.output, outside);
        around.is_draining |= is_closing;
        if frame.kind == FrameKind::Body {
            return seat.take_body(frame.payload, &mut around);
        }
        match ContentHeader::decode(frame.payload) {
            Ok(header) => seat.take_header(&header, &mut around),
            Err(error) => around.auditor.accuse(error.to_string()),
        }
    }

    /// A method on the connection itself.
    fn converse(&mut self, method: &Method<'_>, outside: &mut Outside<'_>) {
        match (self.stage, method) {
            (Stage::AwaitStart, Method::ConnectionStart(_)) => self.log_in(),
            (Stage::AwaitTune, Method::ConnectionTune(tune)) => self.tune(tune),
            (Stage::AwaitOpenOk, Method::ConnectionOpenOk(_)) => {
                self.stage = Stage::Running;
                let mut around = surroundings(self.frame_max, &mut self.output, outside);
                self.seats.iter_mut().for_each(|seat| seat.open(&mut around));
            }
            (Stage::Closing, Method::ConnectionCloseOk(_)) => {}
            (Stage::Running | Stage::Closing, Method::ConnectionBlocked(_)) if !self.is_blocked => {
                self.is_blocked = true;
            }
            (Stage::Running | Stage::Closing, Method::ConnectionUnblocked(_)) if self.is_blocked => {
                self.is_blocked = false;
            }
            (_, Method::ConnectionClose(close)) => self.be_closed(close, outside),
            (stage, method) => {
                let name = method.name();
                outside
                    .auditor
                    .accuse(format!("{name} came to a client in stage {stage:?}"));
            }
        }
    }

    fn be_closed(&mut self, close: &ConnectionClose<'_>, outside: &mut Outside<'_>) {
        if !outside.is_draining || close.reply_code != CONNECTION_FORCED {
            let (code, text) = (close.reply_code, close.reply_text.escape_ascii());
            outside
                .auditor
                .accuse(format!("the broker closed a connection: {code} {text}"));
        }
        Method::from(ConnectionCloseOk {}).encode(0, &mut self.output);
    }

    fn log_in(&mut self) {
        let capabilities = FieldTable::builder()
            .boolean("consumer_cancel_notify", true)
            .boolean("connection.blocked", true)
            .build();
        let properties = FieldTable::builder().table("capabilities", &capabilities).build();
        let start_ok = ConnectionStartOk {
            client_properties: properties.as_ref(),
            mechanism: b"PLAIN",
            response: b"\0guest\0guest",
            locale: b"en_US",
        };
        Method::from(start_ok).encode(0, &mut self.output);
        self.stage = Stage::AwaitTune;
    }

    fn tune(&mut self, tune: &ConnectionTune) {
        self.frame_max = tune.frame_max;
        let tune_ok = ConnectionTuneOk {
            channel_max: tune.channel_max,
            frame_max: tune.frame_max,
            heartbeat: 0,
        };
        Method::from(tune_ok).encode(0, &mut self.output);
        let open = ConnectionOpen {
            virtual_host: b"/",
            capabilities: b"",
            insist: false,
        };
        Method::from(open).encode(0, &mut self.output);
        self.stage = Stage::AwaitOpenOk;
    }
}

fn surroundings<'a>(frame_max: u32, out: &'a mut Vec<u8>, outside: &'a mut Outside<'_>) -> Surroundings<'a> {
    Surroundings {
        frame_max,
        out,
        dice: &mut outside.scheduler.dice,
        auditor: outside.auditor,
        is_winding_down: outside.is_winding_down,
        is_draining: outside.is_draining,
    }
}

fn actor(role: Role, client: usize, scheduler: &mut Scheduler) -> Box<dyn Actor> {
    match role {
        Role::Found => Box::new(Founder::default()),
        Role::Publish(manner) => Box::new(Publisher::new(manner, scheduler.dice.below(1 << 16) as usize)),
        Role::Commit => Box::new(Committer::new(scheduler.dice.below(1 << 16) as usize)),
        Role::Consume(queue) => Box::new(Consumer::new(queue)),
        Role::Share => Box::new(Sharer::default()),
        Role::Rent => Box::new(Tenant::default()),
        Role::Fight => Box::new(Rival::default()),
        Role::Sweep => Box::new(Sweeper::default()),
        Role::Flood => Box::new(Flooder::default()),
        Role::Get => Box::new(Getter::default()),
        Role::Declare => Box::new(Declarer::new(client)),
        Role::Drain => Box::new(Drainer::default()),
    }
}
