//! The mapped segment of this process's image: how it is made, how records get their room in it. It does not know what they
//! say.
//!
//! One mapping, far larger than the file at first; the file grows in steps, each of which is allocated before it is used, so
//! that a full disk is a record less and no SIGBUS. Reserve, fill, commit: see [`flowcept_wire::segment`].

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};

use flowcept_wire::header::{Header, Kind, VERSION};
use flowcept_wire::ring::{self, Memory};
use flowcept_wire::segment::{Begin, MAGIC, STEP};

use crate::raw;

/// Address space of the mapping: the most that a segment can hold.
const LIMIT: u64 = 64 << 20;
/// Bytes that a segment has at first: most programs are short.
const FIRST: u64 = 4 << 10;
/// The most by which it grows at once.
const GROWTH: u64 = 1 << 20;
/// Longest path of a spool.
pub(crate) const SPOOL: usize = 512;

const SHARED: usize = 1;
/// O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW, O_CLOEXEC.
const MAKE: usize = 0o2 | 0o100 | 0o200 | 0o400_000 | 0o2_000_000;
/// O_RDWR, O_NOFOLLOW, O_CLOEXEC.
const AGAIN: usize = 0o2 | 0o400_000 | 0o2_000_000;

/// A path in memory of our own, ended by NUL.
struct Path(UnsafeCell<[u8; SPOOL + 64]>);
// SAFETY: written before threads can be (constructor), in a child with one thread (after fork), or by the one thread that begins
// late (`lifecycle::late`); else only read.
unsafe impl Sync for Path {}

static BASE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static WAITING: AtomicBool = AtomicBool::new(false);
static SIZE: AtomicU64 = AtomicU64::new(0);
/// The process that made it.
static PID: AtomicU32 = AtomicU32::new(0);
static ID: AtomicU64 = AtomicU64::new(0);
/// Raised with every segment: what was noted of descriptors belongs to the segment of that generation.
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// The mapped segment is that of the process which forked this one.
static FORKED: AtomicBool = AtomicBool::new(false);
/// Children are made by calls that nobody sees return.
static UNSEEN_FORKS: AtomicBool = AtomicBool::new(false);
static FOLDER: Path = Path(UnsafeCell::new([0; SPOOL + 64]));
static FILE: Path = Path(UnsafeCell::new([0; SPOOL + 64]));

/// The segment of this process.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    base: *mut u8,
    /// Which one, counted in this process and those that it was forked from.
    pub(crate) generation: u32,
}

/// Whether this process has a segment, and whether it is its own: a forked child has its parent's mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mine {
    /// Nothing is written: there is no spool, or no room for it.
    None,
    /// It is.
    Yes,
    /// It is that of the process which forked this one.
    Forked,
    /// There is none yet: the kernel's probes watched when the image began.
    Waiting,
}

/// Notes the folder in which segments are made.
pub(crate) fn set_folder(path: &[u8]) {
    let length = path.len().min(SPOOL);
    // SAFETY: see `Path`.
    unsafe {
        let folder = &mut *FOLDER.0.get();
        folder[..length].copy_from_slice(&path[..length]);
        folder[length] = 0;
    }
}

pub(crate) fn mine() -> Mine {
    if BASE.load(Ordering::Relaxed).is_null() {
        return if WAITING.load(Ordering::Relaxed) { Mine::Waiting } else { Mine::None };
    }
    let forked = FORKED.load(Ordering::Relaxed) || UNSEEN_FORKS.load(Ordering::Relaxed) && raw::pid() != owner();
    if forked { Mine::Forked } else { Mine::Yes }
}

/// This process was forked just now.
pub(crate) extern "C" fn forked() {
    FORKED.store(true, Ordering::Relaxed);
}

/// Whether it was, and has said nothing since.
pub(crate) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// A child may be forked that is not told of it: from now on each call asks which process this is.
pub(crate) fn unseen_fork() {
    UNSEEN_FORKS.store(true, Ordering::Relaxed);
}

