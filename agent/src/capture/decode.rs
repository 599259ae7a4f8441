//! Wire records → observations: identities that last instead of device and inode numbers, paths as text. The one place
//! that knows both vocabularies. It has no errors, only what it could not read, counted.

use std::sync::Arc;

use flowcept_provenance::identity::{FileKey, FilesystemId, ImageNo, ProcessKey};
use flowcept_provenance::observation::{self as seen, Access, FileKind, Mechanism, Naming, Observation};
use flowcept_provenance::quantity::{BootNs, ByteCount, Nanos, Pid, UnixNs};
use flowcept_wire::library::admits;
use flowcept_wire::read::{Record, read};
use flowcept_wire::{file, gap, process};
use rustc_hash::FxHashMap;

use crate::capture::redact;

/// USER_HZ: what `/proc/PID/stat` counts starts in.
const NS_PER_CLOCK_TICK: u64 = 10_000_000;
const S_IFMT: u32 = 0o170_000;

/// A use that may have left a sum in the kernel's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The file as the kernel names it.
    pub file: file::File,
    /// As in [`file::Touched::access`].
    pub access: u32,
}

/// Decodes the records of one set of probes.
#[derive(Debug)]
pub struct Decoder {
    boot: u128,
    host: u32,
    volumes: FxHashMap<u32, FilesystemId>,
    paths: FxHashMap<Box<[u8]>, Arc<str>>,
    /// The folder of the last path, as it was walked and as text: the next often lies there too.
    folder: (Vec<u8>, String),
    /// What each living image has used and not been summed at a last close.
    open: FxHashMap<u64, Vec<Left>>,
    /// Names met, by directory: which file a name means that unlink or rename takes, where the kernel did not find it.
    /// By [`name_in`].
    names: FxHashMap<u64, file::File>,
    /// Files mapped shared and writable, with their path.
    mapped: FxHashMap<u64, Vec<(FileKey, Arc<str>)>>,
    /// Records decoded.
    pub decoded: u64,
    /// Records refused.
    pub refused: u64,
}

impl Decoder {
    /// For the running boot of this host; `host` is the digest that local filesystems carry.
    pub fn new(boot: u128, host: u32) -> Self {
        Self {
            boot,
            host,
            volumes: FxHashMap::default(),
            paths: FxHashMap::default(),
            folder: Default::default(),
            open: FxHashMap::default(),
            names: FxHashMap::default(),
            mapped: FxHashMap::default(),
            decoded: 0,
            refused: 0,
        }
    }

    /// What an image that has ended may have left in the kernel's map of sums.
    pub fn left_by(&mut self, image: u64) -> Vec<Left> {
        self.open.remove(&image).unwrap_or_default()
    }

    /// The files that an image that has ended had mapped shared and writable.
    pub fn mapped_by(&mut self, image: u64) -> Vec<(FileKey, Arc<str>)> {
        self.mapped.remove(&image).unwrap_or_default()
    }

    /// A sum fetched from the kernel's map.
    pub fn summed(&self, image: u64, left: Left, sum: flowcept_probes::Sum, at: BootNs) -> Option<Observation> {
        Some(Observation::Summed(seen::Summed {
            image: ImageNo(image),
            file: self.key(&left.file)?,
            access: access(left.access)?,
            at,
            bytes: ByteCount(sum.bytes),
            calls: sum.calls,
            first: BootNs(sum.first),
            last: BootNs(sum.last),
            last_close: false,
            state: seen::FileState::default(),
        }))
    }

    /// The root of a workflow, before it execs.
    pub fn root(&self, image: u64, pid: u32, at: BootNs) -> Observation {
        let process = ProcessKey {
            boot: self.boot,
            pid_namespace: 0,
            tgid: pid,
            start_ticks: at.0 / NS_PER_CLOCK_TICK,
            digest: 0,
        };
        let image = ImageNo(image);
        Observation::Forked(seen::Forked { image, parent: None, process, pid: Pid(pid), at, shares_memory: false })
    }

