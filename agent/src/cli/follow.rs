//! Delivery of a run to one place while it goes on, and at its end: a process of its own, so that neither the traced program nor its
//! tracer waits for a server. It is told what to do in a line on its stdin, whose end is that of the run; it says the place in a line
//! on its stdout, and in another how it went.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use flowcept_provenance::lineage::{Lineage, Provenance};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::ship::{self, Delivered};
use crate::formats::flowcept;
use crate::intake;
use crate::sinks::{self, Sink, Undelivered, outlet};
use crate::store::Store;
use crate::store::log::Tail;
use crate::workflow::Workflow;

/// How long after the end it is waited for; what is left waits for `flowcept ship`.
const DRAIN: Duration = Duration::from_secs(5);
/// How long it tries there where a server is away.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two deliveries of what is new; and how many times as long as it took to tell that.
const PAUSE: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;
/// A log that has more bytes is told at its end only.
const LONGEST: u64 = 64 << 20;

/// What is to be done.
#[derive(Deserialize, Serialize)]
struct Job {
    workflow: Uuid,
    url: String,
    channel: String,
    stream: Option<String>,
}

/// The process that delivers to one place, until its stdin is closed.
pub(super) struct Follower {
    process: Child,
}

impl Follower {
    /// Of this workflow, which has begun.
    pub(super) fn start(store: &Store, workflow: Uuid, url: String, name: sinks::Name<'_>) -> Result<Self> {
        let job = Job { workflow, url, channel: name.channel.into(), stream: name.stream.map(String::from) };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--store").arg(store.folder()).arg("follow");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // What is typed at the terminal is for the command.
        let mut process = command.process_group(0).spawn()?;
        let stdin = process.stdin.as_mut().context("its stdin")?;
        writeln!(stdin, "{}", serde_json::to_string(&job)?)?;
        Ok(Self { process })
    }

    /// The run has ended; what each place was given, within [`DRAIN`] for all.
    pub(super) fn end(followers: Vec<Self>) -> impl Iterator<Item = Result<Delivered>> {
        let until = Instant::now() + DRAIN;
        let all: Vec<_> = followers.into_iter().map(|mut follower| (follower.says(), follower.process)).collect();
        all.into_iter().map(move |(says, process)| given(&says, process, until))
    }

    /// Closes its stdin; the lines that it says.
    fn says(&mut self) -> mpsc::Receiver<String> {
        drop(self.process.stdin.take());
        let (say, says) = mpsc::channel();
        let lines = self.process.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        says
    }
}

/// What the process says that it has given its place.
fn given(says: &mpsc::Receiver<String>, mut process: Child, until: Instant) -> Result<Delivered> {
    let next = || says.recv_timeout(until.saturating_duration_since(Instant::now()));
    let place = next();
    let last = place.as_ref().map_err(|why| *why).and_then(|_| next());
    let _ = process.kill().and_then(|()| process.wait());
    match last {
        Ok(last) => serde_json::from_str::<Result<Delivered, String>>(&last)?.map_err(|why| anyhow!(why)),
        Err(RecvTimeoutError::Timeout) => {
            let seconds = DRAIN.as_secs();
            Err(anyhow!("{} has not taken all within {seconds} seconds", place.unwrap_or_default()))
        }
        Err(RecvTimeoutError::Disconnected) => Err(place.map_or_else(
            |_| anyhow!("the process that delivers has ended"),
            |place| anyhow!("the process that delivers to {place} has ended"),
        )),
    }
}

/// That process.
pub(super) fn follow(store: &Store) -> Result<ExitCode> {
    let mut stdin = BufReader::new(std::io::stdin());
    let mut job = String::new();
    stdin.read_line(&mut job)?;
    let job: Job = serde_json::from_str(&job).context("the first line of stdin says what is to be done")?;
    let (goes_on, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        let _ = stdin.read_to_end(&mut Vec::new());
        drop(goes_on);
    });
    let done = delivered(store, &job, &ended).map_err(|why| format!("{why:#}"));
    say(&serde_json::to_string(&done)?);
    Ok(ExitCode::SUCCESS)
}

/// Nobody may be there any more.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn delivered(store: &Store, job: &Job, ended: &mpsc::Receiver<()>) -> Result<Delivered> {
    let name = sinks::Name { channel: &job.channel, stream: job.stream.as_deref() };
    let mut sink = sinks::sink(&job.url, name)?;
    say(sink.place());
    let mut growing = Growing::of(store, job.workflow);
    let mut pause = PAUSE;
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        if !sink.replaces() {
            continue;
        }
        let begun = Instant::now();
        let new = growing.tell();
        pause = PAUSE.max(begun.elapsed() * SHARE);
        // What is not taken now comes the next time, or at the end.
        let _ = new.map(|new| growing.deliver(&new, &mut *sink));
    }
    ship::deliver(store, sink, PATIENCE, Some(Instant::now() + PATIENCE))
}

/// A run that goes on.
struct Growing<'a> {
    store: &'a Store,
    id: Uuid,
    /// Once it has a log: where the library watches alone, there is none before the end.
    log: Option<(Tail, Workflow)>,
    lineage: Lineage,
    /// What was delivered of each document, by its id.
    sent: HashMap<String, u64>,
    /// All that was told has been delivered.
    is_sent: bool,
}

impl<'a> Growing<'a> {
    fn of(store: &'a Store, id: Uuid) -> Self {
        Self { store, id, log: None, lineage: Lineage::default(), sent: HashMap::new(), is_sent: false }
    }

    /// Documents that are new, or not what was delivered.
    fn tell(&mut self) -> Result<Vec<Value>> {
        if self.log.is_none() {
            self.log = Tail::open(&self.store.log_path(self.id)).ok();
        }
        let mut documents = match &mut self.log {
            Some((tail, _)) if tail.bytes() > LONGEST => Vec::new(),
            Some((tail, workflow)) => {
                let new = tail.read()?;
                if new.is_empty() && self.is_sent {
                    return Ok(Vec::new());
                }
                self.is_sent = false;
                new.into_iter().for_each(|observation| self.lineage.apply(observation));
                let told = self.lineage.tell();
                let bases = self.store.bases(&told)?;
                flowcept::so_far(workflow, &told, &|file| bases.get(file).copied().unwrap_or(0))
            }
            None => {
                let begun = intake::document(&self.store.spool_of(self.id), self.id);
                begun.map_or_else(Vec::new, |begun| flowcept::so_far(&begun, &Provenance::default(), &|_| 0))
            }
        };
        documents.retain(|document| self.sent.get(id(document)) != Some(&hash(document)));
        Ok(documents)
    }

    fn deliver(&mut self, documents: &[Value], sink: &mut dyn Sink) -> Result<(), Undelivered> {
        for batch in documents.chunks(outlet::BATCH) {
            sink.deliver(batch)?;
            self.sent.extend(batch.iter().map(|document| (id(document).into(), hash(document))));
        }
        self.is_sent = true;
        Ok(())
    }
}

fn id(document: &Value) -> &str {
    let name = if document["type"] == "workflow" { "workflow_id" } else { "task_id" };
    document[name].as_str().unwrap_or_default()
}

fn hash(document: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    document.hash(&mut hasher);
    hasher.finish()
}
