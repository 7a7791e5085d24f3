//! Work for miners: the chain's side of the AuxPowActor.

use std::sync::Arc;

use alys_actor_system::Addr;

use crate::actors::auxpow::{AuxPowMessage, PowFinal, WorkOffer};

/// The work and the last final proof, and the parts of them that the AuxPowActor does not have.
#[derive(Default)]
pub(super) struct Mining {
    /// `None` until the state machine has reported it.
    work: Option<Option<Arc<WorkOffer>>>,
    is_work_sent: bool,
    last_final: Option<PowFinal>,
    is_final_sent: bool,
}

impl Mining {
    pub(super) fn on_work(&mut self, offer: Option<Arc<WorkOffer>>) {
        self.work = Some(offer);
        self.is_work_sent = false;
    }

    pub(super) fn on_final(&mut self, last: PowFinal) {
        self.last_final = Some(last);
        self.is_final_sent = false;
    }

    /// A new AuxPowActor has nothing yet.
    pub(super) fn forget_sent(&mut self) {
        self.is_work_sent = false;
        self.is_final_sent = false;
    }

    /// Sends what is not sent yet, the last final proof first, because the work follows it. A
    /// message that finds no room is sent after the next input.
    pub(super) fn publish(&mut self, auxpow: &Addr<AuxPowMessage>) {
        if let Some(last) = self.last_final.filter(|_| !self.is_final_sent) {
            self.is_final_sent = auxpow.tell(AuxPowMessage::PowFinal(last)).is_ok();
        }
        let has_final = self.last_final.is_none() || self.is_final_sent;
        if let Some(offer) = self
            .work
            .as_ref()
            .filter(|_| has_final && !self.is_work_sent)
        {
            self.is_work_sent = auxpow.tell(AuxPowMessage::Work(offer.clone())).is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use alys_actor_system::testkit::Probe;
    use alys_consensus::BlockRef;
    use alys_types::{Address, Hash, Height, Slot};

    use super::*;

    /// The kinds of the messages that a mailbox of this capacity got.
    fn sent(mining: &mut Mining, capacity: usize) -> Vec<&'static str> {
        use alys_actor_system::Message as _;
        let (auxpow, mut probe) = Probe::new(capacity);
        mining.publish(&auxpow);
        let mut kinds = Vec::new();
        while let Some(message) = probe.now() {
            kinds.push(message.kind());
        }
        kinds
    }

    #[test]
    fn reports_are_sent_once_in_order_and_again_to_a_new_actor() {
        alys_runtime::block_on_main(async {
            let last = PowFinal {
                sequence: 1,
                first: Height(1),
                end: Height(2),
                end_hash: Hash([2; 32]),
                miner: Address([3; 20]),
                carrier: BlockRef {
                    slot: Slot(9),
                    hash: Hash([9; 32]),
                },
            };
            let mut mining = Mining::default();
            assert!(sent(&mut mining, 8).is_empty(), "there is no report yet");
            mining.on_work(None);
            assert_eq!(sent(&mut mining, 8), ["work"]);
            assert!(sent(&mut mining, 8).is_empty());
            mining.on_final(last);
            mining.on_work(None);
            assert_eq!(sent(&mut mining, 1), ["pow_final"], "one has room");
            assert_eq!(sent(&mut mining, 1), ["work"]);
            mining.forget_sent();
            assert_eq!(sent(&mut mining, 8), ["pow_final", "work"]);
        });
    }
}
