//! The block stores of the nodes, read from copies of their disks: while nodes restart, and at the
//! end of a run. A copy is as a process would find it at its start. Reading one is no part of the
//! simulation.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_runtime::sim::{Image, World};
use alys_runtime::sync::mpsc::Receiver;
use alys_storage::redb::{Existing, Medium, RedbOptions, RedbStore};
use alys_storage::{BlockStore, Store};
use alys_types::Hash;

use crate::cluster::{Seat, now_ms};
use crate::invariants::{Judge, Rows};
use crate::params::{MachineRole, WorldPlan};

/// The database of a node on its disk.
const DATABASE: &str = "/data/chain/store.redb";
/// The database of an execution client on its disk.
const EXECUTION_DATABASE: &str = "/data/execution/store.redb";
/// Cache of the database: little, because each row is read once.
const CACHE_BYTES: usize = 1024 * 1024;

/// A file in memory.
struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Medium for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        let bytes = self.bytes();
        let found = bytes.get(start..start.saturating_add(out.len()));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = offset as usize;
        let end = start.saturating_add(data.len());
        let mut bytes = self.bytes();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(data);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().resize(len as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks the store on a copy of a node's disk. A copy without a store, or one with a damage that
/// the disk did, is not judged.
pub fn check(judge: &Judge, at_ms: u64, node: u8, image: &Image, genesis: Hash) {
    if image.damage().is_any() {
        return;
    }
    let Some((left, started)) = rows(image, genesis) else {
        return;
    };
    let result = {
        let mut oracles = judge.look();
        let orders = oracles.sets.orders();
        let rows = oracles.stores.look(node, &left, &started, orders);
        let ledger = started.ledger();
        let ledger = ledger.map_or(Ok(()), |(hash, rows)| {
            oracles.work.stored(node, &hash, &rows)
        });
        rows.and(ledger)
    };
    if let Err(violation) = result {
        judge.accuse(at_ms, violation);
    }
}

fn open(image: &Image, database: &str) -> Option<Store> {
    let bytes = image.file(database.as_ref())?.to_vec();
    let options = RedbOptions {
        cache_bytes: CACHE_BYTES,
    };
    let medium = Memory(Mutex::new(bytes));
    let store = RedbStore::open(medium, "a copy", options, Existing::Optional).ok()?;
    Some(Arc::new(store))
}

/// Checks the store on a copy of the disk of a node's execution client.
fn check_execution(judge: &Judge, at_ms: u64, node: u8, image: &Image) {
    if image.damage().is_any() {
        return;
    }
    let rows = open(image, EXECUTION_DATABASE).and_then(|store| Rows::of_execution(&store).ok());
    let Some(rows) = rows else {
        return;
    };
    let result = judge.look().stores.look_at_execution(node, &rows);
    if let Err(violation) = result {
        judge.accuse(at_ms, violation);
    }
}

/// The rows of a store, as the node left them and after the start of the store; `None` before the
/// first write, and for a store that does not open: a node that cannot open its own reports it.
fn rows(image: &Image, genesis: Hash) -> Option<(Rows, Rows)> {
    let store = open(image, DATABASE)?;
    let left = Rows::read(&store).ok()?;
    if left.is_empty() {
        return None;
    }
    BlockStore::open(store.clone(), genesis).ok()?;
    let started = Rows::read(&store).ok()?;
    Some((left, started))
}

/// Checks the copies of restarting nodes as they arrive, outside of the nodes.
pub async fn check_copies(
    world: World,
    judge: Judge,
    genesis: Hash,
    mut copies: Receiver<(u8, Image)>,
) {
    while let Some((node, image)) = copies.recv().await {
        check(&judge, now_ms(world), node, &image, genesis);
    }
}

/// Checks the stores of all correct nodes and of their execution clients.
pub fn check_all(world: World, judge: &Judge, plan: &WorldPlan, genesis: Hash) {
    for index in (0..plan.nodes).filter(|index| !plan.is_byzantine(*index)) {
        let seat = Seat {
            index,
            is_twin: false,
        };
        if let Some(machine) = world.find(&seat.name(MachineRole::Node)) {
            let image = world.disk_image(machine);
            check(judge, now_ms(world), index, &image, genesis);
        }
        if let Some(machine) = world.find(&seat.name(MachineRole::Execution)) {
            let image = world.disk_image(machine);
            check_execution(judge, now_ms(world), index, &image);
        }
    }
}
