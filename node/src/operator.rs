//! The operator's JSON-RPC of `alys node`: `alys_` methods read, and `admin_` methods, which take
//! the token of the data directory as their first parameter, change the running node.
//!
//! Owns the token and the two files by which the commands of `alys` find the server. Guarantees
//! that only a caller with the token changes the node, that the token's file is readable by the
//! node's user alone, and that no web page reaches the server through a browser. Works with every
//! execution client. Never decides: the ChainActor does.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use alys_integrations::http::{
    Args, HttpServer, Pages, RpcError, RpcHandler, ServeError, ServerConfig,
};
use alys_runtime::disk::Dir;
use alys_runtime::log_limit::LogLimit;
use alys_runtime::{clock, time};
use alys_types::bls::PublicKeyBytes;
use alys_types::{Genesis, Slot};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::actors::chain;
use crate::mining::{DEFAULT_PORT, METHODS};

/// The file in the data directory with the running node's token, in hex.
pub const TOKEN_FILE: &str = "admin.token";
/// The file in the data directory with the address of the running node's JSON-RPC.
pub const ADDRESS_FILE: &str = "rpc.addr";

/// Bytes of randomness in a token: too many to guess.
const TOKEN_BYTES: usize = 32;
/// Largest request: a method, an id and a token.
const MAX_REQUEST_BYTES: usize = 4 << 10;
/// Connections: the operator's own.
const MAX_CONNECTIONS: usize = 16;

/// Reason for which the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the data directory cannot be used: {source}")]
    Datadir {
        /// The runtime's disk names the path in it.
        #[from]
        source: io::Error,
    },
}

/// The secret of the `admin_` methods. Never printed by the node. Every start draws another one,
/// because a command that finds the address of a node that was killed sends the token to the
/// program that listens there now.
struct Token(String);

impl Token {
    fn random() -> Token {
        let mut bytes = [0; TOKEN_BYTES];
        alys_runtime::rand::fill(&mut bytes);
        Token(hex::encode(bytes))
    }

    /// Compares hashes, so that the time reveals nothing about the token.
    fn is(&self, given: &str) -> bool {
        Sha256::digest(given.as_bytes()) == Sha256::digest(self.0.as_bytes())
    }
}

/// A running node, as its operator sees it.
#[derive(Clone)]
pub struct Operated {
    pub name: String,
    pub genesis: Arc<Genesis>,
    /// The key of a validator.
    pub authority: Option<PublicKeyBytes>,
    pub peer_id: String,
    pub chain: chain::Handle,
}

/// The methods. There is no node while it starts.
struct Methods {
    token: Token,
    node: Mutex<Option<Operated>>,
    /// Limits the lines about wrong tokens, because every program that reaches the port can send
    /// them.
    refusal_lines: Mutex<LogLimit>,
}

impl Methods {
    fn node(&self) -> Result<Operated, RpcError> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        node.clone()
            .ok_or_else(|| RpcError::server("the node is starting"))
    }

    async fn status(&self) -> Result<Value, RpcError> {
        let node = self.node()?;
        let summary = node.chain.summary().await;
        let summary = summary.ok_or_else(|| RpcError::server("the chain does not answer"))?;
        let spec = node.genesis.spec();
        Ok(json!({
            "name": node.name,
            "version": env!("CARGO_PKG_VERSION"),
            "genesis": node.genesis.hash().to_string(),
            "peerId": node.peer_id,
            "authority": node.authority.map(|key| key.to_string()),
            "slot": Slot::at(clock::wall_ms(), spec.slot_duration_ms).0,
            "synced": summary.synced,
            "silent": summary.silent,
            "clockTrusted": summary.clock_trusted,
            "silentUntilSlot": summary.votes.silent_until.map(|slot| slot.0),
            "approvedSlot": summary.votes.approved_slot.0,
            "head": {
                "height": summary.head_height.0,
                "hash": summary.head.to_string(),
            },
            "highest": {
                "height": summary.highest_height.0,
                "slot": summary.highest.slot.0,
                "hash": summary.highest.hash.to_string(),
            },
            "final": {
                "height": summary.final_height.0,
                "slot": summary.finalized.slot.0,
                "hash": summary.finalized.hash.to_string(),
            },
            "powFinal": {
                "height": summary.pow_final_height.0,
            },
        }))
    }

    /// Checks the only parameter of a method that changes the node.
    fn authorise(&self, params: Value) -> Result<(), RpcError> {
        let token: String = Args::new(params, 1)?.required()?;
        if self.token.is(&token) {
            return Ok(());
        }
        let lines = self.refusal_lines.lock();
        let admitted = lines
            .unwrap_or_else(PoisonError::into_inner)
            .admit(time::now());
        const LINE: &str = "a call of an admin_ method with a wrong token is refused";
        if let Some(left_out) = admitted {
            tracing::warn!(left_out, "{LINE}");
        } else {
            tracing::debug!("{LINE}");
        }
        let message = format!(
            "the token is not the one in {TOKEN_FILE} of this node's data directory; does the \
             address belong to another node?"
        );
        Err(RpcError::invalid_params(message))
    }

    fn confirm_clock(&self) -> Result<Value, RpcError> {
        if !self.node()?.chain.confirm_clock() {
            return Err(RpcError::server("the chain is overloaded: call again"));
        }
        tracing::info!("the operator confirms the wall clock");
        Ok(true.into())
    }
}

