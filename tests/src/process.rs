//! A child process: its output line by line, and its exit.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::alys::Final;
use crate::scenario::{POLL_INTERVAL, World};

/// Lines kept of one process; a process that writes more fails its test's waits.
const MAX_LINES: usize = 200_000;
/// Bytes kept of a line.
const MAX_LINE: u64 = 64 * 1024;

/// The output that a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// A line of a process.
#[derive(Debug, Clone)]
pub struct Line {
    pub stream: Stream,
    pub at: Instant,
    pub text: String,
}

/// The output of a process so far.
#[derive(Debug, Default)]
pub struct Written {
    /// In the order of arrival.
    pub lines: Vec<Line>,
    /// The final blocks that the lines report, in order, with their times of arrival.
    pub finals: Vec<(Instant, Final)>,
    /// Outputs that are still open.
    open: usize,
}

impl Written {
    /// The first line that contains `text`.
    pub fn find(&self, text: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.text.contains(text))
    }

    /// The height of the last final block reported, or 0.
    pub fn height(&self) -> u64 {
        self.finals.last().map_or(0, |(_, block)| block.height)
    }
}

/// Resident memory of a process in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub resident_kib: u64,
    /// The largest since the start of the process, or since the last reset.
    pub peak_kib: u64,
}

impl Memory {
    /// Reads `/proc/<id>/status`.
    fn parse(status: &str) -> Result<Memory> {
        let kib = |name: &str| -> Result<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let value = value.with_context(|| format!("no {name}"))?;
            let number = value.trim().trim_end_matches(" kB");
            number.parse().with_context(|| format!("{name}{value}"))
        };
        Ok(Memory {
            resident_kib: kib("VmRSS:")?,
            peak_kib: kib("VmHWM:")?,
        })
    }
}

/// The lines of a process, which outlive it.
#[derive(Debug)]
pub struct Log {
    name: String,
    written: Mutex<Written>,
    changed: Condvar,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last `count` lines as text; `!` marks standard error.
    pub fn tail(&self, count: usize) -> String {
        let written = self.lock();
        let from = written.lines.len().saturating_sub(count);
        let mut text = format!(
            "--- {}: last {} lines\n",
            self.name,
            written.lines.len() - from
        );
        for line in &written.lines[from..] {
            let mark = if line.stream == Stream::Out { ' ' } else { '!' };
            let _ = writeln!(text, "{mark} {}", line.text);
        }
        text
    }

    fn read(&self, stream: Stream, from: impl Read) {
        let mut reader = BufReader::new(from);
        loop {
            let mut bytes = Vec::new();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            let at = Instant::now();
            let mut written = self.lock();
            if let Some(block) = Final::parse(&text) {
                written.finals.push((at, block));
            }
            if written.lines.len() < MAX_LINES {
                written.lines.push(Line { stream, at, text });
            }
            self.changed.notify_all();
        }
        self.lock().open -= 1;
        self.changed.notify_all();
    }
}

/// A child process; killed when it is dropped.
pub struct Process {
    child: Child,
    log: Arc<Log>,
    started: Instant,
}

impl Process {
    /// Starts `command` under a name for messages.
    ///
    /// # Errors
    /// When the program does not start.
    pub fn start(world: &World, name: &str, command: &Command) -> Result<Process> {
        let mut command = killed_with_parent(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("{name}: cannot run {command:?}"))?;
        let log = Arc::new(Log {
            name: format!("{name} ({})", child.id()),
            written: Mutex::new(Written {
                open: 2,
                ..Written::default()
            }),
            changed: Condvar::new(),
        });
        let out = child.stdout.take().expect("it is piped");
        let err = child.stderr.take().expect("it is piped");
        thread::spawn({
            let log = Arc::clone(&log);
            move || log.read(Stream::Out, out)
        });
        thread::spawn({
            let log = Arc::clone(&log);
            move || log.read(Stream::Err, err)
        });
        world.watch(&log);
        Ok(Process {
            child,
            log,
            started,
        })
    }

