//! What lasting names are made of: files by descriptor or name, the program image. It writes nothing.

use core::ffi::c_int;

use flowcept_wire::file::{File, State};

use crate::raw::{self, Statx};

/// A file and its state.
#[derive(Clone, Copy)]
pub(crate) struct Met {
    pub(crate) file: File,
    pub(crate) state: State,
    pub(crate) born: u64,
}

impl Met {
    fn of(found: &Statx, handle: Option<(u32, usize, [u8; 128])>) -> Self {
        let device = found.device[0] << 20 | found.device[1];
        let generation = handle.map_or(0, |(kind, length, bytes)| generation(kind, length, &bytes));
        Self {
            file: File { inode: found.inode, device, generation },
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

/// The inode's generation as the filesystem's handles have it (linux/exportfs.h): kind 1 with two words is inode and
/// generation; with three it is tmpfs's, which has the generation first (mm/shmem.c); btrfs and xfs have it at their place.
fn generation(kind: u32, length: usize, bytes: &[u8; 128]) -> u32 {
    let word = |i: usize| u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
    match (kind, length) {
        (1 | 2, 8 | 16) => word(1),
        (1, 12) => word(0),
        (0x4d..=0x4f, _) => word(4),
        (0x81 | 0x82, _) => word(2),
        _ => 0,
    }
}

/// The file behind a descriptor.
pub(crate) fn of_descriptor(fd: c_int) -> Option<Met> {
    let found = raw::stat_descriptor(fd)?;
    let regular = found.mode & 0o170_000 == 0o100_000;
    Some(Met::of(&found, if regular { raw::handle_of_descriptor(fd) } else { None }))
}

/// The file behind a name, which ends with a NUL; a symbolic link itself.
pub(crate) fn of_name(fd: c_int, name: *const u8) -> Option<Met> {
    let found = raw::stat_name(fd, name)?;
    Some(Met::of(&found, raw::handle(fd, name, 0)))
}

/// The file behind a path, through symbolic links.
pub(crate) fn of_path(directory: c_int, path: *const u8) -> Option<Met> {
    let found = raw::stat_path(directory, path)?;
    const AT_SYMLINK_FOLLOW: usize = 0x400;
    Some(Met::of(&found, raw::handle(directory, path, AT_SYMLINK_FOLLOW)))
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
