//! The core behind its lock, its readers, and the dispatch of methods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alloy_eips::BlockId;
use alloy_primitives::{B256, Bytes, keccak256};
use alys_runtime::sync::{Mutex, Notify, Semaphore};
use alys_runtime::{Lane, buggify_pause, time};
use serde::Serialize;
use serde_json::{Value, json};

use super::filters::{self, Filters};
use super::methods::PUBLIC_METHODS;
use super::node_view::NodeSlot;
use super::requests::Requests;
use super::{engine, eth, txpool};
use crate::embedded::execution::{
    ChainReader, ChainView, Error, ExecutionCore, Interrupted, Meter,
};
use crate::http::{Args, RpcError, RpcHandler};

/// State that both ports share.
pub(super) struct Shared {
    /// Locked by the Engine API only. Reads and submitted transactions use `reader`.
    pub(super) core: Mutex<ExecutionCore>,
    reader: ChainReader,
    filters: Arc<Filters>,
    failed: AtomicBool,
    on_failure: Notify,
    node: NodeSlot,
    /// The head at the start.
    starting_block: u64,
    /// [`READ_TIMEOUT`], or less in tests.
    pub(super) read_timeout: Duration,
}

/// Time limit of a read, as in Geth.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts of a read whose view a reorganisation supersedes. Reorganisations are rare, so a
/// second attempt nearly always suffices.
const READ_ATTEMPTS: u32 = 4;
/// Delay before another attempt: the core publishes its view a disk write after the reorganisation
/// has begun.
const RETRY_DELAY: Duration = Duration::from_millis(20);
/// Concurrent short calls of the public port; further calls wait. A call holds its answer, of at
/// most some tens of megabytes, so this bounds memory.
const SHORT_CALLS: usize = 16;
/// Concurrent long calls of the public port. They wait for few threads, so more would only hold
/// more memory.
const LONG_CALLS: usize = 8;
/// Time that a call waits for its turn. A client that has not got an answer by then has given up.
const TURN_TIMEOUT: Duration = Duration::from_secs(15);

/// The port for wallets and scripts.
pub(super) struct PublicPort {
    shared: Arc<Shared>,
    pub(super) short: Semaphore,
    long: Semaphore,
    requests: Arc<Requests>,
    /// [`TURN_TIMEOUT`], or less in tests.
    pub(super) turn_timeout: Duration,
}

impl PublicPort {
    pub(super) fn new(shared: Arc<Shared>, requests: Arc<Requests>) -> Self {
        Self {
            shared,
            short: Semaphore::new(SHORT_CALLS),
            long: Semaphore::new(LONG_CALLS),
            requests,
            turn_timeout: TURN_TIMEOUT,
        }
    }

    async fn answer(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let lane = lane(method);
        let slots = match lane {
            Lane::Short => &self.short,
            Lane::Long => &self.long,
        };
        let turn = time::timeout(self.turn_timeout, slots.acquire()).await;
        let _slot = turn
            .map_err(|_| RpcError::new(RpcError::BUSY, "the server is busy; try again later"))?
            .expect("the semaphore is never closed");
        let place = Place::Lane(lane);
        self.shared.public(place, method, params).await
    }
}

/// The lane of a method: long when its cost depends on more than the size of one block.
fn lane(method: &str) -> Lane {
    match method {
        "eth_call"
        | "eth_estimateGas"
        | "eth_feeHistory"
        | "eth_getFilterChanges"
        | "eth_getFilterLogs"
        | "eth_getLogs"
        | "eth_getProof"
        | "txpool_content"
        | "txpool_inspect" => Lane::Long,
        _ => Lane::Short,
    }
}

/// The place where a read is computed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// In the task of the request. For the consensus node, which must not wait for callers of the
    /// public port.
    Here,
    /// On the threads of a lane.
    Lane(Lane),
}

/// Treatment of an answer that was computed on a superseded view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Superseded {
    /// The answer is discarded and the query repeated.
    Repeat,
    /// The answer stands, because the query has an effect and checks its view itself.
    Keep,
}

/// The port for the consensus node. It also serves the public methods.
pub(super) struct EnginePort {
    pub(super) shared: Arc<Shared>,
    #[cfg(madsim)]
    pub(super) injector: super::ExecutionFaultInjector,
    /// The gas limit target that the injector has set; 0 for none.
    #[cfg(madsim)]
    pub(super) gas_limit_target: std::sync::atomic::AtomicU64,
}

impl EnginePort {
    async fn answer(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        if method.starts_with("engine_") {
            engine::call(&self.shared, method, params).await
        } else {
            self.shared.public(Place::Here, method, params).await
        }
    }

