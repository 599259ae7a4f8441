//! The next definition of a symbol behind ours, found once. It does not call it.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

/// A symbol's next definition.
pub(crate) struct Real {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self { name, found: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Its address. A symbol that nobody defines is one that the program could not have called.
    pub(crate) fn get(&self) -> *mut c_void {
        unsafe extern "C" {
            fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
        }
        const NEXT: *mut c_void = -1_isize as *mut c_void;
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: dlsym(3) takes RTLD_NEXT and a name.
        let found = unsafe { dlsym(NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}
