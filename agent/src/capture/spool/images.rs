//! The segments of a spool as images of processes, and who began whom. It does not know of filesystems.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use flowcept_provenance::observation::Counted;
use flowcept_wire::file::{File, WRITE};
use flowcept_wire::gap::Unseen;
use flowcept_wire::header::Kind;
use flowcept_wire::library::{BRIEF, Began, Exited, FORKED, Renamed, Started, Used, Waited};
use flowcept_wire::process::{Costs, Ended, ExecFailed};
use flowcept_wire::read::Record;
use flowcept_wire::segment::{self, NoSegment};
use rustc_hash::{FxHashMap, FxHashSet};

use super::known::Known;
use super::taken::header;
use crate::capture::redact;

/// Files in the folder that are no segments.
const OURS: [&str; 3] = [super::DOCUMENT, super::TELEMETRY, flowcept_wire::control::NAME];
/// The largest segment that the library makes.
const LIMIT: u64 = 64 << 20;

/// Bytes of a use with a name of usual length, in a segment.
const USUAL: usize = 192;

/// One segment, read.
#[derive(Debug)]
pub(super) struct Image {
    /// Names the segment.
    pub(super) id: u64,
    pub(super) began: Began,
    pub(super) executable: String,
    pub(super) directory: String,
    pub(super) argument_text: Vec<u8>,
    pub(super) environment_text: Vec<u8>,
    pub(super) acts: Vec<Act>,
    started: Vec<Started>,
    waited: Vec<Waited>,
    exited: Option<Exited>,
    /// It has called exec(3), which did not return.
    execed: bool,
}

/// Something that an image did; paths are absolute.
#[derive(Debug)]
pub(super) enum Act {
    Used(Used, String),
    Renamed(Renamed, String, String),
    Unseen(Unseen),
    NotExeced(ExecFailed, Vec<u8>),
}

/// What a folder held.
pub(super) struct Found {
    pub(super) images: Vec<Image>,
    pub(super) unreadable: Vec<(u64, NoSegment)>,
    /// Files that were made and got no room, or that are being made.
    pub(super) blank: u64,
    /// What all files take on the disk.
    pub(super) bytes: u64,
    /// Records that are not there.
    pub(super) lost: u64,
    /// Its files, and whether all were read when the process that their name says was gone.
    files: usize,
    gone: bool,
}

/// The files of a folder that may be segments.
fn files(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|e| !OURS.contains(&&*e.file_name().to_string_lossy()))
}

/// Reads all segments of a folder. Nothing in it is trusted: links are not followed, what is another's or too large is not
/// read.
pub(super) fn read(folder: &Path) -> Found {
    let mut found =
        Found { images: Vec::new(), unreadable: Vec::new(), blank: 0, bytes: 0, lost: 0, files: 0, gone: true };
    let own = nix::unistd::geteuid().as_raw();
    for entry in files(folder) {
        found.files += 1;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.split_once('-')?.0.parse().ok());
        let is_gone = pid.is_some_and(|pid: u32| !Path::new(&format!("/proc/{pid}")).exists());
        // O_NOFOLLOW; O_NONBLOCK, for a FIFO would wait for its writer.
        let file = fs::OpenOptions::new().read(true).custom_flags(0o400_000 | 0o4000).open(entry.path());
        let Ok(file) = file else { continue };
        let Some(about) = file.metadata().ok().filter(|m| m.is_file() && m.uid() == own) else { continue };
        found.bytes += about.blocks() * 512;
        if about.len() > LIMIT {
            found.unreadable.push((1, NoSegment::Foreign));
            continue;
        }
        let mut bytes = Vec::with_capacity(about.len() as usize);
        if file.take(LIMIT).read_to_end(&mut bytes).is_err() {
            continue;
        }
        found.add(&bytes);
        found.gone &= is_gone && found.images.last().is_none_or(|image| Some(image.began.pid) == pid);
    }
    found
}

/// Whether nothing can have come to what was found, where all that had begun in it has ended.
pub(super) fn is_final(folder: &Path, found: &Found) -> bool {
    found.gone && files(folder).count() == found.files
}

impl Found {
    fn add(&mut self, bytes: &[u8]) {
        match segment::open(bytes) {
            Ok((begin, records)) => {
                match Image::of(&begin, records, bytes.len().min(begin.head as usize) / USUAL, &mut self.lost) {
                    Some(image) => self.images.push(image),
                    None => self.lost = self.lost.saturating_add(1),
                }
            }
            Err(NoSegment::Foreign) if bytes.iter().take(segment::MAGIC.len()).all(|b| *b == 0) => self.blank += 1,
            Err(why) => self.unreadable.push((1, why)),
        }
    }
}