    /// Changes the gas limit towards which the core builds if a fault began or ended.
    #[cfg(madsim)]
    async fn set_gas_limit(&self) {
        let target = self.injector.gas_limit_target();
        let value = target.unwrap_or(0);
        if self.gas_limit_target.swap(value, Ordering::SeqCst) == value {
            return;
        }
        let set = self.shared.write(|core| {
            core.set_gas_limit_target(target);
            Ok(())
        });
        if let Err(error) = set.await {
            tracing::debug!(%error, "the gas limit target stays");
        }
    }
}

impl RpcHandler for PublicPort {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let answer = self.answer(method, params).await;
        self.requests.count(method, &answer);
        answer
    }
}

impl RpcHandler for EnginePort {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        #[cfg(madsim)]
        {
            use super::faults::CallDecision;
            let params = self.injector.alter(method, params);
            let mut answer = match self.injector.before(method, &params).await {
                CallDecision::Answer(answer) => answer,
                CallDecision::Execute { times } => {
                    if method.starts_with("engine_getPayloadV") {
                        self.set_gas_limit().await;
                    }
                    let mut answer = self.answer(method, params.clone()).await;
                    for _ in 1..times {
                        answer = self.answer(method, params.clone()).await;
                    }
                    answer
                }
            };
            self.injector.after(method, &mut answer);
            answer
        }
        #[cfg(not(madsim))]
        self.answer(method, params).await
    }
}

/// Marks a computation whose caller has left.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A meter that ends a query after `limit` from now, or once its caller has left.
fn meter(limit: Duration, is_cancelled: Arc<AtomicBool>) -> Meter {
    let deadline = time::now() + limit;
    Meter::new(move || {
        if is_cancelled.load(Ordering::Relaxed) {
            Some(Interrupted::Cancelled)
        } else if time::now() >= deadline {
            Some(Interrupted::TimedOut)
        } else {
            None
        }
    })
}

/// Runs a query on the newest view. The flag is true when the answer is to be discarded.
fn attempt<R>(
    reader: &ChainReader,
    meter: Meter,
    superseded: Superseded,
    query: impl Fn(&ChainView) -> Result<R, RpcError>,
) -> (Result<R, RpcError>, bool) {
    let view = reader.view().metered(meter);
    let answer = query(&view);
    let is_refused = answer
        .as_ref()
        .is_err_and(|error| error.code == i64::from(Error::SUPERSEDED));
    let is_discarded = superseded == Superseded::Repeat && view.is_superseded();
    (answer, is_refused || is_discarded)
}

impl Shared {
    pub(super) fn new(core: ExecutionCore, node: NodeSlot) -> Self {
        let starting_block = core.head().number;
        Self {
            reader: core.reader(),
            core: Mutex::new(core),
            filters: Arc::default(),
            failed: AtomicBool::new(false),
            on_failure: Notify::new(),
            node,
            starting_block,
            read_timeout: READ_TIMEOUT,
        }
    }

    /// Runs a short query in the task of the request.
    pub(super) async fn read<R>(
        &self,
        query: impl Fn(&ChainView) -> Result<R, RpcError>,
    ) -> Result<R, RpcError> {
        buggify_pause!("execution.node.slow_read", 50_000, 50);
        self.check()?;
        let view = self.reader.view();
        alys_runtime::blocking(|| query(&view))
    }

    /// Runs a query of the public methods at its place.
    pub(super) async fn read_at<R, Q>(
        &self,
        place: Place,
        superseded: Superseded,
        query: Q,
    ) -> Result<R, RpcError>
    where
        R: Send + 'static,
        Q: Fn(&ChainView) -> Result<R, RpcError> + Send + Sync + 'static,
    {
        buggify_pause!("execution.node.slow_read", 50_000, 50);
        let query = Arc::new(query);
        let cancel = CancelOnDrop(Arc::default());
        let mut attempts = 0;
        loop {
            self.check()?;
            let reader = self.reader.clone();
            let limit = self.read_timeout;
            let is_cancelled = cancel.0.clone();
            let query = query.clone();
            let work = move || {
                // The time begins with the computation, not with the wait for a thread.
                attempt(&reader, meter(limit, is_cancelled), superseded, &*query)
            };
            let (answer, is_discarded) = match place {
                Place::Here => alys_runtime::blocking(work),
                Place::Lane(lane) => alys_runtime::offload(lane, work)
                    .await
                    .map_err(|error| RpcError::internal(error.to_string()))?,
            };
            attempts += 1;
            if !is_discarded {
                return answer;
            }
            if attempts == READ_ATTEMPTS {
                return answer.and(Err(Error::Superseded.into()));
            }
            time::sleep(RETRY_DELAY).await;
        }
    }

