//! The address of an actor: tell, send, ask and forward.

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
        waits::{self, Waiting},
    },
};

/// The address of an actor. Cheap to clone; stays valid over restarts; closed once the actor has
/// ended for good.
///
/// Messages of one sender through one address are handled in the order in which they were taken,
/// within a priority.
pub struct Addr<M: Message> {
    mailbox: Arc<Mailbox<M>>,
    /// Rights of the holder of this copy; all if none.
    grant: Option<Arc<Grant>>,
}

/// Number of tries of a question, and the delays between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Tries, the first included, at least one.
    pub attempts: u32,
    /// Time limit of each.
    pub each: Duration,
    /// The waits between them.
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

    /// The same address for a holder who may not send everything: what `grant` does not allow is
    /// refused, and stands in its audit trail.
    pub fn granted(&self, grant: Arc<Grant>) -> Self {
        Self {
            mailbox: self.mailbox.clone(),
            grant: Some(grant),
        }
    }

    /// Puts a message into the mailbox, without waiting. What becomes of one that finds no room is
    /// its own to say ([`Message::overflow`]).
    ///
    /// # Errors
    /// The message is given back if there is no room, its kind may not be sent, the actor's circuit
    /// breaker is open, or the actor has ended for good.
    pub fn tell(&self, msg: M) -> Result<Receipt, TellError<M>> {
        // What may find its mailbox full has to live with it; what must not says so by waiting.
        if matches!(msg.overflow(), Overflow::Block | Overflow::Fail)
            && buggify!("actors.addr.full", 2_000)
        {
            return self.counted(Err(TellError::Full(msg)));
        }
        self.put(msg, Meta::default())
    }

    /// Tells a message with another urgency than its own.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
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

    /// Tells a message that came from another process, with the correlation and the deadline that
    /// it came with.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
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

    /// Forwards a message on behalf of the actors that wait for the current one: its [`Reply`] goes
    /// along, and circles of waiting actors are found through it too. Outside of a handler the same
    /// as [`tell`](Self::tell).
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub fn forward(&self, msg: M) -> Result<Receipt, TellError<M>> {
        let held = current::with(|frame| {
            // In another system the numbers of the chain mean other actors.
            let is_sibling = self
                .mailbox
                .home()
                .is_some_and(|home| Arc::ptr_eq(&home.tables, &frame.tables));
            let chain = frame.meta.chain.clone().filter(|_| is_sibling);
            (chain, frame.meta.deadline)
        });
        let (chain, deadline) = held.unwrap_or_default();
        let link = chain.clone().zip(self.mailbox.home());
        let before = link
            .as_ref()
            .and_then(|(link, home)| home.tables.waits.redirect(link, home.number, msg.kind()));
        let told = self.put(
            msg,
            Meta {
                chain,
                deadline,
                ..Meta::default()
            },
        );
        if let (Err(_), Some((link, home)), Some((target, kind))) = (&told, link, before) {
            // Nothing was forwarded.
            home.tables.waits.redirect(&link, target, kind);
        }
        told
    }

    /// Puts a message into the mailbox, and waits for room if the message says so
    /// ([`Overflow::Block`], the default; [`Overflow::Backoff`]): the sender is slowed to the
    /// receiver's pace. Not taken if the future is dropped before it is ready.
    ///
    /// # Errors
    /// As [`tell`](Self::tell). A handler that waits for room in the mailbox of an actor which
    /// waits for this one is told so instead.
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

    /// Asks a question and waits up to `deadline` for the answer. `make` puts the reply into the
    /// message.
    ///
    /// # Errors
    /// A question that found no room is not queued. After a timeout the question is not handled any
    /// more unless it had been begun or does not [expire](Message::expires); its answer goes
    /// nowhere. An actor that asks in its handler one that waits for it, itself or through others,
    /// is told the whole circle at once.
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

    /// Asks a question again if there was no room, no answer in time, or the handler failed over
    /// it. It may then be handled more than once.
    ///
    /// # Errors
    /// The last try's.
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

    /// Counts a message that was given back.
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

    /// Messages waiting now.
    pub fn depth(&self) -> usize {
        self.mailbox.depth()
    }

    /// Messages that may wait at most.
    pub fn capacity(&self) -> usize {
        self.mailbox.capacity()
    }

    /// True once the actor has ended for good.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Waits until the actor has ended for good.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + '_ {
        self.mailbox.closed()
    }

    /// System, supervisors and name, joined by slashes; none before there is an actor.
    pub fn path(&self) -> Option<Arc<str>> {
        self.mailbox.home().map(|home| home.path.clone())
    }

    /// True if asking this actor from the running handler would close a circle of actors that wait
    /// for each other.
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

/// A place in the line for room, given up however the wait ends.
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
