//! From facts to what is loaded: pure rules. It does not load.

use flowcept_wire::{call, gap};

use crate::host::Facts;

/// One row of the number table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The man page's name.
    pub name: &'static str,
    /// The number on x86-64.
    pub number: u16,
    /// The class of [`flowcept_wire::call`].
    pub class: u8,
    /// Looked at when it is entered: its cause must be stamped early, or what its argument names is about to go.
    pub entry: bool,
    /// Looked at when it returns.
    pub exit: bool,
}

const fn row(name: &'static str, number: u16, class: u8, entry: bool, exit: bool) -> Row {
    Row { name, number, class, entry, exit }
}
const fn unseen(name: &'static str, number: u16, mechanism: u32) -> Row {
    row(name, number, call::UNSEEN + mechanism as u8, false, true)
}

/// Every system call that the dispatchers look at (arch/x86/entry/syscalls/syscall_64.tbl).
pub const CALLS: &[Row] = &[
    row("read", 0, call::READ, true, true),
    row("pread64", 17, call::READ, true, true),
    row("readv", 19, call::READ, true, true),
    row("preadv", 295, call::READ, true, true),
    row("preadv2", 327, call::READ, true, true),
    row("write", 1, call::WRITE, true, true),
    row("pwrite64", 18, call::WRITE, true, true),
    row("writev", 20, call::WRITE, true, true),
    row("pwritev", 296, call::WRITE, true, true),
    row("pwritev2", 328, call::WRITE, true, true),
    row("vmsplice", 278, call::WRITE, true, true),
    row("openat", 257, call::OPENAT, false, true),
    row("open", 2, call::OPEN, false, true),
    row("creat", 85, call::CREAT, false, true),
    row("openat2", 437, call::OPENAT2, false, true),
    row("open_by_handle_at", 304, call::OPENAT, false, true),
    row("memfd_create", 319, call::MEMFD, false, true),
    row("close", 3, call::CLOSE, true, false),
    row("dup2", 33, call::DUP2, true, false),
    row("dup3", 292, call::DUP2, true, false),
    row("mmap", 9, call::MMAP, false, true),
    row("sendfile", 40, call::SENDFILE, true, true),
    row("splice", 275, call::COPY, true, true),
    row("copy_file_range", 326, call::COPY, true, true),
    row("tee", 276, call::TEE, true, true),
    row("ioctl", 16, call::IOCTL, true, true),
    row("ftruncate", 77, call::CHANGE, true, true),
    row("fallocate", 285, call::CHANGE, true, true),
    row("truncate", 76, call::TRUNCATE, true, true),
    row("rename", 82, call::NAMES, true, true),
    row("renameat", 264, call::NAMES_AT, true, true),
    row("renameat2", 316, call::NAMES_AT, true, true),
    row("link", 86, call::NAMES, true, true),
    row("linkat", 265, call::NAMES_AT, true, true),
    row("unlink", 87, call::NAME, true, true),
    row("unlinkat", 263, call::NAME_AT, true, true),
    row("rmdir", 84, call::NAME, true, true),
    row("mkdir", 83, call::NAME, true, true),
    row("mkdirat", 258, call::NAME_AT, true, true),
    row("symlink", 88, call::SYMLINK, true, true),
    row("symlinkat", 266, call::SYMLINK_AT, true, true),
    row("execve", 59, call::EXECVE, false, true),
    row("execveat", 322, call::EXECVEAT, false, true),
    unseen("io_uring_enter", 426, gap::IO_URING),
    unseen("io_submit", 209, gap::LIBAIO),
    unseen("sendto", 44, gap::SOCKET),
    unseen("recvfrom", 45, gap::SOCKET),
    unseen("sendmsg", 46, gap::SOCKET),
    unseen("recvmsg", 47, gap::SOCKET),
    unseen("recvmmsg", 299, gap::SOCKET),
    unseen("sendmmsg", 307, gap::SOCKET),
    unseen("shmat", 30, gap::SYSV_SHARED_MEMORY),
    unseen("msgsnd", 69, gap::MESSAGE_QUEUE),
    unseen("msgrcv", 70, gap::MESSAGE_QUEUE),
    unseen("mq_timedsend", 242, gap::MESSAGE_QUEUE),
    unseen("mq_timedreceive", 243, gap::MESSAGE_QUEUE),
    unseen("process_vm_readv", 310, gap::PROCESS_VM),
    unseen("process_vm_writev", 311, gap::PROCESS_VM),
];

