//! Observations as bytes, for the log. Reading never panics: what is not understood is none. It does not know of files.
//!
//! A tag, then the fields in the order below. Numbers are LEB128; what looks random (digests, volumes, boots) has
//! its fixed width, little endian, because LEB128 would make it longer. Times that lie near another one are the
//! distance to it.

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
    fn fixed(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
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
        self.number(f.magic.into());
        self.0.extend_from_slice(&f.host.to_le_bytes());
        self.fixed(f.volume);
        self.number(file.inode);
        // Generations are random on most filesystems.
        self.0.extend_from_slice(&file.generation.to_le_bytes());
    }
    fn optional_file(&mut self, file: Option<&FileKey>) {
        self.number(u64::from(file.is_some()));
        if let Some(file) = file {
            self.file(file);
        }
    }
    fn process(&mut self, p: &ProcessKey) {
        self.0.extend_from_slice(&p.boot.to_le_bytes());
        self.number(p.pid_namespace.into());
        self.number(p.tgid.into());
        self.number(p.start_ticks);
        self.fixed(p.digest);
    }
    fn state(&mut self, s: &FileState) {
        self.number(s.size.0);
        self.number(s.mtime.0);
        self.number(s.ctime.0.wrapping_sub(s.mtime.0));
        self.number(s.links.into());
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

/// What is left to read.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn number(&mut self) -> Option<u64> {
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
    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
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
        let [some] = self.flags()?;
        Some(if some { Some(self.text()?.into()) } else { None })
    }
    fn flags<const N: usize>(&mut self) -> Option<[bool; N]> {
        let n = self.number()?;
        // A flag that this version does not know changes what the rest means.
        if n >> N != 0 {
            return None;
        }
        Some(std::array::from_fn(|i| n >> i & 1 == 1))
    }
    fn file(&mut self) -> Option<FileKey> {
        let (magic, host) = (self.small()?, u32::from_le_bytes(self.fixed()?));
        let filesystem = FilesystemId { magic, host, volume: u64::from_le_bytes(self.fixed()?) };
        Some(FileKey { filesystem, inode: self.number()?, generation: u32::from_le_bytes(self.fixed()?) })
    }
    fn optional_file(&mut self) -> Option<Option<FileKey>> {
        let [some] = self.flags()?;
        Some(if some { Some(self.file()?) } else { None })
    }
    fn process(&mut self) -> Option<ProcessKey> {
        let boot = u128::from_le_bytes(self.fixed()?);
        let (pid_namespace, tgid, start_ticks) = (self.small()?, self.small()?, self.number()?);
        Some(ProcessKey { boot, pid_namespace, tgid, start_ticks, digest: u64::from_le_bytes(self.fixed()?) })
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
        let (size, mtime) = (self.bytes()?, self.number()?);
        let ctime = UnixNs(mtime.wrapping_add(self.number()?));
        Some(FileState { size, mtime: UnixNs(mtime), ctime, links: self.small()? })
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

numbered!(kind_number, kind, FileKind { 0 = Regular, 1 = Pipe, 2 = Device });
numbered!(access_number, access, Access { 0 = Read, 1 = Write, 2 = Map, 3 = MapWrite });
numbered!(naming_number, naming, Naming {
    0 = Rename, 1 = Exchange, 2 = Link, 3 = Unlink, 4 = Symlink, 5 = MakeDirectory, 6 = RemoveDirectory,
});
numbered!(mechanism_number, mechanism, Mechanism {
    0 = IoUring, 1 = LinuxAio, 2 = Socket, 3 = SystemVSharedMemory, 4 = MessageQueue, 5 = ProcessVm, 6 = Compat,
    7 = SharedMemory, 8 = Deduplication, 9 = TruncateByName,
});

/// Appends one observation.
pub(crate) fn encode(observation: &Observation, out: &mut Vec<u8>) {
    let mut out = Out(out);
    match observation {
        Observation::Forked(o) => {
            out.number(1);
            out.number(o.image.0);
            out.flags(&[o.shares_memory, o.parent.is_some()]);
            if let Some(parent) = o.parent {
                out.number(parent.0);
            }
            out.process(&o.process);
            out.number(o.pid.0.into());
            out.number(o.at.0);
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
            out.number(kind_number(o.kind));
            out.number(access_number(o.access));
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
            out.number(access_number(o.access));
            out.number(o.at.0);
            out.number(o.bytes.0);
            out.number(o.calls);
            out.number(o.at.0.wrapping_sub(o.first.0));
            out.number(o.at.0.wrapping_sub(o.last.0));
            out.flags(&[o.last_close]);
            out.state(&o.state);
        }
        Observation::Named(o) => {
            out.number(8);
            out.number(o.image.0);
            out.number(o.at.0);
            out.number(naming_number(o.naming));
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
            out.number(mechanism_number(o.mechanism));
        }
        Observation::Settled(o) => {
            out.number(10);
            out.number(o.image.0);
            out.file(&o.file);
            out.flags(&[o.state.is_some(), o.untold]);
            if let Some(state) = &o.state {
                out.state(state);
            }
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

/// Appends a number as LEB128.
pub(crate) fn put_number(number: u64, out: &mut Vec<u8>) {
    Out(out).number(number);
}

/// Takes a number in LEB128 off the begin.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut rest = In(bytes);
    let number = rest.number()?;
    *bytes = rest.0;
    Some(number)
}

/// One observation, if the bytes are one and nothing else.
pub(crate) fn decode(bytes: &[u8]) -> Option<Observation> {
    let mut rest = In(bytes);
    let observation = one(&mut rest)?;
    rest.0.is_empty().then_some(observation)
}

fn one(i: &mut In<'_>) -> Option<Observation> {
    Some(match i.number()? {
        1 => {
            let image = i.image()?;
            let [shares_memory, forked] = i.flags()?;
            let parent = if forked { Some(i.image()?) } else { None };
            let (process, pid, at) = (i.process()?, Pid(i.small()?), i.at()?);
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
            let (kind, access) = (kind(i.number()?)?, access(i.number()?)?);
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
            let (image, file, access) = (i.image()?, i.file()?, access(i.number()?)?);
            let (at, bytes, calls) = (i.at()?, i.bytes()?, i.number()?);
            let first = BootNs(at.0.wrapping_sub(i.number()?));
            let last = BootNs(at.0.wrapping_sub(i.number()?));
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
            let (image, at, naming) = (i.image()?, i.at()?, naming(i.number()?)?);
            let (file, replaced) = (i.optional_file()?, i.optional_file()?);
            let [directory, inferred] = i.flags()?;
            let (old_path, new_path) = (i.text()?.into(), i.optional()?);
            let state = i.state()?;
            let named = Named { image, at, naming, file, directory, replaced, old_path, new_path, state, inferred };
            Observation::Named(Box::new(named))
        }
        9 => Observation::Unseen(Unseen { image: i.image()?, at: i.at()?, mechanism: mechanism(i.number()?)? }),
        10 => {
            let (image, file) = (i.image()?, i.file()?);
            let [some, untold] = i.flags()?;
            let state = if some { Some(i.state()?) } else { None };
            Observation::Settled(Settled { image, file, state, untold })
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

    /// One of each variant, made of the given numbers, texts and flags.
    fn every(numbers: &[u64], texts: &[String], flags: &[bool]) -> Vec<Observation> {
        let mut numbers = numbers.iter().copied().cycle();
        let mut n = || numbers.next().expect("because a cycle has no end");
        let mut turns = texts.iter().cycle();
        let mut t = || turns.next().expect("because a cycle has no end").as_str();
        let mut sides = flags.iter().copied().cycle();
        let mut f = || sides.next().expect("because a cycle has no end");
        macro_rules! file {
            () => {{
                let filesystem = FilesystemId { magic: n() as u32, host: n() as u32, volume: n() };
                FileKey { filesystem, inode: n(), generation: n() as u32 }
            }};
        }
        macro_rules! state {
            () => {{
                let (size, mtime, ctime) = (ByteCount(n()), UnixNs(n()), UnixNs(n()));
                FileState { size, mtime, ctime, links: n() as u32 }
            }};
        }
        macro_rules! process {
            () => {{
                let boot = u128::from(n()) << 64 | u128::from(n());
                let (pid_namespace, tgid) = (n() as u32, n() as u32);
                ProcessKey { boot, pid_namespace, tgid, start_ticks: n(), digest: n() }
            }};
        }
        macro_rules! costs {
            () => {
                Costs {
                    cpu: Nanos(n()),
                    user: Nanos(n()),
                    system: Nanos(n()),
                    storage_read: ByteCount(n()),
                    storage_written: ByteCount(n()),
                    peak_memory: ByteCount(n()),
                    peak_memory_process: ByteCount(n()),
                }
            };
        }
        vec![
            Observation::Forked(Forked {
                image: ImageNo(n()),
                parent: f().then(|| ImageNo(n())),
                process: process!(),
                pid: Pid(n() as u32),
                at: BootNs(n()),
                shares_memory: f(),
            }),
            Observation::Execed(Box::new(Execed {
                image: ImageNo(n()),
                previous: ImageNo(n()),
                process: process!(),
                pid: Pid(n() as u32),
                at: BootNs(n()),
                executable: file!(),
                state: state!(),
                executable_path: t().into(),
                asked: t().into(),
                directory: t().into(),
                arguments: texts.iter().skip(1).map(|t| t.as_str().into()).collect(),
                arguments_cut: n() as u32,
                environment: texts.iter().skip(1).map(|t| (t.as_str().into(), t.to_uppercase().into())).collect(),
                credentials: Credentials {
                    uid: n() as u32,
                    euid: n() as u32,
                    gid: n() as u32,
                    egid: n() as u32,
                    cgroup: n(),
                    mount_namespace: n() as u32,
                    pid_namespace: n() as u32,
                },
                costs: costs!(),
            })),
            Observation::ExecFailed(ExecFailed {
                image: ImageNo(n()),
                at: BootNs(n()),
                asked: t().into(),
                errno: n() as u32,
            }),
            Observation::Ended(Ended { image: ImageNo(n()), at: BootNs(n()), code: n() as u32, costs: costs!() }),
            Observation::Freed(Freed { image: ImageNo(n()), cpu: Nanos(n()) }),
            Observation::Touched(Box::new(Touched {
                image: ImageNo(n()),
                file: file!(),
                kind: kind(n() % 3).expect("because there are three"),
                access: access(n() % 4).expect("because there are four"),
                at: BootNs(n()),
                path: f().then(|| t().into()),
                nameless: f(),
                created: f(),
                truncated: f(),
                executable: f(),
                uncertain: f(),
                open_file: n(),
                state: state!(),
            })),
            Observation::Summed(Summed {
                image: ImageNo(n()),
                file: file!(),
                access: access(n() % 4).expect("because there are four"),
                at: BootNs(n()),
                bytes: ByteCount(n()),
                calls: n(),
                first: BootNs(n()),
                last: BootNs(n()),
                last_close: f(),
                state: state!(),
            }),
            Observation::Named(Box::new(Named {
                image: ImageNo(n()),
                at: BootNs(n()),
                naming: naming(n() % 7).expect("because there are seven"),
                file: f().then(|| file!()),
                directory: f(),
                replaced: f().then(|| file!()),
                old_path: t().into(),
                new_path: f().then(|| t().into()),
                state: state!(),
                inferred: f(),
            })),
            Observation::Unseen(Unseen {
                image: ImageNo(n()),
                at: BootNs(n()),
                mechanism: mechanism(n() % 10).expect("because there are ten"),
            }),
            Observation::Settled(Settled {
                image: ImageNo(n()),
                file: file!(),
                state: f().then(|| state!()),
                untold: f(),
            }),
            Observation::Lost(Lost { source: t().into(), cause: t().into(), count: n() }),
            Observation::Counted(Counted { forked: n(), ended: n(), living: n(), written: n(), decoded: n() }),
            Observation::Left(Left { why: t().into(), at: BootNs(n()) }),
        ]
    }

    fn bytes_of(observation: &Observation) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(observation, &mut bytes);
        bytes
    }

    /// Small, large and extreme ones.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![any::<u64>(), 0..300_u64, Just(u64::MAX), Just(0)]
    }

    proptest! {
        #[test]
        fn every_variant_comes_back_whole_and_not_at_all_when_cut(
            numbers in proptest::collection::vec(number(), 31),
            texts in proptest::collection::vec(".{0,20}", 1..5),
            flags in proptest::collection::vec(any::<bool>(), 11),
        ) {
            for (tag, observation) in (1..).zip(every(&numbers, &texts, &flags)) {
                let mut bytes = bytes_of(&observation);
                prop_assert_eq!(bytes[0], tag);
                for cut in 0..bytes.len() {
                    prop_assert_eq!(decode(&bytes[..cut]), None);
                }
                let whole = decode(&bytes);
                bytes.push(0);
                prop_assert_eq!(decode(&bytes), None);
                prop_assert_eq!(whole, Some(observation));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            tag in 0..16_u8,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = decode(&bytes);
            // Most random bytes have no known tag: give them one.
            let _ = decode(&[&[tag], &*bytes].concat());
        }

        #[test]
        fn changed_bytes_are_read_without_a_panic(
            numbers in proptest::collection::vec(number(), 31),
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            for observation in every(&numbers, &["a".into(), "bc".into()], &[true, false, true]) {
                let mut bytes = bytes_of(&observation);
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let _ = decode(&bytes);
            }
        }
    }

    #[test]
    fn what_no_version_wrote_is_none() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0]), None);
        assert_eq!(decode(&[14]), None);
        // A number beyond 64 bits, and a list and a text that claim more than there is.
        assert_eq!(decode(&[5, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), None);
        assert_eq!(decode(&[13, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0]), None);
        // A text that is not UTF-8.
        assert_eq!(decode(&[13, 1, 255, 0]), None);
    }
}
