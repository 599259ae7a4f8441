//! What is known of each descriptor: the name that it was opened by, and the records of its use. The logic between hooks
//! and segment. It calls nothing that the program calls.
//!
//! An open for reading costs a copy of its name; the file's identity is taken at its first use. Sums are raised in the record
//! itself, so that nothing has to be told at close, exec or exit.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use flowcept_wire::file::{CREATED, MAP, MAP_WRITE, TRUNCATED, WRITE};
use flowcept_wire::gap::{self, Unseen};
use flowcept_wire::header::Kind;
use flowcept_wire::library::{INHERITED, Moved, Renamed, Used};

use crate::control::covered;
use crate::identity::{self, Met};
use crate::lifecycle::{boot_clock, boot_clock_coarse, borrowed, own_segment, segment};
use crate::raw;
use crate::segment::{self, Mine, Segment};

const SLOTS: usize = 4096;
/// Bytes of a name that a slot keeps; a longer one is noted at the open, with the file.
const NAME: usize = 228;

const O_WRONLY: c_int = 1;
const O_RDWR: c_int = 2;
const O_CREAT: c_int = 0o100;
const O_EXCL: c_int = 0o200;
const O_TRUNC: c_int = 0o1000;
const O_TMPFILE: c_int = 0o20_000_000;
const REALTIME_COARSE: c_int = 5;

/// The record that a use would have is not worth writing (a directory, a socket).
const NOTHING: u32 = u32::MAX;

struct Slot {
    /// The segment's generation in which the slot was filled; 0 for a descriptor that nobody opened here.
    generation: AtomicU32,
    /// The record of each direction (read, write, map), in steps; 0 for none.
    used: [AtomicU32; 3],
    /// Names the open file.
    open: AtomicU32,
    /// Other descriptors of the same open file were made.
    shared: AtomicU32,
    length: AtomicU32,
    name: UnsafeCell<[u8; NAME]>,
}
// SAFETY: `name` is written by the call that opens the descriptor, before the program has it; and read by calls that use it.
unsafe impl Sync for Slot {}

impl Slot {
    const fn empty() -> Self {
        Self {
            generation: AtomicU32::new(0),
            used: [const { AtomicU32::new(0) }; 3],
            open: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            length: AtomicU32::new(0),
            name: UnsafeCell::new([0; NAME]),
        }
    }

    fn clear(&self) {
        self.generation.store(0, Ordering::Relaxed);
        self.length.store(0, Ordering::Relaxed);
        self.open.store(0, Ordering::Relaxed);
        self.shared.store(0, Ordering::Relaxed);
        self.used.iter().for_each(|u| u.store(0, Ordering::Relaxed));
    }

    fn name(&self) -> &[u8] {
        let length = (self.length.load(Ordering::Relaxed) as usize).min(NAME);
        // SAFETY: see `Sync`.
        let name: &[u8; NAME] = unsafe { &*self.name.get() };
        &name[..length]
    }
}

static SLOTS_OF: [Slot; SLOTS] = [const { Slot::empty() }; SLOTS];
static OPENED: AtomicU32 = AtomicU32::new(1);

/// Stands for all descriptors of a process that has another's memory.
static NOT_OURS: Slot = Slot::empty();

fn slot(fd: c_int) -> Option<&'static Slot> {
    if borrowed() {
        NOT_OURS.clear();
        return Some(&NOT_OURS);
    }
    SLOTS_OF.get(usize::try_from(fd).ok()?)
}

/// The bytes of a C string.
pub(crate) fn bytes<'a>(text: *const c_char) -> &'a [u8] {
    // SAFETY: the program has given it to a function that takes a C string, which has read it.
    if text.is_null() { &[] } else { unsafe { CStr::from_ptr(text).to_bytes() } }
}

/// The name of the directory of a relative name, where that is not the working directory.
fn base(fd: c_int, name: &[u8], link: &mut [u8; 512]) -> usize {
    if fd == raw::HERE || name.first() == Some(&b'/') {
        return 0;
    }
    let known = slot(fd).map_or(&[][..], Slot::name);
    if !known.is_empty() {
        link[..known.len()].copy_from_slice(known);
        return known.len();
    }
    name_of_descriptor(fd, link)
}

