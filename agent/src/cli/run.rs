//! `flowcept run`. It does not know how tracing works.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use flowcept_probes::Probes;
use flowcept_provenance::lineage::Provenance;
use nix::unistd::User;
use uuid::Uuid;

use super::follow::Follower;
use super::ship::Delivered;
use super::{RunArgs, Source};
use crate::capture::node;
use crate::session::inside::Sampling;
use crate::session::launch::{self, Launch, NotExecuted};
use crate::session::lease::Lease;
use crate::session::{Finished, Request, Session, inside};
use crate::settings::Settings;
use crate::store::Store;
use crate::workflow::{Declared, Workflow};
use crate::{capture, context, exit_code, formats, intake, session};

/// Bytes of `extra_metadata`: a document has at most 60 kB.
const MOST_EXTRA: usize = 4_000;

/// What is asked for, by the command line or else by the settings.
struct Job<'a> {
    args: &'a RunArgs,
    settings: &'a Settings,
    store: &'a Store,
    source: Source,
}

impl Job<'_> {
    fn probes(&self) -> Result<Probes> {
        let set = self.settings.number("capture.ring_bytes").unwrap_or_default() as u32;
        session::probes(self.args.ring_bytes.unwrap_or(set), &switched_off())
    }
}

/// Runs the command under watch; the exit code is its own.
pub(super) fn run(args: RunArgs, named: Option<PathBuf>, settings: &Settings) -> Result<ExitCode> {
    let user = args.user.as_deref().map(find_user).transpose()?;
    // With -o nothing stays: the log lies in a folder that goes with us.
    let kept = args.output.is_none();
    let store = match (&args.output, named) {
        (Some(output), _) => {
            let beside = output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| ".".as_ref());
            Store::open(beside.join(format!(".flowcept-{}", std::process::id())))?
        }
        (None, named) => super::store(named)?,
    };
    let set = || settings.text("capture.source").and_then(|name| Source::from_str(name, true).ok());
    let source = args.source.or_else(set).unwrap_or(Source::Auto);
    let result = watched(&Job { args: &args, settings, store: &store, source }, user);
    if !kept {
        let _ = std::fs::remove_dir_all(store.folder());
    }
    match result {
        Err(error) => match error.downcast_ref::<NotExecuted>() {
            Some(NotExecuted(errno)) => {
                let command = args.command.first().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
                eprintln!("flowcept: {command}: {}", errno.desc());
                let missing = *errno == nix::errno::Errno::ENOENT;
                Ok(ExitCode::from(if missing { exit_code::NOT_FOUND } else { exit_code::NOT_EXECUTABLE }))
            }
            None => Err(error),
        },
        ok => ok,
    }
}

fn find_user(name: &str) -> Result<User> {
    User::from_name(name)
        .context("look up the user")?
        .ok_or_else(|| anyhow!("--user: there is no user '{name}' on this host"))
}

/// Runs the command under the watch of whoever was asked for, or is at hand.
fn watched(job: &Job<'_>, user: Option<User>) -> Result<ExitCode> {
    if user.is_some() && job.source == Source::Both {
        bail!(NOT_AS_USER);
    }
    let mut workflow = describe(job)?;
    // git answers while the kernel verifies.
    let asked = context::ask_repository(workflow.directory.as_ref());
    let may_load = flowcept_probes::host::Facts::find().may_load();
    let probes = match job.source {
        Source::Preload => None,
        Source::Auto if !may_load => None,
        Source::Ebpf | Source::Both => Some(job.probes()?),
        Source::Auto => match job.probes() {
            Ok(probes) => Some(probes),
            Err(error) => {
                say(&format!("flowcept: {error:#}\n  the library watches instead\n"));
                None
            }
        },
    };
    workflow.repository = asked.answer();
    match probes {
        Some(probes) => traced(job, user, workflow, probes),
        None => watched_from_inside(job, user, workflow),
    }
}

