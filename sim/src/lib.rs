//! The simulator: whole Alys networks on one thread and one seed.
//!
//! `seed -> plan -> run -> outcome`. A plan is data: network, links, workload, and every fault with
//! its time. Scenario files are plans written by hand; the generator draws plans from seeds. A run
//! executes a plan on the simulated half of `alys-runtime`: the real node, its real libp2p, storage
//! and execution client. The invariants are outside of the nodes and check the reported events.
//!
//! **Owns** plans, faults, workload, invariants, and the command line behind `cargo sim`.
//! **Promises** that one plan and one seed give one run, to the byte, in any process; that
//! schedule, faults and workload draw from separate streams; that faults leave the network
//! survivable. **Never** accesses the internals of a node: it uses the operator's interface and the
//! events that the node reports to its observer.
//!
//! A room imports from itself and from the rooms above it in this table, never from one below;
//! `cargo xtask tidy` checks it.
//!
//! | room | holds |
//! |---|---|
//! | [`params`] | the parameters of a run: network, links, users, time, targets, accounts |
//! | [`events`] | the events of a run, and the recorder |
//! | [`invariants`] | the properties checked in every run, one file a subject |
//! | [`cluster`] | the machines, by name: validator, execution client |
//! | [`workload`] | users and their transactions |
//! | [`faults`] | the table of faults, one file per subject, and their shared state |
//! | [`plan`] | a run without its seed: parameters and faults; scenario files; the generator |
//! | [`peers`] | the interceptor of nodes, violators of the protocol, the light client |
//! | [`run`] | one run: its phases, recovery, audit, sandbox, outcome |
//! | [`fleet`] | many runs: processes, sweeps, shards, ledger, shrinking, coverage |
//! | [`report`] | pages about runs and sweeps |
//! | [`cli`] | the command line |
//!
//! To add a fault, add its kind to the file of its subject, see [`faults`]. An invariant is a
//! variant of [`invariants::Violation`] and a check in one of the files of [`invariants`]. The
//! behaviour of users is in [`workload`].
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
