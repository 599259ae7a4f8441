//! Records that the library writes from inside a process. It does not know of versions.

use crate::file::{File, State};
use crate::header::Header;

/// Environment variables that are recorded; a trailing `*` admits a prefix. Nothing else of an environment leaves capture.
pub const ENVIRONMENT: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_*",
    "TZ",
    "PWD",
    "SHELL",
    "VIRTUAL_ENV",
    "CONDA_DEFAULT_ENV",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "FLOWCEPT_WORKFLOW_ID",
    "FLOWCEPT_CAMPAIGN_ID",
];

/// Whether the variable of this name is recorded.
pub fn admits(name: &[u8]) -> bool {
    ENVIRONMENT.iter().any(|a| match a.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix.as_bytes()),
        None => name == a.as_bytes(),
    })
}

/// A program image that the library is in. Text: executable path, working directory, arguments, the admitted environment,
/// the last two as in `/proc/PID/cmdline`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Began {
    /// Header.
    pub header: Header,
    /// Start of the process in clock ticks of CLOCK_BOOTTIME, as `/proc/self/stat` has it.
    pub start: u64,
    /// SipHash-2-4 of the first 8 bytes at AT_RANDOM.
    pub digest: u64,
    /// Where [`FORKED`]: the segment of the image that forked this process, by its [`crate::segment::Begin::id`].
    pub parent: u64,
    /// The executable.
    pub executable: File,
    /// Its state.
    pub state: State,
    /// Process id in its own pid namespace.
    pub pid: u32,
    /// The parent's, when the image began.
    pub parent_pid: u32,
    /// Inode number of the pid namespace.
    pub pid_namespace: u32,
    /// Inode number of the mount namespace.
    pub mount_namespace: u32,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// [`FORKED`].
    pub flags: u32,
    /// Bytes of the arguments in the process; `argument_text` may be less.
    pub argument_bytes: u32,
    /// Length of each part of the text, in their order.
    pub executable_text: u16,
    /// See `executable_text`.
    pub directory_text: u16,
    /// See `executable_text`.
    pub argument_text: u16,
    /// See `executable_text`.
    pub environment_text: u16,
}

/// The image began by fork, not by exec; arguments and executable are its parent's.
pub const FORKED: u32 = 1;

/// What an image does with an open file in one direction. Written at the first use; its sums are raised in place while it
/// goes on, so that they are there however the process ends. Text: the name given, absolute or relative to the working
/// directory then.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Header; `at` is the first use.
    pub header: Header,
    /// Which file; `device` in the kernel's coding.
    pub file: File,
    /// Its state at the first use.
    pub state: State,
    /// Bytes moved.
    pub bytes: u64,
    /// Calls.
    pub calls: u64,
    /// Not before the last use, and at most a tick of a few milliseconds after it; 0 for none after the first.
    pub last: u64,
    /// When the open file was closed; 0 while it is not, or where it had other descriptors.
    pub closed: u64,
    /// Names the open file within the segment; 0 for one that the image did not open.
    pub open: u64,
    /// As in [`crate::file::Touched::access`].
    pub access: u32,
    /// As in [`crate::file::Touched::flags`], and [`INHERITED`].
    pub flags: u32,
}

/// The descriptor was there before the image, or came in a way that the library does not see.
pub const INHERITED: u32 = 1 << 16;

/// The working directory is another now. Text: its path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Header.
    pub header: Header,
}

/// A name was given or taken. Text: the first name, then the second, each as [`Used`] has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renamed {
    /// Header; `at` is before the call.
    pub header: Header,
    /// The file that the first name meant; inode 0 where there was none.
    pub file: File,
    /// The file that the second name meant before.
    pub replaced: File,
    /// The state of `file` before the call.
    pub state: State,
    /// As in [`crate::file::Named::operation`].
    pub operation: u32,
    /// Length of the first name; the rest is the second.
    pub old_text: u32,
}

/// A child was started.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Header; `at` is before the call.
    pub header: Header,
    /// Its pid; 0 for one that the library is not in and whose pid is not known.
    pub pid: u32,
    /// [`BRIEF`].
    pub flags: u32,
}

/// The child had its parent's memory (vfork(2)) and ended without exec: it is no image.
pub const BRIEF: u32 = 1;

/// A child ended, as its parent was told by wait(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Header.
    pub header: Header,
    /// Its pid.
    pub pid: u32,
    /// As wait(2) has it.
    pub code: u32,
}

/// The process calls exit(3) or _exit(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exited {
    /// Header.
    pub header: Header,
    /// User time of all threads over all images, ns.
    pub user: u64,
    /// System time, ns.
    pub system: u64,
    /// Peak memory of the process over all images, bytes.
    pub peak_memory: u64,
    /// Bytes fetched from storage.
    pub storage_read: u64,
    /// Bytes sent to storage.
    pub storage_written: u64,
    /// The status.
    pub code: u32,
    /// 0.
    pub reserved: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_an_allow_list() {
        assert!(admits(b"PATH") && admits(b"LC_ALL"));
        assert!(!admits(b"AWS_SECRET_ACCESS_KEY") && !admits(b"MY_PATH"));
    }
}
