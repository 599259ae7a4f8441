//! What the images of a spool did → records as the kernel's probes write them → observations.

use flowcept_provenance::identity::ImageNo;
use flowcept_provenance::observation::{Counted, Lost, Observation};
use flowcept_provenance::quantity::BootNs;
use flowcept_wire::file::{self, File, MAP_WRITE, State, Summed, Touched};
use flowcept_wire::header::{Header, Kind, VERSION};
use flowcept_wire::library::{INHERITED, Renamed, Used};
use flowcept_wire::process::{Ended, Execed, Forked};
use flowcept_wire::read::Record;
use flowcept_wire::segment::NoSegment;

use super::images::{Act, Begun, Family, Found, Image};
use super::known::Known;
use super::volumes::Volumes;
use crate::capture::decode::Decoder;
use crate::capture::settle;

/// What was in a spool.
pub struct Taken<'k> {
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
    images: Vec<Image>,
    family: Family<'k>,
    /// By image.
    ends: Vec<Option<Ended>>,
    ends_of_known: Vec<Ended>,
    books: Counted,
    lost: Vec<Lost>,
}

impl<'k> Taken<'k> {
    pub(super) fn of(found: Found, known: &'k Known) -> Option<Self> {
        let Found { mut images, unreadable, blank, lost: unfinished, .. } = found;
        images.sort_by_key(|i| (i.began.header.at, i.began.pid));
        let root = known.root().or(images.first().map(Image::process))?;
        let family = Family::of(&images, known);
        let ends: Vec<_> = (0..images.len()).map(|place| family.end(&images, place)).collect();
        let ends_of_known = family.ends_of_known(&images);
        let own = images.iter().zip(&ends).filter(|(image, _)| image.process() == root);
        let code = own.filter_map(|(_, end)| *end).next_back().map(|end| end.code);
        let ended = ends.iter().flatten().chain(&ends_of_known).map(|end| end.header.at).max();
        let books = family.books(&images, ends.iter().flatten().count() + ends_of_known.len());
        let mut lost = Vec::new();
        let mut loss = |count: u64, cause: &str| {
            if count > 0 {
                lost.push(Lost { source: "library".into(), cause: cause.into(), count });
            }
        };
        loss(
            unfinished,
            "records for which a segment had no room, or that were not finished when their process was killed",
        );
        loss(blank, "segments for which there was no room: what their processes did is not known");
        for (count, why) in unreadable {
            match why {
                NoSegment::Foreign => loss(count, "files in the spool that are no segments"),
                NoSegment::Version(_) => loss(count, "segments that another version of the library has written"),
            }
        }
        let without = family.without(&images);
        loss(without, "processes that the library was not in (static, setuid, another C library)");
        loss(1, "system calls that a program makes itself, not through the C library, cannot be seen from inside");
        let first = images.first();
        Some(Self {
            command: first.map(Image::arguments).unwrap_or_default(),
            directory: first.map(|f| f.directory.clone()).unwrap_or_default(),
            begun: first.map_or(0, |f| f.began.header.at),
            ended,
            code: code.or(known.process(root).and_then(|p| p.code)),
            images,
            family,
            ends,
            ends_of_known,
            books,
            lost,
        })
    }

    /// About how many uses of files it has.
    pub fn uses(&self) -> usize {
        self.images.iter().map(|image| image.acts.len()).sum()
    }

    /// Hands over what is new in it, in an order in which each image begins before it does something.
    pub fn tell(self, boot: u128, host: u32, each: impl FnMut(Observation)) {
        let mut teller = Teller {
            images: &self.images,
            family: &self.family,
            decoder: Decoder::new(boot, host),
            volumes: Volumes::default(),
            each,
        };
        (0..self.images.len()).for_each(|place| teller.begin(place));
        for (place, end) in self.ends.into_iter().enumerate() {
            teller.acts(place);
            if let Some(end) = end {
                teller.observe(Record::Ended(end));
            }
            teller.settle(place);
        }
        for end in self.ends_of_known {
            teller.observe(Record::Ended(end));
        }
        (teller.each)(Observation::Counted(self.books));
        self.lost.into_iter().map(Observation::Lost).for_each(teller.each);
    }
}

/// Tells one image after another.
struct Teller<'a, E> {
    images: &'a [Image],
    family: &'a Family<'a>,
    decoder: Decoder,
    volumes: Volumes,
    each: E,
}

