//! The sandbox of a run: the kernel stops code that escapes from the simulation.
//!
//! A seccomp filter on the run's thread raises a signal at every system call that reads a clock,
//! draws randomness, opens a file or a socket, sleeps, waits with a timeout, or starts a thread or
//! a process. On x86-64, reads of the time-stamp counter raise a signal too, which covers the clocks
//! that the C library reads without a system call. The signal handler captures a backtrace; a
//! watcher thread outside of the filter resolves it and ends the process.
//!
//! Memory allocation, writes to open files (the run's output), futexes without a timeout and the
//! exit of the thread stay allowed, because a run needs them.

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A forbidden action of a run.
#[derive(Debug)]
pub struct Escape {
    /// The system call or the instruction.
    pub what: String,
    /// The backtrace of the action; `None` when it interrupted a memory allocation, because
    /// capturing a backtrace allocates too. Resolving it opens files.
    pub stack: Option<Backtrace>,
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stack {
            Some(stack) => write!(f, "{}\n{stack}", self.what),
            None => write!(f, "{}, while memory was being taken", self.what),
        }
    }
}

/// The stopped action, as a number for [`filter::name`]. The handler writes it first.
static STOPPED: AtomicI64 = AtomicI64::new(NOTHING);
/// Initial value of [`STOPPED`]; no system call has this number.
const NOTHING: i64 = i64::MIN;
/// The backtrace of the stopped action. The handler writes it second, and never returns to the
/// interrupted thread.
static STACK: Mutex<Option<Backtrace>> = Mutex::new(None);

/// Interval between two checks of the watcher.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Number of checks after which the watcher reports an escape without its backtrace.
const MAX_STACK_POLLS: usize = 100;

/// Starts the watcher thread, which passes the first escape to `report`. It must be called before
/// the run's thread starts, and lives as long as the process.
pub fn watch(report: impl FnOnce(Escape) + Send + 'static) {
    filter::keep_one_heap();
    std::thread::spawn(move || {
        while STOPPED.load(Ordering::Acquire) == NOTHING {
            std::thread::sleep(POLL_INTERVAL);
        }
        let what = filter::name(STOPPED.load(Ordering::Acquire));
        let take = || {
            std::thread::sleep(POLL_INTERVAL);
            STACK.try_lock().ok()?.take()
        };
        let stack = (0..MAX_STACK_POLLS).find_map(|_| take());
        report(Escape { what, stack });
    });
}

/// Activates the sandbox for this thread and the threads that it starts. Returns false when the
/// kernel refuses; then only a comparison of two runs detects an escape.
pub fn arm() -> bool {
    filter::install()
}

/// A deliberate escape, which tests the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Canary {
    /// Reads the clock by a system call.
    Clock,
    /// Reads the time-stamp counter.
    Counter,
    /// Draws from the kernel's random number generator.
    Random,
    /// Opens a file.
    File,
    /// Opens a socket.
    Socket,
    /// Sleeps.
    Sleep,
    /// Waits for a file with a timeout.
    Poll,
    /// Waits for a lock with a timeout.
    Futex,
    /// Starts a thread by a system call, because the runtime refuses the standard library's call.
    Thread,
}

