//! Takes what the library has left in spools into the store: each workflow once, when its last process has ended. It does not
//! know what the records mean.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flowcept_provenance::lineage::{Lineage, Provenance};

use crate::capture::clock;
use crate::capture::spool::{self, Status};
use crate::context;
use crate::store::Store;
use crate::store::log::{self, Writer};
use crate::workflow::Workflow;

/// The spool of a store.
pub fn spool_of(store: &Store) -> PathBuf {
    store.folder().join("spool")
}

/// Takes in all that is finished; what went wrong, by folder. One that cannot be taken in is in nobody's way.
pub fn take_in(store: &Store) -> Vec<(PathBuf, anyhow::Error)> {
    let mut trouble = Vec::new();
    for folder in spool::workflows(&spool_of(store)) {
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
    for folder in spool::workflows(&spool_of(store)) {
        let damaged = |lock: Option<File>| lock.filter(|_| spool::look(&folder).status == Status::Damaged);
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

/// Takes in one workflow: what it was and what followed from it; none where it is not finished, or somebody else takes it.
pub fn take(store: &Store, folder: &Path) -> Result<Option<(Workflow, Provenance)>> {
    let Some(_lock) = locked(folder)? else { return Ok(None) };
    match spool::look(folder).status {
        Status::Running => return Ok(None),
        Status::OtherVersion(theirs) => bail!(
            "the library that wrote it has version {theirs} of the records, and this flowcept {}: take it in with the flowcept that came with that library",
            flowcept_wire::header::VERSION
        ),
        Status::Damaged => bail!("nothing in it says what ran; `flowcept spool prune` removes it"),
        Status::Finished => {}
    }
    let host = context::host();
    let boot = clock::boot_id();
    let (Some(taken), Some(id)) = (spool::read(folder, boot, host.id), spool::workflow_id(folder)) else {
        return Ok(None);
    };
    let offset = clock::unix_ns().saturating_sub(clock::boot_ns());
    let ended = taken.ended.map(|t| t.saturating_add(offset));
    let workflow = match document(folder, id) {
        Some(document) => Workflow { ended, exit_code: taken.code, ..document },
        None => Workflow {
            id,
            campaign: uuid::Uuid::new_v4(),
            name: taken.command.first().map_or("", |w| w.rsplit('/').next().unwrap_or(w)).to_string(),
            command: taken.command,
            directory: taken.directory,
            started: taken.begun.saturating_add(offset),
            ended,
            exit_code: taken.code,
            boot,
            boot_offset: offset,
            host,
            sources: vec!["preload".into()],
            flowcept_version: env!("CARGO_PKG_VERSION").into(),
            ..Workflow::default()
        },
    };
    let path = store.log_path(&workflow);
    if path.exists() && !log::read(&path).is_ok_and(|l| l.ended) && !store.knows(id)? {
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    let there = path.exists();
    // Under another name until it is whole: nobody takes a part for the workflow.
    let part = path.with_extension("taking");
    let _ = fs::remove_file(&part);
    let mut log = if there { None } else { Some(Writer::create(&part, &workflow)?) };
    let mut lineage = Lineage::default();
    for observation in taken.observations {
        log.iter_mut().for_each(|log| log.append(&observation));
        lineage.apply(observation);
    }
    let told = lineage.tell();
    match log {
        Some(mut log) => {
            let written = log.end(&workflow).map_err(anyhow::Error::from);
            written.and_then(|()| Ok(fs::rename(&part, &path)?)).inspect_err(|_| drop(fs::remove_file(&part)))?;
            drop(log);
            store.enter(&workflow, &told, &path)?;
        }
        // Its taker was killed before it could remove the spool, maybe before the index had it.
        None => drop(store.index()?),
    }
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(Some((workflow, told)))
}

/// The document that `flowcept run` has left there. Another id in it is nobody's that we know.
fn document(folder: &Path, id: uuid::Uuid) -> Option<Workflow> {
    const O_NOFOLLOW: i32 = 0o400_000;
    let path = folder.join(spool::DOCUMENT);
    let mut bytes = Vec::new();
    let file = fs::OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path).ok()?;
    file.take(16 << 20).read_to_end(&mut bytes).ok()?;
    let document: Workflow = serde_json::from_slice(&bytes).ok()?;
    Some(document).filter(|d| d.id == id)
}
