//! Filesystems by device, and paths as they really are: what the kernel's probes read from its structures, and a process
//! cannot. Asked of this host when the spool is taken in.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use flowcept_wire::file::{File, TMPFS, Volume};

const PIPEFS: u32 = 0x5049_5045;

/// What is known of filesystems and folders.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    known: HashMap<u32, Volume>,
    folders: HashMap<String, String>,
    /// The last folder that was looked into: the next file often lies there too.
    last: Option<Folder>,
}

/// A folder in which names are looked up.
#[derive(Debug)]
struct Folder {
    path: String,
    open: fs::File,
    asked: u32,
    /// The symbolic links in it, once that was worth a look at all of it.
    links: Option<HashSet<OsString>>,
}

impl Folder {
    /// After so many questions one reads what there is.
    const ENOUGH: u32 = 8;

    fn has_link(&mut self, name: &str) -> bool {
        self.asked += 1;
        if self.asked == Self::ENOUGH {
            let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
            let links = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_symlink()));
            self.links = Some(links.map(|e| e.file_name()).collect());
        }
        match &self.links {
            Some(links) => links.contains(OsStr::new(name)),
            None => nix::fcntl::readlinkat(&self.open, name).is_ok(),
        }
    }
}

impl Volumes {
    /// The filesystem of a file, found at its path or at a mount point of its device.
    pub(super) fn of(&mut self, file: &File, path: &str, mode: u32) -> Volume {
        if let Some(volume) = self.known.get(&file.device) {
            return *volume;
        }
        let volume = if mode & 0o170_000 == 0o010_000 && path.is_empty() {
            Volume { magic: PIPEFS, ..Volume::default() }
        } else {
            let there = |p: &str| fs::metadata(p).is_ok_and(|m| device(m.dev()) == file.device);
            let folder = Path::new(path).parent().and_then(Path::to_str).filter(|p| there(p)).map(String::from);
            // A memfd lies on a tmpfs that is mounted nowhere.
            let unmounted = Volume { magic: TMPFS, ..Volume::default() };
            folder.or_else(|| mount_point(file.device)).map_or(unmounted, |folder| look(&folder))
        };
        self.known.insert(file.device, volume);
        volume
    }

    /// The path without symbolic links: of the file itself where it is still there, else of its folder.
    pub(super) fn real_path(&mut self, path: &str, inode: u64) -> Arc<str> {
        let beside = self.in_real_folder(path);
        if !self.is_link(&beside) {
            return beside.into();
        }
        match fs::canonicalize(&beside) {
            Ok(real) if fs::metadata(&real).is_ok_and(|m| m.ino() == inode) => real.to_string_lossy().into(),
            _ => beside.into(),
        }
    }

    fn is_link(&mut self, path: &str) -> bool {
        /// O_PATH, O_DIRECTORY.
        const LOOK: i32 = 0o10_000_000 | 0o200_000;
        let Some((folder, name)) = path.rsplit_once('/') else { return false };
        let folder = if folder.is_empty() { "/" } else { folder };
        if self.last.as_ref().is_none_or(|last| last.path != folder) {
            let opened = fs::OpenOptions::new().read(true).custom_flags(LOOK).open(folder);
            self.last = opened.ok().map(|open| Folder { path: folder.into(), open, asked: 0, links: None });
        }
        self.last.as_mut().is_some_and(|last| last.has_link(name))
    }

    /// The path in its folder as that really is.
    pub(super) fn in_real_folder(&mut self, path: &str) -> String {
        let plain = spelled(path);
        let Some((folder, name)) = plain.rsplit_once('/').filter(|(folder, _)| !folder.is_empty()) else {
            return plain;
        };
        let real = self.folders.entry(folder.to_string()).or_insert_with(|| {
            fs::canonicalize(folder).map_or_else(|_| folder.to_string(), |p| p.to_string_lossy().into_owned())
        });
        if real == "/" { format!("/{name}") } else { format!("{real}/{name}") }
    }
}

/// Without `//` and `/./`. `..` stays for whoever resolves links: `a/link/..` is not `a`.
fn spelled(path: &str) -> String {
    if !path.contains("/..") {
        return path.split('/').filter(|p| !p.is_empty() && *p != ".").fold(String::new(), |mut out, part| {
            out.push('/');
            out.push_str(part);
            out
        });
    }
    let real = Path::new(path).parent().and_then(|p| fs::canonicalize(p).ok());
    let name = Path::new(path).file_name();
    match (real, name) {
        (Some(folder), Some(name)) => folder.join(name).to_string_lossy().into_owned(),
        _ => path.to_string(),
    }
}

/// st_dev of stat(2) in the kernel's own coding.
fn device(of: u64) -> u32 {
    let (major, minor) = (nix::sys::stat::major(of), nix::sys::stat::minor(of));
    (major << 20 | minor) as u32
}

/// A mount point of this device (proc_pid_mountinfo(5)).
fn mount_point(wanted: u32) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(2);
        let (major, minor) = words.next()?.split_once(':')?;
        let device: u32 = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?;
        let place = words.nth(1)?;
        (device == wanted).then(|| place.replace("\\040", " "))
    })
}

/// Kind and UUID of the filesystem at a folder.
fn look(folder: &str) -> Volume {
    let magic = nix::sys::statfs::statfs(folder).map_or(0, |s| s.filesystem_type().0 as u32);
    let uuid = fs::File::open(folder).ok().and_then(|file| uuid::of(&file)).unwrap_or_default();
    Volume { uuid, magic, reserved: 0 }
}

/// FS_IOC_GETFSUUID (linux/fs.h, since 6.9).
mod uuid {
    use std::os::fd::AsRawFd;

    #[repr(C)]
    pub(super) struct Answer {
        length: u8,
        uuid: [u8; 16],
    }
    nix::ioctl_read!(get, 0x15, 0, Answer);

    pub(super) fn of(file: &std::fs::File) -> Option<[u8; 16]> {
        let mut answer = Answer { length: 0, uuid: [0; 16] };
        #[expect(unsafe_code, reason = "ioctl(2)")]
        // SAFETY: the call fills the struct that it is given.
        let asked = unsafe { get(file.as_raw_fd(), &raw mut answer) };
        asked.ok().filter(|_| answer.length == 16).map(|_| answer.uuid)
    }
}