    /// Decodes one record; what it tells goes to `out`.
    pub fn decode(&mut self, bytes: &[u8], out: &mut Vec<Observation>) {
        match read(bytes) {
            Ok(record) => {
                self.decoded += 1;
                if let Some(observation) = self.observe(record) {
                    out.push(observation);
                }
            }
            Err(_) => self.refused += 1,
        }
    }

    /// What one record tells; nothing where it is the library's, which is made into these first (`spool`).
    pub(super) fn observe(&mut self, record: Record<'_>) -> Option<Observation> {
        Some(match record {
            Record::Forked(r) => Observation::Forked(seen::Forked {
                image: ImageNo(r.header.image),
                parent: Some(ImageNo(r.parent)),
                process: self.process(r.pid_namespace, r.namespace_pid, r.start, r.digest),
                pid: Pid(r.pid),
                at: BootNs(r.header.at),
                shares_memory: r.clone_flags & 0x100 != 0,
            }),
            Record::Execed(r, texts) => self.execed(&r, texts),
            Record::ExecFailed(r, asked) => Observation::ExecFailed(seen::ExecFailed {
                image: ImageNo(r.header.image),
                at: BootNs(r.header.at),
                asked: text(asked).into(),
                errno: r.errno,
            }),
            Record::Ended(r) => Observation::Ended(seen::Ended {
                image: ImageNo(r.header.image),
                at: BootNs(r.header.at),
                code: r.code,
                costs: costs(&r.costs),
            }),
            Record::Freed(r) => Observation::Freed(seen::Freed { image: ImageNo(r.header.image), cpu: Nanos(r.cpu) }),
            Record::Touched(r, walked) => {
                kind(&r.state)?;
                if r.directory.inode != 0
                    && let Some(leaf) = walked.split(|b| *b == 0).next()
                {
                    self.names.insert(name_in(&r.directory, leaf), r.file);
                }
                let path = (!walked.is_empty()).then(|| self.path(walked));
                self.touched(&r, path)?
            }
            Record::Summed(r) => self.summed_record(&r)?,
            Record::Named(r, texts) => self.named(&r, texts),
            Record::Unseen(r) => Observation::Unseen(seen::Unseen {
                image: ImageNo(r.header.image),
                at: BootNs(r.header.at),
                mechanism: mechanism(r.mechanism)?,
            }),
            Record::Began(..)
            | Record::Used(..)
            | Record::Moved(..)
            | Record::Renamed(..)
            | Record::Started(_)
            | Record::Waited(_)
            | Record::Exited(_) => return None,
        })
    }

    fn process(&self, namespace: u32, tgid: u32, start: u64, digest: u64) -> ProcessKey {
        let start_ticks = start / NS_PER_CLOCK_TICK;
        ProcessKey { boot: self.boot, pid_namespace: namespace, tgid, start_ticks, digest }
    }

    fn execed(&mut self, r: &process::Execed, texts: [&[u8]; 6]) -> Observation {
        let [executable, directory, asked, _interpreter, arguments, environment] = texts;
        let key = self.learn(&r.executable, &r.volume);
        let cut = r.argument_bytes.saturating_sub(u32::from(r.argument_text));
        let mut given = strings(arguments);
        let mut arguments_cut = cut;
        if cut > 0
            && let Ok(whole) = std::fs::read(format!("/proc/{}/cmdline", r.pid))
            && whole.starts_with(arguments)
        {
            given = strings(&whole);
            arguments_cut = 0;
        }
        let environment = strings(environment)
            .into_iter()
            .filter_map(|v| v.split_once('=').map(|(n, v)| (n.to_string(), v.to_string())))
            .filter(|(n, _)| admits(n.as_bytes()))
            .map(|(n, v)| (n.into(), redact::without_password(v).into()))
            .collect();
        Observation::Execed(Box::new(seen::Execed {
            image: ImageNo(r.header.image),
            previous: ImageNo(r.previous),
            process: self.process(r.pid_namespace, r.namespace_pid, r.start, r.digest),
            pid: Pid(r.pid),
            at: BootNs(r.header.at),
            executable: key,
            state: state(&r.state),
            executable_path: self.path(executable),
            asked: text(asked).into(),
            directory: self.path(directory),
            arguments: redact::arguments(given).into(),
            arguments_cut,
            environment,
            credentials: seen::Credentials {
                uid: r.uid,
                euid: r.euid,
                gid: r.gid,
                egid: r.egid,
                cgroup: r.cgroup,
                mount_namespace: r.mount_namespace,
                pid_namespace: r.pid_namespace,
            },
            costs: costs(&r.costs),
        }))
    }

