//! Parallel runs, each in its own process.

use std::collections::VecDeque;
use std::io::Read;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fleet::process::{Job, is_interrupted};
use crate::invariants::Violation;
use crate::plan::Plan;
use crate::run::outcome::Outcome;

/// Interval at which the children are polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Errors that end a sweep without an outcome of the job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The operating system refused to start a process.
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
    /// Reader of standard output. It runs concurrently, because a child blocks on a full pipe.
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    began: Instant,
}

/// Reads a pipe to its end in a new thread.
fn read_in_thread(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut pipe) = pipe {
            // After an error, the bytes read so far are the output.
            let _ = pipe.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Runs the jobs of `next`, at most `at_once` at a time, and passes each outcome to `done` with the
/// job's number in order of start. If `done` returns false, or after Ctrl-C, the remaining
/// processes are killed.
///
/// # Errors
/// [`JobError`]; the remaining processes are killed.
pub fn run(
    at_once: usize,
    mut next: impl FnMut() -> Option<(Job, Plan)>,
    mut done: impl FnMut(usize, &Job, Outcome) -> bool,
) -> Result<(), JobError> {
    let mut running: VecDeque<Running> = VecDeque::new();
    let mut started = 0;
    let mut is_over = false;
    let mut is_stopped = false;
    loop {
        while !is_over && !is_stopped && !is_interrupted() && running.len() < at_once.max(1) {
            let Some((job, plan)) = next() else {
                is_over = true;
                break;
            };
            match job.start() {
                Ok(mut child) => {
                    let stdout = read_in_thread(child.stdout.take());
                    let stderr = read_in_thread(child.stderr.take());
                    let number = started;
                    let began = Instant::now();
                    running.push_back(Running {
                        number,
                        job,
                        plan,
                        child,
                        stdout,
                        stderr,
                        began,
                    });
                    started += 1;
                }
                Err(source) => {
                    kill_all(running);
                    return Err(JobError::Start {
                        replay: job.replay(),
                        source,
                    });
                }
            }
        }
        if running.is_empty() || is_stopped || is_interrupted() {
            kill_all(running);
            return Ok(());
        }
        let mut remaining = VecDeque::new();
        while let Some(mut one) = running.pop_front() {
            let is_late = one.began.elapsed() > one.job.patience;
            match one.child.try_wait() {
                Ok(None) if !is_late => remaining.push_back(one),
                // The outcome of an interrupted child is no evidence about its seed.
                _ if is_interrupted() => remaining.push_back(one),
                _ => {
                    let number = one.number;
                    let job = one.job.clone();
                    is_stopped |= !done(number, &job, finish(one, is_late));
                }
            }
        }
        running = remaining;
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn kill_all(running: VecDeque<Running>) {
    for mut one in running {
        // Fails if the child has already ended.
        let _ = one.child.kill();
        let _ = one.child.wait();
    }
}

fn finish(mut one: Running, is_late: bool) -> Outcome {
    if is_late {
        // Fails if the child has already ended.
        let _ = one.child.kill();
    }
    let wall_ms = one.began.elapsed().as_millis() as u64;
    let status = one.child.wait();
    // The reader threads do not panic.
    let stdout = one.stdout.join().unwrap_or_default();
    let stderr = one.stderr.join().unwrap_or_default();
    let outcome = stdout
        .lines()
        .last()
        .and_then(|line| serde_json::from_str::<Outcome>(line).ok());
    if !is_late && let Some(outcome) = outcome {
        return outcome;
    }
    let last_words = stderr
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
    if !is_late {
        return lost;
    }
    // Real time depends on the machine, so a timeout is no finding against the node.
    Outcome {
        found: None,
        timeout_s: Some(one.job.patience.as_secs()),
        ..lost
    }
}