/// Says whether a segment will be made when there is something to say.
pub(crate) fn set_waiting(waiting: bool) {
    WAITING.store(waiting, Ordering::Relaxed);
}

/// Nothing is written any more.
pub(crate) fn leave() {
    set_waiting(false);
    BASE.store(ptr::null_mut(), Ordering::Release);
}

/// The process that made the segment.
pub(crate) fn owner() -> u32 {
    PID.load(Ordering::Relaxed)
}

/// The segment, where it is this process's own.
pub(crate) fn current() -> Option<Segment> {
    let base = BASE.load(Ordering::Acquire);
    (!base.is_null()).then(|| Segment { base, generation: GENERATION.load(Ordering::Relaxed) })
}

/// Makes a segment for this process. The id of the one that it had mapped before: its parent's, after a fork.
pub(crate) fn make() -> Option<u64> {
    let before = ID.load(Ordering::Relaxed);
    // Whatever happens, it is not written to the parent's any more.
    BASE.store(ptr::null_mut(), Ordering::Release);
    let id = raw::random();
    let pid = raw::pid();
    // SAFETY: see `Path`.
    let path = unsafe { name(&*FOLDER.0.get(), &mut *FILE.0.get(), pid, id) };
    let fd = raw::open(path, MAKE)?;
    let base =
        if raw::allocate(fd, FIRST as usize) { raw::map(LIMIT as usize, raw::WRITABLE, SHARED, fd) } else { None };
    raw::close(fd);
    let base = base?;
    let begin = Begin {
        magic: MAGIC,
        version: u64::from(VERSION),
        head: size_of::<Begin>() as u64,
        dropped: 0,
        id,
        pid: u64::from(pid),
        ended: 0,
        code: 0,
    };
    // SAFETY: the mapping begins with FIRST bytes of file, and nobody else has it yet.
    unsafe { ptr::write(base.cast::<Begin>(), begin) };
    SIZE.store(FIRST, Ordering::Relaxed);
    ID.store(id, Ordering::Relaxed);
    PID.store(pid, Ordering::Relaxed);
    GENERATION.fetch_add(1, Ordering::Relaxed);
    FORKED.store(false, Ordering::Relaxed);
    BASE.store(base, Ordering::Release);
    Some(before)
}

/// A number's digits, one by one.
pub(crate) fn decimal(number: u32, put: &mut dyn FnMut(u8)) {
    if number > 9 {
        decimal(number / 10, put);
    }
    put(b'0' + (number % 10) as u8);
}

/// So many digits of a number to the base 16, one by one.
pub(crate) fn hexadecimal(number: u64, digits: u32, put: &mut dyn FnMut(u8)) {
    (0..digits).rev().for_each(|i| put(b"0123456789abcdef"[(number >> (4 * i)) as usize & 15]));
}

/// `FOLDER/PID-ID.seg`
fn name<'a>(folder: &[u8], into: &'a mut [u8], pid: u32, id: u64) -> &'a CStr {
    let mut length = folder.iter().position(|b| *b == 0).unwrap_or(0);
    into[..length].copy_from_slice(&folder[..length]);
    let mut put = |byte: u8| {
        into[length] = byte;
        length += 1;
    };
    put(b'/');
    decimal(pid, &mut put);
    put(b'-');
    hexadecimal(id, 16, &mut put);
    b".seg\0".iter().for_each(|b| put(*b));
    CStr::from_bytes_until_nul(into).unwrap_or(c"")
}

/// Takes parts of a text, one by one.
pub(crate) type Put<'a> = &'a mut dyn FnMut(&[u8]);

impl Segment {
    fn begin(&self) -> &Begin {
        // SAFETY: the mapping begins with it and stays.
        unsafe { &*self.base.cast::<Begin>() }
    }

    fn counter(&self, field: *const u64) -> &AtomicU64 {
        // SAFETY: `field` is one of the aligned words of the mapped `Begin`, which all writers change by atomics only.
        unsafe { AtomicU64::from_ptr(field.cast_mut()) }
    }

