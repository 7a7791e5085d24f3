//! Contents of bodies: transaction types of the upgrade table, and parts that are not admitted yet.

mod single;

use std::sync::Arc;

use alys_consensus::{Config, VerifiedProposal};
use alys_types::forks::Upgrade;
use alys_types::order::Halt;
use alys_types::wire::Proposal;
use alys_types::{
    Address, Body, FeeRate, Genesis, Hash, Height, Order, OrderContent, PayoutProposal, PegIn,
    Sats, Settlement, VoteKind,
};
use single::World;

/// The proposal with its changed content signed again.
fn resigned(w: &World, mut proposal: Proposal) -> Proposal {
    let header = &mut proposal.block.header;
    header.body_hash = proposal.block.body.hash();
    let leader = usize::from(header.proposer);
    proposal.vote = w.vote(leader, VoteKind::Proposal, &proposal.block.header);
    proposal
}

#[test]
fn transaction_types_follow_the_upgrade_table() {
    let w = World::new();
    let genesis = w.genesis.header().clone();
    let context = w.state.proposal_context(&genesis.hash()).expect("known");
    let mut proposal = w.proposal(1, &genesis, None, 0);
    proposal.block.body.payload.transactions = vec![vec![1, 0]];
    let proposal = resigned(&w, proposal);
    let mut spec = w.genesis.spec().clone();
    spec.upgrades.push(Upgrade {
        height: Height(1),
        header_version: 1,
        transaction_types: vec![0, 2],
    });
    for (height, is_listed) in [(1, false), (2, true)] {
        spec.upgrades[1].height = Height(height);
        let genesis = Genesis::new(spec.clone()).expect("a good spec");
        let config = Config::new(Arc::new(genesis), None);
        let checked = VerifiedProposal::check(proposal.clone(), &context, &config);
        assert_eq!(checked.is_ok(), is_listed, "upgrade at height {height}");
    }
}

/// Parts of a body whose features this version of the rules does not have.
#[test]
fn parts_that_are_not_built_are_refused_by_name() {
    type Change = fn(&mut Body);
    let table: [(&str, Change); 5] = [
        ("peg-ins", |body| {
            body.peg_ins.push(PegIn {
                txid: Hash([1; 32]),
                vout: 0,
                amount: Sats(1),
                script_epoch: 0,
                address: Address([1; 20]),
                bitcoin_block: Hash([2; 32]),
            });
        }),
        ("settlements", |body| {
            body.settlements.push(Settlement {
                payout: 0,
                txid: Hash([1; 32]),
                bitcoin_block: Hash([2; 32]),
            });
        }),
        ("a payout proposal", |body| {
            body.payout_proposal = Some(PayoutProposal {
                payout: None,
                sweep: None,
                versions: Vec::new(),
            });
        }),
        ("a fee estimate", |body| {
            body.fee_estimate = Some(FeeRate(1))
        }),
        ("order 7 is a halt", |body| {
            body.orders.push(Order {
                number: 7,
                content: OrderContent::Halt(Halt {
                    deposits: true,
                    payouts: true,
                }),
                signatures: Vec::new(),
            });
        }),
    ];
    let w = World::new();
    let genesis = w.genesis.header().clone();
    for (what, change) in table {
        let mut p = w.proposal(1, &genesis, None, 0);
        change(&mut p.block.body);
        let p = resigned(&w, p);
        let context = w.state.proposal_context(&genesis.hash()).expect("known");
        let error = VerifiedProposal::check(p, &context, &w.config).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
}
