//! The ledger of seeds: one line of JSON per completed run. Sweeps resume from it, shards are
//! merged by it, and reports are generated from it on any machine.
//!
//! **Owns** the file's format. **Promises** that a line is durable before the next run is counted,
//! that a line torn by a crash loses only its own run, and that two sweeps never write to one file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fleet::process::Job;
use crate::params::Stack;
use crate::plan::Plan;
use crate::run::outcome::{Outcome, Verdict};

/// Most runs that are read at once, over all files, because a run takes some kilobytes of memory.
pub const MAX_ENTRIES: usize = 200_000;
/// Longest line in bytes, well above the few thousand that a run with all its counters takes.
const MAX_LINE: u64 = 1 << 20;

/// Identity of the program that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Truncated SHA-256 of the executable in hex, because results of one build are not valid for
    /// another.
    pub hash: String,
    /// The commit, if git and a checkout are available where the program runs.
    pub commit: Option<String>,
}

impl Build {
    /// Identifies the running program.
    ///
    /// # Errors
    /// [`LedgerError::Unusable`] if its executable cannot be read.
    pub fn current() -> Result<Self, LedgerError> {
        let path = PathBuf::from("/proc/self/exe");
        let failed = |source| LedgerError::Unusable {
            path: path.display().to_string(),
            source,
        };
        let mut file = File::open(&path).map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; 1 << 20];
        loop {
            match file.read(&mut chunk).map_err(failed)? {
                0 => break,
                n => hasher.update(chunk.get(..n).unwrap_or_default()),
            }
        }
        Ok(Self {
            hash: first_hex(&hasher.finalize()),
            commit: commit(),
        })
    }
}

/// Returns the current commit, or `None` without git or outside of a checkout.
fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args([
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]);
    let output = git
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Returns the first 8 bytes in hex, which suffice to distinguish builds and plans.
fn first_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Returns the truncated hash of a plan, because a scenario file can change while the program does
/// not.
pub fn plan_hash(plan: &Plan) -> String {
    let text = serde_json::to_vec(plan).unwrap_or_default();
    first_hex(&Sha256::digest(&text))
}

/// A completed run, one line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub verdict: Verdict,
    /// Group of failures with the same probable cause, see [`Outcome::group`].
    pub group: Option<String>,
    /// Hash of the program, see [`Build`].
    pub build: String,
    /// Commit of the program, see [`Build`].
    pub commit: Option<String>,
    /// Hash of the plan, see [`plan_hash`].
    pub plan: String,
    /// End of the run in milliseconds since the Unix epoch, by the clock of the machine that ran
    /// it.
    pub ended_ms: u64,
    /// The outcome, without its snapshots.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Entry {
    /// Creates the entry of a run that ends now.
    pub fn new(build: &Build, plan: &Plan, outcome: Outcome) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            verdict: outcome.verdict(),
            group: outcome.group(),
            build: build.hash.clone(),
            commit: build.commit.clone(),
            plan: plan_hash(plan),
            ended_ms: now.as_millis() as u64,
            // The snapshots serve only `bisect`, and would be most of the line.
            outcome: Outcome {
                snapshots: Vec::new(),
                ..outcome
            },
        }
    }

    fn key(&self) -> Key {
        let Outcome {
            scenario,
            seed,
            stack,
            mutant,
            ..
        } = &self.outcome;
        Key {
            build: self.build.clone(),
            scenario: scenario.clone(),
            plan: self.plan.clone(),
            mutant: mutant.clone(),
            seed: *seed,
            stack: *stack,
        }
    }
}

/// Everything that determines the result of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    scenario: String,
    seed: u64,
    stack: Stack,
    mutant: Option<String>,
    build: String,
    plan: String,
}

/// Errors of reading and writing ledgers.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// An operation on the file failed.
    #[error("{path}: {source}")]
    Unusable {
        path: String,
        source: std::io::Error,
    },
    /// Another process holds the lock of the file.
    #[error(
        "{path}: another sweep is writing to this ledger; \
         use one file per sweep, and join them with `merge`"
    )]
    Taken { path: String },
    /// The files hold more runs than fit into memory, see [`MAX_ENTRIES`].
    #[error("more than {MAX_ENTRIES} runs: give fewer files at once")]
    TooMany,
}