impl RpcHandler for Methods {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "alys_status" => {
                Args::new(params, 0)?;
                self.status().await
            }
            "admin_confirmClock" => {
                self.authorise(params)?;
                self.confirm_clock()
            }
            _ if METHODS.iter().any(|(name, _)| *name == method) => Err(RpcError::new(
                RpcError::METHOD_NOT_FOUND,
                format!(
                    "{method} is for miners, who have a port of their own: start the node with \
                     --mining-addr 127.0.0.1:{DEFAULT_PORT}, or set enabled = true in [mining]"
                ),
            )),
            _ => Err(RpcError::method_not_found(method)),
        }
    }
}

/// The files with the address and the token, which are removed on drop, so that no command finds a
/// node that has ended. Those of a process that was killed stay until the next start.
struct Files(Dir);

impl Files {
    /// Removes the files of an earlier process. The caller holds the lock of the directory.
    fn clear(dir: Dir) -> io::Result<Files> {
        let files = Files(dir);
        files.remove()?;
        Ok(files)
    }

    /// The address is last, because a command that finds it reads the token.
    fn write(&self, addr: SocketAddr, token: &Token) -> io::Result<()> {
        let Files(dir) = self;
        dir.write_atomic_private(TOKEN_FILE, format!("{}\n", token.0).as_bytes())?;
        dir.write_atomic(ADDRESS_FILE, format!("{addr}\n").as_bytes())
    }

    fn remove(&self) -> io::Result<()> {
        let Files(dir) = self;
        dir.remove(ADDRESS_FILE)?;
        dir.remove(TOKEN_FILE)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::debug!(%error, "a file of the JSON-RPC for the operator stays");
        }
    }
}

/// A running server. Its files are removed by [`OperatorServer::stop`] and on drop.
pub struct OperatorServer {
    // Dropped first.
    files: Files,
    server: HttpServer,
    methods: Arc<Methods>,
}

impl OperatorServer {
    /// Listens on `addr` and writes the address and a token to `dir`; port 0 picks a free one.
    ///
    /// # Errors
    /// The address cannot be bound, or the directory cannot be written.
    pub async fn bind(addr: SocketAddr, dir: Dir) -> Result<OperatorServer, OperatorError> {
        let files = Files::clear(dir)?;
        let methods = Arc::new(Methods {
            token: Token::random(),
            node: Mutex::new(None),
            refusal_lines: Mutex::default(),
        });
        let config = ServerConfig {
            // A page of any site reaches loopback addresses, and by DNS rebinding reads answers.
            pages: Pages::Refused { hosts: Vec::new() },
            max_body_bytes: MAX_REQUEST_BYTES,
            max_connections: MAX_CONNECTIONS,
            ..ServerConfig::new("operator")
        };
        let server = HttpServer::bind(addr, config, methods.clone()).await?;
        files.write(server.local_addr(), &methods.token)?;
        Ok(OperatorServer {
            files,
            server,
            methods,
        })
    }

