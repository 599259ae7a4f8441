//! The environment, read once without allocating, and the one variable that is set: FLOWCEPT_SPOOL. It interprets nothing.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};
use core::ptr;

use flowcept_wire::library;

use crate::descriptors::bytes;
use crate::raw;
use crate::segment::SPOOL;

/// An array of C strings that a null pointer ends.
pub(crate) type Strings = *const *const c_char;

/// Its strings.
pub(crate) fn pointers(mut strings: Strings) -> impl Iterator<Item = *const c_char> {
    core::iter::from_fn(move || {
        if strings.is_null() {
            return None;
        }
        // SAFETY: an array of C strings that a null pointer ends (environ(7)): another follows each.
        unsafe {
            let text = *strings;
            strings = strings.add(usize::from(!text.is_null()));
            Some(text).filter(|text| !text.is_null())
        }
    })
}

/// The same as bytes.
pub(crate) fn strings<'a>(strings: Strings) -> impl Iterator<Item = &'a [u8]> {
    pointers(strings).map(bytes)
}

/// Whether a string begins so. It is not read further than that.
pub(crate) fn begins(text: *const c_char, with: &[u8]) -> bool {
    // SAFETY: `with` has no NUL: where the string ends the two differ.
    with.iter().enumerate().all(|(i, byte)| unsafe { *text.add(i).cast::<u8>() } == *byte)
}

/// The value of a variable, of which the name is given with `=`.
pub(crate) fn value<'a>(environment: Strings, name: &[u8]) -> Option<&'a [u8]> {
    let text = pointers(environment).find(|text| begins(*text, name))?;
    bytes(text).get(name.len()..)
}

/// Cuts the value of a variable to a length, where the program has not seen it yet: the strings with which an image begins are its
/// own to change.
pub(crate) fn cut(environment: Strings, name: &[u8], length: usize) {
    let Some(text) = pointers(environment).find(|text| begins(*text, name)) else { return };
    // SAFETY: nobody has a reference to what is cut off, which ends with the string.
    unsafe {
        let end = text.cast_mut().add(name.len() + length);
        ptr::write_bytes(end, 0, CStr::from_ptr(end).count_bytes());
    }
}

/// Whether a string of the environment is recorded.
pub(crate) fn admits(text: *const c_char) -> bool {
    library::admits(bytes(text).split(|b| *b == b'=').next().unwrap_or_default())
}

struct Own(UnsafeCell<[u8; SPOOL + 32]>);
// SAFETY: written by the constructor only, before threads can be.
unsafe impl Sync for Own {}
static OWN: Own = Own(UnsafeCell::new([0; SPOOL + 32]));

/// The variable, up to its value.
pub(crate) const SPOOL_NAME: &[u8] = b"FLOWCEPT_SPOOL=";

/// Notes FLOWCEPT_SPOOL as programs that this one starts must have it; whether there is room.
pub(crate) fn note_spool(path: &[u8]) -> bool {
    if path.len() > SPOOL {
        return false;
    }
    // SAFETY: see `Own`.
    let own = unsafe { &mut *OWN.0.get() };
    own[..SPOOL_NAME.len()].copy_from_slice(SPOOL_NAME);
    own[SPOOL_NAME.len()..SPOOL_NAME.len() + path.len()].copy_from_slice(path);
    own[SPOOL_NAME.len() + path.len()] = 0;
    true
}

/// Its value as it was noted.
pub(crate) fn spool_path() -> Option<&'static CStr> {
    // SAFETY: see `Own`.
    let own = unsafe { &*OWN.0.get() };
    CStr::from_bytes_until_nul(&own[SPOOL_NAME.len()..]).ok().filter(|path| !path.is_empty())
}

/// Sets FLOWCEPT_SPOOL for the programs that this one starts; whether that could be done.
pub(crate) fn set_spool(path: &[u8]) -> bool {
    unsafe extern "C" {
        static mut environ: *mut *const c_char;
    }
    if !note_spool(path) {
        return false;
    }
    // SAFETY: the constructor runs before the program has threads; the array is as environ(7) says.
    unsafe {
        let text: *const c_char = OWN.0.get().cast();
        let count = pointers(environ).count();
        for i in 0..count {
            let at = environ.add(i);
            if begins(*at, SPOOL_NAME) {
                *at = text;
                return true;
            }
        }
        // The old array lies on the stack, with no room: the new one in memory of its own.
        let Some(array) = raw::map((count + 2) * size_of::<usize>(), raw::WRITABLE, 0x22, -1) else { return false };
        let array: *mut *const c_char = array.cast();
        for i in 0..count {
            *array.add(i) = *environ.add(i);
        }
        *array.add(count) = text;
        environ = array;
    }
    true
}
