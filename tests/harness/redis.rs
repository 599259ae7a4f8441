//! A Redis server of our own on loopback, as Debian's redis-tools have it: their `redis-check-rdb` is the server where it is called
//! so (the package redis-server would start one for the whole machine).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::run::until;
use crate::server::{Lasting, Process, certificate, free_port, is_process};

/// A server that ends with this.
pub struct Server {
    /// Where it listens.
    pub port: u16,
    process: Process,
    folder: TempDir,
}

is_process!(Server);

impl Server {
    /// Starts one with these options.
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("because tests may write temporary files");
        let port = free_port();
        let mut command = Command::new("redis-check-rdb");
        command
            .arg0("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .args(options);
        let answers = ["PONG", "NOAUTH Authentication required."];
        let process = Process::start(command, move || answers.contains(&&*ask(port, &["ping"])));
        Self { port, process, folder }
    }

    /// Starts one that wants this password, and its port for TLS.
    pub fn locked(password: &str) -> (Self, u16) {
        let (certificates, port) = (tempfile::tempdir().expect("because tests may write temporary files"), free_port());
        certificate(certificates.path());
        let at = |name: &str| certificates.path().join(name).to_string_lossy().into_owned();
        let (authority, key) = (at("authority.pem"), at("key.pem"));
        let files = ["--tls-cert-file", &authority, "--tls-key-file", &key, "--tls-ca-cert-file", &authority];
        let more = ["--requirepass", password, "--tls-auth-clients", "no", "--tls-port", &port.to_string()];
        let mut server = Self::start(&[&files[..], &more].concat());
        server.folder = certificates;
        (server, port)
    }

    /// Who vouches for its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// What `redis-cli` says.
    pub fn ask(&self, arguments: &[&str]) -> String {
        ask(self.port, arguments)
    }

    /// Publishes bytes to a channel; how many got them, as the protocol has it.
    pub fn publish(&self, channel: &str, message: &[u8]) -> String {
        self.tell(&[b"PUBLISH", channel.as_bytes(), message])
    }

    /// A command with bytes in it; the first four bytes of the answer.
    fn tell(&self, words: &[&[u8]]) -> String {
        let mut client = TcpStream::connect(("127.0.0.1", self.port)).expect("because it listens");
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        client.write_all(&command).expect("because it reads");
        let mut answer = [0; 4];
        client.read_exact(&mut answer).expect("because it answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Waits until so many patterns are subscribed to.
    pub fn wait_for_subscribers(&self, count: usize) {
        until("subscribers", || self.ask(&["pubsub", "numpat"]) == count.to_string());
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// Its stream.
impl Lasting for Server {
    fn url(&self) -> String {
        self.url()
    }

    fn flags(&self) -> &'static [&'static str] {
        &["--stream", "provenance"]
    }

    fn place(&self) -> String {
        format!("redis://127.0.0.1:{}/0 stream provenance", self.port)
    }

    /// A stream is kept for every group, until those that are known have had it.
    fn knows(&self, group: &str) -> bool {
        self.ask(&["--csv", "xinfo", "groups", "provenance"]).contains(&format!("\"name\",\"{group}\","))
    }

    fn has_settled(&self, group: &str) -> bool {
        let field = |said: &str, name: &str| {
            let value = said.split(&format!("\"{name}\",")).nth(1).and_then(|rest| rest.split([',', '\n']).next());
            value.map(str::to_string)
        };
        // Not by its lag: Redis does not know that any more once entries were removed and it was started again.
        let last = field(&self.ask(&["--csv", "xinfo", "stream", "provenance"]), "last-generated-id");
        let groups = self.ask(&["--csv", "xinfo", "groups", "provenance"]);
        let of = groups.split(&format!("\"name\",\"{group}\",")).nth(1).unwrap_or_default();
        of.contains("\"pending\",0,") && last.is_some() && field(of, "last-delivered-id") == last
    }

    fn put(&self, message: &[u8]) {
        self.tell(&[b"XADD", b"provenance", b"*", b"message", message]);
    }
}

fn ask(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments).output();
    String::from_utf8_lossy(&output.expect("because redis-tools are there").stdout).trim().to_string()
}
