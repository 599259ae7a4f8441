//! A segment: the file in which the library keeps the records of one program image, written through a shared mapping and
//! read live or after death. It does not know what the records mean.
//!
//! It begins with a [`Begin`]; records follow, each at a multiple of [`STEP`]. A writer takes room by one atomic add to
//! [`Begin::head`], writes the record's length, then all else, and its version last: a record without a version was not
//! finished, and room without a length was taken by somebody who got no further; it is zero throughout, so that a reader
//! finds the next record a few steps on.

use crate::header::{Header, VERSION};
use crate::read::{Record, Refusal, plain, read};

/// What a segment begins with.
pub const MAGIC: [u8; 8] = *b"flowseg\n";

/// Records begin at multiples of this.
pub const STEP: usize = 64;

/// Begins every segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`] of the writer.
    pub version: u64,
    /// Where the next record goes: bytes from the begin of the file. May lie beyond its end; what does not fit is counted.
    pub head: u64,
    /// Records for which there was no room.
    pub dropped: u64,
    /// Names the segment: random.
    pub id: u64,
    /// Process id, in its own pid namespace.
    pub pid: u64,
    /// When the process called exit(3) or _exit(2), where there was no room for that record; else 0.
    pub ended: u64,
    /// Its status then.
    pub code: u64,
}

/// Why a file is no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSegment {
    /// Shorter than its begin, or another begin.
    Foreign,
    /// Written by another version.
    Version(u64),
}

/// The begin of a segment and its records.
pub fn open(bytes: &[u8]) -> Result<(Begin, Records<'_>), NoSegment> {
    let begin: Begin = plain(bytes).ok_or(NoSegment::Foreign)?;
    if begin.magic != MAGIC {
        return Err(NoSegment::Foreign);
    }
    if begin.version != u64::from(VERSION) {
        return Err(NoSegment::Version(begin.version));
    }
    let end = usize::try_from(begin.head).unwrap_or(usize::MAX).min(bytes.len());
    Ok((begin, Records { bytes: &bytes[..end], at: size_of::<Begin>(), unfinished: 0 }))
}

/// The finished records of a segment, in the order in which room was taken. While somebody writes, nothing is known of what
/// lies behind room whose length is not there yet: who reads then may look, and must not believe.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Records that were begun and not finished.
    pub unfinished: u64,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let bytes = self.bytes.get(self.at..)?;
            let header: Header = plain(bytes)?;
            let length = usize::try_from(header.length).unwrap_or(usize::MAX);
            if length == 0 {
                self.at += STEP;
                continue;
            }
            self.at = self.at.saturating_add(length.div_ceil(STEP).saturating_mul(STEP));
            if header.version == 0 {
                self.unfinished += 1;
                continue;
            }
            return Some(read(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::gap::Unseen;
    use crate::header::Kind;
    use std::vec::Vec;

    fn segment(records: &[(u32, u16)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        let head = 64 + 64 * records.len() as u64;
        [u64::from(VERSION), head, 0, 1, 2, 0, 0].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        for (length, version) in records {
            let at = bytes.len();
            bytes.extend((Kind::Unseen as u16).to_ne_bytes());
            bytes.extend(version.to_ne_bytes());
            bytes.extend(length.to_ne_bytes());
            bytes.resize(at + 64, 0);
        }
        bytes
    }

    #[test]
    fn what_was_not_finished_is_passed_over() {
        let length = size_of::<Unseen>() as u32;
        let bytes = segment(&[(length, VERSION), (length, 0), (0, 0), (length, VERSION)]);
        let (begin, mut records) = open(&bytes).expect("because it is one");
        assert_eq!(begin.pid, 2);
        assert!(matches!(records.next(), Some(Ok(Record::Unseen(_)))));
        assert!(matches!(records.next(), Some(Ok(Record::Unseen(_)))));
        assert_eq!((records.next(), records.unfinished), (None, 1));
    }

    #[test]
    fn any_bytes_are_read_to_their_end() {
        let length = size_of::<Unseen>() as u32;
        let good = segment(&[(length, VERSION), (length, VERSION)]);
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..if cfg!(miri) { 100 } else { 20_000 } {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let mut bytes = good.clone();
            let at = x as usize % bytes.len();
            bytes[at] = (x >> 32) as u8;
            bytes.truncate(good.len() - (x >> 40) as usize % 80);
            if let Ok((_, records)) = open(&bytes) {
                assert!(records.count() < 4);
            }
        }
        assert!(matches!(open(b"flowseg"), Err(NoSegment::Foreign)));
    }
}
