//! Records of files and pipes: first touch, sums, names. It does not know of versions.

use crate::header::Header;

/// Which file, as the kernel knows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct File {
    /// `inode.i_ino`; 0 for none.
    pub inode: u64,
    /// `super_block.s_dev`, in the kernel's own coding (12 bits major, 20 bits minor).
    pub device: u32,
    /// `inode.i_generation`.
    pub generation: u32,
}

/// The filesystem of a file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// `super_block.s_uuid`, zero where there is none.
    pub uuid: [u8; 16],
    /// `super_block.s_magic`, as statfs(2) names it.
    pub magic: u32,
    /// 0.
    pub reserved: u32,
}

/// The state of a file at the time of the record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Bytes.
    pub size: u64,
    /// Last change of content, ns since 1970.
    pub mtime: u64,
    /// Last change of content or attributes, ns since 1970.
    pub ctime: u64,
    /// `inode.i_mode`.
    pub mode: u32,
    /// `inode.i_nlink`.
    pub links: u32,
}

/// Content went from the file to the image (also when nothing was left to read).
pub const READ: u32 = 1;
/// Content went from the image to the file, or it was created or truncated.
pub const WRITE: u32 = 2;
/// The file was mapped.
pub const MAP: u32 = 3;
/// The file was mapped shared and writable.
pub const MAP_WRITE: u32 = 4;

/// The open created the file.
pub const CREATED: u32 = 1;
/// The open or the call cut the file to nothing.
pub const TRUNCATED: u32 = 2;
/// The file has no name in its directory (any more).
pub const NAMELESS: u32 = 4;
/// Which file it was could not be decided beyond doubt: another thread changed the descriptor meanwhile.
pub const UNCERTAIN: u32 = 8;
/// The path has more levels or bytes than the walk takes.
pub const PATH_CUT: u32 = 16;
/// A mapping that may be executed.
pub const EXECUTABLE: u32 = 32;
/// The sum was sent at the last close of the open file.
pub const LAST_CLOSE: u32 = 64;
/// Told call by call, because the map of sums was full.
pub const NOT_SUMMED: u32 = 128;

/// An image's first use of a file in one direction. Text: the path, leaf first, each component ended by NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Header.
    pub header: Header,
    /// Which file.
    pub file: File,
    /// The directory that its name is in; inode 0 for none.
    pub directory: File,
    /// Its filesystem.
    pub volume: Volume,
    /// Its state.
    pub state: State,
    /// Names the open file (the address of `struct file`), to be compared only, and only while it is open.
    pub open_file: u64,
    /// [`READ`], [`WRITE`], [`MAP`] or [`MAP_WRITE`].
    pub access: u32,
    /// [`CREATED`] and so on.
    pub flags: u32,
}

/// What an image did with a file in one direction since its [`Touched`]. No text.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summed {
    /// Header; `at` is when the sum was taken.
    pub header: Header,
    /// Which file.
    pub file: File,
    /// Its state then; all 0 where it could not be read any more.
    pub state: State,
    /// Bytes moved.
    pub bytes: u64,
    /// Calls.
    pub calls: u64,
    /// First use, ns of CLOCK_BOOTTIME.
    pub first: u64,
    /// Not before the last use, and at most a tick after it where no other stamp bounds it.
    pub last: u64,
    /// As [`Touched::open_file`]; 0 where more than one was used.
    pub open_file: u64,
    /// As in [`Touched`].
    pub access: u32,
    /// [`LAST_CLOSE`], [`NOT_SUMMED`].
    pub flags: u32,
}

/// rename(2): `file` has the new name.
pub const RENAME: u32 = 1;
/// renameat2(2) with RENAME_EXCHANGE: `file` and `replaced` have each other's name.
pub const EXCHANGE: u32 = 2;
/// link(2), also linkat(2) of an O_TMPFILE: `file` has one name more.
pub const LINK: u32 = 3;
/// unlink(2): `file` has lost a name.
pub const UNLINK: u32 = 4;
/// symlink(2): the second name means the first from now on.
pub const SYMLINK: u32 = 5;
/// mkdir(2).
pub const MKDIR: u32 = 6;
/// rmdir(2).
pub const RMDIR: u32 = 7;

/// A change of names. Text: the path of `file` under its new name (walked; empty where it was not found), then for each of
/// the two names the path of the directory that it is relative to (leaf first, NUL ended) and the name as given, with its NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Header; `at` is before the call.
    pub header: Header,
    /// When the call returned.
    pub returned: u64,
    /// The file that the first name meant; inode 0 where it was not found.
    pub file: File,
    /// The file that the second name meant before; inode 0 for none or not found.
    pub replaced: File,
    /// The directory of the first name; inode 0 where it was not resolved.
    pub directory: File,
    /// The directory of the second name.
    pub directory_new: File,
    /// The filesystem.
    pub volume: Volume,
    /// The state of `file`.
    pub state: State,
    /// [`RENAME`] and so on.
    pub operation: u32,
    /// [`PATH_CUT`].
    pub flags: u32,
    /// Length of each part of the text.
    pub walked_text: u16,
    /// See `walked_text`.
    pub base_text: u16,
    /// See `walked_text`.
    pub name_text: u16,
    /// See `walked_text`.
    pub base_new_text: u16,
    /// See `walked_text`.
    pub name_new_text: u16,
    /// 0.
    pub reserved: [u16; 3],
}

/// The kind of a tmpfs (statfs(2)).
pub const TMPFS: u32 = 0x0102_1994;

/// Whether a filesystem of this kind (statfs(2)) gives an inode's number to another file, so that its generation belongs to its
/// name. A tmpfs counts on (`shmem_reserve_inode` in mm/shmem.c): 4,000,000,000 files are made before a number comes again even
/// where it counts with 32 bits.
pub fn reuses_inodes(magic: u32) -> bool {
    magic != TMPFS
}
