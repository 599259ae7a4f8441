//! Queue → database: messages are read, judged, joined with what is there and written; what cannot be kept is set aside with the
//! reason, and its neighbours are kept. It does not know what kept documents are for.

pub mod database;
pub mod document;
pub mod quarantine;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::sinks::{Queue, Undelivered};
use database::Database;
use document::{Document, Message};
use quarantine::Quarantine;

/// Bytes of messages that are written together, at most.
const BATCH: usize = 4 << 20;
/// Bytes of messages that may wait where the database cannot be written just now; then no more are read. With what is made of them
/// they take some five times as much memory.
const MOST: usize = 16 << 20;
/// Between two attempts.
pub const PAUSE: Duration = Duration::from_millis(200);

/// How messages are written.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// How long the first of those that are written together waits for others.
    pub within: Duration,
    /// How many they are at most.
    pub messages: usize,
    /// Without fields that are null or empty text.
    pub drops_empty: bool,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that came to a document.
    pub kept: u64,
    /// Messages that were set aside.
    pub aside: u64,
    /// Messages that are of no concern to a database.
    pub other: u64,
    /// Messages that could not be written at the end and wait in a queue that keeps them.
    pub left: u64,
}

/// Keeps what comes until `stopped` or until it is told to stop; what was read is written before it returns. `tell` says what goes
/// wrong meanwhile; `patience` is how long a database is waited for at the end.
pub fn keep(
    queue: &mut dyn Queue,
    database: &mut dyn Database,
    quarantine: &mut Quarantine,
    buffer: Buffer,
    patience: Duration,
    stopped: &mut dyn FnMut() -> bool,
    tell: &dyn Fn(&str),
) -> Result<Counts> {
    // What somebody has to do something about shows at once.
    if let Err(Undelivered::Ever(why)) = database.keep(&[]) {
        bail!("{why}");
    }
    let mut keeper = Keeper {
        queue,
        database,
        quarantine,
        buffer,
        waiting: Vec::new(),
        bytes: 0,
        taken: 0,
        due: Instant::now(),
        counts: Counts::default(),
    };
    let ended = keeper.listen(stopped, tell).and_then(|is_last| if is_last { Ok(()) } else { keeper.drain(patience) });
    // Also where it ends by an error.
    let counts = keeper.finish(patience)?;
    ended.map(|()| counts)
}

/// Tells what goes wrong once, and not at each attempt.
pub struct Trouble<'a> {
    told: Option<String>,
    tell: &'a dyn Fn(&str),
}

impl<'a> Trouble<'a> {
    /// Tells it so.
    pub fn new(tell: &'a dyn Fn(&str)) -> Self {
        Self { told: None, tell }
    }

    /// What is wrong just now, if anything is.
    pub fn is(&mut self, why: Option<String>) {
        if let Some(why) = why.as_ref().filter(|why| self.told.as_ref() != Some(why)) {
            (self.tell)(why);
        }
        self.told = why;
    }
}

struct Keeper<'a> {
    queue: &'a mut dyn Queue,
    database: &'a mut dyn Database,
    quarantine: &'a mut Quarantine,
    buffer: Buffer,
    waiting: Vec<(Document, Vec<u8>)>,
    bytes: usize,
    /// Messages since the queue was told that all is kept.
    taken: usize,
    /// When it is to be told so, if there are any.
    due: Instant,
    counts: Counts,
}

