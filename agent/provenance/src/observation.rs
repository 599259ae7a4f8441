//! The closed list of facts that can be observed. It does not know what follows from them.

use std::sync::Arc;

use crate::identity::{FileKey, ImageNo, ProcessKey};
use crate::node::Sample;
use crate::quantity::{BootNs, ByteCount, Nanos, Pid, UnixNs};

/// One fact. Causes are stamped early, effects late, so that a real flow never looks reversed.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A process was forked.
    Forked(Forked),
    /// A program image began.
    Execed(Box<Execed>),
    /// An exec failed.
    ExecFailed(ExecFailed),
    /// A process ended.
    Ended(Ended),
    /// The CPU time of a process is complete.
    Freed(Freed),
    /// An image used a file for the first time in one direction, or created or truncated it.
    Touched(Box<Touched>),
    /// What an image did with a file since.
    Summed(Summed),
    /// A name was given or taken.
    Named(Box<Named>),
    /// A mechanism was used that nobody follows.
    Unseen(Unseen),
    /// How a file that was mapped shared and writable looked when its mapper had ended.
    Settled(Settled),
    /// Records were lost.
    Lost(Lost),
    /// How the node as a whole was.
    Sampled(Box<Sample>),
    /// Counters that must balance.
    Counted(Counted),
    /// The tracer stopped while this still ran.
    Left(Left),
}

/// See [`Observation::Forked`].
#[derive(Clone, Debug, PartialEq)]
pub struct Forked {
    /// The child's first image.
    pub image: ImageNo,
    /// The image that forked it; absent for the root of a workflow.
    pub parent: Option<ImageNo>,
    /// Its key.
    pub process: ProcessKey,
    /// Its pid.
    pub pid: Pid,
    /// When.
    pub at: BootNs,
    /// CLONE_VM: parent and child share their memory until one of them execs.
    pub shares_memory: bool,
}

/// Who it runs as and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// cgroup id.
    pub cgroup: u64,
    /// Inode number of the mount namespace.
    pub mount_namespace: u32,
    /// Inode number of the pid namespace.
    pub pid_namespace: u32,
}

/// See [`Observation::Execed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Execed {
    /// The new image.
    pub image: ImageNo,
    /// The image of the same process that ended by this.
    pub previous: ImageNo,
    /// Its key.
    pub process: ProcessKey,
    /// Its pid.
    pub pid: Pid,
    /// When.
    pub at: BootNs,
    /// The executable that the kernel runs; for a script, its interpreter.
    pub executable: FileKey,
    /// The executable's state.
    pub state: FileState,
    /// The executable's path.
    pub executable_path: Arc<str>,
    /// The name given to execve(2).
    pub asked: Box<str>,
    /// The working directory.
    pub directory: Arc<str>,
    /// The arguments, redacted.
    pub arguments: Arc<[Box<str>]>,
    /// Arguments that were cut off, in bytes.
    pub arguments_cut: u32,
    /// The part of the environment that the allow-list admits, redacted.
    pub environment: Arc<[(Box<str>, Box<str>)]>,
    /// Who and where.
    pub credentials: Credentials,
    /// What the process had cost when the previous image ended.
    pub costs: Costs,
}

/// What a process has cost since it was forked. Differences between two of them are an image's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// CPU time of all threads; lacks the time since the last tick.
    pub cpu: Nanos,
    /// Scaled user time.
    pub user: Nanos,
    /// Scaled system time.
    pub system: Nanos,
    /// Bytes fetched from storage.
    pub storage_read: ByteCount,
    /// Bytes sent to storage.
    pub storage_written: ByteCount,
    /// Peak memory of this image; 0 where it is not known.
    pub peak_memory: ByteCount,
    /// Peak memory of the process over all its images.
    pub peak_memory_process: ByteCount,
}

/// See [`Observation::ExecFailed`].
#[derive(Clone, Debug, PartialEq)]
pub struct ExecFailed {
    /// Who tried.
    pub image: ImageNo,
    /// When.
    pub at: BootNs,
    /// The name given.
    pub asked: Box<str>,
    /// errno(3).
    pub errno: u32,
}

/// See [`Observation::Ended`].
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Its last image.
    pub image: ImageNo,
    /// When.
    pub at: BootNs,
    /// As wait(2) has it.
    pub code: u32,
    /// What the process has cost.
    pub costs: Costs,
}

/// See [`Observation::Freed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Freed {
    /// Its last image.
    pub image: ImageNo,
    /// CPU time of all threads over all images, complete.
    pub cpu: Nanos,
}

/// What kind of thing a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A pipe or FIFO.
    Pipe,
    /// A character device.
    Device,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Access {
    /// Content came to the image (0 bytes: that there was none).
    Read,
    /// Content went to the file.
    Write,
    /// Mapped.
    Map,
    /// Mapped shared and writable.
    MapWrite,
}