    /// What a use tells of a file with this path, or with none.
    pub(super) fn touched(&mut self, r: &file::Touched, path: Option<Arc<str>>) -> Option<Observation> {
        let kind = kind(&r.state)?;
        let file = if r.volume.magic == 0 { self.key(&r.file)? } else { self.learn(&r.file, &r.volume) };
        let access = access(r.access)?;
        if matches!(access, Access::Read | Access::Write) {
            let left = Left { file: r.file, access: r.access };
            let open = self.open.entry(r.header.image).or_default();
            if !open.contains(&left) {
                open.push(left);
            }
        }
        // A pipe of pipefs has no name; a FIFO lies in a directory.
        let unnamed = kind == FileKind::Pipe && file.filesystem.kind() == Some("pipe");
        let path = path.filter(|_| !unnamed);
        if access == Access::MapWrite
            && let Some(path) = &path
        {
            self.mapped.entry(r.header.image).or_default().push((file, path.clone()));
        }
        Some(Observation::Touched(Box::new(seen::Touched {
            image: ImageNo(r.header.image),
            file,
            kind,
            access,
            at: BootNs(r.header.at),
            path,
            nameless: r.flags & file::NAMELESS != 0 && kind == FileKind::Regular,
            created: r.flags & file::CREATED != 0,
            truncated: r.flags & file::TRUNCATED != 0,
            executable: r.flags & file::EXECUTABLE != 0,
            uncertain: r.flags & file::UNCERTAIN != 0,
            open_file: r.open_file,
            state: state(&r.state),
        })))
    }

    fn summed_record(&mut self, r: &file::Summed) -> Option<Observation> {
        let last_close = r.flags & file::LAST_CLOSE != 0;
        if last_close && let Some(open) = self.open.get_mut(&r.header.image) {
            open.retain(|l| l.file != r.file || l.access != r.access);
        }
        Some(Observation::Summed(seen::Summed {
            image: ImageNo(r.header.image),
            file: self.key(&r.file)?,
            access: access(r.access)?,
            at: BootNs(r.header.at),
            bytes: ByteCount(r.bytes),
            calls: r.calls,
            first: BootNs(r.first),
            last: BootNs(r.last),
            last_close,
            state: state(&r.state),
        }))
    }

