//! Fault injection for the embedded execution client: false, delayed, repeated and lost answers,
//! and payloads that the rules of the chain refuse.
//!
//! The injector sits between the Engine API's port and its methods. It exists in simulations only;
//! a production binary does not contain it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use alloy_rpc_types_engine::{ForkchoiceUpdated, PayloadStatus, PayloadStatusEnum};
use alys_runtime::trace;
use alys_types::limits::{MAX_BLOCK_BYTES, MAX_GAS_LIMIT};
use serde_json::{Value, json};

use super::engine::asks_for_empty;
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
    /// Fork choices that are refused as inconsistent (-38002), with payload attributes or without.
    pub refused_forkchoices: u32,
    /// Delay of every answer of the Engine API.
    pub answer_delay: Duration,
    /// Payloads and fork choices that are executed twice, as after a repeated request.
    pub repeated_calls: u32,
    /// Answers that are lost or truncated, because the connections break when they are ready.
    pub lost_answers: u32,
    /// Every payload that is built has this fault.
    pub build: Option<BuildFault>,
    /// The receipts of every block have this fault.
    pub receipts: Option<ReceiptsFault>,
}

/// A fault of the receipts that the client answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptsFault {
    /// There are none, as in EthereumJS after a kill.
    Lost,
    /// They are not those of the block.
    False,
}

impl ReceiptsFault {
    fn spoil(self, receipts: &mut Vec<Value>) {
        match self {
            Self::Lost => receipts.clear(),
            Self::False => {
                for receipt in receipts {
                    receipt["cumulativeGasUsed"] = "0x1".into();
                }
            }
        }
    }
}

/// A property of built payloads that the rules of the chain refuse, as clients have it that are
/// configured for another chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildFault {
    /// A blob transaction, as in a client whose genesis permits blobs.
    Blobs,
    /// A transaction of a type of a later fork.
    ForeignType,
    /// More bytes than a block may have.
    Oversize,
    /// A gas limit that rises above the highest one permitted, as by Geth's default.
    GasLimit,
    /// A withdrawal that the node did not ask for, with its effect on the state.
    Withdrawals,
}

impl BuildFault {
    /// The gas limit towards which built blocks move: Geth's default since v1.16.4 is twice the
    /// limit of the chain.
    pub(super) fn gas_limit_target(self) -> Option<u64> {
        match self {
            Self::GasLimit => Some(2 * MAX_GAS_LIMIT),
            Self::Blobs | Self::ForeignType | Self::Oversize | Self::Withdrawals => None,
        }
    }

    /// The transaction that a payload has in addition.
    fn transaction(self) -> Option<String> {
        match self {
            Self::Blobs => Some("0x03c0".to_owned()),
            Self::ForeignType => Some("0x04c0".to_owned()),
            Self::Oversize => Some(format!("0x02{}", "00".repeat(MAX_BLOCK_BYTES))),
            Self::GasLimit | Self::Withdrawals => None,
        }
    }

    /// Changes the answer of `engine_getPayload`. The block hash stays: the rules about a payload
    /// are checked before it is executed.
    fn spoil(self, answer: &mut Value) {
        let Some(payload) = answer
            .get_mut("executionPayload")
            .and_then(Value::as_object_mut)
        else {
            return;
        };
        if let Some(transaction) = self.transaction()
            && let Some(transactions) = payload
                .get_mut("transactions")
                .and_then(Value::as_array_mut)
        {
            transactions.push(transaction.into());
        }
        if self == Self::Blobs {
            payload.insert("blobGasUsed".to_owned(), "0x20000".into());
        }
    }
}

