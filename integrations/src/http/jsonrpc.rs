//! The encoding of JSON-RPC 2.0, and of 1.0 for servers that speak it, without a transport.

use std::future::Future;

use serde_json::{Map, Value, json};

/// A JSON-RPC error object.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message} (code {code})")]
pub struct RpcError {
    /// A code of JSON-RPC (-32700 to -32600), of the server (-32000 to -32099), of the Engine API
    /// (-38xxx), or 3 for a revert.
    pub code: i64,
    /// Human-readable.
    pub message: String,
    /// Machine-readable, such as the revert data.
    pub data: Option<Value>,
}

impl RpcError {
    /// The body is not JSON.
    pub const PARSE: i64 = -32700;
    /// The body is JSON but not a request.
    pub const INVALID_REQUEST: i64 = -32600;
    /// The method does not exist.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters do not match the method.
    pub const INVALID_PARAMS: i64 = -32602;
    /// The server failed.
    pub const INTERNAL: i64 = -32603;
    /// The default code of Ethereum clients.
    pub const SERVER: i64 = -32000;
    /// The time for a batch is over before the request was executed. Geth's code.
    pub const TIMEOUT: i64 = -32002;
    /// The answer exceeds a limit of the server. Geth's code; libraries take -32005 for a limit of
    /// the rate, wait and ask the same again.
    pub const LIMIT: i64 = -32003;
    /// The request did not get its turn, because other requests occupy the server: the same request
    /// may succeed later. Reth's code (jsonrpsee); Geth has none.
    pub const BUSY: i64 = -32009;

    /// Creates an error without data.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// [`RpcError::METHOD_NOT_FOUND`] with Geth's text.
    pub fn method_not_found(method: &str) -> Self {
        // The name comes from the request and can have any length.
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

    /// Parses the `error` member of an answer; `None` when it is not an object with an integer
    /// code.
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

/// The answer to a GET request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status code.
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

/// Answers requests. The server drops the future of a disconnected client, so a handler must be
/// correct when it is cancelled at any await.
pub trait RpcHandler: Send + Sync + 'static {
    /// Answers one request. `params` is an array or an object; absent parameters are an empty
    /// array.
    fn handle(
        &self,
        method: &str,
        params: Value,
    ) -> impl Future<Output = Result<Value, RpcError>> + Send;

    /// Answers a GET of `path`. `None` is an empty page with status 200, which passes the liveness
    /// checks of load balancers.
    fn page(&self, path: &str) -> impl Future<Output = Option<Page>> + Send {
        let _ = path;
        std::future::ready(None)
    }
}

/// The version of a request, which its answer has as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// JSON-RPC 1.0, as `bitcoind` serves it: `jsonrpc` is absent or has another value, an answer
    /// has both `result` and `error`, and every request is answered.
    One,
    Two,
}

/// The forms of requests that a server accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versions {
    /// JSON-RPC 2.0.
    #[default]
    Two,
    /// JSON-RPC 1.0 too, and parameters that are a single value outside of an array.
    OneAndTwo,
}

/// The contents of a request body.
#[derive(Debug, PartialEq)]
pub(super) enum Body {
    One(Result<Request, Refusal>),
    Batch(Vec<Result<Request, Refusal>>),
    /// The body as a whole is refused.
    Refused(Refusal),
}

#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub version: Version,
    /// `None` marks a notification, which is executed and not answered.
    pub id: Option<Value>,
    pub method: String,
    pub params: Value,
}

/// An invalid request, with the id of the answer: null when the request has no valid one.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub version: Version,
    pub id: Value,
    pub error: RpcError,
}

/// An upper bound of the JSON values in a body, object keys included, without parsing it: the marks
/// outside of strings that begin or separate values.
pub(super) fn count_values(body: &[u8]) -> usize {
    let mut count = 1_usize;
    let mut is_string = false;
    let mut is_escaped = false;
    for byte in body {
        match (is_string, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (true, b'"') => is_string = false,
            (true, _) => {}
            (false, b'"') => is_string = true,
            (false, b'[' | b'{' | b',' | b':') => count += 1,
            (false, _) => {}
        }
    }
    count
}

