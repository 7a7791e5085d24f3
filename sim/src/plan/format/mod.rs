//! Scenario files: plans in TOML, written by hand or by [`to_toml`]. What is wrong in one is told
//! with line, column and the nearest known word. The form is that of [`File`] and of
//! [`crate::faults::Fault`]; nothing else knows their words.

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
pub use schema::{guide_of_faults, schema};
pub use write::to_toml;

/// A scenario: a plan, or a plan and the swarm that adds to it by the seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Where it was read.
    pub path: PathBuf,
    /// As written.
    pub plan: Plan,
    /// What is drawn besides.
    pub swarm: Option<Swarm>,
}

impl Scenario {
    /// The seed to run: the one that is given, else that of the file, else 1.
    pub fn seed(&self, given: Option<u64>) -> u64 {
        given.or(self.plan.seed).unwrap_or(1)
    }

    /// The plan for a seed.
    pub fn plan(&self, seed: u64) -> Plan {
        match &self.swarm {
            Some(swarm) => generator::draw(&self.plan, swarm, seed),
            None => self.plan.clone(),
        }
    }
}

/// Why a text is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{file}: {reason}")]
    Unreadable { file: String, reason: String },
    /// There is no such scenario.
    #[error("no scenario {name:?}; there are {known}{}", advice(.meant))]
    Unknown {
        name: String,
        known: String,
        meant: Option<String>,
    },
    /// A word or a value is wrong.
    #[error("{file}:{line}:{column}: {message}{}", advice(.meant))]
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

/// The directory of the scenario files.
pub fn directory() -> PathBuf {
    let here = Path::new("scenarios");
    if here.is_dir() {
        here.to_owned()
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios")
    }
}

/// The scenario files, by name: those of the directory, and those of its areas, one below.
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

/// Reads a scenario, given by its file or its name.
///
/// # Errors
/// See [`ScenarioError`].
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
    match path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        true => read::parse_json(&file, &text),
        false => parse(&file, &text),
    }
}

/// The known word that is nearest to the unknown one in a message of serde's, which puts both
/// between back-quotes, the unknown one first.
fn meant(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    nearest(unknown, words)
}

/// The word that takes the fewest edits, if they are few.
pub fn nearest<'a>(unknown: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    words
        .map(|word| (distance(unknown, word), word))
        .min()
        .filter(|(distance, word)| *distance <= 1 + word.len() / 3)
        .map(|(_, word)| word.to_owned())
}

/// Edits (insert, remove, replace) from one word to the other.
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