/// Injects [`ExecutionFaults`] into a client. Clones share the faults, which outlive the client's
/// process.
#[derive(Clone, Default)]
pub struct ExecutionFaultInjector {
    faults: Arc<Mutex<ExecutionFaults>>,
    /// The last build was to be without transactions, which are the reason of most build faults.
    builds_empty: Arc<AtomicBool>,
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
            builds_empty: Arc::default(),
            disconnect: Some(Arc::new(disconnect)),
        }
    }

    /// The faults, for reading and changing.
    pub fn lock(&self) -> MutexGuard<'_, ExecutionFaults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies the faults to a received call.
    pub(super) async fn before(&self, method: &str, params: &Value) -> CallDecision {
        if method.starts_with("engine_") {
            // 1 for a fork choice, 2 for one that begins a payload.
            let is_forkchoice = method.starts_with("engine_forkchoiceUpdated");
            let is_building = params.get(1).is_some_and(|found| !found.is_null());
            let call = u8::from(is_forkchoice) + u8::from(is_forkchoice && is_building);
            trace::event("execution.called", &[call]);
        }
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
        if is_forkchoice && has_attributes {
            self.builds_empty
                .store(asks_for_empty(params), Ordering::SeqCst);
        }
        if is_forkchoice && take(&mut faults.refused_forkchoices) {
            count("execution.refused");
            let text = "Invalid forkchoice state: the simulator says so";
            return CallDecision::Answer(Err(RpcError::new(-38002, text)));
        }
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

    /// Changes the parameters of a call that begins a payload.
    pub(super) fn alter(&self, method: &str, mut params: Value) -> Value {
        let is_build = method.starts_with("engine_forkchoiceUpdated") && !asks_for_empty(&params);
        let is_hit = is_build && self.lock().build == Some(BuildFault::Withdrawals);
        let attributes = params.get_mut(1).filter(|_| is_hit);
        let withdrawals = attributes.and_then(|attributes| attributes.get_mut("withdrawals"));
        if let Some(withdrawals) = withdrawals.and_then(Value::as_array_mut) {
            withdrawals.push(json!({
                "index": "0x0",
                "validatorIndex": "0x0",
                "address": format!("0x{}", "77".repeat(20)),
                "amount": "0x1",
            }));
        }
        params
    }

    /// The gas limit towards which built blocks move; `None` without a fault.
    pub(super) fn gas_limit_target(&self) -> Option<u64> {
        self.lock().build.and_then(BuildFault::gas_limit_target)
    }

    /// Applies the faults to an answer that is ready.
    pub(super) fn after(&self, method: &str, answer: &mut Result<Value, RpcError>) {
        let build = self.lock().build;
        if method.starts_with("engine_getPayloadV")
            && let Some(fault) = build
            && let Ok(answer) = answer
        {
            count("execution.spoiled_build");
            if !self.builds_empty.load(Ordering::SeqCst) {
                fault.spoil(answer);
            }
        }
        let receipts = self.lock().receipts;
        if method == "eth_getBlockReceipts"
            && let Some(fault) = receipts
            && let Ok(Value::Array(found)) = answer
            && !found.is_empty()
        {
            count("execution.spoiled_receipts");
            fault.spoil(found);
        }
        let is_engine = method.starts_with("engine_");
        let is_lost = is_engine && take(&mut self.lock().lost_answers);
        if is_engine {
            let outcome = Outcome::of(method, answer, is_lost);
            trace::event("execution.answered", &[outcome as u8]);
        }
        if is_lost {
            count("execution.cut");
            if let Some(disconnect) = &self.disconnect {
                disconnect();
            }
        }
    }
}

/// The end of a call of the Engine API, in the trace of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// An answer to another call than a fork choice.
    Answered = 0,
    /// The client follows a fork choice.
    Followed = 1,
    /// The client does not follow a fork choice.
    NotFollowed = 2,
    /// The client does not know the parent of a payload.
    Syncing = 3,
    /// The error of another call than a fork choice.
    Error = 4,
    /// The error of a fork choice.
    Refused = 5,
    /// The answer does not arrive.
    Lost = 6,
}

