//! Queue → database: messages are read, judged, joined with what is there and written; what cannot be kept is set aside with the
//! reason, and its neighbours are kept. It does not know what kept documents are for.

pub mod document;
pub mod quarantine;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::sinks::Undelivered;
use crate::sinks::lmdb::{Lmdb, Table};
use crate::sinks::redis::Redis;
use document::{Document, Message};
use quarantine::Quarantine;

/// Documents that are written together, and how long the first of them waits for others.
const BATCH: usize = 1000;
const WITHIN: Duration = Duration::from_millis(500);
/// Bytes of messages that may wait where the database cannot be written just now; then no more are read.
const MOST: usize = 64 << 20;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that came to a document.
    pub kept: u64,
    /// Messages that were set aside.
    pub aside: u64,
    /// Messages that are of no concern to a database.
    pub other: u64,
}

/// Keeps what comes until `stopped` or until it is told to stop; what was read is written before it returns. `tell` says what goes
/// wrong meanwhile; `patience` is how long a database is waited for at the end.
pub fn keep(
    queue: &mut Redis,
    database: &Lmdb,
    quarantine: &mut Quarantine,
    patience: Duration,
    stopped: &mut dyn FnMut() -> bool,
    tell: &dyn Fn(&str),
) -> Result<Counts> {
    // What somebody has to do something about shows at once.
    if let Err(Undelivered::Ever(why)) = database.update(&[], &|_, _| Value::Null) {
        bail!("{why}");
    }
    let mut keeper = Keeper {
        database,
        quarantine,
        waiting: Vec::new(),
        bytes: 0,
        since: Instant::now(),
        counts: Counts::default(),
    };
    let ended = keeper.listen(queue, stopped, tell);
    // Also where it ends by an error.
    let counts = keeper.finish(patience)?;
    ended.map(|()| counts)
}

struct Keeper<'a> {
    database: &'a Lmdb,
    quarantine: &'a mut Quarantine,
    waiting: Vec<(Document, Vec<u8>)>,
    bytes: usize,
    since: Instant,
    counts: Counts,
}

impl Keeper<'_> {
    fn listen(&mut self, queue: &mut Redis, stopped: &mut dyn FnMut() -> bool, tell: &dyn Fn(&str)) -> Result<()> {
        // Each trouble is told once, and not at each attempt.
        let mut told = String::new();
        let trouble = |why: &str, told: &mut String| {
            if told != why {
                tell(why);
                *told = why.to_string();
            }
        };
        loop {
            let mut subscription = match queue.subscribe() {
                Ok(subscription) => subscription,
                Err(Undelivered::Ever(why)) => bail!("{why}"),
                Err(Undelivered::Now(why)) => {
                    trouble(&why, &mut told);
                    if stopped() {
                        return Ok(());
                    }
                    sleep(PAUSE);
                    continue;
                }
            };
            told.clear();
            loop {
                if self.bytes < MOST {
                    match subscription.message() {
                        Ok(Some(bytes)) => {
                            if self.take(&bytes)? {
                                return Ok(());
                            }
                        }
                        Ok(None) => {}
                        Err(why) => {
                            trouble(&why.to_string(), &mut told);
                            break;
                        }
                    }
                } else {
                    sleep(PAUSE);
                }
                if self.is_due()
                    && let Err(why) = self.write()
                {
                    trouble(&why, &mut told);
                    self.since = Instant::now();
                }
                if stopped() {
                    return Ok(());
                }
            }
        }
    }

    /// Takes a message; whether it is the last.
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        match document::read(bytes) {
            Ok(Message::Document(document)) => {
                if self.waiting.is_empty() {
                    self.since = Instant::now();
                }
                self.bytes += bytes.len();
                self.waiting.push((*document, bytes.to_vec()));
            }
            Ok(Message::Stop) => return Ok(true),
            Ok(Message::Other) => self.counts.other += 1,
            Err(why) => {
                self.quarantine.put(bytes, &why)?;
                self.counts.aside += 1;
            }
        }
        Ok(false)
    }

    fn is_due(&self) -> bool {
        self.waiting.len() >= BATCH || !self.waiting.is_empty() && self.since.elapsed() >= WITHIN
    }

    /// Writes what waits, all or nothing; why that cannot be done now.
    fn write(&mut self) -> Result<(), String> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let rows: Vec<(Table, &str)> = self.waiting.iter().map(|(d, _)| (d.table, d.id.as_str())).collect();
        let change = |i: usize, before| document::merged(before, &self.waiting[i].0);
        self.database.update(&rows, &change).map_err(|why| why.to_string())?;
        self.counts.kept += self.waiting.len() as u64;
        self.waiting.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Writes the last; what cannot be written is set aside.
    fn finish(mut self, patience: Duration) -> Result<Counts> {
        let begun = Instant::now();
        while let Err(why) = self.write() {
            if begun.elapsed() < patience {
                sleep(PAUSE);
                continue;
            }
            for (_, bytes) in std::mem::take(&mut self.waiting) {
                self.quarantine.put(&bytes, &why)?;
                self.counts.aside += 1;
            }
        }
        Ok(self.counts)
    }
}
