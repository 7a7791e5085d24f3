//! Messages as bytes, from another process or a recording.
//!
//! **Owns** the encoding of a [`Frame`], and the [`Gateway`] that delivers foreign bytes to an
//! actor.
//!
//! A frame is one version byte, then the [`Head`], then the message, both in bincode with
//! fixed-width little-endian integers, and no trailing bytes. The encoding is canonical if that of
//! the message is.
//!
//! **Promises**
//! - Any bytes decode to a message or a typed error, never to a panic. A claimed length allocates
//!   at most sixteen times the length of the frame (at least 4 KiB), or 1 MiB for each nested
//!   collection, before the decoder finds the bytes missing.
//! - The rights of the sender come from its connection: the gateway's [`Grant`] holds the role. The
//!   sender's name in the head is informational only.
//!
//! **Never** waits: a full mailbox is an error, and the connection's flow control must slow the
//! sender.
//!
//! A limit on bytes does not bound two properties, which the message type must exclude: recursive
//! types, whose nesting overflows the stack, and collections of zero-sized values such as
//! `Vec<()>`, whose claimed length costs no bytes but takes long to build.

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

/// Version of the encoding; the only one that is written and read.
pub const VERSION: u8 = 2;

/// Maximum frame size of any gateway, in bytes.
pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// Maximum length of a sender's name, in bytes.
pub const MAX_SENDER_BYTES: usize = 256;

/// Maximum time to a deadline, one year, because adding more may overflow an instant.
const MAX_REMAINING: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const CONFIG: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_fixed_int_encoding();

/// Trace context of a message, as in a W3C `traceparent` header of version 00. Neither id is all
/// zero.
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
    /// Flag: the trace is recorded.
    pub const SAMPLED: u8 = 1;

    /// Creates a context.
    ///
    /// # Errors
    /// [`BadTrace::ZeroId`] if an id is all zero, which the standard reserves for none.
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

    /// Id of the whole trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// Id of the span that sent the message.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// Trace flags, such as [`TraceContext::SAMPLED`].
    pub fn flags(&self) -> u8 {
        self.flags
    }
}

impl fmt::Display for TraceContext {
    /// Formats the value of the `traceparent` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = u128::from_be_bytes(self.trace_id);
        let span = u64::from_be_bytes(self.span_id);
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

/// Error of parsing or creating a [`TraceContext`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTrace {
    /// The trace id or the span id is all zero.
    #[error("a trace or span id is all zero")]
    ZeroId,
    /// The text is not four lower-case hexadecimal fields of version 00.
    #[error("not a traceparent of version 00")]
    Malformed,
}

/// Metadata of a message, in the frame before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Id of the message, unique for its sender.
    pub id: u64,
    /// Id of the message that started the chain of this one, in the sender's system.
    pub correlation: Option<MessageId>,
    /// Claimed name of the sender: 1 to [`MAX_SENDER_BYTES`] bytes, no control characters.
    /// Untrusted.
    pub sender: String,
    /// Milliseconds from sending until the deadline, relative because the clocks of two processes
    /// may differ. Zero has expired; none means no deadline.
    pub remaining_ms: Option<u64>,
    /// Trace of the message, if any.
    pub trace: Option<TraceContext>,
}

impl Head {
    /// Deadline of a message that arrived at `now`, at most one year later; none if it has no
    /// deadline.
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

/// Error of a sender's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSender {
    /// The name is empty or longer than [`MAX_SENDER_BYTES`].
    #[error("a sender's name has from 1 to {MAX_SENDER_BYTES} bytes, not {bytes}")]
    Length {
        /// Length in bytes.
        bytes: usize,
    },
    /// The name contains a control character, which could corrupt a log.
    #[error("a sender's name has a control character")]
    ControlCharacter,
}

/// A message and its metadata, the unit of encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<M> {
    /// Metadata, encoded before the message.
    pub head: Head,
    /// The message itself.
    pub payload: M,
}

