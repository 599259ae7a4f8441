//! One traced run as a whole: its ids, its command, its host. It does not know what ran inside.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a workflow document says beyond its tasks. Format 1 of the log's first and last frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// Flowcept's `workflow_id`.
    pub id: Uuid,
    /// Flowcept's `campaign_id`.
    pub campaign: Uuid,
    /// Flowcept's `parent_workflow_id`.
    pub parent: Option<Uuid>,
    /// Flowcept's `name`.
    pub name: String,
    /// `--param`.
    pub parameters: Vec<(String, String)>,
    /// `--tag`.
    pub tags: Vec<String>,
    /// The root's command line.
    pub command: Vec<String>,
    /// Its working directory.
    pub directory: String,
    /// Begin, ns since 1970.
    pub started: u64,
    /// End of the last descendant, ns since 1970; absent while it runs or where the tracer was cut off.
    pub ended: Option<u64>,
    /// As wait(2) has it; absent while the root runs.
    pub exit_code: Option<u32>,
    /// Boot id of the host.
    pub boot: u128,
    /// ns since 1970 minus ns of CLOCK_BOOTTIME, at the begin.
    pub boot_offset: u64,
    /// Where it ran.
    pub host: Host,
    /// The repository of the working directory.
    pub repository: Option<Repository>,
    /// What saw it, as `ebpf:tracepoint`.
    pub sources: Vec<String>,
    /// Version of flowcept.
    pub flowcept_version: String,
    /// What the settings say of who runs it and where.
    #[serde(default)]
    pub declared: Declared,
    /// It was traced elsewhere, and its documents were brought here.
    #[serde(default)]
    pub imported: bool,
}

/// Flowcept's settings that a workflow repeats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// `experiment.user`; else the user's name stands for it.
    pub user: Option<String>,
    /// `sys_metadata.environment_id`; else the host's name stands for it.
    pub environment: Option<String>,
    /// `extra_metadata`.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// `telemetry_capture.process_info`.
    #[serde(default)]
    pub process_telemetry: bool,
}

/// Host and user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Fully qualified name.
    pub hostname: String,
    /// uname(2) nodename.
    pub node_name: String,
    /// Name of the user who ran it.
    pub user: String,
    /// Digest of the host's id, as in filesystem ids.
    pub id: u32,
    /// uname(2) sysname.
    pub system: String,
    /// uname(2) release.
    pub release: String,
    /// uname(2) version.
    pub version: String,
    /// uname(2) machine.
    pub machine: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs online.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of swap.
    pub swap: u64,
    /// Name and version of the distribution.
    pub distribution: String,
}

/// Flowcept's `code_repository`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Repository {
    /// Root folder.
    pub root: String,
    /// Full commit id.
    pub sha: String,
    /// Branch, empty when detached.
    pub branch: String,
    /// URL of the first remote, without credentials.
    pub remote: String,
    /// Files differ from the commit; absent where that was not looked at.
    pub dirty: Option<bool>,
}

impl Workflow {
    /// Flowcept's status: RUNNING, FINISHED or ERROR.
    pub fn status(&self) -> &'static str {
        match self.exit_code {
            None => "RUNNING",
            Some(0) => "FINISHED",
            Some(_) => "ERROR",
        }
    }
}
