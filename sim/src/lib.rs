//! The simulator: whole Alys networks on one thread and one seed.
//!
//! `seed -> plan -> run -> outcome`. A [`plan::Plan`] is data: topology, links, workload, and every fault with its time.
//! Scenario files are plans written by hand ([`plan::format`]), the generator draws them from seeds ([`plan::generator`]).
//! [`run`] runs a plan over the simulated half of `alys-runtime`: the real node, its real libp2p, storage and execution
//! client. [`invariants`] stand outside the nodes and judge what they report. [`run::outcome`] is what a run comes to.
//!
//! **Owns** plans, faults, workload, oracles, and the command line behind `cargo sim`.
//! **Promises** that one plan and one seed give one run, to the byte, in any process; that schedule, faults and workload
//! draw from separate streams; that faults leave the world survivable.
//! **Never** reaches into a node: it sees what the operator sees, and the events that the node tells its observer.
//!
//! To extend: a fault is a variant of [`plan::Fault`] and an arm in [`faults`]; an invariant is a variant of
//! [`invariants::Violation`] and a check in one of the files of [`invariants`]; a user's behaviour is in [`workload`].
#![cfg(madsim)]

pub mod cli;
pub mod cluster;
pub mod events;
pub mod faults;
pub mod fleet;
pub mod invariants;
pub mod params;
pub mod peers;
pub mod plan;
pub mod report;
pub mod run;
pub mod workload;
