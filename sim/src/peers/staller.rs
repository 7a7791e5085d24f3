//! Two strangers who say that they follow the chain and answer no question about it. Each goes away
//! shortly before what it was asked is overdue, and comes back while the other stays, so that one
//! of them is always there and never at fault for long.

use std::net::IpAddr;
use std::time::Duration;

use alys_runtime::sim::{World, here};
use alys_runtime::{spawn, time};

use crate::cluster::{Net, Shared};
use crate::peers::session::{self, Outsider};

const COUNT: u8 = 2;
/// How long an identity is used: what it is asked is not overdue then.
const LIFE: Duration = Duration::from_millis(9_900);

/// Adds the strangers' machines.
pub fn add(world: World, shared: &Shared) {
    for index in 0..COUNT {
        let (shared, ip) = (shared.clone(), Net::Silent.ip(index));
        let machine = world.node(&format!("silent{}", index + 1), ip, move || {
            let shared = shared.clone();
            async move {
                // Whatever goes wrong for it is of no interest; it is started again.
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
