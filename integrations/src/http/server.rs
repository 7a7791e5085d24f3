//! The HTTP server: one task per connection, a bounded number of connections, a timeout for every
//! wait, a budget for the memory of all requests and answers.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use alys_runtime::log_limit::LogLimit;
use alys_runtime::net::{Listener, Stream};
use alys_runtime::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use alys_runtime::{JoinHandle, buggify, buggify_pause};
use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::access::Pages;
use super::budget::{self, Budget, Charge, Pending};
use super::jsonrpc::{self, Body, RpcError, RpcHandler, Version, Versions};
use super::seats::{Seat, Seats};
use super::timer::{RuntimeTimer, WriteDeadline};
use super::{JwtSecret, Login};

/// Requests in a batch, as in Geth and in the default of viem. They run one after the other, and
/// their answers share the limit of one.
pub(super) const MAX_BATCH: usize = 1_000;

/// Limits of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Name of the server in log lines.
    pub name: &'static str,
    /// When set, every request needs a fresh token signed with it.
    pub auth: Option<JwtSecret>,
    /// When set, every request needs this user and password.
    pub login: Option<Login>,
    /// Accepted forms of requests.
    pub versions: Versions,
    /// Pages that may call, as browser wallets need.
    pub pages: Pages,
    /// Largest request body in bytes. A block of 8 MiB is 16 MiB of hex in JSON.
    pub max_body_bytes: usize,
    /// Largest answer in bytes, also of a whole batch.
    pub max_response_bytes: usize,
    /// Largest number of requests in a batch.
    pub max_batch: usize,
    /// Largest number of JSON values in a body without authentication, because values take many
    /// times their bytes once parsed.
    pub max_values: usize,
    /// Bytes of all requests and answers in progress, without those of small ones.
    pub max_pending_bytes: usize,
    /// Concurrent connections. A further one replaces the one that has waited longest for its
    /// client.
    pub max_connections: usize,
    /// Time for a request's head to arrive; also the lifetime of an idle connection.
    pub header_timeout: Duration,
    /// Time for a request's body to arrive.
    pub body_timeout: Duration,
    /// Time after which no further request of a batch is executed, because a connection is not
    /// replaced by another one while the server executes its batch.
    pub batch_timeout: Duration,
    /// Time after which a client that reads nothing of an answer is disconnected.
    pub write_timeout: Duration,
    /// Time that a graceful stop gives requests in progress.
    pub stop_grace: Duration,
}

