//! Escapes from the simulation are stopped by the kernel, not hoped for.
//!
//! The thread of a run gets a seccomp filter: whoever makes a system call there that reads a clock, draws randomness, opens
//! a file or a socket, sleeps, or starts a thread or a process, is stopped with a signal; likewise, on x86-64, whoever reads
//! the time-stamp counter, and with it the clocks that the C library reads without a call. The signal's handler keeps the
//! stack; a thread outside of the filter, which has been waiting for that, resolves it and ends the process.
//!
//! What a run does need goes on: memory, writing to open files (what people are shown), futexes, the end of the thread.

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// What a run did that it cannot do inside of a simulation.
#[derive(Debug)]
pub struct Escape {
    /// The system call, or the instruction.
    pub what: String,
    /// Where; `None` when it was in the middle of taking memory, where no stack can be kept. Resolving it opens files.
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

/// What was stopped, as [`filter::name`] knows it: the first thing that the handler writes.
static STOPPED: AtomicI64 = AtomicI64::new(NOTHING);
/// No system call has this number.
const NOTHING: i64 = i64::MIN;
/// Where, once the handler has it. The thread that it interrupts does not go on.
static STACK: Mutex<Option<Backtrace>> = Mutex::new(None);

/// How often the watcher looks.
const LOOK: Duration = Duration::from_millis(20);
/// Looks until the watcher no longer waits for the stack.
const LOOKS_FOR_STACK: usize = 100;

/// Starts the thread that tells of an escape; it ends with the process. To be called before the run's thread is started.
pub fn watch(tell: impl FnOnce(Escape) + Send + 'static) {
    filter::keep_one_heap();
    std::thread::spawn(move || {
        while STOPPED.load(Ordering::Acquire) == NOTHING {
            std::thread::sleep(LOOK);
        }
        let what = filter::name(STOPPED.load(Ordering::Acquire));
        let take = || {
            std::thread::sleep(LOOK);
            STACK.try_lock().ok()?.take()
        };
        let stack = (0..LOOKS_FOR_STACK).find_map(|_| take());
        tell(Escape { what, stack });
    });
}

/// From now on this thread, and what it starts, is held. False where the kernel does not allow it: then escapes show only
/// as runs that differ.
pub fn arm() -> bool {
    filter::install()
}

/// An escape on purpose, to show that the trap holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Canary {
    /// Reads the clock by the system call.
    Clock,
    /// Reads the time-stamp counter.
    Counter,
    /// Draws from the kernel's generator.
    Random,
    /// Opens a file.
    File,
    /// Opens a socket.
    Socket,
    /// Sleeps.
    Sleep,
    /// Starts a thread, by the system call: the runtime refuses the library's.
    Thread,
}

