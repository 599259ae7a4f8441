//! One traced run: starts probes, log and command; carries records to the log; stops them in order. It does not know what
//! the records mean.

pub mod inside;
pub mod launch;
pub mod lease;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use flowcept_probes::host::Facts;
use flowcept_probes::{Probes, Ring, plan};
use flowcept_provenance::identity::ImageNo;
use flowcept_provenance::lineage::{Lineage, Provenance};
use flowcept_provenance::node::Sample;
use flowcept_provenance::observation::{Counted, Left, Lost, Observation};
use flowcept_provenance::quantity::BootNs;
use flowcept_wire::count;
use flowcept_wire::header::Kind;
use rustc_hash::FxHashMap;

use crate::capture::decode::Decoder;
use crate::capture::node::Sampler;
use crate::capture::{clock, node, settle};
use crate::store::Store;
use crate::store::log::Writer;
use crate::workflow::Workflow;
use launch::{Child, Launch};
use lease::Lease;

/// The first image: the child before its exec.
const ROOT: u64 = 1;
/// How often the ring is looked at while nothing wakes us.
const POLL: Duration = Duration::from_millis(5);
/// A batch is committed after this time or this many observations.
const COMMIT: Duration = Duration::from_millis(150);
const COMMIT_COUNT: usize = 1000;
/// How long nothing is heard before those whose end was not seen are looked for.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the last processes' CPU times are waited for (an RCU grace period).
const FREED: Duration = Duration::from_millis(60);

/// What a run is asked to do.
#[derive(Debug)]
pub struct Request {
    /// The command and how to start it.
    pub launch: Launch,
    /// Its ids, name, parameters.
    pub workflow: Workflow,
    /// What keeps the library silent that is in its processes, where it is.
    pub lease: Option<Lease>,
    /// What of the node is sampled when tasks begin and end.
    pub telemetry: node::Parts,
}

/// The probes for this host, or why there are none and what to do.
pub fn probes(ring_bytes: u32, switched_off: &[String]) -> Result<Probes> {
    let decide = |facts: &Facts| {
        plan::decide(facts, ring_bytes, switched_off).map_err(|why| match why {
            plan::Impossible::Rights => anyhow!(
                "{why}\n  run it as root: sudo flowcept run --user \"$USER\" -- COMMAND\n  (--user runs the command as you, so that its files stay yours)"
            ),
            why => anyhow!("{why}; see `flowcept doctor`"),
        })
    };
    Probes::start(&decide(&Facts::find())?).or_else(|error| {
        // Only now is it worth asking what the kernel lacks.
        decide(&Facts::probed())?;
        Err(error).context("this host refuses the probes; see `flowcept doctor`")
    })
}

/// What the ring's reader fills.
struct Intake {
    decoder: Decoder,
    decoded: Vec<Observation>,
}

/// A run in progress.
pub struct Session {
    probes: Probes,
    ring: Ring<'static>,
    intake: Rc<RefCell<Intake>>,
    log: Writer,
    log_path: PathBuf,
    workflow: Workflow,
    lease: Option<Lease>,
    committed: Instant,
    /// Processes that ended and whose CPU time is not complete.
    unfreed: i64,
    /// The pid of each image that has not ended, as far as that was heard.
    alive: FxHashMap<u64, u32>,
    /// When something was last heard.
    heard: Instant,
    log_error: Option<String>,
    /// Gathers beside the log, so that nothing has to be read back.
    lineage: Lineage,
    sampler: Sampler,
}

/// How a run went, as far as its root is concerned.
pub struct RootEnd {
    /// As wait(2) has it.
    pub code: u32,
    /// Descendants that still live.
    pub living: u64,
}

/// What a run leaves.
pub struct Finished {
    /// Its document, complete.
    pub workflow: Workflow,
    /// What followed from all that was seen.
    pub told: Provenance,
    /// Where its log lies.
    pub log: PathBuf,
    /// What went wrong with the log.
    pub trouble: Option<String>,
}

