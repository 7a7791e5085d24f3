//! Tests of the simulated implementation: faults and determinism.
#![cfg(madsim)]

mod disks;
mod links;
mod processes;
mod runs;
mod sites;

use std::future::{Future, pending};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_runtime::disk::Dir;
use alys_runtime::io::{AsyncReadExt, AsyncWriteExt};
use alys_runtime::net::{Listener, Stream};
use alys_runtime::sim::{self, Block, Link, NodeId, Options, Slowness, USER_TIMEOUT, World};
use alys_runtime::sync::oneshot;
use alys_runtime::{clock, disk, rand, signal, spawn, time};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 7000;

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// Runs a world with two idle machines.
fn two<T, F>(seed: u64, drive: impl FnOnce(World, NodeId, NodeId) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    sim::run(Options::new(seed), move |world| {
        let a = world.node("a", ip(1), pending);
        let b = world.node("b", ip(2), pending);
        drive(world, a, b)
    })
}

/// Connects `a` to `b` and returns the two ends, each of which belongs to its node.
async fn connect(world: World, a: NodeId, b: NodeId) -> (Stream, Stream) {
    let addr = SocketAddr::new(world.ip(b), PORT);
    let (listening, is_listening) = oneshot::channel();
    let accepting = world.spawn_on(b, "accept", async move {
        let listener = Listener::bind(addr).await.expect("a free port");
        let _ = listening.send(());
        listener.accept().await.expect("a connection").0
    });
    is_listening.await.expect("it listens");
    let near = world
        .spawn_on(a, "connect", Stream::connect(addr))
        .await
        .expect("it ends")
        .expect("connected");
    (near, accepting.await.expect("accepted"))
}
