//! Scenario files: plans in TOML, written by hand or by [`to_toml`]. An error names its line, its
//! column and the most similar known word. [`File`] and [`crate::faults::Fault`] define all keys of
//! the format.

mod check;
mod file;
mod read;
mod schema;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::plan::Plan;
use crate::plan::generator::{self, Swarm};

pub use check::{Part, Problem, check};
pub use file::File;
pub use read::parse;
pub use schema::{guide_of_faults, schema, words};
pub use write::{lines, to_toml};

/// A scenario file: a plan, and optionally the swarm that adds faults drawn from the seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Path of the file.
    pub path: PathBuf,
    /// The plan as written, without the swarm's drawings.
    pub plan: Plan,
    /// Ranges and kinds for the drawings of the generator.
    pub swarm: Option<Swarm>,
}

impl Scenario {
    /// Returns the seed to run: `given`, else that of the file, else 1.
    pub fn seed(&self, given: Option<u64>) -> u64 {
        given.or(self.plan.seed).unwrap_or(1)
    }

    /// Returns the plan for a seed, with the drawings of the swarm.
    pub fn plan(&self, seed: u64) -> Plan {
        match &self.swarm {
            Some(swarm) => generator::draw(&self.plan, swarm, seed),
            None => self.plan.clone(),
        }
    }
}

/// Errors of reading a scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The operating system cannot read the file or directory.
    #[error("{file}: {reason}")]
    Unreadable { file: String, reason: String },
    /// No scenario has this name.
    #[error("no scenario {name:?}{}; there are {known}", advice(.meant))]
    Unknown {
        name: String,
        known: String,
        meant: Option<String>,
    },
    /// A word or a value in the file is invalid.
    #[error("{file}:{line}:{column}: {}", advised(.message, .meant))]
    Wrong {
        file: String,
        line: usize,
        column: usize,
        message: String,
        meant: Option<String>,
    },
}

fn advice(meant: &Option<String>) -> String {
    meant
        .as_ref()
        .map_or(String::new(), |word| format!("; did you mean `{word}`?"))
}

/// Adds the most similar word to a message, in front of the list of all words, which can be long.
fn advised(message: &str, meant: &Option<String>) -> String {
    let advice = advice(meant);
    match message.find(", expected ").filter(|_| !advice.is_empty()) {
        Some(at) => {
            let (fault, list) = message.split_at(at);
            format!("{fault}{advice} {}", list.trim_start_matches([',', ' ']))
        }
        None => format!("{message}{advice}"),
    }
}

/// Returns the directory of the scenario files.
pub fn directory() -> PathBuf {
    let here = Path::new("scenarios");
    if here.is_dir() {
        here.to_owned()
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
    }
}

/// Lists the scenario files by name, from the directory and its direct subdirectories.
///
/// # Errors
/// [`ScenarioError::Unreadable`].
pub fn list() -> Result<BTreeMap<String, PathBuf>, ScenarioError> {
    let dir = directory();
    let unreadable = |e: std::io::Error| ScenarioError::Unreadable {
        file: dir.display().to_string(),
        reason: e.to_string(),
    };
    let read = |dir: &Path| -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    };
    let mut paths = read(&dir).map_err(unreadable)?;
    for area in paths.clone().iter().filter(|path| path.is_dir()) {
        paths.extend(read(area).map_err(unreadable)?);
    }
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    Ok(paths.into_iter().map(|path| (stem(&path), path)).collect())
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Reads a scenario by its file or its name. An argument with an extension is a file.
///
/// # Errors
/// Any [`ScenarioError`].
pub fn load(name: &str) -> Result<Scenario, ScenarioError> {
    let given = PathBuf::from(name);
    let path = if given.extension().is_some() {
        given
    } else {
        let files = list()?;
        match files.get(name) {
            Some(path) => path.clone(),
            None => {
                let meant = nearest(name, files.keys().map(String::as_str));
                let known = files.keys().cloned().collect::<Vec<_>>().join(", ");
                return Err(ScenarioError::Unknown {
                    name: name.to_owned(),
                    known,
                    meant,
                });
            }
        }
    };
    let file = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|e| ScenarioError::Unreadable {
        file: file.clone(),
        reason: e.to_string(),
    })?;
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        read::parse_json(&file, &text)
    } else {
        parse(&file, &text)
    }
}

/// Returns the known word most similar to the unknown one in a message of serde, which quotes the
/// unknown word first and then the known ones, in backquotes.
fn meant(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    nearest(unknown, words)
}

/// Returns the word with the smallest edit distance, if that is small enough for a typing mistake.
pub fn nearest<'a>(unknown: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    words
        .map(|word| (distance(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= 1 + word.len() / 3)
        .map(|(_, word)| word.to_owned())
}

/// Returns the Levenshtein distance of two words.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests;
