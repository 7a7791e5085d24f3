//! Rooms of a crate: a file imports from its own room and from the rooms below it.

use super::scan::{Path, Source};

/// A crate with an order of rooms.
struct House {
    src: &'static str,
    /// The lowest first.
    rooms: &'static [&'static str],
    /// Files beside the rooms.
    roots: &'static [&'static str],
}

const HOUSES: &[House] = &[
    House {
        src: "sim/src/",
        rooms: &[
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
        ],
        roots: &["lib.rs", "main.rs"],
    },
    House {
        src: "crates/actor_system/src/",
        rooms: &["mailbox", "actor", "supervision", "system", "testkit"],
        roots: &["lib.rs", "interceptor.rs"],
    },
];

/// The imports of one file that run against the order: line, room, message.
pub fn check(path: &str, source: &Source) -> Vec<(usize, String, String)> {
    let Some((house, inner)) = HOUSES
        .iter()
        .find_map(|house| Some((house, path.strip_prefix(house.src)?)))
        .filter(|(house, inner)| !house.roots.contains(inner))
    else {
        return Vec::new();
    };
    let module = inner.trim_end_matches(".rs").trim_end_matches("/mod");
    let module: Vec<&str> = module.split('/').collect();
    let room = module[0];
    let level = |room: &str| house.rooms.iter().position(|known| *known == room);
    let Some(own) = level(room) else {
        let message = format!(
            "`{inner}` is in none of the rooms: {}",
            house.rooms.join(", ")
        );
        return vec![(1, inner.to_owned(), message)];
    };
    let against = source.paths.iter().filter_map(|path| {
        let other = imported(path, module.len())?;
        let message = format!("`{room}` may not import from `{other}`, which is above it");
        (level(other)? > own).then(|| (path.line, other.to_owned(), message))
    });
    against.collect()
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
    fn a_crate_has_its_own_rooms() {
        let source = "use crate::{lock, actor::cell::Cell};";
        let actor = [(1, "actor".to_owned())];
        let path = "crates/actor_system/src/mailbox/home.rs";
        assert_eq!(against(path, source), actor);
        let path = "crates/actor_system/src/supervision/tree.rs";
        assert_eq!(against(path, source), []);
        assert_eq!(against("crates/runtime/src/time.rs", source), []);
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
