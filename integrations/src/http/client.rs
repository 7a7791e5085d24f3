//! The HTTP client: a pool of connections to one endpoint, with a deadline per call.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_runtime::net::Stream;
use alys_runtime::sync::{Semaphore, watch};
use alys_runtime::time::{Instant, now, sleep_until, timeout};
use alys_runtime::{buggify, select};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{JwtSecret, Login, RpcError, jsonrpc};
use crate::interceptor;

/// The URL of a server, such as `http://127.0.0.1:8551/path`. Host names other than `localhost`
/// (127.0.0.1) are not resolved, because an execution client is local or on a private link and
/// given by address, and name resolution could not be simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    addr: SocketAddr,
    host: HeaderValue,
    path: Uri,
}

/// A text that is not an [`Endpoint`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    #[error("not a URL: {text}")]
    Malformed { text: String },
    /// The scheme is not http.
    #[error("{text}: only http:// is supported; use a TLS proxy if the link needs encryption")]
    Scheme { text: String },
    /// The host is a name.
    #[error("{text}: the host must be an IP address or localhost")]
    Host { text: String },
}

impl Endpoint {
    /// The server at `addr` with the path `/`.
    pub fn new(addr: SocketAddr) -> Self {
        let host = HeaderValue::from_str(&addr.to_string()).expect("an address is printable ASCII");
        Self {
            addr,
            host,
            path: Uri::from_static("/"),
        }
    }

    /// The address to connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed {
            text: text.to_owned(),
        };
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        if uri.scheme_str() != Some("http") {
            let text = text.to_owned();
            return Err(match uri.scheme() {
                Some(_) => EndpointError::Scheme { text },
                None => EndpointError::Malformed { text },
            });
        }
        let host = uri.host().ok_or_else(malformed)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ip = match bare {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            bare => bare.parse().map_err(|_| EndpointError::Host {
                text: text.to_owned(),
            })?,
        };
        let port = uri.port_u16().unwrap_or(80);
        let path = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        Ok(Self {
            addr: SocketAddr::new(ip, port),
            host: HeaderValue::from_str(&format!("{host}:{port}")).map_err(|_| malformed())?,
            path: path.parse().map_err(|_| malformed())?,
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.addr, self.path)
    }
}

/// Endpoint and limits of a client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub endpoint: Endpoint,
    /// When set, every request carries a new token.
    pub auth: Option<JwtSecret>,
    /// When set, every request carries it.
    pub login: Option<Login>,
    /// Default deadline of a call, connecting included.
    pub deadline: Duration,
    /// Time for connecting, within the call's deadline.
    pub connect_timeout: Duration,
    /// Largest answer in bytes.
    pub max_response_bytes: usize,
    /// Concurrent calls, each on its own connection. Further calls wait within their deadlines.
    pub max_connections: usize,
}

impl ClientConfig {
    /// The default limits, without authentication.
    pub fn new(endpoint: impl Into<Endpoint>) -> Self {
        Self {
            endpoint: endpoint.into(),
            auth: None,
            login: None,
            deadline: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(3),
            max_response_bytes: 32 << 20,
            max_connections: 8,
        }
    }
}

/// A call without a result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No server listens at the address, or the network is down.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection to {addr} broke during {method}: {source}")]
    Broken {
        addr: SocketAddr,
        method: String,
        #[source]
        source: hyper::Error,
    },
    /// The deadline passed. The server may or may not have executed the call.
    #[error("no answer to {method} from {addr} within {after:?}")]
    Timeout {
        addr: SocketAddr,
        method: String,
        after: Duration,
    },
    /// The time of [`HttpClient::end_within`] has passed. The server may or may not have executed
    /// the call.
    #[error("{method} was abandoned because the client of {addr} is shutting down")]
    Ended { addr: SocketAddr, method: String },
    /// The server did not accept the token (HTTP 401 or 403).
    #[error("{addr} refused the authentication: {reason}")]
    Unauthorized {
        addr: SocketAddr,
        /// The beginning of the body.
        reason: String,
    },
    /// The HTTP status is not 200, and the body is not a JSON-RPC answer.
    #[error("{addr} answered {method} with HTTP status {status}: {body}")]
    Status {
        addr: SocketAddr,
        method: String,
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// The answer exceeds [`ClientConfig::max_response_bytes`], or the limit of its call.
    #[error("the answer of {addr} to {method} is larger than {limit} bytes")]
    TooLarge {
        addr: SocketAddr,
        method: String,
        limit: usize,
    },
    /// The answer is not JSON-RPC, or its result does not match the method.
    #[error("the answer of {addr} to {method} is invalid: {reason}")]
    Invalid {
        addr: SocketAddr,
        method: String,
        reason: String,
    },
    /// The server answered with a JSON-RPC error.
    #[error("{method}: {error}")]
    Rpc {
        method: String,
        #[source]
        error: RpcError,
    },
}

