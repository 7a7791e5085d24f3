//! Client and server against each other, and the server against arbitrary input, in both worlds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
use alys_runtime::net::Stream;
use alys_runtime::time::{sleep, timeout};
use alys_runtime::{block_on_main, clock};
use serde_json::{Value, json};

use super::*;

const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Echo {
    calls: AtomicUsize,
}

impl RpcHandler for Echo {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match method {
            "echo" => Ok(params),
            "null" => Ok(Value::Null),
            "big" => Ok("x"
                .repeat(Args::new(params, 1)?.required::<usize>()?)
                .into()),
            "revert" => Err(RpcError::new(3, "execution reverted").with_data("0xaa".into())),
            "slow" => {
                sleep(Duration::from_millis(Args::new(params, 1)?.required()?)).await;
                Ok("done".into())
            }
            _ => Err(RpcError::method_not_found(method)),
        }
    }
}

async fn server(config: ServerConfig) -> HttpServer {
    HttpServer::bind(LOCAL, config, Arc::new(Echo::default()))
        .await
        .unwrap()
}

fn client(server: &HttpServer) -> HttpClient {
    HttpClient::new(ClientConfig::new(server.local_addr()))
}

/// Sends raw bytes, and reads until the server closes the connection or sends nothing for a second.
async fn raw(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = Stream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(count @ 1..)) = timeout(SECOND, stream.read(&mut chunk)).await {
        answer.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(answer).unwrap()
}

/// Posts a body and returns status and body of the answer.
async fn post(addr: SocketAddr, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let answer = raw(addr, request.as_bytes()).await;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP: {answer:?}"));
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[test]
fn calls_are_answered_and_errors_keep_code_and_data() {
    block_on_main(async {
        let server = server(ServerConfig::new("test")).await;
        let client = client(&server);
        let echoed: (u64, String) = client.call("echo", (7, "seven")).await.unwrap();
        assert_eq!(echoed, (7, "seven".to_owned()));
        assert_eq!(client.call::<Option<u64>>("null", ()).await.unwrap(), None);

        let error = client.call::<Value>("revert", ()).await.unwrap_err();
        let CallError::Rpc { error, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(
            error,
            RpcError::new(3, "execution reverted").with_data("0xaa".into())
        );

        let error = client.call::<Value>("nothing", ()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "nothing: the method nothing does not exist/is not available (code -32601)"
        );

        let error = client.call::<u64>("echo", ("text",)).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid { .. }), "{error}");
    });
}

