//! A workflow's spool, where the library has left the segments of its images → records as the kernel's probes write them →
//! observations. It does not know what follows from them.

mod images;
mod known;
mod volumes;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use flowcept_provenance::identity::ImageNo;
use flowcept_provenance::observation::{Lost, Observation};
use flowcept_wire::file::{self, File, MAP_WRITE, State, Summed, Touched};
use flowcept_wire::header::{Header, Kind, VERSION};
use flowcept_wire::library::{INHERITED, Renamed, Used};
use flowcept_wire::process::{Costs, Ended, Execed, Forked};
use flowcept_wire::read::Record;
use flowcept_wire::segment::NoSegment;

use crate::capture::decode::Decoder;
use crate::capture::settle;
use crate::store::IN_SPOOL;
use images::{Begun, Image};
pub use known::Known;
use volumes::Volumes;

/// The workflow's document in it, where `flowcept run` has made it.
pub const DOCUMENT: &str = "workflow.json";

/// What a spool held.
pub struct Taken {
    /// In an order in which each image begins before it does something.
    pub observations: Vec<Observation>,
    /// The arguments of the first image in it, redacted.
    pub command: Vec<String>,
    /// Its working directory.
    pub directory: String,
    /// Its begin, ns of CLOCK_BOOTTIME.
    pub begun: u64,
    /// Last end that was seen.
    pub ended: Option<u64>,
    /// The root's end, as wait(2) has it.
    pub code: Option<u32>,
}

/// How far a workflow in a spool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// One of its processes is there, or it has hardly begun.
    Running,
    /// All have ended.
    Finished,
    /// A library with another version of the records has written it, of this number.
    OtherVersion(u64),
    /// Nothing in it says what ran.
    Damaged,
}

/// A workflow's spool from outside.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// See [`Status`].
    pub status: Status,
    /// Segments that can be read.
    pub segments: usize,
    /// What its files take on the disk.
    pub bytes: u64,
}

/// A program that has made its folder has its first segment long before this has passed.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// The spool of a workflow, read once.
pub struct Spool<'a> {
    folder: &'a Path,
    found: images::Found,
}

impl<'a> Spool<'a> {
    /// Reads what is there now.
    pub fn open(folder: &'a Path) -> Self {
        Self { folder, found: images::read(folder) }
    }

    /// How far the workflow is, of which something is known already.
    pub fn look(&self, known: &Known) -> Look {
        let found = &self.found;
        let status = if found.images.iter().any(Image::is_alive) || known.is_alive() {
            Status::Running
        } else if !found.images.is_empty() || !known.is_empty() {
            Status::Finished
        } else if let Some(version) = found.unreadable.iter().find_map(|(_, why)| match why {
            NoSegment::Version(version) => Some(*version),
            NoSegment::Foreign => None,
        }) {
            Status::OtherVersion(version)
        } else {
            let changed = fs::symlink_metadata(self.folder).and_then(|m| m.modified()).ok();
            let young = changed.and_then(|t| t.elapsed().ok()).is_some_and(|age| age < BEGINS_WITHIN);
            if young && found.unreadable.is_empty() { Status::Running } else { Status::Damaged }
        };
        Look { status, segments: found.images.len(), bytes: found.bytes }
    }

    /// Segments that a library with another version of the records has written.
    pub fn of_another_version(&self) -> u64 {
        let of_another = |(_, why): &&(u64, NoSegment)| matches!(why, NoSegment::Version(_));
        self.found.unreadable.iter().filter(of_another).map(|(count, _)| count).sum()
    }

    /// What it tells, all of whose processes have ended: that which is new in it; none where nothing says what ran.
    pub fn tell(self, boot: u128, host: u32, known: &Known) -> Option<Taken> {
        // They may have gone on after they were read.
        let found = if images::is_final(self.folder, &self.found) { self.found } else { images::read(self.folder) };
        tell(found, boot, host, known)
    }
}

