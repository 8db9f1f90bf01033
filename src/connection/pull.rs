//! Pulling: the next frame, or the next run of publishes, out of received bytes.

use super::{Connection, ConnectionState};
use crate::channel::{AssemblyError, ChannelState};
use crate::model::{ChannelNumber, Moment, Refusal, ReplyCode};
use crate::protocol::content::ContentHeader;
use crate::protocol::erlang::PayloadSnippet;
use crate::protocol::frame::{Frame, FrameKind, HeaderVerdict, decode_frame, judge_protocol_header};
use crate::protocol::method::{
    ChannelCloseOk, ChannelOpenOk, ConnectionCloseOk, ConnectionUpdateSecretOk, Method, method_ids,
};
use crate::protocol::publish::{RecognisedPublish, recognise_publish};

/// Most publishes in one step; their places fit the first-level cache.
pub const RUN_MAX: usize = 256;

/// Largest frame before tune-ok. Above RabbitMQ's 8192, so that a token as password passes.
const HANDSHAKE_FRAME_MAX: u32 = 65_536;

/// Class and method of basic.publish, which fails when its content does.
const PUBLISH: (u16, u16) = (60, 40);

/// What the caller must do before it pulls again.
#[derive(Debug)]
pub enum Step<'i> {
    /// More bytes are needed.
    NeedMore,
    /// Done already.
    Handled,
    /// The protocol header was right: answer with [`Connection::start`].
    Greeted,
    /// Judge a login: answer with [`Connection::logged_in`] or [`Connection::login_refused`].
    Login {
        /// Name of the SASL mechanism.
        mechanism: &'i [u8],
        /// Its initial response.
        response: &'i [u8],
    },
    /// Judge a vhost: answer with [`Connection::opened`] or [`Connection::refuse`].
    Open {
        /// Its name.
        vhost: &'i [u8],
    },
    /// Carry out a method on an open channel.
    Method(ChannelNumber, Method<'i>),
    /// Publish the run lent to `pull`: all on this channel, all to the target of its assembly; places are in the input.
    Run(ChannelNumber),
    /// A publish begins on this channel whose content is still to come.
    Begun(ChannelNumber),
    /// Its header, or a part of its body, lies in its channel's assembly: count the memory that takes.
    Unfinished(ChannelNumber),
    /// Publish the message complete in the channel's assembly.
    Assembled(ChannelNumber),
    /// The peer closes a channel: release what it holds, then [`Connection::channel_closed`].
    CloseChannel(ChannelNumber),
    /// Refuse on a channel, with class and method that failed.
    RefuseChannel(ChannelNumber, Refusal, (u16, u16)),
    /// Refuse the connection, with class and method that failed.
    Refuse(Refusal, (u16, u16)),
    /// The peer closes the connection: release what it holds, then [`Connection::closed`].
    CloseConnection,
    /// Nothing more will be read; close the socket when the output is written.
    End,
}

/// One step, and the bytes of input it used.
#[derive(Debug)]
pub struct Pulled<'i> {
    /// Bytes to drop from the head of the input.
    pub consumed: usize,
    /// What to do.
    pub step: Step<'i>,
}

