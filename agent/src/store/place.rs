//! Where the index of a store lies: in the store, or on this node where the store is on a network filesystem, on which LMDB
//! must not lie (its lock and its map are of one host). It opens nothing.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Filesystems whose files other hosts may change, by their magic number (statfs(2)). FUSE is among them: sshfs and the
/// clients of many clusters are nothing else to the kernel.
const NETWORK: [u32; 12] = [
    0x6969,      // NFS
    0xFF53_4D42, // CIFS
    0xFE53_4D42, // SMB 2
    0x517B,      // SMB
    0x0BD0_0BD0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x00C3_6400, // Ceph
    0x5346_414F, // AFS
    0x0102_1997, // 9p
    0x6573_5546, // FUSE
    0x7461_636F, // OCFS2
];

/// Where the indices of stores on the network lie, one folder a user.
const LOCAL: &str = "/var/tmp";

/// Whether other hosts may change what is in a folder.
pub(crate) fn is_on_network(folder: &Path) -> Result<bool, Error> {
    let kind = nix::sys::statfs::statfs(folder)?.filesystem_type().0 as u32;
    Ok(NETWORK.contains(&kind))
}

/// The folder for the index of the store in `folder`.
pub(super) fn of_index(folder: &Path) -> Result<PathBuf, Error> {
    if !is_on_network(folder)? {
        return Ok(folder.to_path_buf());
    }
    let user = nix::unistd::geteuid();
    let own = Path::new(LOCAL).join(format!("flowcept-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&own) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // Anybody may make names there: only a folder that is really ours is used.
    let found = fs::symlink_metadata(&own)?;
    if !found.is_dir() || found.uid() != user.as_raw() || found.mode() & 0o077 != 0 {
        return Err(Error::new(ErrorKind::PermissionDenied, format!("{} is not ours alone", own.display())));
    }
    let name = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, fs::canonicalize(folder)?.as_os_str().as_bytes());
    Ok(own.join(name.to_string()))
}
