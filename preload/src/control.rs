//! Whether the kernel's probes watch this process now, so that the library has nothing to say: see [`flowcept_wire::control`].
//! It does not know what either of them sees.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use flowcept_wire::control::Control;

use crate::lifecycle::boot_clock_coarse;
use crate::raw;

/// The lease; null where the library watches alone.
static UNTIL: AtomicPtr<u64> = AtomicPtr::new(ptr::null_mut());

/// Maps the control word of this path. Whether it is there: where it is not, the workflow has come to its end.
pub(crate) fn find(path: &CStr) -> bool {
    const READABLE: usize = 1;
    const SHARED: usize = 1;
    /// O_NOFOLLOW, O_CLOEXEC.
    const LOOK: usize = 0o400_000 | 0o2_000_000;
    let Some(fd) = raw::open(path, LOOK) else { return false };
    let mut begin = [0; size_of::<Control>()];
    let whole = raw::read(fd, &mut begin) == begin.len();
    let mapped = if whole { raw::map(begin.len(), READABLE, SHARED, fd) } else { None };
    raw::close(fd);
    let Some(control) = mapped.map(|at| at.cast::<Control>()) else { return false };
    // SAFETY: the file is as long as that and stays mapped; only `until` changes, which is not looked at here.
    let (ours, until) = unsafe { ((*control).is_ours(), &raw mut (*control).until) };
    if ours {
        UNTIL.store(until, Ordering::Relaxed);
    }
    true
}

/// Whether the lease holds.
pub(crate) fn covered() -> bool {
    let until = UNTIL.load(Ordering::Relaxed);
    // SAFETY: mapped for good, aligned, and read by atomics only.
    !until.is_null() && unsafe { AtomicU64::from_ptr(until) }.load(Ordering::Relaxed) > boot_clock_coarse()
}
