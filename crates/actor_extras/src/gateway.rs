//! Messages as bytes: those that come from another process, and those that are recorded.
//!
//! **Owns** the form of a [`Frame`] and the way of foreign bytes to an actor, the [`Gateway`].
//!
//! A frame is one byte for the version of its form, then the [`Head`], then the message, both as
//! bincode with fixed-width little-endian integers. There is nothing after that, and no second
//! encoding of the same frame, as long as the message has none.
//!
//! **Promises**
//! - Bytes of any kind lead to a message or a typed error, never to a panic. What they claim to
//!   contain reserves at most sixteen times their length (4 KiB for the shortest), or a MiB for
//!   each collection within another, before it is found missing.
//! - What the sender may do comes from its connection: the role is in the [`Grant`] that the
//!   gateway was made with. The sender's name in the head is for people and decides nothing.
//!
//! **Never** waits: a full mailbox is an error, and the connection's own flow control has to slow
//! the sender.
//!
//! Two things only the author of a message type can promise, for no limit on bytes does: the type
//! does not contain itself (nesting is recursion, and uses up the stack), and has no collection of
//! values without size, such as `Vec<()>` (its length costs nothing to claim and long to build).

use std::{
    error::Error,
    fmt, str,
    sync::Arc,
    time::{Duration, Instant},
};

use bincode::{
    config::{Configuration, Fixint, LittleEndian},
    enc::write::Writer,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use alys_actor_system::{
    Addr, Message, MessageId, TellError,
    access::{Grant, Refusal},
};

/// The version of the form that is written, and the only one that is read.
pub const VERSION: u8 = 1;

/// Bytes of the largest frame that any gateway takes.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of the name of a sender.
pub const MAX_SENDER_BYTES: usize = 256;

/// No message has longer to live than a year: beyond that an instant may overflow.
const MAX_REMAINING: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const CONFIG: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_fixed_int_encoding();

/// Which trace a message belongs to, as in a W3C `traceparent` header of version 00. Neither id is
/// all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawTrace")]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

#[derive(Deserialize)]
struct RawTrace {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TryFrom<RawTrace> for TraceContext {
    type Error = BadTrace;

    fn try_from(raw: RawTrace) -> Result<Self, BadTrace> {
        Self::new(raw.trace_id, raw.span_id, raw.flags)
    }
}

impl TraceContext {
    /// The flag that says that the trace is recorded.
    pub const SAMPLED: u8 = 1;

    /// A checked context.
    ///
    /// # Errors
    /// An id is all zero, which stands for none.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Result<Self, BadTrace> {
        if trace_id == [0; 16] || span_id == [0; 8] {
            return Err(BadTrace::ZeroId);
        }
        Ok(Self {
            trace_id,
            span_id,
            flags,
        })
    }

    /// Names the whole trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// Names the step from which the message was sent.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Flags; see [`TraceContext::SAMPLED`].
    pub fn flags(&self) -> u8 {
        self.flags
    }
}

impl fmt::Display for TraceContext {
    /// The value of the header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (
            u128::from_be_bytes(self.trace_id),
            u64::from_be_bytes(self.span_id),
        );
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

impl str::FromStr for TraceContext {
    type Err = BadTrace;

    fn from_str(text: &str) -> Result<Self, BadTrace> {
        let is_hex = |part: &str| {
            part.bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let parts: Vec<&str> = text.splitn(5, '-').collect();
        match parts[..] {
            ["00", trace, span, flags] if [trace.len(), span.len(), flags.len()] == [32, 16, 2] => {
                if ![trace, span, flags].into_iter().all(is_hex) {
                    return Err(BadTrace::Malformed);
                }
                let trace = u128::from_str_radix(trace, 16).map_err(|_| BadTrace::Malformed)?;
                let span = u64::from_str_radix(span, 16).map_err(|_| BadTrace::Malformed)?;
                let flags = u8::from_str_radix(flags, 16).map_err(|_| BadTrace::Malformed)?;
                Self::new(trace.to_be_bytes(), span.to_be_bytes(), flags)
            }
            _ => Err(BadTrace::Malformed),
        }
    }
}

/// Reason for which a text or an id is no [`TraceContext`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTrace {
    /// An id is all zero.
    #[error("a trace or span id is all zero")]
    ZeroId,
    /// Not four lower-case hexadecimal numbers of version 00.
    #[error("not a traceparent of version 00")]
    Malformed,
}

/// Metadata of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Names the message; unique for its sender.
    pub id: u64,
    /// The message that this one is about.
    pub correlation: Option<u64>,
    /// Name that the sender claims: 1 to [`MAX_SENDER_BYTES`], no control characters. Untrusted.
    pub sender: String,
    /// Priority, in the sender's judgement.
    pub priority: u8,
    /// Milliseconds from sending until the deadline, because the clocks of two processes
    /// need not agree. Zero is too late already.
    pub remaining_ms: Option<u64>,
    /// The trace it belongs to.
    pub trace: Option<TraceContext>,
}