/// The programs of the object, each with what is blind without it.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("process_forked", "new processes"),
    ("process_execed", "new programs"),
    ("process_ended", "ends of processes"),
    ("process_freed", "complete CPU times"),
    ("call_entered", "what calls begin with"),
    ("call_returned", "what calls did"),
];

/// What to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of the ring; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Classes by number, for calls that are entered.
    pub at_entry: Vec<u8>,
    /// Classes by number, for calls that return.
    pub at_return: Vec<u8>,
    /// Programs that are left out; only mutation tests leave any out.
    pub without: Vec<String>,
}

/// Why nothing can be loaded, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// No rights.
    #[error("loading BPF programs needs root, or CAP_BPF and CAP_PERFMON")]
    Rights,
    /// No BTF.
    #[error("this kernel ({0}) has no BTF (CONFIG_DEBUG_INFO_BTF, /sys/kernel/btf/vmlinux)")]
    NoBtf(String),
    /// A kind of program or map is missing.
    #[error("this kernel ({0}) lacks {1}")]
    Lacks(String, &'static str),
}

/// The rung that these facts allow. There is one so far: the tracepoint rung.
///
/// `switched_off` names calls or programs that a mutation test leaves out.
pub fn decide(facts: &Facts, ring_bytes: u32, switched_off: &[String]) -> Result<Plan, Impossible> {
    if !facts.may_load() {
        return Err(Impossible::Rights);
    }
    if !facts.btf {
        return Err(Impossible::NoBtf(facts.release.clone()));
    }
    // What aya could not find out is not held against the host: loading will tell.
    for (fact, name) in [
        (facts.tracing, "BPF programs of type tracing"),
        (facts.ring_buffer, "BPF ring buffers"),
        (facts.task_storage, "BPF task storage"),
    ] {
        if fact == Some(false) {
            return Err(Impossible::Lacks(facts.release.clone(), name));
        }
    }
    let size = call::TABLE as usize;
    let mut plan = Plan {
        ring_bytes: ring_bytes.clamp(4096, 1 << 30).next_power_of_two(),
        at_entry: vec![call::NONE; size],
        at_return: vec![call::NONE; size],
        without: Vec::new(),
    };
    let off = |name: &str| switched_off.iter().any(|o| o == name);
    for row in CALLS.iter().filter(|r| !off(r.name)) {
        if row.entry {
            plan.at_entry[usize::from(row.number)] = row.class;
        }
        if row.exit {
            plan.at_return[usize::from(row.number)] = row.class;
        }
    }
    plan.without = PROGRAMS.iter().filter(|(name, _)| off(name)).map(|(name, _)| (*name).to_string()).collect();
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            release: "6.1.0".into(),
            root: true,
            capabilities: !0,
            btf: true,
            lockdown: String::new(),
            tracing: Some(true),
            ring_buffer: Some(true),
            task_storage: None,
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(decide(&Facts { capabilities: 0, ..facts() }, 1 << 24, &[]), Err(Impossible::Rights));
        assert_eq!(decide(&Facts { btf: false, ..facts() }, 1 << 24, &[]), Err(Impossible::NoBtf("6.1.0".into())));
        let lacks = decide(&Facts { ring_buffer: Some(false), ..facts() }, 1 << 24, &[]);
        assert_eq!(lacks, Err(Impossible::Lacks("6.1.0".into(), "BPF ring buffers")));
    }

    #[test]
    fn capabilities_suffice_without_root() {
        let capable = Facts { root: false, capabilities: crate::host::CAP_BPF | crate::host::CAP_PERFMON, ..facts() };
        assert!(decide(&capable, 1 << 24, &[]).is_ok());
    }

    #[test]
    fn every_call_is_in_its_table_once() {
        let plan =
            decide(&facts(), 3 << 20, &["read".into(), "process_freed".into()]).expect("because the facts allow it");
        assert_eq!(plan.ring_bytes, 4 << 20);
        assert_eq!((plan.at_entry[0], plan.at_entry[1]), (call::NONE, call::WRITE));
        assert_eq!(plan.without, ["process_freed"]);
        for (i, row) in CALLS.iter().enumerate() {
            assert!(CALLS.iter().skip(i + 1).all(|r| r.number != row.number), "{} is there twice", row.name);
            assert!(row.entry || row.exit, "{} is looked at nowhere", row.name);
        }
    }
}
