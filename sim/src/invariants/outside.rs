//! Checks of facts that the simulator observes and the node does not report: its answers to
//! requests, its verdicts on forged messages, its charges against peers, its clock, and the budgets
//! and blocks of its execution client.

use alys_integrations::http::Pending;
use alys_node::node::NodeEvent;
use alys_types::VoteKind;
use alys_types::wire::{BlockRange, HeaderRange};

use super::{ExecutionClients, Forgery, Oracles, Receipt, Violation, budgets, headers};

impl Oracles {
    /// Checks the receipts of all final blocks up to `height`, and the answers that users got about
    /// accounts.
    ///
    /// # Errors
    /// [`Violation::WrongExecution`], [`Violation::WrongBalance`], or those of
    /// [`super::Ledger::settle`].
    pub fn check_execution(
        &mut self,
        node: u8,
        height: u64,
        users: u8,
        receipts: &[Receipt],
    ) -> Result<(), Violation> {
        let Self {
            ledger,
            blocks,
            finality,
            ..
        } = self;
        ledger.check_receipts(node, height, receipts, blocks, finality)?;
        ledger.check_answers(users, height, receipts)
    }

    /// Checks a correct node's verdict on a forged message of gossip.
    pub fn judged(&mut self, at_ms: u64, node: u8, forgery: &Forgery, is_accepted: bool) {
        let result = self.forgeries.judged(node, forgery, is_accepted);
        self.note(at_ms, result);
    }

    /// Checks the budget of a port of a node's execution client.
    pub fn budget(&mut self, at_ms: u64, node: u8, port: &str, pending: &Pending) {
        let result = budgets::check(node, port, pending);
        self.note(at_ms, result);
    }

    /// Checks that a peer that a correct node takes for an authority is one.
    pub fn vouched(&mut self, at_ms: u64, node: u8, peer: &str) {
        let result = self.forgeries.vouched(node, peer);
        self.note(at_ms, result);
    }

    /// Checks a node's answer to a request for headers; `asked` is (first height, count), and
    /// `range` is `None` for a malformed answer. Returns the height of the last header, or 0 if
    /// there is none or the answer is wrong.
    pub fn headers(
        &mut self,
        at_ms: u64,
        node: u8,
        asked: (u64, u64),
        range: Option<&HeaderRange>,
    ) -> u64 {
        *self.heard.entry("headers").or_default() +=
            range.map_or(0, |range| range.headers.len() as u64);
        if self.distrusted.contains(&node) {
            return 0;
        }
        let result = headers::answered(node, asked, range, &self.votes, &self.finality);
        let last = result.as_ref().copied().unwrap_or(0);
        self.note(at_ms, result.map(|_| ()));
        last
    }

    /// Checks a node's answer to a request for blocks, including nodes with a faulty disk, because
    /// a node must verify stored blocks before it serves them.
    pub fn answered_blocks(
        &mut self,
        at_ms: u64,
        node: u8,
        asked: (u64, u64),
        range: Option<&BlockRange>,
    ) {
        *self.heard.entry("blocks").or_default() +=
            range.map_or(0, |range| range.blocks.len() as u64);
        let result = headers::answered_blocks(node, asked, range, &self.votes, &self.finality);
        self.note(at_ms, result);
    }

    /// Records a node's clock against the true time, both in milliseconds since the epoch. Must
    /// precede [`observe`](Self::observe) for the same event.
    pub fn clock(
        &mut self,
        at_ms: u64,
        node: u8,
        wall_ms: u64,
        true_ms: u64,
        event: Option<&NodeEvent>,
    ) {
        if self.votes.is_byzantine(node) {
            return;
        }
        self.clocks.look(at_ms, node, wall_ms, true_ms);
        let Some(NodeEvent::Signed { target }) = event else {
            return;
        };
        if self.distrusted.contains(&node) {
            return;
        }
        let slot = target.slot.0;
        if target.kind == VoteKind::Confirmation || self.votes.has_signed(node, target.kind, slot) {
            return;
        }
        let needed = self.sets.current().quorum().saturating_sub(1);
        let votes = &self.votes;
        let others = |slot| {
            votes
                .signers_in(slot)
                .filter(|other| *other != node)
                .collect()
        };
        let result = self
            .clocks
            .signs(at_ms, (node, slot), wall_ms, needed, others);
        self.note(at_ms, result);
    }

    /// Checks that a node's own execution client executed a block of another leader before the node
    /// approves it. Must precede [`observe`](Self::observe) for the same event.
    pub fn executed(
        &mut self,
        at_ms: u64,
        node: u8,
        event: &NodeEvent,
        executed: &ExecutionClients,
    ) {
        if self.votes.is_byzantine(node) {
            return;
        }
        let NodeEvent::Signed { target } = event else {
            return;
        };
        if self.distrusted.contains(&node) {
            return;
        }
        let is_new = target.kind == VoteKind::Approval
            && !self.votes.has_signed(node, target.kind, target.slot.0);
        let Some(proposed) = self.blocks.get(&target.hash).filter(|_| is_new) else {
            return;
        };
        let header = &proposed.block.header;
        // The leader's own execution client built the block, so it need not have executed it
        // before.
        if self.sets.node_at(&target.hash, header.proposer) != node
            && executed.cannot_have_executed(node, header.execution_hash.into(), proposed.at_ms)
        {
            let height = header.height.0;
            let slot = header.slot.0;
            self.note(
                at_ms,
                Err(Violation::ApprovedUnexecuted {
                    node: node + 1,
                    height,
                    slot,
                }),
            );
        }
    }
}