/// A name as it was given in this folder.
fn absolute(directory: &str, name: &[u8]) -> String {
    match String::from_utf8_lossy(name) {
        name if name.starts_with('/') || name.is_empty() || name.contains(":[") => name.into_owned(),
        name => [directory, "/", &name].concat(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Image {
    fn of(begin: &segment::Begin, mut records: segment::Records<'_>, acts: usize, lost: &mut u64) -> Option<Self> {
        let mut image: Option<Self> = None;
        let mut directory = String::new();
        *lost = lost.saturating_add(begin.dropped);
        for record in records.by_ref() {
            let Ok(record) = record else {
                *lost = lost.saturating_add(1);
                continue;
            };
            let absolute = |name: &[u8]| absolute(&directory, name);
            match (record, &mut image) {
                (Record::Began(began, [executable, folder, arguments, environment]), None) => {
                    directory = text(folder);
                    image = Some(Self {
                        id: begin.id,
                        began,
                        executable: self::absolute(&directory, executable),
                        directory: directory.clone(),
                        argument_text: arguments.to_vec(),
                        environment_text: environment.to_vec(),
                        acts: Vec::with_capacity(acts),
                        started: Vec::new(),
                        waited: Vec::new(),
                        exited: None,
                        execed: false,
                    });
                }
                (Record::Used(used, name), Some(image)) => image.acts.push(Act::Used(used, absolute(name))),
                (Record::Renamed(renamed, [old, new]), Some(image)) => {
                    image.acts.push(Act::Renamed(renamed, absolute(old), absolute(new)));
                }
                (Record::Moved(_, folder), Some(_)) => directory = text(folder),
                (Record::Started(started), Some(image)) => image.started.push(started),
                (Record::Waited(waited), Some(image)) => image.waited.push(waited),
                (Record::Exited(exited), Some(image)) => image.exited = Some(exited),
                (Record::ExecFailed(failed, _), Some(image)) if failed.errno == 0 => image.execed = true,
                (Record::ExecFailed(failed, asked), Some(image)) => {
                    image.acts.push(Act::NotExeced(failed, asked.to_vec()));
                }
                (Record::Unseen(unseen), Some(image)) => image.acts.push(Act::Unseen(unseen)),
                _ => *lost = lost.saturating_add(1),
            }
        }
        *lost = lost.saturating_add(records.unfinished);
        // An end for which the segment had no room.
        if let Some(image) = image.as_mut().filter(|i| i.exited.is_none() && begin.ended != 0) {
            let header = header(Kind::Exited, 0, begin.ended);
            image.exited = Some(Exited { header, code: (begin.code & 0xff) as u32, ..Exited::default() });
        }
        image
    }

    pub(super) fn process(&self) -> ProcessId {
        ProcessId { pid: self.began.pid, start: self.began.start }
    }

    /// Its arguments, redacted.
    pub(super) fn arguments(&self) -> Vec<String> {
        let words = self.argument_text.split(|b| *b == 0).map(text);
        let mut words: Vec<String> = words.collect();
        words.pop();
        redact::arguments(words).iter().map(ToString::to_string).collect()
    }

    fn writes(&self) -> impl Iterator<Item = &Used> {
        self.acts.iter().filter_map(|act| match act {
            Act::Used(used, _) if used.access == WRITE => Some(used),
            _ => None,
        })
    }

    /// Whether its process is still there, the same pid, started at the same time; or a child of it that may not have said
    /// anything yet.
    pub(super) fn is_alive(&self) -> bool {
        let child = |s: &Started| {
            let told = s.header.at / TICK;
            start_of(s.pid).is_some_and(|start| (told.saturating_sub(1)..told + FORK_TAKES).contains(&start))
        };
        start_of(self.began.pid) == Some(self.began.start) || self.started.iter().any(child)
    }
}

/// Nanoseconds of a clock tick, as /proc has it.
const TICK: u64 = 10_000_000;
/// Ticks from the moment before fork(2) to the child's start, at most.
const FORK_TAKES: u64 = 100;

/// When a process that is there started, in ticks.
pub(super) fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let zombie = fields.next() == Some("Z");
    fields.nth(18).and_then(|f| f.parse().ok()).filter(|_| !zombie)
}

/// A process: its pid in its own namespace, and its start in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProcessId {
    pub(super) pid: u32,
    pub(super) start: u64,
}

/// How an image began. Numbers are those of images, unique within the spool.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begun {
    /// It was forked.
    Forked { parent: u64, at: u64 },
    /// It is the first of all; `first` is the process's image before it.
    Root { first: u64 },
    /// It was exec'd, and the fork before that said nothing; `first` stands for that.
    Unseen { first: u64, parent: u64, at: u64 },
    /// It was exec'd by an image that is there.
    Execed { previous: u64 },
    /// It is told already.
    Known,
}

