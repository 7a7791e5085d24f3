//! JSON-RPC over HTTP, one connection per call.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes read of an answer.
const MAX_ANSWER: u64 = 32 << 20;

/// A server on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Rpc {
    addr: SocketAddr,
}

impl Rpc {
    /// The server on a port of the loopback address.
    pub fn on(port: u16) -> Rpc {
        Rpc {
            addr: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }

    /// The server of a URL such as `http://127.0.0.1:8545`.
    ///
    /// # Errors
    /// For any other URL.
    pub fn at(url: &str) -> Result<Rpc> {
        let addr: Option<SocketAddr> = url
            .strip_prefix("http://")
            .and_then(|addr| addr.parse().ok());
        match addr {
            Some(addr) if addr.ip().is_loopback() => Ok(Rpc { addr }),
            _ => bail!("{url} is not the URL of a port of this machine"),
        }
    }

    /// The URL for wallets.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Calls a method.
    ///
    /// # Errors
    /// Without an answer in time, and for an answer that is an error.
    pub fn call(&self, method: &str, params: Value) -> Result<Value> {
        let body =
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let answer = self
            .post(&body)
            .with_context(|| format!("{method} at {}", self.addr))?;
        let mut answer: Value = serde_json::from_slice(&answer)
            .with_context(|| format!("{method}: {}", String::from_utf8_lossy(&answer)))?;
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => bail!("{method}: {answer}"),
        }
    }

    /// The number of the newest block.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub fn block_number(&self) -> Result<u64> {
        number(&self.call("eth_blockNumber", json!([]))?)
    }

    /// The block of a number (or at a tag), without its transactions.
    ///
    /// # Errors
    /// As [`Rpc::call`], and for a block that does not exist.
    pub fn block(&self, tag: &str) -> Result<Value> {
        match self.call("eth_getBlockByNumber", json!([tag, false]))? {
            Value::Null => bail!("{} has no block {tag}", self.addr),
            block => Ok(block),
        }
    }

    /// The balance of an account in wei, in hex.
    ///
    /// # Errors
    /// As [`Rpc::call`].
    pub fn balance(&self, address: &str) -> Result<String> {
        let balance = self.call("eth_getBalance", json!([address, "latest"]))?;
        balance
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("a balance of {balance}"))
    }

    fn post(&self, body: &str) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.addr, CONNECT_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        body_of(&answer)
    }
}

/// The value of a hex quantity.
///
/// # Errors
/// For any other value.
pub fn number(value: &Value) -> Result<u64> {
    let digits = value.as_str().and_then(|text| text.strip_prefix("0x"));
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| anyhow!("{value} is not a quantity"))
}

/// The body of a complete HTTP response.
fn body_of(answer: &[u8]) -> Result<Vec<u8>> {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("the response has no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let body = &answer[end + 4..];
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    if !head.starts_with("http/1.1 200") {
        bail!(
            "{}: {}",
            head.lines().next().unwrap_or_default(),
            String::from_utf8_lossy(body)
        );
    }
    if header("transfer-encoding") == Some("chunked") {
        return unchunk(body);
    }
    let length: usize = header("content-length")
        .context("no content-length")?
        .parse()
        .context("content-length")?;
    match body.get(..length) {
        Some(body) => Ok(body.to_vec()),
        None => bail!(
            "the response is truncated: {} of {length} bytes",
            body.len()
        ),
    }
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .context("a chunk has no size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?.trim(), 16)?;
        let chunk = rest
            .get(end + 2..end + 2 + size)
            .context("a chunk is truncated")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).context("a chunk has no end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_a_length_and_in_chunks_are_read() {
        let table: [(&str, Option<&str>); 6] = [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
                Some("abc"),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", None),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n\
                 0\r\n\r\n",
                Some("abc"),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
                None,
            ),
            (
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
                None,
            ),
            ("HTTP/1.1 200 OK", None),
        ];
        for (answer, expected) in table {
            let body = body_of(answer.as_bytes()).ok();
            assert_eq!(body.as_deref(), expected.map(str::as_bytes), "{answer}");
        }
    }

    #[test]
    fn only_loopback_urls_are_accepted() {
        assert!(Rpc::at("http://127.0.0.1:1").is_ok());
        for url in [
            "http://192.0.2.1:1",
            "127.0.0.1:1",
            "https://127.0.0.1:1",
            "http://localhost",
        ] {
            assert!(Rpc::at(url).is_err(), "{url}");
        }
    }
}
