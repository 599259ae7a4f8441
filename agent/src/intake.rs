//! Takes what the library has left in spools into the store: each workflow once, when its last process has ended. It does not
//! know what the records mean.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flowcept_provenance::lineage::{Lineage, Provenance};

use crate::capture::{clock, spool};
use crate::context;
use crate::store::Store;
use crate::store::log::Writer;
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

/// Takes in one workflow: what it was and what followed from it; none where it is not finished, or somebody else takes it.
pub fn take(store: &Store, folder: &Path) -> Result<Option<(Workflow, Provenance)>> {
    let lock = File::open(folder)?;
    if lock.try_lock().is_err() || spool::is_live(folder) {
        // Another command takes it in, or it is not finished.
        return Ok(None);
    }
    let host = context::host();
    let boot = clock::boot_id();
    let (Some(taken), Some(id)) = (spool::read(folder, boot, host.id), spool::workflow_id(folder)) else {
        return Ok(None);
    };
    let offset = clock::unix_ns().saturating_sub(clock::boot_ns());
    let ended = taken.ended.map(|t| t + offset);
    let workflow = match document(folder, id) {
        Some(document) => Workflow { ended, exit_code: taken.code, ..document },
        None => Workflow {
            id,
            campaign: uuid::Uuid::new_v4(),
            name: taken.command.first().map_or("", |w| w.rsplit('/').next().unwrap_or(w)).to_string(),
            command: taken.command,
            directory: taken.directory,
            started: taken.begun + offset,
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
    // One that was being taken in when its taker was killed is begun anew.
    if path.exists() && store.index()?.reader()?.number(id)?.is_none() {
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    let mut lineage = Lineage::default();
    let mut log = if path.exists() { None } else { Some(Writer::create(&path, &workflow)?) };
    for observation in taken.observations {
        log.iter_mut().for_each(|log| log.append(&observation));
        lineage.apply(observation);
    }
    let told = lineage.tell();
    if let Some(mut log) = log.take() {
        log.end(&workflow)?;
        drop(log);
        store.enter(&workflow, &told, &path)?;
    }
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(Some((workflow, told)))
}

/// The document that `flowcept run` has left there. Another id in it is nobody's that we know.
fn document(folder: &Path, id: uuid::Uuid) -> Option<Workflow> {
    let document: Workflow = serde_json::from_slice(&fs::read(folder.join(spool::DOCUMENT)).ok()?).ok()?;
    Some(document).filter(|d| d.id == id)
}
