//! The frame of one test: directory, deadline, lock, and the output of a failure.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::alys;
use crate::process::Log;

/// Longest wait for the tests before this one: the sum of their limits.
const TURN_TIMEOUT: Duration = Duration::from_secs(40 * 60);
/// Between two polls of a condition that cannot notify.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Between a test's deadline, when its waits fail with a reason, and the exit of the process
/// without one.
const GRACE: Duration = Duration::from_secs(60);
/// Lines of each process in the output of a failure.
const TAIL: usize = 40;

/// The directory, deadline and processes of a running test.
pub struct World {
    dir: PathBuf,
    started: Instant,
    deadline: Instant,
    logs: Mutex<Vec<Arc<Log>>>,
}

/// Runs a test alone on the machine, in a directory of its own, for at most `limit`.
///
/// # Panics
/// When `body` fails, after printing the last lines of all its processes.
pub fn scenario(name: &str, limit: Duration, body: impl FnOnce(&World) -> Result<()>) {
    // The binary is built before the clock starts.
    alys::binary();
    let _turn = take_turn().unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let dir = tempfile::Builder::new()
        .prefix("alys-test-")
        .tempdir()
        .expect("a temporary directory");
    let started = Instant::now();
    let world = World {
        dir: dir.path().to_owned(),
        started,
        deadline: started + limit,
        logs: Mutex::new(Vec::new()),
    };
    let (alive, watched) = mpsc::channel::<()>();
    let watchdog = thread::spawn({
        let name = name.to_owned();
        move || {
            if watched.recv_timeout(limit + GRACE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} hangs: it did not end {GRACE:?} after its limit of {limit:?}");
                // The kernel kills the children, see Process.
                std::process::exit(101);
            }
        }
    });
    world.say(&format!(
        "{name}: in {}, at most {} s",
        dir.path().display(),
        limit.as_secs()
    ));
    let result = body(&world);
    drop(alive);
    watchdog.join().expect("the watchdog does not panic");
    match result {
        Ok(()) => world.say(&format!("{name}: ok")),
        Err(error) => {
            let mut text = String::new();
            for log in world
                .logs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                text += &log.tail(TAIL);
            }
            if std::env::var_os("ALYS_TESTS_KEEP").is_some() {
                text += &format!("kept: {}\n", dir.keep().display());
            }
            eprint!("{text}");
            panic!("{name}: {error:#}");
        }
    }
}

impl World {
    /// The test's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Prints a line of progress with the seconds since the start.
    pub fn say(&self, text: &str) {
        // Bypasses the test runner's capture, because a long test without output looks dead.
        let _ = writeln!(
            std::io::stderr(),
            "[{:6.1} s] {text}",
            self.started.elapsed().as_secs_f64()
        );
    }

    /// The end of a wait of at most `limit`, within the test's deadline.
    pub fn until(&self, limit: Duration) -> Instant {
        (Instant::now() + limit).min(self.deadline)
    }

    /// Polls until `look` finds something.
    ///
    /// # Errors
    /// At the end of the time: the last error of `look`, or the timeout.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let (started, until) = (Instant::now(), self.until(limit));
        loop {
            let last = look();
            if let Ok(Some(found)) = last {
                return Ok(found);
            }
            if Instant::now() >= until {
                let waited = started.elapsed().as_secs_f64();
                let context = format!("waited {waited:.1} s for {what}");
                return match last {
                    Err(error) => Err(error).context(context),
                    Ok(_) => bail!("{context}"),
                };
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Adds a log to the output of a failure.
    pub(crate) fn watch(&self, log: &Arc<Log>) {
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(log));
    }
}

/// Takes the lock over all test processes, because networks starve each other on a small machine.
fn take_turn() -> Result<File> {
    let path = alys::target_dir().join("alys-tests.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let until = Instant::now() + TURN_TIMEOUT;
    while file.try_lock().is_err() {
        if Instant::now() >= until {
            bail!(
                "another test has held {} for {TURN_TIMEOUT:?}",
                path.display()
            );
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(file)
}