    /// Writes a record and its text; where it lies, in steps.
    pub(crate) fn write<T: Copy>(&self, kind: Kind, at: u64, record: T, text: &[&[u8]]) -> Option<u32> {
        self.write_texts(kind, at, record, &mut |put| text.iter().for_each(|part| put(part)))
    }

    /// The same, where the parts of the text are given one by one: twice, and the same both times.
    pub(crate) fn write_texts<T: Copy>(
        &self,
        kind: Kind,
        at: u64,
        mut record: T,
        texts: &mut dyn FnMut(Put<'_>),
    ) -> Option<u32> {
        let fixed = size_of::<T>();
        let mut length = fixed;
        texts(&mut |part| length += part.len());
        let room = ring::reserve(self, length)?;
        let header = Header { kind: kind as u16, version: 0, length: length as u32, image: 0, at };
        // SAFETY: all records begin with their header; `record` is a local. The room is ours alone and holds `length` bytes.
        ring::commit(self, room, length as u32, || unsafe {
            ptr::write((&raw mut record).cast::<Header>(), header);
            let begin = self.base.add(room);
            ptr::copy_nonoverlapping((&raw const record).cast::<u8>(), begin, fixed);
            let mut to = begin.add(fixed);
            texts(&mut |part| {
                ptr::copy_nonoverlapping(part.as_ptr(), to, part.len());
                to = to.add(part.len());
            });
        });
        Some((room / STEP) as u32)
    }

    /// Notes the end of the process where there is no room for its record.
    pub(crate) fn ended(&self, at: u64, code: u64) {
        self.counter(&raw const self.begin().code).store(code, Ordering::Relaxed);
        self.counter(&raw const self.begin().ended).store(at, Ordering::Relaxed);
    }

    /// The record at a place that [`Segment::write`] has returned.
    pub(crate) fn record<T>(&self, step: u32) -> *mut T {
        // SAFETY: the place lies within the mapping.
        unsafe { self.base.add(step as usize * STEP).cast() }
    }
}

impl Memory for Segment {
    fn take(&self, bytes: u64) -> u64 {
        self.counter(&raw const self.begin().head).fetch_add(bytes, Ordering::Relaxed)
    }

    fn reaches(&self, end: u64) -> bool {
        end <= SIZE.load(Ordering::Acquire) || grow(end)
    }

    fn drop_one(&self) {
        self.counter(&raw const self.begin().dropped).fetch_add(1, Ordering::Relaxed);
    }

    fn set_length(&self, at: usize, length: u32) {
        // SAFETY: room for a record, whose header has this field here.
        unsafe { AtomicU32::from_ptr(self.base.add(at + offset_of!(Header, length)).cast()) }
            .store(length, Ordering::Release);
    }

    fn set_version(&self, at: usize) {
        // SAFETY: as above.
        unsafe { AtomicU16::from_ptr(self.base.add(at + offset_of!(Header, version)).cast()) }
            .store(VERSION, Ordering::Release);
    }
}

/// Makes the file larger, so that `end` lies in it. The file is opened again for that: no descriptor is kept. Whoever needs
/// the room makes it, also while others do, for what is allocated stays: nobody waits, and no record is lost to that.
fn grow(end: u64) -> bool {
    if end > LIMIT {
        return false;
    }
    let size = SIZE.load(Ordering::Acquire);
    let wanted = (size * 4).min(size + GROWTH).max(end.next_multiple_of(FIRST)).min(LIMIT);
    // SAFETY: see `Path`.
    let path = unsafe { CStr::from_bytes_until_nul(&*FILE.0.get()).unwrap_or(c"") };
    if let Some(fd) = raw::open(path, AGAIN) {
        // Where there is no room for so much, what this record needs is better than nothing.
        let least = end.next_multiple_of(FIRST);
        if let Some(made) = [wanted, least].into_iter().find(|size| raw::allocate(fd, *size as usize)) {
            SIZE.fetch_max(made, Ordering::AcqRel);
        }
        raw::close(fd);
    }
    end <= SIZE.load(Ordering::Acquire)
}
