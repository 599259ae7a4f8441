//! Queue → database: messages are read, judged, joined with what is there and written; what cannot be kept is set aside with the
//! reason, and its neighbours are kept. It does not know what kept documents are for.

pub mod database;
pub mod document;
pub mod quarantine;
mod writer;

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::sinks::{Queue, Undelivered};
use database::Database;
use document::Message;
use quarantine::Quarantine;
use writer::{Batch, Writer, Written};

/// Bytes of messages that are written together, at most.
const BATCH: usize = 4 << 20;
/// Bytes of messages that may wait or be written just now; then no more are read. With what is made of them they take some three
/// times as much memory.
const MOST: usize = 16 << 20;
/// Between two looks whether the database is ready for more.
const TICK: Duration = Duration::from_millis(2);
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
    database: &mut (dyn Database + Send),
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
    scope(|scope| {
        let mut keeper = Keeper {
            queue,
            writer: Writer::start(scope, database),
            quarantine,
            buffer,
            waiting: Batch::new(),
            bytes: 0,
            writing: 0,
            taken: 0,
            due: Instant::now(),
            counts: Counts::default(),
        };
        let ended = keeper.listen(stopped, tell);
        let ended = ended.and_then(|is_last| if is_last { Ok(()) } else { keeper.drain(patience) });
        // Also where it ends by an error.
        let counts = keeper.finish(patience)?;
        ended.map(|()| counts)
    })
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
    writer: Writer,
    quarantine: &'a mut Quarantine,
    buffer: Buffer,
    waiting: Batch,
    /// Of what waits.
    bytes: usize,
    /// Of what the writer has.
    writing: usize,
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
            if self.bytes + self.writing >= MOST {
                if of_database.told.is_some() {
                    sleep(PAUSE);
                }
                if let Some(written) = self.collect(true) {
                    of_database.is(written.err());
                }
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
            if let Some(written) = self.collect(false) {
                of_database.is(written.err());
            }
            if self.taken > 0 && Instant::now() >= self.due {
                let is_free = !self.writer.is_busy();
                if self.queue.keeps() {
                    of_database.is(self.write().err());
                } else if is_free {
                    self.give();
                }
                let is_much = self.bytes >= BATCH || self.waiting.len() >= self.buffer.messages;
                self.due = Instant::now() + if is_free && !is_much { self.buffer.within } else { TICK };
            }
        }
        Ok(false)
    }

    /// Takes what a queue that keeps nothing has given already: nobody else gets it.
    fn drain(&mut self, patience: Duration) -> Result<()> {
        let (begun, mut nothing) = (Instant::now(), 0);
        // That there was nothing may be an answer from before the end was wanted; the second is not.
        while !self.queue.keeps() && nothing < 2 && begun.elapsed() <= patience {
            if self.bytes + self.writing >= MOST && self.write().is_err() {
                break;
            }
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

    /// Gives the writer some of what waits: what a database has open at once is memory.
    fn give(&mut self) {
        let ends = self.waiting.iter().scan(0, |end, (_, message)| {
            *end += message.len();
            Some(*end)
        });
        let count = 1 + ends.take_while(|end| *end < BATCH).count();
        let rest = self.waiting.split_off(count.min(self.buffer.messages).min(self.waiting.len()));
        let batch = std::mem::replace(&mut self.waiting, rest);
        self.writing = bytes(&batch);
        self.bytes -= self.writing;
        if self.waiting.is_empty() && !self.queue.keeps() {
            self.taken = 0;
        }
        if !batch.is_empty() {
            self.writer.give(batch);
        }
    }

    /// Takes back from the writer what it has, once it is written or cannot be written now.
    fn collect(&mut self, is_waited_for: bool) -> Option<Result<(), String>> {
        let (batch, written): Written = self.writer.written(is_waited_for)?;
        self.writing = 0;
        let refused = match written {
            Ok(refused) => refused,
            Err(why) => {
                self.again(batch);
                return Some(Err(why.to_string()));
            }
        };
        self.counts.kept += (batch.len() - refused.len()) as u64;
        let mut batch: Vec<_> = batch.into_iter().map(Some).collect();
        let mut refused = refused.into_iter().filter_map(|(place, why)| Some((batch[place].take()?, why)));
        while let Some((message, why)) = refused.next() {
            if let Err(error) = self.quarantine.put(&message.1, &why) {
                let rest = std::iter::once(message).chain(refused.map(|(message, _)| message)).collect();
                self.again(rest);
                return Some(Err(format!("{error:#}")));
            }
            self.counts.aside += 1;
        }
        Some(Ok(()))
    }

    /// What could not be written waits before the rest.
    fn again(&mut self, mut batch: Batch) {
        self.bytes += bytes(&batch);
        batch.append(&mut self.waiting);
        self.waiting = batch;
        self.taken = self.taken.max(1);
        self.due = Instant::now() + PAUSE;
    }

    /// Writes all that waits, and tells the queue; why that cannot be done now.
    fn write(&mut self) -> Result<(), String> {
        loop {
            self.collect(true).unwrap_or(Ok(()))?;
            if self.waiting.is_empty() {
                break;
            }
            self.give();
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

fn bytes(batch: &Batch) -> usize {
    batch.iter().map(|(_, message)| message.len()).sum()
}
