//! The places in which a simulation changes a node: its planted bugs, and the layer in front of its
//! network.
//!
//! Each planted bug is one function that the correct code calls. The list of planted bugs names
//! each one and the invariant that must find it. Outside of simulations no bug is active, and the
//! functions are constant.

use std::time::Duration;

use alloy_consensus::{ReceiptEnvelope, Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::U256;
use alys_consensus::Verdict;
use alys_net::{Command, Event, GossipVerdict, Handle, SendError};
use alys_peg::{ReceiptsError, receipts};
use alys_runtime::mutant;
use alys_storage::Durability;
use alys_types::ExecutionPayload;

use crate::actors::chain::screen::Screened;
use crate::actors::engine::ReceiptsPlace;

#[cfg(madsim)]
pub use simulated::Intercept;

/// The verdict on a duplicate that was not checked; the bug makes the forwarding peer pay for it.
pub(crate) fn unchecked_duplicate(verdict: GossipVerdict) -> GossipVerdict {
    if mutant::active("duplicates-rejected") {
        GossipVerdict::Reject
    } else {
        verdict
    }
}

/// The decision about a vote before its signature is checked; with the bug every vote is checked.
pub(crate) fn screened(decision: Screened) -> Screened {
    if mutant::active("votes-not-screened") {
        Screened::Check
    } else {
        decision
    }
}

/// True if a message may be checked while others of its signer are under check.
pub(crate) fn may_check(has_room: bool) -> bool {
    has_room || mutant::active("votes-not-screened")
}

/// True if a certificate is of a block that is decided, so that it needs no check; with the bug
/// every certificate that is not known is checked.
pub(crate) fn is_certificate_stale(is_stale: bool) -> bool {
    is_stale && !mutant::active("old-finality-checked")
}

/// The clock offset that a new incarnation of the ChainActor trusts; the bug forgets it.
pub(crate) fn kept_clock(trusted_ms: Option<i64>) -> Option<i64> {
    trusted_ms.filter(|_| !mutant::active("clock-trusted-after-restart"))
}

/// True if blocks that the execution client lost are sent to it again.
pub(crate) fn replays_lost_blocks() -> bool {
    !mutant::active("lost-blocks-not-sent")
}

/// The verdict on a payload about which the execution client does not answer.
pub(crate) fn unanswered_payload() -> Verdict {
    if mutant::active("no-answer-is-valid") {
        Verdict::Valid
    } else {
        Verdict::Unknown
    }
}

/// The verdict on a payload for which the execution client answers SYNCING or ACCEPTED.
pub(crate) fn syncing_payload() -> Verdict {
    if mutant::active("syncing-is-invalid") {
        Verdict::Invalid
    } else if mutant::active("syncing-is-valid") {
        Verdict::Valid
    } else {
        Verdict::Unknown
    }
}

/// True if a fetch by hash expires, so that another peer is asked.
pub(crate) fn fetches_expire() -> bool {
    !mutant::active("fetch-never-again")
}

/// True if a request without an answer is given up.
pub(crate) fn requests_expire() -> bool {
    !mutant::active("request-kept")
}

/// True if a peer that does not send a block ranks behind others.
pub(crate) fn failed_blocks_count() -> bool {
    !mutant::active("failed-block-forgiven")
}

/// The time until the ChainActor wakes; with the bug it does not know when a slot starts.
pub(crate) fn tick_delay(delay: Duration) -> Duration {
    if mutant::active("slot-start-unscheduled") {
        Duration::from_secs(1)
    } else {
        delay
    }
}

/// True if a restarted PeerActor asks the network for the connected peers.
pub(crate) fn requests_connected_peers() -> bool {
    !mutant::active("peers-not-introduced")
}

/// True if the ChainActor forgets the peers that proved a key to the earlier network service.
pub(crate) fn forgets_vouched() -> bool {
    !mutant::active("vouched-after-network-restart")
}

/// True if a restarted EngineActor reports that open questions get no answer.
pub(crate) fn reports_engine_restart() -> bool {
    !mutant::active("engine-restart-not-told")
}

/// True if the AuxPowActor begins with the proofs that are stored.
pub(crate) fn restores_proofs() -> bool {
    !mutant::active("proofs-not-restored")
}

/// True if the AuxPowActor publishes the proofs of its miners.
pub(crate) fn gossips_proofs() -> bool {
    !mutant::active("proofs-not-gossiped")
}

/// True if the marker of a fresh key is removed before the vote state exists.
pub(crate) fn removes_marker_first() -> bool {
    mutant::active("marker-removed-first")
}

/// True if a timer for another attempt at a fork choice counts as expired; the bug leaves it
/// pending when the client follows again by then.
pub(crate) fn retry_has_ended(is_refused: bool) -> bool {
    is_refused || !mutant::active("retry-flag-kept")
}

/// True if the list of all connections removes the peers that have disconnected.
pub(crate) fn forgets_gone_peers() -> bool {
    !mutant::active("gone-peers-kept")
}

/// Durability of a record's write.
pub(crate) fn record_durability() -> Durability {
    if mutant::active("write-deferred") {
        Durability::Deferred
    } else {
        Durability::Durable
    }
}

/// True if a shutdown limits the time of calls to the execution client.
pub(crate) fn shutdown_limits_calls() -> bool {
    !mutant::active("stop-waits-for-execution")
}

/// True if transactions count as broadcast; the bug counts those that the NetworkActor did not
/// take.
pub(crate) fn counts_as_broadcast(is_taken: bool) -> bool {
    is_taken || mutant::active("untaken-broadcast-counted")
}

/// True if a peer counts as vouched for; the bug counts one whose command the NetworkActor did not
/// take.
pub(crate) fn counts_as_vouched(is_taken: bool) -> bool {
    is_taken || mutant::active("untaken-vouch-counted")
}

/// True if a range of blocks continues after the block at index `last`, the last one of its
/// federation; the bug overlooks a single further block.
pub(crate) fn range_goes_on(last: usize, blocks: usize) -> bool {
    let overlooked = usize::from(mutant::active("range-one-block-too-long"));
    last + 1 + overlooked < blocks
}

/// True if the desk forgets the first block of the next range when a proof becomes final; the bug
/// keeps that of the range before.
pub(crate) fn resets_next_start() -> bool {
    !mutant::active("staleness-outlives-finality")
}

/// True if an address with too much work loses its oldest one; the bug drops the newest.
pub(crate) fn drops_oldest_work() -> bool {
    !mutant::active("newest-work-displaced")
}

/// The tips of a payload; the bug leaves out those of transactions that failed.
pub(crate) fn tips(
    payload: &ExecutionPayload,
    found: &[ReceiptEnvelope],
) -> Result<U256, ReceiptsError> {
    let tips = receipts::tips(payload, found)?;
    let has_failed = found.iter().any(|receipt| !receipt.status());
    if has_failed && mutant::active("failed-tips-left-out") {
        return Ok(tips.saturating_sub(tips_of_failed(payload, found)));
    }
    Ok(tips)
}

fn tips_of_failed(payload: &ExecutionPayload, found: &[ReceiptEnvelope]) -> U256 {
    let base_fee = U256::from_be_bytes(payload.base_fee_per_gas);
    let mut gas_before = 0;
    let mut tips = U256::ZERO;
    for (encoded, receipt) in payload.transactions.iter().zip(found) {
        let cumulative = receipt.cumulative_gas_used();
        let gas_used = cumulative.saturating_sub(gas_before);
        gas_before = cumulative;
        let Ok(transaction) = TxEnvelope::decode_2718_exact(encoded) else {
            continue;
        };
        let (cap, priority) = (
            transaction.max_fee_per_gas(),
            transaction.max_priority_fee_per_gas(),
        );
        let tip = receipts::tip_per_gas(cap, priority, base_fee);
        if let Some(tip) = tip.filter(|_| !receipt.status()) {
            tips = tips.saturating_add(tip.saturating_mul(U256::from(gas_used)));
        }
    }
    tips
}

/// Called with the place of a peer's read of receipts that the execution client did not answer,
/// which is free again; the bug does not free it.
pub(crate) fn free_failed_read(place: ReceiptsPlace) {
    if mutant::active("receipts-place-kept") {
        std::mem::forget(place);
    }
}

/// True if the planner learns that a range was lost after it had arrived.
pub(crate) fn reports_lost_range() -> bool {
    !mutant::active("lost-range-not-reported")
}

/// Durability of the write of a proof of work that is being accepted.
pub(crate) fn proof_durability() -> Durability {
    if mutant::active("proof-write-deferred") {
        Durability::Deferred
    } else {
        Durability::Durable
    }
}

/// The layer between a node and its network service, in which a simulation makes an authority
/// Byzantine while everything behind it is the real node. Outside of simulations it is empty and
/// forwards everything unchanged.
#[derive(Clone, Default)]
pub struct NetworkInterceptor {
    #[cfg(madsim)]
    by: Option<std::sync::Arc<dyn Intercept>>,
}

#[cfg(not(madsim))]
impl NetworkInterceptor {
    /// Called when a network service starts.
    #[inline]
    pub(crate) fn started(&self) {}

    /// Sends a command to the network without waiting for room.
    #[inline]
    pub(crate) fn try_send(&self, network: &Handle, command: Command) -> Result<(), SendError> {
        network.try_send(command)
    }

    /// Sends a command to the network, waiting for room.
    #[inline]
    pub(crate) async fn send(&self, network: &Handle, command: Command) -> Result<(), SendError> {
        network.send(command).await
    }

    /// Delivers an event to the node; false when the node is gone.
    #[inline]
    pub(crate) async fn deliver<F: Future<Output = bool>>(
        &self,
        event: Event,
        node: impl Fn(Event) -> F,
    ) -> bool {
        node(event).await
    }
}

#[cfg(madsim)]
mod simulated {
    use std::sync::Arc;

    use alys_runtime::{spawn, time};

    use super::*;

    /// Replaces the messages of a node, in both directions.
    pub trait Intercept: Send + Sync {
        /// Called when a network service starts, before its first event and command.
        fn started(&self) {}
        /// Commands that leave in place of `command`, each after a delay.
        fn leaving(&self, command: Command) -> Vec<(Duration, Command)>;
        /// Events that arrive in place of `event`, each after a delay.
        fn arriving(&self, event: Event) -> Vec<(Duration, Event)>;
    }

    impl NetworkInterceptor {
        /// An interceptor that applies `by` to everything.
        pub fn by(by: Arc<dyn Intercept>) -> Self {
            Self { by: Some(by) }
        }

        pub(crate) fn started(&self) {
            if let Some(by) = &self.by {
                by.started();
            }
        }

        /// Returns the commands that leave now, and schedules the delayed ones.
        fn intercept(&self, network: &Handle, command: Command) -> Vec<Command> {
            let Some(by) = &self.by else {
                return vec![command];
            };
            let mut now = Vec::new();
            for (delay, command) in by.leaving(command) {
                if delay.is_zero() {
                    now.push(command);
                    continue;
                }
                let network = network.clone();
                spawn("delayed-command", async move {
                    time::sleep(delay).await;
                    // A full queue drops the command, like any other.
                    let _ = network.try_send(command);
                });
            }
            now
        }

        pub(crate) fn try_send(&self, network: &Handle, command: Command) -> Result<(), SendError> {
            self.intercept(network, command)
                .into_iter()
                .try_for_each(|command| network.try_send(command))
        }

        pub(crate) async fn send(
            &self,
            network: &Handle,
            command: Command,
        ) -> Result<(), SendError> {
            for command in self.intercept(network, command) {
                network.send(command).await?;
            }
            Ok(())
        }

        pub(crate) async fn deliver<F>(&self, event: Event, node: impl Fn(Event) -> F) -> bool
        where
            F: Future<Output = bool> + Send + 'static,
        {
            let Some(by) = &self.by else {
                return node(event).await;
            };
            for (delay, event) in by.arriving(event) {
                let delivery = node(event);
                if delay.is_zero() {
                    if !delivery.await {
                        return false;
                    }
                    continue;
                }
                spawn("delayed-event", async move {
                    time::sleep(delay).await;
                    // The node may be gone by then.
                    let _ = delivery.await;
                });
            }
            true
        }
    }
}
