//! What gives a run its place: host and user, and the repository of its working directory. It does not know what ran.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::capture::decode::digest;
use crate::capture::redact;
use crate::workflow::{Host, Repository};

/// This host and the user who asks.
pub fn host() -> Host {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let uname = nix::sys::utsname::uname();
    let part = |f: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        uname.as_ref().map_or_else(|_| String::new(), |u| f(u).to_string_lossy().into_owned())
    };
    let memory = read("/proc/meminfo");
    let kib = |name: &str| {
        let line = memory.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let cpu = read("/proc/cpuinfo");
    let field =
        |name: &str| cpu.lines().find(|l| l.starts_with(name)).and_then(|l| Some(l.split_once(": ")?.1.to_string()));
    let release = read("/etc/os-release");
    let name = release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    let uid = nix::unistd::getuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |u| u.name);
    let machine_id = read("/etc/machine-id");
    let node_name = part(|u| u.nodename());
    let identity = if machine_id.trim().is_empty() { node_name.clone() } else { machine_id };
    Host {
        hostname: node_name.clone(),
        node_name,
        user,
        id: digest(&[identity.trim().as_bytes()]) as u32,
        system: part(|u| u.sysname()),
        release: part(|u| u.release()),
        version: part(|u| u.version()),
        machine: part(|u| u.machine()),
        cpu: field("model name").unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory: kib("MemTotal:"),
        swap: kib("SwapTotal:"),
        distribution: name.unwrap_or_default().trim_matches('"').to_string(),
    }
}

/// Questions put to git, which answers while others work.
#[derive(Debug)]
pub struct Asked {
    root: Option<Child>,
    status: Option<Child>,
    remotes: Option<Child>,
}

/// Asks git, if it is installed, about the repository that holds `directory`.
pub fn ask_repository(directory: &Path) -> Asked {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(directory).args(arguments).env("GIT_OPTIONAL_LOCKS", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
    };
    Asked {
        root: git(&["rev-parse", "--show-toplevel"]),
        status: git(&["status", "--porcelain=v2", "--branch", "--untracked-files=no"]),
        remotes: git(&["remote", "-v"]),
    }
}

impl Asked {
    /// What git answered; none where there is no repository.
    pub fn answer(self) -> Option<Repository> {
        let answer = |child: Option<Child>| {
            let output = child?.wait_with_output().ok().filter(|o| o.status.success())?;
            Some(String::from_utf8_lossy(&output.stdout).trim_end().to_string())
        };
        let (root, status, remotes) = (answer(self.root), answer(self.status), answer(self.remotes));
        let about = |name: &str| {
            let line = status.as_deref()?.lines().find_map(|l| l.strip_prefix("# branch.")?.strip_prefix(name));
            // `(initial)`: no commit yet; `(detached)`: no branch.
            line.map(str::trim).filter(|v| !v.starts_with('(')).map(String::from)
        };
        // NAME, a tab, URL, `(fetch)`.
        let remote = remotes.as_deref().and_then(|r| r.lines().next()?.split_once('\t')?.1.rsplit_once(' '));
        Some(Repository {
            root: root?,
            sha: about("oid").unwrap_or_default(),
            branch: about("head").unwrap_or_default(),
            remote: redact::without_password(remote.map(|(url, _)| url.to_string()).unwrap_or_default()),
            dirty: status.as_deref().map(|s| s.lines().any(|l| !l.starts_with('#'))),
        })
    }
}