/// State of a file; all 0 where it was not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileState {
    /// Size.
    pub size: ByteCount,
    /// Last change of content.
    pub mtime: UnixNs,
    /// Last change of content or attributes.
    pub ctime: UnixNs,
    /// Names that it has.
    pub links: u32,
}

/// See [`Observation::Touched`].
#[derive(Clone, Debug, PartialEq)]
pub struct Touched {
    /// Who.
    pub image: ImageNo,
    /// Which file.
    pub file: FileKey,
    /// What it is.
    pub kind: FileKind,
    /// In which direction.
    pub access: Access,
    /// When.
    pub at: BootNs,
    /// The path by which the file is known, as the host sees it; absent for a pipe.
    pub path: Option<Arc<str>>,
    /// It has no name (any more): unlinked, O_TMPFILE, memfd.
    pub nameless: bool,
    /// The open created it.
    pub created: bool,
    /// The call cut it to nothing.
    pub truncated: bool,
    /// Mapped so that it may be executed.
    pub executable: bool,
    /// Which file it was is not beyond doubt.
    pub uncertain: bool,
    /// Names the open file while it is open.
    pub open_file: u64,
    /// Its state then.
    pub state: FileState,
}

/// See [`Observation::Summed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Summed {
    /// Who.
    pub image: ImageNo,
    /// Which file.
    pub file: FileKey,
    /// In which direction.
    pub access: Access,
    /// When the sum was taken.
    pub at: BootNs,
    /// Bytes moved.
    pub bytes: ByteCount,
    /// Calls.
    pub calls: u64,
    /// First use.
    pub first: BootNs,
    /// Last use, or a bound not before it.
    pub last: BootNs,
    /// The open file was closed for good.
    pub last_close: bool,
    /// Its state then.
    pub state: FileState,
}

/// What was done to names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Naming {
    /// rename(2).
    Rename,
    /// renameat2(2), RENAME_EXCHANGE.
    Exchange,
    /// link(2).
    Link,
    /// unlink(2).
    Unlink,
    /// symlink(2).
    Symlink,
    /// mkdir(2).
    MakeDirectory,
    /// rmdir(2).
    RemoveDirectory,
}

/// See [`Observation::Named`].
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Who.
    pub image: ImageNo,
    /// Before the call.
    pub at: BootNs,
    /// What.
    pub naming: Naming,
    /// The file that the old name meant, where that was found out.
    pub file: Option<FileKey>,
    /// It is a directory (or something else without content).
    pub directory: bool,
    /// The file that the new name meant before.
    pub replaced: Option<FileKey>,
    /// The old name, as the host sees it.
    pub old_path: Arc<str>,
    /// The new name, where there is one.
    pub new_path: Option<Arc<str>>,
    /// State of `file` before the call.
    pub state: FileState,
    /// The file was found by its name only, after the call.
    pub inferred: bool,
}

/// A way for bytes to go that the capture does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// io_uring(7).
    IoUring,
    /// io_submit(2).
    LinuxAio,
    /// socket(7).
    Socket,
    /// shmat(2).
    SystemVSharedMemory,
    /// mq_overview(7), msgsnd(2).
    MessageQueue,
    /// process_vm_readv(2).
    ProcessVm,
    /// A 32-bit program.
    Compat,
    /// Anonymous memory mapped shared.
    SharedMemory,
    /// FIDEDUPERANGE.
    Deduplication,
    /// truncate(2) of a name that could not be resolved.
    TruncateByName,
    /// seccomp(2): what the library would call may be what ends the program.
    Sandbox,
    /// A system call for files through syscall(2), of which the library sees that it was made.
    NumberedCall,
}

/// See [`Observation::Unseen`].
#[derive(Clone, Debug, PartialEq)]
pub struct Unseen {
    /// Who.
    pub image: ImageNo,
    /// When.
    pub at: BootNs,
    /// What.
    pub mechanism: Mechanism,
}

/// See [`Observation::Settled`].
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The mapper.
    pub image: ImageNo,
    /// The file.
    pub file: FileKey,
    /// Its state, where it was still there.
    pub state: Option<FileState>,
    /// The filesystem does not tell changes through a mapping by time.
    pub untold: bool,
}

/// See [`Observation::Lost`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Which stage lost them, as `kernel ring`.
    pub source: Box<str>,
    /// What, as `touched: no room`.
    pub cause: Box<str>,
    /// How many.
    pub count: u64,
}

/// See [`Observation::Counted`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Processes that the kernel counted as forked, the root included.
    pub forked: u64,
    /// Processes that the kernel counted as ended.
    pub ended: u64,
    /// Processes that were alive when tracing stopped.
    pub living: u64,
    /// Records that went into the ring.
    pub written: u64,
    /// Records that came out of it.
    pub decoded: u64,
}

/// See [`Observation::Left`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Why, as `tracer killed`, `detached`.
    pub why: Box<str>,
    /// When.
    pub at: BootNs,
}