impl ServerConfig {
    /// The default limits, for a port with authentication, which serves few clients; without
    /// authentication and checks of pages.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            auth: None,
            login: None,
            versions: Versions::Two,
            pages: Pages::Unchecked,
            max_body_bytes: 24 << 20,
            max_response_bytes: 32 << 20,
            max_batch: MAX_BATCH,
            max_values: 100_000,
            max_pending_bytes: 512 << 20,
            max_connections: 256,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            batch_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
        }
    }
}

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is in use, not of this machine, or not permitted.
    #[error("cannot listen on {addr} for {name}: {source}")]
    Bind {
        name: &'static str,
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropping it breaks every connection; [`HttpServer::stop`] finishes requests in
/// progress.
#[derive(Debug)]
pub struct HttpServer {
    local_addr: SocketAddr,
    stop: Arc<Stop>,
    accepting: Option<JoinHandle<()>>,
    connections: Arc<Semaphore>,
    max_connections: u32,
    budget: Budget,
    stop_grace: Duration,
}

impl HttpServer {
    /// Listens on `addr` (port 0 selects a free port) and answers with `handler`.
    pub async fn bind<H: RpcHandler>(
        addr: SocketAddr,
        config: ServerConfig,
        handler: Arc<H>,
    ) -> Result<Self, ServeError> {
        let bind_error = |source| ServeError::Bind {
            name: config.name,
            addr,
            source,
        };
        let listener = Listener::bind(addr).await.map_err(bind_error)?;
        let local_addr = listener.local_addr();
        let max_connections = u32::try_from(config.max_connections).unwrap_or(u32::MAX);
        let stop = Arc::new(Stop::default());
        let connections = Arc::new(Semaphore::new(max_connections as usize));
        let stop_grace = config.stop_grace;
        let budget = Budget::new(config.max_pending_bytes);
        let service = Arc::new(Service {
            budget: budget.clone(),
            seats: Arc::default(),
            config,
            handler,
        });
        let accepting = accept(listener, service, connections.clone(), stop.clone());
        let accepting = Some(alys_runtime::spawn("http-accept", accepting));
        Ok(Self {
            local_addr,
            stop,
            accepting,
            connections,
            max_connections,
            budget,
            stop_grace,
        })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The memory of requests and answers in progress.
    pub fn pending(&self) -> Pending {
        self.budget.pending()
    }

    /// Accepts no new connections, finishes the requests in progress, and breaks connections that
    /// outlast [`ServerConfig::stop_grace`]. On return the address is free and the handler is
    /// released, unless a request computes for longer than the grace without yielding.
    pub async fn stop(mut self) {
        self.stop.raise(Stop::GRACEFUL);
        if let Some(accepting) = self.accepting.take() {
            // The listener closes when its task ends, successfully or not.
            let _ended = accepting.await;
        }
        if self.closed_within_grace().await {
            return;
        }
        self.stop.raise(Stop::NOW);
        if !self.closed_within_grace().await {
            tracing::warn!(addr = %self.local_addr, "some connections did not close at the stop");
        }
    }

    /// Waits until all connections have returned their permits.
    async fn closed_within_grace(&self) -> bool {
        let closed = self.connections.acquire_many(self.max_connections);
        alys_runtime::time::timeout(self.stop_grace, closed)
            .await
            .is_ok()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.raise(Stop::NOW);
    }
}

/// A monotonic stop level with its waiters. It is not a `watch`, because that wakes in a
/// nondeterministic order.
#[derive(Debug, Default)]
struct Stop {
    level: AtomicU8,
    raised: Notify,
}

impl Stop {
    const GRACEFUL: u8 = 1;
    const NOW: u8 = 2;

    fn raise(&self, level: u8) {
        self.level.fetch_max(level, Ordering::SeqCst);
        self.raised.notify_waiters();
    }

    async fn reached(&self, level: u8) {
        loop {
            let mut raised = pin!(self.raised.notified());
            // Registers before the check, so that a raise between the two is not missed.
            raised.as_mut().enable();
            if self.level.load(Ordering::SeqCst) >= level {
                return;
            }
            raised.await;
        }
    }
}

async fn accept<H: RpcHandler>(
    listener: Listener,
    service: Arc<Service<H>>,
    connections: Arc<Semaphore>,
    stop: Arc<Stop>,
) {
    /// Accepting fails when the process has no file descriptors left; the delay lets connections
    /// end.
    const RETRY_DELAY: Duration = Duration::from_millis(100);
    let mut lines = LogLimit::default();
    loop {
        let accepted = {
            let next = pin!(listener.accept());
            match select(next, pin!(stop.reached(Stop::GRACEFUL))).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => return,
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let server = service.config.name;
                if let Some(left_out) = lines.admit(alys_runtime::time::now()) {
                    tracing::warn!(server, %error, left_out, "cannot accept a connection");
                } else {
                    tracing::debug!(server, %error, "cannot accept a connection");
                }
                alys_runtime::time::sleep(RETRY_DELAY).await;
                continue;
            }
        };
        let place = pin!(place(&connections, &service.seats));
        let permit = match select(place, pin!(stop.reached(Stop::GRACEFUL))).await {
            Either::Left((Some(permit), _)) => permit,
            // The semaphore is never closed.
            Either::Left((None, _)) | Either::Right(_) => return,
        };
        tracing::trace!(server = service.config.name, %peer, "connection");
        alys_runtime::spawn(
            "http-connection",
            serve(stream, service.clone(), permit, stop.clone()),
        );
    }
}

/// A place for a new connection. When there is none, another connection gives way.
async fn place(connections: &Arc<Semaphore>, seats: &Seats) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = connections.clone().try_acquire_owned() {
        return Some(permit);
    }
    seats.make_room();
    let permit = connections.clone().acquire_owned().await.ok();
    seats.has_room();
    permit
}

async fn serve<H: RpcHandler>(
    stream: Stream,
    service: Arc<Service<H>>,
    permit: OwnedSemaphorePermit,
    stop: Arc<Stop>,
) {
    serve_until(stream, service, &stop).await;
    // Released last, because a stop treats a returned permit as a closed connection.
    drop(permit);
}

