//! Records of the life of processes. It does not know of files beyond their identity.

use crate::file::{File, State, Volume};
use crate::header::Header;

/// A process was forked (`tp_btf/task_newtask` without CLONE_THREAD); `header.image` is the child's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forked {
    /// Header; `image` is the new process's first image.
    pub header: Header,
    /// The image that forked it.
    pub parent: u64,
    /// Start of the process, ns of CLOCK_BOOTTIME (`task_struct.start_boottime`).
    pub start: u64,
    /// Flags of clone(2).
    pub clone_flags: u64,
    /// SipHash-2-4 of the first 8 bytes at AT_RANDOM, as copied from the parent.
    pub digest: u64,
    /// Thread-group id in the initial pid namespace.
    pub pid: u32,
    /// Thread-group id in its innermost pid namespace.
    pub namespace_pid: u32,
    /// Inode number of that namespace.
    pub pid_namespace: u32,
    /// 0.
    pub reserved: u32,
}

/// What a process has cost since it was forked; differences are the reader's business.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// `sum_exec_runtime` of all its threads, ns; at exec and exit it lacks the time since the last tick.
    pub cpu: u64,
    /// Scaled user time, ns (`task_struct.utime` and `signal_struct.utime`).
    pub user: u64,
    /// Scaled system time, ns.
    pub system: u64,
    /// Bytes fetched from storage (`task_io_accounting.read_bytes`).
    pub storage_read: u64,
    /// Bytes sent to storage.
    pub storage_written: u64,
    /// Peak of this memory map, bytes (`mm.hiwater_rss` or the current size if that is larger).
    pub peak_memory: u64,
    /// Peak of the process over all its images, bytes (`signal.maxrss`).
    pub peak_memory_process: u64,
}

/// A program image began (`tp_btf/sched_process_exec`); `header.image` is the new one.
///
/// Text: executable path, working directory, name given to execve(2), interpreter asked for, arguments, environment;
/// the first two leaf first, each component ended by NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execed {
    /// Header; `image` is the new image.
    pub header: Header,
    /// The image of the same process that ended by this.
    pub previous: u64,
    /// As [`Forked::start`].
    pub start: u64,
    /// SipHash-2-4 of the first 8 bytes at AT_RANDOM, new at each exec.
    pub digest: u64,
    /// cgroup v2 id.
    pub cgroup: u64,
    /// What the process had cost until then.
    pub costs: Costs,
    /// The executable that the kernel runs (`mm.exe_file`).
    pub executable: File,
    /// Where it lies.
    pub volume: Volume,
    /// Its state.
    pub state: State,
    /// As in [`Forked`].
    pub pid: u32,
    /// As in [`Forked`].
    pub namespace_pid: u32,
    /// As in [`Forked`].
    pub pid_namespace: u32,
    /// Inode number of the mount namespace.
    pub mount_namespace: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Bytes of the arguments in the process; `argument_text` may be less.
    pub argument_bytes: u32,
    /// Bytes of the environment in the process; `environment_text` may be less.
    pub environment_bytes: u32,
    /// Length of each part of the text, in their order.
    pub executable_text: u16,
    /// See `executable_text`.
    pub directory_text: u16,
    /// See `executable_text`.
    pub asked_text: u16,
    /// See `executable_text`.
    pub interpreter_text: u16,
    /// See `executable_text`.
    pub argument_text: u16,
    /// See `executable_text`.
    pub environment_text: u16,
    /// [`crate::file::PATH_CUT`] where a path was longer than the walk.
    pub flags: u32,
}

/// An execve(2) that failed. Text: the name given. The library writes it before the call: while `errno` is 0 the call has not
/// failed, and another image has begun, with the library in it or not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecFailed {
    /// Header.
    pub header: Header,
    /// errno.
    pub errno: u32,
    /// Bytes of text: the name given, with its NUL.
    pub asked_text: u32,
}

/// The last thread of a process has ended (`tp_btf/sched_process_exit`, `signal.live` = 0).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Header.
    pub header: Header,
    /// What the process has cost.
    pub costs: Costs,
    /// As in [`Forked`].
    pub pid: u32,
    /// As wait(2) has it: status << 8, or the signal, with 0x80 for a core dump.
    pub code: u32,
}

/// A process was freed (`tp_btf/sched_process_free`): its CPU time is complete now.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Header.
    pub header: Header,
    /// `sum_exec_runtime` of all threads, ns, over all images.
    pub cpu: u64,
}