/// As `/proc/self/fd/N` has it.
pub(crate) fn name_of_descriptor(fd: c_int, into: &mut [u8; 512]) -> usize {
    let (mut path, mut length) = (*b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0", 14);
    segment::decimal(fd.max(0) as u32, &mut |digit| {
        path[length] = digit;
        length += 1;
    });
    CStr::from_bytes_until_nul(&path).map_or(0, |path| raw::read_link(raw::HERE, path, into))
}

/// When a call that may create a file begins.
pub(crate) fn before(flags: c_int) -> u64 {
    if flags & O_CREAT != 0 { raw::clock(REALTIME_COARSE) } else { 0 }
}

/// A descriptor was made by name.
pub(crate) fn opened(fd: c_int, directory: c_int, name: *const c_char, flags: c_int, before: u64) {
    if segment::mine() == Mine::None {
        return;
    }
    let Some(slot) = slot(fd) else { return };
    slot.clear();
    if covered() {
        return;
    }
    let name = bytes(name);
    let mut link = [0; 512];
    let base = base(directory, name, &mut link);
    let slash = usize::from(base > 0);
    let length = base + slash + name.len();
    if length <= NAME {
        // SAFETY: see `Sync`; the program does not have the descriptor yet.
        let kept = unsafe { &mut *slot.name.get() };
        kept[..base].copy_from_slice(&link[..base]);
        kept[base..base + slash].fill(b'/');
        kept[base + slash..length].copy_from_slice(name);
        slot.length.store(length as u32, Ordering::Relaxed);
    }
    slot.open.store(OPENED.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    // A forked child that only opens has said nothing so far: the name stands, and whatever it becomes has the rest.
    slot.generation.store(own_segment().map_or(0, |s| s.generation), Ordering::Release);
    let writes = flags & (O_WRONLY | O_RDWR) != 0;
    let temporary = flags & O_TMPFILE == O_TMPFILE;
    let long = length > NAME;
    if !(long || temporary || flags & O_CREAT != 0 || (writes && flags & O_TRUNC != 0)) {
        return;
    }
    let Some(met) = identity::of_descriptor(fd).filter(Met::is_regular) else { return };
    // A birth that is not older than the call: nobody but it has made the file, unless somebody did within the same tick.
    let created =
        temporary || flags & O_CREAT != 0 && (flags & O_EXCL != 0 || met.born >= before && met.state.size == 0);
    let flags = match (created, writes && flags & O_TRUNC != 0) {
        (true, _) => CREATED,
        (false, true) => TRUNCATED,
        _ => 0,
    };
    if flags != 0
        && let Some(segment) = segment()
    {
        slot.generation.store(segment.generation, Ordering::Release);
        let parts: [&[u8]; 3] = [&link[..base], &b"/"[..slash], name];
        write_use(&segment, slot, &met, WRITE, flags, 0, 0, boot_clock(), &parts);
    }
}

#[expect(clippy::too_many_arguments, reason = "the fields of one record")]
fn write_use(
    segment: &Segment,
    slot: &Slot,
    met: &Met,
    access: u32,
    flags: u32,
    bytes: u64,
    calls: u64,
    at: u64,
    name: &[&[u8]],
) {
    let open = u64::from(slot.open.load(Ordering::Relaxed));
    let record = Used { file: met.file, state: met.state, bytes, calls, open, access, flags, ..Used::default() };
    let step = segment.write(Kind::Used, at, record, name);
    let direction = if access == MAP_WRITE { MAP } else { access } as usize - 1;
    slot.used[direction].store(step.unwrap_or(NOTHING), Ordering::Release);
}

/// Bytes went through a descriptor; `first` is when a write began, 0 for a read.
pub(crate) fn moved(fd: c_int, access: u32, bytes: isize, first: u64) {
    if bytes < 0 || access == WRITE && bytes == 0 {
        return;
    }
    let (Some(segment), Some(slot)) = (segment(), slot(fd)) else { return };
    let bytes = bytes as u64;
    let known = slot.generation.load(Ordering::Acquire);
    let used = &slot.used[access as usize - 1];
    let step = used.load(Ordering::Acquire);
    if known == segment.generation && step == NOTHING {
        return;
    }
    if known == segment.generation && step != 0 {
        let record = segment.record::<Used>(step);
        // SAFETY: a record of this kind lies there; its sums are changed by atomics only.
        unsafe {
            AtomicU64::from_ptr(&raw mut (*record).bytes).fetch_add(bytes, Ordering::Relaxed);
            let calls = AtomicU64::from_ptr(&raw mut (*record).calls).fetch_add(1, Ordering::Relaxed);
            let now = if calls == 0 && access == WRITE { first } else { boot_clock_coarse() };
            AtomicU64::from_ptr(&raw mut (*record).last).store(now, Ordering::Relaxed);
        }
        return;
    }
    first_use(&segment, slot, fd, access, bytes, first);
}

#[cold]
fn first_use(segment: &Segment, slot: &Slot, fd: c_int, access: u32, bytes: u64, first: u64) {
    let inherited = slot.generation.load(Ordering::Relaxed) != segment.generation;
    if inherited {
        // Of a time before this image, or of the process that it was forked from: the name may stand, the records do not.
        slot.used.iter().for_each(|u| u.store(0, Ordering::Relaxed));
        slot.open.store(0, Ordering::Relaxed);
        slot.generation.store(segment.generation, Ordering::Relaxed);
    }
    let used = &slot.used[access as usize - 1];
    let Some(met) = identity::of_descriptor(fd) else { return used.store(NOTHING, Ordering::Relaxed) };
    match met.state.mode & 0o170_000 {
        0o100_000 | 0o010_000 | 0o020_000 => {}
        0o140_000 => {
            unseen(segment, gap::SOCKET);
            return used.store(NOTHING, Ordering::Relaxed);
        }
        _ => return used.store(NOTHING, Ordering::Relaxed),
    }
    let at = if access == WRITE { first } else { boot_clock() };
    let mut link = [0; 512];
    let flags = if inherited { INHERITED } else { 0 };
    let name = name_of(slot, fd, &mut link);
    write_use(segment, slot, &met, access, flags, bytes, 1, at, &[name]);
}

/// The name that the descriptor was opened by, else that of its file.
fn name_of<'a>(slot: &'a Slot, fd: c_int, link: &'a mut [u8; 512]) -> &'a [u8] {
    if slot.name().is_empty() {
        let length = name_of_descriptor(fd, link);
        return &link[..length];
    }
    slot.name()
}

/// A mechanism that the library does not follow; told once a segment.
pub(crate) fn unseen(segment: &Segment, mechanism: u32) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    static GENERATION: AtomicU32 = AtomicU32::new(0);
    if GENERATION.swap(segment.generation, Ordering::Relaxed) != segment.generation {
        TOLD.store(0, Ordering::Relaxed);
    }
    let bit = 1 << (mechanism & 63);
    if TOLD.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        segment.write(Kind::Unseen, boot_clock(), Unseen { mechanism, ..Unseen::default() }, &[]);
    }
}

