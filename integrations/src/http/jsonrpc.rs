//! JSON-RPC 2.0 without its transport: requests in, answers out, in bytes.

use std::future::Future;

use serde_json::{Map, Value, json};

/// An error answer: what a handler returns, and what a client gets back.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct RpcError {
    /// JSON-RPC's own codes, -32000 and below for the server's, 3 for a revert, -38xxx for the Engine API.
    pub code: i64,
    /// For people.
    pub message: String,
    /// For programs, e.g. the revert data.
    pub data: Option<Value>,
}

impl RpcError {
    /// The body is not JSON.
    pub const PARSE: i64 = -32700;
    /// The body is JSON but not a request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters do not fit the method.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The server failed; its fault.
    pub const INTERNAL: i64 = -32603;
    /// The usual code of an Ethereum client for everything that has no other.
    pub const SERVER: i64 = -32000;
    /// The answer or the batch is beyond a limit of the server.
    pub const LIMIT: i64 = -32005;

    /// An error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// [`RpcError::METHOD_NOT_FOUND`], worded as Geth does.
    pub fn method_not_found(method: &str) -> Self {
        // The name is a stranger's text of any length.
        let name: String = method.chars().take(64).collect();
        Self::new(
            Self::METHOD_NOT_FOUND,
            format!("the method {name} does not exist/is not available"),
        )
    }

    /// [`RpcError::INVALID_PARAMS`].
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(Self::INVALID_PARAMS, message)
    }

    /// [`RpcError::INTERNAL`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Self::INTERNAL, message)
    }

    /// [`RpcError::SERVER`].
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(Self::SERVER, message)
    }

    /// The same error with `data`.
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    fn into_value(self) -> Value {
        let mut object = Map::new();
        object.insert("code".into(), self.code.into());
        object.insert("message".into(), self.message.into());
        if let Some(data) = self.data {
            object.insert("data".into(), data);
        }
        Value::Object(object)
    }

    /// Reads the `error` member of an answer; `None` when it is not an object with an integer code.
    pub(super) fn from_value(value: &Value) -> Option<Self> {
        Some(Self {
            code: value.get("code")?.as_i64()?,
            message: value
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            data: value.get("data").filter(|data| !data.is_null()).cloned(),
        })
    }
}

/// An answer to a GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status code.
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

/// What answers requests. Dropped futures are how a gone client shows: a handler must be correct when it is
/// dropped at any await.
pub trait RpcHandler: Send + Sync + 'static {
    /// Answers one request. `params` is an array or an object; absent ones arrive as an empty array.
    fn handle(
        &self,
        method: &str,
        params: Value,
    ) -> impl Future<Output = Result<Value, RpcError>> + Send;

    /// Answers a GET of `path`. `None` is an empty page with status 200, which load balancers take for a sign
    /// of life.
    fn page(&self, path: &str) -> impl Future<Output = Option<Page>> + Send {
        let _ = path;
        std::future::ready(None)
    }
}

/// What a body turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    One(Result<Request, Refusal>),
    Batch(Vec<Result<Request, Refusal>>),
    /// Not answerable one by one.
    Refused(Refusal),
}

#[derive(Debug, PartialEq)]
pub(super) struct Request {
    /// `None` is a notification: carried out, not answered.
    pub id: Option<Value>,
    pub method: String,
    pub params: Value,
}

/// An invalid request, with the id to answer it by (null when it has none that can be used).
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub id: Value,
    pub error: RpcError,
}

/// Parses a body; `max_batch` is the largest number of requests in one. serde_json limits nesting to 128 by itself.
pub(super) fn parse(body: &[u8], max_batch: usize) -> Body {
    let refused = |code, message: &str| {
        Body::Refused(Refusal {
            id: Value::Null,
            error: RpcError::new(code, message),
        })
    };
    match serde_json::from_slice::<Value>(body) {
        Err(_) => refused(RpcError::PARSE, "parse error"),
        Ok(Value::Array(batch)) if batch.is_empty() => {
            refused(RpcError::INVALID_REQUEST, "empty batch")
        }
        Ok(Value::Array(batch)) if batch.len() > max_batch => {
            refused(RpcError::INVALID_REQUEST, "batch too large")
        }
        Ok(Value::Array(batch)) => Body::Batch(batch.into_iter().map(request).collect()),
        Ok(value) => Body::One(request(value)),
    }
}

fn request(value: Value) -> Result<Request, Refusal> {
    let invalid = |id: Value| Refusal {
        id,
        error: RpcError::new(RpcError::INVALID_REQUEST, "invalid request"),
    };
    let Value::Object(mut object) = value else {
        return Err(invalid(Value::Null));
    };
    let id = match object.remove("id") {
        Some(id @ (Value::Null | Value::Number(_) | Value::String(_))) => Some(id),
        Some(_) => return Err(invalid(Value::Null)),
        None => None,
    };
    let answer_id = || id.clone().unwrap_or(Value::Null);
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid(answer_id()));
    }
    let Some(Value::String(method)) = object.remove("method") else {
        return Err(invalid(answer_id()));
    };
    let params = match object.remove("params") {
        None | Some(Value::Null) => Value::Array(Vec::new()),
        Some(params @ (Value::Array(_) | Value::Object(_))) => params,
        Some(_) => {
            let error = RpcError::invalid_params("params must be an array or an object");
            return Err(Refusal {
                id: answer_id(),
                error,
            });
        }
    };
    Ok(Request { id, method, params })
}

/// The answer object.
pub(super) fn answer(id: Value, result: Result<Value, RpcError>) -> Value {
    match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error.into_value() }),
    }
}

/// The bytes of a value.
pub(super) fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value has string keys and finite numbers")
}
