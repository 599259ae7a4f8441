//! The log of one run: append-only frames with checksums, the truth from which all else can be made again. It does
//! not know what the observations mean.
//!
//! Format 1: the line `flowcept log 1`, then frames of length of the payload (u32, little endian), CRC-32 of the
//! payload, payload. A payload begins with its kind: 1 the workflow at its begin (JSON), 2 a batch of observations
//! (each behind its length as LEB128), 3 the workflow at its end (JSON), 4 its number in the index (u64, little
//! endian), 5 documents of a workflow that was traced elsewhere (a JSON list). What follows a frame that is not whole is torn, except for frames of kind 4 at the very end: a log
//! whose tracer was killed is marked too, and nothing of it is thrown away for that.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use flowcept_provenance::observation::{Left, Lost, Observation};
use flowcept_provenance::quantity::BootNs;
use serde::Serialize;
use serde_json::Value;

use crate::store::codec;
use crate::workflow::Workflow;

const NAME: &[u8] = b"flowcept log ";
const MAGIC: &[u8] = b"flowcept log 1\n";
const BEGIN: u8 = 1;
const BATCH: u8 = 2;
const END: u8 = 3;
const NUMBER: u8 = 4;
const DOCUMENTS: u8 = 5;

/// Length and checksum.
const HEAD: usize = 8;
/// A frame of kind [`NUMBER`].
const MARK: usize = HEAD + 1 + 8;

/// Says what was attempted and on what.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file.
    #[error("{action} {path}: {source}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: Error,
    },
    /// Not a log.
    #[error("read the log {path}: it is no log of flowcept, it begins with {found:?}")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What was found there.
        found: String,
    },
    /// A log of a newer flowcept.
    #[error("read the log {path}: it has format {version}, this version of flowcept reads format 1")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        version: u64,
    },
    /// A log whose first frame is not whole: its tracer was stopped in that moment, or the file was damaged.
    #[error("read the log {path}: it does not begin with a whole workflow ({bytes} bytes follow the first line)")]
    Headless {
        /// Which file.
        path: PathBuf,
        /// Bytes behind the first line, as far as they were looked at.
        bytes: u64,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(Error) -> LogError {
    move |source| LogError::File { action, path: path.to_path_buf(), source }
}

/// Appends to a new log; holds its lock, so that others can tell that it is being written.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    /// Bytes that are good.
    length: u64,
    /// Something may lie behind them.
    untidy: bool,
    /// The next frame, as far as it is known.
    batch: Vec<u8>,
    /// One observation, until its length is known.
    one: Vec<u8>,
    pending: usize,
    lost: u64,
}