/// Who began whom, by place among the images.
pub(super) struct Family<'a> {
    known: &'a Known,
    pub(super) begun: Vec<Begun>,
    numbers: Vec<u64>,
    parents: Vec<Option<usize>>,
    previous: Vec<Option<usize>>,
    last: Vec<bool>,
    /// What was told of ends, by pid.
    waited: HashMap<u32, Vec<Waited>>,
    /// What each image opened for writing, in order, of files that others have written through a descriptor of theirs.
    opened: FxHashMap<(usize, File), Vec<Used>>,
}

impl<'a> Family<'a> {
    /// Of images in the order in which they began.
    pub(super) fn of(images: &[Image], known: &'a Known) -> Self {
        let by_id: HashMap<u64, usize> = images.iter().enumerate().map(|(i, image)| (image.id, i)).collect();
        let free = known.greatest() + 1;
        let number = |(place, image): (usize, &Image)| known.number(&image.began).unwrap_or(free + place as u64);
        let mut family = Self {
            known,
            begun: Vec::new(),
            numbers: images.iter().enumerate().map(number).collect(),
            parents: Vec::new(),
            previous: Vec::new(),
            last: Vec::new(),
            waited: HashMap::new(),
            opened: FxHashMap::default(),
        };
        let inherited: FxHashSet<File> =
            images.iter().flat_map(Image::writes).filter(|used| used.open == 0).map(|used| used.file).collect();
        for (place, image) in images.iter().enumerate() {
            for used in image.writes().filter(|used| used.open != 0 && inherited.contains(&used.file)) {
                family.opened.entry((place, used.file)).or_default().push(*used);
            }
        }
        for waited in images.iter().flat_map(|i| &i.waited) {
            family.waited.entry(waited.pid).or_default().push(*waited);
        }
        let mut started: HashMap<u32, Vec<(u64, usize)>> = HashMap::new();
        for (place, image) in images.iter().enumerate() {
            image.started.iter().for_each(|s| started.entry(s.pid).or_default().push((s.header.at, place)));
        }
        // The last image so far of a pid, and of a process.
        let (mut of_pid, mut of_process) = (HashMap::new(), HashMap::new());
        for (i, image) in images.iter().enumerate() {
            let began = &image.began;
            let previous = of_process.insert(image.process(), i);
            // Who said that it started this pid, last before it began; else the image then running in its parent process.
            let told = started.get(&began.pid).into_iter().flatten().filter(|(at, p)| *p < i && *at <= began.header.at);
            let told = told.max().copied();
            let running = of_pid.get(&began.parent_pid).map(|p| (began.header.at.saturating_sub(1), *p));
            of_pid.insert(began.pid, i);
            // Nobody is forked by himself or by who came later, whatever a damaged segment says.
            let forked = by_id.get(&began.parent).copied().filter(|p| began.flags & FORKED != 0 && *p < i);
            let parent = match (forked, previous) {
                (_, Some(previous)) => family.parents[previous].map(|p| (0, p)),
                (Some(parent), _) => Some((told.map_or(began.header.at, |t| t.0), parent)),
                (None, None) => told.or(running),
            };
            let first = free + (images.len() + i) as u64;
            let before = previous.map(|p| family.numbers[p]);
            let before = before.or_else(|| known.process(image.process()).map(|p| p.last.0));
            let running =
                || known.running(began.parent_pid).map(|(_, p)| (began.header.at.saturating_sub(1), p.last.0));
            let starter = parent.map(|(at, p)| (at, family.numbers[p])).or_else(running);
            let begun = match (before, starter) {
                _ if known.number(began).is_some() => Begun::Known,
                (Some(previous), _) => Begun::Execed { previous },
                (None, Some((at, parent))) if began.flags & FORKED != 0 => Begun::Forked { parent, at },
                (None, Some((at, parent))) => Begun::Unseen { first, parent, at },
                (None, None) => Begun::Root { first },
            };
            if let Some(previous) = previous {
                family.last[previous] = false;
            }
            family.begun.push(begun);
            family.parents.push(parent.map(|(_, p)| p));
            family.previous.push(previous);
            family.last.push(true);
        }
        family
    }

