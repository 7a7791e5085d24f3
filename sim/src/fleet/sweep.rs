//! Many runs, several at a time, each in a process of its own.

use std::collections::VecDeque;
use std::io::Read;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fleet::process::{Job, is_interrupted};
use crate::invariants::Violation;
use crate::plan::Plan;
use crate::run::outcome::Outcome;

/// Between two looks at the children.
const LOOK: Duration = Duration::from_millis(10);

/// Why a job gave no outcome at all.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The system does not start processes.
    #[error("cannot start a process for {replay}: {source}")]
    Start {
        replay: String,
        source: std::io::Error,
    },
}

struct Running {
    number: usize,
    job: Job,
    plan: Plan,
    child: Child,
    /// What it writes, read as it comes: a child whose pipe is full waits for ever.
    said: JoinHandle<String>,
    complained: JoinHandle<String>,
    began: Instant,
}

/// Reads a pipe to its end.
fn listen(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            // What came until it broke is all there is.
            let _ = pipe.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    })
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
                Ok(mut child) => {
                    let (said, complained) =
                        (listen(child.stdout.take()), listen(child.stderr.take()));
                    let (number, began) = (started, Instant::now());
                    running.push_back(Running {
                        number,
                        job,
                        plan,
                        child,
                        said,
                        complained,
                        began,
                    });
                    started += 1;
                }
                Err(source) => {
                    break_off(running);
                    return Err(JobError::Start {
                        replay: job.replay(),
                        source,
                    });
                }
            }
        }
        if running.is_empty() || is_stopped || is_interrupted() {
            break_off(running);
            return Ok(());
        }
        let mut left = VecDeque::new();
        while let Some(mut one) = running.pop_front() {
            let is_late = one.began.elapsed() > one.job.patience;
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
    let status = one.child.wait();
    // A thread that reads does not panic.
    let (said, complained) = (
        one.said.join().unwrap_or_default(),
        one.complained.join().unwrap_or_default(),
    );
    let outcome = said
        .lines()
        .last()
        .and_then(|line| serde_json::from_str::<Outcome>(line).ok());
    if let (Some(outcome), false) = (outcome, is_late) {
        return outcome;
    }
    let last_words = complained
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("nothing");
    let violation = match status {
        Ok(status) => Violation::Panicked {
            message: format!("{status}; its last words: {last_words}"),
        },
        Err(error) => Violation::Panicked {
            message: error.to_string(),
        },
    };
    let lost = one.job.lost(&one.plan, wall_ms, violation);
    match is_late {
        // How long a run may take depends on the machine: this is nothing that the node has done.
        true => Outcome {
            found: None,
            timeout_s: Some(one.job.patience.as_secs()),
            ..lost
        },
        false => lost,
    }
}
