//! Observations as bytes, for the log. Reading never panics: what is not understood is none.

use std::sync::Arc;

use flowcept_provenance::identity::{FileKey, FilesystemId, ImageNo, ProcessKey};
use flowcept_provenance::observation::*;
use flowcept_provenance::quantity::{BootNs, ByteCount, Nanos, Pid, UnixNs};

/// Numbers as LEB128, texts behind their length.
struct Out<'a>(&'a mut Vec<u8>);

impl Out<'_> {
    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }
    fn optional(&mut self, text: Option<&Arc<str>>) {
        self.number(u64::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }
    fn flags(&mut self, flags: &[bool]) {
        self.number(flags.iter().rev().fold(0, |n, f| n << 1 | u64::from(*f)));
    }
    fn file(&mut self, file: &FileKey) {
        let f = &file.filesystem;
        for n in [f.magic.into(), f.host.into(), f.volume, file.inode, file.generation.into()] {
            self.number(n);
        }
    }
    fn optional_file(&mut self, file: Option<&FileKey>) {
        self.number(u64::from(file.is_some()));
        if let Some(file) = file {
            self.file(file);
        }
    }
    fn process(&mut self, p: &ProcessKey) {
        for n in [(p.boot >> 64) as u64, p.boot as u64, p.pid_namespace.into(), p.tgid.into(), p.start_ticks, p.digest]
        {
            self.number(n);
        }
    }
    fn state(&mut self, s: &FileState) {
        for n in [s.size.0, s.mtime.0, s.ctime.0, s.links.into()] {
            self.number(n);
        }
    }
    fn costs(&mut self, c: &Costs) {
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

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            n |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }
    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }
    fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?.try_into().ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
    fn optional(&mut self) -> Option<Option<Arc<str>>> {
        Some(if self.number()? == 0 { None } else { Some(self.text()?.into()) })
    }
    fn flags<const N: usize>(&mut self) -> Option<[bool; N]> {
        let n = self.number()?;
        Some(std::array::from_fn(|i| n >> i & 1 == 1))
    }
    fn file(&mut self) -> Option<FileKey> {
        let filesystem = FilesystemId { magic: self.small()?, host: self.small()?, volume: self.number()? };
        Some(FileKey { filesystem, inode: self.number()?, generation: self.small()? })
    }
    fn optional_file(&mut self) -> Option<Option<FileKey>> {
        Some(if self.number()? == 0 { None } else { Some(self.file()?) })
    }
    fn process(&mut self) -> Option<ProcessKey> {
        let boot = u128::from(self.number()?) << 64 | u128::from(self.number()?);
        let (pid_namespace, tgid) = (self.small()?, self.small()?);
        Some(ProcessKey { boot, pid_namespace, tgid, start_ticks: self.number()?, digest: self.number()? })
    }
    fn image(&mut self) -> Option<ImageNo> {
        self.number().map(ImageNo)
    }
    fn at(&mut self) -> Option<BootNs> {
        self.number().map(BootNs)
    }
    fn bytes(&mut self) -> Option<ByteCount> {
        self.number().map(ByteCount)
    }
    fn nanos(&mut self) -> Option<Nanos> {
        self.number().map(Nanos)
    }
    fn state(&mut self) -> Option<FileState> {
        let (size, mtime, ctime) = (self.bytes()?, UnixNs(self.number()?), UnixNs(self.number()?));
        Some(FileState { size, mtime, ctime, links: self.small()? })
    }
    fn costs(&mut self) -> Option<Costs> {
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
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        if count > self.0.len() as u64 {
            return None;
        }
        (0..count).map(|_| one(self)).collect()
    }
}

const KINDS: [FileKind; 3] = [FileKind::Regular, FileKind::Pipe, FileKind::Device];
const ACCESSES: [Access; 4] = [Access::Read, Access::Write, Access::Map, Access::MapWrite];
const NAMINGS: [Naming; 7] = [
    Naming::Rename,
    Naming::Exchange,
    Naming::Link,
    Naming::Unlink,
    Naming::Symlink,
    Naming::MakeDirectory,
    Naming::RemoveDirectory,
];
const MECHANISMS: [Mechanism; 10] = [
    Mechanism::IoUring,
    Mechanism::LinuxAio,
    Mechanism::Socket,
    Mechanism::SystemVSharedMemory,
    Mechanism::MessageQueue,
    Mechanism::ProcessVm,
    Mechanism::Compat,
    Mechanism::SharedMemory,
    Mechanism::Deduplication,
    Mechanism::TruncateByName,
];

/// Position in one of the tables above; they hold every variant.
fn position<T: PartialEq>(table: &[T], value: &T) -> u64 {
    table.iter().position(|t| t == value).expect("because the table holds every variant") as u64
}

fn pick<T: Copy>(table: &[T], n: u64) -> Option<T> {
    usize::try_from(n).ok().and_then(|n| table.get(n)).copied()
}

