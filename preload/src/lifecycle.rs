//! The life of the image: its begin (constructor), forks, children, its end. It does not know of files beyond what the
//! loader has mapped.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use flowcept_wire::control::NAME;
use flowcept_wire::file::{EXECUTABLE, MAP};
use flowcept_wire::header::Kind;
use flowcept_wire::library::{BRIEF, Began, Exited, FORKED, Started, Used, Waited};
use flowcept_wire::process::ExecFailed;

use crate::control;
use crate::descriptors::bytes;
use crate::environment::{self, Strings};
use crate::identity::{self, Met};
use crate::place::{self, Place};
use crate::raw;
use crate::real::{self, Object, errno};
use crate::segment::{self, Mine, Put, SPOOL, Segment};

const BOOTTIME: c_int = 7;
const MONOTONIC_COARSE: c_int = 6;
const MONOTONIC: c_int = 1;

/// CLOCK_BOOTTIME less CLOCK_MONOTONIC, which alone has a coarse clock (they part when the host sleeps), and two ticks of that: it
/// lags behind by more than one (4.6 to 7.5 ms of 4 ms ticks on Linux 6.18).
/// 0 until somebody needs it.
static OFFSET: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds of CLOCK_BOOTTIME.
pub(crate) fn boot_clock() -> u64 {
    raw::clock(BOOTTIME)
}

/// Not before now and at most two ticks after it, for next to nothing.
pub(crate) fn boot_clock_coarse() -> u64 {
    let mut offset = OFFSET.load(Ordering::Relaxed);
    if offset == 0 {
        let ahead = boot_clock().saturating_sub(raw::clock(MONOTONIC));
        offset = ahead + 2 * raw::resolution(MONOTONIC_COARSE);
        OFFSET.store(offset, Ordering::Relaxed);
    }
    raw::clock(MONOTONIC_COARSE) + offset
}

/// The segment of this process; a forked child gets its own when it first has something to say.
pub(crate) fn segment() -> Option<Segment> {
    let segment = mine();
    if MORE.load(Ordering::Relaxed)
        && let Some(segment) = &segment
        && MORE.swap(false, Ordering::Relaxed)
    {
        loaded(segment);
    }
    segment
}

fn mine() -> Option<Segment> {
    if control::covered() {
        return None;
    }
    match segment::mine() {
        Mine::Yes => segment::current(),
        Mine::None => None,
        Mine::Forked => begin(FORKED, null(), null()),
        Mine::Waiting => late(),
    }
}

/// The segment of this process, if it has one already.
pub(crate) fn own_segment() -> Option<Segment> {
    if segment::mine() == Mine::Yes && !control::covered() { segment::current() } else { None }
}

/// Makes a segment that begins with this image.
fn begin(flags: u32, arguments: Strings, environment: Strings) -> Option<Segment> {
    let parent = segment::make()?;
    let segment = segment::current()?;
    began(&segment, flags, parent, arguments, environment);
    Some(segment)
}

/// What the image began with, where the kernel's probes watched then.
static ARGUMENTS: AtomicPtr<*const c_char> = AtomicPtr::new(core::ptr::null_mut());
static ENVIRONMENT: AtomicPtr<*const c_char> = AtomicPtr::new(core::ptr::null_mut());
static FIRST: AtomicU32 = AtomicU32::new(0);

/// The kernel's probes do not watch any more. One thread begins; what others and its own handlers do meanwhile is not told.
#[cold]
fn late() -> Option<Segment> {
    static BEGINS: AtomicU32 = AtomicU32::new(0);
    let (pid, before) = (raw::pid(), BEGINS.load(Ordering::Relaxed));
    // A process that has another's memory must not begin in its place.
    if BORROWERS.load(Ordering::Relaxed) != 0
        || before == pid
        || BEGINS.compare_exchange(before, pid, Ordering::Relaxed, Ordering::Relaxed).is_err()
    {
        return None;
    }
    let segment = if pid == FIRST.load(Ordering::Relaxed) {
        let segment = begin(0, ARGUMENTS.load(Ordering::Relaxed), ENVIRONMENT.load(Ordering::Relaxed));
        segment.iter().for_each(loaded);
        segment
    } else {
        begin(FORKED, null(), null())
    };
    segment::set_waiting(false);
    segment
}

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn(c_int, Strings, Strings) = start;

