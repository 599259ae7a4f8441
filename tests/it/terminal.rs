//! `flowcept` on a pseudo-terminal: what its keys do to a traced command, and how answers look to a person.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use flowcept_provenance::activity::Outcome;
use harness::host::{binary, need};
use harness::run::{Captured, until};
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A program that leads a session on a terminal of its own.
struct Terminal {
    /// The person's side; absent when the window was closed.
    window: Option<File>,
    /// What was printed.
    screen: Vec<u8>,
    leader: Child,
}

impl Terminal {
    /// Starts a program, whose arguments are those of setsid(1).
    fn of(program: &Path, arguments: &[&str], dir: &Path, environment: &[(&str, &str)]) -> Self {
        let because = "because there are pseudo-terminals";
        // Of no use to what other tests start.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let window = posix_openpt(flags).expect(because);
        grantpt(&window).and_then(|()| unlockpt(&window)).expect(because);
        let name = ptsname_r(&window).expect(because);
        let side =
            || OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&name).expect(because);
        // Whoever runs the tests may ignore that his own terminal closes (nohup).
        let leader = Command::new("env")
            .args(["--default-signal=HUP", "setsid", "--ctty"])
            .arg(program)
            .args(arguments)
            .current_dir(dir)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("because util-linux is on every machine");
        let window = File::from(window.as_fd().try_clone_to_owned().expect(because));
        Self { window: Some(window), screen: Vec::new(), leader }
    }

    fn press(&mut self, keys: &str) {
        let window = self.window.as_mut().expect("because it was not closed");
        window.write_all(keys.as_bytes()).expect("because the terminal takes a line");
    }

    /// Closes the window.
    fn close(&mut self) {
        self.window = None;
    }

    /// The pid of the program: setsid(1) becomes it.
    fn leader(&self) -> Pid {
        Pid::from_raw(self.leader.id() as i32)
    }

    /// Takes what was printed until now.
    fn look(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(Ok(count @ 1..)) = self.window.as_mut().map(|w| w.read(&mut bytes)) {
            self.screen.extend(&bytes[..count]);
        }
    }

    /// The leader's exit code, when it has ended.
    fn ended(&mut self) -> Result<i32, ExitStatus> {
        let mut ended = None;
        until("the end of the command", || {
            self.look();
            ended = self.leader.try_wait().expect("because it was started");
            ended.is_some()
        });
        self.look();
        let status = ended.expect("because it was waited for");
        status.code().ok_or(status)
    }

    /// Everything that was printed.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen).replace("\r\n", "\n")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

fn empty() -> tempfile::TempDir {
    tempfile::tempdir().expect("because tests may write temporary files")
}

/// `flowcept run` of a script in `dir`, in the foreground of a terminal, once the script has made the file `ready`.
fn running(script: &str, dir: &Path, store: &Path) -> Terminal {
    let store = store.to_string_lossy();
    let terminal = Terminal::of(binary(), &["--store", &store, "run", "--", "sh", "-c", script], dir, &[]);
    until("the command", || dir.join("ready").exists());
    terminal
}

/// The code of wait(2) that the newest run is kept with; all that it did is there.
fn stored(store: &Path) -> Option<u32> {
    let store = flowcept_agent::store::Store::open(store.to_path_buf()).expect("because the run made it");
    let run = flowcept_agent::query::Library::open(&store).and_then(|mut l| l.find("last"));
    let run = run.unwrap_or_else(|e| panic!("{e}"));
    assert!(run.told.gaps.is_empty(), "{:?}", run.told.gaps);
    assert!(run.told.activities.iter().all(|a| a.outcome != Outcome::Running), "{:?}", run.told.activities);
    assert!(harness::run::generated(&run).iter().any(|p| p.ends_with("/ready")));
    run.workflow.exit_code
}

/// Ctrl-C is for the command; the tracer outlives it and keeps the run.
#[test]
fn ctrl_c_ends_the_command() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (empty(), empty());
    let mut terminal = running(": > ready; exec sleep 60", dir.path(), store.path());
    terminal.press("\x03");
    assert_eq!(terminal.ended(), Ok(130));
    assert_eq!(stored(store.path()), Some(libc::SIGINT as u32));
}

/// A command that handles Ctrl-C goes on and ends as it likes.
#[test]
fn ctrl_c_may_be_handled() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (empty(), empty());
    let script = "trap 'exit 5' INT; : > ready; while :; do sleep 0.05; done";
    let mut terminal = running(script, dir.path(), store.path());
    terminal.press("\x03");
    assert_eq!(terminal.ended(), Ok(5));
    assert_eq!(stored(store.path()), Some(5 << 8));
}

