//! open(2), read(2), write(2), close(2), dup(2), mmap(2), truncate(2) and their families.

use core::ffi::{c_char, c_int, c_void};

use flowcept_wire::file::{READ, WRITE};
use flowcept_wire::gap;

use crate::descriptors::{
    before, changed, changed_by_name, closing, closing_range, duplicated, mapped, moved, opened, unseen,
};
use crate::lifecycle::{boot_clock, segment};
use crate::raw::HERE;
use crate::real::failed;

const O_CREAT_WRONLY_TRUNC: c_int = 0o1101;
const F_DUPFD: c_int = 0;
const F_DUPFD_CLOEXEC: c_int = 1030;

hooks! {
    // A third or fourth argument that was not given lies in the same register, and nobody looks at it.
    [open open64] (name: *const c_char, flags: c_int, mode: c_int) -> c_int,
        before(flags), |was, made| opened_if(made, HERE, name, flags, was);
    [openat openat64] (directory: c_int, name: *const c_char, flags: c_int, mode: c_int) -> c_int,
        before(flags), |was, made| opened_if(made, directory, name, flags, was);
    [__open_2 __open64_2] (name: *const c_char, flags: c_int) -> c_int,
        before(flags), |was, made| opened_if(made, HERE, name, flags, was);
    [__openat_2 __openat64_2] (directory: c_int, name: *const c_char, flags: c_int) -> c_int,
        before(flags), |was, made| opened_if(made, directory, name, flags, was);
    [creat creat64] (name: *const c_char, mode: c_int) -> c_int,
        before(O_CREAT_WRONLY_TRUNC), |was, made| opened_if(made, HERE, name, O_CREAT_WRONLY_TRUNC, was);

    [mkstemp mkstemp64] (template: *mut c_char) -> c_int, (), |_, made| temporary(made, template);
    [mkostemp mkostemp64 mkstemps mkstemps64] (template: *mut c_char, more: c_int) -> c_int,
        (), |_, made| temporary(made, template);
    [mkostemps mkostemps64] (template: *mut c_char, suffix: c_int, flags: c_int) -> c_int,
        (), |_, made| temporary(made, template);

    [read] (fd: c_int, into: *mut c_void, count: usize) -> isize, (), |_, made| moved(fd, READ, made, 0);
    [__read_chk] (fd: c_int, into: *mut c_void, count: usize, size: usize) -> isize,
        (), |_, made| moved(fd, READ, made, 0);
    [pread pread64] (fd: c_int, into: *mut c_void, count: usize, at: i64) -> isize,
        (), |_, made| moved(fd, READ, made, 0);
    [__pread_chk __pread64_chk] (fd: c_int, into: *mut c_void, count: usize, at: i64, size: usize) -> isize,
        (), |_, made| moved(fd, READ, made, 0);
    [readv] (fd: c_int, parts: *const c_void, count: c_int) -> isize, (), |_, made| moved(fd, READ, made, 0);
    [preadv preadv64] (fd: c_int, parts: *const c_void, count: c_int, at: i64) -> isize,
        (), |_, made| moved(fd, READ, made, 0);
    [preadv2 preadv64v2] (fd: c_int, parts: *const c_void, count: c_int, at: i64, flags: c_int) -> isize,
        (), |_, made| moved(fd, READ, made, 0);

    [write] (fd: c_int, from: *const c_void, count: usize) -> isize,
        boot_clock(), |was, made| moved(fd, WRITE, made, was);
    [pwrite pwrite64] (fd: c_int, from: *const c_void, count: usize, at: i64) -> isize,
        boot_clock(), |was, made| moved(fd, WRITE, made, was);
    [writev] (fd: c_int, parts: *const c_void, count: c_int) -> isize,
        boot_clock(), |was, made| moved(fd, WRITE, made, was);
    [pwritev pwritev64] (fd: c_int, parts: *const c_void, count: c_int, at: i64) -> isize,
        boot_clock(), |was, made| moved(fd, WRITE, made, was);
    [pwritev2 pwritev64v2] (fd: c_int, parts: *const c_void, count: c_int, at: i64, flags: c_int) -> isize,
        boot_clock(), |was, made| moved(fd, WRITE, made, was);

    [sendfile sendfile64] (out: c_int, from: c_int, at: *mut i64, count: usize) -> isize,
        boot_clock(), |was, made| copied(from, out, made, was);
    [tee] (from: c_int, out: c_int, count: usize, flags: u32) -> isize,
        boot_clock(), |was, made| copied(from, out, made, was);

    [close] (fd: c_int) -> c_int, closing(fd), |_, _| ();
    [close_range] (first: u32, last: u32, flags: c_int) -> c_int, closing_range(first, last), |_, _| ();
    [closefrom] (first: c_int) -> (), closing_range(first.max(0) as u32, u32::MAX), |_, _| ();
    [dup] (fd: c_int) -> c_int, (), |_, made| duplicated(fd, made);
    [dup2] (fd: c_int, new: c_int) -> c_int, replaced_by(fd, new), |_, made| duplicated(fd, made);
    [dup3] (fd: c_int, new: c_int, flags: c_int) -> c_int, replaced_by(fd, new), |_, made| duplicated(fd, made);
    [fcntl fcntl64] (fd: c_int, command: c_int, argument: usize) -> c_int,
        (), |_, made| if matches!(command, F_DUPFD | F_DUPFD_CLOEXEC) { duplicated(fd, made) };

    [ftruncate ftruncate64] (fd: c_int, length: i64) -> c_int,
        boot_clock(), |was, made| if made == 0 { changed(fd, length == 0, was) };
    [fallocate fallocate64] (fd: c_int, mode: c_int, at: i64, length: i64) -> c_int,
        boot_clock(), |was, made| if made == 0 { changed(fd, false, was) };
    [posix_fallocate posix_fallocate64] (fd: c_int, at: i64, length: i64) -> c_int,
        boot_clock(), |was, made| if made == 0 { changed(fd, false, was) };
    [truncate truncate64] (name: *const c_char, length: i64) -> c_int,
        boot_clock(), |was, made| if made == 0 { changed_by_name(name, length == 0, was) };

    [send] (fd: c_int, from: *const c_void, count: usize, flags: c_int) -> isize, (), |_, made| socket(made);
    [recv] (fd: c_int, into: *mut c_void, count: usize, flags: c_int) -> isize, (), |_, made| socket(made);
    [sendmsg recvmsg] (fd: c_int, message: *mut c_void, flags: c_int) -> isize, (), |_, made| socket(made);
    [shmat] (id: c_int, address: *const c_void, flags: c_int) -> *mut c_void,
        (), |_, _| { segment().iter().for_each(|s| unseen(s, gap::SYSV_SHARED_MEMORY)) };
}

