//! Test support for actors: a [`TestSystem`], [`Probe`]s in place of other actors, and fault
//! injection at chosen messages.
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use alys_actor_system::{AlysActor, Context, Fault, Message, testkit::{Probe, TestSystem}, Addr};
//!
//! # struct Ping(u32);
//! # impl Message for Ping { fn kind(&self) -> &'static str { "ping" } }
//! struct Echo(Addr<Ping>);
//! impl AlysActor for Echo {
//!     type Message = Ping;
//!     type Error = Infallible;
//!     type Config = ();
//!     const NAME: &'static str = "Echo";
//!     async fn handle(&mut self, Ping(n): Ping, _: &Context<Self>) -> Result<(), Infallible> {
//!         let _taken_or_not = self.0.tell(Ping(n + 1));
//!         Ok(())
//!     }
//! }
//!
//! # alys_runtime::block_on_main(async {
//! let test = TestSystem::new();
//! let (neighbour, mut probe) = Probe::new(8);
//! let echo = test.start("echo", 8, move || {
//!     let to = neighbour.clone();
//!     async move { Ok::<_, Infallible>(Echo(to)) }
//! });
//! echo.tell(Ping(1)).unwrap();
//! assert_eq!(probe.next().await.map(|Ping(n)| n), Some(2));
//! // The second message crashes the actor; the next incarnation handles the third.
//! test.faults().plan(&test.path("echo"), Fault::Panic);
//! echo.tell(Ping(5)).unwrap();
//! echo.tell(Ping(7)).unwrap();
//! assert_eq!(probe.next().await.map(|Ping(n)| n), Some(8));
//! assert_eq!(test.restarts("echo"), 1);
//! test.end().await;
//! # });
//! ```
//!
//! Time is that of the runtime: real on tokio, virtual in the simulator, where a test that waits an
//! hour takes no time. [`TestSystem::end`] panics if an accepted message is unaccounted for.

use std::{fmt, future::Future, future::poll_fn, task::Poll, time::Duration};

use alys_runtime::time;

use crate::{
    actor::AlysActor,
    actor::cell::{MailboxSnapshot, Snapshot},
    actor::faults::Faults,
    mailbox::address::Addr,
    mailbox::message::Message,
    mailbox::{Limits, Reader, Slot, mailbox},
    supervision::policy::{Backoff, Intensity, Strategy},
    supervision::{ChildSpec, Supervisor, SupervisorSpec},
    system::{ShutdownReport, System},
};
use std::sync::Arc;

/// Time limit of waits in tests, longer than any successful wait.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Stand-in for an actor: the test receives the messages sent to an address.
pub struct Probe<M: Message> {
    reader: Reader<M>,
}

impl<M: Message> Probe<M> {
    /// Creates an address and the probe that receives its messages.
    pub fn new(limits: impl Into<Limits>) -> (Addr<M>, Self) {
        let (addr, Slot { reader, .. }) = mailbox(limits);
        (addr, Self { reader })
    }

    /// Waits for the next message; none after [`TEST_TIMEOUT`].
    pub async fn next(&mut self) -> Option<M> {
        self.next_timeout(TEST_TIMEOUT).await
    }

    /// Waits for the next message; none after `timeout`.
    pub async fn next_timeout(&mut self, timeout: Duration) -> Option<M> {
        let next = poll_fn(|cx| {
            if let Some(envelope) = self.reader.pop() {
                return Poll::Ready(envelope.msg);
            }
            if self.reader.poll_ready(cx).is_ready() {
                // The message arrived between `pop` and `poll_ready`.
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        });
        time::timeout(timeout, next).await.ok()
    }

    /// Waits for the next message for which `wanted` returns a value; drops the messages before it.
    /// None if no message arrives for [`TEST_TIMEOUT`].
    pub async fn find<T>(&mut self, mut wanted: impl FnMut(M) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = wanted(self.next().await?) {
                return Some(found);
            }
        }
    }

    /// Pops a queued message without waiting.
    pub fn now(&mut self) -> Option<M> {
        self.reader.pop().map(|envelope| envelope.msg)
    }
}

impl<M: Message> fmt::Debug for Probe<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("waiting", &self.reader.mailbox.depth())
            .finish()
    }
}

/// A system with one supervisor that restarts each failed child alone, without delay or limit.
#[derive(Debug)]
pub struct TestSystem {
    system: System,
    supervisor: Supervisor,
}

