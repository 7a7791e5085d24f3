//! Requests that are too large, too expensive or malformed.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::connections::post_head;
use crate::loads::{Counts, Targets};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than the server's limits of time for a call.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read of an answer.
const MAX_ANSWER: u64 = 1 << 20;

/// A body far above any limit.
const LARGE_BYTES: usize = 100 << 20;
/// Bytes of one write, and of a chunk.
const WRITE_BYTES: usize = 64 << 10;
/// Between two large bodies of a sender: a refusal by the head alone would otherwise make this a
/// load of connections.
const LARGE_INTERVAL: Duration = Duration::from_millis(100);

/// Init code that hashes 64 KiB again and again: `JUMPDEST PUSH3 65536 PUSH1 0 KECCAK256 POP
/// PUSH1 0 JUMP`.
const KECCAK_LOOP: &str = "0x5b6201000060002050600056";
/// All the gas that the servers grant to a call.
const CALL_GAS: &str = "0x2faf080";
/// After a call without an answer.
const REFUSED_DELAY: Duration = Duration::from_millis(50);

/// Senders of malformed requests.
const SENDERS: usize = 16;
/// Levels of the nested requests.
const DEPTH: usize = 100_000;

/// Opens a connection to a port of this machine, with timeouts.
pub fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

/// Runs `work` in each of `threads` threads, with the number of the thread.
pub fn side_by_side(threads: usize, work: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for index in 0..threads {
            let work = &work;
            scope.spawn(move || work(index));
        }
    });
}

/// Senders of large bodies, half of them in chunks without a length.
pub fn large(targets: &Targets, counts: &Counts, senders: usize) {
    side_by_side(senders, |index| {
        let in_chunks = (index / targets.rpc.len()) % 2 == 1;
        loop {
            counts.record(targets.rpc(index), |stream| send_large(stream, in_chunks));
            thread::sleep(LARGE_INTERVAL);
        }
    });
}

/// Sends a body of [`LARGE_BYTES`], or as much of it as the other side takes.
fn send_large(mut stream: TcpStream, in_chunks: bool) -> Result<()> {
    let mut part = vec![b'['; WRITE_BYTES];
    if in_chunks {
        part = [format!("{WRITE_BYTES:x}\r\n").as_bytes(), &part, b"\r\n"].concat();
        stream.write_all(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
              Transfer-Encoding: chunked\r\n\r\n",
        )?;
    } else {
        stream.write_all(post_head(LARGE_BYTES).as_bytes())?;
    }
    for _ in 0..LARGE_BYTES / WRITE_BYTES {
        stream.write_all(&part)?;
    }
    Ok(())
}

/// Callers at each validator, each with one call at a time of a contract that hashes until its gas
/// or its time is used up.
pub fn keccak(targets: &Targets, counts: &Counts, callers: usize) {
    let body = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "eth_call",
        "params": [{ "data": KECCAK_LOOP, "gas": CALL_GAS }, "latest"],
    });
    let request = post(body.to_string().as_bytes());
    side_by_side(callers * targets.rpc.len(), |index| {
        loop {
            if !counts.record(targets.rpc(index), |stream| ask(stream, &request)) {
                thread::sleep(REFUSED_DELAY);
            }
        }
    });
}

/// Sends `requests` malformed requests, as fast as the validators answer.
pub fn malformed(targets: &Targets, counts: &Counts, requests: usize) {
    let next = AtomicUsize::new(0);
    side_by_side(SENDERS, |_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= requests {
                break;
            }
            let request = malformed_request(index);
            counts.record(targets.rpc(index), |stream| ask(stream, &request));
        }
    });
}

/// Sends a request and reads until the other side closes.
fn ask(mut stream: TcpStream, request: &[u8]) -> Result<()> {
    // The other side may refuse in the middle, with an answer.
    let sent = stream.write_all(request);
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER).read_to_end(&mut answer);
    if answer.is_empty() {
        sent?;
        read?;
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// A POST request that asks the server to close the connection after its answer.
fn post(body: &[u8]) -> Vec<u8> {
    with_headers(
        "Host: localhost\r\nContent-Type: application/json\r\n",
        body,
    )
}

fn with_headers(headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST / HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The malformed request of a number: each kind in turn, at each validator.
fn malformed_request(index: usize) -> Vec<u8> {
    const METHODS: [&str; 8] = [
        "eth_call",
        "eth_estimateGas",
        "eth_getLogs",
        "eth_getBlockByNumber",
        "eth_getProof",
        "eth_sendRawTransaction",
        "eth_feeHistory",
        "engine_forkchoiceUpdatedV3",
    ];
    // Four validators take turns first, then the kinds, then the methods.
    let (kind, draw) = (index / 4 % 16, mixed(index as u64));
    let method = METHODS[(draw % 8) as usize];
    let call = |params: serde_json::Value| {
        let call = json!({ "jsonrpc": "2.0", "id": index, "method": method, "params": params });
        call.to_string().into_bytes()
    };
    match kind {
        0 => post(&call(json!([draw, null, [[true]], { "to": -1 }]))),
        1 => post(&call(
            json!([{ "from": 1.5, "data": "0xabc", "gas": "latest" }, []]),
        )),
        2 => post(&call(
            json!([{ "fromBlock": "0x", "topics": [[[]]], "address": {} }]),
        )),
        3 => post(&call(json!({ "blockHash": format!("0x{draw:x}") }))),
        4 => post(&call(json!([format!("0x02{}", "f8".repeat(500))]))),
        // Broken JSON: cut, then one byte changed, then no JSON at all.
        5 => {
            let call = call(json!(["0x", "latest"]));
            post(&call[..(draw as usize) % call.len()])
        }
        6 => {
            let mut call = call(json!(["0x", "latest"]));
            let at = (draw as usize) % call.len();
            call[at] ^= 1 << (draw >> 32 & 7);
            post(&call)
        }
        7 => {
            let noise = (0..300_u64).map(|at| mixed(draw ^ at) as u8);
            post(&noise.collect::<Vec<u8>>())
        }
        8 => post(&b"[".repeat(DEPTH)),
        9 => post(format!("{}1{}", "{\"a\":".repeat(DEPTH), "}".repeat(DEPTH)).as_bytes()),
        10 => post(format!("[{}1]", "[],".repeat(1_000)).as_bytes()),
        11 => post(b"[{\"jsonrpc\":2,\"id\":{},\"method\":[],\"params\":\"\"},null,7]"),
        12 => {
            let host = "Host: wallet.example\r\nOrigin: http://wallet.example\r\n";
            with_headers(host, &call(json!([])))
        }
        13 => with_headers("Content-Type: text/plain\r\n", &call(json!([]))),
        14 => format!("{draw:x} / HTTP/9.{kind}\r\n: \r\n\r\n").into_bytes(),
        _ => b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n{}".to_vec(),
    }
}

/// Spreads the bits of a number (the finalizer of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn malformed_requests_are_of_all_kinds_and_the_same_in_every_run() {
        let some: Vec<_> = (0..256).map(malformed_request).collect();
        let again: Vec<_> = (0..256).map(malformed_request).collect();
        assert_eq!(some, again);
        let of_one_validator: BTreeSet<_> = some.iter().step_by(4).collect();
        assert!(of_one_validator.len() > 32, "{}", of_one_validator.len());
        assert!(some.iter().any(|request| request.len() > DEPTH));
    }
}