impl Head {
    /// Deadline of a message that arrived at `now`, at most a year later.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.remaining_ms
            .map(|ms| now + Duration::from_millis(ms).min(MAX_REMAINING))
    }

    fn check(&self) -> Result<(), BadSender> {
        if self.sender.is_empty() || self.sender.len() > MAX_SENDER_BYTES {
            return Err(BadSender::Length {
                bytes: self.sender.len(),
            });
        }
        if self.sender.contains(char::is_control) {
            return Err(BadSender::ControlCharacter);
        }
        Ok(())
    }
}

/// Reason for which a text is not the name of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSender {
    /// Empty or longer than [`MAX_SENDER_BYTES`].
    #[error("a sender's name has from 1 to {MAX_SENDER_BYTES} bytes, not {bytes}")]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// It could draw in a log.
    #[error("a sender's name has a control character")]
    ControlCharacter,
}

/// A message and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<M> {
    /// Metadata.
    pub head: Head,
    /// The message.
    pub payload: M,
}

impl<M: Serialize> Frame<M> {
    /// The frame as bytes, at most `max_bytes` and [`MAX_FRAME_BYTES`].
    ///
    /// # Errors
    /// It is longer, or the sender's name or the message cannot be written. No more memory is used
    /// than the limit says.
    pub fn encode(&self, max_bytes: usize) -> Result<Vec<u8>, EncodeError> {
        let limit = max_bytes.min(MAX_FRAME_BYTES);
        self.head.check()?;
        let mut writer = Bounded {
            bytes: Vec::new(),
            limit,
            is_over: false,
        };
        let written = writer.write(&[VERSION]).and_then(|()| {
            bincode::serde::encode_into_writer((&self.head, &self.payload), &mut writer, CONFIG)
        });
        match written {
            Ok(()) => Ok(writer.bytes),
            Err(_) if writer.is_over => Err(EncodeError::TooLarge { limit }),
            Err(error) => Err(EncodeError::Unencodable {
                reason: error.to_string(),
            }),
        }
    }
}

impl<M: DeserializeOwned> Frame<M> {
    /// The frame that these bytes are, all of them, at most `max_bytes` and [`MAX_FRAME_BYTES`].
    ///
    /// # Errors
    /// They are no frame of this version and message type, or too many.
    pub fn decode(bytes: &[u8], max_bytes: usize) -> Result<Self, DecodeError> {
        let limit = max_bytes.min(MAX_FRAME_BYTES);
        if bytes.len() > limit {
            return Err(DecodeError::TooLarge {
                bytes: bytes.len(),
                limit,
            });
        }
        let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { version });
        }
        let ((head, payload), used): ((Head, M), usize) =
            decode_bounded(body).map_err(|error| DecodeError::Malformed {
                source: Arc::new(error),
            })?;
        if used != body.len() {
            return Err(DecodeError::Trailing {
                bytes: body.len() - used,
            });
        }
        head.check()?;
        Ok(Self { head, payload })
    }
}

/// Decodes within a limit of at most sixteen times the length of the bytes. A text may claim any
/// length within the limit before the decoder finds that its bytes are not there, and the limit is
/// a part of the decoder's type.
fn decode_bounded<T: DeserializeOwned>(
    bytes: &[u8],
) -> Result<(T, usize), bincode::error::DecodeError> {
    const SMALL: usize = 4 * 1024;
    const MEDIUM: usize = 64 * 1024;
    const LARGE: usize = 1024 * 1024;
    match bytes.len() {
        ..=SMALL => bincode::serde::decode_from_slice(bytes, CONFIG.with_limit::<SMALL>()),
        len if len <= MEDIUM => {
            bincode::serde::decode_from_slice(bytes, CONFIG.with_limit::<MEDIUM>())
        }
        len if len <= LARGE => {
            bincode::serde::decode_from_slice(bytes, CONFIG.with_limit::<LARGE>())
        }
        _ => bincode::serde::decode_from_slice(bytes, CONFIG.with_limit::<MAX_FRAME_BYTES>()),
    }
}

/// Bytes that do not grow beyond a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    is_over: bool,
}

