//! Servers of tests: each on loopback, and it ends with the test.

use std::net::TcpListener;
use std::ops::DerefMut;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use flowcept_agent::sinks::Name;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A server's process.
pub struct Process {
    command: Command,
    is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    child: Child,
}

impl Process {
    /// Starts it, and waits until it answers.
    pub fn start(mut command: Command, is_ready: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = started(&mut command, &is_ready);
        Self { command, is_ready: Box::new(is_ready), child }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("because it runs");
    }

    /// Starts it again after that.
    pub fn restart(&mut self) {
        self.child = started(&mut self.command, &self.is_ready);
    }

    /// SIGSTOP, and SIGCONT a while later.
    pub fn pause(&self, time: Duration) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("because pids are small"));
        kill(pid, Signal::SIGSTOP).expect("because it runs");
        sleep(time);
        kill(pid, Signal::SIGCONT).expect("because it runs");
    }
}

/// Lets a server be killed, started and paused as its field `process`.
macro_rules! is_process {
    ($server:ty) => {
        impl std::ops::Deref for $server {
            type Target = $crate::server::Process;

            fn deref(&self) -> &Self::Target {
                &self.process
            }
        }

        impl std::ops::DerefMut for $server {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.process
            }
        }
    };
}
pub(crate) use is_process;

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn started(command: &mut Command, is_ready: &dyn Fn() -> bool) -> Child {
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{e}: {command:?}"));
    let begun = Instant::now();
    while !is_ready() {
        // RabbitMQ, killed with a million messages, reads for more than two minutes.
        if begun.elapsed() > Duration::from_secs(600) {
            let _ = child.kill().and_then(|()| child.wait().map(drop));
            panic!("the server does not answer: {command:?}");
        }
        if let Ok(Some(status)) = child.try_wait() {
            panic!("the server ended ({status}): {command:?}");
        }
        sleep(Duration::from_millis(20));
    }
    child
}

/// A server that has a queue, `provenance`, which keeps messages until each group of readers has them.
pub trait Lasting: DerefMut<Target = Process> + Sync {
    /// Its URL.
    fn url(&self) -> String;

    /// Flags that name the queue.
    fn flags(&self) -> &'static [&'static str];

    /// The name that they are.
    fn name(&self) -> Name<'static> {
        match self.flags() {
            ["--stream", stream] => Name { channel: "", stream: Some(stream) },
            ["--channel", channel] => Name { channel, stream: None },
            flags => panic!("{flags:?} name no queue"),
        }
    }

    /// What flowcept calls the queue.
    fn place(&self) -> String;

    /// Whether messages are kept for a group that has not been there since.
    fn knows(&self, group: &str) -> bool;

    /// Whether a group has settled all that the queue has had.
    fn has_settled(&self, group: &str) -> bool;

    /// Adds a message.
    fn put(&self, message: &[u8]);
}

/// Makes a certificate of this host's loopback that vouches for itself, `authority.pem`, and its `key.pem`.
pub fn certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "authority.pem"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status();
    assert!(made.is_ok_and(|s| s.success()), "openssl makes a certificate");
}

/// A port of loopback that nobody has.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("because a port is free").port()
}