full_hooks! {
    [splice] (from: c_int, at: *mut i64, out: c_int, at_out: *mut i64, count: usize, flags: u32) -> isize,
        boot_clock(), |was, made| copied(from, out, made, was);
    [copy_file_range] (from: c_int, at: *mut i64, out: c_int, at_out: *mut i64, count: usize, flags: u32) -> isize,
        boot_clock(), |was, made| copied(from, out, made, was);
    [sendto] (fd: c_int, from: *const c_void, count: usize, flags: c_int, to: *const c_void, size: u32) -> isize,
        (), |_, made| socket(made);
    [recvfrom] (fd: c_int, into: *mut c_void, count: usize, flags: c_int, from: *mut c_void, size: *mut u32) -> isize,
        (), |_, made| socket(made);
}

/// mmap(2) is called before the constructor has run, and by allocators that dlsym(3) may need: the kernel is asked directly.
extern "C" fn map(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    at: i64,
) -> *mut c_void {
    const MAP_ANONYMOUS: c_int = 0x20;
    const MAP_SHARED: c_int = 1;
    let words = [address as usize, length, protection as usize, flags as usize, fd as usize, at as usize];
    let made = crate::raw::call(9, words);
    if (-4095..0).contains(&made) {
        return failed(-made) as *mut c_void;
    }
    if flags & MAP_ANONYMOUS == 0 {
        mapped(fd, protection, flags);
    } else if flags & 3 == MAP_SHARED {
        segment().iter().for_each(|s| unseen(s, gap::SHARED_MEMORY));
    }
    made as *mut c_void
}

macro_rules! maps {
    ($($symbol:ident)+) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $symbol() {
            core::arch::naked_asm!("jmp {map}", map = sym map)
        }
    )+};
}
maps! { mmap mmap64 }

fn opened_if(made: c_int, directory: c_int, name: *const c_char, flags: c_int, was: u64) {
    if made >= 0 {
        opened(made, directory, name, flags, was);
    }
}

/// mkstemp(3) made it, under the name that now stands in the template.
fn temporary(made: c_int, template: *const c_char) {
    const O_CREAT_EXCL_RDWR: c_int = 0o302;
    opened_if(made, HERE, template, O_CREAT_EXCL_RDWR, 0);
}

fn copied(from: c_int, out: c_int, bytes: isize, was: u64) {
    moved(from, READ, bytes, 0);
    moved(out, WRITE, bytes, was);
}

fn replaced_by(fd: c_int, new: c_int) {
    if fd != new {
        closing(new);
    }
}

fn socket(bytes: isize) {
    if bytes > 0 {
        segment().iter().for_each(|s| unseen(s, gap::SOCKET));
    }
}