impl<M: Serialize> Frame<M> {
    /// Encodes the frame, to at most `max_bytes` and [`MAX_FRAME_BYTES`] bytes. It allocates no
    /// more than that.
    ///
    /// # Errors
    /// [`EncodeError`] if the frame is longer, the sender's name is invalid, or the message cannot
    /// be serialized.
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
    /// Decodes a frame from exactly `bytes`, at most `max_bytes` and [`MAX_FRAME_BYTES`] long.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are too long, or not one frame of this version and message
    /// type.
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

/// Decodes with a limit of at most sixteen times the length of the bytes (at least 4 KiB), because
/// the decoder allocates a claimed length within the limit before it finds the bytes missing. The
/// limits are constants, because the limit is a type parameter of the decoder.
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

/// A buffer that does not grow beyond a limit.
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

/// Error of [`Frame::encode`], always a fault of our own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The frame exceeds the limit.
    #[error("frame larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The sender's name in the head is invalid.
    #[error(transparent)]
    BadSender(#[from] BadSender),
    /// The serialization of the message failed.
    #[error("message cannot be encoded: {reason}")]
    Unencodable {
        /// Text of the error.
        reason: String,
    },
}

/// Error of [`Frame::decode`], always a fault of the sender.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// The frame exceeds the limit.
    #[error("frame of {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Length in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// There are no bytes at all.
    #[error("empty frame")]
    Empty,
    /// The version is not [`VERSION`].
    #[error("frame of version {version}, not {VERSION}")]
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// The bytes do not decode to a head and a message of this type.
    #[error("malformed frame")]
    Malformed {
        /// Error of the decoder.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Bytes follow the end of the frame.
    #[error("{bytes} bytes after the end of the frame")]
    Trailing {
        /// Number of trailing bytes.
        bytes: usize,
    },
    /// The sender's name in the head is invalid.
    #[error(transparent)]
    BadSender(#[from] BadSender),
}

/// Delivers the messages of one connection to one actor.
#[derive(Debug)]
pub struct Gateway<M: Message> {
    addr: Addr<M>,
    grant: Arc<Grant>,
    max_frame_bytes: usize,
}

/// Summary of a delivered message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Metadata of the message.
    pub head: Head,
    /// Kind of the message.
    pub kind: &'static str,
    /// Length of the frame, in bytes.
    pub bytes: usize,
}

impl<M: Message + DeserializeOwned> Gateway<M> {
    /// Creates a gateway to `addr` for a connection with the rights of `grant`. `addr` must not
    /// carry a grant itself, because each message would count twice against the limit.
    pub fn new(addr: Addr<M>, grant: Arc<Grant>, max_frame_bytes: usize) -> Self {
        Self {
            addr,
            grant,
            max_frame_bytes: max_frame_bytes.min(MAX_FRAME_BYTES),
        }
    }

    /// Maximum frame size in bytes, at most [`MAX_FRAME_BYTES`].
    pub fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes
    }

    /// Rights of the connection.
    pub fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// Decodes a frame that arrived at `now`, checks it against the grant, and enqueues its message
    /// without waiting.
    ///
    /// # Errors
    /// [`GatewayError`] of the first check that fails. The message is dropped, because its sender
    /// has the original.
    pub fn deliver(&self, now: Instant, bytes: &[u8]) -> Result<Delivered, GatewayError> {
        let Frame { head, payload } = Frame::<M>::decode(bytes, self.max_frame_bytes)?;
        let kind = payload.kind();
        self.grant.admit(kind, now)?;
        if head.remaining_ms == Some(0) {
            return Err(GatewayError::Expired { kind });
        }
        let deadline = head.deadline(now);
        match self.addr.tell_from(payload, head.correlation, deadline) {
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

/// Error of [`Gateway::deliver`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum GatewayError {
    /// The bytes are not a valid frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The grant refuses the message.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The deadline had passed on arrival.
    #[error("{kind}: expired before it came")]
    Expired {
        /// Kind of the message.
        kind: &'static str,
    },
    /// The mailbox is full.
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
    /// The actor has terminated.
    #[error("{kind}: mailbox closed")]
    Closed {
        /// Kind of the message.
        kind: &'static str,
    },
}

impl GatewayError {
    /// True if the sender is to blame: the frame is invalid or the message is refused. Other errors
    /// are due to our load, our shutdown, or transit time.
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