impl Outcome {
    fn of(method: &str, answer: &Result<Value, RpcError>, is_lost: bool) -> Self {
        let is_forkchoice = method.starts_with("engine_forkchoiceUpdated");
        let is_payload = method.starts_with("engine_newPayload");
        let is_one_of = |status: &Value, words: &[&str]| {
            let word = status.as_str().unwrap_or("");
            words.contains(&word)
        };
        match answer {
            _ if is_lost => Self::Lost,
            Err(_) if is_forkchoice => Self::Refused,
            Err(_) => Self::Error,
            Ok(answer) if is_forkchoice => {
                if is_one_of(&answer["payloadStatus"]["status"], &["VALID"]) {
                    Self::Followed
                } else {
                    Self::NotFollowed
                }
            }
            Ok(answer) if is_payload && is_one_of(&answer["status"], &["SYNCING", "ACCEPTED"]) => {
                Self::Syncing
            }
            Ok(_) => Self::Answered,
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
    fn a_refused_fork_choice_has_the_code_of_the_specification() {
        let injector = ExecutionFaultInjector::default();
        injector.lock().refused_forkchoices = 1;
        let call = || block_on(injector.before("engine_forkchoiceUpdatedV3", &json!([{}])));
        let CallDecision::Answer(Err(error)) = call() else {
            panic!("it is refused")
        };
        assert_eq!(error.code, -38002);
        assert!(matches!(call(), CallDecision::Execute { times: 1 }));
    }

    #[test]
    fn only_an_answer_of_the_engine_api_is_lost() {
        let disconnects = Arc::new(Mutex::new(0));
        let counter = disconnects.clone();
        let injector = ExecutionFaultInjector::new(move || *counter.lock().expect("no panic") += 1);
        injector.lock().lost_answers = 1;
        let after = |method| injector.after(method, &mut Ok(Value::Null));
        after("eth_blockNumber");
        assert_eq!(*disconnects.lock().expect("no panic"), 0);
        after("engine_newPayloadV3");
        after("engine_newPayloadV3");
        assert_eq!(*disconnects.lock().expect("no panic"), 1);
    }

    #[test]
    fn calls_have_their_outcome_in_the_trace() {
        let forkchoice = "engine_forkchoiceUpdatedV3";
        let payload = "engine_newPayloadV3";
        let status = |word: &str| json!({ "payloadStatus": { "status": word } });
        let table = [
            (forkchoice, Ok(status("VALID")), Outcome::Followed),
            (forkchoice, Ok(status("SYNCING")), Outcome::NotFollowed),
            (forkchoice, Err(()), Outcome::Refused),
            (payload, Ok(json!({ "status": "VALID" })), Outcome::Answered),
            (
                payload,
                Ok(json!({ "status": "SYNCING" })),
                Outcome::Syncing,
            ),
            (payload, Err(()), Outcome::Error),
        ];
        for (method, answer, expected) in table {
            let answer = answer.map_err(|()| RpcError::new(-38002, "refused"));
            assert_eq!(Outcome::of(method, &answer, false), expected);
            assert_eq!(Outcome::of(method, &answer, true), Outcome::Lost);
        }
    }

    #[test]
    fn a_built_payload_is_spoiled_unless_it_is_empty() {
        let built = || json!({ "executionPayload": { "transactions": [], "blobGasUsed": "0x0" } });
        let injector = ExecutionFaultInjector::default();
        let after = |fault, method| {
            injector.lock().build = Some(fault);
            let mut answer = Ok(built());
            injector.after(method, &mut answer);
            answer.expect("it stays an answer")
        };
        let get = "engine_getPayloadV3";
        let blobs = after(BuildFault::Blobs, get);
        assert_eq!(blobs["executionPayload"]["blobGasUsed"], json!("0x20000"));
        assert_eq!(blobs["executionPayload"]["transactions"], json!(["0x03c0"]));
        let foreign = after(BuildFault::ForeignType, get);
        assert_eq!(
            foreign["executionPayload"]["transactions"],
            json!(["0x04c0"])
        );
        let large = after(BuildFault::Oversize, get).to_string();
        assert!(large.len() > 2 * MAX_BLOCK_BYTES);
        assert_eq!(after(BuildFault::GasLimit, get), built());
        assert_eq!(injector.gas_limit_target(), Some(2 * MAX_GAS_LIMIT));
        assert_eq!(after(BuildFault::Blobs, "eth_blockNumber"), built());
        assert_eq!(injector.gas_limit_target(), None);
        let building = json!([{}, { "noTxPool": true }]);
        injected(&injector, "engine_forkchoiceUpdatedV3", building);
        assert_eq!(after(BuildFault::Blobs, get), built());
    }
}
