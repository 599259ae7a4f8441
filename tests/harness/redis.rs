//! A Redis server of our own on loopback, as Debian's redis-tools have it: their `redis-check-rdb` is the server where it is called
//! so (the package redis-server would start one for the whole machine).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A server that ends with this.
pub struct Server {
    /// Where it listens.
    pub port: u16,
    options: Vec<String>,
    folder: TempDir,
    child: Child,
}

impl Server {
    /// Starts one with these options.
    pub fn start(options: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("because a port is free");
        let folder = tempfile::tempdir().expect("because tests may write temporary files");
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let child = started(free.port(), &options, &folder);
        Self { port: free.port(), options, folder, child }
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("because it runs");
    }

    /// Starts it again after that.
    pub fn restart(&mut self) {
        self.child = started(self.port, &self.options, &self.folder);
    }

    /// SIGSTOP, and SIGCONT a while later.
    pub fn pause(&self, time: Duration) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("because pids are small"));
        kill(pid, Signal::SIGSTOP).expect("because it runs");
        sleep(time);
        kill(pid, Signal::SIGCONT).expect("because it runs");
    }

    /// What `redis-cli` says.
    pub fn ask(&self, arguments: &[&str]) -> String {
        ask(self.port, arguments)
    }

    /// Publishes bytes to a channel; how many got them, as the protocol has it.
    pub fn publish(&self, channel: &str, message: &[u8]) -> String {
        let mut publisher = TcpStream::connect(("127.0.0.1", self.port)).expect("because it listens");
        let (name, length) = (channel.len(), message.len());
        let head = format!("*3\r\n$7\r\nPUBLISH\r\n${name}\r\n{channel}\r\n${length}\r\n");
        publisher.write_all(&[head.as_bytes(), message, b"\r\n"].concat()).expect("because it reads");
        let mut answer = [0; 4];
        publisher.read_exact(&mut answer).expect("because it answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Waits until so many patterns are subscribed to.
    pub fn wait_for_subscribers(&self, count: usize) {
        let begun = Instant::now();
        while self.ask(&["pubsub", "numpat"]) != count.to_string() {
            assert!(begun.elapsed() < Duration::from_secs(60), "nobody subscribes");
            sleep(Duration::from_millis(20));
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn started(port: u16, options: &[String], folder: &TempDir) -> Child {
    let child = Command::new("redis-check-rdb")
        .arg0("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder.path())
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("because redis-tools are there");
    let begun = Instant::now();
    while !["PONG", "NOAUTH Authentication required."].contains(&&*ask(port, &["ping"])) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the server does not answer");
        sleep(Duration::from_millis(20));
    }
    child
}

fn ask(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments).output();
    String::from_utf8_lossy(&output.expect("because redis-tools are there").stdout).trim().to_string()
}
