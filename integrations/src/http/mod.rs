//! JSON-RPC over HTTP/1.1, on hyper's connection layer and the runtime's streams.
//!
//! **Owns** the encoding of requests and answers, authentication with a shared JWT secret or a
//! login, limits and deadlines of client and server.
//!
//! **Guarantees** the same bytes in production and in simulation. Any remote input leads to an HTTP
//! status or a JSON-RPC error, never to a panic or to memory beyond the limits of [`ServerConfig`]
//! and [`ClientConfig`].
//!
//! **Never** depends on a method's name, reads a file, or uses TLS: the Engine API and a node's
//! public JSON-RPC are plain HTTP on a private link or behind a reverse proxy.

mod access;
mod args;
mod budget;
mod client;
mod jsonrpc;
pub mod jwt;
mod login;
mod seats;
mod server;
mod timer;

pub use access::{Access, Pages};
pub use args::Args;
pub use budget::Pending;
pub use client::{CallError, ClientConfig, Endpoint, EndpointError, HttpClient};
pub use jsonrpc::{Page, RpcError, RpcHandler, Versions};
pub use jwt::{JwtError, JwtSecret, JwtSecretError};
pub use login::{BadLogin, Login, LoginError};
pub use server::{HttpServer, ServeError, ServerConfig};

#[cfg(test)]
mod tests;
