//! Clients of external systems, and their embedded counterparts.
//!
//! **Owns** [`http`] (JSON-RPC over HTTP/1.1, client and server), [`execution`] (the Engine API as
//! the node uses it) and [`embedded`] (an execution client that implements it).
//!
//! **Promises** that everything runs on `alys_runtime`, so that client and counterpart exchange
//! the same bytes in production and in simulation.
//!
//! **Never** decides about the chain.

pub mod embedded;
pub mod execution;
pub mod http;
mod interceptor;
