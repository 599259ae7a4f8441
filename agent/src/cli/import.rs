//! `flowcept import`. It does not read anything itself.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::import::{Found, Taken, take};
use crate::store::Store;

/// Takes what the places have into the store; what could not be taken is told, and the rest is taken.
pub(super) fn import(store: &Store, places: &[String], only: &[String], json: bool) -> Result<ExitCode> {
    let (mut new, mut changed, mut here, mut documents, mut other) = (0, 0, 0, 0, 0);
    let mut is_whole = true;
    let (mut missing, mut looked): (Vec<&String>, Vec<String>) = (only.iter().collect(), Vec::new());
    for place in places {
        let mut found = Found::read(place, only)?;
        for why in &found.wrong {
            eprintln!("flowcept: {why}");
        }
        is_whole &= found.wrong.is_empty();
        other += found.other;
        looked.push(std::mem::take(&mut found.place));
        for (id, mut all) in found.workflows() {
            missing.retain(|wanted| **wanted != id);
            match take(store, &mut all)? {
                Taken::New => new += 1,
                Taken::Changed => changed += 1,
                Taken::Here => {
                    here += 1;
                    continue;
                }
            }
            documents += all.len();
        }
    }
    if changed > 0 {
        store.rebuild()?;
    }
    for id in missing {
        eprintln!("flowcept: there is no workflow {id} in {}", looked.join(", "));
        is_whole = false;
    }
    if json {
        println!(
            "{}",
            json!({"workflows": new + changed, "replaced": changed, "already_here": here, "documents": documents, "other": other})
        );
    } else {
        let more = [(changed, "replaced what came before"), (here, "were here already")];
        let more: String = more.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}")).collect();
        let other =
            if other > 0 { format!("; {other} documents are of no task and no workflow") } else { String::new() };
        println!("{} workflows in {documents} documents taken in{more}{other}", new + changed);
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
