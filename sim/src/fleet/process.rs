//! One process per run: the same program again, with the same arguments, the same environment and a fixed address space, so
//! that nothing of a run depends on the runs before it or on where the system puts the program.

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

/// The hidden command that runs one seed and prints its outcome as JSON.
pub const ONE: &str = "one";

/// What one process is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The scenario's file.
    pub scenario: PathBuf,
    /// The seed.
    pub seed: u64,
    /// The planted bug, by name.
    pub mutant: Option<String>,
    /// How much of the production stack it has.
    pub stack: Stack,
    /// `--log` and `--trace`, as given.
    pub view: Vec<String>,
    /// Hidden arguments, for runs that are looked into.
    pub more: Vec<String>,
    /// Real time after which the run is given up.
    pub patience: Duration,
}

/// Real time after which a run is given up, when nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// The command that runs a seed again, for people. `scenario` is its file, or its name.
pub fn replay(scenario: &Path, seed: u64, stack: Stack, mutant: Option<&str>) -> String {
    let mutant = mutant.map_or(String::new(), |mutant| format!(" --mutant {mutant}"));
    format!(
        "cargo sim run {} --seed {seed} --stack {stack}{mutant}",
        scenario.display()
    )
}

impl Job {
    /// The command that does the same again, for people.
    pub fn replay(&self) -> String {
        replay(
            &self.scenario,
            self.seed,
            self.stack,
            self.mutant.as_deref(),
        )
    }

    /// The same with further hidden arguments.
    pub fn with(&self, more: impl IntoIterator<Item = String>) -> Self {
        let mut job = self.clone();
        job.more.extend(more);
        job
    }

    /// The same, and it writes a page about its run. `messages`: of which part all are wanted, in the words of the command
    /// line.
    pub fn with_page(&self, file: &Path, messages: Option<&str>) -> Self {
        let file = ["--report".to_owned(), file.display().to_string()];
        let messages = messages
            .into_iter()
            .flat_map(|window| ["--messages".to_owned(), window.to_owned()]);
        self.with(file.into_iter().chain(messages))
    }

    /// The outcome of a run that its process did not survive.
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

    /// Starts the process. Its outcome comes on its standard output.
    ///
    /// # Errors
    /// What the system says.
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
            .env("RUST_BACKTRACE", "1");
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
    // The file may have been replaced by a new build meanwhile; the link still leads to the running one.
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
        // Where a container forbids it, runs are still the same as long as no map is seeded by addresses.
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

/// Whether the person has pressed Ctrl-C, or whoever runs the program has asked it to end, since [`listen`].
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// From now on Ctrl-C is noted, and SIGTERM, with which job runners end what they run. The children, in the same process
/// group, end by Ctrl-C; by SIGTERM they are broken off.
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

/// Has this process end without a word when nobody reads what it prints any more (`| head`), as other tools do.
#[expect(
    unsafe_code,
    reason = "the standard library ignores this signal, and has no way to say otherwise"
)]
pub fn end_with_the_reader() {
    // SAFETY: back to what the system does by itself; nothing else is running yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
