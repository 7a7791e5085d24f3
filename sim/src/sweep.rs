//! Many runs, several at a time, each in a process of its own.

use std::collections::VecDeque;
use std::io::Read;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::oracles::Violation;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::process::{Job, is_interrupted};
use crate::world::lost;

/// Real time after which a run is given up.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at the children.
const LOOK: Duration = Duration::from_millis(10);

/// Why a job gave no outcome at all.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The system does not start processes.
    #[error("cannot start a process for {replay}: {source}")]
    Start { replay: String, source: std::io::Error },
}

struct Running {
    number: usize,
    job: Job,
    plan: Plan,
    child: Child,
    began: Instant,
}

/// Runs jobs, at most `at_once` at the same time, until `next` has no more, and tells `done` of each, with its number in
/// order of start. `done` answers whether to go on; when not, or after Ctrl-C, what runs is broken off.
///
/// # Errors
/// [`JobError`]; what runs is broken off then.
pub fn run(
    at_once: usize,
    mut next: impl FnMut() -> Option<(Job, Plan)>,
    mut done: impl FnMut(usize, &Job, Outcome) -> bool,
) -> Result<(), JobError> {
    let mut running: VecDeque<Running> = VecDeque::new();
    let (mut started, mut is_over, mut is_stopped) = (0, false, false);
    loop {
        while !is_over && !is_stopped && !is_interrupted() && running.len() < at_once.max(1) {
            let Some((job, plan)) = next() else {
                is_over = true;
                break;
            };
            match job.start() {
                Ok(child) => {
                    running.push_back(Running { number: started, job, plan, child, began: Instant::now() });
                    started += 1;
                }
                Err(source) => {
                    break_off(running);
                    return Err(JobError::Start { replay: job.replay(), source });
                }
            }
        }
        if running.is_empty() || is_stopped || is_interrupted() {
            break_off(running);
            return Ok(());
        }
        let mut left = VecDeque::new();
        while let Some(mut one) = running.pop_front() {
            let is_late = one.began.elapsed() > PATIENCE;
            match one.child.try_wait() {
                Ok(None) if !is_late => left.push_back(one),
                // A child that was interrupted with us says nothing about its seed.
                _ if is_interrupted() => left.push_back(one),
                _ => {
                    let (number, job) = (one.number, one.job.clone());
                    is_stopped |= !done(number, &job, finish(one, is_late));
                }
            }
        }
        running = left;
        std::thread::sleep(LOOK);
    }
}

fn break_off(running: VecDeque<Running>) {
    for mut one in running {
        // It may have ended by itself meanwhile.
        let _ = one.child.kill();
        let _ = one.child.wait();
    }
}

fn finish(mut one: Running, is_late: bool) -> Outcome {
    if is_late {
        // It may have ended by itself meanwhile.
        let _ = one.child.kill();
    }
    let wall_ms = one.began.elapsed().as_millis() as u64;
    let (mut said, mut complained) = (String::new(), String::new());
    let read = one.child.stdout.take().map(|mut out| out.read_to_string(&mut said));
    if let Some(mut stderr) = one.child.stderr.take() {
        // For people only.
        let _ = stderr.read_to_string(&mut complained);
    }
    let status = one.child.wait();
    let outcome = said.lines().last().and_then(|line| serde_json::from_str::<Outcome>(line).ok());
    if let (Some(outcome), Some(Ok(_)), false) = (outcome, read, is_late) {
        return outcome;
    }
    let last_words = complained.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    let violation = match (is_late, status) {
        (true, _) => {
            Violation::Hung { what: format!("no outcome within {} s of real time", PATIENCE.as_secs()) }
        }
        (_, Ok(status)) => Violation::Panicked { message: format!("{status}; its last words: {last_words}") },
        (_, Err(error)) => Violation::Panicked { message: error.to_string() },
    };
    lost(&one.plan, one.job.seed, one.job.mutant.as_deref(), wall_ms, violation)
}
