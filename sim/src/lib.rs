//! The simulator: whole Alys networks on one thread and one seed.
//!
//! `seed -> plan -> run -> outcome`. A [`plan::Plan`] is data: topology, links, workload, and every fault with its time.
//! Scenario files are plans written by hand ([`scenario`]), the swarm generator draws them from seeds ([`swarm`]). The
//! [`world`] runs a plan over the simulated half of `alys-runtime`: the real node, its real libp2p, storage and execution
//! client. [`oracles`] stand outside the nodes and judge what they report. [`outcome`] is what a run comes to.
//!
//! **Owns** plans, faults, workload, oracles, and the command line behind `cargo sim`.
//! **Promises** that one plan and one seed give one run, to the byte, in any process; that schedule, faults and workload
//! draw from separate streams; that faults leave the world survivable.
//! **Never** reaches into a node: it sees what the operator sees, and the events that the node tells its observer.
//!
//! To extend: a fault is a variant of [`plan::Fault`] and an arm in [`faults`]; an invariant is a variant of
//! [`oracles::Violation`] and a check in one of the rooms of [`oracles`]; a user's behaviour is in [`workload`].
#![cfg(madsim)]

pub mod adversary;
pub mod audit;
pub mod bisect;
pub mod cli;
pub mod clients;
pub mod coverage;
pub mod faults;
pub mod forger;
pub mod fresh_client;
pub mod genesis;
pub mod greedy;
pub mod healing;
pub mod ledger;
pub mod light_client;
pub mod logs;
pub mod machines;
pub mod oracles;
pub mod outcome;
pub mod outsider;
pub mod plan;
pub mod probe;
pub mod process;
pub mod replay;
pub mod report;
pub mod rules;
pub mod scenario;
pub mod schedule;
pub mod shrink;
pub mod silent;
pub mod stack;
pub mod swarm;
pub mod sweep;
pub mod trap;
pub mod workload;
pub mod world;
