//! Clients of the world outside, and their embedded counterparts.
//!
//! Owns: [`http`] (JSON-RPC over HTTP/1.1, both sides), [`execution`] (the Engine API as the node uses it) and
//! [`embedded`] (an execution client of our own that answers it). Promises: everything runs on `alys_runtime`, so
//! client and counterpart exchange the same bytes in production and in simulation. Never: decides what the chain does.

pub mod embedded;
pub mod execution;
pub mod http;
mod interceptor;
