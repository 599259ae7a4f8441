//! Where messages go that cannot be kept: each as it came, in a file of its own, and its reason in a list. Nothing is thrown away.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use uuid::Uuid;

use crate::capture::clock;

/// A folder with what was set aside: `reasons.jsonl`, and `ID.msgpack` for each.
pub struct Quarantine {
    folder: PathBuf,
    /// Open once there is something.
    reasons: Option<File>,
}

impl Quarantine {
    /// In this folder, which is made when it is needed.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), reasons: None }
    }

    /// Sets a message aside.
    pub fn put(&mut self, message: &[u8], why: &str) -> Result<()> {
        self.try_put(message, why).with_context(|| format!("set a message aside in {}", self.folder.display()))
    }

    fn try_put(&mut self, message: &[u8], why: &str) -> Result<()> {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600);
        if self.reasons.is_none() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            self.reasons = Some(options.open(self.folder.join("reasons.jsonl"))?);
        }
        let file = format!("{}.msgpack", Uuid::new_v4());
        options.open(self.folder.join(&file))?.write_all(message)?;
        let at = clock::unix_ns() as f64 / 1e9;
        let line = format!("{}\n", json!({"at": at, "file": file, "bytes": message.len(), "why": why}));
        if let Some(reasons) = &mut self.reasons {
            reasons.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}
