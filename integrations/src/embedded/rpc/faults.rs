//! Fault injection for the embedded execution client: false, delayed, repeated and lost answers.
//!
//! The injector sits between the Engine API's port and its methods. It exists in simulations only;
//! a production binary does not contain it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use alloy_rpc_types_engine::{ForkchoiceUpdated, PayloadStatus, PayloadStatusEnum};
use alys_runtime::trace;
use serde_json::Value;

use super::shared::to_json;
use crate::http::RpcError;

/// The faults of a client. Counts are numbers of calls that are still to be hit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutionFaults {
    /// Every payload and fork choice is answered by SYNCING and not executed.
    pub is_syncing: bool,
    /// Payloads that are called INVALID without execution.
    pub invalid_payloads: u32,
    /// Fork choices without payload attributes that are called VALID and not executed.
    pub forgotten_forkchoices: u32,
    /// Delay of every answer of the Engine API.
    pub answer_delay: Duration,
    /// Payloads and fork choices that are executed twice, as after a repeated request.
    pub repeated_calls: u32,
    /// Answers that are lost or truncated, because the connections break when they are ready.
    pub lost_answers: u32,
}

/// Injects [`ExecutionFaults`] into a client. Clones share the faults, which outlive the client's
/// process.
#[derive(Clone, Default)]
pub struct ExecutionFaultInjector {
    faults: Arc<Mutex<ExecutionFaults>>,
    disconnect: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// The injector's decision on a call.
pub(super) enum CallDecision {
    /// Answers without executing the call.
    Answer(Result<Value, RpcError>),
    /// Executes the call this many times and returns the last answer.
    Execute { times: u32 },
}

/// Consumes one of `count` hits.
fn take(count: &mut u32) -> bool {
    let is_hit = *count > 0;
    *count = count.saturating_sub(1);
    is_hit
}

impl ExecutionFaultInjector {
    /// Starts without faults. `disconnect` breaks all connections between the client and its node.
    pub fn new(disconnect: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            faults: Arc::default(),
            disconnect: Some(Arc::new(disconnect)),
        }
    }

    /// The faults, for reading and changing.
    pub fn lock(&self) -> MutexGuard<'_, ExecutionFaults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the faults to a received call.
    pub(super) async fn before(&self, method: &str, params: &Value) -> CallDecision {
        let delay = self.lock().answer_delay;
        if !delay.is_zero() && method.starts_with("engine_") {
            count("execution.late");
            alys_runtime::time::sleep(delay).await;
        }
        let is_payload = method.starts_with("engine_newPayload");
        let is_forkchoice = method.starts_with("engine_forkchoiceUpdated");
        if !is_payload && !is_forkchoice {
            return CallDecision::Execute { times: 1 };
        }
        let mut faults = self.lock();
        if faults.is_syncing {
            count("execution.syncing");
            let syncing = PayloadStatus::new(PayloadStatusEnum::Syncing, None);
            return CallDecision::Answer(if is_payload {
                to_json(syncing)
            } else {
                to_json(ForkchoiceUpdated::new(syncing))
            });
        }
        if is_payload && take(&mut faults.invalid_payloads) {
            count("execution.invalid");
            let validation_error = "injected by the simulator".to_owned();
            let invalid = PayloadStatus::new(PayloadStatusEnum::Invalid { validation_error }, None);
            return CallDecision::Answer(to_json(invalid));
        }
        let has_attributes = params
            .get(1)
            .is_some_and(|attributes| !attributes.is_null());
        if is_forkchoice && !has_attributes && take(&mut faults.forgotten_forkchoices) {
            count("execution.forgotten");
            let head: Option<B256> = params
                .get(0)
                .and_then(|state| serde_json::from_value(state["headBlockHash"].clone()).ok());
            let valid = PayloadStatus::new(PayloadStatusEnum::Valid, head);
            return CallDecision::Answer(to_json(ForkchoiceUpdated::new(valid)));
        }
        if take(&mut faults.repeated_calls) {
            count("execution.twice");
            return CallDecision::Execute { times: 2 };
        }
        CallDecision::Execute { times: 1 }
    }

    /// Applies the faults to an answer that is ready.
    pub(super) fn after(&self, method: &str) {
        if method.starts_with("engine_") && take(&mut self.lock().lost_answers) {
            count("execution.cut");
            if let Some(disconnect) = &self.disconnect {
                disconnect();
            }
        }
    }
}

fn count(what: &'static str) {
    trace::reached(what);
    trace::event(what, &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use serde_json::json;

    fn injected(injector: &ExecutionFaultInjector, method: &str, params: Value) -> Option<String> {
        match block_on(injector.before(method, &params)) {
            CallDecision::Answer(answer) => Some(answer.expect("it can be encoded").to_string()),
            CallDecision::Execute { .. } => None,
        }
    }

    #[test]
    fn exactly_the_counted_calls_are_hit() {
        let injector = ExecutionFaultInjector::default();
        *injector.lock() = ExecutionFaults {
            invalid_payloads: 1,
            forgotten_forkchoices: 1,
            ..ExecutionFaults::default()
        };
        let state = json!([{ "headBlockHash": B256::repeat_byte(7) }]);
        let building = json!([{ "headBlockHash": B256::repeat_byte(7) }, { "timestamp": "0x1" }]);
        assert_eq!(
            injected(&injector, "engine_forkchoiceUpdatedV3", building),
            None,
            "a fork choice with attributes is executed"
        );
        let forgotten =
            injected(&injector, "engine_forkchoiceUpdatedV3", state.clone()).expect("it is hit");
        assert!(
            forgotten.contains("VALID") && forgotten.contains("0707"),
            "{forgotten}"
        );
        assert_eq!(
            injected(&injector, "engine_forkchoiceUpdatedV3", state),
            None
        );
        let invalid = injected(&injector, "engine_newPayloadV3", json!([])).expect("it is hit");
        assert!(invalid.contains("INVALID"), "{invalid}");
        assert_eq!(injected(&injector, "engine_newPayloadV3", json!([])), None);
        injector.lock().is_syncing = true;
        for method in ["engine_newPayloadV3", "engine_forkchoiceUpdatedV3"] {
            assert!(
                injected(&injector, method, json!([{}]))
                    .is_some_and(|answer| answer.contains("SYNCING"))
            );
        }
        assert_eq!(injected(&injector, "eth_blockNumber", json!([])), None);
    }

    #[test]
    fn only_an_answer_of_the_engine_api_is_lost() {
        let disconnects = Arc::new(Mutex::new(0));
        let counter = disconnects.clone();
        let injector = ExecutionFaultInjector::new(move || *counter.lock().expect("no panic") += 1);
        injector.lock().lost_answers = 1;
        injector.after("eth_blockNumber");
        assert_eq!(*disconnects.lock().expect("no panic"), 0);
        injector.after("engine_newPayloadV3");
        injector.after("engine_newPayloadV3");
        assert_eq!(*disconnects.lock().expect("no panic"), 1);
    }
}