fn traced(job: &Job<'_>, user: Option<User>, workflow: Workflow, probes: Probes) -> Result<ExitCode> {
    let id = workflow.id;
    let mut launch = Launch { command: job.args.command.clone(), user, environment: Vec::new() };
    let lease = match job.source {
        Source::Both => Some(Lease::take(job.store.spool_of(id), &mut launch)?),
        _ => None,
    };
    let request = Request { launch, workflow, lease, telemetry: node::Parts::of(job.settings) };
    let (mut session, mut child) = Session::start(probes, job.store, request)?;
    let followers = followers(job, id);
    let end = session.follow_root(&mut child)?;
    let code = status(end.code);
    if end.living > 0 {
        let limit = job.args.detach_after.map(Duration::from_secs);
        if !job.args.quiet {
            let living = end.living;
            say(&format!("flowcept: {living} processes go on and are followed in the background; workflow {id}\n"));
        }
        // The process that stays has the session now; nothing of ours may be flushed or closed twice.
        if launch::to_background()? == launch::Side::Foreground {
            std::process::exit(i32::from(code));
        }
        session.follow_stragglers(limit)?;
    }
    finish(job, session, followers, code)
}

const NOT_AS_USER: &str =
    "--user: the library watches as whoever runs the command, so run it as that user; or use --source ebpf";

/// The command under the watch of the library.
fn watched_from_inside(job: &Job<'_>, user: Option<User>, mut workflow: Workflow) -> Result<ExitCode> {
    if user.is_some() {
        bail!(NOT_AS_USER);
    }
    let launch = Launch { command: job.args.command.clone(), user, environment: Vec::new() };
    let folder = job.store.spool_of(workflow.id);
    let mut child = inside::start(&folder, &mut workflow, launch)?;
    let sampling = Sampling::begin(&folder, &workflow, node::Parts::of(job.settings));
    let followers = followers(job, workflow.id);
    let ended = child.wait();
    if let Some(sampling) = sampling {
        sampling.end();
    }
    if ended.is_err() {
        let _ = std::fs::remove_dir_all(&folder);
    }
    let code = status(ended?);
    let kept = intake::take(job.store, &folder).and_then(|taken| match taken {
        Some((workflow, told)) => keep(job, &workflow, &told),
        None => Ok(format!(
            "flowcept: workflow {} goes on; the next command takes it in when its processes have ended\n",
            workflow.id
        )),
    });
    conclude(job, followers, kept, code)
}

/// The exit code that a shell gives for a code of wait(2).
fn status(code: u32) -> u8 {
    if code & 0x7f == 0 { (code >> 8) as u8 } else { 128 + (code & 0x7f) as u8 }
}

/// Talk goes to stderr, where nobody may be any more (a closed terminal, a pipe without a reader): no reason to fail.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn finish(job: &Job<'_>, session: Session, followers: Vec<Follower>, code: u8) -> Result<ExitCode> {
    let finished = session.finish()?;
    // The command has done its work: trouble of ours is told and does not change its exit code.
    let Finished { workflow, told, log, trouble } = finished;
    let entered = if job.args.output.is_some() { Ok(()) } else { job.store.enter(&workflow, &told, &log) };
    let kept = entered.map_err(Into::into).and_then(|()| keep(job, &workflow, &told));
    if let Some(trouble) = trouble {
        say(&format!("flowcept: {trouble}\n"));
    }
    conclude(job, followers, kept, code)
}

fn conclude(job: &Job<'_>, followers: Vec<Follower>, kept: Result<String>, code: u8) -> Result<ExitCode> {
    match kept {
        Ok(summary) if !job.args.quiet => say(&summary),
        Ok(_) => {}
        Err(error) => say(&format!("flowcept: {error:#}\n")),
    }
    Follower::end(followers).for_each(|done| tell_delivery(job, done));
    Ok(ExitCode::from(code))
}

/// Those who deliver the workflow, where the settings say so: to each of their places one.
fn followers(job: &Job<'_>, workflow: Uuid) -> Vec<Follower> {
    if job.args.output.is_some() || job.settings.text("project.db_flush_mode") != Some("online") {
        return Vec::new();
    }
    let name = super::Name::default();
    let start = |url: String| {
        let name = name.place(job.settings, &url);
        let started = Follower::start(job.store, workflow, url.clone(), name);
        started.map_err(|why| say(&format!("flowcept: nothing is delivered: {why:#}\n"))).ok()
    };
    job.settings.places().into_iter().filter_map(start).collect()
}

fn tell_delivery(job: &Job<'_>, done: Result<Delivered>) {
    match done {
        Ok(Delivered { place, workflows, left: 0, .. }) => {
            if !job.args.quiet {
                say(&format!("  delivered {workflows} workflows to {place}\n"));
            }
        }
        Ok(Delivered { place, left, .. }) => {
            say(&format!("flowcept: {left} workflows wait for `flowcept ship` to {place}\n"));
        }
        Err(error) => say(&format!("flowcept: {error:#}; `flowcept ship` goes on there\n")),
    }
}

