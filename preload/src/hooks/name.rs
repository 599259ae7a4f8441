//! rename(2), link(2), unlink(2), symlink(2), mkdir(2), chdir(2) and their families.

use core::ffi::{c_char, c_int, c_uint};
use core::ptr::null;

use flowcept_wire::file::{EXCHANGE, LINK, MKDIR, RENAME, RMDIR, SYMLINK, UNLINK};

use crate::descriptors::{directory_changed, named, names};
use crate::lifecycle::segment;
use crate::raw::HERE;

const AT_REMOVEDIR: c_int = 0x200;

hooks! {
    [rename] (old: *const c_char, new: *const c_char) -> c_int,
        names(HERE, old, HERE, new), |was, made| if made == 0 { named(was, RENAME, HERE, old, HERE, new) };
    [renameat] (directory: c_int, old: *const c_char, to: c_int, new: *const c_char) -> c_int,
        names(directory, old, to, new), |was, made| if made == 0 { named(was, RENAME, directory, old, to, new) };
    [renameat2] (directory: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_uint) -> c_int,
        names(directory, old, to, new), |was, made| if made == 0 {
            named(was, if flags & 2 != 0 { EXCHANGE } else { RENAME }, directory, old, to, new)
        };
    [link] (old: *const c_char, new: *const c_char) -> c_int,
        names(HERE, old, HERE, null()), |was, made| if made == 0 { named(was, LINK, HERE, old, HERE, new) };
    [linkat] (directory: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_int) -> c_int,
        names(directory, old, to, null()), |was, made| if made == 0 { named(was, LINK, directory, old, to, new) };
    [unlink remove] (name: *const c_char) -> c_int,
        names(HERE, name, HERE, null()), |was, made| if made == 0 { named(was, UNLINK, HERE, name, HERE, null()) };
    [unlinkat] (directory: c_int, name: *const c_char, flags: c_int) -> c_int,
        names(directory, name, HERE, null()), |was, made| if made == 0 {
            named(was, if flags & AT_REMOVEDIR != 0 { RMDIR } else { UNLINK }, directory, name, HERE, null())
        };
    [rmdir] (name: *const c_char) -> c_int,
        names(HERE, name, HERE, null()), |was, made| if made == 0 { named(was, RMDIR, HERE, name, HERE, null()) };
    [mkdir] (name: *const c_char, mode: c_uint) -> c_int,
        names(HERE, name, HERE, null()), |was, made| if made == 0 { named(was, MKDIR, HERE, name, HERE, null()) };
    [mkdirat] (directory: c_int, name: *const c_char, mode: c_uint) -> c_int,
        names(directory, name, HERE, null()), |was, made| if made == 0 {
            named(was, MKDIR, directory, name, HERE, null())
        };
    [symlink] (target: *const c_char, name: *const c_char) -> c_int,
        names(HERE, name, HERE, null()), |was, made| if made == 0 { named(was, SYMLINK, HERE, target, HERE, name) };
    [symlinkat] (target: *const c_char, directory: c_int, name: *const c_char) -> c_int,
        names(directory, name, HERE, null()), |was, made| if made == 0 {
            named(was, SYMLINK, HERE, target, directory, name)
        };
    // What was loaded under a relative name is told while that means it.
    [chdir] (name: *const c_char) -> c_int, segment(), |_, made| if made == 0 { directory_changed() };
    [fchdir] (fd: c_int) -> c_int, segment(), |_, made| if made == 0 { directory_changed() };
}
