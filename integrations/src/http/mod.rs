//! JSON-RPC 2.0 over HTTP/1.1, on hyper's connection layer and the runtime's streams.
//!
//! Owns: framing of requests and answers, authentication with a shared JWT secret, limits and deadlines of both
//! sides. Promises: the same bytes in production and in simulation; whatever a stranger sends ends in an HTTP
//! status or a JSON-RPC error, never in a panic and never in memory beyond the limits of [`ServerConfig`] and
//! [`ClientConfig`]. Never: knows a method by name, reads a file, speaks TLS (both users of it, the Engine API and
//! a node's public JSON-RPC, are plain HTTP on a private link or behind a reverse proxy).

mod args;
mod client;
mod jsonrpc;
pub mod jwt;
mod server;
mod timer;

pub use args::Args;
pub use client::{CallError, ClientConfig, Endpoint, EndpointError, HttpClient};
pub use jsonrpc::{Page, RpcError, RpcHandler};
pub use jwt::{JwtError, JwtSecret, JwtSecretError};
pub use server::{HttpServer, ServeError, ServerConfig};

#[cfg(test)]
mod tests;