    /// Changes the core exclusively.
    pub(super) async fn write<R>(
        &self,
        change: impl FnOnce(&mut ExecutionCore) -> Result<R, Error>,
    ) -> Result<R, RpcError> {
        buggify_pause!("execution.node.slow_write", 50_000, 100);
        let mut core = self.core.lock().await;
        self.check()?;
        alys_runtime::blocking(|| change(&mut core)).map_err(|error| {
            if matches!(error, Error::Storage(_) | Error::Corrupt { .. }) {
                tracing::warn!(
                    %error,
                    "the store of the embedded execution client failed; it must be opened again"
                );
                self.failed.store(true, Ordering::SeqCst);
                self.on_failure.notify_waiters();
            }
            error.into()
        })
    }

    /// True when the store has failed, after which every call is refused.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Waits until the store fails.
    pub(super) async fn failure(&self) {
        loop {
            let mut notified = std::pin::pin!(self.on_failure.notified());
            // Registers before the check, so that a failure between the two is not missed.
            notified.as_mut().enable();
            if self.has_failed() {
                return;
            }
            notified.await;
        }
    }

    /// True when a block is stored, which happens after its execution. `None` when the store cannot
    /// be read.
    pub(super) fn has_executed(&self, block: B256) -> Option<bool> {
        let header = self.reader.view().header(BlockId::hash(block));
        header.ok().map(|header| header.is_some())
    }

    fn check(&self) -> Result<(), RpcError> {
        if self.has_failed() {
            return Err(RpcError::internal(
                "the store of this execution client failed: restart it",
            ));
        }
        Ok(())
    }

    async fn public(&self, place: Place, method: &str, params: Value) -> Result<Value, RpcError> {
        if !PUBLIC_METHODS.contains(&method) {
            return Err(RpcError::method_not_found(method));
        }
        let name = method.to_owned();
        match method {
            "eth_sendRawTransaction" => {
                let raw: Bytes = Args::new(params, 1)?.required()?;
                self.read_at(place, Superseded::Keep, move |view| {
                    to_json(view.add_transaction(&raw)?)
                })
                .await
            }
            "eth_newFilter"
            | "eth_newBlockFilter"
            | "eth_getFilterChanges"
            | "eth_getFilterLogs"
            | "eth_uninstallFilter" => {
                let filters = self.filters.clone();
                self.read_at(place, Superseded::Keep, move |view| {
                    filters::call(&filters, view, &name, params.clone())
                })
                .await
            }
            "web3_clientVersion" => Ok(client_version().into()),
            "web3_sha3" => to_json(keccak256(Args::new(params, 1)?.required::<Bytes>()?)),
            "net_version" => {
                self.read(|view| Ok(view.chain_id().to_string().into()))
                    .await
            }
            "net_listening" => Ok(true.into()),
            "net_peerCount" => Ok(self.node.peer_count()),
            "eth_syncing" => {
                let starting = self.starting_block;
                self.read(|view| Ok(self.node.syncing(starting, view.head().number)))
                    .await
            }
            "rpc_modules" => {
                Ok(json!({ "eth": "1.0", "net": "1.0", "txpool": "1.0", "web3": "1.0" }))
            }
            _ if method.starts_with("eth_") => {
                self.read_at(place, Superseded::Repeat, move |view| {
                    eth::query(view, &name, params.clone())
                })
                .await
            }
            _ if method.starts_with("txpool_") => {
                self.read_at(place, Superseded::Repeat, move |view| {
                    txpool::query(view, &name, params.clone())
                })
                .await
            }
            _ => Err(RpcError::method_not_found(method)),
        }
    }
}

/// Client version in Geth's format: name, version, platform, language (here the interpreter).
pub(super) fn client_version() -> String {
    let os = std::env::consts::OS;
    let arch = std::env::consts::ARCH;
    format!("Alys/v{}/{os}-{arch}/revm", env!("CARGO_PKG_VERSION"))
}

pub(super) fn to_json(value: impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(value)
        .map_err(|error| RpcError::internal(format!("cannot encode the answer: {error}")))
}

/// A JSON-RPC quantity: hex without leading zeros.
pub(super) fn quantity(number: impl std::fmt::LowerHex) -> Value {
    format!("{number:#x}").into()
}

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        let answer = Self::new(error.code().into(), error.to_string());
        match error.data() {
            Some(data) => answer.with_data(data.to_string().into()),
            None => answer,
        }
    }
}
