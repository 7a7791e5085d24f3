//! The asynchronous traits of [`Stream`](crate::net::Stream), with their helpers.

pub use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
    DuplexStream, ReadBuf, ReadHalf, WriteHalf, copy_bidirectional, duplex, split,
};
