//! The address of an actor, with `tell`, `send`, `ask` and `forward`.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::{Duration, Instant},
};

use alys_runtime::{buggify, rand, time};

use crate::{
    after, interceptor,
    mailbox::{
        Mailbox, Refused,
        access::Grant,
        backoff::Backoff,
        current,
        deadlines::Deadline,
        envelope::{Envelope, MessageId, Meta, Watched},
        error::{AskError, SendError, TellError},
        message::{Message, Overflow, Priority, Receipt, Reply},
        squeeze,
        waits::{self, Waiting},
    },
};

/// The address of an actor. Cheap to clone and valid across restarts. It is closed once the actor
/// has terminated, that is, stopped or failed and will not be restarted.
///
/// Messages of one sender and one priority are handled in the order in which the mailbox accepted
/// them.
pub struct Addr<M: Message> {
    mailbox: Arc<Mailbox<M>>,
    /// Rights of the holder of this copy; unrestricted if none.
    grant: Option<Arc<Grant>>,
}

/// Retry policy of [`Addr::ask_retrying`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Maximum attempts, the first included; zero counts as one.
    pub attempts: u32,
    /// Time limit of each attempt.
    pub each: Duration,
    /// Delays between attempts.
    pub backoff: Backoff,
}

impl<M: Message> Addr<M> {
    pub(crate) fn new(mailbox: Arc<Mailbox<M>>) -> Self {
        Self {
            mailbox,
            grant: None,
        }
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox<M>> {
        &self.mailbox
    }

    /// A copy of the address restricted by `grant`: messages that it does not allow are refused and
    /// recorded in its audit trail.
    pub fn granted(&self, grant: Arc<Grant>) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
            grant: Some(grant),
        }
    }

    /// Enqueues a message without waiting. [`Message::overflow`] decides the fate of a message that
    /// finds no room.
    ///
    /// # Errors
    /// [`TellError`], which returns the message, if there is no room, the access rules refuse it,
    /// the actor's circuit breaker is open, or the actor has terminated.
    pub fn tell(&self, msg: M) -> Result<Receipt, TellError<M>> {
        // The simulator reports a full mailbox at random, and while it squeezes the mailbox,
        // because every caller of `tell` must handle one.
        let path = self.mailbox.home().map(|home| &*home.path);
        if matches!(msg.overflow(), Overflow::Block | Overflow::Fail)
            && (squeeze::is_squeezed(path) || buggify!("actors.addr.full", 2_000))
        {
            return self.counted(Err(TellError::Full(msg)));
        }
        self.put(msg, Meta::default())
    }

    /// Same as [`tell`](Self::tell), with `priority` in place of the message's own.
    ///
    /// # Errors
    /// Same as [`tell`](Self::tell).
    pub fn tell_as(&self, priority: Priority, msg: M) -> Result<Receipt, TellError<M>> {
        let msg = self.allow(msg)?;
        let overflow = msg.overflow();
        self.counted(self.push(
            msg,
            Meta {
                priority,
                ..Meta::default()
            },
            overflow,
            None,
        ))
    }

    /// Tells a message that arrived from another process, with its correlation and deadline. A
    /// message past its deadline is dropped unless [`Message::expires`] is false.
    ///
    /// # Errors
    /// Same as [`tell`](Self::tell).
    pub fn tell_from(
        &self,
        msg: M,
        correlation: Option<MessageId>,
        deadline: Option<Instant>,
    ) -> Result<Receipt, TellError<M>> {
        self.put(
            msg,
            Meta {
                correlation,
                deadline,
                ..Meta::default()
            },
        )
    }

    /// Forwards the question that is being handled: the message carries its [`Reply`], and inherits
    /// its deadline and its place in the detection of wait cycles. Outside of a handler it equals
    /// [`tell`](Self::tell). A forward to another system carries the deadline only.
    ///
    /// # Errors
    /// Same as [`tell`](Self::tell), and [`SendError::Cycle`] if this actor waits for the asker,
    /// because neither could then answer the other.
    pub fn forward(&self, msg: M) -> Result<Receipt, SendError<M>> {
        let held = current::with(|frame| {
            // Actor numbers in the chain are local to a system, so the chain does not leave it.
            let is_sibling = self
                .mailbox
                .home()
                .is_some_and(|home| Arc::ptr_eq(&home.tables, &frame.tables));
            let chain = frame.meta.chain.clone().filter(|_| is_sibling);
            (chain, frame.meta.deadline)
        });
        let (chain, deadline) = held.unwrap_or_default();
        let link = chain.clone().zip(self.mailbox.home());
        let before = match &link {
            Some((link, home)) => match waits::redirect(link, home, msg.kind()) {
                Ok(before) => before,
                Err(cycle) => return Err(SendError::Cycle { msg, cycle }),
            },
            None => None,
        };
        let outcome = self.put(
            msg,
            Meta {
                chain,
                deadline,
                ..Meta::default()
            },
        );
        if let (Err(_), Some((link, home)), Some((target, kind))) = (&outcome, link, before) {
            // The target refused the message, so the wait is restored.
            home.tables.waits.restore(&link, target, kind);
        }
        Ok(outcome?)
    }

    /// Enqueues a message, and waits for room if its overflow policy is [`Overflow::Block`] (the
    /// default, without a time limit) or [`Overflow::Backoff`] (limited attempts). This is
    /// backpressure: the sender slows to the receiver's pace. The message is not enqueued if the
    /// future is dropped before it completes.
    ///
    /// # Errors
    /// Same as [`tell`](Self::tell), and [`SendError::Cycle`] if the receiver waits for the sending
    /// handler, because it would never make room.
    pub async fn send(&self, msg: M) -> Result<Receipt, SendError<M>> {
        let msg = self.allow(msg)?;
        match msg.overflow() {
            Overflow::Block => self.send_waiting(msg).await,
            Overflow::Backoff {
                initial,
                max,
                attempts,
            } => {
                let backoff = Backoff {
                    initial,
                    max,
                    factor: 2.0,
                    jitter: 0.2,
                };
                self.send_retrying(msg, backoff, attempts).await
            }
            overflow => {
                let meta = Meta {
                    priority: msg.priority(),
                    ..Meta::default()
                };
                Ok(self.counted(self.push(msg, meta, overflow, None))?)
            }
        }
    }

    async fn send_waiting(&self, msg: M) -> Result<Receipt, SendError<M>> {
        alys_runtime::buggify_yield!("actors.addr.late_send", 100_000);
        let meta = Meta {
            priority: msg.priority(),
            ..Meta::default()
        };
        let mut msg = match self.push(msg, meta.clone(), Overflow::Block, None) {
            Err(TellError::Full(msg)) => msg,
            taken => return Ok(taken?),
        };
        let _waiting = match waits::wait_for(self.mailbox.home(), msg.kind()) {
            Ok(waiting) => waiting,
            Err(cycle) => return Err(SendError::Cycle { msg, cycle }),
        };
        let size = msg.size();
        let mut line = Line {
            mailbox: &self.mailbox,
            ticket: None,
        };
        loop {
            poll_fn(|cx| self.mailbox.poll_room(&mut line.ticket, size, cx)).await;
            match self.push(msg, meta.clone(), Overflow::Block, line.ticket.take()) {
                Err(TellError::Full(back)) => msg = back,
                taken => return Ok(taken?),
            }
        }
    }

    async fn send_retrying(
        &self,
        mut msg: M,
        backoff: Backoff,
        attempts: u32,
    ) -> Result<Receipt, SendError<M>> {
        let meta = Meta {
            priority: msg.priority(),
            ..Meta::default()
        };
        for attempt in 0..attempts.max(1) {
            if attempt > 0 {
                time::sleep(backoff.delay(attempt - 1, rand::chance())).await;
            }
            match self.push(msg, meta.clone(), Overflow::Fail, None) {
                Err(TellError::Full(back)) => msg = back,
                taken => return Ok(taken?),
            }
        }
        Ok(self.counted(Err(TellError::Full(msg)))?)
    }

    /// Sends a question and waits up to `deadline` for the answer. `make` builds the message around
    /// the reply. It does not wait for room in the mailbox.
    ///
    /// # Errors
    /// [`AskError`] if the question was not accepted, was dropped without an answer, or was not
    /// answered in time. After a timeout the question is no longer handled unless its handler has
    /// started or it does not [expire](Message::expires); a late answer is discarded. A handler
    /// that asks an actor which waits for it, directly or through others, gets [`AskError::Cycle`]
    /// immediately.
    ///
    /// Cycles through several [systems](crate::System) are not detected, because each system knows
    /// its own waits only; the deadline ends them. Nor are waits in a task of
    /// [`Context::spawn`](crate::Context::spawn), which block no handler, and waits for a
    /// [`Reply::channel`].
    pub async fn ask<R: Send + 'static>(
        &self,
        make: impl FnOnce(Reply<R>) -> M,
        deadline: Duration,
    ) -> Result<R, AskError> {
        let (reply, mut answer) = Reply::channel();
        let msg = make(reply);
        let kind = msg.kind();
        let waiting = waits::wait_for(self.mailbox.home(), kind)
            .map_err(|cycle| AskError::Cycle { kind, cycle })?;
        let until = after(deadline);
        let chain = waiting
            .as_ref()
            .map(|waiting: &Waiting| waiting.chain.clone());
        let meta = Meta {
            deadline: Some(until),
            chain,
            ..Meta::default()
        };
        self.put(msg, meta)
            .map_err(|error| AskError::not_taken(error, kind))?;
        let home = self.mailbox.home();
        let mut timer = Deadline::new(until, home.map(|home| &*home.tables.deadlines));
        let mut is_gone = false;
        let answered = poll_fn(|cx| {
            if !is_gone && let Poll::Ready(answered) = pin!(&mut answer).poll(cx) {
                is_gone = answered.is_err() && interceptor::ignores_dropped_replies();
                if !is_gone {
                    return Poll::Ready(answered.map_err(|_| AskError::Dropped { kind }));
                }
            }
            if interceptor::ignores_ask_deadlines() {
                return Poll::Pending;
            }
            timer
                .poll(cx)
                .map(|()| Err(AskError::Timeout { kind, deadline }))
        })
        .await;
        alys_runtime::buggify_yield!("actors.addr.late_answer", 100_000);
        answered
    }

    /// Same as [`ask`](Self::ask), repeated up to `retry.attempts` times while the error [may
    /// pass](AskError::may_pass). The question may then be handled more than once.
    ///
    /// # Errors
    /// [`AskError`] of the last attempt.
    pub async fn ask_retrying<R: Send + 'static>(
        &self,
        make: impl Fn(Reply<R>) -> M,
        retry: Retry,
    ) -> Result<R, AskError> {
        let mut attempt = 0;
        loop {
            let asked = self.ask(&make, retry.each).await;
            attempt += 1;
            match asked {
                Err(error) if error.may_pass() && attempt < retry.attempts => {
                    time::sleep(retry.backoff.delay(attempt - 1, rand::chance())).await;
                }
                asked => return asked,
            }
        }
    }

    fn put(&self, msg: M, meta: Meta) -> Result<Receipt, TellError<M>> {
        let msg = self.allow(msg)?;
        let priority = msg.priority();
        let overflow = msg.overflow();
        self.counted(self.push(msg, Meta { priority, ..meta }, overflow, None))
    }

    /// Counts a message that was returned to its sender.
    fn counted(&self, pushed: Result<Receipt, TellError<M>>) -> Result<Receipt, TellError<M>> {
        if matches!(pushed, Err(TellError::Full(_) | TellError::Unavailable(_))) {
            self.mailbox.stats.refused.fetch_add(1, Relaxed);
        }
        pushed
    }

    fn allow(&self, msg: M) -> Result<M, TellError<M>> {
        if let Some(grant) = &self.grant
            && let Err(refusal) = grant.admit(msg.kind(), time::now())
        {
            return Err(TellError::Refused { msg, refusal });
        }
        Ok(msg)
    }

    fn push(
        &self,
        msg: M,
        mut meta: Meta,
        overflow: Overflow,
        ticket: Option<u64>,
    ) -> Result<Receipt, TellError<M>> {
        current::with(|frame| {
            meta.sender = frame.number;
            meta.incarnation = frame.incarnation;
            meta.correlation = meta.correlation.or(Some(frame.correlation));
        });
        let is_timed = self.mailbox.is_timed.load(Relaxed);
        if is_timed || crate::spans_are_on() {
            let sent = is_timed.then(time::now);
            meta.watched = Some(Box::new(Watched {
                sent,
                span: tracing::Span::current().id(),
            }));
        }
        self.mailbox
            .push(Envelope { msg, meta }, overflow, ticket)
            .map_err(|(why, msg)| match why {
                Refused::Full => TellError::Full(msg),
                Refused::Closed => TellError::Closed(msg),
                Refused::Unavailable => TellError::Unavailable(msg),
            })
    }

    /// Number of queued messages.
    pub fn depth(&self) -> usize {
        self.mailbox.depth()
    }

    /// Maximum number of queued messages.
    pub fn capacity(&self) -> usize {
        self.mailbox.capacity()
    }

    /// True once the actor has terminated.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Waits until the actor has terminated; its message counts are final then.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.mailbox.closed()
    }

    /// Full path of the actor: system, supervisors and name, joined by slashes. None before the
    /// actor is added to a supervisor.
    pub fn path(&self) -> Option<Arc<str>> {
        self.mailbox.home().map(|home| home.path.clone())
    }

    /// True if asking this actor from the running handler would fail with [`AskError::Cycle`].
    /// Always false for an actor of another system, as for [`ask`](Self::ask).
    pub fn would_cycle(&self) -> bool {
        waits::would_cycle(self.mailbox.home())
    }
}

impl<M: Message> Clone for Addr<M> {
    fn clone(&self) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
            grant: self.grant.clone(),
        }
    }
}

impl<M: Message> fmt::Debug for Addr<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addr")
            .field("path", &self.path().as_deref().unwrap_or("(no actor yet)"))
            .field("depth", &self.depth())
            .field("capacity", &self.capacity())
            .finish()
    }
}

/// A place in the line for room, released when the wait completes or is cancelled.
struct Line<'a, M: Message> {
    mailbox: &'a Mailbox<M>,
    ticket: Option<u64>,
}

impl<M: Message> Drop for Line<'_, M> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.mailbox.leave(ticket);
        }
    }
}
