//! As what a file was used: rules on its path, its filesystem and what kind of thing it is. What is executed is
//! a program anyway. Roles belong to uses, not to files.

use crate::identity::FilesystemId;
use crate::observation::FileKind;

/// As what a file was used or generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// What the work is about: the default view.
    Data,
    /// Run, or interpreted as a program.
    Program,
    /// Code and its parts that programs bring along.
    Library,
    /// Settings of the system and its programs.
    Configuration,
    /// Kept to be faster next time.
    Cache,
    /// A device.
    Device,
    /// A file that the kernel makes up.
    KernelFile,
    /// Born and gone within the workflow.
    Temporary,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Data,
        Self::Program,
        Self::Library,
        Self::Configuration,
        Self::Cache,
        Self::Device,
        Self::KernelFile,
        Self::Temporary,
    ];

    /// As messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Program => "program",
            Self::Library => "library",
            Self::Configuration => "configuration",
            Self::Cache => "cache",
            Self::Device => "device",
            Self::KernelFile => "kernel_file",
            Self::Temporary => "temporary",
        }
    }
}

/// What the role of a use is decided from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: FileKind,
    pub(crate) filesystem: FilesystemId,
    /// Mapped so that it may be executed.
    pub(crate) executable: bool,
    /// It is the script that gives the activity its name.
    pub(crate) script: bool,
}

const PSEUDO: [&str; 8] = ["proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf"];

/// The role of a use.
pub(crate) fn of_use(c: &Circumstances<'_>) -> Role {
    if c.kind == FileKind::Device {
        return Role::Device;
    }
    if c.filesystem.kind().is_some_and(|k| PSEUDO.contains(&k)) {
        return Role::KernelFile;
    }
    if c.script {
        return Role::Program;
    }
    if c.executable || is_library(c.path) {
        return Role::Library;
    }
    if is_cache(c.path) {
        return Role::Cache;
    }
    if is_configuration(c.path) {
        return Role::Configuration;
    }
    Role::Data
}

/// The role of a generation; whether it is temporary is decided later.
pub(crate) fn of_generation(path: &str, kind: FileKind, filesystem: FilesystemId) -> Role {
    let c = Circumstances { path, kind, filesystem, executable: false, script: false };
    match of_use(&c) {
        role @ (Role::Device | Role::KernelFile | Role::Cache) => role,
        // What a workflow makes is its product, also where others would find a library or settings.
        _ => Role::Data,
    }
}

fn is_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let in_system =
        ["/usr/lib", "/lib/", "/lib64/", "/usr/local/lib/", "/usr/libexec/", "/usr/include/", "/usr/local/include/"]
            .iter()
            .any(|p| path.starts_with(p));
    let shared = name.ends_with(".so") || name.contains(".so.");
    let folders = || path.split('/').rev().skip(1);
    let module = folders().any(|f| matches!(f, "site-packages" | "dist-packages" | "node_modules" | "perl5" | "gems"))
        || folders().zip(folders().skip(1)).any(|(inner, outer)| outer == "lib" && inner.starts_with("python"));
    let shipped = [
        "/usr/share/perl",
        "/usr/share/gcc",
        "/usr/share/git-core/",
        "/usr/share/python",
        "/usr/share/java/",
        "/usr/share/awk",
    ]
    .iter()
    .any(|p| path.starts_with(p));
    in_system && !is_configuration(path) && !name.ends_with(".cache")
        || shared
        || shipped
        || module && folders().all(|f| f != "__pycache__")
}

fn is_cache(path: &str) -> bool {
    path.split('/').rev().skip(1).any(|f| matches!(f, ".cache" | "__pycache__"))
        || path.starts_with("/var/cache/")
        || path == "/etc/ld.so.cache"
        || path.ends_with("/gconv-modules.cache")
}

fn is_configuration(path: &str) -> bool {
    let places = [
        "/etc/",
        "/usr/share/locale/",
        "/usr/share/zoneinfo/",
        "/usr/share/terminfo/",
        "/usr/lib/locale/",
        "/usr/share/i18n/",
        "/lib/terminfo/",
        "/usr/lib/terminfo/",
        "/run/systemd/",
        "/usr/lib/x86_64-linux-gnu/gconv/",
    ];
    let name = path.rsplit('/').next().unwrap_or(path);
    let of_user = ["/home/", "/root/"].iter().any(|h| {
        path.strip_prefix(h).is_some_and(|rest| {
            let rest = if *h == "/root/" { rest } else { rest.split_once('/').map_or("", |(_, r)| r) };
            rest.starts_with('.') && !rest.starts_with("./") && (!rest.contains('/') || rest.starts_with(".config/"))
        })
    });
    places.iter().any(|p| path.starts_with(p)) || of_user || name == "pyvenv.cfg"
}
