//! Tasks: a program image from exec to exit, or a fork that did something itself.

use std::borrow::Cow;
use std::sync::Arc;

use uuid::Uuid;

use crate::identity::{ImageNo, ProcessKey};
use crate::observation::{Credentials, Mechanism};
use crate::quantity::{BootNs, ByteCount, Nanos, Pid};

/// Index of an activity in [`crate::lineage::Provenance::activities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActivityNo(pub u32);

/// What kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subtype {
    /// A program image.
    Process,
    /// A fork that moved bytes, forked tasks itself, or ended without exec.
    Fork,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not, as far as is known.
    Running,
    /// exit(3) with this status.
    Exited(u8),
    /// By this signal, with a core dump or without.
    Signalled(u8, bool),
    /// By the next exec of the same process.
    Replaced,
}

impl Outcome {
    /// From the code of wait(2).
    pub fn of_code(code: u32) -> Self {
        match code & 0x7f {
            0 => Self::Exited(((code >> 8) & 0xff) as u8),
            signal => Self::Signalled(signal as u8, code & 0x80 != 0),
        }
    }

    /// Flowcept's status.
    pub fn status(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Exited(0) | Self::Replaced => "FINISHED",
            Self::Exited(_) | Self::Signalled(..) => "ERROR",
        }
    }
}

/// What an image cost: differences between its begin and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// CPU time of all threads.
    pub cpu: Nanos,
    /// `cpu` lacks the time since the last tick.
    pub cpu_at_least: bool,
    /// User time, scaled.
    pub user: Nanos,
    /// System time, scaled.
    pub system: Nanos,
    /// Peak memory.
    pub peak_memory: ByteCount,
    /// The peak is the process's over all images: this image's is at most that.
    pub peak_at_most: bool,
    /// Bytes fetched from storage.
    pub storage_read: ByteCount,
    /// Bytes sent to storage.
    pub storage_written: ByteCount,
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub struct Activity {
    /// The image.
    pub image: ImageNo,
    /// Its key, from which its id is made.
    pub process: ProcessKey,
    /// Its id, where that was told and the key was not.
    pub given_id: Option<Uuid>,
    /// The program as a person names it.
    pub name: Arc<str>,
    /// What kind.
    pub subtype: Subtype,
    /// The task whose image forked this one's process.
    pub parent: Option<ActivityNo>,
    /// The task that was the image before, in the same process.
    pub previous: Option<ActivityNo>,
    /// Its pid.
    pub pid: Pid,
    /// Begin.
    pub started: BootNs,
    /// End; absent while it runs.
    pub ended: Option<BootNs>,
    /// How it ended.
    pub outcome: Outcome,
    /// It stays a task, whatever is heard later: an image that only execs on is none.
    pub lasts: bool,
    /// The executable's path.
    pub executable: Arc<str>,
    /// The arguments.
    pub arguments: Arc<[Box<str>]>,
    /// Bytes of arguments that were cut off.
    pub arguments_cut: u32,
    /// Programs that only exec'd on to this one (env, nice), by name.
    pub through: Vec<Arc<str>>,
    /// The working directory.
    pub directory: Arc<str>,
    /// The admitted environment.
    pub environment: Arc<[(Box<str>, Box<str>)]>,
    /// Who and where.
    pub credentials: Credentials,
    /// What it cost.
    pub cost: Cost,
    /// Bytes read from files and pipes.
    pub read: ByteCount,
    /// Bytes written to files and pipes.
    pub written: ByteCount,
    /// Programs that it tried to exec in vain, with errno.
    pub failed_execs: Vec<(Box<str>, u32)>,
    /// Mechanisms that it used and nobody followed.
    pub unseen: Vec<Mechanism>,
    /// Names that it took away.
    pub unlinked: u32,
    /// Directories that it made.
    pub directories_made: u32,
}

impl Activity {
    /// Its id for ever.
    pub fn task_id(&self) -> Uuid {
        self.given_id.unwrap_or_else(|| self.process.task_id())
    }

    /// The command line as a person reads it.
    pub fn command_line(&self) -> String {
        let mut words = self.arguments.iter().map(|a| &**a);
        let program = words.next().map_or("", |p| p.rsplit('/').next().unwrap_or(p));
        let mut line = one_line(program).into_owned();
        for word in words {
            line.push(' ');
            line.push_str(&one_line(word));
        }
        if self.subtype == Subtype::Fork { format!("{line} (fork)") } else { line }
    }
}

/// A word without control characters: they are written as Rust writes them in a literal.
pub fn one_line(word: &str) -> Cow<'_, str> {
    if !word.contains(char::is_control) {
        return word.into();
    }
    let escaped = word.chars().flat_map(|c| {
        let control = c.is_control();
        control.then(|| c.escape_default()).into_iter().flatten().chain((!control).then_some(c))
    });
    Cow::Owned(escaped.collect())
}
