//! Connections that keep a request incomplete.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::loads::{Counts, Targets};
use crate::requests::connect;

/// Between two bytes of a slow request.
const SLOW_INTERVAL: Duration = Duration::from_secs(3);
/// Between two checks of the connections that hold a body.
const HELD_INTERVAL: Duration = Duration::from_millis(100);
/// From the end of a connection to the next one in its place. Without it, this process would spend
/// its time on bodies that the validators refuse.
const REOPEN_DELAY: Duration = Duration::from_secs(5);
/// A body just below the limit of the public port.
const BODY_BYTES: usize = 4_900_000;
/// More bytes than one connection sends at one in [`SLOW_INTERVAL`].
const SLOW_BYTES: usize = 10_000;

/// Connections that send one byte at a time: half of them of the head, the others of the body.
pub fn slow(targets: &Targets, counts: &Counts, connections: usize) {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nX: {}",
        "x".repeat(SLOW_BYTES)
    );
    let body = " ".repeat(SLOW_BYTES);
    let first = format!("{}{body}", post_head(SLOW_BYTES + 1));
    let prefix = first.len() - body.len();
    let requests = [(head.as_bytes(), 1), (first.as_bytes(), prefix)];
    keep_open(
        targets,
        counts,
        connections,
        SLOW_INTERVAL,
        |index, sent| {
            let (bytes, at_once) = requests[(index / targets.rpc.len()) % requests.len()];
            let end = if sent == 0 { at_once } else { sent + 1 };
            &bytes[sent..end.min(bytes.len())]
        },
    );
}

/// Connections that send all of a body but its last byte, and then nothing.
pub fn held(targets: &Targets, counts: &Counts, connections: usize) {
    let mut request = post_head(BODY_BYTES).into_bytes();
    request.resize(request.len() + BODY_BYTES - 1, b'[');
    keep_open(targets, counts, connections, HELD_INTERVAL, |_, sent| {
        &request[sent..]
    });
}

pub fn post_head(length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// The place of a connection.
enum Place {
    Open { stream: TcpStream, sent: usize },
    Closed { since: Instant },
}

/// Keeps `connections` connections open. At each interval a connection sends the bytes that `next`
/// returns for its number and the count of bytes sent, as far as the system takes them.
fn keep_open<'a>(
    targets: &Targets,
    counts: &Counts,
    connections: usize,
    interval: Duration,
    next: impl Fn(usize, usize) -> &'a [u8],
) {
    let mut places: Vec<Option<Place>> = (0..connections).map(|_| None).collect();
    loop {
        let started = Instant::now();
        for (index, place) in places.iter_mut().enumerate() {
            let advanced = match place.take() {
                None => open(targets.rpc(index), counts),
                Some(Place::Closed { since }) if since.elapsed() >= REOPEN_DELAY => {
                    open(targets.rpc(index), counts)
                }
                Some(Place::Open { mut stream, sent }) => {
                    match exchange(&mut stream, next(index, sent)) {
                        Some(more) => Place::Open {
                            stream,
                            sent: sent + more,
                        },
                        None => {
                            counts.refused();
                            closed()
                        }
                    }
                }
                Some(closed) => closed,
            };
            *place = Some(advanced);
        }
        thread::sleep(interval.saturating_sub(started.elapsed()));
    }
}

fn open(port: u16, counts: &Counts) -> Place {
    let stream = connect(port).and_then(|stream| {
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    match stream {
        Ok(stream) => {
            counts.made();
            Place::Open { stream, sent: 0 }
        }
        Err(_) => {
            counts.refused();
            closed()
        }
    }
}

fn closed() -> Place {
    Place::Closed {
        since: Instant::now(),
    }
}

/// Sends bytes. Returns the number sent, or nothing when the other side answered or closed.
fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    let is_blocked = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted);
    match stream.read(&mut [0; 256]) {
        Err(error) if is_blocked(error.kind()) => {}
        _ => return None,
    }
    if bytes.is_empty() {
        return Some(0);
    }
    match stream.write(bytes) {
        Ok(sent) => Some(sent),
        Err(error) if is_blocked(error.kind()) => Some(0),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_connection_sends_until_the_other_side_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let counts = Counts::default();
        let Place::Open {
            mut stream,
            sent: 0,
        } = open(port, &counts)
        else {
            panic!("it listens");
        };
        let (mut accepted, _) = listener.accept().expect("it is connected");
        assert_eq!(exchange(&mut stream, b"ab"), Some(2));
        assert_eq!(exchange(&mut stream, b""), Some(0));
        let mut read = [0; 2];
        accepted.read_exact(&mut read).expect("it was sent");
        assert_eq!(&read, b"ab");
        drop(accepted);
        stream.set_nonblocking(false).expect("own socket");
        assert_eq!(exchange(&mut stream, b"c"), None);
    }
}