/// Appends one observation.
pub(crate) fn encode(observation: &Observation, out: &mut Vec<u8>) {
    let mut out = Out(out);
    match observation {
        Observation::Forked(o) => {
            out.number(1);
            out.number(o.image.0);
            out.number(o.parent.map_or(0, |p| p.0 + 1));
            out.process(&o.process);
            out.number(o.pid.0.into());
            out.number(o.at.0);
            out.flags(&[o.shares_memory]);
        }
        Observation::Execed(o) => {
            out.number(2);
            out.number(o.image.0);
            out.number(o.previous.0);
            out.process(&o.process);
            out.number(o.pid.0.into());
            out.number(o.at.0);
            out.file(&o.executable);
            out.state(&o.state);
            for text in [&*o.executable_path, &o.asked, &o.directory] {
                out.text(text);
            }
            out.number(o.arguments.len() as u64);
            o.arguments.iter().for_each(|a| out.text(a));
            out.number(o.arguments_cut.into());
            out.number(o.environment.len() as u64);
            for (name, value) in &o.environment {
                out.text(name);
                out.text(value);
            }
            let c = &o.credentials;
            let ids = [c.uid, c.euid, c.gid, c.egid, c.mount_namespace, c.pid_namespace];
            ids.iter().for_each(|n| out.number((*n).into()));
            out.number(c.cgroup);
            out.costs(&o.costs);
        }
        Observation::ExecFailed(o) => {
            out.number(3);
            out.number(o.image.0);
            out.number(o.at.0);
            out.text(&o.asked);
            out.number(o.errno.into());
        }
        Observation::Ended(o) => {
            out.number(4);
            out.number(o.image.0);
            out.number(o.at.0);
            out.number(o.code.into());
            out.costs(&o.costs);
        }
        Observation::Freed(o) => {
            out.number(5);
            out.number(o.image.0);
            out.number(o.cpu.0);
        }
        Observation::Touched(o) => {
            out.number(6);
            out.number(o.image.0);
            out.file(&o.file);
            out.number(position(&KINDS, &o.kind));
            out.number(position(&ACCESSES, &o.access));
            out.number(o.at.0);
            out.optional(o.path.as_ref());
            out.flags(&[o.nameless, o.created, o.truncated, o.executable, o.uncertain]);
            out.number(o.open_file);
            out.state(&o.state);
        }
        Observation::Summed(o) => {
            out.number(7);
            out.number(o.image.0);
            out.file(&o.file);
            out.number(position(&ACCESSES, &o.access));
            for n in [o.at.0, o.bytes.0, o.calls, o.first.0, o.last.0] {
                out.number(n);
            }
            out.flags(&[o.last_close]);
            out.state(&o.state);
        }
        Observation::Named(o) => {
            out.number(8);
            out.number(o.image.0);
            out.number(o.at.0);
            out.number(position(&NAMINGS, &o.naming));
            out.optional_file(o.file.as_ref());
            out.optional_file(o.replaced.as_ref());
            out.flags(&[o.directory, o.inferred]);
            out.text(&o.old_path);
            out.optional(o.new_path.as_ref());
            out.state(&o.state);
        }
        Observation::Unseen(o) => {
            out.number(9);
            out.number(o.image.0);
            out.number(o.at.0);
            out.number(position(&MECHANISMS, &o.mechanism));
        }
        Observation::Settled(o) => {
            out.number(10);
            out.number(o.image.0);
            out.file(&o.file);
            out.flags(&[o.state.is_some(), o.untold]);
            out.state(&o.state.unwrap_or_default());
        }
        Observation::Lost(o) => {
            out.number(11);
            out.text(&o.source);
            out.text(&o.cause);
            out.number(o.count);
        }
        Observation::Counted(o) => {
            out.number(12);
            [o.forked, o.ended, o.living, o.written, o.decoded].iter().for_each(|n| out.number(*n));
        }
        Observation::Left(o) => {
            out.number(13);
            out.text(&o.why);
            out.number(o.at.0);
        }
    }
}