extern "C" fn start(_count: c_int, arguments: Strings, environment: Strings) {
    unsafe extern "C" {
        fn getauxval(kind: usize) -> usize;
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
        fn __register_atfork(
            before: Option<extern "C" fn()>,
            parent: Option<extern "C" fn()>,
            child: Option<extern "C" fn()>,
            object: *const c_void,
        ) -> c_int;
    }
    const AT_SECURE: usize = 23;
    // SAFETY: getauxval(3) takes any number.
    if unsafe { getauxval(AT_SECURE) } != 0 {
        return;
    }
    crate::inherit::note(environment);
    place::hear(environment);
    if !find_spool(environment) {
        return;
    }
    if control::covered() {
        ARGUMENTS.store(arguments.cast_mut(), Ordering::Relaxed);
        ENVIRONMENT.store(environment.cast_mut(), Ordering::Relaxed);
        FIRST.store(raw::pid(), Ordering::Relaxed);
        segment::set_waiting(true);
    } else {
        let Some(segment) = begin(0, arguments, environment) else { return };
        loaded(&segment);
    }
    // SAFETY: on_exit(3) and pthread_atfork(3), which is this, keep the functions, which stay mapped.
    unsafe {
        on_exit(at_exit, core::ptr::null_mut());
        // The C library's own forks, as in daemon(3), are told of so.
        __register_atfork(Some(forking), None, Some(segment::forked), null());
    }
}

/// The folder for segments: that of the workflow that FLOWCEPT_SPOOL names, or the control word in which it does; else a new
/// workflow in it, or beside the user's store, which all that this program starts belongs to.
fn find_spool(environment: Strings) -> bool {
    let mut path = [0_u8; SPOOL + 1];
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        let fits = length + bytes.len() <= SPOOL;
        if fits {
            path[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        }
        fits
    };
    let variable = |name: &[u8]| environment::value(environment, name).filter(|v| v.first() == Some(&b'/'));
    if let Some(spool) = variable(b"FLOWCEPT_SPOOL=") {
        let control = spool.strip_suffix(NAME.as_bytes()).and_then(|folder| folder.strip_suffix(b"/"));
        let folder = control.unwrap_or(spool);
        if folder.rsplit(|b| *b == b'/').next().is_some_and(|last| last.len() == 38 && last.starts_with(b"w-")) {
            segment::set_folder(folder);
            return environment::note_spool(spool)
                && (control.is_none() || environment::spool_path().is_some_and(control::find));
        }
        if !put(spool) {
            return false;
        }
    } else {
        // The store's place, as agent/src/cli.rs finds it.
        let good = match (variable(b"FLOWCEPT_STORE="), variable(b"XDG_STATE_HOME="), variable(b"HOME=")) {
            (Some(store), _, _) => put(store) && put(b"/spool"),
            (None, Some(state), _) => put(state) && put(b"/flowcept/spool"),
            (None, None, Some(home)) => put(home) && put(b"/.local/state/flowcept/spool"),
            (None, None, None) => false,
        };
        if !good {
            return false;
        }
    }
    let folder_name = workflow_folder();
    if !put(&folder_name) {
        return false;
    }
    // All that is missing of it.
    for i in 1..=length {
        if i == length || path[i] == b'/' {
            let byte = core::mem::replace(&mut path[i], 0);
            if let Ok(folder) = CStr::from_bytes_until_nul(&path) {
                raw::make_directory(folder);
            }
            path[i] = byte;
        }
    }
    segment::set_folder(&path[..length]);
    environment::set_spool(&path[..length])
}

/// `/w-` and a version 4 UUID.
fn workflow_folder() -> [u8; 39] {
    let (high, low) = (raw::random() & !0xf000 | 0x4000, raw::random() >> 2 | 1 << 63);
    let mut name = *b"/w-00000000-0000-0000-0000-000000000000";
    for (digit, byte) in name[3..].iter_mut().filter(|b| **b == b'0').enumerate() {
        let word = if digit < 16 { high } else { low };
        *byte = b"0123456789abcdef"[(word >> (60 - 4 * (digit % 16))) as usize & 15];
    }
    name
}

