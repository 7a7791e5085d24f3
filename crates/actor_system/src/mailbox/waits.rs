//! Actors that wait for each other in their handlers. An `ask` that would close a circle of them is
//! refused at once, because none of them would ever go on.

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

/// Actors that a search for a circle visits. A system has fewer that wait at once.
const MAX_VISITED: usize = 4096;

/// The waits of one system, by the number of the actor that waits.
#[derive(Default)]
pub(crate) struct WaitGraph(Mutex<Waits>);

type Waits = BTreeMap<u32, Vec<Wait>>;

/// The actor that another one waits for, and the question it was asked.
struct Wait {
    target: u32,
    kind: &'static str,
    link: Arc<Link>,
}

/// An actor waits in its handler for another, until this is dropped.
pub(crate) struct Waiting {
    tables: Arc<MessageTables>,
    pub chain: Arc<Link>,
}

/// Records that the running handler waits for `target`. None outside of handlers, and none for an
/// actor of another system, whose numbers mean other actors.
///
/// # Errors
/// The circle, as text, if `target` waits for this actor already, itself or through others.
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

/// True if the running handler must not wait for `target`.
pub(crate) fn would_cycle(target: Option<&Home>) -> bool {
    wait_for(target, "").is_err()
}

/// The circle if `target` is one of those that wait for the handler, directly or through others. An
/// actor that forwarded a question does not wait itself: those that asked it are only in the chain.
fn circle_of_askers(
    chain: &Arc<Link>,
    target: u32,
    mut kind: &'static str,
) -> Option<Vec<(u32, &'static str)>> {
    let mut path = vec![(target, "")];
    for link in Link::chain(Some(chain)) {
        if link.is_over.load(Relaxed) {
            // This asker has given up on the next one, so those before it do not depend on it
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
    /// Records that the asker of `link` waits for `target`; or returns the circle that this would
    /// close.
    fn insert(
        &self,
        link: &Arc<Link>,
        target: u32,
        kind: &'static str,
    ) -> Option<Vec<(u32, &'static str)>> {
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

    /// Lets the asker of `link` wait for `target` from now on, to which its question was forwarded.
    /// Returns the previous target and question, or none if it does not wait any more.
    pub fn redirect(
        &self,
        link: &Arc<Link>,
        target: u32,
        kind: &'static str,
    ) -> Option<(u32, &'static str)> {
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

    /// Forgets an actor that has ended for good.
    pub fn remove(&self, number: u32) {
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
fn follow(waits: &Waits, asker: u32, from: u32) -> Option<Vec<(u32, &'static str)>> {
    // Each actor found, with the place of the one that waits for it and the question.
    let mut found: Vec<(u32, usize, &'static str)> = vec![(from, 0, "")];
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

/// `a -[question]-> b -[question]-> a`: each actor with its question to the next one.
fn circle_text(tables: &MessageTables, path: &[(u32, &'static str)]) -> Arc<str> {
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