impl Keeper<'_> {
    /// Until it is to end; whether a message said so.
    fn listen(&mut self, stopped: &mut dyn FnMut() -> bool, tell: &dyn Fn(&str)) -> Result<bool> {
        let (mut of_queue, mut of_database) = (Trouble::new(tell), Trouble::new(tell));
        while !stopped() {
            if self.bytes >= MOST {
                sleep(PAUSE);
            } else {
                match self.queue.message() {
                    Ok(message) => {
                        of_queue.is(None);
                        let is_last = match message {
                            Some(message) => self.take(message)?,
                            None => {
                                // Some queues give no more before they know that what they gave is kept.
                                if of_database.told.is_some() {
                                    sleep(PAUSE);
                                } else if self.queue.keeps() {
                                    self.due = Instant::now();
                                }
                                false
                            }
                        };
                        if is_last {
                            return Ok(true);
                        }
                    }
                    Err(Undelivered::Ever(why)) => bail!("{why}"),
                    Err(Undelivered::Now(why)) => {
                        of_queue.is(Some(why));
                        sleep(PAUSE);
                    }
                }
            }
            let now = Instant::now();
            if self.taken > 0 && now >= self.due {
                of_database.is(self.write().err());
                self.due = Instant::now() + self.buffer.within;
            }
        }
        Ok(false)
    }

    /// Takes what a queue that keeps nothing has given already: nobody else gets it.
    fn drain(&mut self, patience: Duration) -> Result<()> {
        let (begun, mut nothing) = (Instant::now(), 0);
        // That there was nothing may be an answer from before the end was wanted; the second is not.
        while !self.queue.keeps() && nothing < 2 && self.bytes < MOST && begun.elapsed() <= patience {
            match self.queue.message() {
                Ok(Some(message)) => {
                    if self.take(message)? {
                        break;
                    }
                }
                Ok(None) => nothing += 1,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Takes a message; whether it is the last.
    fn take(&mut self, message: Vec<u8>) -> Result<bool> {
        self.taken += 1;
        if self.taken == 1 {
            self.due = Instant::now() + self.buffer.within;
        }
        match document::read(&message, self.buffer.drops_empty) {
            Ok(Message::Document(document)) => {
                let before = self.bytes;
                self.bytes += message.len();
                self.waiting.push((*document, message));
                if before < BATCH && self.bytes >= BATCH || self.waiting.len() == self.buffer.messages {
                    self.due = Instant::now();
                }
            }
            Ok(Message::Stop) => return Ok(true),
            Ok(Message::Other) => self.counts.other += 1,
            Err(why) => {
                self.quarantine.put(&message, &why)?;
                self.counts.aside += 1;
            }
        }
        Ok(false)
    }

    /// Writes what waits, some at a time for what a database has open at once is memory, and tells the queue; why that cannot be
    /// done now.
    fn write(&mut self) -> Result<(), String> {
        while !self.waiting.is_empty() {
            let ends = self.waiting.iter().scan(0, |end, (_, message)| {
                *end += message.len();
                Some(*end)
            });
            let count = 1 + ends.take_while(|end| *end < BATCH).count();
            let count = count.min(self.buffer.messages).min(self.waiting.len());
            let together: Vec<&Document> = self.waiting[..count].iter().map(|(document, _)| document).collect();
            let refused = self.database.keep(&together).map_err(|why| why.to_string())?;
            for (place, why) in &refused {
                self.quarantine.put(&self.waiting[*place].1, why).map_err(|why| format!("{why:#}"))?;
            }
            self.bytes -= self.waiting.drain(..count).map(|(_, message)| message.len()).sum::<usize>();
            self.counts.aside += refused.len() as u64;
            let count = count - refused.len();
            self.counts.kept += count as u64;
        }
        self.queue.settle().map_err(|why| why.to_string())?;
        self.taken = 0;
        Ok(())
    }

    /// Writes the last; what cannot be written is left to a queue that keeps it, else set aside.
    fn finish(mut self, patience: Duration) -> Result<Counts> {
        let begun = Instant::now();
        while let Err(why) = self.write() {
            if begun.elapsed() < patience {
                sleep(PAUSE);
                continue;
            }
            if self.queue.keeps() {
                self.counts.left = self.waiting.len() as u64;
                break;
            }
            for (_, bytes) in std::mem::take(&mut self.waiting) {
                self.quarantine.put(&bytes, &why)?;
                self.counts.aside += 1;
            }
        }
        Ok(self.counts)
    }
}
