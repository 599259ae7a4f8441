//! `flowcept consume`: a queue into a database, until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde_json::json;

use super::Name;
use crate::keeper::{self, database::Database, quarantine::Quarantine};
use crate::sinks::{self, lmdb::Lmdb, mongodb::Mongo};

/// Keeps what comes to the channel or stream.
pub(super) fn consume(
    store: Option<PathBuf>,
    from: &str,
    name: &Name,
    group: Option<&str>,
    into: &str,
    wait: Duration,
    as_json: bool,
) -> Result<ExitCode> {
    // Before there is any other thread, which one of them could end.
    let mut mask = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| mask.add(signal));
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let (mut database, beside): (Box<dyn Database>, PathBuf) = match into.strip_prefix("lmdb:") {
        Some(folder) => (Box::new(Lmdb::open(Path::new(folder))?), folder.into()),
        None if into.starts_with("mongodb:") => {
            (Box::new(Mongo::open(into)?), super::as_it_is(store)?.folder().to_path_buf())
        }
        None => bail!("--into takes lmdb:FOLDER, the folder of Flowcept's database, or mongodb://HOST"),
    };
    let aside = beside.join("quarantine");
    let group = group.or(sinks::has_groups(from, name.place()).then_some("flowcept"));
    let mut queue = sinks::queue(from, name.place(), group)?;
    let mut stopped = || signals.read_signal().is_ok_and(|signal| signal.is_some());
    let tell = |why: &str| eprintln!("flowcept: {why}; trying again");
    let counts = keeper::keep(&mut *queue, &mut *database, &mut Quarantine::new(&aside), wait, &mut stopped, &tell)?;
    if as_json {
        println!(
            "{}",
            json!({"from": queue.place(), "into": database.place(), "kept": counts.kept, "aside": counts.aside, "other": counts.other, "left": counts.left})
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} messages kept in {}", counts.kept, database.place());
    if counts.aside > 0 {
        println!("{} set aside in {}: reasons.jsonl there says why", counts.aside, aside.display());
    }
    if counts.left > 0 {
        println!("{} could not be written and are left in {}", counts.left, queue.place());
    }
    Ok(ExitCode::SUCCESS)
}
