//! Names that outlive reuse. It does not know where they come from.

use std::fmt;

use uuid::Uuid;

/// The capture's number for a program image; unique within one capture, no name outside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageNo(pub u64);

/// Names a program image for ever: kernel and library can both know all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: u128,
    /// Inode number of the innermost pid namespace.
    pub pid_namespace: u32,
    /// Thread-group id in that namespace.
    pub tgid: u32,
    /// Start time in clock ticks (USER_HZ) of CLOCK_BOOTTIME.
    pub start_ticks: u64,
    /// SipHash-2-4 of the first 8 bytes at AT_RANDOM, which are new at each exec. Never the bytes themselves.
    pub digest: u64,
}

/// The namespace in which task ids are made (a version 4 UUID, chosen once).
const TASKS: Uuid = Uuid::from_u128(0x6f1c_2f0a_5d1e_4f6b_9c38_1d5a_7e42_b9d3);

impl ProcessKey {
    /// The task's id: UUIDv5 of the key, so that sending again is harmless and two nodes never collide.
    pub fn task_id(&self) -> Uuid {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&self.boot.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.pid_namespace.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.tgid.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.start_ticks.to_be_bytes());
        bytes[32..].copy_from_slice(&self.digest.to_be_bytes());
        Uuid::new_v5(&TASKS, &bytes)
    }
}

/// A filesystem: its kind, its volume, and the host that it is local to.
///
/// Displayed as `ext4-9f3a1b2c3d4e5f60-h1a2b3c4d`: kind, digest of the superblock's UUID (or, where there is none, of boot
/// and device), digest of the host's id. The host is part of it because cloned nodes share UUIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilesystemId {
    /// statfs(2)'s `f_type`.
    pub magic: u32,
    /// Digest of the host's id.
    pub host: u32,
    /// Digest of the volume.
    pub volume: u64,
}

/// Kinds of filesystems by their magic number (linux/magic.h).
const KINDS: &[(u32, &str)] = &[
    (0xEF53, "ext4"),
    (0x0102_1994, "tmpfs"),
    (0x5846_5342, "xfs"),
    (0x9123_683E, "btrfs"),
    (0x794C_7630, "overlay"),
    (0x5049_5045, "pipe"),
    (0x6969, "nfs"),
    (0x0BD0_0BD0, "lustre"),
    (0x9FA0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x0027_E0EB, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x1CD1, "devpts"),
    (0x2FC1_2FC1, "zfs"),
    (0xF2F5_2010, "f2fs"),
    (0x7371_7368, "squashfs"),
    (0x6573_5546, "fuse"),
    (0x4D44, "vfat"),
    (0xFF53_4D42, "cifs"),
    (0x0102_1997, "9p"),
    (0x1980_0202, "mqueue"),
    (0x958458F6, "hugetlbfs"),
    (0x6165_676C, "pstore"),
    (0x534F_434B, "socket"),
    (0x0904_1934, "anon"),
    (0x7363_6673, "securityfs"),
    (0xCAFE_4A11, "bpf"),
];

impl FilesystemId {
    /// The kind's name, where it is a known one.
    pub fn kind(&self) -> Option<&'static str> {
        KINDS.iter().find(|(magic, _)| *magic == self.magic).map(|(_, name)| *name)
    }
}

impl fmt::Display for FilesystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{kind}-{:016x}-h{:08x}", self.volume, self.host),
            None => write!(f, "fs{:x}-{:016x}-h{:08x}", self.magic, self.volume, self.host),
        }
    }
}

/// Names a file (or a pipe) for ever, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    /// Where it lies.
    pub filesystem: FilesystemId,
    /// Inode number.
    pub inode: u64,
    /// Inode generation: another one when the number is used again.
    pub generation: u32,
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}.{}", self.filesystem, self.inode, self.generation)
    }
}

/// A file at a version: what tasks use and generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntityId {
    /// The file.
    pub file: FileKey,
    /// 0 for the first version known.
    pub version: u32,
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.file, self.version)
    }
}

/// A text that is not an entity id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnEntity(pub String);

impl fmt::Display for NotAnEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' is not an entity id (as in ext4-9f3a1b2c3d4e5f60-h1a2b3c4d:4711.3@1)", self.0)
    }
}
impl std::error::Error for NotAnEntity {}

impl std::str::FromStr for EntityId {
    type Err = NotAnEntity;
    fn from_str(text: &str) -> Result<Self, NotAnEntity> {
        let parse = || {
            let (file, version) = text.rsplit_once('@')?;
            let (filesystem, inode) = file.split_once(':')?;
            let (inode, generation) = inode.split_once('.')?;
            let (rest, host) = filesystem.rsplit_once("-h")?;
            let (kind, volume) = rest.rsplit_once('-')?;
            let known = KINDS.iter().find(|(_, name)| *name == kind).map(|(magic, _)| *magic);
            let magic = known.or_else(|| u32::from_str_radix(kind.strip_prefix("fs")?, 16).ok())?;
            let filesystem = FilesystemId {
                magic,
                host: u32::from_str_radix(host, 16).ok()?,
                volume: u64::from_str_radix(volume, 16).ok()?,
            };
            let file = FileKey { filesystem, inode: inode.parse().ok()?, generation: generation.parse().ok()? };
            Some(Self { file, version: version.parse().ok()? })
        };
        parse().ok_or_else(|| NotAnEntity(text.to_string()))
    }
}
