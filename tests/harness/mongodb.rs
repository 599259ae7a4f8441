//! A server on loopback that speaks MongoDB's protocol: SecantusDB, from PyPI. It is none of MongoDB's, of which no registry has one.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::server::{Process, certificate, free_port, is_process};

/// A server that ends with this.
pub struct Server {
    /// Where it listens.
    pub port: u16,
    process: Process,
    folder: TempDir,
}

is_process!(Server);

impl Server {
    /// Starts one, by this Python that has it.
    pub fn start(python: &Path) -> Self {
        let folder = tempfile::tempdir().expect("because tests may write temporary files");
        Self::started(python, folder, &[])
    }

    /// Starts one that wants TLS, and this password of the user `alice`.
    pub fn locked(python: &Path, password: &str) -> Self {
        let mut open = Self::start(python);
        let script = "import pymongo, sys; pymongo.MongoClient(sys.argv[1]).admin.command('createUser', 'alice', pwd=sys.argv[2], roles=['root'])";
        let made = Command::new(python).args(["-c", script, &open.url(""), password]).status();
        assert!(made.is_ok_and(|s| s.success()), "createUser");
        open.kill();
        let folder = std::mem::replace(&mut open.folder, tempfile::tempdir().expect("because it worked before"));
        let at = |name: &str| folder.path().join(name).display().to_string();
        certificate(folder.path());
        let (certificate, key) = (at("authority.pem"), at("key.pem"));
        Self::started(python, folder, &["--auth", "--tls-cert-file", &certificate, "--tls-key-file", &key])
    }

    fn started(python: &Path, folder: TempDir, options: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new(python.with_file_name("secantusd-py"));
        command
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--log-level", "ERROR", "--sync-on-commit"])
            .arg("--storage-path")
            .arg(folder.path().join("data"))
            .args(options)
            .current_dir(folder.path())
            .stderr(Stdio::null());
        let process = Process::start(command, move || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { port, process, folder }
    }

    /// Its URL, with this database.
    pub fn url(&self, database: &str) -> String {
        format!("mongodb://127.0.0.1:{}/{database}", self.port)
    }

    /// Who vouches for its certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }
}
