//! The environment, read once without allocating, and the one variable that is set: FLOWCEPT_SPOOL. It interprets nothing.

use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char};

use crate::raw;
use crate::segment::SPOOL;

/// An array of C strings that a null pointer ends.
pub(crate) type Strings = *const *const c_char;

/// The strings of an environment.
pub(crate) fn strings<'a>(mut environment: Strings) -> impl Iterator<Item = &'a [u8]> {
    core::iter::from_fn(move || {
        if environment.is_null() {
            return None;
        }
        // SAFETY: an environment is an array of C strings that a null pointer ends (environ(7)).
        unsafe {
            let text = *environment;
            if text.is_null() {
                return None;
            }
            environment = environment.add(1);
            Some(CStr::from_ptr(text).to_bytes())
        }
    })
}

/// The value of a variable.
pub(crate) fn value<'a>(environment: Strings, name: &[u8]) -> Option<&'a [u8]> {
    strings(environment).find_map(|s| s.strip_prefix(name)?.strip_prefix(b"="))
}

/// Whether a string of the environment is recorded.
pub(crate) fn admits(text: &[u8]) -> bool {
    let name = text.split(|b| *b == b'=').next().unwrap_or_default();
    flowcept_wire::library::admits(name)
}

struct Own(UnsafeCell<[u8; SPOOL + 32]>);
// SAFETY: written by the constructor only, before threads can be.
unsafe impl Sync for Own {}
static OWN: Own = Own(UnsafeCell::new([0; SPOOL + 32]));

const NAME: &[u8] = b"FLOWCEPT_SPOOL=";

/// Notes FLOWCEPT_SPOOL as programs that this one starts must have it; whether there is room.
pub(crate) fn note_spool(path: &[u8]) -> bool {
    if path.len() > SPOOL {
        return false;
    }
    // SAFETY: see `Own`.
    let own = unsafe { &mut *OWN.0.get() };
    own[..NAME.len()].copy_from_slice(NAME);
    own[NAME.len()..NAME.len() + path.len()].copy_from_slice(path);
    own[NAME.len() + path.len()] = 0;
    true
}

/// The variable that was noted, with its name.
pub(crate) fn spool() -> Option<&'static CStr> {
    // SAFETY: see `Own`.
    let own = unsafe { &*OWN.0.get() };
    CStr::from_bytes_until_nul(own).ok().filter(|text| !text.is_empty())
}

/// Its value.
pub(crate) fn spool_path() -> Option<&'static CStr> {
    spool().and_then(|text| CStr::from_bytes_with_nul(text.to_bytes_with_nul().get(NAME.len()..)?).ok())
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
        let count = strings(environ).count();
        for i in 0..count {
            let at = environ.add(i);
            if CStr::from_ptr(*at).to_bytes().starts_with(NAME) {
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
