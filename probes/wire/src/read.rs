//! `&[u8]` → record. Checks everything and panics never; it does not know what a record means.

use crate::file::{Named, Summed, Touched};
use crate::gap::Unseen;
use crate::header::{Header, Kind, VERSION};
use crate::library::{Began, Exited, Moved, Renamed, Started, Used, Waited};
use crate::process::{Ended, ExecFailed, Execed, Forked, Freed};

/// A record, its text divided into parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// See [`Forked`].
    Forked(Forked),
    /// See [`Execed`]; parts in the order of its `*_text` fields.
    Execed(Execed, [&'a [u8]; 6]),
    /// See [`ExecFailed`]; the name given.
    ExecFailed(ExecFailed, &'a [u8]),
    /// See [`Ended`].
    Ended(Ended),
    /// See [`Freed`].
    Freed(Freed),
    /// See [`Touched`]; the path, leaf first.
    Touched(Touched, &'a [u8]),
    /// See [`Summed`].
    Summed(Summed),
    /// See [`Named`]; parts in the order of its `*_text` fields.
    Named(Named, [&'a [u8]; 5]),
    /// See [`Unseen`].
    Unseen(Unseen),
    /// See [`Began`]; parts in the order of its `*_text` fields.
    Began(Began, [&'a [u8]; 4]),
    /// See [`Used`]; the name.
    Used(Used, &'a [u8]),
    /// See [`Moved`]; the directory.
    Moved(Moved, &'a [u8]),
    /// See [`Renamed`]; both names.
    Renamed(Renamed, [&'a [u8]; 2]),
    /// See [`Started`].
    Started(Started),
    /// See [`Waited`].
    Waited(Waited),
    /// See [`Exited`].
    Exited(Exited),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Fewer bytes than a header, than the header says, or than the kind needs.
    Short,
    /// Written by another version of this crate.
    Version(u16),
    /// No kind of this version.
    Kind(u16),
    /// The parts of the text do not add up to the text.
    Text,
}

/// A struct of integers that may be read from any bytes.
pub(crate) trait Plain: Copy + Default {}
impl Plain for Header {}
impl Plain for Forked {}
impl Plain for Execed {}
impl Plain for ExecFailed {}
impl Plain for Ended {}
impl Plain for Freed {}
impl Plain for Touched {}
impl Plain for Summed {}
impl Plain for Named {}
impl Plain for Unseen {}
impl Plain for Began {}
impl Plain for Used {}
impl Plain for Moved {}
impl Plain for Renamed {}
impl Plain for Started {}
impl Plain for Waited {}
impl Plain for Exited {}
impl Plain for crate::segment::Begin {}

/// The fixed part at the begin of some bytes; none where they are fewer.
pub(crate) fn plain<T: Plain>(bytes: &[u8]) -> Option<T> {
    split(bytes).ok().map(|(value, _)| value)
}

/// The fixed part and the text behind it.
fn split<T: Plain>(bytes: &[u8]) -> Result<(T, &[u8]), Refusal> {
    let size = size_of::<T>();
    let (fixed, text) = bytes.split_at_checked(size).ok_or(Refusal::Short)?;
    let mut value = T::default();
    #[expect(unsafe_code, reason = "records are read at whatever alignment the ring has")]
    // SAFETY: `T: Plain` is `repr(C)` of integers, for which any bytes are valid; `fixed` has exactly `size` bytes and
    // does not overlap `value`, which is a local.
    unsafe {
        core::ptr::copy_nonoverlapping(fixed.as_ptr(), (&raw mut value).cast::<u8>(), size);
    }
    Ok((value, text))
}

/// Divides a text; the parts must be all of it.
fn parts<const N: usize>(mut text: &[u8], lengths: [usize; N]) -> Result<[&[u8]; N], Refusal> {
    let mut out = [&[][..]; N];
    for (part, length) in out.iter_mut().zip(lengths) {
        (*part, text) = text.split_at_checked(length).ok_or(Refusal::Text)?;
    }
    if text.is_empty() { Ok(out) } else { Err(Refusal::Text) }
}

/// A record without text.
fn bare<T: Plain>(bytes: &[u8]) -> Result<T, Refusal> {
    let (value, text) = split(bytes)?;
    if text.is_empty() { Ok(value) } else { Err(Refusal::Text) }
}

/// Reads one record. `bytes` may be longer than the record (rings round up to eight).
pub fn read(bytes: &[u8]) -> Result<Record<'_>, Refusal> {
    let (header, _) = split::<Header>(bytes)?;
    if header.version != VERSION {
        return Err(Refusal::Version(header.version));
    }
    let bytes = usize::try_from(header.length).ok().and_then(|n| bytes.get(..n)).ok_or(Refusal::Short)?;
    const FORKED: u16 = Kind::Forked as u16;
    const EXECED: u16 = Kind::Execed as u16;
    const EXEC_FAILED: u16 = Kind::ExecFailed as u16;
    const ENDED: u16 = Kind::Ended as u16;
    const FREED: u16 = Kind::Freed as u16;
    const TOUCHED: u16 = Kind::Touched as u16;
    const SUMMED: u16 = Kind::Summed as u16;
    const NAMED: u16 = Kind::Named as u16;
    const UNSEEN: u16 = Kind::Unseen as u16;
    const BEGAN: u16 = Kind::Began as u16;
    const USED: u16 = Kind::Used as u16;
    const MOVED: u16 = Kind::Moved as u16;
    const RENAMED: u16 = Kind::Renamed as u16;
    const STARTED: u16 = Kind::Started as u16;
    const WAITED: u16 = Kind::Waited as u16;
    const EXITED: u16 = Kind::Exited as u16;
    Ok(match header.kind {
        FORKED => Record::Forked(bare(bytes)?),
        EXECED => {
            let (r, text) = split::<Execed>(bytes)?;
            let lengths = [
                r.executable_text,
                r.directory_text,
                r.asked_text,
                r.interpreter_text,
                r.argument_text,
                r.environment_text,
            ];
            Record::Execed(r, parts(text, lengths.map(usize::from))?)
        }
        EXEC_FAILED => {
            let (r, text) = split::<ExecFailed>(bytes)?;
            if usize::try_from(r.asked_text) != Ok(text.len()) {
                return Err(Refusal::Text);
            }
            Record::ExecFailed(r, text)
        }
        ENDED => Record::Ended(bare(bytes)?),
        FREED => Record::Freed(bare(bytes)?),
        TOUCHED => {
            let (r, text) = split::<Touched>(bytes)?;
            Record::Touched(r, text)
        }
        SUMMED => Record::Summed(bare(bytes)?),
        NAMED => {
            let (r, text) = split::<Named>(bytes)?;
            let lengths = [r.walked_text, r.base_text, r.name_text, r.base_new_text, r.name_new_text];
            Record::Named(r, parts(text, lengths.map(usize::from))?)
        }
        UNSEEN => Record::Unseen(bare(bytes)?),
        BEGAN => {
            let (r, text) = split::<Began>(bytes)?;
            let lengths = [r.executable_text, r.directory_text, r.argument_text, r.environment_text];
            Record::Began(r, parts(text, lengths.map(usize::from))?)
        }
        USED => {
            let (r, text) = split::<Used>(bytes)?;
            Record::Used(r, text)
        }
        MOVED => {
            let (r, text) = split::<Moved>(bytes)?;
            Record::Moved(r, text)
        }
        RENAMED => {
            let (r, text) = split::<Renamed>(bytes)?;
            let old = usize::try_from(r.old_text).map_err(|_| Refusal::Text)?;
            let (old, new) = text.split_at_checked(old).ok_or(Refusal::Text)?;
            Record::Renamed(r, [old, new])
        }
        STARTED => Record::Started(bare(bytes)?),
        WAITED => Record::Waited(bare(bytes)?),
        EXITED => Record::Exited(bare(bytes)?),
        other => return Err(Refusal::Kind(other)),
    })
}

/// The body of the fuzz target `wire`: whatever the bytes, reading them ends without a panic and a record read is no
/// longer than its bytes.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(record) = read(bytes) {
        let text = match record {
            Record::Execed(_, parts) => parts.iter().map(|p| p.len()).sum(),
            Record::Named(_, parts) => parts.iter().map(|p| p.len()).sum(),
            Record::Began(_, parts) => parts.iter().map(|p| p.len()).sum(),
            Record::Renamed(_, parts) => parts.iter().map(|p| p.len()).sum(),
            Record::Touched(_, text) | Record::ExecFailed(_, text) | Record::Used(_, text) | Record::Moved(_, text) => {
                text.len()
            }
            _ => 0,
        };
        assert!(text < bytes.len(), "because text follows a header");
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn record(kind: u16, version: u16, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(version.to_ne_bytes());
        bytes.extend(u32::try_from(length).expect("because tests are small").to_ne_bytes());
        bytes.resize(length.max(24), 0);
        bytes
    }

    #[test]
    fn reads_what_the_header_promises_and_no_more() {
        let freed = record(Kind::Freed as u16, VERSION, size_of::<Freed>());
        assert!(matches!(read(&freed), Ok(Record::Freed(_))));
        let mut padded = freed.clone();
        padded.extend([9; 7]);
        assert!(matches!(read(&padded), Ok(Record::Freed(_))));
        for cut in 0..freed.len() {
            assert_eq!(read(&freed[..cut]), Err(Refusal::Short), "cut at {cut}");
        }
    }

    #[test]
    fn refuses_other_versions_kinds_and_texts() {
        assert_eq!(read(&record(5, VERSION + 1, 32)), Err(Refusal::Version(VERSION + 1)));
        assert_eq!(read(&record(77, VERSION, 32)), Err(Refusal::Kind(77)));
        assert_eq!(read(&record(Kind::Freed as u16, VERSION, size_of::<Freed>() + 8)), Err(Refusal::Text));
        let mut named = record(Kind::Named as u16, VERSION, size_of::<Named>() + 4);
        assert_eq!(read(&named), Err(Refusal::Text));
        let at = core::mem::offset_of!(Named, name_text);
        named[at] = 4;
        assert!(matches!(read(&named), Ok(Record::Named(_, [_, _, n, _, _])) if n.len() == 4));
    }

    /// The seeds of the fuzz target: every kind at every length, and bytes from a small generator.
    #[test]
    fn fuzz_seeds() {
        // Miri takes a thousand times as long.
        let (step, rounds) = if cfg!(miri) { (23, 100) } else { (1, 20_000) };
        for kind in 0..24 {
            for length in (0..400).step_by(step) {
                let mut bytes = record(kind, VERSION, length);
                fuzz(&bytes);
                for (i, b) in bytes.iter_mut().enumerate().skip(24) {
                    *b = (i * 37) as u8;
                }
                fuzz(&bytes);
            }
        }
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..rounds {
            let mut bytes = Vec::new();
            for _ in 0..40 {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                bytes.extend(x.to_ne_bytes());
            }
            bytes[0..2].copy_from_slice(&(x as u16 % 24).to_ne_bytes());
            bytes[2..4].copy_from_slice(&VERSION.to_ne_bytes());
            bytes[4..8].copy_from_slice(&(x as u32 % 340).to_ne_bytes());
            fuzz(&bytes);
        }
    }
}
