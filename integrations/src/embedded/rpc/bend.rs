//! What the simulator does to an embedded execution client: it lies, forgets, is late, or hangs up.
//!
//! It stands between the Engine API's port and what answers it, in simulations only: a production binary does not have it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use alloy_rpc_types_engine::{ForkchoiceUpdated, PayloadStatus, PayloadStatusEnum};
use alys_runtime::trace;
use serde_json::Value;

use super::node::to_json;
use crate::http::RpcError;

/// What is wrong with a client at present. Numbers are of calls still to be hit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bending {
    /// It says of every payload and fork choice that it is syncing, and does nothing.
    pub is_syncing: bool,
    /// Payloads that it calls invalid without looking.
    pub invalid: u32,
    /// Fork choices, without an order to build, that it accepts and forgets.
    pub forgotten: u32,
    /// How much later it answers.
    pub late: Duration,
    /// Payloads and fork choices that it carries out twice, as after a repeated request.
    pub twice: u32,
    /// Answers after whose making it hangs up: they are lost, or cut off.
    pub cut: u32,
}

/// A handle on what is wrong with a client; clones are the same, and outlive the client's process.
#[derive(Clone, Default)]
pub struct Bend {
    bending: Arc<Mutex<Bending>>,
    hang_up: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// What becomes of a call.
pub(super) enum Fate {
    /// It is answered without being carried out.
    Answered(Result<Value, RpcError>),
    /// It is carried out so often, and the last answer counts.
    CarriedOut { times: u32 },
}

fn take(count: &mut u32) -> bool {
    let is_hit = *count > 0;
    *count = count.saturating_sub(1);
    is_hit
}

impl Bend {
    /// Nothing is wrong yet; `hang_up` cuts all connections of the client with its node.
    pub fn new(hang_up: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            bending: Arc::default(),
            hang_up: Some(Arc::new(hang_up)),
        }
    }

    /// What is wrong, to be changed.
    pub fn look(&self) -> MutexGuard<'_, Bending> {
        self.bending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call has come in.
    pub(super) async fn before(&self, method: &str, params: &Value) -> Fate {
        let late = self.look().late;
        if !late.is_zero() && method.starts_with("engine_") {
            count("client.late");
            alys_runtime::time::sleep(late).await;
        }
        let is_payload = method.starts_with("engine_newPayload");
        let is_forkchoice = method.starts_with("engine_forkchoiceUpdated");
        if !is_payload && !is_forkchoice {
            return Fate::CarriedOut { times: 1 };
        }
        let mut bending = self.look();
        if bending.is_syncing {
            count("client.syncing");
            let syncing = PayloadStatus::new(PayloadStatusEnum::Syncing, None);
            return Fate::Answered(match is_payload {
                true => to_json(syncing),
                false => to_json(ForkchoiceUpdated::new(syncing)),
            });
        }
        if is_payload && take(&mut bending.invalid) {
            count("client.invalid");
            let validation_error = "the simulator says so".to_owned();
            let invalid = PayloadStatus::new(PayloadStatusEnum::Invalid { validation_error }, None);
            return Fate::Answered(to_json(invalid));
        }
        let builds = params
            .get(1)
            .is_some_and(|attributes| !attributes.is_null());
        if is_forkchoice && !builds && take(&mut bending.forgotten) {
            count("client.forgotten");
            let head: Option<B256> = params
                .get(0)
                .and_then(|state| serde_json::from_value(state["headBlockHash"].clone()).ok());
            let valid = PayloadStatus::new(PayloadStatusEnum::Valid, head);
            return Fate::Answered(to_json(ForkchoiceUpdated::new(valid)));
        }
        if take(&mut bending.twice) {
            count("client.twice");
            return Fate::CarriedOut { times: 2 };
        }
        Fate::CarriedOut { times: 1 }
    }

    /// An answer is about to leave.
    pub(super) fn after(&self, method: &str) {
        if method.starts_with("engine_") && take(&mut self.look().cut) {
            count("client.cut");
            if let Some(hang_up) = &self.hang_up {
                hang_up();
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

    fn fate(bend: &Bend, method: &str, params: Value) -> Option<String> {
        match block_on(bend.before(method, &params)) {
            Fate::Answered(answer) => Some(answer.expect("it can be encoded").to_string()),
            Fate::CarriedOut { .. } => None,
        }
    }

    #[test]
    fn so_many_calls_are_hit_and_no_more() {
        let bend = Bend::default();
        *bend.look() = Bending {
            invalid: 1,
            forgotten: 1,
            ..Bending::default()
        };
        let state = json!([{ "headBlockHash": B256::repeat_byte(7) }]);
        let building = json!([{ "headBlockHash": B256::repeat_byte(7) }, { "timestamp": "0x1" }]);
        assert_eq!(
            fate(&bend, "engine_forkchoiceUpdatedV3", building),
            None,
            "an order to build is carried out"
        );
        let forgotten =
            fate(&bend, "engine_forkchoiceUpdatedV3", state.clone()).expect("it is hit");
        assert!(
            forgotten.contains("VALID") && forgotten.contains("0707"),
            "{forgotten}"
        );
        assert_eq!(fate(&bend, "engine_forkchoiceUpdatedV3", state), None);
        let invalid = fate(&bend, "engine_newPayloadV3", json!([])).expect("it is hit");
        assert!(invalid.contains("INVALID"), "{invalid}");
        assert_eq!(fate(&bend, "engine_newPayloadV3", json!([])), None);
        bend.look().is_syncing = true;
        for method in ["engine_newPayloadV3", "engine_forkchoiceUpdatedV3"] {
            assert!(
                fate(&bend, method, json!([{}])).is_some_and(|answer| answer.contains("SYNCING"))
            );
        }
        assert_eq!(fate(&bend, "eth_blockNumber", json!([])), None);
    }

    #[test]
    fn it_hangs_up_after_an_answer_of_the_engine_port() {
        let hung_up = Arc::new(Mutex::new(0));
        let counter = hung_up.clone();
        let bend = Bend::new(move || *counter.lock().expect("no panic") += 1);
        bend.look().cut = 1;
        bend.after("eth_blockNumber");
        assert_eq!(*hung_up.lock().expect("no panic"), 0);
        bend.after("engine_newPayloadV3");
        bend.after("engine_newPayloadV3");
        assert_eq!(*hung_up.lock().expect("no panic"), 1);
    }
}
