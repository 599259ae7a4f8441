//! The lease of a run that the kernel's probes and the library watch together: as long as it is renewed, the library, which
//! is in the run's processes, leaves all to the kernel. What it would have left behind is removed at the end. It does not
//! know what either of them sees.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flowcept_provenance::observation::Observation;
use flowcept_wire::control::{self, Control};

use crate::capture::clock;
use crate::capture::spool::Spool;
use crate::session::inside;
use crate::session::launch::Launch;

/// A lease that is held. Where its holder is killed it runs out, and the library records.
#[derive(Debug)]
pub struct Lease {
    control: File,
    /// The workflow's folder in the spool.
    folder: PathBuf,
    renewed: Instant,
    /// Where the files lie that the kernel sees the library use, and the library itself, as the kernel has their names.
    hidden: (String, String),
}

impl Lease {
    /// How long the library waits after the last sign of life.
    pub const LENGTH: Duration = Duration::from_secs(1);
    /// How often one is given.
    const RENEWED_EACH: Duration = Duration::from_millis(200);

    /// Makes the folder and the control word in it, and has the command start with the library.
    pub fn take(folder: PathBuf, launch: &mut Launch) -> Result<Self> {
        let library = inside::library()?;
        inside::make_folder(&folder)?;
        let path = folder.join(control::NAME);
        let control = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let control = control.with_context(|| format!("make {}", path.display()))?;
        inside::preload(launch, &library, &path);
        let real = |path: &Path| path.canonicalize().map(|p| p.to_string_lossy().into_owned());
        let files = real(&folder).with_context(|| format!("find {}", folder.display()))?;
        let hidden = (files + "/", real(&library).with_context(|| format!("find {}", library.display()))?);
        let begun = control.write_all_at(&Control::new(end_of_lease()).bytes(), 0);
        begun.with_context(|| format!("write {}", path.display()))?;
        Ok(Self { control, folder, renewed: Instant::now(), hidden })
    }

    /// A lease that cannot be renewed runs out, and what the library then says is said twice, and removed.
    fn set(&self, until: u64) {
        let _ = self.control.write_all_at(&until.to_ne_bytes(), std::mem::offset_of!(Control, until) as u64);
    }

    /// Called often; writes now and then.
    pub(super) fn renew(&mut self) {
        if self.renewed.elapsed() >= Self::RENEWED_EACH {
            self.renewed = Instant::now();
            self.set(end_of_lease());
        }
    }

    /// Whether this tells of the library and not of the program. What follows of a touch that was not told tells nothing.
    pub(super) fn hides(&self, observation: &Observation) -> bool {
        let (files, library) = &self.hidden;
        let Observation::Touched(o) = observation else { return false };
        o.path.as_deref().is_some_and(|p| p.starts_with(&**files) || p == library)
    }

    /// The kernel has seen all that it will see: the library stays silent. How many segments were there that a library of
    /// another version wrote, which takes no notice of this.
    pub(super) fn end(&self) -> u64 {
        self.set(control::FOR_GOOD);
        Spool::open(&self.folder).of_another_version()
    }

    /// Removes what the library has left; nothing of it is new.
    pub(super) fn leave(self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn end_of_lease() -> u64 {
    clock::boot_ns().saturating_add(u64::try_from(Lease::LENGTH.as_nanos()).unwrap_or(u64::MAX))
}