impl<E: FnMut(Observation)> Teller<'_, E> {
    fn observe(&mut self, record: Record<'_>) {
        self.decoder.observe(record).map(&mut self.each);
    }

    fn begin(&mut self, place: usize) {
        let image = &self.images[place];
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
        let own = self.family.number(place);
        match self.family.begun[place] {
            Begun::Forked { parent, at } => self.observe(fork(own, parent, began.digest, at)),
            Begun::Root { first } => {
                let before = BootNs(began.header.at.saturating_sub(1));
                (self.each)(self.decoder.root(first, began.pid, before));
            }
            Begun::Unseen { first, parent, at } => self.observe(fork(first, parent, 0, at)),
            Begun::Execed { .. } | Begun::Known => {}
        }
        let previous = match self.family.begun[place] {
            Begun::Forked { .. } | Begun::Known => return,
            Begun::Root { first } | Begun::Unseen { first, .. } => first,
            Begun::Execed { previous } => previous,
        };
        let path = self.volumes.real_path(&image.executable, began.executable.inode);
        let executable = walked(&path);
        let directory = walked(&image.directory);
        let arguments = &image.argument_text;
        let record = Execed {
            header: header(Kind::Execed, own, began.header.at),
            previous,
            start: began.start.saturating_mul(10_000_000),
            digest: began.digest,
            executable: began.executable,
            volume: self.volumes.of(&began.executable, &path, began.state.mode),
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
        self.observe(Record::Execed(record, texts));
    }

    /// What an image did with files and names, in order.
    fn acts(&mut self, place: usize) {
        let image = &self.images[place];
        let own = self.family.number(place);
        for act in &image.acts {
            match act {
                Act::Used(used, path) => {
                    let open_file = self.family.open_file(self.images, place, used);
                    self.used(own, used, path, open_file);
                }
                Act::Renamed(renamed, old, new) => self.renamed(own, renamed, old, new),
                Act::NotExeced(failed, asked) => {
                    let mut record = *failed;
                    record.header.image = own;
                    self.observe(Record::ExecFailed(record, asked));
                }
                Act::Unseen(unseen) => {
                    let mut record = *unseen;
                    record.header.image = own;
                    self.observe(Record::Unseen(record));
                }
            }
        }
    }

    /// How the files look that it had mapped.
    fn settle(&mut self, place: usize) {
        let own = self.family.number(place);
        for (file, path) in self.decoder.mapped_by(own) {
            (self.each)(settle::look(ImageNo(own), file, &path));
        }
    }

    fn used(&mut self, image: u64, used: &Used, path: &str, open_file: u64) {
        let (name, nameless) = match path.strip_suffix(" (deleted)") {
            Some(path) => (path, true),
            None => (path, false),
        };
        // `pipe:[4711]`, `/memfd:name`: what /proc calls things without a name.
        let named = name.starts_with('/') && !name.starts_with("/memfd:");
        let path = named.then(|| self.volumes.real_path(name, used.file.inode));
        let mut flags = used.flags & !INHERITED;
        if nameless || !named {
            flags |= file::NAMELESS;
        }
        let record = Touched {
            header: header(Kind::Touched, image, used.header.at),
            file: used.file,
            directory: File::default(),
            volume: self.volumes.of(&used.file, path.as_deref().unwrap_or_default(), used.state.mode),
            state: used.state,
            open_file,
            access: used.access,
            flags,
        };
        self.decoder.touched(&record, path).map(&mut self.each);
        let last_close = used.closed != 0;
        let last = used.last.max(used.header.at);
        let last = if last_close { last.min(used.closed) } else { last };
        if used.access == MAP_WRITE || used.access == file::MAP || used.calls == 0 && !last_close {
            return;
        }
        self.observe(Record::Summed(Summed {
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
        }));
    }

    fn renamed(&mut self, image: u64, renamed: &Renamed, old: &str, new: &str) {
        let mut real = |path: &str| match path {
            "" => Vec::new(),
            path => [self.volumes.in_real_folder(path).as_bytes(), &[0]].concat(),
        };
        let (old_name, new_name) = (real(old), real(new));
        let volume = match renamed.file.inode {
            0 => file::Volume::default(),
            _ => self.volumes.of(&renamed.file, old, renamed.state.mode),
        };
        let record = file::Named {
            header: header(Kind::Named, image, renamed.header.at),
            returned: renamed.header.at,
            file: renamed.file,
            replaced: renamed.replaced,
            volume,
            state: renamed.state,
            operation: renamed.operation,
            ..file::Named::default()
        };
        self.observe(Record::Named(record, [&[], &[], &old_name, &[], &new_name]));
    }
}

pub(super) fn header(kind: Kind, image: u64, at: u64) -> Header {
    Header { kind: kind as u16, version: VERSION, length: 0, image, at }
}

/// A path as walks have it: leaf first, each component ended by NUL.
fn walked(path: &str) -> Vec<u8> {
    path.rsplit('/').filter(|c| !c.is_empty()).flat_map(|c| c.bytes().chain([0])).collect()
}
