//! What a program started from here inherits, also where it is given another environment: LD_PRELOAD and FLOWCEPT_SPOOL. It
//! starts nothing.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int};
use core::ptr::null;

use crate::environment::{SPOOL_NAME, Strings, begins, pointers, spool_path, value};
use crate::place::{self, Word};
use crate::raw;
use crate::segment::{self, Mine, SPOOL};

/// Strings of an environment that is extended; a longer one is left as it is.
const MOST: usize = 1000;
/// How many are in most environments: stacks may be small.
const FEW: usize = 100;
/// Longest value of LD_PRELOAD, its name and NUL included.
const LONGEST: usize = 1024;
const NAME: &[u8] = b"LD_PRELOAD=";
const FILE: &[u8] = b"libflowcept.so";

struct Text(UnsafeCell<[u8; LONGEST]>);
// SAFETY: written by the constructor only, before threads can be.
unsafe impl Sync for Text {}
/// `LD_PRELOAD=` and the name under which this library was loaded; empty where that is of no use elsewhere.
static OWN: Text = Text(UnsafeCell::new([0; LONGEST]));

fn is_own(word: &[u8]) -> bool {
    word.strip_suffix(FILE).is_some_and(|folder| matches!(folder.last(), None | Some(b'/')))
}

/// As the dynamic loader divides LD_PRELOAD (ld.so(8)).
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| matches!(b, b' ' | b':'))
}

/// `LD_PRELOAD=FIRST:SECOND`, ended by NUL; whether it fits.
fn put(into: &mut [u8; LONGEST], first: &[u8], second: &[u8]) -> bool {
    let colon: &[u8] = if first.is_empty() || second.is_empty() { b"" } else { b":" };
    let mut length = 0;
    for part in [NAME, first, colon, second, b"\0"] {
        let Some(room) = into.get_mut(length..length + part.len()) else { return false };
        room.copy_from_slice(part);
        length += part.len();
    }
    true
}

/// Notes how this library is named.
pub(crate) fn note(environment: Strings) {
    let word = value(environment, NAME).and_then(|v| words(v).find(|w| is_own(w)));
    if let Some(word) = word.filter(|w| w.first() == Some(&b'/')) {
        // SAFETY: see `Text`.
        let own = unsafe { &mut *OWN.0.get() };
        if !put(own, word, b"") {
            own[0] = 0;
        }
    }
}

/// This library's name with LD_PRELOAD before it; none where it is not there (another root folder), for the loader would
/// complain; nor where this process says nothing itself.
fn own() -> Option<&'static [u8]> {
    if segment::mine() == Mine::None {
        return None;
    }
    // SAFETY: see `Text`.
    let own = unsafe { &*OWN.0.get() };
    let name = own.get(NAME.len()..).filter(|_| own[0] != 0)?;
    let length = name.iter().position(|b| *b == 0)?;
    (name[..length].contains(&b'$') || raw::stat_path(raw::HERE, name.as_ptr()).is_some())
        .then_some(&own[..NAME.len() + length])
}

/// Calls `with` with an array of words in memory that lasts as long as the call; nowhere near as large where few are enough.
pub(crate) fn with_words(count: usize, with: &mut dyn FnMut(&mut [*const c_char]) -> c_int) -> c_int {
    #[inline(never)]
    fn on_stack<const N: usize>(with: &mut dyn FnMut(&mut [*const c_char]) -> c_int) -> c_int {
        with(&mut [null(); N])
    }
    if count <= FEW {
        return on_stack::<FEW>(with);
    }
    if count <= MOST + 3 {
        return on_stack::<{ MOST + 3 }>(with);
    }
    let Some(room) = raw::map(count * size_of::<usize>(), raw::WRITABLE, 0x22, -1) else { return with(&mut []) };
    // SAFETY: mapped just now, for so many, and zeros are null pointers.
    let made = with(unsafe { core::slice::from_raw_parts_mut(room.cast(), count) });
    raw::unmap(room, count * size_of::<usize>());
    made
}

/// Whether an environment lacks what is to be inherited.
pub(crate) fn lacks(environment: Strings) -> bool {
    let preload = value(environment, NAME);
    let there = preload.is_some_and(|v| words(v).any(is_own)) || own().is_none();
    !there || spool_path().is_some() && value(environment, SPOOL_NAME).is_none()
}

/// Calls `with` with an environment that has it, and this word for the image that is begun with it. What else is preloaded
/// stays, in its order and before this library.
pub(crate) fn kept(environment: Strings, word: Option<Word>, with: &mut dyn FnMut(Strings) -> c_int) -> c_int {
    let count = pointers(environment).count();
    if count > MOST || word.is_none() && !lacks(environment) {
        return with(environment);
    }
    let theirs = value(environment, NAME);
    let own = own().filter(|_| !theirs.is_some_and(|v| words(v).any(is_own)));
    let mut text = [0; LONGEST];
    let joined = own.is_some_and(|own| put(&mut text, theirs.unwrap_or_default(), &own[NAME.len()..]));
    let mut spool = [0; SPOOL + 80];
    let told = spool_with(value(environment, SPOOL_NAME), word, &mut spool);
    with_words(count + 3, &mut |room| {
        let mut length = 0;
        let mut add = |string: *const c_char| {
            room[length] = string;
            length += 1;
        };
        let mut spool = told.then_some(spool.as_ptr().cast());
        for i in 0..count {
            // SAFETY: so many strings are there.
            let string = unsafe { *environment.add(i) };
            if begins(string, SPOOL_NAME) {
                add(spool.take().unwrap_or(string));
            } else if !joined || !begins(string, NAME) {
                add(string);
            }
        }
        if joined {
            add(text.as_ptr().cast());
        }
        if let Some(spool) = spool {
            add(spool);
        }
        add(null());
        with(room.as_ptr())
    })
}

/// FLOWCEPT_SPOOL as theirs or else as noted, with the word; whether it fits, and is another than theirs.
fn spool_with(theirs: Option<&[u8]>, word: Option<Word>, into: &mut [u8]) -> bool {
    let Some(path) = theirs.or(spool_path().map(CStr::to_bytes)) else { return false };
    let fits = SPOOL_NAME.len() + path.len() + place::LONGEST < into.len();
    if !fits || theirs.is_some() && word.is_none() {
        return false;
    }
    let mut bytes = into.iter_mut();
    let mut put = |byte: u8| bytes.by_ref().take(1).for_each(|to| *to = byte);
    SPOOL_NAME.iter().chain(path).for_each(|byte| put(*byte));
    word.iter().for_each(|word| word.put(&mut put));
    true
}
