//! Proposed blocks: their timestamps, the rules that need no execution, and the ancestry of the
//! nodes' heads.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_types::spec::{prev_randao, vault_address};
use alys_types::{Block, Hash, Header, codec};

use super::{Sets, Violation, arithmetic, short};
use crate::params::WorldPlan;

/// The highest gas limit of a payload and the most encoded bytes of a block, as the protocol states
/// them (rule 2.5).
const GAS_LIMIT: u64 = 30_000_000;
const BLOCK_BYTES: usize = 8 << 20;

/// A block that was proposed.
#[derive(Debug, Clone)]
pub struct Proposed {
    pub block: Arc<Block>,
    /// Simulated time of the first report, in milliseconds.
    pub at_ms: u64,
}

impl Proposed {
    pub fn slot(&self) -> u64 {
        self.block.header.slot.0
    }

    pub fn parent(&self) -> Hash {
        self.block.header.parent_hash
    }
}

/// All proposed blocks of a run, including those that lost.
#[derive(Debug)]
pub struct Blocks {
    slot_ms: u64,
    /// The federation of each block.
    sets: Sets,
    /// Blocks by hash, without those that a key thief forged.
    known: BTreeMap<Hash, Proposed>,
}

impl Blocks {
    pub fn new(plan: &WorldPlan) -> Self {
        Self {
            slot_ms: plan.slot_ms,
            sets: Sets::new(plan),
            known: BTreeMap::new(),
        }
    }

    /// Judges by these federations, which other invariants share.
    pub(super) fn sharing(self, sets: &Sets) -> Self {
        let sets = sets.clone();
        Self { sets, ..self }
    }

    /// Returns a block that an authority reported as proposed.
    pub fn get(&self, hash: &Hash) -> Option<&Proposed> {
        self.known.get(hash)
    }

    /// Returns the slot of a block's parent; 0 for genesis, `None` if the block or its parent is
    /// unknown.
    pub fn parent_slot(&self, hash: &Hash) -> Option<u64> {
        let proposed = self.known.get(hash)?;
        match proposed.block.header.height.0 {
            0 | 1 => Some(0),
            _ => self.known.get(&proposed.parent()).map(Proposed::slot),
        }
    }

    /// Records a proposed block and checks its timestamp; a repeated proposal is ignored.
    ///
    /// # Errors
    /// [`Violation::WrongTimestamp`].
    pub fn proposed(
        &mut self,
        at_ms: u64,
        node: u8,
        hash: Hash,
        block: &Arc<Block>,
    ) -> Result<(), Violation> {
        if self.known.contains_key(&hash) {
            return Ok(());
        }
        self.known.insert(
            hash,
            Proposed {
                block: block.clone(),
                at_ms,
            },
        );
        self.sets.learn(hash, block);
        let header = &block.header;
        let found = block.body.payload.timestamp;
        let expected = header.slot.0 * self.slot_ms / 1_000;
        if found != expected {
            return Err(Violation::WrongTimestamp {
                node: node + 1,
                slot: header.slot.0,
                found,
                expected,
            });
        }
        Ok(())
    }