/// One observation, if the bytes are one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Observation> {
    let mut i = In(bytes);
    Some(match i.number()? {
        1 => {
            let (image, parent) = (i.image()?, i.number()?.checked_sub(1).map(ImageNo));
            let (process, pid, at) = (i.process()?, Pid(i.small()?), i.at()?);
            let [shares_memory] = i.flags()?;
            Observation::Forked(Forked { image, parent, process, pid, at, shares_memory })
        }
        2 => Observation::Execed(Box::new(Execed {
            image: i.image()?,
            previous: i.image()?,
            process: i.process()?,
            pid: Pid(i.small()?),
            at: i.at()?,
            executable: i.file()?,
            state: i.state()?,
            executable_path: i.text()?.into(),
            asked: i.text()?.into(),
            directory: i.text()?.into(),
            arguments: i.list(|i| i.text().map(Into::into))?,
            arguments_cut: i.small()?,
            environment: i.list(|i| Some((i.text()?.into(), i.text()?.into())))?,
            credentials: Credentials {
                uid: i.small()?,
                euid: i.small()?,
                gid: i.small()?,
                egid: i.small()?,
                mount_namespace: i.small()?,
                pid_namespace: i.small()?,
                cgroup: i.number()?,
            },
            costs: i.costs()?,
        })),
        3 => Observation::ExecFailed(ExecFailed {
            image: i.image()?,
            at: i.at()?,
            asked: i.text()?.into(),
            errno: i.small()?,
        }),
        4 => Observation::Ended(Ended { image: i.image()?, at: i.at()?, code: i.small()?, costs: i.costs()? }),
        5 => Observation::Freed(Freed { image: i.image()?, cpu: i.nanos()? }),
        6 => {
            let (image, file) = (i.image()?, i.file()?);
            let (kind, access) = (pick(&KINDS, i.number()?)?, pick(&ACCESSES, i.number()?)?);
            let (at, path) = (i.at()?, i.optional()?);
            let [nameless, created, truncated, executable, uncertain] = i.flags()?;
            let (open_file, state) = (i.number()?, i.state()?);
            Observation::Touched(Box::new(Touched {
                image,
                file,
                kind,
                access,
                at,
                path,
                nameless,
                created,
                truncated,
                executable,
                uncertain,
                open_file,
                state,
            }))
        }
        7 => {
            let (image, file, access) = (i.image()?, i.file()?, pick(&ACCESSES, i.number()?)?);
            let (at, bytes, calls, first, last) = (i.at()?, i.bytes()?, i.number()?, i.at()?, i.at()?);
            let [last_close] = i.flags()?;
            Observation::Summed(Summed {
                image,
                file,
                access,
                at,
                bytes,
                calls,
                first,
                last,
                last_close,
                state: i.state()?,
            })
        }
        8 => {
            let (image, at, naming) = (i.image()?, i.at()?, pick(&NAMINGS, i.number()?)?);
            let (file, replaced) = (i.optional_file()?, i.optional_file()?);
            let [directory, inferred] = i.flags()?;
            let (old_path, new_path) = (i.text()?.into(), i.optional()?);
            let state = i.state()?;
            let named = Named { image, at, naming, file, directory, replaced, old_path, new_path, state, inferred };
            Observation::Named(Box::new(named))
        }
        9 => Observation::Unseen(Unseen { image: i.image()?, at: i.at()?, mechanism: pick(&MECHANISMS, i.number()?)? }),
        10 => {
            let (image, file) = (i.image()?, i.file()?);
            let [some, untold] = i.flags()?;
            let state = i.state()?;
            Observation::Settled(Settled { image, file, state: some.then_some(state), untold })
        }
        11 => Observation::Lost(Lost { source: i.text()?.into(), cause: i.text()?.into(), count: i.number()? }),
        12 => {
            let (forked, ended, living) = (i.number()?, i.number()?, i.number()?);
            Observation::Counted(Counted { forked, ended, living, written: i.number()?, decoded: i.number()? })
        }
        13 => Observation::Left(Left { why: i.text()?.into(), at: i.at()? }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file() -> impl Strategy<Value = FileKey> {
        (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u32>()).prop_map(
            |(magic, host, volume, inode, generation)| FileKey {
                filesystem: FilesystemId { magic, host, volume },
                inode,
                generation,
            },
        )
    }

    proptest! {
        #[test]
        fn touched_and_named_come_back(f in file(), r in proptest::option::of(file()), path in ".*", flags in any::<[bool; 5]>(), n in any::<[u64; 5]>()) {
            let state = FileState { size: ByteCount(n[0]), mtime: UnixNs(n[1]), ctime: UnixNs(n[2]), links: 3 };
            let touched = Observation::Touched(Box::new(Touched {
                image: ImageNo(n[3]), file: f, kind: FileKind::Pipe, access: Access::MapWrite, at: BootNs(n[4]),
                path: flags[0].then(|| path.as_str().into()), nameless: flags[1], created: flags[2], truncated: flags[3],
                executable: flags[4], uncertain: flags[0], open_file: n[1], state,
            }));
            let named = Observation::Named(Box::new(Named {
                image: ImageNo(n[3]), at: BootNs(n[4]), naming: Naming::Link, file: r, directory: flags[0], replaced: Some(f),
                old_path: path.as_str().into(), new_path: None, state, inferred: flags[1],
            }));
            for observation in [touched, named] {
                let mut bytes = Vec::new();
                encode(&observation, &mut bytes);
                prop_assert_eq!(decode(&bytes), Some(observation));
                for cut in 0..bytes.len() {
                    let _ = decode(&bytes[..cut]);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
