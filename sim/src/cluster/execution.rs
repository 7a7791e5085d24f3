//! The machine of an authority's execution client, which runs the embedded client.

use std::net::SocketAddr;

use alys_integrations::embedded::{ExecutionFaultInjector, ExecutionServer, ExecutionServerConfig};
use alys_runtime::disk::Dir;
use alys_runtime::sim::{World, here};
use alys_runtime::{select, signal, time};
use alys_storage::Engine;

use super::addresses::{ENGINE_PORT, RPC_PORT, Seat, machine_ip, node_ip};
use super::genesis::jwt_secret;
use super::{LOOK, STOP, Shared, now_ms};
use crate::params::MachineRole;

/// Creates the fault injectors of the execution clients, one for each authority.
pub fn execution_faults(world: World, nodes: u8) -> Vec<ExecutionFaultInjector> {
    let hang_up = move |index| {
        move || {
            world.reset_connections(node_ip(index), machine_ip(index, MachineRole::Execution));
        }
    };
    (0..nodes)
        .map(|index| ExecutionFaultInjector::new(hang_up(index)))
        .collect()
}

/// Runs the process from start to end.
///
/// # Errors
/// The store cannot be opened or fails, or the server does not start or stop.
pub async fn life(shared: &Shared, seat: Seat) -> Result<(), String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    if !seat.is_twin {
        let at_ms = now_ms(World::current());
        let mut judge = shared.judge.look();
        judge.process_started(at_ms, here().node, MachineRole::Execution, seat.index);
    }
    if here().incarnation > 0 {
        let at_ms = now_ms(World::current());
        shared.judge.look().calm.disturbed(at_ms);
    }
    let dir = Dir::open("/data/execution").map_err(|e| text(&e))?;
    let store = alys_storage::open(Engine::Redb, &dir).map_err(|e| text(&e))?;
    let ip = seat.ip(MachineRole::Execution);
    let index = seat.index;
    let config = ExecutionServerConfig {
        http_addr: Some(SocketAddr::new(ip, RPC_PORT)),
        engine_addr: SocketAddr::new(ip, ENGINE_PORT),
        jwt_secret: jwt_secret(index),
        genesis: shared.chain.execution.clone(),
        access: Default::default(),
        store,
        core: shared.chain.execution_core.clone(),
    };
    let faults = shared
        .execution_faults
        .get(usize::from(index))
        .cloned()
        .unwrap_or_default();
    let server = ExecutionServer::start_with_faults(config, faults)
        .await
        .map_err(|e| text(&e))?;
    shared
        .execution_clients
        .born(index, now_ms(World::current()), server.observer());
    loop {
        select! {
            _ = signal::shutdown() => {
                let stopped = time::timeout(STOP, server.stop()).await;
                return stopped.map_err(|_| "did not stop in time".to_owned());
            }
            () = time::sleep(LOOK) => {
                shared.execution_clients.is_up(index, now_ms(World::current()));
                if server.has_failed() {
                    return Err("its store failed".to_owned());
                }
            }
        }
    }
}
