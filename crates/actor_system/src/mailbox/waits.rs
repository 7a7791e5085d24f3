//! Graph of the actors that wait for each other in their handlers. An `ask` that would close a
//! cycle is refused immediately, because the actors in it would deadlock.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    interceptor, lock,
    mailbox::{
        current,
        envelope::Link,
        home::{Home, MessageTables},
    },
};

/// The waits of one system, by the number of the waiting actor.
#[derive(Default)]
pub(crate) struct WaitGraph(Mutex<Waits>);

type Waits = BTreeMap<u64, Vec<Wait>>;

/// The actors of a cycle, the first also as the last, each with the kind of its question to the
/// next one.
type Cycle = Vec<(u64, &'static str)>;

/// Target of a wait and the kind of the question.
struct Wait {
    target: u64,
    kind: &'static str,
    link: Arc<Link>,
}

/// Guard of a wait: the running handler waits for another actor until it is dropped.
pub(crate) struct Waiting {
    tables: Arc<MessageTables>,
    pub chain: Arc<Link>,
}

/// Records that the running handler waits for `target`. Returns none outside of handlers, and for
/// an actor of another system, because actor numbers are local to a system.
///
/// # Errors
/// The cycle as text, if `target` already waits for this actor, directly or through others.
pub(crate) fn wait_for(
    target: Option<&Home>,
    kind: &'static str,
) -> Result<Option<Waiting>, Arc<str>> {
    let Some((target, link)) = link_to(target) else {
        return Ok(None);
    };
    let chain = Arc::new(link);
    if let Some(cycle) = target.tables.waits.insert(&chain, target.number, kind) {
        return Err(cycle_text(&target.tables, &cycle));
    }
    Ok(Some(Waiting {
        tables: target.tables.clone(),
        chain,
    }))
}

/// True if the running handler would close a cycle by waiting for `target`. It records no wait,
/// because a concurrent question would find it and fail.
pub(crate) fn would_cycle(target: Option<&Home>) -> bool {
    link_to(target).is_some_and(|(target, link)| {
        let waits = lock(&target.tables.waits.0);
        find_cycle(&waits, &link, target.number, "").is_some()
    })
}

/// Redirects the wait of the asker of `link` to `target`, to which its question is forwarded.
/// Returns the previous target and kind, or none if the asker no longer waits.
///
/// # Errors
/// The cycle as text, if `target` waits for the asker, directly or through others.
pub(crate) fn redirect(
    link: &Arc<Link>,
    target: &Home,
    kind: &'static str,
) -> Result<Option<(u64, &'static str)>, Arc<str>> {
    let redirected = target.tables.waits.redirect(link, target.number, kind);
    redirected.map_err(|cycle| cycle_text(&target.tables, &cycle))
}

/// The running handler as a link in front of `target`. None if there is no handler, the target is
/// in another system or cycles are ignored.
fn link_to(target: Option<&Home>) -> Option<(&Home, Link)> {
    let target = target?;
    let link = current::with(|frame| {
        let is_sibling = Arc::ptr_eq(&frame.tables, &target.tables);
        is_sibling.then(|| Link {
            asker: frame.number,
            kind: frame.kind,
            parent: frame.meta.chain.clone(),
            is_over: AtomicBool::new(false),
        })
    });
    let link = link.flatten().filter(|_| !interceptor::ignores_cycles());
    link.map(|link| (target, link))
}

impl WaitGraph {
    /// Records that the asker of `link` waits for `target`, or returns the cycle that this would
    /// close. The check and the insertion are one step, because two questions that close a cycle
    /// together would otherwise both pass the check.
    fn insert(&self, link: &Arc<Link>, target: u64, kind: &'static str) -> Option<Cycle> {
        let mut waits = lock(&self.0);
        let cycle = find_cycle(&waits, link, target, kind);
        if cycle.is_none() {
            waits.entry(link.asker).or_default().push(Wait {
                target,
                kind,
                link: link.clone(),
            });
        }
        cycle
    }

    fn redirect(
        &self,
        link: &Arc<Link>,
        target: u64,
        kind: &'static str,
    ) -> Result<Option<(u64, &'static str)>, Cycle> {
        let mut waits = lock(&self.0);
        if find_wait(&mut waits, link).is_none() {
            return Ok(None);
        }
        if !interceptor::ignores_cycles()
            && let Some(cycle) = cycle_of_waits(&waits, link.asker, target, kind)
        {
            return Err(cycle);
        }
        Ok(find_wait(&mut waits, link).map(|wait| {
            let previous = (wait.target, wait.kind);
            wait.target = target;
            wait.kind = kind;
            previous
        }))
    }

    /// Restores the wait of the asker of `link` after a redirection whose target refused the
    /// message.
    pub fn restore(&self, link: &Arc<Link>, target: u64, kind: &'static str) {
        if let Some(wait) = find_wait(&mut lock(&self.0), link) {
            wait.target = target;
            wait.kind = kind;
        }
    }

    fn end(&self, link: &Arc<Link>) {
        let mut waits = lock(&self.0);
        link.is_over.store(true, Relaxed);
        let Some(waits) = waits.get_mut(&link.asker) else {
            return;
        };
        if let Some(at) = waits.iter().position(|wait| Arc::ptr_eq(&wait.link, link)) {
            waits.swap_remove(at);
        }
    }

    /// Removes the waits of an actor that has terminated.
    pub fn remove(&self, number: u64) {
        let removed = lock(&self.0).remove(&number);
        drop(removed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.tables.waits.end(&self.chain);
    }
}

/// The cycle that the asker of `link` would close by waiting for `target`.
fn find_cycle(waits: &Waits, link: &Link, target: u64, kind: &'static str) -> Option<Cycle> {
    cycle_of_askers(link, target, kind).or_else(|| cycle_of_waits(waits, link.asker, target, kind))
}

/// The cycle that `asker` would close in the graph by waiting for `target`.
fn cycle_of_waits(waits: &Waits, asker: u64, target: u64, kind: &'static str) -> Option<Cycle> {
    if target == asker {
        return Some(vec![(asker, kind), (asker, "")]);
    }
    let mut path = find_path(waits, target, asker)?;
    path.insert(0, (asker, kind));
    Some(path)
}

fn find_wait<'a>(waits: &'a mut Waits, link: &Arc<Link>) -> Option<&'a mut Wait> {
    let waits = waits.get_mut(&link.asker)?;
    waits.iter_mut().find(|wait| Arc::ptr_eq(&wait.link, link))
}

