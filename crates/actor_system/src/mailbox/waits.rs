//! Graph of the actors that wait for each other in their handlers. An `ask` that would close a
//! cycle is refused immediately, because the actors in it would deadlock.

use std::{
    collections::BTreeMap,
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

/// Maximum actors that a search for a cycle visits; it misses cycles beyond. Systems have fewer
/// actors waiting at the same time.
const MAX_VISITED: usize = 4096;

/// The waits of one system, by the number of the waiting actor.
#[derive(Default)]
pub(crate) struct WaitGraph(Mutex<Waits>);

type Waits = BTreeMap<u64, Vec<Wait>>;

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
    let Some(target) = target else {
        return Ok(None);
    };
    let link = current::with(|frame| {
        let is_sibling = Arc::ptr_eq(&frame.tables, &target.tables);
        is_sibling.then(|| Link {
            asker: frame.number,
            kind: frame.kind,
            parent: frame.meta.chain.clone(),
            is_over: AtomicBool::new(false),
        })
    });
    let Some(link) = link.flatten() else {
        return Ok(None);
    };
    if interceptor::ignores_cycles() {
        return Ok(None);
    }
    let chain = Arc::new(link);
    let circle = circle_of_askers(&chain, target.number, kind)
        .or_else(|| target.tables.waits.insert(&chain, target.number, kind));
    if let Some(path) = circle {
        return Err(circle_text(&target.tables, &path));
    }
    Ok(Some(Waiting {
        tables: target.tables.clone(),
        chain,
    }))
}

/// True if the running handler would close a cycle by waiting for `target`.
pub(crate) fn would_cycle(target: Option<&Home>) -> bool {
    wait_for(target, "").is_err()
}

/// The cycle if `target` is among the actors that wait for the handler. The chain is needed besides
/// the graph, because an actor that forwarded a question does not wait itself, and its askers are
/// linked to the handler only through the chain.
fn circle_of_askers(
    chain: &Arc<Link>,
    target: u64,
    mut kind: &'static str,
) -> Option<Vec<(u64, &'static str)>> {
    let mut path = vec![(target, "")];
    for link in Link::chain(Some(&**chain)) {
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

impl WaitGraph {
    /// Records that the asker of `link` waits for `target`, or returns the cycle that this would
    /// close.
    fn insert(
        &self,
        link: &Arc<Link>,
        target: u64,
        kind: &'static str,
    ) -> Option<Vec<(u64, &'static str)>> {
        let mut waits = lock(&self.0);
        if let Some(mut path) = follow(&waits, link.asker, target) {
            path.insert(0, (link.asker, kind));
            return Some(path);
        }
        waits.entry(link.asker).or_default().push(Wait {
            target,
            kind,
            link: link.clone(),
        });
        None
    }

    /// Redirects the wait of the asker of `link` to `target`, to which its question was forwarded.
    /// Returns the previous target and kind, or none if the asker no longer waits.
    pub fn redirect(
        &self,
        link: &Arc<Link>,
        target: u64,
        kind: &'static str,
    ) -> Option<(u64, &'static str)> {
        let mut waits = lock(&self.0);
        let wait = waits
            .get_mut(&link.asker)?
            .iter_mut()
            .find(|wait| Arc::ptr_eq(&wait.link, link))?;
        let previous = (wait.target, wait.kind);
        wait.target = target;
        wait.kind = kind;
        Some(previous)
    }

    fn end(&self, link: &Arc<Link>) {
        let mut waits = lock(&self.0);
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
        self.chain.is_over.store(true, Relaxed);
        self.tables.waits.end(&self.chain);
    }
}

/// The path from `from` to `asker` along the waits.
fn follow(waits: &Waits, asker: u64, from: u64) -> Option<Vec<(u64, &'static str)>> {
    // Breadth-first search: each actor found, the index of its predecessor, and the kind of the
    // question between them.
    let mut found: Vec<(u64, usize, &'static str)> = vec![(from, 0, "")];
    let mut at = 0;
    while at < found.len() && found.len() < MAX_VISITED {
        let (actor, ..) = found[at];
        for wait in waits.get(&actor).into_iter().flatten() {
            if wait.target == asker {
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
            if !found.iter().any(|(other, ..)| *other == wait.target) {
                found.push((wait.target, at, wait.kind));
            }
        }
        at += 1;
    }
    None
}

/// Formats a cycle as `a -[kind]-> b -[kind]-> a`.
fn circle_text(tables: &MessageTables, path: &[(u64, &'static str)]) -> Arc<str> {
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