fn began(segment: &Segment, flags: u32, parent: u64, arguments: Strings, environment: Strings) {
    unsafe extern "C" {
        fn getauxval(kind: usize) -> usize;
    }
    const AT_RANDOM: usize = 25;
    // SAFETY: the kernel has put 16 bytes there for each image (getauxval(3)).
    let random = unsafe { (getauxval(AT_RANDOM) as *const u64).read_unaligned() };
    let (mut executable, mut directory) = ([0; 1024], [0; 1024]);
    // Later, relative names mean something else.
    let found = if flags == 0 && FIRST.load(Ordering::Relaxed) == 0 { program(&mut executable) } else { None };
    let (executable_length, met) = match found {
        Some((length, met)) => (length, Some(met)),
        None => {
            const LINK: &CStr = c"/proc/self/exe";
            (raw::read_link(raw::HERE, LINK, &mut executable), identity::of_path(raw::HERE, LINK.as_ptr().cast()))
        }
    };
    let Place { start, pid_namespace, mount_namespace } = place::find();
    let directory_length = raw::working_directory(&mut directory);
    let mut argument_bytes = 0;
    environment::strings(arguments).for_each(|a| argument_bytes += a.len() as u32 + 1);
    let (mut argument_text, mut environment_text) = (0, 0);
    // Of those that there are to record, and of each LC_ variable, one.
    let mut admitted = [null(); 33];
    let texts = environment::pointers(environment).filter(|text| environment::admits(*text));
    admitted.iter_mut().take(32).zip(texts).for_each(|(to, text)| *to = text);
    let arguments = |put: Put<'_>| fitting(arguments, 8 << 10, false, put);
    let environment = |put: Put<'_>| fitting(admitted.as_ptr(), 4 << 10, true, put);
    arguments(&mut |part| argument_text += part.len() as u16);
    environment(&mut |part| environment_text += part.len() as u16);
    let [uid, euid, gid, egid] = raw::ids();
    let record = Began {
        start,
        digest: identity::digest(random),
        parent,
        executable: met.map(|m| m.file).unwrap_or_default(),
        state: met.map(|m| m.state).unwrap_or_default(),
        pid: raw::pid(),
        parent_pid: raw::parent_pid(),
        pid_namespace,
        mount_namespace,
        uid,
        euid,
        gid,
        egid,
        flags,
        argument_bytes,
        executable_text: executable_length as u16,
        directory_text: directory_length as u16,
        argument_text,
        environment_text,
        ..Began::default()
    };
    segment.write_texts(Kind::Began, boot_clock(), record, &mut |put| {
        put(&executable[..executable_length]);
        put(&directory[..directory_length]);
        arguments(put);
        environment(put);
    });
}

/// Gives strings, each with its NUL, as long as there is room; those behind one that does not fit only where they say something
/// without it.
fn fitting(strings: Strings, mut room: usize, alone: bool, put: Put<'_>) {
    for text in environment::strings(strings) {
        match room.checked_sub(text.len() + 1) {
            Some(left) => {
                room = left;
                put(text);
                put(b"\0");
            }
            None if alone => {}
            None => return,
        }
    }
}