impl Session {
    /// Opens the log and starts the command under the watch of the probes.
    pub fn start(probes: Probes, store: &Store, request: Request) -> Result<(Self, Child)> {
        let child = Child::fork(&request.launch)?;
        let mut workflow = request.workflow;
        workflow.started = clock::unix_ns();
        workflow.boot_offset = clock::unix_ns().saturating_sub(clock::boot_ns());
        let log_path = store.log_path(workflow.id);
        let log = Writer::create(&log_path, &workflow)?;
        let decoder = Decoder::new(workflow.boot, workflow.host.id);
        let intake = Rc::new(RefCell::new(Intake { decoder, decoded: Vec::new() }));
        let filled = intake.clone();
        let ring = probes.ring(move |record| {
            let Intake { decoder, decoded } = &mut *filled.borrow_mut();
            decoder.decode(record, decoded);
        })?;
        let mut session = Self {
            probes,
            ring,
            intake,
            log,
            log_path,
            workflow,
            lease: request.lease,
            committed: Instant::now(),
            unfreed: 0,
            alive: FxHashMap::default(),
            heard: Instant::now(),
            log_error: None,
            lineage: Lineage::default(),
            sampler: Sampler::new(request.telemetry),
        };
        session.probes.watch(child.pid(), ROOT)?;
        let root = session.intake.borrow().decoder.root(ROOT, child.pid(), BootNs(clock::boot_ns()));
        session.note(root);
        session.sample(Sampler::due);
        child.go()?;
        Ok((session, child))
    }

    /// Follows until the root has ended; signals go to it meanwhile.
    pub fn follow_root(&mut self, child: &mut Child) -> Result<RootEnd> {
        let mut code = None;
        let mut ended_at = None;
        self.follow(|session| {
            if code.is_none() {
                code = child.ended()?;
                ended_at = code.map(|_| Instant::now());
            }
            let Some(at) = ended_at else { return Ok(false) };
            let living = session.living()?;
            // All gone: the last CPU times are worth a moment. Else the root's own records are in the ring by now.
            Ok(if living == 0 { session.unfreed <= 0 || at.elapsed() > FREED } else { at.elapsed() > POLL * 2 })
        })?;
        let code = code.context("the root has ended")?;
        self.workflow.exit_code = Some(code);
        Ok(RootEnd { code, living: self.living()? })
    }

    /// Follows descendants of the ended root until they end, or for that long.
    pub fn follow_stragglers(&mut self, at_most: Option<Duration>) -> Result<()> {
        let begun = Instant::now();
        self.follow(|session| {
            let enough = at_most.is_some_and(|d| begun.elapsed() >= d) || launch::stopped();
            Ok(enough || session.living()? == 0 || session.nobody_is_left())
        })
    }

    /// Where an end was lost, the counters wait for it for ever: it is enough that no known process is there any more and
    /// that nothing has been heard for a while.
    fn nobody_is_left(&self) -> bool {
        let there = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
        self.heard.elapsed() > SILENCE && !self.alive.values().any(there)
    }

    fn living(&self) -> Result<u64> {
        let counters = self.probes.counters()?;
        let forked = 1 + counters[count::PROCESSES_FORKED as usize];
        Ok(forked.saturating_sub(counters[count::PROCESSES_ENDED as usize]))
    }

    fn follow(&mut self, mut done: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        loop {
            self.take(POLL)?;
            if done(self)? {
                return self.take(Duration::ZERO);
            }
        }
    }

    /// Reads the ring once and carries on what it held.
    fn take(&mut self, wait: Duration) -> Result<()> {
        self.lease.iter_mut().for_each(Lease::renew);
        self.ring.poll(wait)?;
        let batch = std::mem::take(&mut self.intake.borrow_mut().decoded);
        if !batch.is_empty() {
            self.heard = Instant::now();
        }
        for observation in batch {
            let ended = match &observation {
                Observation::Forked(o) => {
                    self.alive.insert(o.image.0, o.pid.0);
                    None
                }
                Observation::Ended(o) => {
                    self.unfreed += 1;
                    self.alive.remove(&o.image.0);
                    Some(o.image.0)
                }
                Observation::Execed(o) => {
                    self.alive.remove(&o.previous.0);
                    self.alive.insert(o.image.0, o.pid.0);
                    Some(o.previous.0)
                }
                Observation::Freed(_) => {
                    self.unfreed -= 1;
                    None
                }
                _ => None,
            };
            if matches!(observation, Observation::Forked(_) | Observation::Ended(_) | Observation::Execed(_)) {
                self.sampler.ask();
            }
            if let Some(image) = ended {
                self.drain(image)?;
            }
            self.note(observation);
        }
        self.sample(Sampler::due);
        if self.log.pending() >= COMMIT_COUNT || (self.log.pending() > 0 && self.committed.elapsed() >= COMMIT) {
            self.commit();
        }
        Ok(())
    }

