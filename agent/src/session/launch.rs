//! Starts the command so that nothing of it is missed: a child that waits until it is watched, then execs. It does not know
//! what watching is.

use std::ffi::{CString, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, User};

/// The command and how to start it.
#[derive(Debug)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// `--user`.
    pub user: Option<User>,
    /// Variables that are set for it.
    pub environment: Vec<(OsString, OsString)>,
}

/// The command could not be executed: an errno of execve(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotExecuted(pub Errno);

/// The root of a traced run.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    go: nix::sys::eventfd::EventFd,
    failed: std::fs::File,
}

/// Whom forwarded signals go to.
static ROOT: AtomicI32 = AtomicI32::new(0);
/// The root has ended, and somebody wants the same of us.
static STOP: AtomicBool = AtomicBool::new(false);

/// Whether a signal has come that there is no command for any more.
pub fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Signals that a supervisor sends to us and means the command. What a terminal sends (INT, QUIT, TSTP, WINCH) reaches
/// the command by itself: it is in our process group.
const FORWARDED: [Signal; 5] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];
/// Ours to survive: the command decides what they mean, and a reader of our stderr may go.
const IGNORED: [Signal; 3] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGPIPE];

extern "C" fn forward(signal: libc::c_int) {
    let pid = ROOT.load(Ordering::Relaxed);
    if pid > 0 {
        #[expect(unsafe_code, reason = "a signal handler may only make async-signal-safe calls")]
        // SAFETY: kill(2) is async-signal-safe and takes two integers.
        unsafe {
            libc::kill(pid, signal);
        }
    } else {
        STOP.store(true, Ordering::Relaxed);
    }
}

impl Child {
    /// Forks a child that waits for [`Child::go`]. We have one thread, so that the child may do what it likes before exec.
    pub fn fork(launch: &Launch) -> Result<Self> {
        // An eventfd, not a pipe: the child is watched when it reads from it, and an eventfd carries no bytes of files.
        let go = nix::sys::eventfd::EventFd::from_value_and_flags(0, nix::sys::eventfd::EfdFlags::EFD_CLOEXEC)
            .context("make an eventfd")?;
        let alive = nix::unistd::getpid();
        let (failed, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("make a pipe")?;
        let words = launch.command.iter().map(|w| CString::new(w.as_bytes()));
        let words: Vec<CString> = words.collect::<Result<_, _>>().context("an argument contains a NUL byte")?;
        let program = words.first().ok_or_else(|| anyhow!("no command given"))?.clone();
        #[expect(unsafe_code, reason = "fork(2)")]
        // SAFETY: this process has one thread (no runtime is started before), so the child may allocate.
        match unsafe { nix::unistd::fork() }.context("fork")? {
            ForkResult::Parent { child } => {
                drop(tell);
                ROOT.store(child.as_raw(), Ordering::Relaxed);
                handle_signals()?;
                Ok(Self { pid: child, go, failed: failed.into() })
            }
            ForkResult::Child => {
                drop(failed);
                // Nothing comes where the tracer dies first: then there is nothing to run for.
                let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
                if nix::unistd::getppid() != alive || go.read().is_err() {
                    std::process::exit(1);
                }
                let _ = nix::sys::prctl::set_pdeathsig(None);
                let errno = become_user(launch).err().unwrap_or_else(|| match nix::unistd::execvp(&program, &words) {
                    Ok(never) => match never {},
                    Err(errno) => errno,
                });
                let _ = std::fs::File::from(tell).write_all(&(errno as i32).to_ne_bytes());
                #[expect(unsafe_code, reason = "no destructor of the parent's may run in the child")]
                // SAFETY: _exit(2) ends the process.
                unsafe {
                    libc::_exit(127)
                }
            }
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Lets it exec.
    pub fn go(&self) -> Result<()> {
        self.go.write(1).context("start the command")?;
        Ok(())
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<u32> {
        loop {
            // It is left to be waited for: `ended` looks at it.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            let _ = nix::sys::wait::waitid(nix::sys::wait::Id::Pid(self.pid), flags);
            if let Some(code) = self.ended()? {
                return Ok(code);
            }
        }
    }

    /// Whether it has ended: the code of wait(2). An exec that failed is an error.
    pub fn ended(&mut self) -> Result<Option<u32>> {
        let status = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) => status,
            Err(Errno::EINTR) => return Ok(None),
            Err(e) => return Err(e).context("wait for the command"),
        };
        let code = match status {
            WaitStatus::Exited(_, status) => (status as u32 & 0xff) << 8,
            WaitStatus::Signaled(_, signal, core) => signal as u32 | if core { 0x80 } else { 0 },
            _ => return Ok(None),
        };
        ROOT.store(0, Ordering::Relaxed);
        let mut errno = [0; 4];
        nix::fcntl::fcntl(&self.failed, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).ok();
        if self.failed.read_exact(&mut errno).is_ok() {
            return Err(NotExecuted(Errno::from_raw(i32::from_ne_bytes(errno))).into());
        }
        Ok(Some(code))
    }
}

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was started: it may end.
    Foreground,
    /// Its child, in a session of its own, without a terminal.
    Background,
}

/// Goes on in the background, so that whoever waits for this process need not.
pub fn to_background() -> Result<Side> {
    #[expect(unsafe_code, reason = "fork(2)")]
    // SAFETY: this process has one thread, so the child may allocate.
    match unsafe { nix::unistd::fork() }.context("go to the background")? {
        ForkResult::Parent { .. } => Ok(Side::Foreground),
        ForkResult::Child => {
            let _ = nix::unistd::setsid();
            let null =
                std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").context("open /dev/null")?;
            let _ = nix::unistd::dup2_stdin(&null);
            let _ = nix::unistd::dup2_stdout(&null);
            let _ = nix::unistd::dup2_stderr(&null);
            Ok(Side::Background)
        }
    }
}

/// Takes on the environment and the user that the command is to have.
fn become_user(launch: &Launch) -> Result<(), Errno> {
    for (variable, value) in &launch.environment {
        #[expect(unsafe_code, reason = "set_var wants no other thread")]
        // SAFETY: this is a fresh child with one thread.
        unsafe {
            std::env::set_var(variable, value);
        }
    }
    let Some(user) = &launch.user else { return Ok(()) };
    let name = CString::new(user.name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    nix::unistd::initgroups(&name, user.gid)?;
    nix::unistd::setgid(user.gid)?;
    nix::unistd::setuid(user.uid)?;
    for (variable, value) in
        [("USER", user.name.as_ref()), ("LOGNAME", user.name.as_ref()), ("HOME", user.dir.as_os_str())]
    {
        #[expect(unsafe_code, reason = "set_var wants no other thread")]
        // SAFETY: this is a fresh child with one thread.
        unsafe {
            std::env::set_var(variable, value);
        }
    }
    Ok(())
}

fn handle_signals() -> Result<()> {
    let set = |signal, handler| {
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        #[expect(unsafe_code, reason = "sigaction(2)")]
        // SAFETY: the handlers are `forward`, which is async-signal-safe, and SIG_IGN.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("handle {signal}"))
    };
    for signal in FORWARDED {
        // nohup(1) and the like have decided already.
        let before = set(signal, SigHandler::Handler(forward))?;
        if before.handler() == SigHandler::SigIgn {
            set(signal, SigHandler::SigIgn)?;
        }
    }
    for signal in IGNORED {
        set(signal, SigHandler::SigIgn)?;
    }
    Ok(())
}