/// Writes the run to the file asked for; the summary, at most six lines.
fn keep(job: &Job<'_>, workflow: &Workflow, told: &Provenance) -> Result<String> {
    let inputs = formats::flowcept::inputs(told).len();
    let outputs: Vec<String> =
        formats::flowcept::outputs(told).iter().map(|g| told.entity(g.entity).last_path().to_string()).collect();
    let further = match &job.args.output {
        Some(file) => {
            let files = formats::flowcept::Files::All;
            let text = formats::flowcept::lines(&formats::flowcept::documents(workflow, told, files, &|_| 0));
            let mut out = std::fs::File::create(file).with_context(|| format!("write {}", file.display()))?;
            out.write_all(text.as_bytes()).with_context(|| format!("write {}", file.display()))?;
            format!("written to {}", file.display())
        }
        None => {
            let example = outputs.last().map_or_else(String::new, |o| format!(" · flowcept lineage {o}"));
            let elsewhere = job.store.index_elsewhere().map_or_else(String::new, |place| {
                format!("\n  the store is on a network filesystem: its index lies in {}", place.display())
            });
            format!("flowcept show {}{example}{elsewhere}", &workflow.id.to_string()[..8])
        }
    };
    let gaps: u64 = told.gaps.iter().map(|g| g.count).sum();
    let coverage = if told.gaps.is_empty() {
        "complete".to_string()
    } else {
        let mut kinds: Vec<&str> = told.gaps.iter().map(|g| &*g.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        format!("{gaps} gaps ({})", kinds.join(", "))
    };
    Ok(format!(
        "flowcept: workflow {} ({})\n  tasks {}, inputs {inputs}, outputs {}\n  coverage: {coverage}\n  {further}\n",
        workflow.id,
        workflow.name,
        told.activities.len(),
        outputs.len(),
    ))
}

fn describe(job: &Job<'_>) -> Result<Workflow> {
    let words: Vec<String> = job.args.command.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    let base = words.first().map_or("", |w| w.rsplit('/').next().unwrap_or(w)).to_string();
    let variable = |name: &str| -> Result<Option<Uuid>> {
        match std::env::var(name) {
            Ok(value) => {
                Ok(Some(Uuid::parse_str(&value).with_context(|| format!("{name} is '{value}', which is no UUID"))?))
            }
            Err(_) => Ok(None),
        }
    };
    let directory = std::env::current_dir().context("the working directory is gone")?;
    if job.args.name.as_deref() == Some("last") {
        bail!("--name last: `last` means the newest workflow; choose another name");
    }
    Ok(Workflow {
        id: Uuid::new_v4(),
        campaign: job.args.campaign.or(variable("FLOWCEPT_CAMPAIGN_ID")?).unwrap_or_else(Uuid::new_v4),
        name: job.args.name.clone().unwrap_or(base),
        parameters: job.args.param.clone(),
        tags: job.args.tag.clone(),
        command: capture::redact::arguments(words).iter().map(ToString::to_string).collect(),
        directory: directory.to_string_lossy().into_owned(),
        boot: capture::clock::boot_id(),
        host: context::host(),
        sources: match job.source {
            Source::Both => vec!["ebpf:tracepoint".into(), "preload".into()],
            _ => vec!["ebpf:tracepoint".into()],
        },
        flowcept_version: env!("CARGO_PKG_VERSION").into(),
        declared: declared(job.settings)?,
        ..Workflow::default()
    })
}

fn declared(settings: &Settings) -> Result<Declared> {
    let extra = settings.map("extra_metadata");
    let bytes = serde_json::to_string(&extra)?.len();
    if bytes > MOST_EXTRA {
        let place = settings.origin("extra_metadata");
        bail!("{place}: extra_metadata has {bytes} bytes, and each workflow repeats it: at most {MOST_EXTRA}");
    }
    let text = |name: &str| settings.text(name).filter(|text| !text.is_empty()).map(String::from);
    Ok(Declared {
        user: text("experiment.user"),
        environment: text("sys_metadata.environment_id"),
        extra,
        process_telemetry: node::wants(settings, "process_info"),
    })
}

/// Mutation tests leave calls and programs out by name; release builds cannot.
fn switched_off() -> Vec<String> {
    if cfg!(debug_assertions) {
        std::env::var("FLOWCEPT_MUTATE").map(|v| v.split(',').map(String::from).collect()).unwrap_or_default()
    } else {
        Vec::new()
    }
}