/// Bytes that a connection buffers of a request before the server asks for more, and of its head.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// Reason for which the server ends a connection.
enum Interruption {
    Stop,
    Evicted,
}

async fn serve_until<H: RpcHandler>(stream: Stream, service: Arc<Service<H>>, stop: &Stop) {
    let config = &service.config;
    let seat = service.seats.seat();
    let answer = |request| {
        let service = service.clone();
        let seat = &seat;
        async move { Ok::<_, Infallible>(service.respond(request, seat).await) }
    };
    let io = TokioIo::new(WriteDeadline::new(stream, config.write_timeout));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(RuntimeTimer)
        .header_read_timeout(config.header_timeout)
        .max_buf_size(MAX_BUFFER_BYTES);
    // hyper reads the system's clock for it, which bypasses the runtime, and JSON-RPC clients
    // ignore it.
    builder.auto_date_header(false);
    let mut connection = pin!(builder.serve_connection(io, hyper::service::service_fn(answer)));
    let interrupted = async {
        match select(pin!(stop.reached(Stop::GRACEFUL)), pin!(seat.evicted())).await {
            Either::Left(_) => Interruption::Stop,
            Either::Right(_) => Interruption::Evicted,
        }
    };
    let ended = match select(connection.as_mut(), pin!(interrupted)).await {
        Either::Left((ended, _)) => Some(ended),
        Either::Right((Interruption::Evicted, _)) => {
            tracing::debug!(
                server = config.name,
                "a waiting connection gave way to a new one"
            );
            None
        }
        Either::Right((Interruption::Stop, _)) => {
            connection.as_mut().graceful_shutdown();
            match select(connection, pin!(stop.reached(Stop::NOW))).await {
                Either::Left((ended, _)) => Some(ended),
                Either::Right(_) => None,
            }
        }
    };
    if let Some(Err(error)) = ended {
        // The client is at fault: it did not send HTTP, stopped reading, or disconnected.
        tracing::debug!(server = config.name, %error, "connection ended early");
    }
}

struct Service<H> {
    config: ServerConfig,
    budget: Budget,
    seats: Arc<Seats>,
    handler: Arc<H>,
}

/// Memory of a parsed value beside the bytes of its text, about.
const VALUE_BYTES: usize = 96;

