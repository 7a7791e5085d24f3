//! Two strangers who say that they follow the chain and answer no question about it. Each goes away shortly before what it
//! was asked is overdue, and comes back while the other stays, so that one of them is always there and never at fault for long.

use std::net::IpAddr;
use std::time::Duration;

use alys_net::{Command, Event, Protocol, Service};
use alys_runtime::sim::{World, here};
use alys_runtime::{select, spawn, time};
use alys_types::wire::Message;

use crate::machines::{Net, Shared};
use crate::outsider;

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
    let Ok((service, handle, mut events)) = Service::bind(outsider::config(shared, identity, ip)).await
    else {
        return;
    };
    let status = outsider::status(shared);
    let say = |command| {
        // A full queue loses an answer, no more.
        let _ = handle.try_send(command);
    };
    say(Command::SetStatus { status: status.encode() });
    let mut running = Box::pin(service.run());
    loop {
        let event = select! {
            _ = &mut running => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Event::Request { id, protocol: Protocol::Status, .. }) => {
                say(Command::Respond { id, response: Ok(outsider::answer(&status)) });
            }
            Some(_) => {}
        }
    }
}