impl Writer {
    /// A new log that begins with this workflow, for its owner's eyes only.
    pub fn create(path: &Path, workflow: &Workflow) -> Result<Self, LogError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(path).map_err(failed("create the log", path))?;
        let mut writer = Self {
            file,
            path: path.to_path_buf(),
            length: 0,
            untidy: false,
            batch: empty_frame(BATCH),
            one: Vec::new(),
            pending: 0,
            lost: 0,
        };
        let begun = writer.begin(workflow);
        if begun.is_err() {
            // Without its begin it would be in the way of a second attempt.
            let _ = std::fs::remove_file(path);
        }
        begun.map(|()| writer)
    }

    fn begin(&mut self, workflow: &Workflow) -> Result<(), LogError> {
        lock(&self.file).map_err(failed("lock the log", &self.path))?;
        let mut begin = MAGIC.to_vec();
        begin.extend(json_frame(BEGIN, workflow).map_err(failed("write to the log", &self.path))?);
        self.write(&begin)
    }

    /// Adds an observation to the next batch, in memory.
    pub fn append(&mut self, observation: &Observation) {
        self.one.clear();
        codec::encode(observation, &mut self.one);
        codec::put_number(self.one.len() as u64, &mut self.batch);
        self.batch.extend_from_slice(&self.one);
        self.pending += 1;
    }

    /// Observations that wait for the next commit.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Observations that were appended and could not be written.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Writes what was appended. On failure (a full disk) the batch is lost and counted, and the log stays
    /// whole: a later commit works again if there is room.
    pub fn commit(&mut self) -> Result<(), LogError> {
        if self.pending == 0 {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        let result = match seal(&mut batch) {
            Ok(()) => self.write(&batch),
            Err(source) => Err(failed("write to the log", &self.path)(source)),
        };
        if result.is_err() {
            self.lost += self.pending as u64;
        }
        self.pending = 0;
        // Its room is used again.
        batch.truncate(HEAD + 1);
        self.batch = batch;
        result
    }

    /// Writes documents of a workflow that was traced elsewhere.
    pub fn documents(&mut self, documents: &[Value]) -> Result<(), LogError> {
        let frame = json_frame(DOCUMENTS, &documents).map_err(failed("write to the log", &self.path))?;
        self.write(&frame)
    }

    /// Commits, and says how the run went. That is written even where the last batch was lost; the error is
    /// that of the batch.
    pub fn end(&mut self, workflow: &Workflow) -> Result<(), LogError> {
        let committed = self.commit();
        let end = json_frame(END, workflow).map_err(failed("write to the log", &self.path))?;
        self.write(&end)?;
        committed
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let written = self.tidy().and_then(|()| self.file.write_all(bytes));
        if let Err(source) = written {
            // A part may have been written. Where it cannot be cut off now, nothing is written before it could be.
            self.untidy = true;
            let _ = self.tidy();
            return Err(failed("write to the log", &self.path)(source));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), Error> {
        if self.untidy {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            self.untidy = false;
        }
        Ok(())
    }
}

/// Takes the lock. A reader that asks in this moment whether the log is live holds it too, very shortly: it is no
/// reason not to trace; but one that was stopped then is no reason to wait for ever either.
fn lock(file: &File) -> Result<(), Error> {
    for _ in 0..200 {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(5)),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Err(ErrorKind::WouldBlock.into())
}

fn empty_frame(kind: u8) -> Vec<u8> {
    let mut frame = vec![0; HEAD];
    frame.push(kind);
    frame
}

fn json_frame(kind: u8, content: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut frame = empty_frame(kind);
    serde_json::to_writer(&mut frame, content)?;
    seal(&mut frame)?;
    Ok(frame)
}

/// Fills in length and checksum.
fn seal(frame: &mut [u8]) -> Result<(), Error> {
    let (head, payload) = frame.split_at_mut(HEAD);
    let length = u32::try_from(payload.len()).map_err(|_| Error::from(ErrorKind::FileTooLarge))?;
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    Ok(())
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// As at the end of the run, else as at its begin.
    pub workflow: Workflow,
    /// It says how the run ended.
    pub ended: bool,
    /// Somebody writes to it.
    pub live: bool,
    /// In the order in which they were taken in.
    pub observations: Vec<Observation>,
    /// Of a workflow that was traced elsewhere; then there are no observations.
    pub documents: Vec<Value>,
    /// Bytes that are not read because a frame is not whole. In a live log they may be on their way.
    pub torn: u64,
    /// Observations, and frames, that are whole but that this version does not understand.
    pub undecodable: u64,
    /// Its number in the index.
    pub commit_number: Option<u64>,
}

impl Contents {
    /// What of it could not be read, where there is such.
    pub fn lost(&self) -> Option<Observation> {
        let cause = "parts of the log that this version of flowcept does not understand".into();
        let lost = Lost { source: "log".into(), cause, count: self.undecodable };
        (self.undecodable > 0).then_some(Observation::Lost(lost))
    }

    /// That it ends before the workflow did, and why; with what was cut off its end.
    pub fn cut(&self, why: &str) -> Observation {
        let why = match self.torn {
            0 => why.into(),
            torn => format!("{why}; {torn} bytes of a torn record were cut off").into(),
        };
        Observation::Left(Left { why, at: BootNs::END })
    }
}

fn open(path: &Path) -> Result<(File, bool), LogError> {
    let file = File::open(path).map_err(failed("open the log", path))?;
    let live = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(e)) => return Err(failed("look at the lock of the log", path)(e)),
    };
    // Held no longer than the question, so that nobody takes a reader for a writer.
    let _ = file.unlock();
    Ok((file, live))
}

/// What follows the first line, if that says that this is a log which can be read.
fn frames<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], LogError> {
    if let Some(frames) = bytes.strip_prefix(MAGIC) {
        return Ok(frames);
    }
    let path = path.to_path_buf();
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let version = first.strip_prefix(NAME).and_then(|v| std::str::from_utf8(v).ok()?.parse().ok());
    Err(match version {
        Some(version @ 2..) => LogError::Newer { path, version },
        _ => LogError::Foreign { path, found: String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned() },
    })
}