impl Connection {
    /// The next step from `input`. `run` is lent for the places of a run; replies are appended to `out`.
    ///
    /// Nothing after a step's bytes is looked at, so a refused step can be followed by any state.
    pub fn pull<'i>(
        &mut self,
        input: &'i [u8],
        now: Moment,
        run: &mut Vec<RecognisedPublish>,
        out: &mut Vec<u8>,
    ) -> Pulled<'i> {
        self.received_at = now;
        match self.state {
            ConnectionState::Running => self.pull_running(input, run, out),
            ConnectionState::AwaitHeader => self.pull_protocol_header(input, out),
            ConnectionState::Closed => Pulled {
                consumed: input.len(),
                step: Step::End,
            },
            _ => self.pull_frame(input, out),
        }
    }

    #[inline]
    fn pull_running<'i>(
        &mut self,
        input: &'i [u8],
        run: &mut Vec<RecognisedPublish>,
        out: &mut Vec<u8>,
    ) -> Pulled<'i> {
        let consumed = self.recognise_run(input, run);
        if consumed > 0 {
            return Pulled {
                consumed,
                step: Step::Run(ChannelNumber(self.last_publisher)),
            };
        }
        self.pull_frame(input, out)
    }

    /// Collects publishes that begin as the last one did. Returns the bytes they take.
    fn recognise_run(&self, input: &[u8], run: &mut Vec<RecognisedPublish>) -> usize {
        run.clear();
        let Some(channel) = self.channel(ChannelNumber(self.last_publisher)) else {
            return 0;
        };
        let method_frame = channel.assembly.method_frame();
        if method_frame.is_empty()
            || channel.assembly.is_in_content()
            || channel.state() != ChannelState::Open
        {
            return 0;
        }
        let mut at = 0;
        while run.len() < RUN_MAX {
            let Some(mut publish) = recognise_publish(&input[at..], method_frame, self.tuning.frame_max)
            else {
                break;
            };
            if u64::from(publish.body.end - publish.body.start) > self.message_bytes_max {
                break;
            }
            let length = publish.length as usize;
            let offset = at as u32;
            publish.properties = publish.properties.start + offset..publish.properties.end + offset;
            publish.body = publish.body.start + offset..publish.body.end + offset;
            run.push(publish);
            at += length;
        }
        at
    }

    fn pull_protocol_header<'i>(&mut self, input: &'i [u8], out: &mut Vec<u8>) -> Pulled<'i> {
        match judge_protocol_header(input) {
            HeaderVerdict::Incomplete => Pulled {
                consumed: 0,
                step: Step::NeedMore,
            },
            HeaderVerdict::Accepted => Pulled {
                consumed: 8,
                step: Step::Greeted,
            },
            HeaderVerdict::Refused { answer } => {
                out.extend_from_slice(&answer);
                self.end();
                Pulled {
                    consumed: input.len(),
                    step: Step::End,
                }
            }
        }
    }

    fn pull_frame<'i>(&mut self, input: &'i [u8], out: &mut Vec<u8>) -> Pulled<'i> {
        match decode_frame(input, self.frame_limit()) {
            Ok(None) => Pulled {
                consumed: 0,
                step: Step::NeedMore,
            },
            Ok(Some((frame, consumed))) => {
                let step = self.take_frame(&frame, &input[..consumed], out);
                Pulled { consumed, step }
            }
            Err(error) => Pulled {
                consumed: input.len(),
                step: self.refuse_frame(error.refusal()),
            },
        }
    }

    fn frame_limit(&self) -> u32 {
        match self.state {
            ConnectionState::AwaitStartOk | ConnectionState::AwaitTuneOk => HANDSHAKE_FRAME_MAX,
            _ => self.tuning.frame_max,
        }
    }

    /// A frame that cannot be decoded: nothing behind it can be, so while closing the socket is dropped.
    fn refuse_frame<'i>(&mut self, refusal: Refusal) -> Step<'i> {
        if self.state == ConnectionState::Closing {
            self.end();
            return Step::End;
        }
        Step::Refuse(refusal, (0, 0))
    }

    fn take_frame<'i>(&mut self, frame: &Frame<'i>, bytes: &'i [u8], out: &mut Vec<u8>) -> Step<'i> {
        if self.state == ConnectionState::Closing {
            return self.discard_while_closing(frame, out);
        }
        match (frame.kind, frame.channel) {
            (FrameKind::Heartbeat, 0) => Step::Handled,
            (FrameKind::Heartbeat, _) => unexpected(frame),
            (FrameKind::Method, 0) => self.take_connection_method(frame, out),
            (_, 0) => unexpected(frame),
            _ if self.state != ConnectionState::Running => unexpected(frame),
            _ => self.take_channel_frame(frame, bytes, out),
        }
    }

    fn discard_while_closing<'i>(&mut self, frame: &Frame<'i>, out: &mut Vec<u8>) -> Step<'i> {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return Step::Handled;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk(_)) => {
                self.end();
                Step::End
            }
            Ok(Method::ConnectionClose(_)) => {
                Method::ConnectionCloseOk(ConnectionCloseOk {}).encode(0, out);
                Step::Handled
            }
            _ => Step::Handled,
        }
    }

    fn take_connection_method<'i>(&mut self, frame: &Frame<'i>, out: &mut Vec<u8>) -> Step<'i> {
        let method = match Method::decode(frame.payload) {
            Ok(method) => method,
            Err(error) => {
                return Step::Refuse(error.refusal(), error.ids());
            }
        };
        let failed = (method.class_id(), method.method_id());
        match (self.state, method) {
            (ConnectionState::AwaitStartOk, Method::ConnectionStartOk(start_ok)) => {
                self.start_ok(&start_ok);
                Step::Login {
                    mechanism: start_ok.mechanism,
                    response: start_ok.response,
                }
            }
            (ConnectionState::AwaitTuneOk, Method::ConnectionTuneOk(tune_ok)) => match self.tune_ok(&tune_ok)
            {
                Ok(()) => Step::Handled,
                Err(refusal) => Step::Refuse(refusal, failed),
            },
            (ConnectionState::AwaitOpen, Method::ConnectionOpen(open)) => {
                self.state = ConnectionState::Opening;
                Step::Open {
                    vhost: open.virtual_host,
                }
            }
            (ConnectionState::Running, Method::ConnectionUpdateSecret(_)) => {
                Method::ConnectionUpdateSecretOk(ConnectionUpdateSecretOk {}).encode(0, out);
                Step::Handled
            }
            (_, Method::ConnectionClose(_)) => {
                self.state = ConnectionState::PeerClosing;
                Step::CloseConnection
            }
            (state, _) => {
                let text = format!("unexpected method in connection state {}", state.name());
                Step::Refuse(Refusal::new(ReplyCode::ChannelError, text), failed)
            }
        }
    }

    fn take_channel_frame<'i>(&mut self, frame: &Frame<'i>, bytes: &'i [u8], out: &mut Vec<u8>) -> Step<'i> {
        let number = ChannelNumber(frame.channel);
        match self.channel(number).map(|channel| channel.state()) {
            None => self.take_unopened(frame, out),
            Some(ChannelState::Closing) => self.discard_while_channel_closes(frame, out),
            Some(ChannelState::Open) => match frame.kind {
                FrameKind::Method => self.take_method(number, frame, bytes),
                _ => self.take_content(number, frame),
            },
        }
    }

    fn take_unopened<'i>(&mut self, frame: &Frame<'i>, out: &mut Vec<u8>) -> Step<'i> {
        let number = ChannelNumber(frame.channel);
        let failed = method_ids(frame.payload).unwrap_or_default();
        match Method::decode(frame.payload) {
            Ok(Method::ChannelOpen(_)) if frame.kind == FrameKind::Method => {
                match self.open_channel(number) {
                    Ok(()) => {
                        Method::ChannelOpenOk(ChannelOpenOk { channel_id: b"" }).encode(number.0, out);
                        Step::Handled
                    }
                    Err(refusal) if refusal.code == ReplyCode::NotAllowed => Step::Refuse(refusal, (0, 0)),
                    Err(refusal) => Step::Refuse(refusal, failed),
                }
            }
            Ok(Method::ChannelCloseOk(_)) if frame.kind == FrameKind::Method => Step::Handled,
            _ => Step::Refuse(
                Refusal::new(ReplyCode::ChannelError, "expected 'channel.open'"),
                failed,
            ),
        }
    }

    fn discard_while_channel_closes<'i>(&mut self, frame: &Frame<'i>, out: &mut Vec<u8>) -> Step<'i> {
        let number = ChannelNumber(frame.channel);
        if frame.kind != FrameKind::Method {
            return Step::Handled;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ChannelCloseOk(_)) => self.drop_channel(number),
            Ok(Method::ChannelOpen(_)) => {
                let refusal = Refusal::new(ReplyCode::ChannelError, "second 'channel.open' seen");
                return Step::Refuse(refusal, method_ids(frame.payload).unwrap_or_default());
            }
            Ok(Method::ChannelClose(_)) => Method::ChannelCloseOk(ChannelCloseOk {}).encode(number.0, out),
            _ => {}
        }
        Step::Handled
    }

    fn take_method<'i>(&mut self, number: ChannelNumber, frame: &Frame<'i>, bytes: &'i [u8]) -> Step<'i> {
        let failed = method_ids(frame.payload).unwrap_or_default();
        let method = match Method::decode(frame.payload) {
            Ok(method) => method,
            Err(error) => return Step::Refuse(error.refusal(), error.ids()),
        };
        let channel = self.channel_mut(number).expect("the caller found it open");
        if let Err(error) = channel.assembly.expect_no_content() {
            return Step::Refuse(error.refusal(), PUBLISH);
        }
        match method {
            Method::BasicPublish(publish) => {
                match channel.assembly.begin(bytes, &publish) {
                    Ok(true) => channel.route.forget(),
                    Ok(false) => {}
                    Err(error) => return Step::Refuse(error.refusal(), failed),
                }
                self.last_publisher = number.0;
                Step::Begun(number)
            }
            Method::ChannelOpen(_) => match self.open_channel(number) {
                Err(refusal) => Step::Refuse(refusal, failed),
                Ok(()) => Step::Handled,
            },
            Method::ChannelClose(_) => Step::CloseChannel(number),
            Method::ChannelCloseOk(_) => Step::Handled,
            method => Step::Method(number, method),
        }
    }

    fn take_content<'i>(&mut self, number: ChannelNumber, frame: &Frame<'i>) -> Step<'i> {
        let size_max = self.message_bytes_max;
        let channel = self.channel_mut(number).expect("the caller found it open");
        let progress = match frame.kind {
            FrameKind::Header => match ContentHeader::decode(frame.payload) {
                Ok(header) => channel.assembly.header(&header, size_max),
                Err(error) => return Step::Refuse(error.refusal(), (0, 0)),
            },
            _ => channel.assembly.body(frame.payload),
        };
        match progress {
            Ok(true) => Step::Assembled(number),
            Ok(false) => Step::Unfinished(number),
            Err(error @ AssemblyError::TooLarge { .. }) => {
                Step::RefuseChannel(number, error.refusal(), PUBLISH)
            }
            Err(
                error @ (AssemblyError::ExpectedMethod
                | AssemblyError::Properties
                | AssemblyError::Enormous { .. }),
            ) => Step::Refuse(error.refusal(), (0, 0)),
            Err(error) => Step::Refuse(error.refusal(), PUBLISH),
        }
    }
}

/// A frame on a channel where none of its kind belongs.
fn unexpected<'i>(frame: &Frame<'_>) -> Step<'i> {
    let text = format!("type {}, {}", frame.kind.number(), PayloadSnippet(frame.payload));
    Step::Refuse(Refusal::new(ReplyCode::UnexpectedFrame, text), (0, 0))
}

impl ConnectionState {
    /// RabbitMQ's name of the state, as its texts carry it.
    fn name(self) -> &'static str {
        match self {
            ConnectionState::AwaitHeader => "handshake",
            ConnectionState::AwaitStartOk => "starting",
            ConnectionState::LoggingIn => "securing",
            ConnectionState::AwaitTuneOk => "tuning",
            ConnectionState::AwaitOpen | ConnectionState::Opening => "opening",
            ConnectionState::Running => "running",
            ConnectionState::PeerClosing | ConnectionState::Closing => "closing",
            ConnectionState::Closed => "closed",
        }
    }
}
