//! A sink with its cursor over the store: what was delivered is never sent again, and what was not waits in the store. It retries;
//! a document that is sent twice has the same id.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Sink, Undelivered};

/// Documents that are delivered together, at most.
pub const BATCH: usize = 2000;
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

impl Cursor {
    /// As it was noted in a file; where nothing was, all is to come.
    fn of(path: &Path, place: &str) -> Result<Self> {
        match File::open(path) {
            Ok(file) => read(file).with_context(|| {
                format!("read how far {place} has come; without {} all is delivered again", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self { place: place.into(), next: 0 }),
            Err(error) => Err(error).with_context(|| format!("open {}", path.display())),
        }
    }
}

/// The number of the next workflow of a store to be delivered to a place.
pub fn next(store: &Path, place: &str) -> Result<u64> {
    Cursor::of(&path_of(store, place), place).map(|cursor| cursor.next)
}

/// Where it is noted how far a place has come.
fn path_of(store: &Path, place: &str) -> PathBuf {
    store.join("outlets").join(format!("{}.json", file_name(place)))
}

/// Delivers the workflows of one store to one sink.
pub struct Outlet {
    sink: Box<dyn Sink>,
    cursor: Cursor,
    path: PathBuf,
    /// Nobody else moves the cursor meanwhile.
    _lock: File,
    patience: Duration,
}

impl Outlet {
    /// Takes up where it was left; `patience` is how long a delivery is attempted.
    pub fn open(store: &Path, sink: Box<dyn Sink>, patience: Duration) -> Result<Self> {
        let folder = store.join("outlets");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("make {}", folder.display()))?;
        let path = path_of(store, sink.place());
        let lock_path = path.with_extension("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_path);
        let lock = lock.with_context(|| format!("open {}", lock_path.display()))?;
        if lock.try_lock().is_err() {
            bail!("another flowcept delivers to {} just now", sink.place());
        }
        let cursor = Cursor::of(&path, sink.place())?;
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

    /// Delivers the documents of the workflow of this number, and notes that.
    pub fn deliver(&mut self, number: u64, documents: &[Value]) -> Result<()> {
        let begun = Instant::now();
        loop {
            documents.chunks(BATCH).try_for_each(|batch| self.attempt(|sink| sink.deliver(batch)))?;
            if self.attempt(|sink| sink.confirm())? {
                break;
            }
            if begun.elapsed() > self.patience {
                bail!("{}: what was sent may have been lost there each time", self.sink.place());
            }
        }
        self.cursor.next = number + 1;
        self.note().with_context(|| format!("note that a workflow was delivered in {}", self.path.display()))
    }

    fn attempt<T>(&mut self, mut what: impl FnMut(&mut dyn Sink) -> Result<T, Undelivered>) -> Result<T> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match what(&mut *self.sink) {
                Ok(done) => return Ok(done),
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

/// A name of its own for each place, however long and with whatever in it.
fn file_name(place: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, place.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Fails as often as it is told to, and once it is not sure.
    struct Shaky {
        place: &'static str,
        failures: usize,
        is_sure: bool,
        got: Rc<RefCell<Vec<usize>>>,
    }

    impl Sink for Shaky {
        fn place(&self) -> &str {
            self.place
        }

        fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(Undelivered::Now("not now".into()));
            }
            self.got.borrow_mut().push(documents.len());
            Ok(())
        }

        fn confirm(&mut self) -> Result<bool, Undelivered> {
            Ok(std::mem::replace(&mut self.is_sure, true))
        }
    }

    #[test]
    fn it_tries_again_and_goes_on_where_it_was() {
        let store = tempfile::tempdir().expect("because tests may write temporary files");
        let got = Rc::new(RefCell::new(Vec::new()));
        let open = |failures, patience| {
            Outlet::open(
                store.path(),
                Box::new(Shaky { place: "shaky://here", failures, is_sure: false, got: got.clone() }),
                Duration::from_secs(patience),
            )
        };
        let good = |failures, patience| open(failures, patience).expect("because nobody else has it");
        let mut first = good(2, 60);
        assert_eq!(first.next(), 0);
        assert!(open(0, 0).is_err_and(|e| e.to_string() == "another flowcept delivers to shaky://here just now"));
        first.deliver(5, &vec![Value::Null; BATCH + 1]).expect("because the third attempt succeeds");
        // And all again, of which it was not sure.
        assert_eq!(*got.borrow(), [BATCH, 1, BATCH, 1]);
        drop(first);
        let mut second = good(2, 0);
        assert_eq!(second.next(), 6);
        assert_eq!(second.deliver(6, &[Value::Null]).expect_err("because it has no patience").to_string(), "not now");
        drop(second);
        assert_eq!(good(0, 0).next(), 6);
    }

    #[test]
    fn each_place_has_a_cursor_of_its_own() {
        let store = tempfile::tempdir().expect("because tests may write temporary files");
        let open = |place| {
            let sink = Shaky { place, failures: 0, is_sure: true, got: Rc::default() };
            Outlet::open(store.path(), Box::new(sink), Duration::ZERO).expect("because nobody else has it")
        };
        open("lmdb:/data/runs-old").deliver(5, &[Value::Null]).expect("because it works");
        assert_eq!(["lmdb:/data/runs-old", "lmdb:/data/runs/old"].map(|place| open(place).next()), [6, 0]);
    }
}