/// A file was mapped.
pub(crate) fn mapped(fd: c_int, protection: c_int, flags: c_int) {
    const MAP_SHARED: c_int = 1;
    const PROT_WRITE: c_int = 2;
    let (Some(segment), Some(slot)) = (segment(), slot(fd)) else { return };
    let known = slot.generation.load(Ordering::Acquire) == segment.generation;
    if known && slot.used[MAP as usize - 1].load(Ordering::Relaxed) != 0 {
        return;
    }
    let access = if flags & 3 == MAP_SHARED && protection & PROT_WRITE != 0 { MAP_WRITE } else { MAP };
    let Some(met) = identity::of_descriptor(fd).filter(Met::is_regular) else { return };
    let mut link = [0; 512];
    let name = name_of(slot, fd, &mut link);
    let executable = if protection & 4 != 0 { flowcept_wire::file::EXECUTABLE } else { 0 };
    write_use(&segment, slot, &met, access, executable, 0, 0, boot_clock(), &[name]);
}

/// A file was cut to nothing, or changed without a write, through a descriptor.
pub(crate) fn changed(fd: c_int, to_nothing: bool, first: u64) {
    if !to_nothing {
        return moved(fd, WRITE, 1, first);
    }
    let (Some(segment), Some(slot)) = (segment(), slot(fd)) else { return };
    let Some(met) = identity::of_descriptor(fd).filter(Met::is_regular) else { return };
    let mut link = [0; 512];
    let name = name_of(slot, fd, &mut link);
    write_use(&segment, slot, &met, WRITE, TRUNCATED, 0, 0, first, &[name]);
}