/// A client of one endpoint. Clones share its connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ClientConfig,
    next_id: AtomicU64,
    /// Idle connections, at most `max_connections`, most recently used last.
    idle: Mutex<Vec<Connection>>,
    slots: Semaphore,
    /// The time at which all calls are abandoned; set by [`HttpClient::end_within`].
    end: watch::Sender<Option<Instant>>,
}

type Connection = SendRequest<Full<Bytes>>;

/// An answer that is parsed without a tree of JSON values.
#[derive(Deserialize)]
#[serde(bound(deserialize = "R: DeserializeOwned"))]
struct TypedAnswer<R> {
    id: u64,
    #[serde(deserialize_with = "R::deserialize")]
    result: R,
    #[serde(default)]
    error: Option<Value>,
}

/// One answer of a batch.
#[derive(Deserialize)]
#[serde(bound(deserialize = "R: DeserializeOwned"))]
struct BatchAnswer<R> {
    id: u64,
    #[serde(default)]
    result: Option<R>,
    #[serde(default)]
    error: Option<Value>,
}

/// Status and complete body of an answer.
type Answer = (StatusCode, Vec<u8>);

impl HttpClient {
    /// Connects at the first call.
    pub fn new(config: ClientConfig) -> Self {
        let slots = Semaphore::new(config.max_connections.max(1));
        Self {
            shared: Arc::new(Shared {
                config,
                next_id: AtomicU64::new(1),
                idle: Mutex::default(),
                slots,
                end: watch::Sender::new(None),
            }),
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.config.endpoint
    }

    /// Abandons all calls once `within` has passed, regardless of their deadlines: outstanding and
    /// later calls fail with [`CallError::Ended`]. Used by a process that stops while the server
    /// may be unreachable. Of several calls the earliest end applies.
    pub fn end_within(&self, within: Duration) {
        let new_end = now() + within;
        self.shared
            .end
            .send_modify(|end| *end = Some(end.map_or(new_end, |earlier| earlier.min(new_end))));
    }

    /// Returns at the time that [`Self::end_within`] has set.
    async fn ended(&self) {
        let mut end = self.shared.end.subscribe();
        let Ok(end) = end
            .wait_for(Option::is_some)
            .await
            .map(|end| end.unwrap_or_else(now))
        else {
            return std::future::pending().await;
        };
        sleep_until(end).await;
    }

    /// Calls `method` with the configured deadline. `params` must serialise to a JSON array, as
    /// tuples and slices do.
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<R, CallError> {
        self.call_within(self.shared.config.deadline, method, params)
            .await
    }

    /// As [`call`](Self::call), for an answer of up to `max_bytes` in place of
    /// [`ClientConfig::max_response_bytes`]. It is parsed without a tree of JSON values, which
    /// would take several times its bytes.
    pub async fn call_large<R: DeserializeOwned>(
        &self,
        max_bytes: usize,
        method: &str,
        params: impl Serialize,
    ) -> Result<R, CallError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let request = self.request_value(id, method, params)?;
        let answer = self
            .exchange(
                self.shared.config.deadline,
                method,
                jsonrpc::to_bytes(&request).into(),
                max_bytes,
            )
            .await?;
        let typed = serde_json::from_slice::<TypedAnswer<R>>(&answer.1);
        if let (StatusCode::OK, Ok(typed)) = (answer.0, typed)
            && typed.error.is_none()
            && typed.id == id
        {
            return Ok(typed.result);
        }
        // The reason for the refusal, or the part that does not fit.
        let result = self.result(method, id, answer)?;
        serde_json::from_value(result)
            .map_err(|error| self.invalid(method, format!("unexpected result: {error}")))
    }

