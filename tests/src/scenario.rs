//! One test from its first process to its last: directory, deadline, lock, and what is shown when it fails.

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

/// How long a test may wait for those before it: as many as there are, with their limits.
const TURN: Duration = Duration::from_secs(40 * 60);
/// Between two looks at something that cannot be waited for.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// Between the end of a test's time, when its waits fail with a reason, and the end of the process without one.
const GRACE: Duration = Duration::from_secs(60);
/// Lines of each process that a failure shows.
const TAIL: usize = 40;

/// What a running test has.
pub struct World {
    dir: PathBuf,
    started: Instant,
    deadline: Instant,
    logs: Mutex<Vec<Arc<Log>>>,
}

/// Runs a test: alone on the machine, in a directory of its own, for at most `limit`.
///
/// # Panics
/// When `body` fails, after the last lines of all its processes were printed.
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
                // Children are told by the kernel, see Process.
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

    /// Prints what happens, with the seconds since the start.
    pub fn say(&self, text: &str) {
        // Written at once and past the capture of the test runner: a long test that says nothing looks dead.
        let _ = writeln!(
            std::io::stderr(),
            "[{:6.1} s] {text}",
            self.started.elapsed().as_secs_f64()
        );
    }

    /// When a wait of at most `limit` ends.
    pub fn until(&self, limit: Duration) -> Instant {
        (Instant::now() + limit).min(self.deadline)
    }

    /// Asks again and again until there is an answer.
    ///
    /// # Errors
    /// The last refusal of `look`, or that there was no answer, when the time is over.
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
            thread::sleep(POLL);
        }
    }

    /// Its last lines are shown when the test fails.
    pub(crate) fn watch(&self, log: &Arc<Log>) {
        self.logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(log));
    }
}

/// Tests with networks in them would starve each other on a small machine: one at a time, over all test processes.
fn take_turn() -> Result<File> {
    let path = alys::target_dir().join("alys-tests.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let until = Instant::now() + TURN;
    while file.try_lock().is_err() {
        if Instant::now() >= until {
            bail!("another test holds {} for too long", path.display());
        }
        thread::sleep(POLL);
    }
    Ok(file)
}