fn tell(found: images::Found, boot: u128, host: u32, known: &Known) -> Option<Taken> {
    let images::Found { mut images, unreadable, blank, lost, .. } = found;
    images.sort_by_key(|i| (i.began.header.at, i.began.pid));
    let family = images::Family::of(&images, known);
    let mut decoder = Decoder::new(boot, host);
    let mut volumes = Volumes::default();
    // Of most acts a use and its sum.
    let mut out = Vec::with_capacity(images.iter().map(|image| 4 + 2 * image.acts.len()).sum());
    let root = known.root().or(images.first().map(Image::process))?;
    let mut code = known.process(root).and_then(|p| p.code);
    for (number, image) in images.iter().enumerate() {
        begin(&mut decoder, &mut volumes, &family, number, image, &mut out);
    }
    let mut ended = None;
    for (number, image) in images.iter().enumerate() {
        uses(&mut decoder, &mut volumes, &images, &family, number, &mut out);
        if let Some(end) = family.end(&images, number) {
            ended = ended.max(Some(end.header.at));
            if image.process() == root {
                code = Some(end.code);
            }
            out.extend(decoder.observe(Record::Ended(end)));
        }
        for (file, path) in decoder.mapped_by(family.number(number)) {
            out.push(settle::look(ImageNo(family.number(number)), file, &path));
        }
    }
    let ends = family.ends_of_known(&images);
    let books = family.books(&images, ends.len());
    for end in ends {
        ended = ended.max(Some(end.header.at));
        out.extend(decoder.observe(Record::Ended(end)));
    }
    out.push(Observation::Counted(books));
    let mut loss = |count: u64, cause: &str| {
        if count > 0 {
            out.push(Observation::Lost(Lost { source: "library".into(), cause: cause.into(), count }));
        }
    };
    loss(lost, "records for which a segment had no room, or that were not finished when their process was killed");
    loss(blank, "segments for which there was no room: what their processes did is not known");
    for (count, why) in unreadable {
        match why {
            NoSegment::Foreign => loss(count, "files in the spool that are no segments"),
            NoSegment::Version(_) => loss(count, "segments that another version of the library has written"),
        }
    }
    loss(family.without(&images), "processes that the library was not in (static, setuid, another C library)");
    loss(1, "system calls that a program makes itself, not through the C library, cannot be seen from inside");
    let first = images.first();
    Some(Taken {
        observations: out,
        command: first.map(Image::arguments).unwrap_or_default(),
        directory: first.map(|f| f.directory.clone()).unwrap_or_default(),
        begun: first.map_or(0, |f| f.began.header.at),
        ended,
        code,
    })
}

fn header(kind: Kind, image: u64, at: u64) -> Header {
    Header { kind: kind as u16, version: VERSION, length: 0, image, at }
}

/// A path as walks have it: leaf first, each component ended by NUL.
fn walked(path: &str) -> Vec<u8> {
    path.rsplit('/').filter(|c| !c.is_empty()).flat_map(|c| c.bytes().chain([0])).collect()
}

fn begin(
    decoder: &mut Decoder,
    volumes: &mut Volumes,
    family: &images::Family,
    number: usize,
    image: &Image,
    out: &mut Vec<Observation>,
) {
    let began = &image.began;
    let fork = |image: u64, parent: u64, digest: u64, at: u64| {
        Record::Forked(Forked {
            header: header(Kind::Forked, image, at),
            parent,
            start: began.start.saturating_mul(10_000_000),
            clone_flags: 0,
            digest,
            pid: began.pid,
            namespace_pid: began.pid,
            pid_namespace: began.pid_namespace,
            reserved: 0,
        })
    };
    let own = family.number(number);
    match family.begun[number] {
        Begun::Forked { parent, at } => out.extend(decoder.observe(fork(own, parent, began.digest, at))),
        Begun::Root { first } => out.push(decoder.root(
            first,
            began.pid,
            flowcept_provenance::quantity::BootNs(began.header.at.saturating_sub(1)),
        )),
        Begun::Unseen { first, parent, at } => out.extend(decoder.observe(fork(first, parent, 0, at))),
        Begun::Execed { .. } | Begun::Known => {}
    }
    let previous = match family.begun[number] {
        Begun::Forked { .. } | Begun::Known => return,
        Begun::Root { first } | Begun::Unseen { first, .. } => first,
        Begun::Execed { previous } => previous,
    };
    let path = volumes.real_path(&image.executable, began.executable.inode);
    let executable = walked(&path);
    let directory = walked(&image.directory);
    let arguments = &image.argument_text;
    let record = Execed {
        header: header(Kind::Execed, own, began.header.at),
        previous,
        start: began.start.saturating_mul(10_000_000),
        digest: began.digest,
        executable: began.executable,
        volume: volumes.of(&began.executable, &path, began.state.mode),
        state: began.state,
        pid: began.pid,
        namespace_pid: began.pid,
        pid_namespace: began.pid_namespace,
        mount_namespace: began.mount_namespace,
        uid: began.uid,
        euid: began.euid,
        gid: began.gid,
        egid: began.egid,
        argument_bytes: began.argument_bytes,
        argument_text: u16::try_from(arguments.len()).unwrap_or(u16::MAX),
        ..Execed::default()
    };
    let texts = [&executable[..], &directory, b"\0", b"\0", arguments, &image.environment_text];
    out.extend(decoder.observe(Record::Execed(record, texts)));
}