impl Canary {
    /// Attempts the escape. Returns only when the sandbox is inactive or failed to stop it.
    #[expect(
        unsafe_code,
        reason = "an escape bypasses all safe interfaces, because those are simulated"
    )]
    pub fn fly(self) {
        let mut bytes = [0u8; 16];
        // SAFETY: each call gets memory that is large enough for its output, or none. In an active
        // sandbox none of them returns.
        unsafe {
            match self {
                Self::Clock => libc::syscall(
                    libc::SYS_clock_gettime,
                    libc::CLOCK_REALTIME,
                    bytes.as_mut_ptr(),
                ),
                Self::Random => {
                    libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0)
                }
                Self::File => libc::syscall(
                    libc::SYS_openat,
                    libc::AT_FDCWD,
                    c"/dev/null".as_ptr(),
                    libc::O_RDONLY,
                ),
                Self::Socket => {
                    libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0)
                }
                Self::Sleep => {
                    let time = libc::timespec {
                        tv_sec: 0,
                        tv_nsec: 1,
                    };
                    libc::syscall(libc::SYS_nanosleep, &raw const time, 0)
                }
                Self::Poll => {
                    let time = libc::timespec {
                        tv_sec: 0,
                        tv_nsec: 1,
                    };
                    libc::syscall(libc::SYS_ppoll, 0, 0, &raw const time, 0, 0)
                }
                Self::Futex => {
                    let time = libc::timespec {
                        tv_sec: 0,
                        tv_nsec: 1,
                    };
                    let word = 0u32;
                    libc::syscall(
                        libc::SYS_futex,
                        &raw const word,
                        libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                        0,
                        &raw const time,
                    )
                }
                // The call has no arguments, so that without the sandbox the kernel refuses it.
                Self::Thread => libc::syscall(libc::SYS_clone3, 0, 0),
                #[cfg(target_arch = "x86_64")]
                Self::Counter => std::arch::x86_64::_rdtsc() as libc::c_long,
                #[cfg(not(target_arch = "x86_64"))]
                Self::Counter => 0,
            }
        };
    }
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod filter {
    #![expect(
        unsafe_code,
        reason = "no safe interface offers signal handlers or thread controls"
    )]

    use std::backtrace::Backtrace;
    use std::collections::BTreeMap;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering;

    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };

    use super::{STACK, STOPPED};

    /// System calls that would make a run depend on the real world, or affect it.
    const FORBIDDEN: &[(libc::c_long, &str)] = &[
        (libc::SYS_clock_gettime, "clock_gettime"),
        (libc::SYS_clock_getres, "clock_getres"),
        (libc::SYS_clock_nanosleep, "clock_nanosleep"),
        (libc::SYS_clone, "clone"),
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_connect, "connect"),
        (libc::SYS_epoll_create1, "epoll_create1"),
        (libc::SYS_epoll_pwait, "epoll_pwait"),
        (libc::SYS_epoll_pwait2, "epoll_pwait2"),
        (libc::SYS_eventfd2, "eventfd2"),
        (libc::SYS_execve, "execve"),
        (libc::SYS_execveat, "execveat"),
        (libc::SYS_getcpu, "getcpu"),
        (libc::SYS_getrandom, "getrandom"),
        (libc::SYS_getrusage, "getrusage"),
        (libc::SYS_gettimeofday, "gettimeofday"),
        (libc::SYS_io_uring_setup, "io_uring_setup"),
        (libc::SYS_nanosleep, "nanosleep"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_openat2, "openat2"),
        (libc::SYS_pipe2, "pipe2"),
        (libc::SYS_ppoll, "ppoll"),
        (libc::SYS_pselect6, "pselect6"),
        (libc::SYS_recvfrom, "recvfrom"),
        (libc::SYS_sched_getaffinity, "sched_getaffinity"),
        (libc::SYS_sendto, "sendto"),
        (libc::SYS_socket, "socket"),
        (libc::SYS_socketpair, "socketpair"),
        (libc::SYS_timerfd_create, "timerfd_create"),
        (libc::SYS_times, "times"),
        (libc::SYS_uname, "uname"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_creat, "creat"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_epoll_create, "epoll_create"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_epoll_wait, "epoll_wait"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_eventfd, "eventfd"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_fork, "fork"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, "open"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_pipe, "pipe"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_poll, "poll"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_select, "select"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_time, "time"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_vfork, "vfork"),
    ];

    /// The rules that forbid a wait for a futex with a timeout, which ends by the real clock. Waits
    /// without one stay allowed, because locks need them.
    fn timed_futex() -> Option<Vec<SeccompRule>> {
        /// The arguments of the call: its operation, and the address of its timeout.
        const OPERATION: u8 = 1;
        const TIMEOUT: u8 = 3;
        /// The operation without the flags for private futexes and for the clock.
        const COMMAND: u64 = !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) as u32 as u64;
        let rule = |operation: libc::c_int| {
            let is = SeccompCmpOp::MaskedEq(COMMAND);
            let has_timeout =
                SeccompCondition::new(TIMEOUT, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0);
            let waits = SeccompCondition::new(
                OPERATION,
                SeccompCmpArgLen::Dword,
                is,
                operation.unsigned_abs().into(),
            );
            SeccompRule::new(vec![waits.ok()?, has_timeout.ok()?]).ok()
        };
        [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET]
            .map(rule)
            .into_iter()
            .collect()
    }

    /// See [`super::arm`].
    pub fn install() -> bool {
        let Some(program) = program() else {
            return false;
        };
        handle(libc::SIGSYS, on_call, 0);
        #[cfg(target_arch = "x86_64")]
        {
            make_room_for_handlers();
            PREVIOUS.get_or_init(|| handle(libc::SIGSEGV, on_counter, libc::SA_ONSTACK));
            // SAFETY: the call changes how this thread reads the time-stamp counter, and accesses
            // no memory.
            unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV) };
        }
        seccompiler::apply_filter(&program).is_ok()
    }

    fn program() -> Option<BpfProgram> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
        let always = FORBIDDEN.iter().map(|(call, _)| (*call, Vec::new()));
        let timed = std::iter::once((libc::SYS_futex, timed_futex()?));
        let rules: BTreeMap<_, _> = always.chain(timed).collect();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trap, arch);
        filter.ok()?.try_into().ok()
    }

    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

    /// Allocates a signal stack. SIGSEGV handlers run on a separate stack, because a stack overflow
    /// leaves them no room on the thread's own, and capturing a backtrace needs a larger one than
    /// the standard library allocates.
    #[cfg(target_arch = "x86_64")]
    fn make_room_for_handlers() {
        const BYTES: usize = 1 << 18;
        let room = Vec::leak(vec![0u8; BYTES]);
        let stack = libc::stack_t {
            ss_sp: room.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: BYTES,
        };
        // SAFETY: the memory is never freed.
        unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    }

    fn handle(signal: libc::c_int, handler: Handler, more: libc::c_int) -> libc::sigaction {
        // SAFETY: an all-zero action is valid, and both actions outlive the call.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut previous: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | more;
            libc::sigaction(signal, &raw const action, &raw mut previous);
            previous
        }
    }

    /// Handles SIGSYS. The kernel raises it instead of executing the forbidden call.
    extern "C" fn on_call(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        /// Offset of the call's number in `siginfo_t`: it follows three numbers, padding and the
        /// calling address.
        const CALL_AT: usize = 24;
        // SAFETY: the kernel passes a complete siginfo of this signal, which has the number of the
        // call at this offset.
        let call =
            unsafe { ptr::read_unaligned(info.cast::<u8>().add(CALL_AT).cast::<libc::c_int>()) };
        report(call.into());
    }

    /// Represents reads of the time-stamp counter among the numbers of system calls.
    const COUNTER: i64 = -1;

    /// Describes the stopped action.
    pub fn name(stopped: i64) -> String {
        if stopped == COUNTER {
            return "a reading of the time-stamp counter".to_owned();
        }
        if stopped == libc::SYS_futex {
            return "system call futex with a timeout".to_owned();
        }
        let name = FORBIDDEN.iter().find(|(known, _)| *known == stopped);
        format!("system call {}", name.map_or("unknown", |(_, name)| name))
    }

    /// Makes all threads allocate from the C library's first heap. By default each thread gets its
    /// own, and the library reads a file before it shrinks such a heap, which the filter forbids.
    pub fn keep_one_heap() {
        // SAFETY: the call sets a number of the allocator, before other threads exist.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1)
        };
    }

    /// The previous SIGSEGV action: the standard library's handler, which reports stack overflows.
    static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

    /// Handles SIGSEGV: reports a read of the time-stamp counter, and passes any other fault on.
    #[cfg(target_arch = "x86_64")]
    extern "C" fn on_counter(
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        /// The machine code of `rdtsc` and `rdtscp`.
        const READS: [&[u8]; 2] = [&[0x0f, 0x31], &[0x0f, 0x01, 0xf9]];
        // SAFETY: the kernel passes a complete context. The code at the instruction pointer is read
        // only for a fault without an address (a general protection fault), because only then was
        // the instruction itself fetched, so that its memory is readable.
        let is_read = unsafe {
            let context = &*context.cast::<libc::ucontext_t>();
            let at = context.uc_mcontext.gregs[libc::REG_RIP as usize] as *const u8;
            (*info).si_addr().is_null()
                && READS
                    .iter()
                    .any(|code| std::slice::from_raw_parts(at, code.len()) == *code)
        };
        if is_read {
            report(COUNTER);
        }
        match PREVIOUS.get().map(|previous| previous.sa_sigaction) {
            Some(handler) if handler != libc::SIG_DFL && handler != libc::SIG_IGN => {
                // SAFETY: the standard library installed this handler for this signal, with the
                // same flags.
                let handler: Handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
                handler(signal, info, context);
            }
            // SAFETY: the call restores the default action, which ends the process when the
            // instruction runs again.
            _ => unsafe {
                libc::signal(signal, libc::SIG_DFL);
            },
        }
    }

    /// Publishes the stopped action and its backtrace, and suspends this thread for ever. Capturing
    /// the backtrace allocates. If the signal interrupted an allocation, the capture deadlocks, and
    /// the watcher reports the escape without a backtrace.
    fn report(stopped: i64) -> ! {
        STOPPED.store(stopped, Ordering::Release);
        let stack = Backtrace::force_capture();
        if let Ok(mut kept) = STACK.lock() {
            *kept = Some(stack);
        }
        loop {
            // SAFETY: the call waits for a signal, and accesses no memory.
            unsafe { libc::pause() };
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod filter {
    /// Never called, because no action is stopped on this platform.
    pub fn name(_: i64) -> String {
        String::new()
    }

    /// Does nothing, because this platform has no filter.
    pub fn keep_one_heap() {}

    /// Returns false, because this platform has no seccomp.
    pub fn install() -> bool {
        false
    }
}
