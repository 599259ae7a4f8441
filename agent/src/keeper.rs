//! Queue → database: messages are read, judged, joined with what is there and written; what cannot be kept is set aside with the
//! reason, and its neighbours are kept. It does not know what kept documents are for.

pub mod database;
pub mod document;
mod msgpack;
pub mod quarantine;
mod writer;

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::sinks::{Queue, Undelivered};
use database::Database;
use document::Message;
use quarantine::Quarantine;
use writer::{Batch, Taken, Writer, Written};

/// Bytes of messages that are written together, at most.
const BATCH: usize = 4 << 20;
/// Bytes of messages that may wait or be written just now; then no more are read. With what is made of them they take some three
/// times as much memory.
const MOST: usize = 16 << 20;
/// How long nothing has come when what waits is written: others who want the database wait for each time.
const SILENCE: Duration = Duration::from_millis(100);
/// The same where many wait; and between two looks whether what was given to the writer is written.
const BRIEF: Duration = Duration::from_millis(5);
/// So many messages are worth that they are written.
const MANY: usize = 100;
/// Between two looks whether it is to end.
const LOOK: Duration = Duration::from_millis(10);
/// Between two attempts.
pub const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 200 });

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
            writing: None,
            came: 0,
            settled: 0,
            since: Instant::now(),
            not_before: Instant::now(),
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
    /// What the writer has: the number of the first, and bytes.
    writing: Option<(u64, usize)>,
    /// Messages that came.
    came: u64,
    /// Those of which the queue was told that they are kept.
    settled: u64,
    /// When the first came of what is to be given or told.
    since: Instant,
    /// Before this nothing is attempted again.
    not_before: Instant,
    counts: Counts,
}