impl Default for TestSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl TestSystem {
    /// Creates a system without actors. Must be called within the runtime, because it spawns tasks.
    ///
    /// # Panics
    /// Never, because the supervisor's name is free in a new system.
    pub fn new() -> Self {
        let system = System::new("test");
        let spec = SupervisorSpec {
            intensity: Intensity {
                restarts: usize::MAX,
                within: TEST_TIMEOUT,
            },
            backoff: Backoff::NONE,
            ..SupervisorSpec::new("actors", Strategy::OneForOne)
        };
        let supervisor = system
            .supervisor(spec)
            .expect("the first child of a new system");
        Self { system, supervisor }
    }

    /// Starts an actor as the child `name` of the supervisor.
    ///
    /// # Panics
    /// The name is taken or invalid.
    pub fn start<A, F, Fut, E>(
        &self,
        name: &str,
        slot: impl Into<Slot<A::Message>>,
        factory: F,
    ) -> Addr<A::Message>
    where
        A: AlysActor<Config: Default>,
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        match self.supervisor.start(ChildSpec::new(name), slot, factory) {
            Ok(addr) => addr,
            Err(error) => panic!("{error}"),
        }
    }

    /// The supervisor, to start children with their own [`ChildSpec`].
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// The system, for inspection.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Fault injection, with paths as of [`TestSystem::path`].
    pub fn faults(&self) -> &Arc<Faults> {
        self.system.faults()
    }

    /// Full path of the actor started as `name`.
    pub fn path(&self, name: &str) -> String {
        format!("test/actors/{name}")
    }

    /// Number of restarts of the actor started as `name`.
    ///
    /// # Panics
    /// There is no such actor.
    pub fn restarts(&self, name: &str) -> u64 {
        let snapshot = self.system.snapshot();
        match snapshot.find(&format!("actors/{name}")) {
            Some(actor) => actor.restarts,
            None => panic!("no actor is called {name}"),
        }
    }

    /// Current value of a metric series, see [`sample`]; none if there is no such series.
    ///
    /// # Panics
    /// A metric that the test registered has no text form.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.system.metrics().encode();
        sample(&text.expect("metrics of actors are text"), series)
    }

    /// Polls the tree every millisecond until `is_so` holds.
    ///
    /// # Panics
    /// The condition does not hold within [`TEST_TIMEOUT`].
    pub async fn until(&self, is_so: impl Fn(&Snapshot) -> bool) {
        let waited = time::timeout(TEST_TIMEOUT, async {
            while !is_so(&self.system.snapshot()) {
                time::sleep(Duration::from_millis(1)).await;
            }
        });
        if waited.await.is_err() {
            panic!("it never came to that: {:#?}", self.system.snapshot());
        }
    }

    /// Shuts the system down, within [`TEST_TIMEOUT`].
    ///
    /// # Panics
    /// An accepted message of some actor is unaccounted for, see [`unaccounted`].
    pub async fn end(self) -> ShutdownReport {
        let report = self.system.shutdown(TEST_TIMEOUT).await;
        for actor in self.system.snapshot().all() {
            if let Some(mailbox) = &actor.mailbox {
                assert_eq!(
                    unaccounted(mailbox),
                    0,
                    "messages of {} went missing: {mailbox:?}",
                    actor.path
                );
            }
        }
        report
    }
}

/// Finds the value of a series in the text of [`Metrics::encode`](crate::metrics::Metrics::encode),
/// by its name and labels exactly as in the text, such as
/// `alys_actor_restarts_total{actor="test/actors/echo"}`.
pub fn sample(text: &str, series: &str) -> Option<f64> {
    let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}

/// Number of accepted messages and timers minus those with a recorded outcome or still queued. It
/// is zero unless a message is being handled.
pub fn unaccounted(mailbox: &MailboxSnapshot) -> i64 {
    let ended = [
        mailbox.handled,
        mailbox.failed,
        mailbox.dropped,
        mailbox.expired,
        mailbox.interrupted,
        mailbox.abandoned,
        mailbox.depth as u64,
    ];
    let came = mailbox.accepted + mailbox.timers;
    i64::try_from(came).unwrap_or(i64::MAX)
        - i64::try_from(ended.iter().sum::<u64>()).unwrap_or(i64::MAX)
}