    fn named(&mut self, r: &file::Named, texts: [&[u8]; 5]) -> Observation {
        let [walked, base, name, base_new, name_new] = texts;
        let old_path = self.join(base, name);
        let new_path = (!name_new.is_empty())
            .then(|| if walked.is_empty() { self.join(base_new, name_new) } else { self.path(walked) });
        let naming = match r.operation {
            file::RENAME => Naming::Rename,
            file::EXCHANGE => Naming::Exchange,
            file::LINK => Naming::Link,
            file::UNLINK => Naming::Unlink,
            file::SYMLINK => Naming::Symlink,
            file::MKDIR => Naming::MakeDirectory,
            _ => Naming::RemoveDirectory,
        };
        let name_of = |directory, path: &str| name_in(directory, path.rsplit('/').next().unwrap_or("").as_bytes());
        let old = name_of(&r.directory, &old_path);
        let mut found = r.file;
        if found.inode == 0 && r.directory.inode != 0 {
            found = self.names.get(&old).copied().unwrap_or_default();
        }
        let mut inferred = false;
        let mut resolved = self.key(&found).filter(|_| found.inode != 0);
        if r.volume.magic != 0 && found.inode != 0 {
            resolved = Some(self.learn(&found, &r.volume));
        }
        if resolved.is_none()
            && let Some(path) = new_path.as_deref().filter(|_| matches!(naming, Naming::Rename | Naming::Link))
        {
            (resolved, inferred) = (self.by_result(path, r), true);
        }
        let mut replaced = r.replaced;
        if let Some(path) = &new_path {
            let new = name_of(&r.directory_new, path);
            if replaced.inode == 0 && r.directory_new.inode != 0 && matches!(naming, Naming::Rename | Naming::Exchange)
            {
                replaced = self.names.get(&new).copied().unwrap_or_default();
            }
            if found.inode != 0 && r.directory_new.inode != 0 {
                self.names.insert(new, found);
            }
        }
        match naming {
            Naming::Unlink | Naming::Rename => drop(self.names.remove(&old)),
            Naming::Exchange if replaced.inode != 0 => drop(self.names.insert(old, replaced)),
            _ => {}
        }
        Observation::Named(Box::new(seen::Named {
            image: ImageNo(r.header.image),
            at: BootNs(r.header.at),
            naming,
            file: resolved,
            directory: r.state.mode != 0 && r.state.mode & S_IFMT != 0o100_000,
            replaced: self.key(&replaced).filter(|_| replaced.inode != 0),
            old_path,
            new_path,
            state: seen::FileState { links: if r.state.mode == 0 { 1 } else { r.state.links }, ..state(&r.state) },
            inferred,
        }))
    }

    /// Last resort: the file that has the new name now, if its attributes changed in the time of the call.
    fn by_result(&self, path: &str, r: &file::Named) -> Option<FileKey> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::symlink_metadata(path).ok()?;
        let offset = super::clock::unix_ns().saturating_sub(super::clock::boot_ns());
        let ctime = (metadata.ctime() as u64 * 1_000_000_000 + metadata.ctime_nsec() as u64).saturating_sub(offset);
        // ctime is coarse: a tick may lie between it and the call.
        let slack = NS_PER_CLOCK_TICK;
        if ctime + slack < r.header.at || ctime > r.returned + slack {
            return None;
        }
        let known = self.names.values().find(|f| f.inode == metadata.ino())?;
        self.key(known)
    }

    fn join(&mut self, base: &[u8], name: &[u8]) -> Arc<str> {
        let name = text(name);
        let directory = if name.starts_with('/') { Arc::from("") } else { self.path(base) };
        let mut parts: Vec<&str> = Vec::new();
        for part in directory.split('/').chain(name.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/")).into()
    }

    /// Device numbers are reused; a filesystem is learnt again with every first touch.
    fn learn(&mut self, of: &file::File, volume: &file::Volume) -> FileKey {
        let id = if volume.uuid == [0; 16] {
            let boot = digest(&[&self.boot.to_ne_bytes(), &of.device.to_ne_bytes()]);
            FilesystemId { magic: volume.magic, host: self.host, volume: boot }
        } else {
            FilesystemId { magic: volume.magic, host: self.host, volume: digest(&[&volume.uuid]) }
        };
        self.volumes.insert(of.device, id);
        file_key(id, of)
    }

    fn key(&self, of: &file::File) -> Option<FileKey> {
        let filesystem = *self.volumes.get(&of.device)?;
        Some(file_key(filesystem, of))
    }

    /// Components leaf first, each ended by NUL, as a path. Libraries and directories come often: equal ones share memory.
    fn path(&mut self, walked: &[u8]) -> Arc<str> {
        if let Some(path) = self.paths.get(walked) {
            return path.clone();
        }
        let (leaf, rest) = walked.split_at(walked.iter().position(|b| *b == 0).unwrap_or(walked.len()));
        let (known, folder) = &mut self.folder;
        if known != rest {
            known.clear();
            known.extend_from_slice(rest);
            folder.clear();
            for component in String::from_utf8_lossy(rest).rsplit('\0').filter(|c| !c.is_empty()) {
                folder.push('/');
                folder.push_str(component);
            }
        }
        let length = folder.len();
        folder.push('/');
        folder.push_str(&String::from_utf8_lossy(leaf));
        let path: Arc<str> = folder.as_str().into();
        folder.truncate(length);
        if self.paths.len() < 4096 {
            self.paths.insert(walked.into(), path.clone());
        }
        path
    }
}

