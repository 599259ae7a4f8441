//! What lasting names are made of: files by descriptor or name, the program image. It writes nothing.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU64, Ordering};

use flowcept_wire::file::{File, State, reuses_inodes};

use crate::raw::{self, Statx};

/// A file and its state.
#[derive(Clone, Copy)]
pub(crate) struct Met {
    pub(crate) file: File,
    pub(crate) state: State,
    pub(crate) born: u64,
}

impl Met {
    fn of(found: &Statx, generation: u32) -> Self {
        Self {
            file: File { inode: found.inode, device: device(found), generation },
            state: State {
                size: found.size,
                mtime: raw::nanoseconds(found.modified),
                ctime: raw::nanoseconds(found.changed),
                mode: u32::from(found.mode),
                links: found.links,
            },
            born: raw::nanoseconds(found.born),
        }
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.state.mode & 0o170_000 == 0o100_000
    }
}

/// In the kernel's own coding.
fn device(of: &Statx) -> u32 {
    of.device[0] << 20 | of.device[1]
}

/// How a filesystem tells the generation of an inode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By handle: slow, but all that have generations do.
    Handle = 1,
    /// By FS_IOC_GETVERSION, a quarter of that.
    Ioctl,
    /// It has none that matters: see [`flowcept_wire::file::reuses_inodes`].
    None,
}

/// What is known of devices: each with its way in the two lowest bits.
static WAYS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// The way of a device; `magic` tells the kind of its filesystem, when that is asked for the first time.
fn way(device: u32, magic: impl FnOnce() -> Option<u32>) -> Way {
    let known = |slot: &&AtomicU64| matches!(slot.load(Ordering::Relaxed), n if n == 0 || n >> 2 == u64::from(device));
    let Some(slot) = WAYS.iter().find(known) else { return Way::Handle };
    match slot.load(Ordering::Relaxed) & 3 {
        1 => return Way::Handle,
        2 => return Way::Ioctl,
        3 => return Way::None,
        _ => {}
    }
    let way = match magic() {
        Some(magic) if !reuses_inodes(magic) => Way::None,
        // ext4, xfs, btrfs, f2fs: their i_generation (fs/*/ioctl.c). Others may ask somebody else what it is.
        Some(0xef53 | 0x5846_5342 | 0x9123_683e | 0xf2f5_2010) => Way::Ioctl,
        _ => Way::Handle,
    };
    slot.store(u64::from(device) << 2 | way as u64, Ordering::Relaxed);
    way
}

/// The inode's generation as the filesystem's handles have it (linux/exportfs.h): kind 1 with two words is inode and
/// generation; btrfs and xfs have it at their place.
fn generation((kind, length, bytes): (u32, usize, [u8; 128])) -> u32 {
    let word = |i: usize| u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
    match (kind, length) {
        (1 | 2, 8 | 16) => word(1),
        (0x4d..=0x4f, _) => word(4),
        (0x81 | 0x82, _) => word(2),
        _ => 0,
    }
}

/// The file behind a descriptor.
pub(crate) fn of_descriptor(fd: c_int) -> Option<Met> {
    let found = raw::stat_descriptor(fd)?;
    let regular = found.mode & 0o170_000 == 0o100_000;
    let way = if regular { way(device(&found), || raw::magic(fd)) } else { Way::None };
    let by_handle = || raw::handle_of_descriptor(fd).map_or(0, generation);
    Some(Met::of(
        &found,
        match way {
            Way::None => 0,
            Way::Ioctl => raw::version(fd).unwrap_or_else(by_handle),
            Way::Handle => by_handle(),
        },
    ))
}

fn named(found: &Statx, fd: c_int, name: *const u8, look: usize, follow: usize) -> Met {
    let magic = || {
        /// O_PATH, O_CLOEXEC.
        const LOOK: usize = 0o10_000_000 | 0o2_000_000;
        let opened = raw::open_at(fd, name, LOOK | look)?;
        let magic = raw::magic(opened);
        raw::close(opened);
        magic
    };
    let none = way(device(found), magic) == Way::None;
    Met::of(found, if none { 0 } else { raw::handle(fd, name, follow).map_or(0, generation) })
}

/// The file behind a name, which ends with a NUL; a symbolic link itself.
pub(crate) fn of_name(fd: c_int, name: *const u8) -> Option<Met> {
    const O_NOFOLLOW: usize = 0o400_000;
    Some(named(&raw::stat_name(fd, name)?, fd, name, O_NOFOLLOW, 0))
}

/// The file behind a path, through symbolic links.
pub(crate) fn of_path(directory: c_int, path: *const u8) -> Option<Met> {
    const AT_SYMLINK_FOLLOW: usize = 0x400;
    Some(named(&raw::stat_path(directory, path)?, directory, path, 0, AT_SYMLINK_FOLLOW))
}

/// SipHash-2-4 of eight bytes under the public key that the kernel's probes use (probes/bpf/task.h).
pub(crate) fn digest(m: u64) -> u64 {
    const K: u64 = 0x7470_6563_776f_6c66;
    let mut v =
        [K ^ 0x736f_6d65_7073_6575, K ^ 0x646f_7261_6e64_6f6d, K ^ 0x6c79_6765_6e65_7261, K ^ 0x7465_6462_7974_6573];
    let rounds = |v: &mut [u64; 4], count: usize| {
        for _ in 0..count {
            v[0] = v[0].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(13) ^ v[0];
            v[0] = v[0].rotate_left(32);
            v[2] = v[2].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(16) ^ v[2];
            v[0] = v[0].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(21) ^ v[0];
            v[2] = v[2].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(17) ^ v[2];
            v[2] = v[2].rotate_left(32);
        }
    };
    for word in [m, 8 << 56] {
        v[3] ^= word;
        rounds(&mut v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    rounds(&mut v, 4);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}