/// Kind and payload of the frame at the begin, and what follows it; none where it is not whole.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (checksum, rest) = rest.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length).try_into().ok()?)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
        return None;
    }
    // No payload is no frame either, whatever its checksum: after a power cut files end with zeros.
    let (kind, payload) = payload.split_first()?;
    Some((*kind, payload, rest))
}

/// Takes marks off the end; the last one's number, and what lies before all of them.
fn marks(mut bytes: &[u8]) -> (Option<u64>, &[u8]) {
    let mut number = None;
    while let Some((before, last)) = bytes.split_last_chunk::<MARK>()
        && let Some((NUMBER, payload, [])) = next(last)
        && let Ok(payload) = payload.try_into()
    {
        number = number.or(Some(u64::from_le_bytes(payload)));
        bytes = before;
    }
    (number, bytes)
}

/// Takes the observations of a batch; how many could not be decoded.
fn batch(mut payload: &[u8], observations: &mut Vec<Observation>) -> u64 {
    let mut undecodable = 0;
    while !payload.is_empty() {
        let one = codec::take_number(&mut payload).and_then(|n| payload.split_at_checked(usize::try_from(n).ok()?));
        // Where one begins is known from those before it only: the rest counts as one.
        let Some((one, rest)) = one else { return undecodable + 1 };
        match codec::decode(one) {
            Some(observation) => observations.push(observation),
            None => undecodable += 1,
        }
        payload = rest;
    }
    undecodable
}

/// Reads a whole log. A torn tail is told; what lies before it is good.
pub fn read(path: &Path) -> Result<Contents, LogError> {
    let (mut file, live) = open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed("read the log", path))?;
    let bytes = frames(path, &bytes)?;
    let (workflow, mut rest) = begin(path, bytes)?;
    let mut contents = Contents {
        workflow,
        ended: false,
        live,
        observations: Vec::new(),
        documents: Vec::new(),
        torn: 0,
        undecodable: 0,
        commit_number: None,
    };
    while let Some((kind, payload, tail)) = next(rest) {
        rest = tail;
        match kind {
            BATCH => contents.undecodable += batch(payload, &mut contents.observations),
            END => match serde_json::from_slice(payload) {
                Ok(workflow) => {
                    contents.workflow = workflow;
                    contents.ended = true;
                }
                Err(_) => contents.undecodable += 1,
            },
            NUMBER => match payload.try_into() {
                Ok(number) => contents.commit_number = Some(u64::from_le_bytes(number)),
                Err(_) => contents.undecodable += 1,
            },
            DOCUMENTS => match serde_json::from_slice::<Vec<Value>>(payload) {
                Ok(documents) => contents.documents.extend(documents),
                Err(_) => contents.undecodable += 1,
            },
            _ => contents.undecodable += 1,
        }
    }
    let (number, torn) = marks(rest);
    contents.commit_number = number.or(contents.commit_number);
    contents.torn = torn.len() as u64;
    Ok(contents)
}

/// Reads a log that grows.
#[derive(Debug)]
pub struct Tail {
    file: File,
    path: PathBuf,
    /// Bytes that have been read.
    read: u64,
}

impl Tail {
    /// From its begin; the workflow as it was then.
    pub fn open(path: &Path) -> Result<(Self, Workflow), LogError> {
        let (workflow, _) = head(path)?;
        let file = File::open(path).map_err(failed("open the log", path))?;
        Ok((Self { file, path: path.to_path_buf(), read: 0 }, workflow))
    }

    /// What has been added since; what is not whole yet comes the next time.
    pub fn read(&mut self) -> Result<Vec<Observation>, LogError> {
        let mut bytes = Vec::new();
        let read = self.file.seek(SeekFrom::Start(self.read)).and_then(|_| self.file.read_to_end(&mut bytes));
        read.map_err(failed("read the log", &self.path))?;
        let mut rest = if self.read == 0 { frames(&self.path, &bytes)? } else { &bytes };
        let mut observations = Vec::new();
        while let Some((kind, payload, tail)) = next(rest) {
            rest = tail;
            if kind == BATCH {
                batch(payload, &mut observations);
            }
        }
        self.read += (bytes.len() - rest.len()) as u64;
        Ok(observations)
    }

    /// Bytes that have been read.
    pub fn bytes(&self) -> u64 {
        self.read
    }
}