fn file_key(filesystem: FilesystemId, of: &file::File) -> FileKey {
    let generation = if file::reuses_inodes(filesystem.magic) { of.generation } else { 0 };
    FileKey { filesystem, inode: of.inode, generation }
}

/// A name, as a digest: its directory and its last part.
fn name_in(directory: &file::File, leaf: &[u8]) -> u64 {
    let file::File { inode, device, generation } = directory;
    digest(&[&inode.to_ne_bytes(), &device.to_ne_bytes(), &generation.to_ne_bytes(), leaf])
}

/// FNV-1a: names must be the same in every run, and are no secret.
pub(crate) fn digest(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .flat_map(|p| p.iter())
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Sockets, folders and the like are nobody's data.
fn kind(state: &file::State) -> Option<FileKind> {
    Some(match state.mode & S_IFMT {
        0o100_000 => FileKind::Regular,
        0o010_000 => FileKind::Pipe,
        0o020_000 => FileKind::Device,
        _ => return None,
    })
}

fn access(wire: u32) -> Option<Access> {
    Some(match wire {
        file::READ => Access::Read,
        file::WRITE => Access::Write,
        file::MAP => Access::Map,
        file::MAP_WRITE => Access::MapWrite,
        _ => return None,
    })
}

fn mechanism(wire: u32) -> Option<Mechanism> {
    Some(match wire {
        gap::IO_URING => Mechanism::IoUring,
        gap::LIBAIO => Mechanism::LinuxAio,
        gap::SOCKET => Mechanism::Socket,
        gap::SYSV_SHARED_MEMORY => Mechanism::SystemVSharedMemory,
        gap::MESSAGE_QUEUE => Mechanism::MessageQueue,
        gap::PROCESS_VM => Mechanism::ProcessVm,
        gap::COMPAT => Mechanism::Compat,
        gap::SHARED_MEMORY => Mechanism::SharedMemory,
        gap::DEDUPLICATION => Mechanism::Deduplication,
        gap::TRUNCATE_BY_NAME => Mechanism::TruncateByName,
        gap::SANDBOX => Mechanism::Sandbox,
        gap::NUMBERED_CALL => Mechanism::NumberedCall,
        _ => return None,
    })
}

fn state(wire: &file::State) -> seen::FileState {
    seen::FileState {
        size: ByteCount(wire.size),
        mtime: UnixNs(wire.mtime),
        ctime: UnixNs(wire.ctime),
        links: wire.links,
    }
}

fn costs(wire: &process::Costs) -> seen::Costs {
    seen::Costs {
        cpu: Nanos(wire.cpu),
        user: Nanos(wire.user),
        system: Nanos(wire.system),
        storage_read: ByteCount(wire.storage_read),
        storage_written: ByteCount(wire.storage_written),
        peak_memory: ByteCount(wire.peak_memory),
        peak_memory_process: ByteCount(wire.peak_memory_process),
    }
}

/// A NUL-ended text; bytes that are not UTF-8 are replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

fn strings(bytes: &[u8]) -> Vec<String> {
    let mut list: Vec<String> = bytes.split(|b| *b == 0).map(|s| String::from_utf8_lossy(s).into_owned()).collect();
    if list.last().is_some_and(String::is_empty) {
        list.pop();
    }
    list
}