/// The parsed lines of a file.
#[derive(Debug, Default)]
pub struct Lines {
    /// The runs, in the order of the file.
    pub entries: Vec<Entry>,
    /// Number of lines that do not parse as a run, because a crash tore them.
    pub torn: usize,
}

/// Reads a ledger and skips torn lines.
///
/// # Errors
/// [`LedgerError::Unusable`], or [`LedgerError::TooMany`] above [`MAX_ENTRIES`].
pub fn read(path: &Path) -> Result<Lines, LedgerError> {
    let failed = |source| LedgerError::Unusable {
        path: path.display().to_string(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut all = Lines::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(failed)?
            == 0
        {
            return Ok(all);
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice(&line) {
            Ok(entry) if all.entries.len() < MAX_ENTRIES => all.entries.push(entry),
            Ok(_) => return Err(LedgerError::TooMany),
            Err(_) => all.torn += 1,
        }
    }
}

/// A ledger open for appending, locked against other processes.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    build: Build,
    known: BTreeMap<Key, Verdict>,
    entries: Vec<Entry>,
}

impl Ledger {
    /// Opens or creates a file. Runs of this build in it count as already run.
    ///
    /// # Errors
    /// [`LedgerError::Taken`] if another process writes to the file, else as [`read`].
    pub fn open(path: &Path, build: Build) -> Result<Self, LedgerError> {
        let failed = |source| LedgerError::Unusable {
            path: path.display().to_string(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(LedgerError::Taken {
                    path: path.display().to_string(),
                });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
        // A line torn by a crash gets a line end, or the next line would be appended to it.
        if file.seek(SeekFrom::End(0)).map_err(failed)? > 0 {
            file.seek(SeekFrom::End(-1)).map_err(failed)?;
            let mut last = [0];
            file.read_exact(&mut last).map_err(failed)?;
            if last != *b"\n" {
                file.write_all(b"\n").map_err(failed)?;
            }
        }
        let entries = read(path)?.entries;
        let of_this_build = entries.iter().filter(|entry| entry.build == build.hash);
        let known = of_this_build
            .map(|entry| (entry.key(), entry.verdict))
            .collect();
        Ok(Self {
            path: path.to_owned(),
            file,
            build,
            known,
            entries,
        })
    }

    /// Returns the verdict of this build about a run, or `None` if the run is missing or timed out.
    pub fn verdict(&self, job: &Job, plan: &Plan) -> Option<Verdict> {
        let known = self.known.get(&Key {
            scenario: plan.name.clone(),
            seed: job.seed,
            stack: job.stack,
            mutant: job.mutant.clone(),
            build: self.build.hash.clone(),
            plan: plan_hash(plan),
        });
        known
            .copied()
            .filter(|verdict| *verdict != Verdict::Timeout)
    }

    /// Appends a run, which is durable when this returns.
    ///
    /// # Errors
    /// [`LedgerError::Unusable`].
    pub fn append(&mut self, entry: Entry) -> Result<(), LedgerError> {
        let failed = |source| LedgerError::Unusable {
            path: self.path.display().to_string(),
            source,
        };
        let mut line = serde_json::to_vec(&entry).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        self.known.insert(entry.key(), entry.verdict);
        self.entries.push(entry);
        Ok(())
    }

    /// Returns all runs of the file, also those of other builds.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// The result of merging ledgers.
#[derive(Debug, Default)]
pub struct Merged {
    /// One entry per run, in order of scenario and seed.
    pub entries: Vec<Entry>,
    /// Number of torn lines in all files.
    pub torn: usize,
    /// Number of entries that repeat a run of another entry.
    pub repeated: usize,
    /// Pairs of different results for one run, which show that the simulator was not deterministic.
    pub differing: Vec<(Entry, Entry)>,
}

/// Merges ledgers. A completed run replaces a timed-out one.
///
/// # Errors
/// As [`read`], with [`MAX_ENTRIES`] applied to all files together.
pub fn merge(paths: &[PathBuf]) -> Result<Merged, LedgerError> {
    merge_up_to(MAX_ENTRIES, paths)
}

fn merge_up_to(most: usize, paths: &[PathBuf]) -> Result<Merged, LedgerError> {
    let mut merged = Merged::default();
    let mut all: BTreeMap<Key, Entry> = BTreeMap::new();
    for path in paths {
        let Lines { entries, torn } = read(path)?;
        merged.torn += torn;
        for entry in entries {
            let key = entry.key();
            let Some(first) = all.remove(&key) else {
                if all.len() >= most {
                    return Err(LedgerError::TooMany);
                }
                all.insert(key, entry);
                continue;
            };
            merged.repeated += 1;
            // A timed-out run has no result that a completed one could contradict.
            let (first, second) = match entry.verdict {
                Verdict::Timeout => (entry, first),
                _ => (first, entry),
            };
            let is_same = first.outcome.trace_hash == second.outcome.trace_hash
                && first.outcome.found == second.outcome.found;
            if first.verdict != Verdict::Timeout && !is_same {
                merged.differing.push((first, second.clone()));
            }
            all.insert(key, second);
        }
    }
    merged.entries = all.into_values().collect();
    Ok(merged)
}

/// Writes a ledger atomically, replacing an existing file.
///
/// # Errors
/// [`LedgerError::Unusable`].
pub fn write(path: &Path, entries: &[Entry]) -> Result<(), LedgerError> {
    let failed = |source| LedgerError::Unusable {
        path: path.display().to_string(),
        source,
    };
    let mut text = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut text, entry).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
    }
    super::write_file(path, &text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::process::PATIENCE;
    use crate::invariants::{Found, Violation};
    use crate::plan::format;

    /// Creates an empty directory for one test.
    fn dir(name: &str) -> PathBuf {
        let dir =
            std::env::temp_dir().join(format!("alys-sim-ledger-{}-{name}", std::process::id()));
        // An earlier process with the same number may have left its directory.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        dir
    }

    fn plan() -> Plan {
        let text = "why = \"x\"\nuntil = \"10s\"\n";
        format::parse("steady.toml", text)
            .expect("a scenario")
            .plan(1)
    }

    fn job(seed: u64) -> Job {
        let scenario = PathBuf::from("steady.toml");
        let stack = Stack::Full;
        let mutant = None;
        let patience = PATIENCE;
        Job {
            scenario,
            seed,
            stack,
            mutant,
            view: Vec::new(),
            more: Vec::new(),
            patience,
        }
    }

    fn outcome(seed: u64, hash: &str) -> Outcome {
        let lost = job(seed).lost(&plan(), 7, Violation::VotesLost { node: 2 });
        let found = seed.is_multiple_of(2).then_some(Found {
            at_ms: 3,
            violation: Violation::VotesLost { node: 2 },
        });
        let counters = BTreeMap::from([("fault.kill".to_owned(), u64::MAX)]);
        Outcome {
            found,
            trace_hash: hash.to_owned(),
            counters,
            ..lost
        }
    }

    fn build(hash: &str) -> Build {
        Build {
            hash: hash.to_owned(),
            commit: Some("abc".to_owned()),
        }
    }

    #[test]
    fn a_sweep_resumes_where_it_was_unless_the_build_or_the_plan_is_another() {
        let path = dir("resume").join("ledger.jsonl");
        let mut ledger = Ledger::open(&path, build("one")).expect("opens");
        assert!(ledger.verdict(&job(1), &plan()).is_none());
        for seed in [1, 2] {
            let entry = Entry::new(&build("one"), &plan(), outcome(seed, "h"));
            ledger.append(entry).expect("is written");
        }
        assert!(matches!(
            Ledger::open(&path, build("one")),
            Err(LedgerError::Taken { .. })
        ));
        let written = ledger.entries().to_vec();
        drop(ledger);
        let again = Ledger::open(&path, build("one")).expect("opens");
        assert_eq!(again.entries(), written, "what is read is what was written");
        assert_eq!(
            (again.entries()[0].verdict, again.entries()[1].verdict),
            (Verdict::Passed, Verdict::Failed)
        );
        assert_eq!(
            (1..4)
                .map(|seed| again.verdict(&job(seed), &plan()).is_some())
                .collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(
            again
                .verdict(
                    &job(1),
                    &Plan {
                        until_ms: 7,
                        ..plan()
                    }
                )
                .is_none(),
            "another plan"
        );
        assert!(
            again
                .verdict(
                    &Job {
                        mutant: Some("x".to_owned()),
                        ..job(1)
                    },
                    &plan()
                )
                .is_none(),
            "another program"
        );
        assert!(
            again
                .verdict(
                    &Job {
                        stack: Stack::Fast,
                        ..job(1)
                    },
                    &plan()
                )
                .is_none(),
            "another stack"
        );
        drop(again);
        let other = Ledger::open(&path, build("two")).expect("opens");
        assert!(other.verdict(&job(1), &plan()).is_none(), "another build");
    }

    #[test]
    fn a_torn_line_costs_its_own_run_only() {
        let path = dir("torn").join("ledger.jsonl");
        let mut ledger = Ledger::open(&path, build("one")).expect("opens");
        for seed in [1, 2] {
            ledger
                .append(Entry::new(&build("one"), &plan(), outcome(seed, "h")))
                .expect("is written");
        }
        drop(ledger);
        let whole = std::fs::read(&path).expect("is there");
        let second = 1 + whole
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("two lines");
        for cut in [second + 1, second + 40, whole.len() - 2] {
            std::fs::write(&path, &whole[..cut]).expect("is written");
            let mut ledger = Ledger::open(&path, build("one")).expect("opens");
            assert!(
                ledger.verdict(&job(1), &plan()).is_some()
                    && ledger.verdict(&job(2), &plan()).is_none(),
                "cut at {cut}"
            );
            ledger
                .append(Entry::new(&build("one"), &plan(), outcome(3, "h")))
                .expect("is written");
            drop(ledger);
            let read = read(&path).expect("is read");
            let seeds: Vec<u64> = read
                .entries
                .iter()
                .map(|entry| entry.outcome.seed)
                .collect();
            assert_eq!((seeds, read.torn), (vec![1, 3], 1), "cut at {cut}");
        }
    }

    #[test]
    fn joined_ledgers_have_each_run_once_and_tell_of_runs_that_differ() {
        let dir = dir("merge");
        let entry = |seed, hash| Entry::new(&build("one"), &plan(), outcome(seed, hash));
        let late = |seed| {
            let late = Outcome {
                found: None,
                timeout_s: Some(300),
                ..outcome(seed, "")
            };
            Entry::new(&build("one"), &plan(), late)
        };
        let files = [
            (
                dir.join("a"),
                vec![entry(3, "x"), entry(1, "x"), late(5), entry(7, "x")],
            ),
            (
                dir.join("b"),
                vec![entry(2, "x"), entry(1, "x"), entry(5, "x"), late(7)],
            ),
            (dir.join("c"), vec![entry(2, "y")]),
        ];
        for (path, entries) in &files {
            write(path, entries).expect("is written");
        }
        let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
        let merged = merge(&paths[..2]).expect("joins");
        let seeds: Vec<u64> = merged
            .entries
            .iter()
            .map(|entry| entry.outcome.seed)
            .collect();
        assert_eq!(
            (seeds, merged.repeated, merged.torn),
            (vec![1, 2, 3, 5, 7], 3, 0)
        );
        assert!(merged.differing.is_empty());
        let at_the_limit = merge_up_to(5, &paths).expect("repeated runs need no room");
        assert_eq!(at_the_limit.entries.len(), 5);
        assert!(matches!(merge_up_to(4, &paths), Err(LedgerError::TooMany)));
        assert!(
            merged
                .entries
                .iter()
                .all(|entry| entry.verdict != Verdict::Timeout),
            "what ended counts"
        );
        let merged = merge(&paths).expect("joins");
        let differing: Vec<u64> = merged
            .differing
            .iter()
            .map(|(first, _)| first.outcome.seed)
            .collect();
        assert_eq!(differing, [2]);
    }
}