/// The state of a process in /proc, as `T` for stopped.
fn state(pid: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Ctrl-Z stops the command and its tracer, and the shell's fg continues both.
#[test]
fn ctrl_z_stops_and_fg_continues() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (empty(), empty());
    // No fork while it waits: who has called vfork(2) is not stopped before the child has exec'd.
    let script = "echo $$ > pid; echo $PPID > tracer; : > ready; exec sleep 60";
    fs::write(dir.path().join("script"), script).expect("because the folder is ours");
    let mut shell = Terminal::of("sh".as_ref(), &["-i"], dir.path(), &[]);
    let line = format!("{} --store {} run -q -- sh script\n", binary().display(), store.path().display());
    shell.press(&line);
    until("the command", || dir.path().join("ready").exists());
    let pid = |name: &str| -> String {
        fs::read_to_string(dir.path().join(name)).expect("because the script wrote it").trim().into()
    };
    let (command, tracer) = (pid("pid"), pid("tracer"));
    shell.press("\x1a");
    until("the command's stop", || state(&command) == Some('T'));
    until("the tracer's stop", || state(&tracer) == Some('T'));
    shell.press("fg\n");
    until("the command's going on", || state(&command).is_some_and(|s| s != 'T'));
    until("the tracer's going on", || state(&tracer).is_some_and(|s| s != 'T'));
    kill(Pid::from_raw(command.parse().expect("because it is a number")), Signal::SIGTERM).expect("because it runs");
    shell.press("exit $?\n");
    assert_eq!(shell.ended(), Ok(143));
    assert_eq!(stored(store.path()), Some(libc::SIGTERM as u32));
}

/// What a supervisor sends to the tracer is for the command, also on a terminal.
#[test]
fn a_signal_to_the_tracer_reaches_the_command() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (empty(), empty());
    let mut terminal = running(": > ready; exec sleep 60", dir.path(), store.path());
    kill(terminal.leader(), Signal::SIGTERM).expect("because it runs");
    assert_eq!(terminal.ended(), Ok(143));
    assert_eq!(stored(store.path()), Some(libc::SIGTERM as u32));
}

/// The window is closed: the command is told, and the run is kept though nobody can be told of it.
#[test]
fn a_closed_terminal_ends_the_command() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, store) = (empty(), empty());
    let mut terminal = running(": > ready; exec sleep 60", dir.path(), store.path());
    terminal.close();
    assert_eq!(terminal.ended(), Ok(129));
    assert_eq!(stored(store.path()), Some(libc::SIGHUP as u32));
}

/// One task that used 25 files.
fn many_inputs() -> (tempfile::TempDir, Captured) {
    let dir = empty();
    for i in 10..35 {
        fs::write(dir.path().join(format!("in{i}")), "x\n").expect("because the folder is ours");
    }
    let captured = Captured::of(&["sh", "-c", "cat in* > out"], dir.path(), &[]);
    (dir, captured)
}

/// A terminal's answer is coloured and its long lists are folded; a pipe's is all there is, in plain text.
fn looks(arguments: &[&str], dir: &Path, captured: &Captured) {
    let whole = captured.ask(arguments);
    assert!((10..35).all(|i| whole.contains(&format!("/in{i}\n"))), "{whole}");
    assert!(!whole.contains('\x1b'), "{whole}");
    let store = captured.store.path().to_string_lossy();
    let arguments = [&["--store", &*store], arguments].concat();
    let on_terminal = |environment| {
        let mut terminal = Terminal::of(binary(), &arguments, dir, environment);
        assert_eq!(terminal.ended(), Ok(0), "{}", terminal.text());
        terminal.text()
    };
    let shown = on_terminal(&[]);
    assert!(shown.contains("\x1b["), "no colour on a terminal: {shown}");
    assert!(shown.contains("and 15 more files") && !shown.contains("/in34"), "not folded on a terminal: {shown}");
    let plain = on_terminal(&[("NO_COLOR", "1")]);
    assert!(!plain.contains('\x1b') && plain.contains("and 15 more files"), "coloured despite NO_COLOR: {plain}");
}

#[test]
fn a_lineage_for_a_person() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, captured) = many_inputs();
    looks(&["lineage", &dir.path().join("out").to_string_lossy()], dir.path(), &captured);
}

#[test]
fn a_workflow_for_a_person() {
    if !need(&["bpf"]) {
        return;
    }
    let (dir, captured) = many_inputs();
    looks(&["show", "last"], dir.path(), &captured);
}
