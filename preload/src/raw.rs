//! System calls made directly, never through a symbol that somebody may interpose. They touch no errno.

use core::arch::asm;
use core::ffi::{CStr, c_int};

/// What a system call returned, where it is no error.
pub(crate) fn good(result: isize) -> Option<usize> {
    usize::try_from(result).ok()
}

/// A system call of up to six arguments (x86-64: `syscall` keeps all registers but rcx and r11).
pub(crate) fn call(number: usize, a: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: callers pass the numbers and pointers that the call's man page asks for.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// AT_FDCWD.
pub(crate) const HERE: c_int = -100;
const AT_EMPTY_PATH: usize = 0x1000;
const AT_SYMLINK_NOFOLLOW: usize = 0x100;

/// pause(2).
pub(crate) fn pause() {
    call(34, [0; 6]);
}

/// getpid(2).
pub(crate) fn pid() -> u32 {
    call(39, [0; 6]) as u32
}

/// getppid(2).
pub(crate) fn parent_pid() -> u32 {
    call(110, [0; 6]) as u32
}

/// Real and effective user and group id.
pub(crate) fn ids() -> [u32; 4] {
    [102, 107, 104, 108].map(|number| call(number, [0; 6]) as u32)
}

/// open(2).
pub(crate) fn open(path: &CStr, flags: usize) -> Option<c_int> {
    open_at(HERE, path.as_ptr().cast(), flags)
}

/// openat(2); the name ends with a NUL.
pub(crate) fn open_at(directory: c_int, name: *const u8, flags: usize) -> Option<c_int> {
    let result = call(257, [directory as usize, name as usize, flags, 0o600, 0, 0]);
    good(result).map(|fd| fd as c_int)
}

/// fstatfs(2): the kind of filesystem.
pub(crate) fn magic(fd: c_int) -> Option<u32> {
    let mut words = [0_u64; 15];
    (call(138, [fd as usize, words.as_mut_ptr() as usize, 0, 0, 0, 0]) == 0).then_some(words[0] as u32)
}

/// FS_IOC_GETVERSION of ioctl(2): an inode's generation.
pub(crate) fn version(fd: c_int) -> Option<u32> {
    const GET_VERSION: usize = 0x8008_7601;
    let mut version = 0_u64;
    let result = call(16, [fd as usize, GET_VERSION, &raw mut version as usize, 0, 0, 0]);
    (result == 0).then_some(version as u32)
}

/// close(2).
pub(crate) fn close(fd: c_int) {
    call(3, [fd as usize, 0, 0, 0, 0, 0]);
}

/// read(2); how many bytes.
pub(crate) fn read(fd: c_int, into: &mut [u8]) -> usize {
    good(call(0, [fd as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0])).unwrap_or(0)
}

/// mkdir(2), mode 0700.
pub(crate) fn make_directory(path: &CStr) {
    call(83, [path.as_ptr() as usize, 0o700, 0, 0, 0, 0]);
}

/// fallocate(2) from the begin.
pub(crate) fn allocate(fd: c_int, bytes: usize) -> bool {
    call(285, [fd as usize, 0, 0, bytes, 0, 0]) == 0
}

/// PROT_READ and PROT_WRITE of mmap(2).
pub(crate) const WRITABLE: usize = 3;

/// mmap(2); `protection` and `flags` as there.
pub(crate) fn map(bytes: usize, protection: usize, flags: usize, fd: c_int) -> Option<*mut u8> {
    good(call(9, [0, bytes, protection, flags, fd as usize, 0])).map(|address| address as *mut u8)
}

/// munmap(2).
pub(crate) fn unmap(address: *mut u8, bytes: usize) {
    call(11, [address as usize, bytes, 0, 0, 0, 0]);
}

/// readlinkat(2); how many bytes.
pub(crate) fn read_link(directory: c_int, path: &CStr, into: &mut [u8]) -> usize {
    let words = [directory as usize, path.as_ptr() as usize, into.as_mut_ptr() as usize, into.len(), 0, 0];
    let result = call(267, words);
    good(result).unwrap_or(0)
}

/// getcwd(2); how many bytes, without the NUL.
pub(crate) fn working_directory(into: &mut [u8]) -> usize {
    good(call(79, [into.as_mut_ptr() as usize, into.len(), 0, 0, 0, 0])).unwrap_or(1).saturating_sub(1)
}

/// getrandom(2).
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    call(318, [bytes.as_mut_ptr() as usize, 8, 1, 0, 0, 0]);
    u64::from_ne_bytes(bytes)
}