/// The program's file, and its path, as long as that: what the kernel was asked to execute. None where that was a script or
/// the loader, or is another file by now: then it does not begin as the one does that runs.
fn program(path: &mut [u8; 1024]) -> Option<(usize, Met)> {
    unsafe extern "C" {
        fn getauxval(kind: usize) -> usize;
    }
    const AT_PHDR: usize = 3;
    const AT_PHNUM: usize = 5;
    const AT_ENTRY: usize = 9;
    const AT_EXECFN: usize = 31;
    const O_CLOEXEC: usize = 0o2_000_000;
    // SAFETY: getauxval(3) takes any number; the name is a C string of the kernel's.
    let ([table, count, entry], asked) = unsafe {
        let asked = getauxval(AT_EXECFN) as *const c_char;
        (
            [AT_PHDR, AT_PHNUM, AT_ENTRY].map(|kind| getauxval(kind)),
            if asked.is_null() { c"" } else { CStr::from_ptr(asked) },
        )
    };
    // `Elf64_Ehdr` of elf.h, in words.
    let mut begin = [0_u64; 8];
    let name = asked.to_bytes();
    // A descriptor (fexecve(3)) is a name for nobody else.
    if name.starts_with(b"/dev/") || name.starts_with(b"/proc/") {
        return None;
    }
    path.get_mut(..name.len())?.copy_from_slice(name);
    let file = raw::open(asked, O_CLOEXEC)?;
    // SAFETY: the words as bytes.
    raw::read(file, unsafe { core::slice::from_raw_parts_mut(begin.as_mut_ptr().cast(), size_of_val(&begin)) });
    let [magic, _, _, its_entry, its_table, _, _, its_count] = begin.map(|word| word as usize);
    let same = magic & 0xffff_ffff == 0x464c_457f
        && its_count & 0xffff == count
        && (entry == its_entry || entry.wrapping_sub(its_entry) == table.wrapping_sub(its_table));
    let met = if same { identity::of_descriptor(file) } else { None };
    raw::close(file);
    Some((name.len(), met?))
}

/// Where the objects lie that were told; what does not fit is told again.
static TOLD: [AtomicU32; 128] = [const { AtomicU32::new(0) }; 128];

/// Objects may have been loaded that nobody has told of.
static MORE: AtomicBool = AtomicBool::new(false);

/// Objects are about to be loaded by dlopen(3). What they are is told with what is next told.
pub(crate) fn more_loaded() {
    segment();
    MORE.store(true, Ordering::Relaxed);
}

/// What the loader has mapped, which nobody can see it do.
fn loaded(segment: &Segment) {
    extern "C" fn each(object: *const Object, _size: usize, segment: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr(3) gives an object and what it was called with.
        let (address, name, segment) = unsafe { ((*object).address, (*object).name, &*segment.cast::<Segment>()) };
        let path = crate::descriptors::bytes(name);
        // The number of its page, cut to 32 bits: objects that are less than 16 TiB apart have other ones.
        let page = (address >> 12) as u32;
        let known = TOLD.iter().find(|t| matches!(t.load(Ordering::Relaxed), t if t == 0 || t == page));
        if known.is_some_and(|t| t.load(Ordering::Relaxed) != 0) {
            return 0;
        }
        if let Some(free) = known {
            free.store(page, Ordering::Relaxed);
        }
        // The program itself has no name here, and the kernel's own object one without a folder.
        if path.contains(&b'/')
            && !path.ends_with(b"/libflowcept.so")
            && let Some(met) = identity::of_path(raw::HERE, name.cast())
        {
            let record = Used { file: met.file, state: met.state, access: MAP, flags: EXECUTABLE, ..Used::default() };
            segment.write(Kind::Used, boot_clock(), record, &[path]);
        }
        0
    }
    real::objects(each, &mut segment.clone());
}

extern "C" fn forking() {
    starting();
}

/// A child is about to be started, at this time. A fork that forks is a task itself: it has its segment before its child has.
pub(crate) fn starting() -> u64 {
    segment();
    let now = boot_clock();
    // While somebody has this memory, he may have begun before now.
    if BORROWERS.load(Ordering::Relaxed) == 0 {
        place::starting(now);
    }
    now
}

/// A child was started: fork(2), posix_spawn(3) and the like returned its pid.
pub(crate) fn started(pid: c_int, at: u64) {
    if pid == 0 {
        segment::forked();
    } else if pid > 0
        && let Some(segment) = segment()
    {
        segment.write(Kind::Started, at, Started { pid: pid as u32, ..Started::default() }, &[]);
    }
}

/// A child is about to be started that the library will not be in; nobody tells its pid.
pub(crate) fn started_without() {
    if let Some(segment) = segment() {
        segment.write(Kind::Started, boot_clock(), Started::default(), &[]);
    }
}

/// How many processes have this one's memory and are not threads of it: vfork(2).
static BORROWERS: AtomicI32 = AtomicI32::new(0);

