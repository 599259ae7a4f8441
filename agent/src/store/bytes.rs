//! How numbers, texts and identities are written as bytes, in the log and in the index. Reading never panics: what is not
//! understood is none.
//!
//! Numbers are LEB128; what looks random (digests, volumes, boots) has its fixed width, little endian, because LEB128
//! would make it longer.

use std::sync::Arc;

use flowcept_provenance::identity::{FileKey, FilesystemId, ImageNo, ProcessKey};
use flowcept_provenance::observation::{Costs, FileState};
use flowcept_provenance::quantity::{BootNs, ByteCount, Nanos, UnixNs};

/// Numbers as LEB128, texts behind their length.
pub(super) struct Out<'a>(pub(super) &'a mut Vec<u8>);

impl Out<'_> {
    pub(super) fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }
    pub(super) fn fixed(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }
    pub(super) fn optional(&mut self, text: Option<&Arc<str>>) {
        self.number(u64::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }
    pub(super) fn flags(&mut self, flags: &[bool]) {
        self.number(flags.iter().rev().fold(0, |n, f| n << 1 | u64::from(*f)));
    }
    pub(super) fn file(&mut self, file: &FileKey) {
        let f = &file.filesystem;
        self.number(f.magic.into());
        self.0.extend_from_slice(&f.host.to_le_bytes());
        self.fixed(f.volume);
        self.number(file.inode);
        // Generations are random on most filesystems.
        self.0.extend_from_slice(&file.generation.to_le_bytes());
    }
    pub(super) fn optional_file(&mut self, file: Option<&FileKey>) {
        self.number(u64::from(file.is_some()));
        if let Some(file) = file {
            self.file(file);
        }
    }
    pub(super) fn process(&mut self, p: &ProcessKey) {
        self.0.extend_from_slice(&p.boot.to_le_bytes());
        self.number(p.pid_namespace.into());
        self.number(p.tgid.into());
        self.number(p.start_ticks);
        self.fixed(p.digest);
    }
    pub(super) fn state(&mut self, s: &FileState) {
        self.number(s.size.0);
        self.number(s.mtime.0);
        self.number(s.ctime.0.wrapping_sub(s.mtime.0));
        self.number(s.links.into());
    }
    pub(super) fn costs(&mut self, c: &Costs) {
        for n in [
            c.cpu.0,
            c.user.0,
            c.system.0,
            c.storage_read.0,
            c.storage_written.0,
            c.peak_memory.0,
            c.peak_memory_process.0,
        ] {
            self.number(n);
        }
    }
}

/// What is left to read.
pub(super) struct In<'a>(pub(super) &'a [u8]);

impl<'a> In<'a> {
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            // The tenth byte has room for one bit only; more of them were never written by us.
            if shift == 63 && *byte > 1 {
                return None;
            }
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }
    pub(super) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }
    pub(super) fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }
    pub(super) fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?.try_into().ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
    pub(super) fn optional(&mut self) -> Option<Option<Arc<str>>> {
        let [some] = self.flags()?;
        Some(if some { Some(self.text()?.into()) } else { None })
    }
    pub(super) fn flags<const N: usize>(&mut self) -> Option<[bool; N]> {
        let n = self.number()?;
        // A flag that this version does not know changes what the rest means.
        if n >> N != 0 {
            return None;
        }
        Some(std::array::from_fn(|i| n >> i & 1 == 1))
    }
    pub(super) fn file(&mut self) -> Option<FileKey> {
        let (magic, host) = (self.small()?, u32::from_le_bytes(self.fixed()?));
        let filesystem = FilesystemId { magic, host, volume: u64::from_le_bytes(self.fixed()?) };
        Some(FileKey { filesystem, inode: self.number()?, generation: u32::from_le_bytes(self.fixed()?) })
    }
    pub(super) fn optional_file(&mut self) -> Option<Option<FileKey>> {
        let [some] = self.flags()?;
        Some(if some { Some(self.file()?) } else { None })
    }
    pub(super) fn process(&mut self) -> Option<ProcessKey> {
        let boot = u128::from_le_bytes(self.fixed()?);
        let (pid_namespace, tgid, start_ticks) = (self.small()?, self.small()?, self.number()?);
        Some(ProcessKey { boot, pid_namespace, tgid, start_ticks, digest: u64::from_le_bytes(self.fixed()?) })
    }
    pub(super) fn image(&mut self) -> Option<ImageNo> {
        self.number().map(ImageNo)
    }
    pub(super) fn at(&mut self) -> Option<BootNs> {
        self.number().map(BootNs)
    }
    pub(super) fn bytes(&mut self) -> Option<ByteCount> {
        self.number().map(ByteCount)
    }
    pub(super) fn nanos(&mut self) -> Option<Nanos> {
        self.number().map(Nanos)
    }
    pub(super) fn state(&mut self) -> Option<FileState> {
        let (size, mtime) = (self.bytes()?, self.number()?);
        let ctime = UnixNs(mtime.wrapping_add(self.number()?));
        Some(FileState { size, mtime: UnixNs(mtime), ctime, links: self.small()? })
    }
    pub(super) fn costs(&mut self) -> Option<Costs> {
        Some(Costs {
            cpu: self.nanos()?,
            user: self.nanos()?,
            system: self.nanos()?,
            storage_read: self.bytes()?,
            storage_written: self.bytes()?,
            peak_memory: self.bytes()?,
            peak_memory_process: self.bytes()?,
        })
    }
    /// A list whose length is bounded by the bytes that are left.
    pub(super) fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        if count > self.0.len() as u64 {
            return None;
        }
        (0..count).map(|_| one(self)).collect()
    }
}

/// Numbers for the variants of an enum. The compiler asks for one when a variant is added; the order of declaration
/// is free to change without the format.
macro_rules! numbered {
    ($to:ident, $from:ident, $of:ident { $($number:literal = $variant:ident),* $(,)? }) => {
        fn $to(value: $of) -> u64 {
            match value {
                $($of::$variant => $number,)*
            }
        }
        fn $from(number: u64) -> Option<$of> {
            match number {
                $($number => Some($of::$variant),)*
                _ => None,
            }
        }
    };
}
pub(super) use numbered;
