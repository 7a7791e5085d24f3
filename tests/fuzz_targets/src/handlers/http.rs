//! The HTTP server with bytes of a stranger: heads, bodies, JSON and batches, cut into pieces. The
//! server answers others before and after, and every answer is HTTP.

use std::sync::Arc;
use std::time::Duration;

use alys_integrations::http::{
    Access, ClientConfig, HttpClient, HttpServer, Pages, RpcError, RpcHandler, ServerConfig,
};
use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
use alys_runtime::net::Stream;
use alys_runtime::time::{sleep, timeout};
use serde_json::{Value, json};

use super::LOCAL;
use crate::choices::Choices;
use crate::in_world;

/// Connections of one input.
const MAX_CONNECTIONS: usize = 4;
/// Pieces of the bytes on one connection.
const MAX_PIECES: usize = 8;
/// Bytes of a drawn piece.
const MAX_PIECE: usize = 512;
/// Silence after which the stranger leaves.
const PATIENCE: Duration = Duration::from_secs(1);

pub fn run(data: &[u8]) {
    let data = data.to_vec();
    in_world(async move {
        let mut choices = Choices::new(&data);
        let pages = if choices.flag() {
            Pages::Allowed(Access::default())
        } else {
            Pages::Unchecked
        };
        // Tight limits, which a short input reaches.
        let config = ServerConfig {
            pages,
            max_body_bytes: 1024,
            max_response_bytes: 1024,
            max_batch: 4,
            ..ServerConfig::new("fuzzed")
        };
        let server = HttpServer::bind(LOCAL, config, Arc::new(Echo));
        let server = server.await.expect("a port is free");
        let client = HttpClient::new(ClientConfig::new(server.local_addr()));
        for _ in 0..MAX_CONNECTIONS {
            if choices.is_over() {
                break;
            }
            let stream = Stream::connect(server.local_addr()).await;
            let stream = stream.expect("the server accepts connections");
            visit(stream, &mut choices).await;
            let answer = client.call::<Value>("echo", json!([7])).await;
            assert_eq!(answer.expect("an answer for others"), json!([7]));
        }
        server.stop().await;
    });
}

/// Answers a call with its parameters.
struct Echo;

impl RpcHandler for Echo {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "echo" => Ok(params),
            _ => Err(RpcError::method_not_found(method)),
        }
    }
}

/// Sends pieces, and reads the answers.
async fn visit(mut stream: Stream, choices: &mut Choices<'_>) {
    let mut sent = Vec::new();
    for _ in 0..1 + choices.below(MAX_PIECES) {
        let piece = piece(choices);
        if stream.write_all(&piece).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        sent.extend(piece);
        if choices.byte() >= 0xe0 {
            sleep(Duration::from_millis(u64::from(choices.byte()))).await;
        }
    }
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(count @ 1..)) = timeout(PATIENCE, stream.read(&mut chunk)).await {
        answer.extend_from_slice(&chunk[..count]);
    }
    let is_http = answer.is_empty() || answer.starts_with(b"HTTP/1.");
    let text = String::from_utf8_lossy(&answer);
    assert!(
        is_http,
        "{text:?} after {:?}",
        String::from_utf8_lossy(&sent)
    );
}

/// A part of a request, or any bytes.
fn piece(choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.byte() % 6 {
        0 => {
            // A whole request, its length sometimes wrong.
            let body = body(choices);
            let length = choices.near(body.len() as u64);
            let mut request = format!(
                "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n"
            )
            .into_bytes();
            request.extend(body);
            request
        }
        1 => {
            let heads: [&[u8]; 8] = [
                b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
                b"OPTIONS / HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://y\r\n\r\n",
                b"POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n",
                b"POST / HTTP/1.0\r\n\r\n",
                b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
            ];
            choices
                .pick(&heads)
                .map_or(Vec::new(), |head| head.to_vec())
        }
        2 => {
            let mut request = piece_of_chunks(choices);
            choices.damage(&mut request);
            request
        }
        3 => piece_of_chunks(choices),
        4 => body(choices),
        _ => choices.bytes(MAX_PIECE),
    }
}

fn piece_of_chunks(choices: &mut Choices<'_>) -> Vec<u8> {
    let body = body(choices);
    let mut chunks = format!("{:x}\r\n", body.len()).into_bytes();
    chunks.extend(body);
    chunks.extend(b"\r\n0\r\n\r\n");
    chunks
}

/// A JSON-RPC body: one request, a batch, or other JSON.
fn body(choices: &mut Choices<'_>) -> Vec<u8> {
    let value = match choices.byte() % 4 {
        0 => request(choices),
        1 => (0..choices.below(7)).map(|_| request(choices)).collect(),
        2 => choices.json(),
        _ => return choices.bytes(MAX_PIECE),
    };
    value.to_string().into_bytes()
}

fn request(choices: &mut Choices<'_>) -> Value {
    let id = choices.json();
    let params = choices.json();
    let method = if choices.flag() { "echo" } else { "other" };
    let mut request = json!({
        "jsonrpc": "2.0", "id": id, "method": method, "params": params,
    });
    if choices.byte() >= 0xc0
        && let Some(object) = request.as_object_mut()
    {
        let fields = ["jsonrpc", "id", "method", "params"];
        let field = choices.pick(&fields).copied().unwrap_or_default();
        if choices.flag() {
            object.remove(field);
        } else {
            object.insert(field.to_owned(), choices.json());
        }
    }
    request
}
