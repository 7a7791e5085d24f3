//! Numbers of requests by method. Unknown method names are counted together as [`OTHER`], because
//! callers can send any number of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::http::RpcError;

/// The label of unknown methods.
const OTHER: &str = "other";

/// Answered requests of one method with one outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestCount {
    pub method: String,
    pub is_error: bool,
    pub count: u64,
}

/// Counts of the requests to one port.
#[derive(Debug, Default)]
pub struct Requests {
    counts: Mutex<BTreeMap<(String, bool), u64>>,
}

impl Requests {
    pub(super) fn count(&self, method: &str, answer: &Result<Value, RpcError>) {
        let is_unknown = matches!(answer, Err(error) if error.code == RpcError::METHOD_NOT_FOUND);
        let method = if is_unknown { OTHER } else { method };
        *self
            .lock()
            .entry((method.to_owned(), answer.is_err()))
            .or_default() += 1;
    }

    /// The counts so far, sorted by method.
    pub fn counts(&self) -> Vec<RequestCount> {
        let counts = self.lock();
        let rows = counts
            .iter()
            .map(|((method, is_error), count)| RequestCount {
                method: method.clone(),
                is_error: *is_error,
                count: *count,
            });
        rows.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, bool), u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_share_one_count() {
        let requests = Requests::default();
        requests.count("eth_chainId", &Ok(Value::Null));
        requests.count("eth_chainId", &Ok(Value::Null));
        requests.count("eth_chainId", &Err(RpcError::invalid_params("none")));
        for number in 0..10_000 {
            let name = format!("made_up_{number}");
            requests.count(&name, &Err(RpcError::method_not_found(&name)));
        }
        let row = |method: &str, is_error, count| RequestCount {
            method: method.to_owned(),
            is_error,
            count,
        };
        let expected = [
            row("eth_chainId", false, 2),
            row("eth_chainId", true, 1),
            row(OTHER, true, 10_000),
        ];
        assert_eq!(requests.counts(), expected);
    }
}
