//! `flowcept stream`: a queue to stdout, for people and for programs.

use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::keeper::{PAUSE, Trouble, document};
use crate::sinks::{self, Name, Undelivered};

/// How long a message is waited for before what was printed is flushed and settled.
const WAIT: Duration = Duration::from_millis(100);
/// Lines that are written together where more wait.
const BATCH: usize = 200;

/// Prints what comes, or these fields of it. Who reads no more ends it.
pub(super) fn stream(from: &str, name: Name<'_>, group: Option<&str>, project: &[String]) -> Result<ExitCode> {
    let mut queue = sinks::queue(from, name, group)?;
    let tell = |why: &str| eprintln!("flowcept: {why}; trying again");
    let mut trouble = Trouble::new(&tell);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut printed = 0;
    loop {
        let message = match queue.message(WAIT) {
            Ok(message) => message,
            Err(Undelivered::Ever(why)) => bail!("{why}"),
            Err(Undelivered::Now(why)) => {
                trouble.is(Some(why));
                sleep(PAUSE);
                continue;
            }
        };
        let is_last = message.is_none();
        if let Some(message) = message {
            printed += 1;
            let line = if project.is_empty() {
                document::line(&message)
            } else {
                document::decoded(&message).map(|mut fields| {
                    fields.retain(|name, _| project.contains(name));
                    Value::Object(fields).to_string()
                })
            };
            match line {
                Ok(line) => writeln!(out, "{line}")?,
                Err(why) => eprintln!("flowcept: a message cannot be printed: {why}"),
            }
        }
        if printed >= BATCH || is_last && printed > 0 {
            out.flush()?;
            let settled = queue.settle(printed);
            if settled.is_ok() {
                printed = 0;
            }
            trouble.is(settled.err().map(|why| why.to_string()));
        } else if is_last {
            trouble.is(None);
        }
    }
}