/// One is about to be made.
pub(crate) fn borrowing() {
    let now = boot_clock();
    if BORROWERS.fetch_add(1, Ordering::Relaxed) == 0 {
        place::starting(now);
    }
}

/// It has memory of its own now, or has ended.
pub(crate) fn lent() {
    BORROWERS.fetch_sub(1, Ordering::Relaxed);
}

/// Whether this is such a process: its descriptors and its folder are its own, and all that is noted here is another's.
pub(crate) fn borrowed() -> bool {
    BORROWERS.load(Ordering::Relaxed) != 0 && segment::mine() == Mine::Yes && raw::pid() != segment::owner()
}

/// Another image is about to begin. Where the image that ends has a segment it is noted there, for the next may be without
/// the library. What has been noted, to be told when it has failed.
pub(crate) fn execing(name: *const c_char) -> Option<(Segment, Option<u32>)> {
    if borrowed() {
        return Some((segment::current()?, None));
    }
    let segment = own_segment()?;
    let step = exec_failed(&segment, name, 0)?;
    Some((segment, Some(step)))
}

/// It could not.
pub(crate) fn not_execed(begun: Option<(Segment, Option<u32>)>, name: *const c_char) {
    // SAFETY: the thread's own; it is only read.
    let errno = unsafe { *errno() } as u32;
    match begun {
        Some((segment, Some(step))) => {
            let record = segment.record::<ExecFailed>(step);
            // SAFETY: a record of this kind lies there.
            unsafe { AtomicU32::from_ptr(&raw mut (*record).errno).store(errno, Ordering::Relaxed) };
        }
        Some((segment, None)) => drop(exec_failed(&segment, name, errno)),
        None => {}
    }
}

fn exec_failed(segment: &Segment, name: *const c_char, errno: u32) -> Option<u32> {
    let name = bytes(name);
    let record = ExecFailed { errno, asked_text: name.len() as u32 + 1, ..ExecFailed::default() };
    segment.write(Kind::ExecFailed, boot_clock(), record, &[name, b"\0"])
}

/// The process is about to restrict its own system calls: nothing more is said, lest that end it.
pub(crate) fn sandboxed() {
    if borrowed() {
        return;
    }
    if let Some(segment) = segment() {
        crate::descriptors::unseen(&segment, flowcept_wire::gap::SANDBOX);
        segment::leave();
    }
}

/// wait(2) has told of a child.
pub(crate) fn waited(pid: c_int, code: c_int) {
    let ended = code & 0x7f != 0x7f && code != 0xffff;
    if pid > 0
        && ended
        && let Some(segment) = segment()
    {
        segment.write(
            Kind::Waited,
            boot_clock(),
            Waited { pid: pid as u32, code: code as u32, ..Waited::default() },
            &[],
        );
    }
}

/// The process is about to end by itself with this status. Told once.
pub(crate) fn exiting(status: c_int) {
    static GENERATION: AtomicU32 = AtomicU32::new(0);
    if borrowed() {
        // It ends, and not the process whose memory it has.
        if let Some(segment) = segment::current() {
            let record = Started { pid: raw::pid(), flags: BRIEF, ..Started::default() };
            segment.write(Kind::Started, boot_clock(), record, &[]);
        }
        return;
    }
    // A forked child that has said nothing so far has an end to tell all the same.
    let Some(segment) = segment() else { return };
    if GENERATION.swap(segment.generation, Ordering::Relaxed) == segment.generation {
        return;
    }
    let usage = raw::usage();
    let time = |i: usize| usage[i] * 1_000_000_000 + usage[i + 1] * 1000;
    let record = Exited {
        user: time(0),
        system: time(2),
        peak_memory: usage[4] * 1024,
        storage_read: usage[9] * 512,
        storage_written: usage[10] * 512,
        code: (status & 0xff) as u32,
        ..Exited::default()
    };
    let now = boot_clock();
    if segment.write(Kind::Exited, now, record, &[]).is_none() {
        segment.ended(now, record.code.into());
    }
}

extern "C" fn at_exit(status: c_int, _: *mut c_void) {
    crate::hooks::stream::flushing(core::ptr::null_mut());
    exiting(status);
}
