//! What a system call means to the dispatchers: the classes of their number table. It does not know the numbers.

/// Not looked at.
pub const NONE: u8 = 0;
/// Reads from the descriptor in the first argument.
pub const READ: u8 = 1;
/// Writes to the descriptor in the first argument.
pub const WRITE: u8 = 2;
/// Returns a descriptor; flags in the third argument (openat).
pub const OPENAT: u8 = 3;
/// Returns a descriptor; flags in the second argument (open).
pub const OPEN: u8 = 4;
/// creat(2).
pub const CREAT: u8 = 5;
/// openat2(2): flags in a struct.
pub const OPENAT2: u8 = 6;
/// close(2).
pub const CLOSE: u8 = 7;
/// dup2(2), dup3(2): closes the descriptor in the second argument.
pub const DUP2: u8 = 8;
/// mmap(2).
pub const MMAP: u8 = 9;
/// sendfile(2): out, in.
pub const SENDFILE: u8 = 10;
/// splice(2), copy_file_range(2): in, offset, out.
pub const COPY: u8 = 11;
/// tee(2): in, out.
pub const TEE: u8 = 12;
/// ioctl(2): FICLONE, FICLONERANGE.
pub const IOCTL: u8 = 13;
/// ftruncate(2), fallocate(2): change the content of the descriptor in the first argument.
pub const CHANGE: u8 = 14;
/// truncate(2).
pub const TRUNCATE: u8 = 15;
/// rename(2), link(2) and the like: two names relative to the working directory.
pub const NAMES: u8 = 16;
/// renameat(2), linkat(2): directory, name, directory, name.
pub const NAMES_AT: u8 = 17;
/// unlink(2), rmdir(2), mkdir(2): a name.
pub const NAME: u8 = 18;
/// unlinkat(2), mkdirat(2): directory, name.
pub const NAME_AT: u8 = 19;
/// symlink(2).
pub const SYMLINK: u8 = 20;
/// symlinkat(2): target, directory, name.
pub const SYMLINK_AT: u8 = 21;
/// execve(2): name in the first argument; told when it fails.
pub const EXECVE: u8 = 22;
/// execveat(2): name in the second argument.
pub const EXECVEAT: u8 = 23;
/// memfd_create(2).
pub const MEMFD: u8 = 24;
/// A mechanism that is noticed when it succeeds: `UNSEEN + mechanism` of [`crate::gap`].
pub const UNSEEN: u8 = 32;

/// Numbers that the table has room for.
pub const TABLE: u32 = 512;