/// What an image did with files and names, in order.
fn uses(
    decoder: &mut Decoder,
    volumes: &mut Volumes,
    images: &[Image],
    family: &images::Family,
    number: usize,
    out: &mut Vec<Observation>,
) {
    let image = &images[number];
    let own = family.number(number);
    for act in &image.acts {
        match act {
            images::Act::Used(used, path) => {
                let opened = family.open_file(images, number, used);
                touch(decoder, volumes, own, used, path, opened, out);
            }
            images::Act::Renamed(renamed, old, new) => {
                out.extend(rename(decoder, volumes, own, renamed, old, new));
            }
            images::Act::NotExeced(failed, asked) => {
                let mut record = *failed;
                record.header.image = own;
                out.extend(decoder.observe(Record::ExecFailed(record, asked)));
            }
            images::Act::Unseen(unseen) => {
                let mut record = *unseen;
                record.header.image = own;
                out.extend(decoder.observe(Record::Unseen(record)));
            }
        }
    }
}

fn touch(
    decoder: &mut Decoder,
    volumes: &mut Volumes,
    image: u64,
    used: &Used,
    path: &str,
    open_file: u64,
    out: &mut Vec<Observation>,
) {
    let (name, nameless) = match path.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    // `pipe:[4711]`, `/memfd:name`: what /proc calls things without a name.
    let path =
        (name.starts_with('/') && !name.starts_with("/memfd:")).then(|| volumes.real_path(name, used.file.inode));
    let mut flags = used.flags & !INHERITED;
    if nameless || path.is_none() {
        flags |= file::NAMELESS;
    }
    let record = Touched {
        header: header(Kind::Touched, image, used.header.at),
        file: used.file,
        directory: File::default(),
        volume: volumes.of(&used.file, path.as_deref().unwrap_or_default(), used.state.mode),
        state: used.state,
        open_file,
        access: used.access,
        flags,
    };
    out.extend(decoder.touched(&record, path));
    let last_close = used.closed != 0;
    let last = used.last.max(used.header.at);
    let last = if last_close { last.min(used.closed) } else { last };
    if used.access == MAP_WRITE || used.access == file::MAP || used.calls == 0 && !last_close {
        return;
    }
    let record = Summed {
        header: header(Kind::Summed, image, used.closed.max(used.last).max(used.header.at)),
        file: used.file,
        state: State::default(),
        bytes: used.bytes,
        calls: used.calls,
        first: used.header.at,
        last,
        open_file,
        access: used.access,
        flags: if last_close { file::LAST_CLOSE } else { 0 },
    };
    out.extend(decoder.observe(Record::Summed(record)));
}

fn rename(
    decoder: &mut Decoder,
    volumes: &mut Volumes,
    image: u64,
    renamed: &Renamed,
    old: &str,
    new: &str,
) -> Option<Observation> {
    let real = |volumes: &mut Volumes, path: &str| {
        if path.is_empty() { Vec::new() } else { [volumes.in_real_folder(path).as_bytes(), &[0]].concat() }
    };
    let (old_name, new_name) = (real(volumes, old), real(volumes, new));
    let record = file::Named {
        header: header(Kind::Named, image, renamed.header.at),
        returned: renamed.header.at,
        file: renamed.file,
        replaced: renamed.replaced,
        volume: if renamed.file.inode == 0 {
            file::Volume::default()
        } else {
            volumes.of(&renamed.file, old, renamed.state.mode)
        },
        state: renamed.state,
        operation: renamed.operation,
        ..file::Named::default()
    };
    decoder.observe(Record::Named(record, [&[], &[], &old_name, &[], &new_name]))
}

/// The folders of workflows in a spool, as far as they are the caller's own: what others say of themselves is theirs to take.
pub fn workflows(spool: &Path) -> Vec<std::path::PathBuf> {
    let own = nix::unistd::geteuid().as_raw();
    let entries = fs::read_dir(spool).into_iter().flatten().flatten();
    // Never through a link: only what is a folder itself.
    let folders = entries.filter(|e| e.metadata().is_ok_and(|m| m.is_dir() && m.uid() == own)).map(|e| e.path());
    folders.filter(|p| workflow_id(p).is_some()).collect()
}

/// `w-` and the workflow's id.
pub fn workflow_id(folder: &Path) -> Option<uuid::Uuid> {
    uuid::Uuid::parse_str(folder.file_name()?.to_str()?.strip_prefix(IN_SPOOL)?).ok()
}

/// Costs as an image's end tells them.
fn costs(exited: &flowcept_wire::library::Exited) -> Costs {
    Costs {
        cpu: exited.user.saturating_add(exited.system),
        user: exited.user,
        system: exited.system,
        storage_read: exited.storage_read,
        storage_written: exited.storage_written,
        peak_memory: 0,
        peak_memory_process: exited.peak_memory,
    }
}

/// The end of an image, as the kernel's probes would tell it.
fn end(image: u64, at: u64, pid: u32, code: u32, costs: Costs) -> Ended {
    Ended { header: header(Kind::Ended, image, at), costs, pid, code }
}
