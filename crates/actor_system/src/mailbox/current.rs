//! Which message the running code is handling: a frame that is in place while an actor's handler is polled, and
//! only then. Tasks beside the actor have none.

use std::{
    cell::RefCell,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use alys_runtime::mutant;

use crate::{
    actor::cell::Cell,
    error::{Failure, Phase, panic_text},
    lock,
    mailbox::envelope::{Link, MessageId, Meta},
};

thread_local! {
    static CURRENT: RefCell<Option<Box<Frame>>> = const { RefCell::new(None) };
}

/// Waits that are followed when looking for a circle; a system has fewer actors that wait at once.
const MAX_FOLLOWED: usize = 4096;

/// The message in an actor's hand.
pub(crate) struct Frame {
    pub home: Arc<Cell>,
    pub id: MessageId,
    pub correlation: MessageId,
    pub kind: &'static str,
    pub meta: Meta,
    pub loses_replies: bool,
}

impl Frame {
    pub fn new(home: Arc<Cell>) -> Self {
        let id = MessageId::new(home.number, 0);
        Self {
            home,
            id,
            correlation: id,
            kind: "",
            meta: Meta::default(),
            loses_replies: false,
        }
    }

    /// The next message is in hand.
    pub fn begin(&mut self, kind: &'static str, meta: Meta) {
        self.id = MessageId::new(self.home.number, meta.sequence);
        self.correlation = meta.correlation.unwrap_or(self.id);
        self.kind = kind;
        self.meta = meta;
        self.loses_replies = false;
    }
}

/// An actor's own code, polled with its frame in place; panics and errors are failures.
pub(crate) struct InFrame<'a, F> {
    pub frame: &'a mut Option<Box<Frame>>,
    pub span: Option<tracing::Span>,
    pub phase: Phase,
    pub future: Pin<&'a mut F>,
}

impl<F, E> Future for InFrame<'_, F>
where
    F: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            frame,
            span,
            phase,
            future,
        } = &mut *self;
        let placed = Placed::new(frame);
        let entered = span.as_ref().map(tracing::Span::enter);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        drop((entered, placed));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Err(Failure::Errored {
                phase: *phase,
                source: Arc::new(error),
            })),
            Err(panic) => Poll::Ready(Err(Failure::Panicked {
                phase: *phase,
                message: panic_text(&*panic),
            })),
        }
    }
}

/// Takes the frame back when the poll is over, by a panic too.
struct Placed<'a> {
    frame: &'a mut Option<Box<Frame>>,
    /// Systems inside of systems: a handler may block on another runtime.
    outer: Option<Box<Frame>>,
}

impl<'a> Placed<'a> {
    fn new(frame: &'a mut Option<Box<Frame>>) -> Self {
        let outer = CURRENT.with(|current| mem::replace(&mut *current.borrow_mut(), frame.take()));
        Self { frame, outer }
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        *self.frame =
            CURRENT.with(|current| mem::replace(&mut *current.borrow_mut(), self.outer.take()));
    }
}

/// Looks at the frame, if a handler is running.
pub(crate) fn with<T>(look: impl FnOnce(&mut Frame) -> T) -> Option<T> {
    CURRENT.with(|current| current.borrow_mut().as_deref_mut().map(look))
}

/// Whether a fault of a test takes the answers of this message away.
pub(crate) fn loses_replies() -> bool {
    with(|frame| frame.loses_replies).unwrap_or(false)
}

/// An actor waits in its handler for another, until this is dropped.
pub(crate) struct Waiting {
    asker: Arc<Cell>,
    pub chain: Arc<Link>,
}

/// For whom an actor waits, and with what question.
#[derive(Clone)]
pub(crate) struct Wait {
    target: Arc<Cell>,
    kind: &'static str,
    link: Arc<Link>,
}

