//! Takes what the library has left in spools into the store: each workflow once, when its last process has ended. It does not
//! know what the records mean.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flowcept_provenance::lineage::{Lineage, Provenance};
use flowcept_provenance::observation::Observation;
use flowcept_wire::control;

use crate::capture::clock;
use crate::capture::spool::{self, Known, Look, Spool, Status, Taken};
use crate::context;
use crate::session::lease::Lease;
use crate::store::Store;
use crate::store::log::{self, Contents, Writer};
use crate::workflow::{Host, Workflow};

/// Observations that are written to the log together.
const BATCH: usize = 1000;
/// Bytes of samples that are read: some days of them.
const MOST_SAMPLED: u64 = 256 << 20;

/// Takes in all that is finished; what went wrong, by folder. One that cannot be taken in is in nobody's way.
pub fn take_in(store: &Store) -> Vec<(PathBuf, anyhow::Error)> {
    let mut trouble = Vec::new();
    for folder in spool::workflows(&store.spool()) {
        if let Err(error) = take(store, &folder) {
            trouble.push((folder, error));
        }
    }
    trouble
}

/// Locks a workflow's folder against other takers; none where one has it, or has had it.
fn locked(folder: &Path) -> Result<Option<File>> {
    let lock = match File::open(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    // Opened before the other removed it, it can still be locked.
    Ok((lock.try_lock().is_ok() && fs::symlink_metadata(folder).is_ok()).then_some(lock))
}

/// Removes what no taker will ever take in; what it was. A folder that was not removed comes with why not.
pub fn prune(store: &Store) -> Vec<(PathBuf, Result<()>)> {
    let mut removed = Vec::new();
    for folder in spool::workflows(&store.spool()) {
        let damaged = |lock: Option<File>| lock.filter(|_| look(store, &folder).status == Status::Damaged);
        match locked(&folder).map(damaged) {
            Ok(Some(_lock)) => {
                let done = fs::remove_dir_all(&folder);
                removed.push((folder, done.map_err(Into::into)));
            }
            Ok(None) => {}
            Err(error) => removed.push((folder, Err(error))),
        }
    }
    removed
}

/// How far a workflow in the spool is.
pub fn look(store: &Store, folder: &Path) -> Look {
    let before = Before::of(store, folder);
    let look = Spool::open(folder).look(&before.known());
    match before {
        Before::Traced => Look { status: Status::Running, ..look },
        Before::Whole => Look { status: Status::Finished, ..look },
        Before::Nothing | Before::Cut(_) => look,
    }
}

/// What the store has of a workflow that has a spool.
enum Before {
    /// The library has watched alone, so far.
    Nothing,
    /// A tracer is at it.
    Traced,
    /// All: whoever took it in, or traced it, could not remove the spool.
    Whole,
    /// Its tracer was killed; the library went on.
    Cut(Box<Contents>),
}

impl Before {
    fn of(store: &Store, folder: &Path) -> Self {
        let Some(id) = spool::workflow_id(folder) else { return Self::Nothing };
        let path = store.log_path(id);
        // A live log may be long: only its begin is read.
        if log::head(&path).is_ok_and(|(_, live)| live) {
            return Self::Traced;
        }
        match log::read(&path) {
            Ok(log) if log.ended => Self::Whole,
            Ok(log) if folder.join(control::NAME).exists() => Self::Cut(Box::new(log)),
            // There is none; or it has nothing to tell, or a part of what the spool holds.
            _ => Self::Nothing,
        }
    }

    /// What a cut log has told already.
    fn known(&self) -> Known {
        match self {
            Self::Cut(log) => Known::of(&log.observations),
            _ => Known::default(),
        }
    }
}

/// Takes in one workflow: what it was and what followed from it; none where it is not finished, or somebody else takes it.
pub fn take(store: &Store, folder: &Path) -> Result<Option<(Workflow, Provenance)>> {
    let Some(_lock) = locked(folder)? else { return Ok(None) };
    let Some(id) = spool::workflow_id(folder) else { return Ok(None) };
    let path = store.log_path(id);
    let before = Before::of(store, folder);
    match before {
        Before::Traced => return Ok(None),
        Before::Whole => {
            store.index()?;
            remove(folder)?;
            return Ok(Some(store.read(&path)?));
        }
        Before::Nothing | Before::Cut(_) => {}
    }
    let known = before.known();
    let spool = Spool::open(folder);
    match spool.look(&known).status {
        Status::Running => return Ok(None),
        Status::OtherVersion(theirs) => bail!(
            "the library that wrote it has version {theirs} of the records, and this flowcept {}: take it in with the flowcept that came with that library",
            flowcept_wire::header::VERSION
        ),
        Status::Damaged => bail!("nothing in it says what ran; `flowcept spool prune` removes it"),
        Status::Finished => {}
    }
    let (boot, host) = (clock::boot_id(), context::host());
    let host_id = host.id;
    let Some(taken) = spool.taken(&known) else { return Ok(None) };
    let offset = clock::unix_ns().saturating_sub(clock::boot_ns());
    let workflow = match &before {
        Before::Cut(log) => log.workflow.clone(),
        _ => document(folder, id).unwrap_or_else(|| described(id, &taken, boot, offset, host)),
    };
    let ended = taken.ended.map(|t| t.saturating_add(offset));
    let workflow = Workflow { ended, exit_code: taken.code, ..workflow };
    // Under another name until it is whole: nobody takes a part for the workflow.
    let part = path.with_extension("taking");
    let _ = fs::remove_file(&part);
    let mut log = Writer::create(&part, &workflow)?;
    let mut lineage = Lineage::with_room(taken.uses());
    let mut written = Ok(());
    let mut each = |observation: Observation| {
        log.append(&observation);
        if log.pending() == BATCH && written.is_ok() {
            written = log.commit();
        }
        lineage.apply(observation);
    };
    samples(folder).into_iter().for_each(&mut each);
    match before {
        Before::Cut(mut cut) => {
            std::mem::take(&mut cut.observations).into_iter().for_each(&mut each);
            taken.tell(boot, host_id, &mut each);
            between(&cut).into_iter().for_each(each);
        }
        _ => taken.tell(boot, host_id, each),
    }
    let told = lineage.tell();
    // Its memory is used again.
    drop(lineage);
    let written = written.and_then(|()| log.end(&workflow)).map_err(anyhow::Error::from);
    written.and_then(|()| Ok(fs::rename(&part, &path)?)).inspect_err(|_| drop(fs::remove_file(&part)))?;
    drop(log);
    store.enter(&workflow, &told, &path)?;
    remove(folder)?;
    Ok(Some((workflow, told)))
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}

/// How the node was meanwhile, where `flowcept run` has sampled it.
fn samples(folder: &Path) -> Vec<Observation> {
    let path = folder.join(spool::TELEMETRY);
    let is_ours = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= MOST_SAMPLED);
    let observations = if is_ours { log::read(&path).map(|log| log.observations) } else { Ok(Vec::new()) };
    // Without them a task has no telemetry; nothing else is amiss.
    let samples = observations.unwrap_or_default().into_iter();
    samples.filter(|observation| matches!(observation, Observation::Sampled(_))).collect()
}

