//! The core behind its lock, and the dispatch of methods.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alloy_eips::BlockId;
use alloy_primitives::{B256, Bytes, keccak256};
use alys_runtime::buggify_pause;
use alys_runtime::sync::{RwLock, Semaphore};
use serde::Serialize;
use serde_json::{Value, json};

use super::filters::Filters;
use super::node_view::{NodeSlot, NodeView};
use super::requests::Requests;
use super::{engine, eth, filters, txpool};
use crate::embedded::execution::{Error, ExecutionCore};
use crate::http::{Args, RpcError, RpcHandler};

/// State that both ports share.
pub(super) struct Shared {
    core: RwLock<ExecutionCore>,
    filters: Filters,
    failed: AtomicBool,
    node: NodeSlot,
    /// The head at the start.
    starting_block: u64,
}

/// Concurrent calls on the public port; further calls wait. Each may occupy a thread, and the calls
/// of the consensus node need threads as well.
const MAX_PUBLIC_CALLS: usize = 16;

/// The port for wallets and scripts.
pub(super) struct PublicPort {
    shared: Arc<Shared>,
    slots: Semaphore,
    requests: Arc<Requests>,
}

impl PublicPort {
    pub(super) fn new(shared: Arc<Shared>, requests: Arc<Requests>) -> Self {
        Self {
            shared,
            slots: Semaphore::new(MAX_PUBLIC_CALLS),
            requests,
        }
    }
}

/// The port for the consensus node. It also serves the public methods.
pub(super) struct EnginePort {
    pub(super) shared: Arc<Shared>,
    #[cfg(madsim)]
    pub(super) injector: super::ExecutionFaultInjector,
}

impl EnginePort {
    async fn answer(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        if method.starts_with("engine_") {
            engine::call(&self.shared, method, params).await
        } else {
            self.shared.public(method, params).await
        }
    }
}

impl RpcHandler for PublicPort {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        let _slot = self
            .slots
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let answer = self.shared.public(method, params).await;
        self.requests.count(method, &answer);
        answer
    }
}

impl RpcHandler for EnginePort {
    async fn handle(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        #[cfg(madsim)]
        {
            use super::faults::CallDecision;
            let answer = match self.injector.before(method, &params).await {
                CallDecision::Answer(answer) => answer,
                CallDecision::Execute { times } => {
                    let mut answer = self.answer(method, params.clone()).await;
                    for _ in 1..times {
                        answer = self.answer(method, params.clone()).await;
                    }
                    answer
                }
            };
            self.injector.after(method);
            answer
        }
        #[cfg(not(madsim))]
        self.answer(method, params).await
    }
}

impl Shared {
    pub(super) fn new(core: ExecutionCore) -> Self {
        let starting_block = core.head().number;
        Self {
            core: RwLock::new(core),
            filters: Filters::default(),
            failed: AtomicBool::new(false),
            node: NodeSlot::default(),
            starting_block,
        }
    }

    pub(super) fn set_node(&self, view: Arc<dyn NodeView>) {
        self.node.set(view);
    }

    /// Runs a query on the core, concurrently with other queries.
    pub(super) async fn read<R>(
        &self,
        query: impl FnOnce(&ExecutionCore) -> Result<R, RpcError>,
    ) -> Result<R, RpcError> {
        buggify_pause!("execution.node.slow_read", 50_000, 50);
        let core = self.core.read().await;
        self.check()?;
        alys_runtime::blocking(|| query(&core))
    }

    /// Changes the core exclusively.
    pub(super) async fn write<R>(
        &self,
        change: impl FnOnce(&mut ExecutionCore) -> Result<R, Error>,
    ) -> Result<R, RpcError> {
        buggify_pause!("execution.node.slow_write", 50_000, 100);
        let mut core = self.core.write().await;
        self.check()?;
        alys_runtime::blocking(|| change(&mut core)).map_err(|error| {
            if matches!(error, Error::Storage(_) | Error::Corrupt { .. }) {
                tracing::error!(
                    %error,
                    "the store of the embedded execution client failed; restart the client"
                );
                self.failed.store(true, Ordering::SeqCst);
            }
            error.into()
        })
    }

    /// True when the store has failed, after which every call is refused.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// True when a block is stored, which happens after its execution. `None` while a write locks
    /// the core.
    pub(super) fn has_executed(&self, block: B256) -> Option<bool> {
        let core = self.core.try_read().ok()?;
        core.header(BlockId::hash(block))
            .ok()
            .map(|header| header.is_some())
    }

    fn check(&self) -> Result<(), RpcError> {
        if self.has_failed() {
            return Err(RpcError::internal(
                "the store of this execution client failed: restart it",
            ));
        }
        Ok(())
    }

    async fn public(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "eth_sendRawTransaction" => {
                let raw: Bytes = Args::new(params, 1)?.required()?;
                to_json(self.write(|core| core.add_transaction(&raw)).await?)
            }
            "eth_newFilter"
            | "eth_newBlockFilter"
            | "eth_getFilterChanges"
            | "eth_getFilterLogs"
            | "eth_uninstallFilter" => {
                self.read(|core| filters::call(&self.filters, core, method, params))
                    .await
            }
            "web3_clientVersion" => Ok(client_version().into()),
            "web3_sha3" => to_json(keccak256(Args::new(params, 1)?.required::<Bytes>()?)),
            "net_version" => {
                self.read(|core| Ok(core.chain_id().to_string().into()))
                    .await
            }
            "net_listening" => Ok(true.into()),
            "net_peerCount" => Ok(self.node.peer_count()),
            "eth_syncing" => {
                let starting = self.starting_block;
                self.read(|core| Ok(self.node.syncing(starting, core.head().number)))
                    .await
            }
            "rpc_modules" => {
                Ok(json!({ "eth": "1.0", "net": "1.0", "txpool": "1.0", "web3": "1.0" }))
            }
            _ if method.starts_with("eth_") => {
                self.read(|core| eth::query(core, method, params)).await
            }
            _ if method.starts_with("txpool_") => {
                self.read(|core| txpool::query(core, method, params)).await
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