impl Keeper<'_> {
    /// Until it is to end; whether a message said so.
    fn listen(&mut self, stopped: &mut dyn FnMut() -> bool, tell: &dyn Fn(&str)) -> Result<bool> {
        let (mut of_queue, mut of_database, mut of_settling) =
            (Trouble::new(tell), Trouble::new(tell), Trouble::new(tell));
        let mut now = Instant::now();
        let (mut look, mut latest, mut is_written) = (now, now, false);
        loop {
            if now >= look {
                if stopped() {
                    return Ok(false);
                }
                look = now + LOOK;
            }
            let is_full = self.is_full();
            let mut has_come = false;
            if !is_full {
                let wait = if self.writer.is_busy() { BRIEF } else { self.silence() };
                match self.queue.message(wait) {
                    Ok(message) => {
                        of_queue.is(None);
                        if let Some(message) = message {
                            has_come = true;
                            if self.take(message)? {
                                return Ok(true);
                            }
                        }
                    }
                    Err(Undelivered::Ever(why)) => bail!("{why}"),
                    Err(Undelivered::Now(why)) => {
                        of_queue.is(Some(why));
                        sleep(PAUSE);
                    }
                }
            }
            if let Some(written) = self.collect(is_full) {
                is_written = true;
                of_database.is(written.err());
            }
            if is_full {
                sleep(self.not_before.saturating_duration_since(Instant::now()));
            }
            now = Instant::now();
            if has_come {
                latest = now;
            }
            if now < self.not_before || self.writer.is_busy() {
                continue;
            }
            let is_much = self.bytes >= BATCH || self.waiting.len() >= self.together();
            // From a queue that keeps nothing it writes as often as the settings say.
            let is_silent = self.queue.keeps() && now >= latest + self.silence();
            let is_due = is_full || is_silent || now >= self.since + self.buffer.within;
            if !self.waiting.is_empty() && (is_much || is_due) {
                self.give();
            }
            if is_written || is_due {
                let settled = self.settle();
                is_written = settled.is_err();
                if is_written {
                    self.not_before = Instant::now() + PAUSE;
                }
                of_settling.is(settled.err());
            }
        }
    }

    /// How many are written together, at most: meanwhile the queue gives others, where it gives many.
    fn together(&self) -> usize {
        self.buffer.messages.min((self.queue.most() / 2).max(MANY))
    }

    /// How long nothing has come when what waits is written.
    fn silence(&self) -> Duration {
        if self.waiting.len() < MANY { SILENCE } else { BRIEF }
    }

    /// Whether no more may be read, or none is given before some are settled.
    fn is_full(&self) -> bool {
        let bytes = self.bytes + self.writing.map_or(0, |(_, bytes)| bytes);
        bytes >= MOST || self.came - self.settled >= self.queue.most() as u64
    }

    /// Takes what a queue that keeps nothing has given already: nobody else gets it.
    fn drain(&mut self, patience: Duration) -> Result<()> {
        let (begun, mut nothing) = (Instant::now(), 0);
        // That there was nothing may be an answer from before the end was wanted; the second is not.
        while !self.queue.keeps() && nothing < 2 && begun.elapsed() <= patience {
            if self.is_full() && self.write().is_err() {
                break;
            }
            match self.queue.message(SILENCE) {
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
        if self.came == self.settled {
            self.since = Instant::now();
        }
        let number = self.came;
        let mut is_last = false;
        match document::read(&message, self.buffer.drops_empty) {
            Ok(Message::Document(document)) => {
                self.bytes += message.len();
                self.waiting.push(Taken { document: *document, message, number });
            }
            Ok(Message::Stop) => is_last = true,
            Ok(Message::Other) => self.counts.other += 1,
            Err(why) => {
                // Where that fails it has not come: it stays in a queue that keeps it.
                self.quarantine.put(&message, &why)?;
                self.counts.aside += 1;
            }
        }
        self.came += 1;
        Ok(is_last)
    }

    /// Gives the writer some of what waits: what a database has open at once is memory.
    fn give(&mut self) {
        let ends = self.waiting.iter().scan(0, |end, taken| {
            *end += taken.message.len();
            Some(*end)
        });
        let count = 1 + ends.take_while(|end| *end < BATCH).count();
        let rest = self.waiting.split_off(count.min(self.together()).min(self.waiting.len()));
        let batch = std::mem::replace(&mut self.waiting, rest);
        if let Some(first) = batch.first() {
            let bytes = bytes(&batch);
            self.writing = Some((first.number, bytes));
            self.bytes -= bytes;
            self.since = Instant::now();
            self.writer.give(batch);
        }
    }

    /// Takes back from the writer what it has, once it is written or cannot be written now.
    fn collect(&mut self, is_waited_for: bool) -> Option<Result<(), String>> {
        let (batch, written): Written = self.writer.written(is_waited_for)?;
        self.writing = None;
        let refused = match written {
            Ok(mut refused) => {
                // What comes again is in the order in which it came.
                refused.sort_unstable();
                refused
            }
            Err(why) => {
                self.again(batch);
                return Some(Err(why.to_string()));
            }
        };
        self.counts.kept += (batch.len() - refused.len()) as u64;
        let mut batch: Vec<_> = batch.into_iter().map(Some).collect();
        let mut refused = refused.into_iter().filter_map(|(place, why)| Some((batch[place].take()?, why)));
        while let Some((taken, why)) = refused.next() {
            if let Err(error) = self.quarantine.put(&taken.message, &why) {
                let rest = std::iter::once(taken).chain(refused.map(|(taken, _)| taken)).collect();
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
        self.not_before = Instant::now() + PAUSE;
    }

    /// Tells the queue how many messages are kept: all before the first that is not.
    fn settle(&mut self) -> Result<(), String> {
        let waiting = self.waiting.first().map(|taken| taken.number);
        let through = self.writing.map(|(first, _)| first).or(waiting).unwrap_or(self.came);
        if through > self.settled {
            let count = usize::try_from(through - self.settled).expect("because so many were in memory");
            self.queue.settle(count).map_err(|why| why.to_string())?;
            self.settled = through;
        }
        Ok(())
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
        self.settle()
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
            for taken in std::mem::take(&mut self.waiting) {
                self.quarantine.put(&taken.message, &why)?;
                self.counts.aside += 1;
            }
        }
        Ok(self.counts)
    }
}

fn bytes(batch: &Batch) -> usize {
    batch.iter().map(|taken| taken.message.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::document::Document;
    use super::*;
    use crate::formats::flowcept::packed;

    /// What the world does: something fails where its turn is no multiple of so much.
    #[derive(Clone, Copy, Debug)]
    struct Luck {
        queue: usize,
        settling: usize,
        database: usize,
    }

    fn fails(turn: &mut usize, every: usize) -> bool {
        *turn += 1;
        every > 0 && turn.is_multiple_of(every)
    }

    const POISON: usize = 7;
    const REFUSED: usize = 11;
    const OTHER: usize = 13;

    /// Messages by number: some are poison, some of no concern, and some the database refuses.
    struct Feed {
        given: usize,
        all: usize,
        /// That it gives before some are settled.
        most: usize,
        keeps: bool,
        settled: usize,
        turn: usize,
        luck: Luck,
        has: Arc<Mutex<HashSet<String>>>,
        is_empty: Arc<AtomicBool>,
    }

    impl Queue for Feed {
        fn place(&self) -> &str {
            "feed"
        }

        fn message(&mut self, _wait: Duration) -> Result<Option<Vec<u8>>, Undelivered> {
            if self.given - self.settled >= self.most || fails(&mut self.turn, self.luck.queue) {
                return Ok(None);
            }
            if self.given == self.all {
                self.is_empty.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            self.given += 1;
            let number = self.given - 1;
            Ok(Some(match number {
                n if n.is_multiple_of(POISON) => b"\xc1".to_vec(),
                n if n.is_multiple_of(OTHER) => packed(&serde_json::json!({"type": "object"})),
                n => packed(&serde_json::json!({"type": "task", "task_id": n.to_string(), "activity_id": "a"})),
            }))
        }

        fn settle(&mut self, count: usize) -> Result<(), Undelivered> {
            if fails(&mut self.turn, self.luck.settling) {
                return Err(Undelivered::Now("not now".into()));
            }
            let has = self.has.lock().expect("because nobody panics with it");
            for number in self.settled..self.settled + count {
                let of_database = !number.is_multiple_of(POISON) && !number.is_multiple_of(OTHER);
                let is_kept = has.contains(&number.to_string());
                assert!(!of_database || is_kept, "{number} is settled and not kept");
            }
            self.settled += count;
            Ok(())
        }

        fn most(&self) -> usize {
            self.most
        }

        fn keeps(&self) -> bool {
            self.keeps
        }
    }

    struct Shaky {
        turn: usize,
        luck: Luck,
        has: Arc<Mutex<HashSet<String>>>,
    }

    impl Database for Shaky {
        fn place(&self) -> &str {
            "shaky"
        }

        fn keep(&mut self, documents: &[&Document]) -> Result<Vec<(usize, String)>, Undelivered> {
            if fails(&mut self.turn, self.luck.database) {
                return Err(Undelivered::Now("not now".into()));
            }
            // Refused ones count as kept here: they are set aside before anything is settled.
            self.has.lock().expect("because nobody panics with it").extend(documents.iter().map(|d| d.id.clone()));
            let is_refused = |id: &str| id.parse::<usize>().is_ok_and(|number| number.is_multiple_of(REFUSED));
            let places = documents.iter().enumerate().filter(|(_, document)| is_refused(&document.id));
            Ok(places.map(|(place, _)| (place, "no".into())).collect())
        }
    }

    /// It does not take as many.
    const LOOKS: usize = 200;
    const FINE: Luck = Luck { queue: 0, settling: 0, database: 0 };

    fn feed(all: usize, most: usize, keeps: bool, luck: Luck) -> Feed {
        Feed { given: 0, all, most, keeps, settled: 0, turn: 0, luck, has: Arc::default(), is_empty: Arc::default() }
    }

    /// Keeps all that a feed has.
    fn kept(feed: &mut Feed, aside: &Path, messages: usize) -> Result<Counts> {
        let (has, luck, is_empty) = (feed.has.clone(), feed.luck, feed.is_empty.clone());
        // Where it gives no more, nothing else is waited for.
        let within = Duration::from_millis(if feed.most == usize::MAX { 1 } else { 3_600_000 });
        let buffer = Buffer { within, messages, drops_empty: false };
        let mut looks = 0;
        let mut stopped = || {
            looks += 1;
            assert!(looks < LOOKS, "it waits for what never comes");
            is_empty.load(Ordering::Relaxed)
        };
        let patience = Duration::from_secs(60);
        let mut database = Shaky { turn: 0, luck, has };
        keep(feed, &mut database, &mut Quarantine::new(aside), buffer, patience, &mut stopped, &|_| {})
    }

    #[test]
    fn what_cannot_be_set_aside_stays_in_the_queue() {
        let file = tempfile::NamedTempFile::new().expect("because tests may write temporary files");
        // The first is poison, and a file lies in the way of the folder.
        let mut feed = feed(20, usize::MAX, true, FINE);
        assert!(kept(&mut feed, file.path(), 10).is_err());
        assert_eq!(feed.settled, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whoever fails meanwhile: what is settled was kept or set aside before, and at the end all is, once.
        #[test]
        fn nothing_is_settled_before_it_is_kept(
            all in 0_usize..300,
            messages in 1_usize..50,
            most in prop_oneof![Just(usize::MAX), Just(1), 2_usize..20],
            keeps in any::<bool>(),
            (queue, settling, database) in (0_usize..9, prop_oneof![Just(0), 3_usize..9], prop_oneof![Just(0), 2_usize..5]),
        ) {
            prop_assume!(queue != 1);
            let luck = Luck { queue, settling, database };
            let mut feed = feed(all, most, keeps, luck);
            let aside = tempfile::tempdir().expect("because tests may write temporary files");
            let counts = kept(&mut feed, aside.path(), messages).expect("because all comes right in the end");
            prop_assert_eq!(feed.settled, all);
            prop_assert_eq!(counts.kept + counts.aside + counts.other, all as u64);
            let count = |is: &dyn Fn(usize) -> bool| (0..all).filter(|number| is(*number)).count() as u64;
            let is_poison = |number: usize| number.is_multiple_of(POISON);
            let is_other = |number: usize| !is_poison(number) && number.is_multiple_of(OTHER);
            prop_assert_eq!(counts.other, count(&is_other));
            let is_refused = |number: usize| !is_poison(number) && !is_other(number) && number.is_multiple_of(REFUSED);
            prop_assert_eq!(counts.aside, count(&is_poison) + count(&is_refused));
        }
    }
}