impl Canary {
    /// Tries it.
    #[expect(
        unsafe_code,
        reason = "an escape goes around every safe interface, for those are simulated"
    )]
    pub fn fly(self) {
        let mut bytes = [0u8; 16];
        // SAFETY: each call gets memory that is large enough for what it writes, or none; where the trap holds, none of
        // them returns.
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
                // Without arguments: where nothing holds it, the kernel refuses it.
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
        reason = "signal handlers and the controls of a thread are not in any safe interface"
    )]

    use std::backtrace::Backtrace;
    use std::collections::BTreeMap;
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering;

    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

    use super::{STACK, STOPPED};

    /// System calls by which something of the real world would get into a run, or out of it.
    const FORBIDDEN: &[(libc::c_long, &str)] = &[
        (libc::SYS_clock_gettime, "clock_gettime"),
        (libc::SYS_clock_getres, "clock_getres"),
        (libc::SYS_clock_nanosleep, "clock_nanosleep"),
        (libc::SYS_clone, "clone"),
        (libc::SYS_clone3, "clone3"),
        (libc::SYS_connect, "connect"),
        (libc::SYS_epoll_create1, "epoll_create1"),
        (libc::SYS_epoll_pwait, "epoll_pwait"),
        (libc::SYS_eventfd2, "eventfd2"),
        (libc::SYS_execve, "execve"),
        (libc::SYS_getrandom, "getrandom"),
        (libc::SYS_gettimeofday, "gettimeofday"),
        (libc::SYS_io_uring_setup, "io_uring_setup"),
        (libc::SYS_nanosleep, "nanosleep"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_pipe2, "pipe2"),
        (libc::SYS_ppoll, "ppoll"),
        (libc::SYS_pselect6, "pselect6"),
        (libc::SYS_recvfrom, "recvfrom"),
        (libc::SYS_sched_getaffinity, "sched_getaffinity"),
        (libc::SYS_sendto, "sendto"),
        (libc::SYS_socket, "socket"),
        (libc::SYS_socketpair, "socketpair"),
        (libc::SYS_timerfd_create, "timerfd_create"),
        (libc::SYS_uname, "uname"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_creat, "creat"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_fork, "fork"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, "open"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_poll, "poll"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_select, "select"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_time, "time"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_vfork, "vfork"),
    ];

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
            // SAFETY: it changes how this thread reads the time-stamp counter, and touches no memory.
            unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV) };
        }
        seccompiler::apply_filter(&program).is_ok()
    }

    fn program() -> Option<BpfProgram> {
        let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
        let rules: BTreeMap<_, _> = FORBIDDEN
            .iter()
            .map(|(call, _)| (*call, Vec::new()))
            .collect();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trap, arch);
        filter.ok()?.try_into().ok()
    }

    type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

    /// A stack overflow leaves no room for its own handler, so that has a stack of its own; taking a backtrace there needs
    /// more of it than the standard library gives a thread.
    #[cfg(target_arch = "x86_64")]
    fn make_room_for_handlers() {
        const BYTES: usize = 1 << 18;
        let room = Vec::leak(vec![0u8; BYTES]);
        let stack = libc::stack_t {
            ss_sp: room.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: BYTES,
        };
        // SAFETY: the memory is never given back.
        unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    }

    fn handle(signal: libc::c_int, handler: Handler, more: libc::c_int) -> libc::sigaction {
        // SAFETY: an all-zero action is a valid one, and both pointers are to actions that live through the call.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut previous: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | more;
            libc::sigaction(signal, &raw const action, &raw mut previous);
            previous
        }
    }

    /// A forbidden call was about to be made: it was not made.
    extern "C" fn on_call(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        /// Where the kernel puts the call's number: after three numbers, padding and the calling address.
        const CALL_AT: usize = 24;
        // SAFETY: the kernel hands over a whole siginfo of this signal, which has the number of the call there.
        let call =
            unsafe { ptr::read_unaligned(info.cast::<u8>().add(CALL_AT).cast::<libc::c_int>()) };
        report(call.into());
    }

    /// Stands for an instruction among the numbers of system calls.
    const COUNTER: i64 = -1;

    /// For people.
    pub fn name(stopped: i64) -> String {
        if stopped == COUNTER {
            return "a reading of the time-stamp counter".to_owned();
        }
        let name = FORBIDDEN.iter().find(|(known, _)| *known == stopped);
        format!("system call {}", name.map_or("unknown", |(_, name)| name))
    }

    /// The C library gives each thread a heap of its own, and looks into a file before it makes one smaller; of the first
    /// heap, which only grows and shrinks at its end, all threads can have their memory as well.
    pub fn keep_one_heap() {
        // SAFETY: a number for the allocator, from before the other threads exist.
        #[cfg(target_env = "gnu")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1)
        };
    }

    /// What handled this signal before: stack overflows are told by it.
    static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

    /// Reading the time-stamp counter, or a crash.
    #[cfg(target_arch = "x86_64")]
    extern "C" fn on_counter(
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        /// `rdtsc`, and the beginning of `rdtscp`.
        const READS: [&[u8]; 2] = [&[0x0f, 0x31], &[0x0f, 0x01, 0xf9]];
        // SAFETY: the kernel hands over a whole context; a general protection fault has no address, and only then is the
        // instruction pointer one that code was just being run at, so that it can be read.
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
                // SAFETY: the standard library installed it for this signal with the same flags.
                let handler: Handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
                handler(signal, info, context);
            }
            // SAFETY: back to what the system does by itself, which is to end the process when the instruction runs again.
            _ => unsafe {
                libc::signal(signal, libc::SIG_DFL);
            },
        }
    }

    /// Keeps what was found and stops this thread for good. The stack takes memory: if that is what was interrupted, this
    /// waits for ever, and the watcher goes on without.
    fn report(stopped: i64) -> ! {
        STOPPED.store(stopped, Ordering::Release);
        let stack = Backtrace::force_capture();
        if let Ok(mut kept) = STACK.lock() {
            *kept = Some(stack);
        }
        loop {
            // SAFETY: it waits for a signal, and touches nothing.
            unsafe { libc::pause() };
        }
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
mod filter {
    /// Nothing is ever stopped here.
    pub fn name(_: i64) -> String {
        String::new()
    }

    /// Nothing needs it here.
    pub fn keep_one_heap() {}

    /// There is no such kernel here.
    pub fn install() -> bool {
        false
    }
}
