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

    /// As counts name it. None is `data`: Flowcept's web service keeps fields of that name to itself.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Data => "data_files",
            Self::Program => "programs",
            Self::Library => "libraries",
            Self::Configuration => "configurations",
            Self::Cache => "caches",
            Self::Device => "devices",
            Self::KernelFile => "kernel_files",
            Self::Temporary => "temporaries",
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

/// The role of a use.
pub(crate) fn of_use(c: &Circumstances<'_>) -> Role {
    if c.kind == FileKind::Device {
        return Role::Device;
    }
    if c.filesystem.kind().is_some_and(is_pseudo) {
        return Role::KernelFile;
    }
    if c.script {
        return Role::Program;
    }
    let folders = Folders::of(c.path);
    if c.executable || is_library(c.path, &folders) {
        return Role::Library;
    }
    if is_cache(c.path, &folders) {
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

fn is_pseudo(filesystem: &str) -> bool {
    matches!(filesystem, "proc" | "sysfs" | "cgroup" | "cgroup2" | "debugfs" | "tracefs" | "securityfs" | "bpf")
}

/// What the names of the folders say that a file lies in. Asked once for each use: one pass, no search.
#[derive(Default)]
struct Folders {
    /// One is a language's for what is installed.
    modules: bool,
    /// One is for compiled Python.
    compiled: bool,
    /// One is for caches.
    cache: bool,
}

impl Folders {
    fn of(path: &str) -> Self {
        let mut of = Self::default();
        let (mut outer, mut begin): (&[u8], _) = (b"", 0);
        for (end, _) in path.bytes().enumerate().filter(|(_, byte)| *byte == b'/') {
            let folder = &path.as_bytes()[begin..end];
            match folder {
                b"site-packages" | b"dist-packages" | b"node_modules" | b"perl5" | b"gems" => of.modules = true,
                b"__pycache__" => of.compiled = true,
                b".cache" => of.cache = true,
                folder => of.modules |= outer == b"lib" && folder.starts_with(b"python"),
            }
            (outer, begin) = (folder, end + 1);
        }
        of
    }
}

fn is_library(path: &str, folders: &Folders) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let in_system =
        ["/usr/lib", "/lib/", "/lib64/", "/usr/local/lib/", "/usr/libexec/", "/usr/include/", "/usr/local/include/"]
            .iter()
            .any(|p| path.starts_with(p));
    let shared = name.ends_with(".so") || name.contains(".so.");
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
        || folders.modules && !folders.compiled
}

fn is_cache(path: &str, folders: &Folders) -> bool {
    folders.cache
        || folders.compiled
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
