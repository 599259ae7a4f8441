//! `flowcept spool`: what the library has left and nobody has taken in yet. It takes nothing in.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use crate::capture::spool::{self, Status};
use crate::store::Store;
use crate::{exit_code, intake};

fn id(folder: &Path) -> String {
    spool::workflow_id(folder).map(|id| id.to_string()).unwrap_or_default()
}

/// Lists the workflows in the spool.
pub(super) fn list(store: &Store, as_json: bool) -> ExitCode {
    let mut folders = spool::workflows(&store.spool());
    folders.sort();
    let rows = folders.iter().map(|folder| (id(folder), intake::look(store, folder)));
    let name = |status| match status {
        Status::Running => "RUNNING",
        Status::Finished => "FINISHED",
        Status::OtherVersion(_) => "OTHER VERSION",
        Status::Damaged => "DAMAGED",
    };
    if as_json {
        let row = |(id, look): (String, spool::Look)| {
            json!({"workflow_id": id, "status": name(look.status), "running": look.status == Status::Running,
                "segments": look.segments, "bytes": look.bytes})
        };
        println!("{}", rows.map(row).collect::<Value>());
        return ExitCode::SUCCESS;
    }
    for (id, look) in rows {
        let (status, segments, bytes) = (name(look.status), look.segments, look.bytes);
        println!("{}  {status:<13}  {segments:>6} segments  {bytes:>10} bytes", &id[..8]);
    }
    ExitCode::SUCCESS
}

/// Removes what is damaged, and says what.
pub(super) fn prune(store: &Store, as_json: bool) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    let mut removed = Vec::new();
    for (folder, done) in intake::prune(store) {
        match done {
            Ok(()) => removed.push(id(&folder)),
            Err(error) => {
                eprintln!("flowcept: remove {}: {error:#}", folder.display());
                code = ExitCode::from(exit_code::FAILED);
            }
        }
    }
    if as_json {
        println!("{}", json!({"removed": removed}));
    } else {
        removed.iter().for_each(|id| println!("removed {id}"));
    }
    Ok(code)
}