    /// The time of the start.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its memory now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.id());
        Memory::parse(&fs::read_to_string(&path).with_context(|| path)?)
    }

    /// Sets the peak of its memory to the memory now.
    ///
    /// # Errors
    /// When it has ended.
    pub fn reset_peak_memory(&self) -> Result<()> {
        // The file's manual, proc_pid_clear_refs(5), defines the number.
        let path = format!("/proc/{}/clear_refs", self.id());
        fs::write(&path, "5").with_context(|| path)
    }

    /// Applies `look` to the output so far.
    pub fn written<T>(&self, look: impl FnOnce(&Written) -> T) -> T {
        look(&self.log.lock())
    }

    /// Waits until `look` finds something in the output.
    ///
    /// # Errors
    /// When the time is over, or the process ended before.
    pub fn wait<T>(
        &self,
        world: &World,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(&Written) -> Option<T>,
    ) -> Result<T> {
        let (started, until) = (Instant::now(), world.until(limit));
        let mut written = self.log.lock();
        loop {
            if let Some(found) = look(&written) {
                return Ok(found);
            }
            let name = &self.log.name;
            if written.open == 0 {
                bail!("{name} ended before {what}");
            }
            if written.lines.len() >= MAX_LINES {
                bail!("{name} wrote {MAX_LINES} lines before {what}");
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                bail!(
                    "{name}: waited {:.1} s for {what}",
                    started.elapsed().as_secs_f64()
                );
            };
            written = self
                .log
                .changed
                .wait_timeout(written, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for a line that contains `text` and returns it.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn wait_line(&self, world: &World, text: &str, limit: Duration) -> Result<String> {
        self.wait(world, &format!("a line with {text:?}"), limit, |written| {
            written.find(text).map(|line| line.text.clone())
        })
    }

    /// Waits for a final block of at least that height.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn wait_final(&self, world: &World, height: u64, limit: Duration) -> Result<()> {
        self.wait(world, &format!("final block {height}"), limit, |written| {
            (written.height() >= height).then_some(())
        })
    }

    /// Waits for the exit and the last lines.
    ///
    /// # Errors
    /// When the time is over.
    pub fn wait_end(&mut self, world: &World, limit: Duration) -> Result<ExitStatus> {
        let until = world.until(limit);
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() >= until {
                bail!("{} did not end within {} s", self.log.name, limit.as_secs());
            }
            thread::sleep(POLL_INTERVAL);
        };
        self.wait(world, "the end of its output", limit, |written| {
            (written.open == 0).then_some(())
        })?;
        Ok(status)
    }

    /// Sends a signal by its name, such as `INT`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn signal(&self, signal: &str) -> Result<()> {
        // The shell's built-in, because the system call needs unsafe code, and the program `kill`
        // may be missing.
        let status = Command::new("sh")
            .args([
                "-c",
                "kill -s \"$1\" \"$2\"",
                "sh",
                signal,
                &self.id().to_string(),
            ])
            .status()
            .context("cannot run sh")?;
        if !status.success() {
            bail!("{} cannot be sent SIG{signal}", self.log.name);
        }
        Ok(())
    }

    /// Sends SIGKILL and waits for the exit.
    ///
    /// # Errors
    /// When it has exited by itself, which the test did not expect.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended by itself: {status}", self.log.name);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// True while it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// All its output on `stream`.
    pub fn text(&self, stream: Stream) -> String {
        self.written(|written| {
            let lines = written.lines.iter().filter(|line| line.stream == stream);
            lines.map(|line| format!("{}\n", line.text)).collect()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command, killed by the kernel when this process dies, if `setpriv` is installed.
fn killed_with_parent(command: &Command) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let is_installed = *SETPRIV.get_or_init(|| {
        let mut probe = Command::new("setpriv");
        probe
            .args(["--pdeathsig", "KILL", "true"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    });
    let prefix: &[&str] = if is_installed {
        &["setpriv", "--pdeathsig", "KILL"]
    } else {
        &[]
    };
    prefixed(command, prefix)
}

/// `command` with words before it, in the same directory and environment.
pub fn prefixed(command: &Command, prefix: &[&str]) -> Command {
    let prefix = prefix.iter().map(OsStr::new);
    let mut words = prefix
        .chain([command.get_program()])
        .chain(command.get_args());
    let mut wrapped = Command::new(words.next().expect("a command has a program"));
    wrapped.args(words);
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status_of_a_process() {
        let status = "Name:\talys\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\nThreads:\t3\n";
        let expected = Memory {
            resident_kib: 1024,
            peak_kib: 2048,
        };
        assert_eq!(Memory::parse(status).expect("both are there"), expected);
        // A process that has ended and not been waited for has no memory.
        assert!(Memory::parse("Name:\talys\n").is_err());
    }
}