/// Parses a body with at most `max_batch` requests. serde_json limits the nesting to 128.
pub(super) fn parse(body: &[u8], max_batch: usize, versions: Versions) -> Body {
    let refused = |code, message: &str| {
        Body::Refused(Refusal {
            version: Version::Two,
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
        Ok(Value::Array(batch)) => {
            let requests = batch.into_iter().map(|value| request(value, versions));
            Body::Batch(requests.collect())
        }
        Ok(value) => Body::One(request(value, versions)),
    }
}

fn request(value: Value, versions: Versions) -> Result<Request, Refusal> {
    let Value::Object(mut object) = value else {
        return Err(Refusal {
            version: Version::Two,
            id: Value::Null,
            error: RpcError::new(RpcError::INVALID_REQUEST, "invalid request"),
        });
    };
    let is_two = object.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    let version = match versions {
        Versions::OneAndTwo if !is_two => Version::One,
        Versions::Two | Versions::OneAndTwo => Version::Two,
    };
    let invalid = |id: Value| Refusal {
        version,
        id,
        error: RpcError::new(RpcError::INVALID_REQUEST, "invalid request"),
    };
    let id = match object.remove("id") {
        Some(id @ (Value::Null | Value::Number(_) | Value::String(_))) => Some(id),
        Some(_) => return Err(invalid(Value::Null)),
        // Clients of 1.0 wait for an answer, also without an id.
        None if version == Version::One => Some(Value::Null),
        None => None,
    };
    let answer_id = || id.clone().unwrap_or(Value::Null);
    if !is_two && version == Version::Two {
        return Err(invalid(answer_id()));
    }
    let Some(Value::String(method)) = object.remove("method") else {
        return Err(invalid(answer_id()));
    };
    let params = match object.remove("params") {
        None | Some(Value::Null) => Value::Array(Vec::new()),
        Some(params @ (Value::Array(_) | Value::Object(_))) => params,
        Some(value) if versions == Versions::OneAndTwo => Value::Array(vec![value]),
        Some(_) => {
            let error = RpcError::invalid_params("params must be an array or an object");
            return Err(Refusal {
                version,
                id: answer_id(),
                error,
            });
        }
    };
    Ok(Request {
        version,
        id,
        method,
        params,
    })
}

impl Refusal {
    /// The response object.
    pub fn answer(self) -> Value {
        answer(self.version, self.id, Err(self.error))
    }
}

/// The response object of a request.
pub(super) fn answer(version: Version, id: Value, result: Result<Value, RpcError>) -> Value {
    match (version, result) {
        (Version::Two, Ok(result)) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        (Version::Two, Err(error)) => {
            json!({ "jsonrpc": "2.0", "id": id, "error": error.into_value() })
        }
        (Version::One, Ok(result)) => json!({ "result": result, "error": null, "id": id }),
        (Version::One, Err(error)) => {
            json!({ "result": null, "error": error.into_value(), "id": id })
        }
    }
}

pub(super) fn to_bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a JSON value has string keys and finite numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of a parsed body, object keys included.
    fn parsed(value: &Value) -> usize {
        match value {
            Value::Array(values) => 1 + values.iter().map(parsed).sum::<usize>(),
            Value::Object(members) => 1 + members.values().map(|v| 1 + parsed(v)).sum::<usize>(),
            _ => 1,
        }
    }

    #[test]
    fn values_are_counted_before_they_are_parsed() {
        for (body, count) in [
            ("7", 1),
            ("[]", 2),
            ("[[],[],[]]", 7),
            (r#"{"a":1,"b":[2,3]}"#, 7),
            (r#"["[,{\"[","\\",1]"#, 4),
            ("", 1),
            (r#""unfinished ["#, 1),
        ] {
            assert_eq!(count_values(body.as_bytes()), count, "{body}");
            if let Ok(value) = serde_json::from_str(body) {
                assert!(parsed(&value) <= count, "{body}");
            }
        }
    }
}
