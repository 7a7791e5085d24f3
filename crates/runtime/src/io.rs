//! The asynchronous byte stream traits of [`Stream`](crate::net::Stream), and their helpers.

pub use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter,
    DuplexStream, ReadBuf, ReadHalf, WriteHalf, copy_bidirectional, duplex, split,
};
