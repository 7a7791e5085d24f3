//! Two peers that announce the chain in their status and answer no request about it. Each identity
//! disconnects shortly before its unanswered requests time out and returns while the other stays,
//! so that one of the two is always connected and neither is penalized for long.

use std::net::IpAddr;
use std::time::Duration;

use alys_runtime::sim::{World, here};
use alys_runtime::{spawn, time};

use crate::cluster::{Net, Shared};
use crate::peers::session::{self, Outsider};

const COUNT: u8 = 2;
/// Lifetime of an identity, shorter than the timeout of requests to it.
const LIFE: Duration = Duration::from_millis(9_900);

/// Adds the machines of both peers.
pub fn add(world: World, shared: &Shared) {
    for index in 0..COUNT {
        let shared = shared.clone();
        let ip = Net::Silent.ip(index);
        let machine = world.node(&format!("silent{}", index + 1), ip, move || {
            let shared = shared.clone();
            async move {
                // The outcome is irrelevant because the process is restarted.
                let _ended = time::timeout(LIFE, life(&shared, index, ip)).await;
            }
        });
        spawn("silent", async move {
            time::sleep(LIFE / u32::from(COUNT) * u32::from(index)).await;
            loop {
                world.restart(machine);
                time::sleep(LIFE).await;
            }
        });
    }
}

async fn life(shared: &Shared, index: u8, ip: IpAddr) {
    let mut identity = [0xee; 32];
    identity[0] = index;
    identity[1..5].copy_from_slice(&here().incarnation.to_le_bytes());
    let Some(mut stranger) = Outsider::join(shared, session::config(shared, identity, ip)).await
    else {
        return;
    };
    while stranger.next().await.is_some() {}
}
