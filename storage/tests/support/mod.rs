//! The kit of the storage tests: random numbers, a workload with its model, and a disk that loses
//! power.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod chain;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use alys_storage::redb::Medium;
use alys_storage::{Batch, Direction, Durability, KeyValue, Op, Table};

/// SplitMix64, seeded.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Seeds of a sweep: `ALYS_SEEDS`, or few, because a test run repeats all sweeps.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    let given = std::env::var("ALYS_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok());
    0..given.unwrap_or(default)
}

/// One write in three of the workloads is durable.
pub fn durability(random: &mut Random) -> Durability {
    if random.one_in(3) {
        Durability::Durable
    } else {
        Durability::Deferred
    }
}

pub const TABLES: [Table; 3] = [Table("blocks"), Table("bodies"), Table("votes")];
/// Holds the number of the last batch at [`COUNTER`].
pub const META: Table = Table("meta");
pub const COUNTER: &[u8] = b"counter";

/// The expected contents of a store.
pub type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Batch number `index` of the workload. It depends on the arguments alone, so that a parent can
/// reproduce the writes of its killed child. It always sets the counter.
pub fn batch(seed: u64, index: u64) -> Batch {
    let mut random = Random::new(seed.wrapping_mul(0x1_0001).wrapping_add(index));
    let mut batch = Batch::new();
    for _ in 0..random.below(8) {
        let table = TABLES[random.below(3) as usize];
        let key = format!("key-{:04}", random.below(120)).into_bytes();
        if random.one_in(4) {
            batch.delete(table, key);
        } else {
            let length = match random.below(20) {
                0 => 0,
                1 => random.below(40_000),
                _ => random.below(3_000),
            };
            let fill = random.next();
            let value: Vec<u8> = (0..length)
                .map(|at| (fill >> (at % 8 * 8)) as u8 ^ at as u8)
                .collect();
            batch.put(table, key, value);
        }
    }
    batch.put(META, COUNTER, index.to_be_bytes());
    batch
}

pub fn apply(model: &mut Model, batch: &Batch) {
    for op in batch.ops() {
        match op {
            Op::Put { table, key, value } => {
                model.insert((*table, key.clone()), value.clone());
            }
            Op::Delete { table, key } => {
                model.remove(&(*table, key.clone()));
            }
        }
    }
}

/// The model after batches `0..=last`, or the empty one.
pub fn model_at(seed: u64, last: Option<u64>) -> Model {
    let mut history = History::new(seed);
    history.advance(last);
    history.model
}

/// The model after a growing number of batches.
#[derive(Debug)]
pub struct History {
    seed: u64,
    next: u64,
    model: Model,
}

impl History {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            next: 0,
            model: Model::new(),
        }
    }

    /// The model after batches `0..=last`, which may not be fewer than before.
    pub fn advance(&mut self, last: Option<u64>) -> &Model {
        let next = last.map_or(0, |last| last + 1);
        assert!(next >= self.next, "batches were lost");
        for index in self.next..next {
            apply(&mut self.model, &batch(self.seed, index));
        }
        self.next = next;
        &self.model
    }
}

/// The acknowledgements that a store gave its writer, with which a reopened store is compared.
#[derive(Debug)]
pub struct WriterLog {
    history: History,
    /// The last batch of the last durable write that returned.
    pub durable: Option<u64>,
    /// The last batch that was passed to the store.
    pub attempted: Option<u64>,
}

impl WriterLog {
    pub fn new(seed: u64) -> Self {
        Self {
            history: History::new(seed),
            durable: None,
            attempted: None,
        }
    }

    /// Checks that the store holds exactly batches `0..=last`, for some `last` between the last
    /// durable and the last attempted batch: no acknowledged batch is lost, none is partial, and
    /// none is there without its predecessors. Returns `last`.
    pub fn check(&mut self, store: &dyn KeyValue, context: &str) -> Option<u64> {
        let last = counter(store);
        assert!(
            last >= self.durable,
            "{context}: {:?} was durable, {last:?} is stored",
            self.durable
        );
        assert!(
            last <= self.attempted,
            "{context}: {:?} was attempted, {last:?} is stored",
            self.attempted
        );
        assert_same(&contents(store), self.history.advance(last), context);
        last
    }
}

/// All entries of a store.
pub fn contents(store: &dyn KeyValue) -> Model {
    let mut all = Model::new();
    for table in TABLES.into_iter().chain([META]) {
        for (key, value) in store
            .range(table, b"", &[0xff; 8], Direction::Forward, usize::MAX)
            .expect("range")
        {
            all.insert((table, key), value);
        }
    }
    all
}

/// The number of the last batch in a store.
pub fn counter(store: &dyn KeyValue) -> Option<u64> {
    let value = store.get(META, COUNTER).expect("counter")?;
    Some(u64::from_be_bytes(value.try_into().expect("eight bytes")))
}

/// Compares two models and prints keys only, because values can have megabytes.
pub fn assert_same(found: &Model, wanted: &Model, context: &str) {
    for (key, value) in wanted {
        match found.get(key) {
            None => panic!("{context}: {key:?} is missing"),
            Some(other) => assert!(other == value, "{context}: {key:?} has another value"),
        }
    }
    if let Some(key) = found.keys().find(|key| !wanted.contains_key(key)) {
        panic!("{context}: {key:?} should not be there");
    }
}

const SECTOR: usize = 512;

