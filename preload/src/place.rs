//! When this process started, and in which namespaces it is: as /proc has it, or, at a fifth of that, as the process says that
//! started it or began this image in it. That stands behind the folder in FLOWCEPT_SPOOL, which is as it was before the program
//! sees it; it is believed only where it must be true.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::environment::{self, SPOOL_NAME, Strings, value};
use crate::lifecycle::{boot_clock, borrowed};
use crate::raw;
use crate::segment::{self, Mine};

/// What a process is named by, beside its pid.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Its start in clock ticks of CLOCK_BOOTTIME.
    pub(crate) start: u64,
    /// Inode numbers of its namespaces.
    pub(crate) pid_namespace: u32,
    pub(crate) mount_namespace: u32,
}

/// Nanoseconds of a clock tick, as /proc has it.
const TICK: u64 = 10_000_000;
/// By which clocks may differ that read the same counter.
const ROUNDING: u64 = 1000;

/// What is said of a process: it was not there before this time, and is in these namespaces.
#[derive(Clone, Copy)]
pub(crate) struct Word {
    /// [`OWN`] or [`CHILD`].
    of: u8,
    pid: u32,
    /// Nanoseconds of CLOCK_BOOTTIME.
    after: u64,
    pid_namespace: u32,
    mount_namespace: u32,
}

/// Of the process that has this pid.
const OWN: u8 = b'=';
/// Of a child of it.
const CHILD: u8 = b'<';

/// Longest text of a [`Word`].
pub(crate) const LONGEST: usize = 48;

/// Kind and pid, time, and namespaces that this image was told.
static HEARD: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// This process was not there before.
static AFTER: AtomicU64 = AtomicU64::new(0);
static PID_NAMESPACE: AtomicU32 = AtomicU32::new(0);
static MOUNT_NAMESPACE: AtomicU32 = AtomicU32::new(0);

/// No child that is being started was there before.
static STARTING: AtomicU64 = AtomicU64::new(0);

impl Word {
    /// Puts it behind the folder.
    pub(crate) fn put(&self, put: &mut dyn FnMut(u8)) {
        let numbers = [u64::from(self.pid), self.after, self.pid_namespace.into(), self.mount_namespace.into()];
        for (number, before) in numbers.into_iter().zip([self.of, b':', b':', b':']) {
            put(before);
            let digits = number.checked_ilog2().map_or(1, |log| log / 4 + 1);
            segment::hexadecimal(number, digits, put);
        }
    }

    fn read(of: u8, text: &[u8]) -> Option<Self> {
        let number = |digits: &[u8]| {
            let digit = |n: u64, d: &u8| Some(n.checked_mul(16)? | u64::from((*d as char).to_digit(16)?));
            digits.iter().try_fold(0, digit).filter(|_| !digits.is_empty())
        };
        let mut numbers = text.split(|b| *b == b':').map(number);
        let mut next = || numbers.next()?;
        let (pid, after, pid_namespace, mount_namespace) = (next()?, next()?, next()?, next()?);
        let small = |n: u64| u32::try_from(n).ok();
        Some(Self {
            of,
            pid: small(pid)?,
            after,
            pid_namespace: small(pid_namespace)?,
            mount_namespace: small(mount_namespace)?,
        })
    }
}

/// Takes what this image is told out of FLOWCEPT_SPOOL.
pub(crate) fn hear(environment: Strings) {
    let Some(value) = value(environment, SPOOL_NAME) else { return };
    let Some(at) = value.iter().rposition(|b| matches!(*b, OWN | CHILD)) else { return };
    let Some(word) = Word::read(value[at], &value[at + 1..]) else { return };
    let words = [
        u64::from(word.of) << 32 | u64::from(word.pid),
        word.after,
        u64::from(word.pid_namespace) << 32 | u64::from(word.mount_namespace),
    ];
    HEARD.iter().zip(words).for_each(|(heard, word)| heard.store(word, Ordering::Relaxed));
    environment::cut(environment, SPOOL_NAME, at);
}

