//! The simulator's rooms: a file of `sim/src` imports from its own room and from the rooms below it.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

use super::{Finding, Rule};

/// The rooms, the lowest first.
pub const ROOMS: &[&str] = &[
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

/// Every import of one file that runs against the order.
pub fn check(path: &str, source: &str) -> Vec<Finding> {
    let Some(inner) = path.strip_prefix("sim/src/") else {
        return Vec::new();
    };
    let finding = |line: usize, what: &str, message: String| Finding {
        path: path.to_owned(),
        line,
        rule: Rule::Rooms,
        what: what.to_owned(),
        message,
    };
    let room = inner.split('/').next().unwrap_or_default();
    let Some(own) = level(room) else {
        let message = format!("`{inner}` is in none of the rooms: {}", ROOMS.join(", "));
        let is_root = ROOTS.contains(&inner);
        return if is_root {
            Vec::new()
        } else {
            vec![finding(1, room, message)]
        };
    };
    // A file that is no Rust does not compile either: the compiler says where.
    let tokens: TokenStream = source.parse().unwrap_or_default();
    let mut named = Vec::new();
    collect(tokens, &mut named);
    let against = named.into_iter().filter_map(|name| {
        let other = name.to_string();
        let message = format!("`{room}` may not import from `{other}`, which stands above it");
        let is_above = level(&other).is_some_and(|other| other > own);
        is_above.then(|| finding(name.span().start().line, &other, message))
    });
    against.collect()
}

fn level(room: &str) -> Option<usize> {
    ROOMS.iter().position(|known| *known == room)
}

/// The first names after each `crate::`, in paths and in groups of imports.
fn collect(tokens: TokenStream, named: &mut Vec<Ident>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(name) if name == "crate" => {
                let colons =
                    |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ':');
                while tokens.next_if(colons).is_some() {}
                match tokens.peek() {
                    Some(TokenTree::Ident(first)) => named.push(first.clone()),
                    Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                        named.extend(first_of_each(group.stream()));
                    }
                    _ => {}
                }
            }
            TokenTree::Group(group) => collect(group.stream(), named),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// The first name of each part of a list with commas.
fn first_of_each(list: TokenStream) -> Vec<Ident> {
    let mut firsts = Vec::new();
    let mut begins = true;
    for token in list {
        match token {
            TokenTree::Ident(name) if begins => {
                firsts.push(name);
                begins = false;
            }
            TokenTree::Punct(mark) if mark.as_char() == ',' => begins = true,
            _ => {}
        }
    }
    firsts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn against(path: &str, source: &str) -> Vec<(usize, String)> {
        check(path, source)
            .into_iter()
            .map(|finding| (finding.line, finding.what))
            .collect()
    }

    #[test]
    fn imports_run_downwards() {
        let source = "use crate::plan::Plan;\nuse crate::{cluster, run::{self, outcome}};\n\
                      /// See [`crate::cli`].\nfn f() { let _ = [crate::fleet::sweep()]; }";
        let above = |names: &[(usize, &str)]| {
            names
                .iter()
                .map(|(line, name)| (*line, (*name).to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(against("sim/src/cli/mod.rs", source), above(&[]));
        assert_eq!(
            against("sim/src/faults/disk.rs", source),
            above(&[(1, "plan"), (2, "run"), (4, "fleet")])
        );
        assert_eq!(against("node/src/wiring.rs", source), above(&[]));
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