impl<H: RpcHandler> Service<H> {
    async fn respond(&self, request: Request<Incoming>, seat: &Seat) -> Response<Full<Bytes>> {
        buggify_pause!("http.server.late_request", 100_000, 150);
        let origin = request.headers().get(header::ORIGIN).cloned();
        let mut response = match self.refuse_page(&request) {
            Some(refusal) => refusal,
            None => self.respond_to(request, seat).await,
        };
        seat.waits();
        buggify_pause!("http.server.late_answer", 100_000, 150);
        if buggify!("http.server.close_after_answer", 100_000) {
            response = closing(response);
        }
        if self.config.pages.may_read()
            && let Some(origin) = origin
        {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("origin"));
        }
        response
    }

    /// Refuses calls of web pages that the configuration does not allow, before anything is read.
    fn refuse_page(&self, request: &Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let pages = &self.config.pages;
        let text_of = |name: header::HeaderName| {
            let value: Option<&HeaderValue> = request.headers().get(name);
            value.map(|value| value.to_str().unwrap_or_default())
        };
        let refusal = |what: &str, value: &str| {
            tracing::debug!(server = self.config.name, what, value, "page refused");
            let shown: String = value.chars().take(100).collect();
            let reason =
                format!("{what} {shown} is not allowed by the configuration of this server\n");
            Some(text(StatusCode::FORBIDDEN, reason))
        };
        let host = text_of(header::HOST);
        if !pages.allow_host(host) {
            return refusal("host", host.unwrap_or_default());
        }
        match text_of(header::ORIGIN) {
            Some(origin) if !pages.allow_origin(origin) => refusal("origin", origin),
            Some(_) | None => None,
        }
    }

    async fn respond_to(&self, request: Request<Incoming>, seat: &Seat) -> Response<Full<Bytes>> {
        match *request.method() {
            Method::OPTIONS if self.config.pages.may_read() => return preflight(),
            Method::POST => {}
            Method::GET | Method::HEAD => return self.page(request.uri().path()).await,
            _ => return text(StatusCode::METHOD_NOT_ALLOWED, "JSON-RPC is sent by POST\n"),
        }
        let authorization = request
            .headers()
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        if let Some(secret) = &self.config.auth {
            let now_secs = alys_runtime::clock::wall_ms() / 1000;
            if let Err(error) = secret.verify_header(authorization, now_secs) {
                return self.unauthorized(&error);
            }
        }
        if let Some(login) = &self.config.login
            && let Err(error) = login.verify_header(authorization)
        {
            let mut response = self.unauthorized(&error);
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"jsonrpc\""),
            );
            return response;
        }
        let mut charge = self.budget.charge();
        let body = match self.read(request.into_body(), &mut charge).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        seat.works();
        let body = match self.parse(body, &mut charge).await {
            Ok(body) => body,
            Err(response) => return response,
        };
        match body {
            Body::Refused(refusal) => self.json(&refusal.answer()),
            Body::One(request) => match self.answer(request).await {
                Some(answer) => self.json(&answer),
                None => empty(StatusCode::NO_CONTENT),
            },
            Body::Batch(requests) => self.batch(requests).await,
        }
    }

    /// Parses a body. Without authentication its values are counted first, because they take many
    /// times their bytes once parsed.
    async fn parse(
        &self,
        body: Vec<u8>,
        charge: &mut Charge,
    ) -> Result<Body, Response<Full<Bytes>>> {
        let max_batch = self.config.max_batch;
        let versions = self.config.versions;
        if self.config.auth.is_some() {
            return Ok(jsonrpc::parse(&body, max_batch, versions));
        }
        let values = jsonrpc::count_values(&body);
        if values > self.config.max_values {
            let limit = self.config.max_values;
            let reason = format!("the request has more than {limit} JSON values\n");
            return Err(text(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        if !charge.add(values.saturating_mul(VALUE_BYTES)) {
            return Err(busy());
        }
        // Large bodies are parsed beside the workers of the runtime.
        if body.len() > budget::FREE_BYTES {
            let parsed = alys_runtime::offload(alys_runtime::Lane::Short, move || {
                jsonrpc::parse(&body, max_batch, versions)
            });
            return parsed.await.map_err(|error| {
                tracing::warn!(server = self.config.name, %error, "a request was not parsed");
                empty(StatusCode::INTERNAL_SERVER_ERROR)
            });
        }
        Ok(jsonrpc::parse(&body, max_batch, versions))
    }

    async fn page(&self, path: &str) -> Response<Full<Bytes>> {
        let Some(page) = self.handler.page(path).await else {
            return text(StatusCode::OK, "");
        };
        let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        with_type(status, page.content_type, page.body.into())
    }

    fn unauthorized(&self, error: &dyn std::error::Error) -> Response<Full<Bytes>> {
        tracing::debug!(server = self.config.name, %error, "request refused");
        text(StatusCode::UNAUTHORIZED, format!("Unauthorized: {error}\n"))
    }

    /// Collects a body within the limits of size and time. Of a body that is too large for the
    /// limit or the budget, up to four times the limit is read and discarded, because closing at
    /// once would reset the connection before the client can read the answer.
    async fn read(
        &self,
        mut body: Incoming,
        charge: &mut Charge,
    ) -> Result<Vec<u8>, Response<Full<Bytes>>> {
        let limit = self.config.max_body_bytes;
        let too_large = || {
            let limit = format!("the request body is larger than {limit} bytes\n");
            Err(closing(text(StatusCode::PAYLOAD_TOO_LARGE, limit)))
        };
        let mut collected = Vec::new();
        let mut seen = 0_usize;
        let mut is_refused = false;
        // A declared length costs a client nothing, so only the first part is reserved.
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        collected.reserve(declared.min(budget::FREE_BYTES));
        let collect = async {
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    return Err(text(
                        StatusCode::BAD_REQUEST,
                        "the request body ended early\n",
                    ));
                };
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                seen = seen.saturating_add(data.len());
                if seen > limit.saturating_mul(4) {
                    return too_large();
                }
                if seen > limit || is_refused {
                    continue;
                }
                if charge.add(data.len()) {
                    collected.extend_from_slice(&data);
                } else {
                    is_refused = true;
                    collected = Vec::new();
                    *charge = self.budget.charge();
                }
            }
            match (seen > limit, is_refused) {
                (true, _) => too_large(),
                (false, true) => Err(closing(busy())),
                (false, false) => Ok(()),
            }
        };
        match alys_runtime::time::timeout(self.config.body_timeout, collect).await {
            Ok(Ok(())) => Ok(collected),
            Ok(Err(response)) => Err(response),
            Err(_elapsed) => Err(closing(text(
                StatusCode::REQUEST_TIMEOUT,
                "the request body took too long\n",
            ))),
        }
    }

    /// The answer to a request, or `None` for a notification.
    async fn answer(&self, request: Result<jsonrpc::Request, jsonrpc::Refusal>) -> Option<Value> {
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return Some(refusal.answer()),
        };
        let result = self.handler.handle(&request.method, request.params).await;
        if let Err(error) = &result {
            let server = self.config.name;
            tracing::debug!(server, method = request.method, %error, "error answered");
        }
        let version = request.version;
        request.id.map(|id| jsonrpc::answer(version, id, result))
    }

    /// Executes a batch sequentially, so that it takes no more of the server than one connection
    /// can. Requests that it does not reach in time are refused.
    async fn batch(
        &self,
        requests: Vec<Result<jsonrpc::Request, jsonrpc::Refusal>>,
    ) -> Response<Full<Bytes>> {
        let mut bytes = Vec::from(*b"[");
        let mut charge = self.budget.charge();
        let deadline = alys_runtime::time::now() + self.config.batch_timeout;
        for request in requests {
            let room = self.config.max_response_bytes.saturating_sub(bytes.len());
            if room == 0 {
                return self.json(&too_large_answer(Value::Null));
            }
            let answer = if alys_runtime::time::now() < deadline {
                self.answer(request).await
            } else {
                late(request)
            };
            let Some(answer) = answer else {
                continue;
            };
            if bytes.len() > 1 {
                bytes.push(b',');
            }
            let answer = alys_runtime::blocking(|| within(&answer, room));
            if !charge.add(answer.len()) {
                return busy();
            }
            bytes.extend(answer);
        }
        if bytes.len() == 1 {
            return empty(StatusCode::NO_CONTENT);
        }
        bytes.push(b']');
        json(bytes, charge)
    }

    fn json(&self, answer: &Value) -> Response<Full<Bytes>> {
        let bytes = alys_runtime::blocking(|| within(answer, self.config.max_response_bytes));
        let mut charge = self.budget.charge();
        if !charge.add(bytes.len()) {
            return busy();
        }
        json(bytes, charge)
    }
}

