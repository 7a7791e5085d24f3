//! Frames of the request/response protocols.
//!
//! A request is `length u32 (big endian), payload`. A response is `tag u8, length u32, payload`
//! with tag 0 for an answer; any other tag is a [`Refusal`] without payload. The codec returns a
//! malformed frame as a value, not as an IO error, because libp2p does not report IO errors of
//! incoming requests, and the peer must be charged for them.

use std::io;

use alys_runtime::buggify;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

use crate::wire::Protocol;

/// A peer's refusal to answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// The limit of concurrent requests is reached; retry later or ask another peer.
    #[error("busy")]
    Busy,
    /// The requesting peer exceeded its rate.
    #[error("rate exceeded")]
    RateExceeded,
    /// The requested data is not stored.
    #[error("unavailable")]
    Unavailable,
    /// The request is malformed.
    #[error("invalid request")]
    Invalid,
}

impl Refusal {
    const fn tag(self) -> u8 {
        match self {
            Self::Busy => 1,
            Self::RateExceeded => 2,
            Self::Unavailable => 3,
            Self::Invalid => 4,
        }
    }

    fn from_tag(tag: u8) -> Option<Self> {
        [
            Self::Busy,
            Self::RateExceeded,
            Self::Unavailable,
            Self::Invalid,
        ]
        .into_iter()
        .find(|r| r.tag() == tag)
    }
}

/// A malformed frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is above the protocol's limit.
    #[error("the frame has {length} bytes, more than the limit of {limit}")]
    TooLong { length: usize, limit: usize },
    /// The first byte of a response is not a known tag.
    #[error("unknown response tag {tag}")]
    Tag { tag: u8 },
}

/// A received request.
pub(crate) type Request = Result<Vec<u8>, FrameError>;
/// A received response.
pub(crate) type Response = Result<Result<Vec<u8>, Refusal>, FrameError>;

/// Reads and writes the frames of one protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec {
    pub(crate) protocol: Protocol,
    /// Longest response payload in bytes.
    pub(crate) max_response: usize,
}

impl Codec {
    fn request_limit(self) -> usize {
        self.protocol.max_frame(self.protocol.max_request())
    }

    fn response_limit(self) -> usize {
        self.protocol.max_frame(self.max_response)
    }
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Response;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io, self.request_limit()).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Response>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut tag = [0];
        io.read_exact(&mut tag).await?;
        match (tag[0], Refusal::from_tag(tag[0])) {
            (0, _) => Ok(read_frame(io, self.response_limit()).await?.map(Ok)),
            (_, Some(refusal)) => Ok(Ok(Err(refusal))),
            (tag, None) => Ok(Err(FrameError::Tag { tag })),
        }
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(
            io,
            &request.map_err(io::Error::other)?,
            self.request_limit(),
        )
        .await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Response,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match response.map_err(io::Error::other)? {
            Ok(payload) => {
                io.write_all(&[0]).await?;
                write_frame(io, &payload, self.response_limit()).await
            }
            Err(refusal) => io.write_all(&[refusal.tag()]).await,
        }
    }
}

/// Bytes per write when the simulator splits a frame.
const SMALL_PIECE: usize = 16;
/// Most writes into which the simulator splits a frame; the pieces of a long one are larger.
const MAX_PIECES: usize = 64;

/// Reads one frame. Memory grows with the bytes that arrive, not with the announced length.
async fn read_frame<T: AsyncRead + Unpin>(
    io: &mut T,
    limit: usize,
) -> io::Result<Result<Vec<u8>, FrameError>> {
    let mut head = [0; 4];
    io.read_exact(&mut head).await?;
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > limit {
        return Ok(Err(FrameError::TooLong { length, limit }));
    }
    let mut payload = Vec::new();
    io.take(u64::from(u32::from_be_bytes(head)))
        .read_to_end(&mut payload)
        .await?;
    if payload.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Ok(payload))
}

async fn write_frame<T: AsyncWrite + Unpin>(
    io: &mut T,
    payload: &[u8],
    limit: usize,
) -> io::Result<()> {
    let length = payload.len();
    let head = match u32::try_from(length) {
        Ok(head) if length <= limit => head,
        _ => return Err(io::Error::other(FrameError::TooLong { length, limit })),
    };
    io.write_all(&head.to_be_bytes()).await?;
    if buggify!("net.codec.small_pieces") {
        for piece in payload.chunks(SMALL_PIECE.max(length / MAX_PIECES)) {
            io.write_all(piece).await?;
            io.flush().await?;
        }
        return Ok(());
    }
    io.write_all(payload).await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;
    use libp2p::request_response::Codec as _;

    use super::*;

    const NAME: StreamProtocol = StreamProtocol::new("/test");
    const CODEC: Codec = Codec {
        protocol: Protocol::HeadersByRange,
        max_response: Protocol::HeadersByRange.max_response(),
    };

    fn request(bytes: &[u8]) -> io::Result<Request> {
        block_on(CODEC.clone().read_request(&NAME, &mut Cursor::new(bytes)))
    }

    fn response(bytes: &[u8]) -> io::Result<Response> {
        block_on(CODEC.clone().read_response(&NAME, &mut Cursor::new(bytes)))
    }

    #[test]
    fn frames_round_trip() {
        for payload in [vec![], vec![1], vec![7; CODEC.request_limit()]] {
            let mut bytes = Vec::new();
            block_on(
                CODEC
                    .clone()
                    .write_request(&NAME, &mut bytes, Ok(payload.clone())),
            )
            .expect("fits");
            assert_eq!(request(&bytes).expect("complete"), Ok(payload.clone()));
            assert!(
                request(&bytes[..bytes.len() - 1]).is_err(),
                "a cut frame is an IO error"
            );
        }
        for answer in [
            Ok(vec![3; 70_000]),
            Ok(vec![]),
            Err(Refusal::Busy),
            Err(Refusal::Invalid),
        ] {
            let mut bytes = Vec::new();
            block_on(
                CODEC
                    .clone()
                    .write_response(&NAME, &mut bytes, Ok(answer.clone())),
            )
            .expect("fits");
            assert_eq!(response(&bytes).expect("complete"), Ok(answer));
        }
    }

    #[test]
    fn oversized_frames_are_reported_and_not_sent() {
        let limit = CODEC.request_limit();
        let length = limit + 1;
        let announced = u32::try_from(length).expect("small").to_be_bytes();
        assert_eq!(
            request(&announced).expect("no IO error"),
            Err(FrameError::TooLong { length, limit })
        );
        let mut bytes = Vec::new();
        assert!(
            block_on(
                CODEC
                    .clone()
                    .write_request(&NAME, &mut bytes, Ok(vec![0; length]))
            )
            .is_err()
        );
        assert_eq!(
            response(&[9]).expect("no IO error"),
            Err(FrameError::Tag { tag: 9 })
        );
        assert!(
            response(&[0, 255, 255, 255, 255])
                .expect("no IO error")
                .is_err()
        );
    }

    proptest::proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(0u8.., 0..300)) {
            let _ = (request(&bytes), response(&bytes));
        }
    }
}