/// The workflow of the first frame, and what follows it.
fn begin<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Workflow, &'a [u8]), LogError> {
    let begin = match next(bytes) {
        Some((BEGIN, payload, rest)) => serde_json::from_slice(payload).ok().map(|w| (w, rest)),
        _ => None,
    };
    begin.ok_or_else(|| LogError::Headless { path: path.to_path_buf(), bytes: bytes.len() as u64 })
}

/// The workflow at its begin, and whether the log is being written. Reads no further than that.
pub fn head(path: &Path) -> Result<(Workflow, bool), LogError> {
    let (file, live) = open(path)?;
    let mut bytes = Vec::new();
    let mut more = |n| (&file).take(n).read_to_end(&mut bytes).map_err(failed("read the log", path));
    more((MAGIC.len() + HEAD) as u64)?;
    // A command line can have megabytes. A length that is wrong reads no more than there is.
    let length = frames(path, &bytes)?.first_chunk().map_or(0, |l| u32::from_le_bytes(*l));
    let mut more = |n| (&file).take(n).read_to_end(&mut bytes).map_err(failed("read the log", path));
    more(length.into())?;
    let (workflow, _) = begin(path, frames(path, &bytes)?)?;
    Ok((workflow, live))
}

/// Notes the number that the run has in the index. The last one counts.
pub fn mark(path: &Path, number: u64) -> Result<(), LogError> {
    let action = "mark the log";
    let mut file = OpenOptions::new().append(true).open(path).map_err(failed(action, path))?;
    let mut frame = empty_frame(NUMBER);
    frame.extend(number.to_le_bytes());
    seal(&mut frame).and_then(|()| file.write_all(&frame)).map_err(failed(action, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use flowcept_provenance::identity::ImageNo;
    use flowcept_provenance::observation::{Freed, Lost};
    use flowcept_provenance::quantity::Nanos;

    fn observation(n: u64) -> Observation {
        Observation::Freed(Freed { image: ImageNo(n), cpu: Nanos(n * 1000) })
    }

    fn named(name: &str) -> Workflow {
        Workflow { name: name.into(), boot: u128::MAX, ..Workflow::default() }
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("because tests may write temporary files")
    }

    fn bytes_of(path: &Path) -> Vec<u8> {
        fs::read(path).expect("because it was written")
    }

    fn put(path: &Path, bytes: &[u8]) {
        fs::write(path, bytes).expect("because there is room");
    }

    fn good(path: &Path) -> Contents {
        read(path).expect("because it is a log")
    }

    /// A log with these batches.
    fn log(path: &Path, batches: &[&[Observation]]) -> Writer {
        let mut writer = Writer::create(path, &named("begin")).expect("because the name is free");
        for batch in batches {
            batch.iter().for_each(|o| writer.append(o));
            assert_eq!(writer.pending(), batch.len());
            writer.commit().expect("because there is room");
            assert_eq!(writer.pending(), 0);
        }
        writer
    }

    #[test]
    fn a_tail_reads_what_is_added() {
        let folder = tempfile::tempdir().expect("because tests may write temporary files");
        let path = folder.path().join("a.log");
        let mut writer = Writer::create(&path, &named("a")).expect("because the folder is ours");
        let (mut tail, workflow) = Tail::open(&path).expect("because it has begun");
        assert_eq!(workflow.name, "a");
        let mut added = || tail.read().expect("because it is a log");
        assert_eq!(added(), []);
        for numbers in [vec![1, 2], vec![3]] {
            let observations: Vec<_> = numbers.into_iter().map(observation).collect();
            observations.iter().for_each(|o| writer.append(o));
            writer.commit().expect("because there is room");
            assert_eq!(added(), observations);
            assert_eq!(added(), []);
        }
        // A frame that is on its way.
        let whole = fs::read(&path).expect("because it is there");
        writer.append(&observation(4));
        writer.commit().expect("because there is room");
        let more = fs::read(&path).expect("because it is there");
        fs::write(&path, &more[..whole.len() + 5]).expect("because it is ours");
        assert_eq!(added(), []);
        fs::write(&path, &more).expect("because it is ours");
        assert_eq!(added(), [observation(4)]);
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = folder();
        let path = folder.path().join("a.log");
        let long = Observation::Lost(Lost { source: "s".repeat(300).into(), cause: "c".into(), count: 7 });
        let mut writer = log(&path, &[&[observation(1), long.clone()], &[], &[observation(2)]]);
        assert_eq!(fs::metadata(&path).expect("because it is there").permissions().mode() & 0o777, 0o600);
        let before = good(&path);
        assert_eq!((before.workflow, before.ended, before.live), (named("begin"), false, true));
        writer.append(&observation(3));
        writer.end(&named("end")).expect("because there is room");
        drop(writer);
        mark(&path, 41).expect("because it is there");
        mark(&path, 42).expect("because it is there");
        let expected = Contents {
            workflow: named("end"),
            ended: true,
            live: false,
            observations: vec![observation(1), long, observation(2), observation(3)],
            documents: Vec::new(),
            torn: 0,
            undecodable: 0,
            commit_number: Some(42),
        };
        assert_eq!(good(&path), expected);
        assert_eq!(head(&path).expect("because it is a log"), (named("begin"), false));
    }

    #[test]
    fn a_torn_tail_is_told_and_spoils_nothing() {
        let folder = folder();
        let path = folder.path().join("a.log");
        drop(log(&path, &[&[observation(1), observation(2)]]));
        let whole = bytes_of(&path).len();
        fs::remove_file(&path).expect("because it is there");
        drop(log(&path, &[&[observation(1), observation(2)], &[observation(3), observation(4)]]));
        let bytes = bytes_of(&path);
        for cut in whole..bytes.len() {
            put(&path, &bytes[..cut]);
            let contents = good(&path);
            assert_eq!(contents.observations, [observation(1), observation(2)], "cut at {cut}");
            assert_eq!((contents.torn, contents.commit_number), ((cut - whole) as u64, None), "cut at {cut}");
            assert!(!contents.live && !contents.ended);
            // It can be marked all the same, and still tells what is torn.
            mark(&path, 1).expect("because it is there");
            mark(&path, cut as u64).expect("because it is there");
            let marked = good(&path);
            assert_eq!(marked, Contents { commit_number: Some(cut as u64), ..contents }, "cut at {cut}");
        }
        // Zeros, as after a power cut.
        put(&path, &[&bytes[..], &[0; 100]].concat());
        assert_eq!((good(&path).observations.len(), good(&path).torn), (4, 100));
    }

    #[test]
    fn a_flipped_bit_ends_the_reading() {
        let folder = folder();
        let path = folder.path().join("a.log");
        drop(log(&path, &[&[observation(1)]]));
        let whole = bytes_of(&path).len();
        fs::remove_file(&path).expect("because it is there");
        drop(log(&path, &[&[observation(1)], &[observation(2)], &[observation(3)]]));
        let bytes = bytes_of(&path);
        let second = whole..whole + (bytes.len() - whole) / 2;
        for bit in second.start * 8..second.end * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            put(&path, &flipped);
            let contents = good(&path);
            assert_eq!(contents.observations, [observation(1)], "bit {bit}");
            assert_eq!(contents.torn, (bytes.len() - whole) as u64);
        }
    }

    #[test]
    fn no_log_no_begin_and_a_newer_one_are_errors_that_say_so() {
        let folder = folder();
        let path = folder.path().join("a.log");
        drop(log(&path, &[]));
        let bytes = bytes_of(&path);
        let mut errors = Vec::new();
        for content in
            [&b"something else that is long"[..], b"", b"flowcept log 2\nwhat", b"flowcept log 0\n", &bytes[..40]]
        {
            put(&path, content);
            let error = read(&path).expect_err("because it is no log").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(head(&path).is_err());
            errors.push(error);
        }
        assert!(errors[0].contains("\"something else that \""), "{}", errors[0]);
        assert!(errors[2].contains("format 2"), "{}", errors[2]);
        assert!(errors[4].contains("25 bytes"), "{}", errors[4]);
        let missing = read(&folder.path().join("none")).expect_err("because it is not there");
        assert!(missing.to_string().starts_with("open the log "), "{missing}");
        assert!(matches!(Writer::create(&path, &named("w")), Err(LogError::File { action: "create the log", .. })));
        assert!(path.exists(), "a log that was there before is not removed");
    }

    #[test]
    fn a_log_lives_as_long_as_its_writer() {
        let folder = folder();
        let path = folder.path().join("a.log");
        let writer = log(&path, &[]);
        for _ in 0..2 {
            assert!(head(&path).expect("because it is a log").1);
            assert!(good(&path).live);
        }
        drop(writer);
        assert!(!head(&path).expect("because it is a log").1);
        assert!(!good(&path).live);
    }

    #[test]
    fn a_head_may_be_long() {
        let folder = folder();
        let path = folder.path().join("a.log");
        let workflow = Workflow { command: vec!["x".repeat(100); 10_000], ..named("w") };
        drop(Writer::create(&path, &workflow).expect("because the name is free"));
        assert_eq!(head(&path).expect("because it is a log"), (workflow, false));
    }

    #[test]
    fn what_is_not_understood_is_counted() {
        let folder = folder();
        let path = folder.path().join("a.log");
        let mut writer = log(&path, &[&[observation(1)]]);
        // An unknown tag between two that are known; then one that claims more than there is.
        writer.append(&observation(2));
        writer.batch.extend([3, 99, 1, 2]);
        writer.append(&observation(3));
        writer.batch.extend([200, 1, 5]);
        writer.commit().expect("because there is room");
        let mut unknown = empty_frame(77);
        seal(&mut unknown).expect("because it is short");
        writer.write(&unknown).expect("because there is room");
        writer.append(&observation(4));
        writer.commit().expect("because there is room");
        let contents = good(&path);
        assert_eq!(contents.observations, [1, 2, 3, 4].map(observation));
        assert_eq!((contents.undecodable, contents.torn), (3, 0));
    }

    #[test]
    fn nothing_is_written_behind_a_part_that_cannot_be_cut_off() {
        let folder = folder();
        let path = folder.path().join("a.log");
        let mut writer = log(&path, &[&[observation(1)]]);
        // Neither writes nor truncates; it stands for a disk that fails for a while.
        let failing = File::open(&path).expect("because it is there");
        let working = std::mem::replace(&mut writer.file, failing);
        writer.append(&observation(2));
        writer.append(&observation(3));
        assert!(matches!(writer.commit(), Err(LogError::File { action: "write to the log", .. })));
        assert_eq!((writer.lost(), writer.pending()), (2, 0));
        writer.append(&observation(4));
        assert!(writer.commit().is_err());
        assert_eq!(writer.lost(), 3);
        // What the failed write left.
        (&working).write_all(b"a part of a frame").expect("because there is room");
        writer.file = working;
        writer.append(&observation(5));
        writer.commit().expect("because it works again");
        writer.end(&named("end")).expect("because it works again");
        let contents = good(&path);
        assert_eq!(contents.observations, [observation(1), observation(5)]);
        assert_eq!((contents.torn, contents.ended, writer.lost()), (0, true, 3));
    }

    /// Unmounts at the end, whatever becomes of the test.
    struct Mounted<'a>(&'a Path);

    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0).status();
        }
    }

    #[test]
    fn a_full_disk_costs_a_batch_and_no_more() {
        let folder = folder();
        let disk = folder.path();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(disk).output();
        if !mounted.is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: a tmpfs cannot be mounted here");
            return;
        }
        let _mounted = Mounted(disk);
        let path = disk.join("a.log");
        let mut writer = log(&path, &[&[observation(1)]]);
        put(&disk.join("filler"), &[0; 40 << 10]);
        for n in 0..10_000 {
            writer.append(&observation(n));
        }
        let error = writer.commit().expect_err("because there is no room");
        assert!(
            matches!(error, LogError::File { ref source, .. } if source.kind() == ErrorKind::StorageFull),
            "{error}"
        );
        assert_eq!((writer.lost(), writer.pending()), (10_000, 0));
        assert_eq!(fs::metadata(&path).expect("because it is there").len(), writer.length);
        assert_eq!((good(&path).observations, good(&path).torn), (vec![observation(1)], 0));
        fs::remove_file(disk.join("filler")).expect("because it is there");
        writer.append(&observation(2));
        writer.commit().expect("because there is room again");
        writer.end(&named("end")).expect("because there is room again");
        let contents = good(&path);
        assert_eq!(contents.observations, [observation(1), observation(2)]);
        assert!(contents.ended && contents.torn == 0);
        // A log that cannot even begin leaves nothing behind.
        let workflow = Workflow { name: "w".repeat(100_000), ..Workflow::default() };
        assert!(Writer::create(&disk.join("b.log"), &workflow).is_err());
        assert!(!disk.join("b.log").exists());
    }
}