    /// Serves this node from now on.
    pub fn serve(&self, node: Operated) {
        let mut served = self
            .methods
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *served = Some(node);
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    pub async fn stop(self) {
        drop(self.files);
        self.server.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use alys_actor_system::testkit::Probe;
    use alys_integrations::http::{CallError, ClientConfig, HttpClient};
    use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
    use alys_runtime::net::{Listener, Stream};

    use super::*;
    use crate::actors::chain::ChainMessage;
    use crate::actors::testbed::genesis;
    use crate::dev::layout::loopback;

    fn read(dir: &Dir, name: &str) -> String {
        let bytes = dir.read(name).expect("readable").expect("it is there");
        String::from_utf8(bytes).expect("text").trim().to_owned()
    }

    /// The status of the answer to a call of `alys_status` with these headers.
    async fn status_with(addr: SocketAddr, headers: &str) -> String {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"alys_status"}"#;
        let length = body.len();
        let request = format!(
            "POST / HTTP/1.1\r\n{headers}connection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        let mut stream = Stream::connect(addr).await.expect("a connection");
        let sent = stream.write_all(request.as_bytes()).await;
        sent.expect("the request is sent");
        stream.flush().await.expect("the request is sent");
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..count]);
        }
        let answer = String::from_utf8(answer).expect("text");
        let line = answer.lines().next().expect("a status");
        line.to_owned()
    }

    #[test]
    fn no_web_page_calls_the_server() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("data");
        alys_runtime::block_on_main(async move {
            let dir = Dir::open(path).expect("a directory");
            let bound = OperatorServer::bind(loopback(0), dir).await;
            let server = bound.expect("a free port");
            for (headers, status) in [
                ("host: 127.0.0.1\r\n", "200 OK"),
                ("host: localhost:1\r\n", "200 OK"),
                ("host: rebound.example\r\n", "403 Forbidden"),
                (
                    "host: localhost\r\norigin: https://evil.example\r\n",
                    "403 Forbidden",
                ),
                (
                    "host: localhost\r\norigin: http://localhost:3000\r\n",
                    "403 Forbidden",
                ),
                ("host: localhost\r\norigin: null\r\n", "403 Forbidden"),
            ] {
                let line = status_with(server.local_addr(), headers).await;
                assert_eq!(line, format!("HTTP/1.1 {status}"), "{headers}");
            }
            server.stop().await;
        });
    }

    #[test]
    fn only_the_token_of_the_data_directory_confirms_a_clock() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("data");
        alys_runtime::block_on_main(async move {
            let dir = Dir::open(path).expect("a directory");
            let bound = OperatorServer::bind(loopback(0), dir.clone()).await;
            let server = bound.expect("a free port");
            let client = HttpClient::new(ClientConfig::new(server.local_addr()));
            let refused =
                |result: Result<Value, CallError>| result.expect_err("a refusal").to_string();
            let early = client.call("alys_status", ()).await;
            assert!(refused(early).contains("is starting"));

            let (addr, mut mailbox) = Probe::new(8);
            server.serve(Operated {
                name: "test".to_owned(),
                genesis: genesis(1, 2_000),
                authority: None,
                peer_id: "peer".to_owned(),
                chain: chain::Handle(addr),
            });
            // A miner at the wrong port learns the right one.
            let mining = client.call("createauxblock", json!([])).await;
            assert!(refused(mining).contains("--mining-addr 127.0.0.1:3000"));
            for wrong in [json!([]), json!([""]), json!(["00"]), json!([7])] {
                let answer = client.call("admin_confirmClock", wrong).await;
                assert!(!refused(answer).is_empty());
            }
            assert!(mailbox.now().is_none(), "a wrong token reaches no actor");

            assert_eq!(read(&dir, ADDRESS_FILE), server.local_addr().to_string());
            let token = read(&dir, TOKEN_FILE);
            let confirmed = client.call("admin_confirmClock", (token,)).await;
            assert_eq!(confirmed.ok(), Some(true));
            let message = mailbox.next().await;
            assert!(matches!(message, Some(ChainMessage::ConfirmClock)));

            server.stop().await;
        });
    }

    #[test]
    fn the_files_are_those_of_the_running_server() {
        let temporary = tempfile::tempdir().expect("a temporary directory");
        let path = temporary.path().join("data");
        alys_runtime::block_on_main(async move {
            let dir = Dir::open(path).expect("a directory");
            let check_absent = |case: &str| {
                for name in [ADDRESS_FILE, TOKEN_FILE] {
                    let bytes = dir.read(name).expect("readable");
                    assert_eq!(bytes, None, "{name} {case}");
                }
            };
            // As a process leaves them that is killed.
            let leave = || {
                for name in [ADDRESS_FILE, TOKEN_FILE] {
                    dir.write_atomic(name, b"stale").expect("written");
                }
            };
            leave();
            let bound = OperatorServer::bind(loopback(0), dir.clone()).await;
            let server = bound.expect("a free port");
            assert_eq!(read(&dir, ADDRESS_FILE), server.local_addr().to_string());
            let token = read(&dir, TOKEN_FILE);
            assert_eq!(token.len(), 2 * TOKEN_BYTES);
            server.stop().await;
            check_absent("after a stop");

            let bound = OperatorServer::bind(loopback(0), dir.clone()).await;
            let server = bound.expect("a free port");
            assert_ne!(read(&dir, TOKEN_FILE), token, "every start draws a token");
            drop(server);
            check_absent("after a failed start");

            let listener = Listener::bind(loopback(0)).await.expect("a free port");
            leave();
            let refused = OperatorServer::bind(listener.local_addr(), dir.clone()).await;
            assert!(matches!(refused.err(), Some(OperatorError::Serve(_))));
            check_absent("after a refused address");
        });
    }
}