impl Writer for Bounded {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.is_over = true;
            return Err(bincode::error::EncodeError::UnexpectedEnd);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reason for which a frame is not written. Always a fault of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Over the limit.
    #[error("frame larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The name in the head is none.
    #[error(transparent)]
    BadSender(#[from] BadSender),
    /// The message's own serialization failed.
    #[error("message cannot be encoded: {reason}")]
    Unencodable {
        /// Its text.
        reason: String,
    },
}

/// Reason for which bytes are no frame. Always a fault of the sender.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// Over the limit.
    #[error("frame of {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not even a version.
    #[error("empty frame")]
    Empty,
    /// Another form.
    #[error("frame of version {version}, not {VERSION}")]
    UnknownVersion {
        /// The first byte.
        version: u8,
    },
    /// Not a head and a message of this type.
    #[error("malformed frame")]
    Malformed {
        /// Error of the decoder.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A frame, then more.
    #[error("{bytes} bytes after the end of the frame")]
    Trailing {
        /// Their number.
        bytes: usize,
    },
    /// The name in the head is none.
    #[error(transparent)]
    BadSender(#[from] BadSender),
}

/// Lets the messages of one connection through to one actor.
#[derive(Debug)]
pub struct Gateway<M: Message> {
    addr: Addr<M>,
    grant: Arc<Grant>,
    max_frame_bytes: usize,
}

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Metadata of the message.
    pub head: Head,
    /// Kind of the message.
    pub kind: &'static str,
    /// Length of its frame.
    pub bytes: usize,
}

impl<M: Message + DeserializeOwned> Gateway<M> {
    /// A way to the actor at `addr` for a connection that has this right. `addr` must be an address
    /// that asks no grant itself, or the message counts twice.
    pub fn new(addr: Addr<M>, grant: Arc<Grant>, max_frame_bytes: usize) -> Self {
        Self {
            addr,
            grant,
            max_frame_bytes: max_frame_bytes.min(MAX_FRAME_BYTES),
        }
    }

    /// The longest frame that it takes; never over [`MAX_FRAME_BYTES`].
    pub fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes
    }

    /// Rights of the connection.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// Reads a frame that came at `now`, asks whether it may pass, and puts its message into the
    /// mailbox.
    ///
    /// # Errors
    /// The first thing that was in the way. The message is gone then: its sender has the original.
    pub fn deliver(&self, now: Instant, bytes: &[u8]) -> Result<Delivered, GatewayError> {
        let Frame { head, payload } = Frame::<M>::decode(bytes, self.max_frame_bytes)?;
        let kind = payload.kind();
        self.grant.admit(kind, now)?;
        if head.remaining_ms == Some(0) {
            return Err(GatewayError::Expired { kind });
        }
        let deadline = head.deadline(now);
        let correlation = head.correlation.and_then(MessageId::from_u64);
        match self.addr.tell_from(payload, correlation, deadline) {
            Ok(_) => Ok(Delivered {
                head,
                kind,
                bytes: bytes.len(),
            }),
            Err(TellError::Full(_)) => Err(GatewayError::Full { kind }),
            Err(TellError::Closed(_)) => Err(GatewayError::Closed { kind }),
            Err(TellError::Unavailable(_)) => Err(GatewayError::Unavailable { kind }),
            Err(TellError::Refused { refusal, .. }) => Err(GatewayError::Refused(refusal)),
        }
    }
}

/// Reason for which a frame did not reach its actor.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GatewayError {
    /// The bytes are no frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The sender may not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The sender does not care any more.
    #[error("{kind}: expired before it came")]
    Expired {
        /// Kind of the message.
        kind: &'static str,
    },
    /// The mailbox has no room now.
    #[error("{kind}: mailbox full")]
    Full {
        /// Kind of the message.
        kind: &'static str,
    },
    /// The actor's circuit breaker is open.
    #[error("{kind}: circuit breaker open")]
    Unavailable {
        /// Kind of the message.
        kind: &'static str,
    },
    /// The actor has ended for good.
    #[error("{kind}: mailbox closed")]
    Closed {
        /// Kind of the message.
        kind: &'static str,
    },
}

impl GatewayError {
    /// True if the sender is to blame. The rest is our load, our shutdown, or time that passed on
    /// the way.
    pub fn is_senders_fault(&self) -> bool {
        match self {
            Self::Decode(_) | Self::Refused(_) => true,
            Self::Expired { .. }
            | Self::Full { .. }
            | Self::Unavailable { .. }
            | Self::Closed { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests;