/// The cycle if `target` is among the actors that wait for the handler. The chain is needed besides
/// the graph, because an actor that forwarded a question does not wait itself, and its askers are
/// linked to the handler only through the chain.
fn cycle_of_askers(link: &Link, target: u64, mut kind: &'static str) -> Option<Cycle> {
    let mut path = vec![(target, "")];
    for link in Link::chain(Some(link)) {
        if link.is_over.load(Relaxed) {
            // This asker has stopped waiting, so the askers before it do not depend on this handler
            // either.
            return None;
        }
        path.push((link.asker, kind));
        kind = link.kind;
        if link.asker == target {
            path.reverse();
            return Some(path);
        }
    }
    None
}

/// The shortest path from `from` to `to` along the waits. The search visits each actor once, so the
/// number of waits bounds it.
fn find_path(waits: &Waits, from: u64, to: u64) -> Option<Cycle> {
    // The list of an actor that no longer waits stays, empty.
    if waits.get(&from).is_none_or(Vec::is_empty) {
        return None;
    }
    // Breadth-first search: each actor found, the index of its predecessor, and the kind of the
    // question between them.
    let mut found: Vec<(u64, usize, &'static str)> = vec![(from, 0, "")];
    let mut known = BTreeSet::from([from]);
    let mut at = 0;
    while let Some((actor, ..)) = found.get(at).copied() {
        for wait in waits.get(&actor).into_iter().flatten() {
            if wait.target == to {
                let mut path = vec![(wait.target, ""), (actor, wait.kind)];
                let mut step = at;
                while step != 0 {
                    let (_, before, asked) = found[step];
                    path.push((found[before].0, asked));
                    step = before;
                }
                path.reverse();
                return Some(path);
            }
            if known.insert(wait.target) {
                found.push((wait.target, at, wait.kind));
            }
        }
        at += 1;
    }
    None
}

/// Formats a cycle as `a -[kind]-> b -[kind]-> a`.
fn cycle_text(tables: &MessageTables, path: &[(u64, &'static str)]) -> Arc<str> {
    let mut text = String::new();
    for (at, (actor, kind)) in path.iter().enumerate() {
        match tables.path(*actor) {
            Some(path) => text.push_str(&path),
            None => text.push_str("(ended)"),
        }
        if at + 1 < path.len() {
            text.push_str(&format!(" -[{kind}]-> "));
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(asker: u64) -> Arc<Link> {
        Arc::new(Link {
            asker,
            kind: "test",
            parent: None,
            is_over: AtomicBool::new(false),
        })
    }

    #[test]
    fn a_cycle_of_ten_thousand_actors_is_found() {
        let graph = WaitGraph::default();
        let last = 10_000;
        for actor in 1..last {
            assert_eq!(graph.insert(&link(actor), actor + 1, "ask"), None);
        }
        let cycle = graph.insert(&link(last), 1, "ask").map(|path| path.len());
        assert_eq!(cycle, Some(10_001));
    }

    #[test]
    fn a_refused_wait_leaves_no_trace() {
        let graph = WaitGraph::default();
        let waits = link(1);
        assert_eq!(graph.insert(&waits, 2, "ask"), None);
        assert!(graph.insert(&link(2), 1, "ask").is_some());
        graph.end(&waits);
        assert_eq!(graph.insert(&link(1), 2, "ask"), None);
    }
}
