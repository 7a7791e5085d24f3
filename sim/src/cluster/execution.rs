//! The machine of an authority's execution client, which runs the embedded client.

use std::net::SocketAddr;

use alys_integrations::embedded::execution::ExecutionCore;
use alys_integrations::embedded::{ExecutionFaultInjector, ExecutionServer, ExecutionServerConfig};
use alys_runtime::disk::Dir;
use alys_runtime::sim::{World, here};
use alys_runtime::{select, signal, time};
use alys_storage::{Engine, Store};

use super::addresses::{ENGINE_PORT, RPC_PORT, Seat, machine_ip, node_ip};
use super::genesis::jwt_secret;
use super::{LOOK, STOP, Shared, now_ms};
use crate::invariants::{Violation, journal_is_exact, pool_survives};
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
    // Before its ports are open, so that no user sees it earlier.
    shared.judge.look().execution_born(seat.index);
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
        store: store.clone(),
        core: shared.chain.execution_core.clone(),
        limits: shared.public_limits,
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
                let kept = time::timeout(STOP, pool_is_kept(shared, index, &store, &server));
                accuse(shared, kept.await.unwrap_or(Ok(())));
                // A fault may hold a request for longer than an operating system waits.
                let _ = time::timeout(STOP, server.stop()).await;
                return Ok(());
            }
            () = time::sleep(LOOK) => {
                let at_ms = now_ms(World::current());
                shared.execution_clients.is_up(index, at_ms);
                for (port, pending) in server.pending() {
                    shared.judge.look().budget(at_ms, index, port, &pending);
                }
                accuse(shared, journal_is_exact(index, server.journal_left().await));
                if server.has_failed() {
                    return Err("its store failed".to_owned());
                }
            }
        }
    }
}

/// Saves the pool as the stop that follows does, and checks that a client that opens the store has
/// it.
async fn pool_is_kept(
    shared: &Shared,
    index: u8,
    store: &Store,
    server: &ExecutionServer,
) -> Result<(), Violation> {
    let config = shared.chain.execution_core.clone();
    if config.pool.max_transactions < ROOMY_POOL {
        return Ok(());
    }
    let Some(saved) = server.save_pool().await else {
        return Ok(());
    };
    // No other task runs between the two.
    let opened = ExecutionCore::open(store.clone(), &shared.chain.execution, config);
    let Ok(opened) = opened else {
        return Ok(());
    };
    let status = opened.pool_status();
    let found = status.pending + status.queued;
    let is_there = |hash| opened.pool_transaction(hash).is_some();
    shared.judge.look().ledger.coverage.count("model.pool");
    pool_survives(index, &saved, found, is_there)
}

/// Capacity of a pool that users never fill. A smaller one may refuse transactions that return in
/// another order.
const ROOMY_POOL: usize = 1_000;

fn accuse(shared: &Shared, result: Result<(), Violation>) {
    if let Err(violation) = result {
        shared.judge.accuse(now_ms(World::current()), violation);
    }
}
