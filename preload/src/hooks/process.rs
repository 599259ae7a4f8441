//! fork(2), posix_spawn(3), wait(2), _exit(2) and their families. The child of vfork(2) is
//! found by its parent's pid.

use core::ffi::{c_char, c_int, c_void};

use crate::lifecycle::{exiting, in_vfork, more_loaded, started, starting, vforking, waited};

hooks! {
    [fork _Fork] () -> c_int, starting(), |was, made| started(made, was);
    [posix_spawn posix_spawnp] (
        pid: *mut c_int,
        name: *const c_char,
        actions: *const c_void,
        attributes: *const c_void,
        arguments: *const *const c_char,
        environment: *const *const c_char
    ) -> c_int, starting(), |was, made| if made == 0 && !pid.is_null() {
        // SAFETY: posix_spawn(3) has put the child's pid there.
        started(unsafe { *pid }, was)
    };
    [wait] (status: *mut c_int) -> c_int, (), |_, made| told(made, status);
    [waitpid __waitpid] (pid: c_int, status: *mut c_int, options: c_int) -> c_int, (), |_, made| told(made, status);
    [wait3] (status: *mut c_int, options: c_int, usage: *mut c_void) -> c_int, (), |_, made| told(made, status);
    [wait4] (pid: c_int, status: *mut c_int, options: c_int, usage: *mut c_void) -> c_int,
        (), |_, made| told(made, status);
    [_exit _Exit quick_exit] (status: c_int) -> (), if !in_vfork() { exiting(status) }, |_, _| ();
    [dlopen] (name: *const c_char, flags: c_int) -> *mut c_void, (), |_, _| more_loaded();
    [dlmopen] (space: isize, name: *const c_char, flags: c_int) -> *mut c_void, (), |_, _| more_loaded();
}

jumps! {
    vfork vforking;
    __vfork vforking;
}

fn told(pid: c_int, status: *const c_int) {
    if pid > 0 && !status.is_null() {
        // SAFETY: wait(2) has put the status there.
        waited(pid, unsafe { *status });
    }
}
