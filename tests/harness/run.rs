//! Commands, most of all under `flowcept run`, and what was told of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use flowcept_agent::query::Library;
pub use flowcept_agent::query::Run;
use flowcept_agent::store::{Store, log};
use flowcept_provenance::activity::{Outcome, Subtype};
use flowcept_provenance::observation::{FileKind, Observation};
use flowcept_provenance::relation::Manner;
use flowcept_provenance::role::Role;
use tempfile::TempDir;

use crate::host::{binary, library};
use crate::oracle;

/// A traced run and its store, which goes with it.
pub struct Captured {
    /// The store.
    pub store: TempDir,
    /// What the binary printed and returned.
    pub output: Output,
}

impl Captured {
    /// Runs `command` in `dir`, traced, with stdin from /dev/null as the oracle has it.
    pub fn of(command: &[&str], dir: &Path, environment: &[(&str, &str)]) -> Self {
        let store = tempfile::tempdir().expect("because tests may write temporary files");
        Self::into(store, command, dir, environment)
    }

    /// The same, into a store that is there.
    pub fn into(store: TempDir, command: &[&str], dir: &Path, environment: &[(&str, &str)]) -> Self {
        let output = Command::new(binary())
            .args(["--store".as_ref(), store.path().as_os_str(), "run".as_ref(), "--".as_ref()])
            .args(command)
            .current_dir(dir)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("because the binary was just built");
        Self { store, output }
    }

    /// Waits, as strace does, until descendants that outlived the root have ended too.
    pub fn wait(&self) {
        let store = Store::open(self.store.path().to_path_buf()).expect("because the run made it");
        let trouble = flowcept_agent::intake::take_in(&store);
        assert!(trouble.is_empty(), "{trouble:?}");
        let begun = Instant::now();
        while !store.running().expect("because the run made it").is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the background never ended");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs `command` with the library in it and nothing else of ours, into a fresh store.
    pub fn preloaded(command: &[&str], dir: &Path, environment: &[(&str, &str)]) -> Self {
        Self::with(&library().to_string_lossy(), command, dir, environment)
    }

    /// The same with such a value of LD_PRELOAD.
    pub fn with(preload: &str, command: &[&str], dir: &Path, environment: &[(&str, &str)]) -> Self {
        let store = tempfile::tempdir().expect("because tests may write temporary files");
        let output = Command::new(command[0])
            .args(&command[1..])
            .current_dir(dir)
            .envs(environment.iter().copied())
            .env("LD_PRELOAD", preload)
            .env("FLOWCEPT_STORE", store.path())
            .stdin(Stdio::null())
            .output()
            .expect("because the command is there");
        Self { store, output }
    }

    /// What was told of the newest run.
    pub fn told(&self) -> Rc<Run> {
        self.library().find("last").unwrap_or_else(|e| panic!("{e}; the run said: {}", self.stderr()))
    }

    /// What was captured of the newest run.
    pub fn observations(&self) -> Vec<Observation> {
        let id = self.told().workflow.id;
        let store = Store::open(self.store.path().to_path_buf()).expect("because the run made it");
        log::read(&store.log_path(id)).expect("because it was just written").observations
    }

    /// The store, for questions; where a descendant outlived the command, once that has ended too.
    pub fn library(&self) -> Library {
        self.wait();
        let store = Store::open(self.store.path().to_path_buf()).expect("because the run made it");
        Library::open(&store).expect("because the run made it")
    }

    /// Its stderr.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Another command of the binary on the same store; its stdout.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new(binary()).arg("--store").arg(self.store.path()).args(arguments).output();
        let output = output.expect("because the binary was just built");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Waits for something, and fails where it does not come.
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that ends with this.
pub struct Helper(pub Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command printed, on both ways.
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// What was told, in the oracle's terms: regular files of any role, without devices and what the kernel makes up.
pub fn seen(run: &Run) -> oracle::Seen {
    let told = &run.told;
    let mut images: Vec<oracle::Image> = told
        .activities
        .iter()
        .map(|a| oracle::Image {
            pid: a.pid.0,
            argv: a.arguments.iter().map(ToString::to_string).collect(),
            parent: a.parent.map(|p| p.0 as usize),
            before: a.previous.map(|p| p.0 as usize),
            fork_only: a.subtype == Subtype::Fork,
            exit: match a.outcome {
                Outcome::Exited(code) => Some(i32::from(code)),
                Outcome::Signalled(signal, _) => Some(128 + i32::from(signal)),
                Outcome::Running | Outcome::Replaced => None,
            },
            ..oracle::Image::default()
        })
        .collect();
    let is_file = |path: &str| {
        let made_up =
            ["/proc/", "/sys/", "/dev/"].iter().any(|p| path.starts_with(p)) && !path.starts_with("/dev/shm/");
        path.starts_with('/') && !made_up
    };
    for u in told.used.iter().filter(|u| u.manner != Manner::Revised && told.entity(u.entity).kind == FileKind::Regular)
    {
        if is_file(&u.path) && !matches!(u.role, Role::Device | Role::KernelFile) {
            images[u.activity.0 as usize].used.insert(spelled(&u.path));
        }
    }
    for r in told.reread.iter().filter(|r| told.entity(r.entity).kind == FileKind::Regular && is_file(&r.path)) {
        images[r.activity.0 as usize].used.insert(spelled(&r.path));
    }
    for g in told.generated.iter().filter(|g| told.entity(g.entity).kind == FileKind::Regular && is_file(&g.path)) {
        images[g.activity.0 as usize].generated.insert(spelled(&g.path));
    }
    oracle::Seen { images }
}

/// Nameless files as the oracle writes them.
fn spelled(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, name)) if name.starts_with('#') && name[1..].bytes().all(|b| b.is_ascii_digit()) => {
            format!("{folder}/#tmp")
        }
        _ => path.to_string(),
    }
}

/// All paths that a run generated, whatever the image.
pub fn generated(run: &Run) -> BTreeSet<String> {
    run.told.generated.iter().map(|g| g.path.to_string()).collect()
}
