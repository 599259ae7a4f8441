//! Takes what the library has left in spools into the store: each workflow once, when its last process has ended. It does not
//! know what the records mean.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flowcept_provenance::lineage::Lineage;

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

fn take(store: &Store, folder: &Path) -> Result<()> {
    let lock = File::open(folder)?;
    if lock.try_lock().is_err() || spool::is_live(folder) {
        // Another command takes it in, or it is not finished.
        return Ok(());
    }
    let host = context::host();
    let boot = clock::boot_id();
    let (Some(taken), Some(id)) = (spool::read(folder, boot, host.id), spool::workflow_id(folder)) else {
        return Ok(());
    };
    let offset = clock::unix_ns().saturating_sub(clock::boot_ns());
    let name = taken.command.first().map_or("", |w| w.rsplit('/').next().unwrap_or(w));
    let workflow = Workflow {
        id,
        campaign: uuid::Uuid::new_v4(),
        name: name.to_string(),
        command: taken.command,
        directory: taken.directory,
        started: taken.begun + offset,
        ended: taken.ended.map(|t| t + offset),
        exit_code: taken.code,
        boot,
        boot_offset: offset,
        host,
        sources: vec!["preload".into()],
        flowcept_version: env!("CARGO_PKG_VERSION").into(),
        ..Workflow::default()
    };
    let path = store.log_path(&workflow);
    // One that was being taken in when its taker was killed is begun anew.
    if path.exists() && store.index()?.reader()?.number(id)?.is_none() {
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    if !path.exists() {
        let mut log = Writer::create(&path, &workflow)?;
        let mut lineage = Lineage::default();
        for observation in taken.observations {
            log.append(&observation);
            lineage.apply(observation);
        }
        log.end(&workflow)?;
        drop(log);
        store.enter(&workflow, &lineage.tell(), &path)?;
    }
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}
