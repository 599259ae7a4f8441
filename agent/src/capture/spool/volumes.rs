//! Filesystems by device, and paths as they really are: what the kernel's probes read from its structures, and a process
//! cannot. Asked of this host when the spool is taken in.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use flowcept_wire::file::{File, TMPFS, Volume};
use rustc_hash::FxHashMap;

const PIPEFS: u32 = 0x5049_5045;

/// What is known of filesystems and folders.
#[derive(Debug, Default)]
pub(super) struct Volumes {
    known: FxHashMap<u32, Volume>,
    folders: FxHashMap<String, Folder>,
    /// The last path: the next is often the same.
    last: Arc<str>,
}

/// A folder in which names are looked up.
#[derive(Debug, Default)]
struct Folder {
    /// Its path as it really is; empty for the root.
    real: String,
    asked: usize,
    /// The symbolic links in it, once that was worth a look at all of it.
    links: Option<HashSet<OsString>>,
}

impl Folder {
    /// After so many questions one reads what there is, if that is not much more than what was asked.
    const ENOUGH: usize = 4;
    const MUCH: usize = 64;
    /// Bytes of a folder's size for each name in it, about: exactly so on tmpfs, more on most.
    const NAME: u64 = 20;

    /// Whether the name, with which the path ends, is a symbolic link.
    fn has_link(&mut self, path: &str, name: &str) -> bool {
        self.asked += 1;
        if self.links.is_none() && self.asked >= Self::ENOUGH && self.asked.is_power_of_two() {
            self.links = self.list();
        }
        match &self.links {
            Some(links) => links.contains(OsStr::new(name)),
            None => fs::read_link(path).is_ok(),
        }
    }

    fn list(&self) -> Option<HashSet<OsString>> {
        let folder = if self.real.is_empty() { "/" } else { &self.real };
        let most = self.asked * Self::MUCH;
        if fs::metadata(folder).is_ok_and(|m| m.len() / Self::NAME > most as u64) {
            return None;
        }
        let mut links = HashSet::new();
        for (place, entry) in fs::read_dir(folder).into_iter().flatten().flatten().enumerate() {
            // Some filesystems tell no size.
            if place > most {
                return None;
            }
            if entry.file_type().is_ok_and(|t| t.is_symlink()) {
                links.insert(entry.file_name());
            }
        }
        Some(links)
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
        let (beside, is_link) = self.look_up(&spelled(path));
        if is_link
            && let Ok(real) = fs::canonicalize(&beside)
            && fs::metadata(&real).is_ok_and(|m| m.ino() == inode)
        {
            return real.to_string_lossy().into();
        }
        if *self.last != beside {
            self.last = beside.into();
        }
        self.last.clone()
    }

    /// The path in its folder as that really is.
    pub(super) fn in_real_folder(&mut self, path: &str) -> String {
        let path = spelled(path);
        let Some((folder, name)) = path.rsplit_once('/') else { return path.into() };
        format!("{}/{name}", self.folder(folder).real)
    }

    /// The path in its folder as that really is, and whether it is a symbolic link there.
    fn look_up(&mut self, path: &str) -> (String, bool) {
        let Some((folder, name)) = path.rsplit_once('/') else { return (path.into(), false) };
        let folder = self.folder(folder);
        let path = [&folder.real, "/", name].concat();
        let is_link = folder.has_link(&path, name);
        (path, is_link)
    }

    /// A folder, of which nothing needs to be there any more.
    fn folder(&mut self, path: &str) -> &mut Folder {
        if !self.folders.contains_key(path) {
            let (mut real, is_link) = self.look_up(path);
            if is_link && let Ok(path) = fs::canonicalize(&real) {
                real = path.to_string_lossy().trim_end_matches('/').into();
            }
            self.folders.insert(path.into(), Folder { real, ..Folder::default() });
        }
        self.folders.get_mut(path).expect("because it was put there")
    }
}

/// Without `//` and `/./`. `..` stays for whoever resolves links: `a/link/..` is not `a`.
fn spelled(path: &str) -> Cow<'_, str> {
    let odd = |next: u8| next == b'/' || next == b'.';
    if !path.ends_with('/') && !path.as_bytes().windows(2).any(|two| two[0] == b'/' && odd(two[1])) {
        return path.into();
    }
    if !path.contains("/..") {
        let parts = path.split('/').filter(|p| !p.is_empty() && *p != ".");
        return parts.flat_map(|part| ["/", part]).collect::<String>().into();
    }
    let real = Path::new(path).parent().and_then(|p| fs::canonicalize(p).ok());
    let name = Path::new(path).file_name();
    match (real, name) {
        (Some(folder), Some(name)) => folder.join(name).to_string_lossy().into_owned().into(),
        _ => path.into(),
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