/// A descriptor is about to be closed.
pub(crate) fn closing(fd: c_int) {
    let Some(slot) = slot(fd) else { return };
    if let Some(segment) = own_segment()
        && slot.generation.load(Ordering::Relaxed) == segment.generation
        && slot.shared.load(Ordering::Relaxed) == 0
    {
        for used in slot.used[..2].iter().map(|u| u.load(Ordering::Relaxed)).filter(|u| *u != 0 && *u != NOTHING) {
            let record = segment.record::<Used>(used);
            // SAFETY: a record of this kind lies there.
            unsafe { AtomicU64::from_ptr(&raw mut (*record).closed).store(boot_clock(), Ordering::Relaxed) };
        }
    }
    slot.clear();
}

/// All descriptors from one to another are about to be closed.
pub(crate) fn closing_range(first: u32, last: u32) {
    if borrowed() {
        return;
    }
    for fd in first..=last.min(SLOTS as u32 - 1) {
        closing(fd as c_int);
    }
}

/// A descriptor became another of the same open file.
pub(crate) fn duplicated(old: c_int, new: c_int) {
    let (Some(from), Some(to)) = (slot(old), slot(new)) else { return };
    if old == new || borrowed() {
        return;
    }
    let length = from.length.load(Ordering::Relaxed);
    // SAFETY: see `Sync`; the program does not have the new descriptor yet.
    unsafe { (&mut (*to.name.get()))[..length as usize].copy_from_slice(from.name()) };
    to.length.store(length, Ordering::Relaxed);
    for (from, to) in from.used.iter().zip(&to.used) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    to.open.store(from.open.load(Ordering::Relaxed), Ordering::Relaxed);
    from.shared.store(1, Ordering::Relaxed);
    to.shared.store(1, Ordering::Relaxed);
    to.generation.store(from.generation.load(Ordering::Relaxed), Ordering::Release);
}

/// The working directory is another.
pub(crate) fn directory_changed() {
    if borrowed() {
        return;
    }
    let Some(segment) = segment() else { return };
    let mut path = [0; 4096];
    let length = raw::working_directory(&mut path);
    segment.write(Kind::Moved, boot_clock(), Moved::default(), &[&path[..length]]);
}

/// What two names mean before a call that changes one of them.
pub(crate) struct Names {
    file: Option<Met>,
    replaced: Option<Met>,
    at: u64,
}

/// Looks at the names of a call that is about to change them.
pub(crate) fn names(directory: c_int, old: *const c_char, directory_new: c_int, new: *const c_char) -> Option<Names> {
    segment()?;
    let replaced = if new.is_null() { None } else { identity::of_name(directory_new, new.cast()) };
    Some(Names { file: identity::of_name(directory, old.cast()), replaced, at: boot_clock() })
}

/// The call has changed them.
pub(crate) fn named(
    names: Option<Names>,
    operation: u32,
    directory: c_int,
    old: *const c_char,
    directory_new: c_int,
    new: *const c_char,
) {
    let (Some(segment), Some(names)) = (segment(), names) else { return };
    let (mut link, mut link_new) = ([0; 512], [0; 512]);
    let (old, new) = (bytes(old), bytes(new));
    let base = base(directory, old, &mut link);
    let base_new = self::base(directory_new, new, &mut link_new);
    let slash: &[u8] = if base > 0 { b"/" } else { b"" };
    let slash_new: &[u8] = if base_new > 0 { b"/" } else { b"" };
    let record = Renamed {
        file: names.file.map(|m| m.file).unwrap_or_default(),
        replaced: names.replaced.map(|m| m.file).unwrap_or_default(),
        state: names.file.map(|m| m.state).unwrap_or_default(),
        operation,
        old_text: (base + slash.len() + old.len()) as u32,
        ..Renamed::default()
    };
    let text = [&link[..base], slash, old, &link_new[..base_new], slash_new, new];
    segment.write(Kind::Renamed, names.at, record, &text);
}

/// A file was cut or changed by its name.
pub(crate) fn changed_by_name(name: *const c_char, to_nothing: bool, first: u64) {
    let Some(segment) = segment() else { return };
    let Some(met) = identity::of_path(raw::HERE, name.cast()).filter(Met::is_regular) else { return };
    let flags = if to_nothing { TRUNCATED } else { 0 };
    let (bytes, calls) = if to_nothing { (0, 0) } else { (0, 1) };
    let record = Used { file: met.file, state: met.state, access: WRITE, flags, bytes, calls, ..Used::default() };
    segment.write(Kind::Used, first, record, &[self::bytes(name)]);
}
