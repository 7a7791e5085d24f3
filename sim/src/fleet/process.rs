//! One process per run: the same program with the same arguments, the same environment and a fixed
//! address space, so that a run depends neither on earlier runs nor on the memory layout.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::invariants::{Found, Violation};
use crate::params::Stack;
use crate::plan::Plan;
use crate::run::outcome::Outcome;

/// Hidden command that runs one seed and prints its outcome as JSON.
pub const ONE: &str = "one";

/// Parameters of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The scenario's file.
    pub scenario: PathBuf,
    pub seed: u64,
    /// Name of the planted bug.
    pub mutant: Option<String>,
    /// Signatures and links, as in `--stack`.
    pub stack: Stack,
    /// The arguments `--log` and `--trace`. With any of them, the child inherits standard error.
    pub view: Vec<String>,
    /// Further hidden arguments, for reports, replays and bisections.
    pub more: Vec<String>,
    /// Real time after which the run is aborted as a timeout.
    pub patience: Duration,
}

/// Settings of glibc's allocator: a run keeps its memory until it ends. By default it returns pages
/// to the kernel at each lull and faults them in again. Other C libraries ignore the variable.
const MEMORY: &str = "glibc.malloc.trim_threshold=268435456:glibc.malloc.top_pad=4194304:\
                      glibc.malloc.mmap_threshold=33554432";

/// Default real-time limit of a run.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Returns the command that runs a seed again, for display. `scenario` is a file or a name.
pub fn replay(scenario: &Path, seed: u64, stack: Stack, mutant: Option<&str>) -> String {
    let mutant = mutant.map_or(String::new(), |mutant| format!(" --mutant {mutant}"));
    format!(
        "cargo sim run {} --seed {seed} --stack {stack}{mutant}",
        scenario.display()
    )
}

impl Job {
    /// Returns the command that runs this job again, for display.
    pub fn replay(&self) -> String {
        replay(
            &self.scenario,
            self.seed,
            self.stack,
            self.mutant.as_deref(),
        )
    }

    /// Returns this job with further hidden arguments.
    pub fn with(&self, more: impl IntoIterator<Item = String>) -> Self {
        let mut job = self.clone();
        job.more.extend(more);
        job
    }

    /// Returns this job with a report about its run. `messages` is the argument of `--messages`.
    pub fn with_page(&self, file: &Path, messages: Option<&str>) -> Self {
        let file = ["--report".to_owned(), file.display().to_string()];
        let messages = messages
            .into_iter()
            .flat_map(|window| ["--messages".to_owned(), window.to_owned()]);
        self.with(file.into_iter().chain(messages))
    }

    /// Returns the outcome of a run whose process ended without one.
    pub fn lost(&self, plan: &Plan, wall_ms: u64, violation: Violation) -> Outcome {
        Outcome {
            scenario: plan.name.clone(),
            seed: self.seed,
            stack: self.stack,
            mutant: self.mutant.clone(),
            found: Some(Found {
                at_ms: 0,
                violation,
            }),
            timeout_s: None,
            trace_hash: String::new(),
            snapshots: Vec::new(),
            events: 0,
            simulated_ms: 0,
            final_height: 0,
            counters: BTreeMap::new(),
            wall_ms,
            peak_kib: 0,
        }
    }

    /// Starts the process, which prints its outcome to standard output.
    ///
    /// # Errors
    /// The error of the operating system.
    pub fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(this_program()?);
        command
            .arg(ONE)
            .arg(&self.scenario)
            .arg("--seed")
            .arg(self.seed.to_string());
        command.arg("--stack").arg(self.stack.name());
        if let Some(mutant) = &self.mutant {
            command.arg("--mutant").arg(mutant);
        }
        command
            .args(&self.view)
            .args(&self.more)
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .env("GLIBC_TUNABLES", MEMORY);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !self.view.is_empty() {
            command.stderr(Stdio::inherit());
        }
        fix_address_space(&mut command);
        command.spawn()
    }
}

fn this_program() -> io::Result<PathBuf> {
    // A new build may have replaced the file; the link still leads to the running one.
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        Ok(running.to_owned())
    } else {
        std::env::current_exe()
    }
}

#[expect(
    unsafe_code,
    reason = "the personality of a process can only be set between fork and exec"
)]
fn fix_address_space(command: &mut Command) {
    let before_exec = || {
        // A container can forbid the call. Runs then stay equal unless a map is seeded by
        // addresses.
        #[cfg(target_os = "linux")]
        // SAFETY: personality is a plain system call, and safe between fork and exec.
        unsafe {
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong)
        };
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(before_exec) };
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Returns true after SIGINT (Ctrl-C) or SIGTERM, once [`listen`] was called.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Installs handlers that record SIGINT and SIGTERM, because job runners stop programs with
/// SIGTERM. Ctrl-C also reaches the children, which share the process group; after SIGTERM,
/// [`super::sweep`] kills them.
#[expect(
    unsafe_code,
    reason = "the standard library has no signal handlers, and a simulated runtime has no real ones"
)]
pub fn listen() {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::SeqCst);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which is allowed at any moment.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

/// Restores the default action of SIGPIPE, so that the process ends silently when the reader of its
/// output has closed the pipe (`| head`), as other tools do.
#[expect(
    unsafe_code,
    reason = "the standard library ignores this signal, and has no way to say otherwise"
)]
pub fn end_with_the_reader() {
    // SAFETY: this restores the default action, and no other thread is running yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
