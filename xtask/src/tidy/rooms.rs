//! The simulator's rooms: a file of `sim/src` imports from its own room and from the rooms below it.

use super::scan::{Path, Source};

/// The rooms, the lowest first.
const ROOMS: &[&str] = &[
    "params",
    "events",
    "invariants",
    "cluster",
    "workload",
    "faults",
    "plan",
    "peers",
    "run",
    "fleet",
    "report",
    "cli",
];

/// Files beside the rooms: they declare or start them.
const ROOTS: &[&str] = &["lib.rs", "main.rs"];

/// The imports of one file that run against the order: line, room, message.
pub fn check(path: &str, source: &Source) -> Vec<(usize, String, String)> {
    let Some(inner) = path
        .strip_prefix("sim/src/")
        .filter(|inner| !ROOTS.contains(inner))
    else {
        return Vec::new();
    };
    let module = inner.trim_end_matches(".rs").trim_end_matches("/mod");
    let module: Vec<&str> = module.split('/').collect();
    let room = module[0];
    let Some(own) = level(room) else {
        let message = format!("`{inner}` is in none of the rooms: {}", ROOMS.join(", "));
        return vec![(1, inner.to_owned(), message)];
    };
    let against = source.paths.iter().filter_map(|path| {
        let other = imported(path, module.len())?;
        let message = format!("`{room}` may not import from `{other}`, which is above it");
        (level(other)? > own).then(|| (path.line, other.to_owned(), message))
    });
    against.collect()
}

fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// The name after `crate`, or after as many `super` as lead there from a module of this depth.
fn imported(path: &Path, depth: usize) -> Option<&str> {
    let supers = path
        .parts
        .iter()
        .take_while(|part| *part == "super")
        .count();
    let is_absolute = path.parts.first().is_some_and(|part| part == "crate");
    let first = if is_absolute { 1 } else { supers };
    let name = path
        .parts
        .get(first)
        .filter(|_| is_absolute || supers == depth)?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::scan::scan;

    fn against(path: &str, source: &str) -> Vec<(usize, String)> {
        let found = check(path, &scan(source).expect("Rust"));
        found
            .into_iter()
            .map(|(line, what, _)| (line, what))
            .collect()
    }

    #[test]
    fn imports_run_downwards() {
        let source = "use crate::plan::Plan;\nuse crate::{cluster, run::{self, outcome}};\n\
                      /// See [`crate::cli`].\nfn f() { let _ = [crate::fleet::sweep()]; }";
        let above = [(1, "plan"), (2, "run"), (2, "run"), (4, "fleet")];
        let above = above.map(|(line, name)| (line, name.to_owned()));
        assert_eq!(against("sim/src/faults/disk.rs", source), above);
        for path in ["sim/src/cli/mod.rs", "node/src/wiring.rs"] {
            assert_eq!(against(path, source), []);
        }
        let source = "use super::run; use super::super::cli; use super::super::super::cli;";
        let cli = [(1, "cli".to_owned())];
        assert_eq!(
            against("sim/src/plan/mod.rs", source),
            [(1, "run".to_owned())]
        );
        assert_eq!(against("sim/src/plan/generator.rs", source), cli);
        assert_eq!(against("sim/src/plan/format/read.rs", source), cli);
    }

    #[test]
    fn every_file_is_in_a_room() {
        assert_eq!(against("sim/src/lib.rs", "pub mod cli;"), []);
        assert_eq!(
            against("sim/src/swarm.rs", ""),
            [(1, "swarm.rs".to_owned())]
        );
    }
}