    /// The number of an image.
    pub(super) fn number(&self, place: usize) -> u64 {
        self.numbers[place]
    }

    /// How the last image of a process ended: as it said itself, or as its parent was told.
    pub(super) fn end(&self, images: &[Image], place: usize) -> Option<Ended> {
        let image = &images[place];
        if !self.last[place] {
            return None;
        }
        let told = self.waited.get(&image.began.pid).into_iter().flatten();
        let told = told.filter(|w| w.header.at >= image.began.header.at).min_by_key(|w| w.header.at);
        let number = self.number(place);
        match (&image.exited, told) {
            // What wait(2) says is also right where a signal came after exit(3) had begun.
            (Some(exited), told) => {
                let code = told.map_or(exited.code << 8, |w| w.code);
                Some(end(number, exited.header.at, image.began.pid, code, costs(exited)))
            }
            (None, Some(told)) => Some(end(number, told.header.at, image.began.pid, told.code, Costs::default())),
            (None, None) => None,
        }
    }

    /// Names the open file of a use for all images of the spool. A descriptor that was inherited is that of the nearest image
    /// before it which opened the file for writing and had not closed it.
    pub(super) fn open_file(&self, images: &[Image], place: usize, used: &Used) -> u64 {
        if used.open != 0 {
            return (place as u64 + 1) << 32 | used.open;
        }
        if used.access != WRITE {
            return 0;
        }
        let began = images[place].began.header.at;
        let mut at = self.previous[place].or(self.parents[place]);
        while let Some(place) = at {
            let opened = self.opened.get(&(place, used.file)).into_iter().flatten();
            if let Some(opener) = opened.rev().find(|u| was_open(u, began)) {
                return (place as u64 + 1) << 32 | opener.open;
            }
            at = self.previous[place].or(self.parents[place]);
        }
        0
    }

    /// How processes ended that were told before and have no segment, as their parents were told.
    pub(super) fn ends_of_known(&self, images: &[Image]) -> Vec<Ended> {
        let own: HashSet<ProcessId> = images.iter().map(Image::process).collect();
        let ends = self.waited.iter().filter_map(|(pid, told)| {
            let (id, process) = self.known.running(*pid)?;
            let first = told.iter().min_by_key(|w| w.header.at).filter(|_| !own.contains(&id))?;
            Some(end(process.last.0, first.header.at, *pid, first.code, Costs::default()))
        });
        ends.collect()
    }

    /// Processes that began, and ended as [`Self::end`] and [`Self::ends_of_known`] tell, and what was read of them.
    pub(super) fn books(&self, images: &[Image], ended: usize) -> Counted {
        let processes = (0..images.len()).filter(|i| self.last[*i]);
        let before = self.known.processes().filter(|(_, p)| p.code.is_some()).count();
        let ended = (ended + before) as u64;
        let new = processes.filter(|i| self.known.process(images[*i].process()).is_none()).count();
        let forked = (new + self.known.processes().count()) as u64;
        let records = images.iter().map(|i| 1 + (i.acts.len() + i.started.len() + i.waited.len()) as u64).sum();
        Counted { forked, ended, living: 0, written: records, decoded: records }
    }

    /// Processes that were started or waited for and left no segment, and those whose last image did not come to an end and has
    /// left none to the next.
    pub(super) fn without(&self, images: &[Image]) -> u64 {
        let brief = images.iter().flat_map(|i| &i.started).filter(|s| s.flags & BRIEF != 0).map(|s| s.pid);
        let before = self.known.processes().map(|(id, _)| id.pid);
        let known: HashSet<u32> = images.iter().map(|i| i.began.pid).chain(brief).chain(before).collect();
        let mut unknown: Vec<u32> = images
            .iter()
            .flat_map(|i| i.started.iter().map(|s| s.pid).chain(i.waited.iter().map(|w| w.pid)))
            .filter(|pid| !known.contains(pid))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        let left = images.iter().zip(&self.last).filter(|(image, last)| **last && image.execed).count();
        (unknown.len() + left) as u64
    }
}

/// Whether what was opened was open at this time.
fn was_open(used: &Used, at: u64) -> bool {
    used.header.at <= at && (used.closed == 0 || used.closed >= at)
}

/// Costs as an image's end tells them.
fn costs(exited: &Exited) -> Costs {
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
