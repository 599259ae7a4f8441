//! A run that the library watches from inside: no rights are needed. It does not know what the library records.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use flowcept_provenance::observation::Observation;

use crate::capture::node::Sampler;
use crate::capture::{clock, node, spool};
use crate::session::launch::{Child, Launch};
use crate::store::log::Writer;
use crate::workflow::Workflow;

/// Where the library is: beside this program.
pub fn library() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let library = own.with_file_name("libflowcept.so");
    if !library.is_file() {
        bail!("there is no {}: build it with `cargo build -p flowcept-preload`", library.display());
    }
    Ok(library)
}

/// Makes a workflow's folder in the spool, for its owner alone.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("make {}", folder.display()))
}

/// Has the command start with the library, behind the preloads that are there: a sanitizer's must be the first.
pub(super) fn preload(launch: &mut Launch, library: &Path, spool: &Path) {
    let mut preload = std::env::var_os("LD_PRELOAD").filter(|p| !p.is_empty()).unwrap_or_default();
    if !preload.is_empty() {
        preload.push(":");
    }
    preload.push(library);
    launch.environment.push(("LD_PRELOAD".into(), preload));
    launch.environment.push(("FLOWCEPT_SPOOL".into(), spool.into()));
}

/// Starts the command with the library in it; its spool is this folder, and says what the workflow is.
pub fn start(folder: &Path, workflow: &mut Workflow, mut launch: Launch) -> Result<Child> {
    let library = library()?;
    make_folder(folder)?;
    workflow.started = clock::unix_ns();
    workflow.boot_offset = clock::unix_ns().saturating_sub(clock::boot_ns());
    workflow.sources = vec!["preload".into()];
    let document = serde_json::to_vec(workflow)?;
    let path = folder.join(spool::DOCUMENT);
    fs::write(&path, document).with_context(|| format!("write {}", path.display()))?;
    preload(&mut launch, &library, folder);
    let child = Child::fork(&launch)?;
    child.go()?;
    Ok(child)
}

/// Samples the node beside a run: the library asks nothing of it.
pub struct Sampling {
    end: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Sampling {
    /// Begins a log of samples in the folder, where any are asked for. One that cannot be written costs samples, and never the
    /// traced program.
    pub fn begin(folder: &Path, workflow: &Workflow, parts: node::Parts) -> Option<Self> {
        if parts.is_none() {
            return None;
        }
        let mut log = Writer::create(&folder.join(spool::TELEMETRY), workflow).ok()?;
        let mut sampler = Sampler::new(parts);
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let mut goes_on = true;
            while goes_on {
                goes_on = ended.recv_timeout(sampler.apart()) == Err(RecvTimeoutError::Timeout);
                log.append(&Observation::Sampled(Box::new(sampler.sample())));
                let _ = log.commit();
            }
        });
        Some(Self { end, thread })
    }

    /// Takes the last one.
    pub fn end(self) {
        drop(self.end);
        let _ = self.thread.join();
    }
}