/// Who waits for the end of `link` waits for `target` from now on, to whom the question was passed on. For whom
/// it waited before; none if it does not wait any more.
pub(crate) fn pass_on(
    link: &Arc<Link>,
    target: &Arc<Cell>,
    kind: &'static str,
) -> Option<(Arc<Cell>, &'static str)> {
    let mut waits = lock(&link.asker.waits);
    let wait = waits
        .iter_mut()
        .find(|wait| Arc::ptr_eq(&wait.link, link))?;
    Some((
        mem::replace(&mut wait.target, target.clone()),
        mem::replace(&mut wait.kind, kind),
    ))
}

/// Notes that the running handler waits for `target`. None outside of handlers.
///
/// # Errors
/// The circle, as text, if `target` waits for this actor already, itself or through others: neither would ever
/// go on.
pub(crate) fn wait_for(
    target: Option<&Arc<Cell>>,
    kind: &'static str,
) -> Result<Option<Waiting>, Arc<str>> {
    let Some(target) = target else {
        return Ok(None);
    };
    if mutant::active("cycle-unseen") {
        return Ok(None);
    }
    let Some(link) = with(|frame| Link {
        asker: frame.home.clone(),
        kind: frame.kind,
        parent: frame.meta.chain.clone(),
        is_over: AtomicBool::new(false),
    }) else {
        return Ok(None);
    };
    let (asker, chain) = (link.asker.clone(), Arc::new(link));
    // Who passed a question on does not wait: those askers are in the chain only.
    let (mut path, mut asked) = (vec![(target.clone(), "")], kind);
    for link in Link::chain(&Some(chain.clone())) {
        if link.is_over.load(Relaxed) {
            // It has given up on this one, so nobody before it waits for this one either.
            break;
        }
        path.push((link.asker.clone(), asked));
        asked = link.kind;
        if Arc::ptr_eq(&link.asker, target) {
            path.reverse();
            return Err(circle(&path));
        }
    }
    lock(&asker.waits).push(Wait {
        target: target.clone(),
        kind,
        link: chain.clone(),
    });
    let waiting = Waiting { asker, chain };
    match follow(&waiting.asker, target) {
        None => Ok(Some(waiting)),
        Some(mut path) => {
            path.insert(0, (waiting.asker.clone(), kind));
            Err(circle(&path))
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.chain.is_over.store(true, Relaxed);
        let mut waits = lock(&self.asker.waits);
        if let Some(at) = waits
            .iter()
            .position(|wait| Arc::ptr_eq(&wait.link, &self.chain))
        {
            waits.swap_remove(at);
        }
    }
}

/// The way from `from` to `asker` along those who wait for each other.
fn follow(asker: &Arc<Cell>, from: &Arc<Cell>) -> Option<Vec<(Arc<Cell>, &'static str)>> {
    // Each actor found, with the place of the one that waits for it and what it was asked.
    let mut found: Vec<(Arc<Cell>, usize, &'static str)> = vec![(from.clone(), 0, "")];
    let mut at = 0;
    while at < found.len() && found.len() < MAX_FOLLOWED {
        let waits = lock(&found[at].0.waits).clone();
        for Wait { target, kind, .. } in waits {
            if Arc::ptr_eq(&target, asker) {
                let mut path = vec![(target, ""), (found[at].0.clone(), kind)];
                let mut step = at;
                while step != 0 {
                    let (_, before, asked) = found[step];
                    path.push((found[before].0.clone(), asked));
                    step = before;
                }
                path.reverse();
                return Some(path);
            }
            if !found.iter().any(|(other, ..)| Arc::ptr_eq(other, &target)) {
                found.push((target, at, kind));
            }
        }
        at += 1;
    }
    None
}

/// `a -[question]-> b -[question]-> a`: each actor with what it asks the next one.
fn circle(path: &[(Arc<Cell>, &'static str)]) -> Arc<str> {
    let mut text = String::new();
    for (at, (cell, kind)) in path.iter().enumerate() {
        text.push_str(&cell.path);
        if at + 1 < path.len() {
            text.push_str(&format!(" -[{kind}]-> "));
        }
    }
    text.into()
}
