//! The log of one run: append-only frames with checksums, the truth from which all else can be made again. It does not know
//! what the observations mean.
//!
//! Format 1: the line `flowcept log 1`, then frames of length (u32, little endian), CRC-32 of the payload, payload. A payload
//! begins with its kind: 1 the workflow at its begin (JSON), 2 a batch of observations (each behind its length), 3 the workflow
//! at its end (JSON), 4 its number in the index (u64, little endian). What follows a frame that is not whole is torn.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flowcept_provenance::observation::Observation;

use crate::store::codec;
use crate::workflow::Workflow;

const MAGIC: &[u8] = b"flowcept log 1\n";
const BEGIN: u8 = 1;
const BATCH: u8 = 2;
const END: u8 = 3;
const NUMBER: u8 = 4;

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
        source: std::io::Error,
    },
    /// Not a log, or one of a newer flowcept.
    #[error("{path} is no log of this version of flowcept: it begins with {found:?}")]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What was found there.
        found: String,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LogError {
    move |source| LogError::File { action, path: path.to_path_buf(), source }
}

/// Appends to a new log; holds its lock, so that others can tell that it is being written.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    /// Bytes that are good.
    length: u64,
    batch: Vec<u8>,
    pending: usize,
    lost: u64,
}

impl Writer {
    /// A new log that begins with this workflow.
    pub fn create(path: &Path, workflow: &Workflow) -> Result<Self, LogError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let mut file = options.open(path).map_err(failed("create the log", path))?;
        file.lock().map_err(failed("lock the log", path))?;
        file.write_all(MAGIC).map_err(failed("write to the log", path))?;
        let length = MAGIC.len() as u64;
        let mut writer = Self { file, path: path.to_path_buf(), length, batch: Vec::new(), pending: 0, lost: 0 };
        writer.frame(BEGIN, &json(workflow))?;
        Ok(writer)
    }

    /// Adds an observation to the next batch.
    pub fn append(&mut self, observation: &Observation) {
        let at = self.batch.len();
        self.batch.extend([0; 4]);
        codec::encode(observation, &mut self.batch);
        let length = (self.batch.len() - at - 4) as u32;
        self.batch[at..at + 4].copy_from_slice(&length.to_le_bytes());
        self.pending += 1;
    }

    /// Observations that wait for the next commit.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Observations that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Writes what was appended. On failure (a full disk) the batch is lost and counted, and the log stays whole.
    pub fn commit(&mut self) -> Result<(), LogError> {
        if self.pending == 0 {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let result = self.frame(BATCH, &batch);
        if result.is_err() {
            self.lost += self.pending as u64;
        }
        self.pending = 0;
        self.batch = batch;
        self.batch.clear();
        result
    }

    /// Commits, and says how the run went.
    pub fn end(&mut self, workflow: &Workflow) -> Result<(), LogError> {
        let committed = self.commit();
        self.frame(END, &json(workflow))?;
        committed
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), LogError> {
        let frame = frame(kind, payload);
        if let Err(source) = self.file.write_all(&frame) {
            // A part may have been written: what is good ends before it.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(LogError::File { action: "write to the log", path: self.path.clone(), source });
        }
        self.length += frame.len() as u64;
        Ok(())
    }
}

fn json(workflow: &Workflow) -> Vec<u8> {
    serde_json::to_vec(workflow).expect("because a workflow has only strings, numbers and lists")
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 9);
    frame.extend((payload.len() as u32 + 1).to_le_bytes());
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&[kind]);
    checksum.update(payload);
    frame.extend(checksum.finalize().to_le_bytes());
    frame.push(kind);
    frame.extend(payload);
    frame
}

/// What a log holds.
#[derive(Debug)]
pub struct Contents {
    /// As at the end of the run, else as at its begin.
    pub workflow: Workflow,
    /// It says how the run ended.
    pub ended: bool,
    /// Somebody writes to it.
    pub live: bool,
    /// In the order in which they were taken in.
    pub observations: Vec<Observation>,
    /// Bytes at its end that are no whole frame.
    pub torn: u64,
    /// Observations that this version does not understand.
    pub undecodable: u64,
    /// Its number in the index.
    pub commit_number: Option<u64>,
}

fn open(path: &Path) -> Result<(File, bool), LogError> {
    let file = File::open(path).map_err(failed("open the log", path))?;
    let live = match file.try_lock_shared() {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(e)) => return Err(failed("look at the lock of", path)(e)),
    };
    // Held no longer than the question: a writer of another log never waits for it.
    let _ = file.unlock();
    Ok((file, live))
}

