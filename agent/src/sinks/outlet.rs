//! A sink with its cursor over the store: what was delivered is never sent again, and what was not waits in the store. It retries;
//! a message that is sent twice has the same id.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Message, Sink, Undelivered};

/// Messages that are delivered together, and their bytes, at most.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 1 << 20;
/// Between the first two attempts; doubled from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How far a sink has come in the store.
#[derive(Debug, Deserialize, Serialize)]
struct Cursor {
    /// [`Sink::place`].
    place: String,
    /// The number of the next workflow.
    next: u64,
}

/// Delivers the workflows of one store to one sink.
pub struct Outlet<S> {
    sink: S,
    cursor: Cursor,
    path: PathBuf,
    /// Nobody else moves the cursor meanwhile.
    _lock: File,
    patience: Duration,
}

impl<S: Sink> Outlet<S> {
    /// Takes up where it was left; `patience` is how long a delivery is attempted.
    pub fn open(store: &Path, sink: S, patience: Duration) -> Result<Self> {
        let folder = store.join("outlets");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("make {}", folder.display()))?;
        let path = folder.join(format!("{}.json", file_name(sink.place())));
        let lock_path = path.with_extension("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_path);
        let lock = lock.with_context(|| format!("open {}", lock_path.display()))?;
        if lock.try_lock().is_err() {
            bail!("another flowcept delivers to {} just now", sink.place());
        }
        let cursor = match File::open(&path) {
            Ok(file) => read(file).with_context(|| {
                format!("read how far {} has come; without {} all is delivered again", sink.place(), path.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Cursor { place: sink.place().to_string(), next: 0 }
            }
            Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
        };
        Ok(Self { sink, cursor, path, _lock: lock, patience })
    }

    /// The number of the next workflow to deliver.
    pub fn next(&self) -> u64 {
        self.cursor.next
    }

    /// The sink's name.
    pub fn place(&self) -> &str {
        self.sink.place()
    }

    /// Delivers the messages of the workflow of this number, and notes that.
    pub fn deliver(&mut self, number: u64, messages: &[Message]) -> Result<()> {
        let mut left = messages;
        while !left.is_empty() {
            let mut bytes = 0;
            let fits = |message: &&Message| {
                bytes += message.len();
                bytes <= BATCH_BYTES
            };
            let (batch, rest) = left.split_at(left.iter().take(BATCH).take_while(fits).count().max(1));
            self.attempt(batch)?;
            left = rest;
        }
        self.cursor.next = number + 1;
        self.note().with_context(|| format!("note that a workflow was delivered in {}", self.path.display()))
    }

    fn attempt(&mut self, batch: &[Message]) -> Result<()> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.sink.deliver(batch) {
                Ok(()) => return Ok(()),
                Err(Undelivered::Now(why)) if begun.elapsed() + pause > self.patience => bail!("{why}"),
                Err(Undelivered::Now(_)) => sleep(pause),
                Err(Undelivered::Ever(why)) => bail!("{why}"),
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Replaces the file as a whole.
    fn note(&self) -> Result<()> {
        let part = self.path.with_extension("part");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(&serde_json::to_vec(&self.cursor)?)?;
        file.sync_data()?;
        Ok(std::fs::rename(&part, &self.path)?)
    }
}

fn read(mut file: File) -> Result<Cursor> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// A place as the name of a file: what is not plain is `-`.
fn file_name(place: &str) -> String {
    place.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as often as it is told to.
    struct Shaky {
        failures: usize,
        got: Vec<usize>,
    }

    impl Sink for Shaky {
        fn place(&self) -> &str {
            "shaky://here"
        }

        fn deliver(&mut self, messages: &[Message]) -> Result<(), Undelivered> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(Undelivered::Now("not now".into()));
            }
            self.got.push(messages.len());
            Ok(())
        }
    }

    fn outlet(store: &Path, failures: usize, patience: Duration) -> Outlet<Shaky> {
        Outlet::open(store, Shaky { failures, got: Vec::new() }, patience).expect("because the folder is ours")
    }

    #[test]
    fn it_tries_again_and_goes_on_where_it_was() {
        let store = tempfile::tempdir().expect("because tests may write temporary files");
        let mut first = outlet(store.path(), 2, Duration::from_secs(60));
        assert_eq!(first.next(), 0);
        let other = Outlet::open(store.path(), Shaky { failures: 0, got: Vec::new() }, Duration::ZERO);
        assert!(other.is_err_and(|e| e.to_string().contains("another flowcept delivers to shaky://here")));
        first.deliver(4, &vec![vec![0; 10]; BATCH + 1]).expect("because the third attempt succeeds");
        // A message may be larger than a batch.
        first.deliver(5, &[vec![0; 10], vec![0; BATCH_BYTES + 1], vec![0; 10]]).expect("because it works");
        assert_eq!(first.sink.got, [BATCH, 1, 1, 1, 1]);
        drop(first);
        let mut second = outlet(store.path(), 2, Duration::ZERO);
        assert_eq!(second.next(), 6);
        assert_eq!(second.deliver(6, &[vec![0]]).expect_err("because it has no patience").to_string(), "not now");
        drop(second);
        assert_eq!(outlet(store.path(), 0, Duration::ZERO).next(), 6);
    }
}