/// What is not known of the time between what the kernel's probes saw, until their tracer was killed, and what the library saw.
fn between(cut: &Contents) -> Vec<Observation> {
    let why = format!(
        "the tracer was killed before the workflow had ended, and the library went on when its lease had run out: what was done in between, {:?} at most, is not known",
        Lease::LENGTH
    );
    cut.lost().into_iter().chain([cut.cut(&why)]).collect()
}

/// A workflow of which nobody but the library knows.
fn described(id: uuid::Uuid, taken: &Taken<'_>, boot: u128, offset: u64, host: Host) -> Workflow {
    Workflow {
        id,
        campaign: uuid::Uuid::new_v4(),
        name: taken.command.first().map_or("", |w| w.rsplit('/').next().unwrap_or(w)).to_string(),
        command: taken.command.clone(),
        directory: taken.directory.clone(),
        started: taken.begun.saturating_add(offset),
        boot,
        boot_offset: offset,
        host,
        sources: vec!["preload".into()],
        flowcept_version: env!("CARGO_PKG_VERSION").into(),
        ..Workflow::default()
    }
}

/// The document that `flowcept run` has left there. Another id in it is nobody's that we know.
pub fn document(folder: &Path, id: uuid::Uuid) -> Option<Workflow> {
    const O_NOFOLLOW: i32 = 0o400_000;
    let path = folder.join(spool::DOCUMENT);
    let mut bytes = Vec::new();
    let file = fs::OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path).ok()?;
    file.take(16 << 20).read_to_end(&mut bytes).ok()?;
    let document: Workflow = serde_json::from_slice(&bytes).ok()?;
    Some(document).filter(|d| d.id == id)
}