fn payloads(path: &Path, bytes: &[u8], mut each: impl FnMut(u8, &[u8]) -> bool) -> Result<u64, LogError> {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        let found = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
        return Err(LogError::Foreign { path: path.to_path_buf(), found });
    };
    loop {
        let torn = rest.len() as u64;
        let Some((head, body)) = rest.split_at_checked(8) else { return Ok(torn) };
        let number = |b: &[u8]| b.try_into().map_or(0, u32::from_le_bytes);
        let Some((payload, next)) = body.split_at_checked(number(&head[..4]) as usize) else { return Ok(torn) };
        if crc32fast::hash(payload) != number(&head[4..]) {
            return Ok(torn);
        }
        let Some((kind, payload)) = payload.split_first() else { return Ok(torn) };
        if !each(*kind, payload) {
            return Ok(0);
        }
        rest = next;
    }
}

/// Reads a whole log. A torn tail is told; what lies before it is good.
pub fn read(path: &Path) -> Result<Contents, LogError> {
    let (mut file, live) = open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed("read the log", path))?;
    let mut contents = Contents {
        workflow: Workflow::default(),
        ended: false,
        live,
        observations: Vec::new(),
        torn: 0,
        undecodable: 0,
        commit_number: None,
    };
    contents.torn = payloads(path, &bytes, |kind, payload| {
        match kind {
            BEGIN | END => {
                if let Ok(workflow) = serde_json::from_slice(payload) {
                    contents.workflow = workflow;
                    contents.ended = kind == END;
                }
            }
            BATCH => {
                let mut rest = payload;
                while let Some((length, tail)) = rest.split_at_checked(4) {
                    let length = length.try_into().map_or(0, u32::from_le_bytes) as usize;
                    let Some((one, tail)) = tail.split_at_checked(length) else { break };
                    match codec::decode(one) {
                        Some(observation) => contents.observations.push(observation),
                        None => contents.undecodable += 1,
                    }
                    rest = tail;
                }
            }
            NUMBER => contents.commit_number = payload.try_into().ok().map(u64::from_le_bytes),
            _ => contents.undecodable += 1,
        }
        true
    })?;
    Ok(contents)
}

/// The workflow at its begin, and whether the log is being written.
pub fn head(path: &Path) -> Result<(Workflow, bool), LogError> {
    let (file, live) = open(path)?;
    let mut bytes = Vec::new();
    file.take(64 << 10).read_to_end(&mut bytes).map_err(failed("read the log", path))?;
    let mut workflow = None;
    payloads(path, &bytes, |_, payload| {
        workflow = serde_json::from_slice(payload).ok();
        false
    })?;
    let foreign = || LogError::Foreign { path: path.to_path_buf(), found: "no workflow".into() };
    Ok((workflow.ok_or_else(foreign)?, live))
}

/// Notes the number that the run has in the index.
pub fn mark(path: &Path, number: u64) -> Result<(), LogError> {
    let mut file = OpenOptions::new().append(true).open(path).map_err(failed("open the log", path))?;
    file.write_all(&frame(NUMBER, &number.to_le_bytes())).map_err(failed("write to the log", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowcept_provenance::identity::ImageNo;
    use flowcept_provenance::observation::{Freed, Lost};
    use flowcept_provenance::quantity::Nanos;

    fn observation(n: u64) -> Observation {
        Observation::Freed(Freed { image: ImageNo(n), cpu: Nanos(n * 1000) })
    }

    #[test]
    fn what_is_committed_is_read_and_a_torn_tail_is_told() {
        let folder = tempfile::tempdir().expect("because tests may write temporary files");
        let path = folder.path().join("a.log");
        let workflow = Workflow { name: "w".into(), ..Workflow::default() };
        let mut writer = Writer::create(&path, &workflow).expect("because the folder is new");
        writer.append(&observation(1));
        writer.append(&observation(2));
        writer.commit().expect("because there is room");
        assert!(read(&path).expect("because it is a log").live);
        let whole = std::fs::metadata(&path).expect("because it was written").len();
        writer.append(&Observation::Lost(Lost { source: "ring".into(), cause: "full".into(), count: 3 }));
        writer.commit().expect("because there is room");
        drop(writer);
        let bytes = std::fs::read(&path).expect("because it was written");
        for cut in whole as usize..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).expect("because there is room");
            let contents = read(&path).expect("because its begin is good");
            assert_eq!(contents.observations, [observation(1), observation(2)], "cut at {cut}");
            assert_eq!(contents.torn, (cut - whole as usize) as u64);
            assert!(!contents.live && !contents.ended);
        }
        let mut flipped = bytes.clone();
        flipped[whole as usize + 12] ^= 1;
        std::fs::write(&path, &flipped).expect("because there is room");
        assert_eq!(read(&path).expect("because its begin is good").observations.len(), 2);
        std::fs::write(&path, b"something else").expect("because there is room");
        assert!(matches!(read(&path), Err(LogError::Foreign { .. })));
    }
}