    /// Checks a block that a correct node approved or finalized: its leader, its slot, and every
    /// field that follows from its parent without execution. An unknown block passes, because no
    /// node reported its contents.
    ///
    /// # Errors
    /// [`Violation::ApprovedInvalid`].
    pub fn approved(&self, node: u8, hash: &Hash) -> Result<(), Violation> {
        let Some(proposed) = self.known.get(hash) else {
            return Ok(());
        };
        let header = &proposed.block.header;
        let payload = &proposed.block.body.payload;
        let slot = header.slot.0;
        let parent = self
            .known
            .get(&header.parent_hash)
            .map(|parent| &parent.block.header);
        let follows =
            |what: fn(&Header, &Header) -> bool| parent.is_none_or(|parent| what(header, parent));
        let leads = self
            .sets
            .of(hash)
            .is_none_or(|members| u64::from(header.proposer) == members.leading_index(slot));
        let holds = [
            ("its proposer leads its slot", leads),
            (
                "its slot is above its parent's",
                follows(|block, parent| block.slot > parent.slot),
            ),
            (
                "its height is the next",
                follows(|block, parent| block.height.0 == parent.height.0 + 1),
            ),
            (
                "its time is that of its slot",
                payload.timestamp == slot * self.slot_ms / 1_000,
            ),
            (
                "its payload has its height",
                payload.block_number == header.height.0,
            ),
            (
                "its fees go to the vault",
                payload.fee_recipient == vault_address(),
            ),
            (
                "its randomness is the rule's",
                payload.prev_randao == prev_randao(&header.parent_hash, header.slot),
            ),
            (
                "its payload is the header's",
                payload.block_hash == header.execution_hash,
            ),
            (
                "its body is the header's",
                proposed.block.body.hash() == header.body_hash,
            ),
            (
                "its gas limit is at most the highest one",
                payload.gas_limit <= GAS_LIMIT,
            ),
            (
                "it has no blobs",
                payload.blob_gas.is_none_or(|blobs| blobs.used == 0),
            ),
            (
                "its transactions are legacy ones or of the types 1 and 2",
                payload
                    .transactions
                    .iter()
                    .all(|bytes| matches!(bytes.first(), Some(1 | 2 | 0xc0..=0xfe))),
            ),
            (
                "its encoding is not too long",
                codec::encode(&*proposed.block).len() <= BLOCK_BYTES,
            ),
        ];
        let broken = holds.into_iter().find(|(_, holds)| !holds);
        let broken = broken.map(|(what, _)| what);
        match broken.or_else(|| self.sets.broken(hash)) {
            None => Ok(()),
            Some(what) => {
                let broken = format!("does not hold: {what}");
                Err(Violation::ApprovedInvalid {
                    node: node + 1,
                    slot,
                    hash: short(hash),
                    what: broken,
                })
            }
        }
    }

    /// Checks the base fee, gas and blob fields of a final block, which follow from its parent by
    /// arithmetic. A block or parent whose contents no node reported passes.
    ///
    /// # Errors
    /// [`Violation::WrongExecution`].
    pub fn executed(&self, node: u8, hash: &Hash) -> Result<(), Violation> {
        let Some(proposed) = self.known.get(hash) else {
            return Ok(());
        };
        let height = proposed.block.header.height.0;
        let parent = self.known.get(&proposed.parent());
        if height > 1 && parent.is_none() {
            return Ok(());
        }
        let parent = parent.filter(|_| height > 1);
        let parent = parent.map(|parent| &parent.block.body.payload);
        arithmetic::follows(parent, &proposed.block.body.payload).map_err(|what| {
            Violation::WrongExecution {
                node: node + 1,
                height,
                what,
            }
        })
    }

    /// Returns the ancestor of a block at a height, or the block itself; `None` if the path is
    /// unknown.
    pub fn ancestor_at(&self, hash: Hash, height: u64) -> Option<Hash> {
        let mut at = hash;
        loop {
            let header = &self.known.get(&at)?.block.header;
            if header.height.0 <= height {
                return (header.height.0 == height).then_some(at);
            }
            at = header.parent_hash;
        }
    }