/// The refusal of a request that its batch did not reach in time; `None` for a notification.
fn late(request: Result<jsonrpc::Request, jsonrpc::Refusal>) -> Option<Value> {
    match request {
        Ok(request) => request.id.map(|id| {
            let error = RpcError::new(RpcError::TIMEOUT, "the batch took too long");
            jsonrpc::answer(request.version, id, Err(error))
        }),
        Err(refusal) => Some(refusal.answer()),
    }
}

/// The encoded answer, or an encoded error in its place when it exceeds `max_bytes`.
fn within(answer: &Value, max_bytes: usize) -> Vec<u8> {
    let bytes = jsonrpc::to_bytes(answer);
    if bytes.len() <= max_bytes {
        return bytes;
    }
    jsonrpc::to_bytes(&too_large_answer(
        answer.get("id").cloned().unwrap_or(Value::Null),
    ))
}

fn too_large_answer(id: Value) -> Value {
    let error = RpcError::new(RpcError::LIMIT, "response too large");
    jsonrpc::answer(Version::Two, id, Err(error))
}

fn json(bytes: Vec<u8>, charge: Charge) -> Response<Full<Bytes>> {
    let body = budget::charged(bytes, charge);
    with_type(StatusCode::OK, "application/json", body)
}

/// Other requests and answers take up the memory of the server.
fn busy() -> Response<Full<Bytes>> {
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        "the server is busy with large requests; try again later\n",
    )
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn closing(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn preflight() -> Response<Full<Bytes>> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "content-type, accept, *",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
