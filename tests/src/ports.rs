//! Free ports of the loopback interface.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::SystemTime;

/// Below the system's ephemeral range, so that no outgoing connection takes a port between its
/// choice and its use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port without a listener. One process never returns a port twice, and two rarely return the
/// same.
///
/// # Panics
/// When all ports are taken.
pub fn free() -> u16 {
    static START: OnceLock<u16> = OnceLock::new();
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = *START.get_or_init(|| {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mixed = now.subsec_nanos() ^ std::process::id().wrapping_mul(2_654_435_761);
        (mixed % u32::from(COUNT)) as u16
    });
    for _ in 0..COUNT {
        let index = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + ((u32::from(start) + u32::from(index)) % u32::from(COUNT)) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port between {FIRST} and {} is free", FIRST + COUNT);
}