    /// An image has ended: what it left in the kernel's map, and how its shared mappings look now.
    fn drain(&mut self, image: u64) -> Result<()> {
        let at = BootNs(clock::boot_ns());
        let left = self.intake.borrow_mut().decoder.left_by(image);
        for left in left {
            if let Some(sum) = self.probes.take_sum(image, left.file, left.access)?
                && let Some(observation) = { self.intake.borrow().decoder.summed(image, left, sum, at) }
            {
                self.note(observation);
            }
        }
        let mapped = self.intake.borrow_mut().decoder.mapped_by(image);
        for (file, path) in mapped {
            self.note(settle::look(ImageNo(image), file, &path));
        }
        Ok(())
    }

    fn sample(&mut self, take: impl FnOnce(&mut Sampler) -> Option<Sample>) {
        if let Some(sample) = take(&mut self.sampler) {
            self.note(Observation::Sampled(Box::new(sample)));
        }
    }

    fn note(&mut self, observation: Observation) {
        if self.lease.as_ref().is_some_and(|lease| lease.hides(&observation)) {
            return;
        }
        self.log.append(&observation);
        self.lineage.apply(observation);
    }

    /// A log that cannot be written costs observations, counted, and never the traced program.
    fn commit(&mut self) {
        self.committed = Instant::now();
        if let Err(error) = self.log.commit() {
            self.log_error = Some(error.to_string());
        }
    }

    /// Balances the books and closes the log; what it told, the path of the log and what went wrong with it.
    pub fn finish(mut self) -> Result<Finished> {
        let foreign = self.lease.as_ref().map_or(0, Lease::end);
        self.take(Duration::ZERO)?;
        self.sample(Sampler::rest);
        let counters = self.probes.counters()?;
        let counter = |i: u32| counters[i as usize];
        for (kind, name) in KINDS {
            self.lost("kernel ring", &format!("{name}: no room in the ring"), counter(count::DROPPED + *kind as u32));
        }
        self.lost("kernel", "a forked process could not be given task storage", counter(count::STORAGE_FAILED));
        self.lost("kernel", "paths longer than the walk, told in part", counter(count::PATHS_CUT));
        self.lost("kernel", "files without path or state: a thread changed the descriptor", counter(count::UNDECIDED));
        let refused = self.intake.borrow().decoder.refused;
        self.lost("decoder", "records refused", refused);
        self.lost("library", "segments that another version of the library has written", foreign);
        // Whoever is not there any more does not live, whatever the counters wait for.
        let living = if self.nobody_is_left() { 0 } else { self.living()? };
        if living > 0 {
            let why = "descendants of the root were still running when --detach-after had passed, or the tracer was told to stop".into();
            self.note(Observation::Left(Left { why, at: BootNs(clock::boot_ns()) }));
        }
        let written = (1..10).map(|k| counter(count::WRITTEN + k)).sum();
        let forked = 1 + counter(count::PROCESSES_FORKED);
        let decoded = self.intake.borrow().decoder.decoded;
        let ended = counter(count::PROCESSES_ENDED);
        self.note(Observation::Counted(Counted { forked, ended, living, written, decoded }));
        self.commit();
        let lost = self.log.lost();
        if lost > 0 {
            self.lost("log", &self.log_error.clone().unwrap_or_default(), lost);
        }
        if living == 0 {
            self.workflow.ended = Some(clock::unix_ns());
        }
        if let Err(error) = self.log.end(&self.workflow) {
            self.log_error = Some(error.to_string());
        }
        if self.workflow.exit_code.is_none() {
            bail!("the root has not ended");
        }
        self.lease.into_iter().for_each(Lease::leave);
        Ok(Finished { workflow: self.workflow, told: self.lineage.tell(), log: self.log_path, trouble: self.log_error })
    }

    fn lost(&mut self, source: &str, cause: &str, count: u64) {
        if count > 0 {
            self.note(Observation::Lost(Lost { source: source.into(), cause: cause.into(), count }));
        }
    }
}

const KINDS: &[(Kind, &str)] = &[
    (Kind::Forked, "forked processes"),
    (Kind::Execed, "program images"),
    (Kind::ExecFailed, "failed execs"),
    (Kind::Ended, "ends of processes"),
    (Kind::Freed, "complete CPU times"),
    (Kind::Touched, "first uses of files"),
    (Kind::Summed, "sums of file uses"),
    (Kind::Named, "changes of names"),
    (Kind::Unseen, "mechanisms noticed"),
];
