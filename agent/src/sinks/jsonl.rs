//! A file with a document a line, as Flowcept's reports and agent read it. It is open only while it is written, so that others may move
//! it away (logrotate).

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Sink, Undelivered};

/// A file that grows.
pub struct Jsonl {
    path: PathBuf,
    place: String,
}

impl Jsonl {
    /// The file is made when there is something to deliver.
    pub fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).context("the name of a file is missing")?;
        Ok(Self { place: format!("jsonl:{}", path.display()), path })
    }
}

impl Sink for Jsonl {
    fn place(&self) -> &str {
        &self.place
    }

    fn replaces(&self) -> bool {
        false
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let lines: String = documents.iter().map(|document| format!("{document}\n")).collect();
        appended(&self.path, &lines).map_err(|why| {
            let said = format!("{}: {why}", self.place);
            match why.kind() {
                ErrorKind::PermissionDenied | ErrorKind::NotFound | ErrorKind::IsADirectory => Undelivered::Ever(said),
                _ => Undelivered::Now(said),
            }
        })
    }
}

/// All lines, or none.
fn appended(path: &Path, lines: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
    // Several stores may come to one file.
    file.lock()?;
    let whole = whole(&mut file)?;
    if whole < file.metadata()?.len() {
        file.set_len(whole)?;
    }
    let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data());
    if written.is_err() {
        // What is left of them is no line, and is removed the next time if it cannot be now.
        let _ = file.set_len(whole);
    }
    written
}

/// Bytes up to the end of the last line; what follows was torn.
fn whole(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
    }
    if last == *b"\n" {
        return Ok(length);
    }
    file.rewind()?;
    let (mut reader, mut end) = (BufReader::new(file), 0);
    loop {
        let read = reader.skip_until(b'\n')? as u64;
        if read == 0 || end + read == length {
            return Ok(end);
        }
        end += read;
    }
}
