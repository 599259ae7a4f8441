//! `flowcept consume`: a queue into a database, until it is told to stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde_json::json;

use super::Name;
use crate::keeper::database::{Database, Several};
use crate::keeper::{self, Buffer, quarantine::Quarantine};
use crate::settings::Settings;
use crate::sinks::{self, lmdb::Lmdb, mongodb::Mongo};

/// Seconds, a year of them: of many more there is no time.
const LONGEST: f64 = 365.0 * 86_400.0;

/// Keeps what comes to the channel or stream.
#[expect(clippy::too_many_arguments, reason = "each is an option of the command")]
pub(super) fn consume(
    store: Option<PathBuf>,
    settings: &Settings,
    from: &str,
    name: &Name,
    group: Option<&str>,
    into: Vec<String>,
    wait: Duration,
    as_json: bool,
) -> Result<ExitCode> {
    // Before there is any other thread, which one of them could end.
    let mut mask = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM].into_iter().for_each(|signal| mask.add(signal));
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let into = if into.is_empty() { settings.databases() } else { into };
    if into.is_empty() {
        let place = super::place_of(settings);
        bail!(
            "no database is named: give --into, or set databases.lmdb.enabled or databases.mongodb.enabled to true in {place}"
        );
    }
    let databases = into.iter().map(|url| database(url)).collect::<Result<Vec<_>>>()?;
    let mut database = Several::new(databases);
    let beside = match into.iter().find_map(|url| url.strip_prefix("lmdb:")) {
        Some(folder) => PathBuf::from(folder),
        None => super::as_it_is(store)?.folder().to_path_buf(),
    };
    let aside = beside.join("quarantine");
    let name = name.place(settings, from);
    let group = group.or_else(|| sinks::has_groups(from, name).then(|| super::group(settings)));
    let mut queue = sinks::queue(from, name, group)?;
    let within = settings.number("db_buffer.insertion_buffer_time_secs").unwrap_or_default();
    let buffer = Buffer {
        within: Duration::from_secs_f64(within.min(LONGEST)),
        messages: settings.number("db_buffer.buffer_size").unwrap_or_default() as usize,
        drops_empty: settings.is("db_buffer.remove_empty_fields"),
    };
    let mut stopped = || signals.read_signal().is_ok_and(|signal| signal.is_some());
    let tell = |why: &str| eprintln!("flowcept: {why}; trying again");
    let counts =
        keeper::keep(&mut *queue, &mut database, &mut Quarantine::new(&aside), buffer, wait, &mut stopped, &tell)?;
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

fn database(url: &str) -> Result<Box<dyn Database + Send>> {
    Ok(match url.strip_prefix("lmdb:") {
        Some(folder) => Box::new(Lmdb::open(Path::new(folder))?),
        None if url.starts_with("mongodb:") => Box::new(Mongo::open(url)?),
        None => bail!("--into takes lmdb:FOLDER, the folder of Flowcept's database, or mongodb://HOST"),
    })
}
