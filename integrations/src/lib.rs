//! Clients of external systems, and their embedded counterparts.
//!
//! **Owns** [`http`] (JSON-RPC over HTTP/1.1, client and server), [`execution`] (the client of the
//! Engine API) and [`embedded`] (an execution client that serves the Engine API).
//!
//! **Promises** that client and counterpart exchange the same bytes in production and in
//! simulation, because all IO goes through `alys_runtime`.
//!
//! **Never** decides which block is approved, certified or final.

pub mod embedded;
pub mod execution;
pub mod http;
mod interceptor;