    /// Calls `method` once for each of `params`, in one request with one deadline and one answer of
    /// up to `max_bytes`. The results are in the order of `params`; `None` stands for null. The
    /// caller bounds the number of calls, because servers do.
    ///
    /// # Errors
    /// The first error of a call is the error of the batch.
    pub async fn call_batch<R: DeserializeOwned>(
        &self,
        max_bytes: usize,
        method: &str,
        params: &[impl Serialize],
    ) -> Result<Vec<Option<R>>, CallError> {
        let count = params.len() as u64;
        let first = self.shared.next_id.fetch_add(count, Ordering::Relaxed);
        let requests = (first..)
            .zip(params)
            .map(|(id, params)| self.request_value(id, method, params))
            .collect::<Result<Vec<Value>, _>>()?;
        let body = jsonrpc::to_bytes(&Value::Array(requests));
        let deadline = self.shared.config.deadline;
        let answer = self
            .exchange(deadline, method, body.into(), max_bytes)
            .await?;
        let parsed = serde_json::from_slice::<Vec<BatchAnswer<R>>>(&answer.1);
        let (StatusCode::OK, Ok(answers)) = (answer.0, parsed) else {
            // A refusal of the whole batch, or no batch of answers.
            self.result(method, first, answer)?;
            return Err(self.invalid(method, "one answer to a batch".to_owned()));
        };
        let mut results: Vec<Option<Option<R>>> = params.iter().map(|_| None).collect();
        for answer in answers {
            if let Some(error) = answer.error.as_ref().and_then(RpcError::from_value) {
                return Err(CallError::Rpc {
                    method: method.to_owned(),
                    error,
                });
            }
            let place = answer.id.checked_sub(first).and_then(|index| {
                let index = usize::try_from(index).ok()?;
                results.get_mut(index)
            });
            let id = answer.id;
            let place = place.ok_or_else(|| {
                self.invalid(method, format!("the batch has no request with id {id}"))
            })?;
            *place = Some(answer.result);
        }
        let complete: Option<Vec<Option<R>>> = results.into_iter().collect();
        complete.ok_or_else(|| self.invalid(method, "the batch lacks an answer".to_owned()))
    }