/// What was heard, where it is of this process, and where that did not become a tick older since it was not there yet.
fn heard() -> Option<Place> {
    let [who, after, namespaces] = [0, 1, 2].map(|i| HEARD[i].load(Ordering::Relaxed));
    let pid = match (who >> 32) as u8 {
        OWN => raw::pid(),
        CHILD => raw::parent_pid(),
        _ => return None,
    };
    let start = after.saturating_sub(ROUNDING) / TICK;
    let is_exact = start == boot_clock() / TICK;
    (who as u32 == pid && is_exact).then_some(Place {
        start,
        pid_namespace: (namespaces >> 32) as u32,
        mount_namespace: namespaces as u32,
    })
}

/// Of this process.
pub(crate) fn find() -> Place {
    let place = heard().unwrap_or_else(|| Place {
        start: start_ticks(),
        pid_namespace: namespace(c"/proc/self/ns/pid"),
        mount_namespace: namespace(c"/proc/self/ns/mnt"),
    });
    AFTER.store(place.start * TICK + ROUNDING, Ordering::Relaxed);
    PID_NAMESPACE.store(place.pid_namespace, Ordering::Relaxed);
    MOUNT_NAMESPACE.store(place.mount_namespace, Ordering::Relaxed);
    place
}

/// The namespaces of this process, or of its children, are others from now on: nothing is said of them.
pub(crate) fn moved() {
    PID_NAMESPACE.store(0, Ordering::Relaxed);
}

/// A child is about to be started; not before this time.
pub(crate) fn starting(at: u64) {
    STARTING.store(at, Ordering::Relaxed);
}

/// What the next image of this process is told.
pub(crate) fn word_of_next() -> Option<Word> {
    let mine = segment::mine();
    if borrowed() || mine == Mine::Forked && segment::is_forked() {
        // In a namespace of its own it has no parent.
        let has_parent = raw::parent_pid() == segment::owner();
        return word(OWN, raw::pid(), STARTING.load(Ordering::Relaxed)).filter(|_| has_parent);
    }
    word(OWN, segment::owner(), AFTER.load(Ordering::Relaxed)).filter(|_| mine == Mine::Yes)
}

/// What a child is told that is started after this time.
pub(crate) fn word_of_child(after: u64) -> Option<Word> {
    word(CHILD, segment::owner(), after).filter(|_| segment::mine() == Mine::Yes && !borrowed())
}

fn word(of: u8, pid: u32, after: u64) -> Option<Word> {
    let [pid_namespace, mount_namespace] = [&PID_NAMESPACE, &MOUNT_NAMESPACE].map(|n| n.load(Ordering::Relaxed));
    (pid_namespace != 0 && after != 0).then_some(Word { of, pid, after, pid_namespace, mount_namespace })
}

/// The number of a namespace: its link reads `pid:[4026531836]` (namespaces(7)).
fn namespace(link: &CStr) -> u32 {
    let mut text = [0; 32];
    let length = raw::read_link(raw::HERE, link, &mut text);
    text[..length].iter().filter(|b| b.is_ascii_digit()).fold(0, |n: u32, d| n.wrapping_mul(10) + u32::from(d - b'0'))
}

/// Field 22 of `/proc/self/stat` (proc_pid_stat(5)), behind the name in parentheses.
fn start_ticks() -> u64 {
    let mut text = [0; 512];
    let Some(fd) = raw::open(c"/proc/self/stat", 0o2_000_000) else { return 0 };
    let length = raw::read(fd, &mut text);
    raw::close(fd);
    let after = text[..length].iter().rposition(|b| *b == b')').map_or(&[][..], |at| &text[at + 2..length]);
    let field = after.split(|b| *b == b' ').nth(19).unwrap_or_default();
    field.iter().fold(0, |n, d| n * 10 + u64::from(d.wrapping_sub(b'0') % 10))
}