    /// Checks that a node's head, as (height, hash), descends from its last final block. A head
    /// with an unknown path passes.
    ///
    /// # Errors
    /// [`Violation::HeadBesideFinal`].
    pub fn head(&self, node: u8, head: (u64, Hash), last: (u64, Hash)) -> Result<(), Violation> {
        let (height, head) = head;
        let (final_height, last) = last;
        if final_height == 0 {
            return Ok(());
        }
        let is_beside = height < final_height
            || self
                .ancestor_at(head, final_height)
                .is_some_and(|at| at != last);
        if is_beside {
            return Err(Violation::HeadBesideFinal {
                node: node + 1,
                height,
                head: short(&head),
                final_height,
                last: short(&last),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alys_types::{Body, ExecutionPayload, FaultModel, Height, Slot};

    pub fn plan() -> WorldPlan {
        let plan = WorldPlan::default();
        assert_eq!((plan.nodes, plan.fault_model), (4, FaultModel::Byzantine));
        plan
    }

    pub fn block(height: u64, slot: u64, parent: Hash) -> (Hash, Arc<Block>) {
        let payload = ExecutionPayload {
            parent_hash: Hash::ZERO,
            fee_recipient: alys_types::Address([0; 20]),
            state_root: Hash::ZERO,
            receipts_root: Hash::ZERO,
            logs_bloom: [0; 256],
            prev_randao: Hash::ZERO,
            block_number: height,
            gas_limit: 0,
            gas_used: 0,
            timestamp: slot,
            extra_data: Vec::new(),
            base_fee_per_gas: [0; 32],
            block_hash: Hash::ZERO,
            transactions: Vec::new(),
            withdrawals: Vec::new(),
            blob_gas: None,
        };
        let header = Header {
            version: 1,
            evm_chain_id: 1,
            genesis_hash: Hash::ZERO,
            height: Height(height),
            slot: Slot(slot),
            proposer: (slot % 4) as u8,
            parent_hash: parent,
            parent_certificate: None,
            execution_hash: Hash::ZERO,
            body_hash: Hash::ZERO,
            set_hash: Hash::ZERO,
            ledger_hash: Hash::ZERO,
        };
        (
            header.hash(),
            Arc::new(Block {
                header,
                body: Body::of(payload),
            }),
        )
    }

    #[test]
    fn the_time_of_a_block_is_that_of_its_slot() {
        let mut blocks = Blocks::new(&plan());
        let (hash, good) = block(1, 100, Hash::ZERO);
        assert_eq!(blocks.proposed(5, 0, hash, &good), Ok(()));
        let mut late = (*block(2, 101, hash).1).clone();
        late.body.payload.timestamp = 102;
        let found = blocks.proposed(6, 1, late.header.hash(), &Arc::new(late));
        assert_eq!(
            found,
            Err(Violation::WrongTimestamp {
                node: 2,
                slot: 101,
                found: 102,
                expected: 101
            })
        );
    }

    #[test]
    fn an_approved_block_has_the_properties_that_clients_are_configured_for() {
        let approved = |change: fn(&mut alys_types::ExecutionPayload)| {
            let mut block = (*block(1, 100, Hash::ZERO).1).clone();
            let payload = &mut block.body.payload;
            payload.fee_recipient = vault_address();
            payload.prev_randao = prev_randao(&Hash::ZERO, block.header.slot);
            change(payload);
            block.header.body_hash = block.body.hash();
            let hash = block.header.hash();
            let mut blocks = Blocks::new(&plan());
            blocks
                .proposed(5, 0, hash, &Arc::new(block))
                .expect("its time is right");
            blocks.approved(0, &hash).map_err(|broken| match broken {
                Violation::ApprovedInvalid { what, .. } => what,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(approved(|_| {}), Ok(()));
        assert_eq!(
            approved(|p| p.transactions = vec![vec![2], vec![0xf8]]),
            Ok(())
        );
        let table: [(fn(&mut alys_types::ExecutionPayload), &str); 4] = [
            (|p| p.gas_limit = GAS_LIMIT + 1, "gas limit"),
            (
                |p| p.blob_gas = Some(alys_types::BlobGas { used: 1, excess: 0 }),
                "blobs",
            ),
            (|p| p.transactions = vec![vec![3]], "transactions"),
            (|p| p.transactions = vec![vec![2; BLOCK_BYTES]], "encoding"),
        ];
        for (change, expected) in table {
            let broken = approved(change).expect_err(expected);
            assert!(broken.contains(expected), "{broken}");
        }
    }

    #[test]
    fn heads_descend_from_the_final_block() {
        let mut blocks = Blocks::new(&plan());
        let (first, one) = block(1, 100, Hash::ZERO);
        let (second, two) = block(2, 101, first);
        let (beside, other) = block(2, 102, first);
        for (hash, block) in [(first, &one), (second, &two), (beside, &other)] {
            assert_eq!(blocks.proposed(1, 0, hash, block), Ok(()));
        }
        assert_eq!(blocks.parent_slot(&second), Some(100));
        assert_eq!(blocks.parent_slot(&first), Some(0));
        assert_eq!(blocks.head(0, (2, second), (1, first)), Ok(()));
        assert_eq!(blocks.head(0, (2, second), (2, second)), Ok(()));
        assert!(matches!(
            blocks.head(0, (2, beside), (2, second)),
            Err(Violation::HeadBesideFinal {
                node: 1,
                height: 2,
                final_height: 2,
                ..
            })
        ));
        assert!(
            blocks.head(0, (1, first), (2, second)).is_err(),
            "below the final block"
        );
        assert_eq!(
            blocks.head(0, (9, Hash([9; 32])), (2, second)),
            Ok(()),
            "an unknown block is not judged"
        );
    }
}