#[derive(Debug)]
struct Platter {
    random: Random,
    current: Vec<u8>,
    /// The contents that a sector may have after a power loss: the synced version first, then each
    /// one written since.
    versions: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// The lengths that the file may have after a power loss, the synced one first.
    lengths: Vec<usize>,
    incarnation: u64,
    /// Operations until the power is cut; `None` while no cut is planned.
    budget: Option<u64>,
    powered: bool,
    losses: u64,
}

/// A file on a disk that loses power: sectors that were not synced are lost, kept in any of the
/// versions written since the last sync, or torn between two of them, each on its own.
#[derive(Debug, Clone)]
pub struct PowerDisk {
    platter: Arc<Mutex<Platter>>,
}

/// A handle to the file in one incarnation; it fails after the next power loss.
#[derive(Debug, Clone)]
pub struct PowerFile {
    platter: Arc<Mutex<Platter>>,
    incarnation: u64,
}

impl PowerDisk {
    pub fn new(seed: u64) -> Self {
        Self::with_contents(seed, Vec::new())
    }

    pub fn with_contents(seed: u64, current: Vec<u8>) -> Self {
        let lengths = vec![current.len()];
        let platter = Platter {
            random: Random::new(seed),
            current,
            versions: BTreeMap::new(),
            lengths,
            incarnation: 0,
            budget: None,
            powered: true,
            losses: 0,
        };
        Self {
            platter: Arc::new(Mutex::new(platter)),
        }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("platter")
    }

    pub fn file(&self) -> PowerFile {
        PowerFile {
            platter: self.platter.clone(),
            incarnation: self.platter().incarnation,
        }
    }

    /// Cuts the power after `operations` more operations on the file.
    pub fn cut_after(&self, operations: u64) {
        self.platter().budget = Some(operations);
    }

    pub fn is_powered(&self) -> bool {
        self.platter().powered
    }

    /// Cuts the power, draws the contents that the disk keeps, and restores the power.
    pub fn power_cycle(&self) {
        let mut guard = self.platter();
        let platter = &mut *guard;
        let length = platter.lengths[platter.random.below(platter.lengths.len() as u64) as usize];
        platter.current.resize(length, 0);
        for (sector, versions) in std::mem::take(&mut platter.versions) {
            let count = versions.len() as u64;
            let first = platter.random.below(count) as usize;
            let second = platter.random.below(count) as usize;
            let cut = if platter.random.one_in(4) {
                platter.random.below(SECTOR as u64) as usize
            } else {
                SECTOR
            };
            let at = sector * SECTOR;
            for offset in 0..SECTOR.min(length.saturating_sub(at)) {
                let version = if offset < cut { first } else { second };
                platter.current[at + offset] = versions[version][offset];
            }
        }
        platter.lengths = vec![length];
        platter.incarnation += 1;
        platter.budget = None;
        platter.powered = true;
        platter.losses += 1;
    }

    pub fn losses(&self) -> u64 {
        self.platter().losses
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.platter().current.clone()
    }
}

impl Platter {
    /// Counts one operation. An error when the power is off or is cut at this operation.
    fn step(&mut self, incarnation: u64) -> io::Result<()> {
        if !self.powered || incarnation != self.incarnation {
            return Err(io::Error::other("no power"));
        }
        if let Some(budget) = &mut self.budget {
            if *budget == 0 {
                self.powered = false;
                return Err(io::Error::other("the power was cut"));
            }
            *budget -= 1;
        }
        Ok(())
    }

    fn sector(&self, sector: usize) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        let from = (sector * SECTOR).min(self.current.len());
        let to = (from + SECTOR).min(self.current.len());
        bytes[..to - from].copy_from_slice(&self.current[from..to]);
        bytes
    }

    fn put(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let touched = offset / SECTOR..=(offset + data.len() - 1) / SECTOR;
        for sector in touched.clone() {
            let before = self.sector(sector);
            self.versions.entry(sector).or_insert_with(|| vec![before]);
        }
        if self.current.len() < offset + data.len() {
            self.current.resize(offset + data.len(), 0);
            self.lengths.push(self.current.len());
        }
        self.current[offset..offset + data.len()].copy_from_slice(data);
        for sector in touched {
            let after = self.sector(sector);
            self.versions.entry(sector).or_default().push(after);
        }
    }
}

impl PowerFile {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().expect("platter")
    }
}

impl Medium for PowerFile {
    fn len(&self) -> io::Result<u64> {
        let mut platter = self.platter();
        platter.step(self.incarnation)?;
        Ok(platter.current.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.platter();
        platter.step(self.incarnation)?;
        let from = offset as usize;
        let found = platter.current.get(from..from + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        let alive = platter.powered && self.incarnation == platter.incarnation;
        if let Err(error) = platter.step(self.incarnation) {
            if alive {
                // The write during which the power is cut may be stored in part.
                let part = platter.random.below(data.len() as u64 + 1) as usize;
                platter.put(offset as usize, &data[..part]);
            }
            return Err(error);
        }
        platter.put(offset as usize, data);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.platter();
        platter.step(self.incarnation)?;
        let len = len as usize;
        // Truncated bytes read as zero when the file grows again, and may reappear after a power
        // loss.
        let old = platter.current.len();
        if len < old {
            let zeros = vec![0; old - len];
            platter.put(len, &zeros);
        }
        platter.current.resize(len, 0);
        platter.lengths.push(len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut platter = self.platter();
        platter.step(self.incarnation)?;
        platter.versions.clear();
        platter.lengths = vec![platter.current.len()];
        Ok(())
    }
}
