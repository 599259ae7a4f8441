//! Records of what is noticed and not followed. It does not know why.

use crate::header::Header;

/// The image used a mechanism that these probes do not follow; sent once an image and mechanism. No text.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Header.
    pub header: Header,
    /// One of the constants of this module.
    pub mechanism: u32,
    /// The number of the system call.
    pub call: u32,
}

/// io_uring_enter(2).
pub const IO_URING: u32 = 1;
/// io_submit(2).
pub const LIBAIO: u32 = 2;
/// Bytes moved through a socket.
pub const SOCKET: u32 = 3;
/// shmat(2).
pub const SYSV_SHARED_MEMORY: u32 = 4;
/// msgsnd(2), msgrcv(2), mq_timedsend(2), mq_timedreceive(2).
pub const MESSAGE_QUEUE: u32 = 5;
/// process_vm_readv(2), process_vm_writev(2).
pub const PROCESS_VM: u32 = 6;
/// A system call of the 32-bit table.
pub const COMPAT: u32 = 7;
/// mmap(2), shared and writable, of anonymous memory: processes forked later can exchange bytes through it.
pub const SHARED_MEMORY: u32 = 8;
/// FIDEDUPERANGE of ioctl(2).
pub const DEDUPLICATION: u32 = 9;
/// truncate(2) of a name that was not found in the directory's cache.
pub const TRUNCATE_BY_NAME: u32 = 10;
/// seccomp(2): from then on the library is silent, since a system call of its own may be one that ends the program.
pub const SANDBOX: u32 = 11;
/// A system call for files, made through syscall(2): of its arguments the library sees the number alone.
pub const NUMBERED_CALL: u32 = 12;