/// getrusage(2) of this process, as the words of `struct rusage`.
pub(crate) fn usage() -> [u64; 18] {
    let mut words = [0; 18];
    call(98, [0, words.as_mut_ptr() as usize, 0, 0, 0, 0]);
    words
}

/// clock_gettime(2) through the C library, which asks no kernel (vdso(7)); nanoseconds.
pub(crate) fn clock(which: c_int) -> u64 {
    unsafe extern "C" {
        fn clock_gettime(which: c_int, time: *mut [i64; 2]) -> c_int;
    }
    let mut time = [0; 2];
    // SAFETY: the call fills the two words that it is given.
    unsafe { clock_gettime(which, &raw mut time) };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}

/// clock_getres(2), in nanoseconds.
pub(crate) fn resolution(which: c_int) -> u64 {
    let mut time = [0_u64; 2];
    call(229, [which as usize, time.as_mut_ptr() as usize, 0, 0, 0, 0]);
    time[0] * 1_000_000_000 + time[1]
}

/// `struct statx` of linux/stat.h, as far as it is looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Statx {
    pub(crate) mask: u32,
    pub(crate) block: u32,
    pub(crate) attributes: u64,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u16,
    pub(crate) padding: u16,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) attributes_mask: u64,
    pub(crate) accessed: [i64; 2],
    pub(crate) born: [i64; 2],
    pub(crate) changed: [i64; 2],
    pub(crate) modified: [i64; 2],
    pub(crate) special: [u32; 2],
    pub(crate) device: [u32; 2],
    rest: [u64; 14],
}

/// A time of [`Statx`] in nanoseconds.
pub(crate) fn nanoseconds(time: [i64; 2]) -> u64 {
    time[0] as u64 * 1_000_000_000 + (time[1] as u64 & 0xffff_ffff)
}

fn stat(fd: c_int, path: *const u8, flags: usize) -> Option<Statx> {
    let mut found = core::mem::MaybeUninit::<Statx>::zeroed();
    // STATX_BASIC_STATS and STATX_BTIME, without asking a server again (AT_STATX_DONT_SYNC).
    let result = call(332, [fd as usize, path as usize, flags | 0x4000, 0xfff, found.as_mut_ptr() as usize, 0]);
    // SAFETY: zero is a valid value of every field, and the kernel has filled it.
    (result == 0).then(|| unsafe { found.assume_init() })
}

/// The file behind a descriptor.
pub(crate) fn stat_descriptor(fd: c_int) -> Option<Statx> {
    stat(fd, c"".as_ptr().cast(), AT_EMPTY_PATH)
}

/// The file behind a name; a symbolic link itself.
pub(crate) fn stat_name(fd: c_int, path: *const u8) -> Option<Statx> {
    stat(fd, path, AT_SYMLINK_NOFOLLOW)
}

/// The file behind a name, through symbolic links.
pub(crate) fn stat_path(directory: c_int, path: *const u8) -> Option<Statx> {
    stat(directory, path, 0)
}

/// name_to_handle_at(2): the kind of handle, its length and its bytes.
pub(crate) fn handle(fd: c_int, path: *const u8, flags: usize) -> Option<(u32, usize, [u8; 128])> {
    #[repr(C)]
    struct Handle {
        length: u32,
        kind: i32,
        bytes: [u8; 128],
    }
    let mut handle = Handle { length: 128, kind: 0, bytes: [0; 128] };
    let mut mount = 0_i32;
    let handle_at = &raw mut handle as usize;
    let result = call(303, [fd as usize, path as usize, handle_at, &raw mut mount as usize, flags, 0]);
    (result == 0).then_some((handle.kind as u32, handle.length as usize, handle.bytes))
}

/// Of the file behind a descriptor.
pub(crate) fn handle_of_descriptor(fd: c_int) -> Option<(u32, usize, [u8; 128])> {
    handle(fd, c"".as_ptr().cast(), AT_EMPTY_PATH)
}
