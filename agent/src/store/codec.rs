//! Observations as bytes, for the log. Reading never panics: what is not understood is none. It does not know of files.
//!
//! A tag, then the fields in the order below. Times that lie near another one are the distance to it.

mod sample;

use flowcept_provenance::observation::*;
use flowcept_provenance::quantity::{BootNs, Pid};

use super::bytes::{In, Out, numbered};

numbered!(kind_number, kind, FileKind { 0 = Regular, 1 = Pipe, 2 = Device });
numbered!(access_number, access, Access { 0 = Read, 1 = Write, 2 = Map, 3 = MapWrite });
numbered!(naming_number, naming, Naming {
    0 = Rename, 1 = Exchange, 2 = Link, 3 = Unlink, 4 = Symlink, 5 = MakeDirectory, 6 = RemoveDirectory,
});
numbered!(mechanism_number, mechanism, Mechanism {
    0 = IoUring, 1 = LinuxAio, 2 = Socket, 3 = SystemVSharedMemory, 4 = MessageQueue, 5 = ProcessVm, 6 = Compat,
    7 = SharedMemory, 8 = Deduplication, 9 = TruncateByName, 10 = Sandbox,
    11 = NumberedCall,
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
            for (name, value) in &*o.environment {
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
        Observation::Sampled(o) => {
            out.number(14);
            out.sample(o);
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
            arguments: i.list(|i| i.text().map(Into::into))?.into(),
            arguments_cut: i.small()?,
            environment: i.list(|i| Some((i.text()?.into(), i.text()?.into())))?.into(),
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
        14 => Observation::Sampled(Box::new(i.sample()?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowcept_provenance::identity::{FileKey, FilesystemId, ImageNo, ProcessKey};
    use flowcept_provenance::node::{Device, Disk, Memory, Sample};
    use flowcept_provenance::quantity::{ByteCount, Nanos, UnixNs};
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
            Observation::Sampled(Box::new(Sample {
                at: BootNs(n()),
                cpu: f().then(|| [n(); 10]),
                each_cpu: vec![[n(); 10], [n(); 10]],
                memory: f().then(|| Memory { total: ByteCount(n()), swapped_out: ByteCount(n()), ..Memory::default() }),
                disk: f().then(|| Disk {
                    total: ByteCount(n()),
                    used: ByteCount(n()),
                    free: ByteCount(n()),
                    devices: vec![Device { name: t().into(), is_whole: f(), counters: [n(); 9] }],
                }),
                network: f().then(|| vec![(t().into(), [n(); 8])]),
            })),
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