#[test]
fn malformed_requests_get_the_errors_of_the_specification() {
    let error = |id: Value, code: i64, message: &str| {
        json!({
            "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message }
        })
    };
    let deep = "[".repeat(50_000);
    let cases = [
        ("", error(Value::Null, -32700, "parse error")),
        ("{\"jsonrpc\":", error(Value::Null, -32700, "parse error")),
        (deep.as_str(), error(Value::Null, -32700, "parse error")),
        ("[]", error(Value::Null, -32600, "empty batch")),
        ("7", error(Value::Null, -32600, "invalid request")),
        (
            r#"{"id":1,"method":"echo"}"#,
            error(json!(1), -32600, "invalid request"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":"a"}"#,
            error(json!("a"), -32600, "invalid request"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":{},"method":"echo"}"#,
            error(Value::Null, -32600, "invalid request"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            error(json!(1), -32600, "invalid request"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":7}"#,
            error(json!(1), -32602, "params must be an array or an object"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"big"}"#,
            error(json!(1), -32602, "missing value for required argument 0"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"big","params":[1,2]}"#,
            error(json!(1), -32602, "too many arguments, want at most 1"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"echo"}"#,
            json!({"jsonrpc":"2.0","id":1,"result":[]}),
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"echo","params":[1]},7,
                {"jsonrpc":"2.0","method":"echo"},
                {"jsonrpc":"2.0","id":"x","method":"echo","params":{"a":2}}]"#,
            json!([
                {"jsonrpc":"2.0","id":1,"result":[1]},
                {"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"invalid request"}},
                {"jsonrpc":"2.0","id":"x","result":{"a":2}},
            ]),
        ),
    ];
    let cases: Vec<(String, Value)> = cases
        .into_iter()
        .map(|(body, answer)| (body.to_owned(), answer))
        .collect();
    block_on_main(async move {
        let server = server(ServerConfig::new("test")).await;
        for (body, expected) in cases {
            let (status, answer) = post(server.local_addr(), &body).await;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!((status, answer), (200, expected), "{:.80}", body);
        }
        let notification = r#"{"jsonrpc":"2.0","method":"echo"}"#;
        assert_eq!(
            post(server.local_addr(), notification).await,
            (204, String::new())
        );
        let batch = |count: usize| {
            let request = r#"{"jsonrpc":"2.0","id":1,"method":"null"}"#;
            format!("[{}]", vec![request; count].join(","))
        };
        let (status, answers) = post(server.local_addr(), &batch(super::server::MAX_BATCH)).await;
        let answers: Value = serde_json::from_str(&answers).unwrap();
        assert_eq!(
            (status, answers.as_array().map(Vec::len)),
            (200, Some(1_000))
        );
        let (_, answer) = post(server.local_addr(), &batch(super::server::MAX_BATCH + 1)).await;
        assert!(answer.contains("batch too large"), "{answer}");
    });
}

#[test]
fn requests_of_version_one_are_answered_where_they_are_accepted() {
    let error = |id: Value, code: i64, message: &str| json!({ "result": null, "error": { "code": code, "message": message }, "id": id });
    let cases = [
        (
            r#"{"id":1,"method":"echo","params":[7]}"#,
            json!({ "result": [7], "error": null, "id": 1 }),
        ),
        (
            r#"{"jsonrpc":"1.0","id":"curl","method":"echo","params":{"a":1}}"#,
            json!({ "result": { "a": 1 }, "error": null, "id": "curl" }),
        ),
        // No notification: `bitcoind` answers it.
        (
            r#"{"id":null,"method":"null"}"#,
            json!({ "result": null, "error": null, "id": null }),
        ),
        (
            r#"{"method":"echo","params":"one"}"#,
            json!({ "result": ["one"], "error": null, "id": null }),
        ),
        (r#"{"id":1}"#, error(json!(1), -32600, "invalid request")),
        (
            r#"{"id":1,"method":"big"}"#,
            error(json!(1), -32602, "missing value for required argument 0"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"echo","params":7}"#,
            json!({ "jsonrpc": "2.0", "id": 1, "result": [7] }),
        ),
        (
            "7",
            json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32600, "message": "invalid request" } }),
        ),
    ];
    block_on_main(async {
        let config = ServerConfig {
            versions: Versions::OneAndTwo,
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        for (body, expected) in cases {
            let (status, answer) = post(server.local_addr(), body).await;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!((status, answer), (200, expected), "{body}");
        }
        let notified = post(server.local_addr(), r#"{"jsonrpc":"2.0","method":"echo"}"#).await;
        assert_eq!(notified.0, 204);
    });
}

#[test]
fn a_client_with_the_login_is_admitted() {
    block_on_main(async {
        let login = Login::new("pool", "secret").unwrap();
        let config = ServerConfig {
            login: Some(login.clone()),
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        for (login, expected) in [
            (None, "a user and a password"),
            (Login::new("pool", "other").ok(), "is wrong"),
            (Some(login), ""),
        ] {
            let client = HttpClient::new(ClientConfig {
                login,
                ..ClientConfig::new(server.local_addr())
            });
            match client.call::<Value>("null", ()).await {
                Ok(_) => assert_eq!(expected, ""),
                Err(error) => assert!(error.to_string().contains(expected), "{error}"),
            }
        }
    });
}

#[test]
fn input_that_is_not_http_is_refused_and_the_server_continues() {
    block_on_main(async {
        let server = server(ServerConfig::new("test")).await;
        let addr = server.local_addr();
        assert!(
            raw(addr, b"\x16\x03\x01\x02\x00garbage\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400")
        );
        let header = format!("POST / HTTP/1.1\r\nx: {}\r\n", "y".repeat(1 << 20));
        let mut stream = Stream::connect(addr).await.unwrap();
        // The server may close before everything is written.
        let _refused_or_not = stream.write_all(header.as_bytes()).await;
        drop(stream);
        assert!(
            raw(addr, b"PUT / HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 405")
        );
        assert!(
            raw(addr, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 200")
        );
        assert!(
            raw(
                addr,
                b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n"
            )
            .await
            .starts_with("HTTP/1.1 400")
        );
        assert_eq!(
            client(&server)
                .call::<Vec<u8>>("echo", (1, 2))
                .await
                .unwrap(),
            [1, 2]
        );
    });
}

#[test]
fn bodies_over_the_limit_are_refused_by_server_and_client() {
    block_on_main(async {
        let config = ServerConfig {
            max_body_bytes: 1000,
            max_response_bytes: 4000,
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        let error = client(&server)
            .call::<Value>("echo", ("x".repeat(2000),))
            .await
            .unwrap_err();
        let CallError::Status {
            status: 413, body, ..
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(body, "the request body is larger than 1000 bytes");
        // Far beyond the limit the server closes while the client still sends. Either the status
        // arrives or the connection breaks.
        let error = client(&server)
            .call::<Value>("echo", ("x".repeat(2_000_000),))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                CallError::Status { status: 413, .. } | CallError::Broken { .. }
            ),
            "{error}"
        );

        let error = client(&server)
            .call::<Value>("big", (5000,))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "big: response too large (code -32003)");
        let config = ClientConfig {
            max_response_bytes: 1000,
            ..ClientConfig::new(server.local_addr())
        };
        let error = HttpClient::new(config)
            .call::<Value>("big", (2000,))
            .await
            .unwrap_err();
        assert!(
            matches!(error, CallError::TooLarge { limit: 1000, .. }),
            "{error}"
        );
    });
}

#[test]
fn a_block_of_eight_mib_fits() {
    block_on_main(async {
        let server = server(ServerConfig::new("test")).await;
        let block = format!("0x{}", "ab".repeat(8 << 20));
        let client = client(&server);
        // Beside the point; 8 s are too short for an unoptimised build on a busy machine.
        let deadline = Duration::from_secs(120);
        let echoed = client.call_within(deadline, "echo", (&block,)).await;
        let [echoed]: [String; 1] = echoed.unwrap();
        assert!(echoed == block);
    });
}

#[test]
fn requests_without_a_valid_token_get_401_and_never_reach_the_handler() {
    block_on_main(async {
        let secret = JwtSecret::new([1; 32]);
        let handler = Arc::new(Echo::default());
        let config = ServerConfig {
            auth: Some(secret.clone()),
            ..ServerConfig::new("test")
        };
        let server = HttpServer::bind(LOCAL, config, handler.clone())
            .await
            .unwrap();
        let with = |auth| {
            HttpClient::new(ClientConfig {
                auth,
                ..ClientConfig::new(server.local_addr())
            })
        };

        let error = with(None)
            .call::<Value>("echo", ())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with(
                "refused the authentication: Unauthorized: missing token: the request has no \
                 Authorization header"
            ),
            "{error}"
        );
        let error = with(Some(JwtSecret::new([2; 32])))
            .call::<Value>("echo", ())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("signature mismatch: the secrets differ"),
            "{error}"
        );
        let stale = secret.token(clock::wall_ms() / 1000 - 100);
        let head = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stale}\r\nconnection: close\r\n"
        );
        let answer = raw(
            server.local_addr(),
            format!("{head}content-length: 2\r\n\r\n{{}}").as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        assert!(
            answer.contains("Unauthorized: stale token: iat differs from this clock by -10"),
            "{answer}"
        );
        assert_eq!(handler.calls.load(Ordering::SeqCst), 0);

        with(Some(secret)).call::<Value>("echo", ()).await.unwrap();
        assert_eq!(handler.calls.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn browsers_may_call_only_from_allowed_pages() {
    block_on_main(async {
        let open = server(ServerConfig {
            pages: Pages::Allowed(Access {
                hosts: vec!["x".to_owned()],
                origins: vec!["http://wallet.example".to_owned()],
            }),
            ..ServerConfig::new("test")
        })
        .await;
        let unchecked = server(ServerConfig::new("test")).await;
        let refusing = server(ServerConfig {
            pages: Pages::Refused { hosts: Vec::new() },
            ..ServerConfig::new("test")
        })
        .await;
        let preflight = b"OPTIONS / HTTP/1.1\r\nhost: x\r\norigin: http://wallet.example\r\n\
            connection: close\r\n\
            access-control-request-method: POST\r\n\
            access-control-request-headers: content-type\r\n\r\n";
        let answer = raw(open.local_addr(), preflight).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        for header in [
            "access-control-allow-origin: http://wallet.example",
            "vary: origin",
            "access-control-allow-methods: POST, GET, OPTIONS",
            "access-control-allow-headers: content-type",
        ] {
            assert!(answer.contains(header), "{header} not in {answer}");
        }
        assert!(
            raw(unchecked.local_addr(), preflight)
                .await
                .starts_with("HTTP/1.1 405")
        );
        let answer = raw(refusing.local_addr(), preflight).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");

        let request = |host: &str, origin: &str| {
            format!(
                "POST / HTTP/1.1\r\nhost: {host}\r\n{origin}connection: close\r\n\
                 content-length: 1\r\n\r\n7"
            )
        };
        for (host, origin, status) in [
            ("x", "", 200),
            ("x", "origin: http://localhost:3000\r\n", 200),
            ("x", "origin: http://evil.example\r\n", 403),
            ("x", "origin: null\r\n", 403),
            ("evil.example", "", 403),
            ("evil.example:80", "origin: http://wallet.example\r\n", 403),
        ] {
            let answer = raw(open.local_addr(), request(host, origin).as_bytes()).await;
            let expected = format!("HTTP/1.1 {status}");
            assert!(answer.starts_with(&expected), "{host} {origin} {answer}");
        }
        for (host, origin, status) in [
            ("127.0.0.1:80", "", 200),
            ("localhost", "", 200),
            ("x", "", 403),
            ("localhost", "origin: http://localhost:3000\r\n", 403),
        ] {
            let answer = raw(refusing.local_addr(), request(host, origin).as_bytes()).await;
            let expected = format!("HTTP/1.1 {status}");
            assert!(answer.starts_with(&expected), "{host} {origin} {answer}");
            assert!(!answer.contains("access-control"), "{answer}");
        }
        let answer = raw(unchecked.local_addr(), request("x", "").as_bytes()).await;
        assert!(!answer.contains("access-control"), "{answer}");
    });
}

#[test]
fn a_batch_executes_no_request_after_its_time() {
    block_on_main(async {
        let config = ServerConfig {
            batch_timeout: Duration::from_millis(300),
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        let batch = json!([
            { "jsonrpc": "2.0", "id": 1, "method": "slow", "params": [600] },
            { "jsonrpc": "2.0", "id": 2, "method": "null" },
            { "jsonrpc": "2.0", "method": "null" },
        ]);
        let (status, answers) = post(server.local_addr(), &batch.to_string()).await;
        let answers: Value = serde_json::from_str(&answers).unwrap();
        let late = json!({ "code": -32002, "message": "the batch took too long" });
        assert_eq!(
            (status, answers),
            (
                200,
                json!([
                    { "jsonrpc": "2.0", "id": 1, "result": "done" },
                    { "jsonrpc": "2.0", "id": 2, "error": late },
                ])
            )
        );
    });
}

#[test]
fn bodies_of_too_many_values_are_refused_before_they_are_parsed() {
    block_on_main(async {
        let config = ServerConfig {
            max_values: 1_000,
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        let many = format!("[{}[]]", "[],".repeat(1_000));
        let (status, answer) = post(server.local_addr(), &many).await;
        assert_eq!(
            (status, answer.as_str()),
            (413, "the request has more than 1000 JSON values\n")
        );
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"echo","params":["{many}"]}}"#);
        assert_eq!(post(server.local_addr(), &text).await.0, 200);
    });
}

/// The head of a request with a body of this length.
fn head(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n")
}

#[test]
fn held_bodies_fill_a_budget_and_small_calls_are_served_meanwhile() {
    block_on_main(async {
        const BODY: usize = 400_000;
        let config = ServerConfig {
            max_pending_bytes: 500_000,
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        let addr = server.local_addr();
        let mut held = Stream::connect(addr).await.unwrap();
        held.write_all(head(BODY).as_bytes()).await.unwrap();
        held.write_all(" ".repeat(BODY - 1).as_bytes())
            .await
            .unwrap();
        held.flush().await.unwrap();
        // The second body does not fit beside the first once that has arrived.
        let mut refused = String::new();
        for _ in 0..50 {
            refused = raw(addr, [head(BODY), " ".repeat(BODY)].concat().as_bytes()).await;
            if refused.starts_with("HTTP/1.1 503") {
                break;
            }
        }
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused:.200}");
        assert_eq!(
            client(&server)
                .call::<[u64; 1]>("echo", (1,))
                .await
                .unwrap(),
            [1]
        );
        drop(held);
        let mut answer = String::new();
        for _ in 0..50 {
            answer = raw(addr, [head(BODY), " ".repeat(BODY)].concat().as_bytes()).await;
            if answer.starts_with("HTTP/1.1 200") {
                break;
            }
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.200}");
    });
}

#[test]
fn slow_senders_give_way_when_all_places_are_taken() {
    block_on_main(async {
        let config = ServerConfig {
            max_connections: 4,
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        let mut slow = Vec::new();
        for _ in 0..8 {
            let mut stream = Stream::connect(server.local_addr()).await.unwrap();
            stream.write_all(head(10).as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            slow.push(stream);
        }
        // Long before the timeout of their bodies.
        let called = timeout(5 * SECOND, client(&server).call::<[u64; 1]>("echo", (1,))).await;
        assert_eq!(called.expect("in time").unwrap(), [1]);
        drop(slow);
    });
}

#[test]
fn a_connection_is_reused_and_replaced_when_the_server_closed_it() {
    block_on_main(async {
        let config = ServerConfig {
            header_timeout: Duration::from_millis(200),
            ..ServerConfig::new("test")
        };
        let first = server(config.clone()).await;
        let addr = first.local_addr();
        let client = client(&first);
        for n in 0..5 {
            assert_eq!(client.call::<[u64; 1]>("echo", (n,)).await.unwrap(), [n]);
        }
        assert_eq!(client.idle_connections(), 1);
        // The server closes the idle connection.
        sleep(SECOND).await;
        assert_eq!(client.call::<[u64; 1]>("echo", (6,)).await.unwrap(), [6]);

        // A restart closes the connection.
        first.stop().await;
        let refused = client.call::<Value>("echo", ()).await.unwrap_err();
        assert!(matches!(refused, CallError::Connect { .. }), "{refused}");
        let _second = HttpServer::bind(addr, config, Arc::new(Echo::default()))
            .await
            .unwrap();
        assert_eq!(client.call::<[u64; 1]>("echo", (7,)).await.unwrap(), [7]);
    });
}

#[test]
fn an_idle_connection_that_breaks_at_the_request_is_replaced() {
    block_on_main(async {
        // Answers the first request of each connection and closes at the second.
        let listener = alys_runtime::net::Listener::bind(LOCAL).await.unwrap();
        let client = HttpClient::new(ClientConfig::new(listener.local_addr()));
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        alys_runtime::spawn("test-server", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let id = count.fetch_add(1, Ordering::SeqCst) + 1;
                let mut buffer = [0; 4096];
                let _request = stream.read(&mut buffer).await.unwrap();
                let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{id}}}");
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                let _next = stream.read(&mut buffer).await.unwrap();
            }
        });
        for n in 1..=3 {
            assert_eq!(client.call::<usize>("echo", ()).await.unwrap(), n);
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn calls_end_at_their_deadline_and_slow_senders_are_disconnected() {
    block_on_main(async {
        let config = ServerConfig {
            header_timeout: Duration::from_millis(300),
            body_timeout: Duration::from_millis(300),
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        let client = client(&server);
        let error = client
            .call_within::<Value>(SECOND / 5, "slow", (5000,))
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");
        assert_eq!(client.idle_connections(), 0);
        assert_eq!(client.call::<String>("slow", (1,)).await.unwrap(), "done");

        let head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n";
        let mut slow = Stream::connect(server.local_addr()).await.unwrap();
        slow.write_all(head).await.unwrap();
        slow.flush().await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(5 * SECOND, slow.read_to_end(&mut answer)).await;
        assert!(
            closed.is_ok(),
            "a head that never ends keeps the connection"
        );
        let answer = raw(server.local_addr(), &[&head[..], b"\r\nabc"].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    });
}

#[test]
fn end_within_abandons_outstanding_and_later_calls() {
    block_on_main(async {
        let server = server(ServerConfig::new("test")).await;
        let client = client(&server);
        let running = {
            let client = client.clone();
            alys_runtime::spawn("test", async move {
                client.call::<String>("slow", (5_000,)).await
            })
        };
        sleep(Duration::from_millis(100)).await;
        client.end_within(Duration::from_millis(200));
        client.end_within(60 * SECOND);
        assert_eq!(
            client.call::<String>("slow", (1,)).await.unwrap(),
            "done",
            "there is time left"
        );
        let error = timeout(SECOND, running)
            .await
            .expect("not before its own deadline")
            .unwrap()
            .unwrap_err();
        assert!(matches!(error, CallError::Ended { .. }), "{error}");
        let error = client.call::<String>("slow", (5_000,)).await.unwrap_err();
        assert!(matches!(error, CallError::Ended { .. }), "{error}");
    });
}

#[test]
fn a_client_that_reads_nothing_is_disconnected() {
    block_on_main(async {
        let config = ServerConfig {
            max_connections: 1,
            write_timeout: Duration::from_millis(300),
            ..ServerConfig::new("test")
        };
        let server = server(config).await;
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"big","params":[30000000]}"#;
        let request = format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut greedy = Stream::connect(server.local_addr()).await.unwrap();
        greedy.write_all(request.as_bytes()).await.unwrap();
        greedy.flush().await.unwrap();
        // It occupies the only connection slot until it is disconnected.
        let waiting = ClientConfig {
            deadline: 20 * SECOND,
            ..ClientConfig::new(server.local_addr())
        };
        assert_eq!(
            HttpClient::new(waiting)
                .call::<[u64; 1]>("echo", (1,))
                .await
                .unwrap(),
            [1]
        );
        drop(greedy);
    });
}

#[test]
fn a_stop_finishes_requests_in_progress_and_a_drop_does_not() {
    block_on_main(async {
        let graceful = server(ServerConfig::new("test")).await;
        let client_of = client(&graceful);
        let addr = graceful.local_addr();
        let running = alys_runtime::spawn("test", async move {
            client_of.call::<String>("slow", (500,)).await
        });
        sleep(Duration::from_millis(100)).await;
        graceful.stop().await;
        assert_eq!(running.await.unwrap().unwrap(), "done");
        assert!(Stream::connect(addr).await.is_err());

        let dropped = server(ServerConfig::new("test")).await;
        let client_of = client(&dropped);
        let running = alys_runtime::spawn("test", async move {
            client_of.call::<String>("slow", (500,)).await
        });
        sleep(Duration::from_millis(100)).await;
        drop(dropped);
        let error = running.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Broken { .. }), "{error}");
    });
}

#[test]
fn a_used_port_is_an_error_that_names_it() {
    block_on_main(async {
        let first = server(ServerConfig::new("first")).await;
        let second = HttpServer::bind(
            first.local_addr(),
            ServerConfig::new("second"),
            Arc::new(Echo::default()),
        )
        .await;
        let error = second.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!(
                "cannot listen on {} for second: ",
                first.local_addr()
            )),
            "{error}"
        );
    });
}

#[test]
fn endpoints_parse_or_fail_with_the_reason() {
    let good = [
        ("http://127.0.0.1:8551", "http://127.0.0.1:8551/"),
        ("http://localhost:8551/", "http://127.0.0.1:8551/"),
        ("http://10.0.0.1", "http://10.0.0.1:80/"),
        (
            "http://[::1]:8551/engine?x=1",
            "http://[::1]:8551/engine?x=1",
        ),
    ];
    for (text, shown) in good {
        assert_eq!(
            text.parse::<Endpoint>()
                .map(|endpoint| endpoint.to_string())
                .as_deref(),
            Ok(shown),
            "{text}"
        );
    }
    for (text, error) in [
        (
            "https://127.0.0.1:8551",
            "https://127.0.0.1:8551: only http:// is supported; use a TLS proxy if the link needs \
             encryption",
        ),
        (
            "http://geth:8551",
            "http://geth:8551: the host must be an IP address or localhost",
        ),
        ("127.0.0.1:8551", "not a URL: 127.0.0.1:8551"),
        ("", "not a URL: "),
    ] {
        assert_eq!(
            text.parse::<Endpoint>().unwrap_err().to_string(),
            error,
            "{text}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics_and_random_tokens_are_refused(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        text in r#"[\[\]{}:,"0-9a-z.]{0,80}"#,
    ) {
        let secret = JwtSecret::new([1; 32]);
        for bytes in [&bytes[..], text.as_bytes()] {
            for versions in [Versions::Two, Versions::OneAndTwo] {
                jsonrpc::parse(bytes, 10, versions);
            }
            assert!(secret.verify_header(Some(bytes), 0).is_err());
            assert!(secret.verify_header(Some(&[b"Bearer ", bytes].concat()), 0).is_err());
        }
        assert!(JwtSecret::parse(&text).is_err() || text.len() >= 64);
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            assert!(text.starts_with("http://"), "{endpoint}");
        }
    }
}