    /// Calls `method` with the given deadline.
    ///
    /// When an idle connection turns out to be closed before any byte of an answer, the call is
    /// repeated once on a new connection, so the server may execute it twice. Methods must be
    /// idempotent, as those of the Engine API and of the Ethereum JSON-RPC are.
    pub async fn call_within<R: DeserializeOwned>(
        &self,
        deadline: Duration,
        method: &str,
        params: impl Serialize,
    ) -> Result<R, CallError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let request = self.request_value(id, method, params)?;
        let limit = self.shared.config.max_response_bytes;
        let answer = self
            .exchange(deadline, method, jsonrpc::to_bytes(&request).into(), limit)
            .await?;
        let result = self.result(method, id, answer)?;
        serde_json::from_value(result)
            .map_err(|error| self.invalid(method, format!("unexpected result: {error}")))
    }

    fn request_value(
        &self,
        id: u64,
        method: &str,
        params: impl Serialize,
    ) -> Result<Value, CallError> {
        let params = serde_json::to_value(params).map_err(|error| {
            self.invalid(method, format!("parameters cannot be encoded: {error}"))
        })?;
        let params = if params.is_null() {
            Value::Array(Vec::new())
        } else {
            params
        };
        Ok(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
    }

    #[cfg(test)]
    pub(super) fn idle_connections(&self) -> usize {
        self.idle().len()
    }

    /// Sends a request body and returns the answer of at most `limit` bytes, within `deadline` and
    /// the end of the client.
    async fn exchange(
        &self,
        deadline: Duration,
        method: &str,
        body: Bytes,
        limit: usize,
    ) -> Result<Answer, CallError> {
        let addr = self.endpoint().addr();
        let timed_out = |_elapsed| {
            Err(CallError::Timeout {
                addr,
                method: method.to_owned(),
                after: deadline,
            })
        };
        let result = select! {
            biased;
            exchanged = timeout(deadline, self.exchange_unbounded(method, body, limit)) =>
                exchanged.unwrap_or_else(timed_out),
            () = self.ended() => Err(CallError::Ended { addr, method: method.to_owned() }),
        };
        if let Err(CallError::Timeout { .. } | CallError::Broken { .. }) = &result {
            // The cause (a restart, a partition) has most likely broken the other idle connections
            // as well.
            self.idle().clear();
        }
        result
    }

    async fn exchange_unbounded(
        &self,
        method: &str,
        body: Bytes,
        limit: usize,
    ) -> Result<Answer, CallError> {
        let _slot = self
            .shared
            .slots
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let broken = |source| CallError::Broken {
            addr: self.endpoint().addr(),
            method: method.to_owned(),
            source,
        };
        if let Some(mut idle) = self.take_idle().await {
            match idle.send_request(self.request(body.clone())).await {
                Ok(response) => return self.read(method, idle, response, limit).await,
                // The server closed the connection or restarted, before any byte of an answer.
                Err(error) => {
                    tracing::trace!(%error, "an idle connection was closed");
                    self.idle().clear();
                }
            }
        }
        let mut connection = self.connect().await?;
        let response = connection
            .send_request(self.request(body))
            .await
            .map_err(broken)?;
        self.read(method, connection, response, limit).await
    }

    async fn read(
        &self,
        method: &str,
        connection: Connection,
        response: Response<Incoming>,
        limit: usize,
    ) -> Result<Answer, CallError> {
        let addr = self.endpoint().addr();
        let (head, mut body) = response.into_parts();
        let mut collected = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| CallError::Broken {
                addr,
                method: method.to_owned(),
                source,
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if collected.len() + data.len() > limit {
                return Err(CallError::TooLarge {
                    addr,
                    method: method.to_owned(),
                    limit,
                });
            }
            collected.extend_from_slice(&data);
        }
        let mut idle = self.idle();
        // A connection is reusable only after its answer was read completely.
        if idle.len() < self.shared.config.max_connections {
            idle.push(connection);
        }
        Ok((head.status, collected))
    }

    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle().pop()?;
            if buggify!("http.client.forget_connection", 100_000) {
                continue;
            }
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let addr = self.endpoint().addr();
        let error = |source| CallError::Connect { addr, source };
        let connecting = timeout(self.shared.config.connect_timeout, Stream::connect(addr));
        let stream = match connecting.await {
            Ok(connected) => connected.map_err(error)?,
            Err(_elapsed) => return Err(error(io::ErrorKind::TimedOut.into())),
        };
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|source| error(io::Error::other(source)))?;
        alys_runtime::spawn("http-client", async move {
            // A call in progress reports the error; on an idle connection it has no consequence.
            if let Err(error) = connection.await {
                tracing::trace!(%error, "client connection ended");
            }
        });
        Ok(sender)
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let config = &self.shared.config;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = config.endpoint.path.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, config.endpoint.host.clone());
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(secret) = &config.auth {
            let now_secs = alys_runtime::clock::wall_ms() / 1000;
            let token = secret.token(interceptor::token_issued_secs(now_secs));
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .expect("a token consists of base64url characters and dots");
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        if let Some(login) = &config.login {
            headers.insert(header::AUTHORIZATION, login.header());
        }
        request
    }

    /// Extracts the result of an answer.
    fn result(&self, method: &str, id: u64, (status, body): Answer) -> Result<Value, CallError> {
        let addr = self.endpoint().addr();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            return Err(CallError::Unauthorized {
                addr,
                reason: excerpt(&body),
            });
        }
        let parsed = serde_json::from_slice::<Value>(&body);
        // Some servers send JSON-RPC errors with an HTTP status other than 200.
        if let Some(error) = parsed
            .as_ref()
            .ok()
            .and_then(|answer| RpcError::from_value(answer.get("error")?))
        {
            return Err(CallError::Rpc {
                method: method.to_owned(),
                error,
            });
        }
        if status != StatusCode::OK {
            return Err(CallError::Status {
                addr,
                method: method.to_owned(),
                status: status.as_u16(),
                body: excerpt(&body),
            });
        }
        let Ok(Value::Object(mut answer)) = parsed else {
            return Err(self.invalid(method, format!("not JSON-RPC: {}", excerpt(&body))));
        };
        if answer.get("id").and_then(Value::as_u64) != Some(id) {
            return Err(self.invalid(method, format!("the answer's id is not {id}")));
        }
        answer.remove("result").ok_or_else(|| {
            self.invalid(method, "neither result nor error in the answer".to_owned())
        })
    }

    fn invalid(&self, method: &str, reason: String) -> CallError {
        CallError::Invalid {
            addr: self.endpoint().addr(),
            method: method.to_owned(),
            reason,
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.shared
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a body, without control characters, for log lines.
fn excerpt(body: &[u8]) -> String {
    const MAX_CHARS: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_CHARS)]);
    text.trim()
        .chars()
        .take(MAX_CHARS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
