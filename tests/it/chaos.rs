//! Everything on the way from a run to a database is stopped, killed and started again at random, for `FLOWCEPT_CHAOS` seconds. No
//! document is lost, none is there that nobody sent, and meanwhile the lag that is told is what then comes. With
//! `FLOWCEPT_CHAOS_DOCUMENTS` the store has so many from the begin; what is not through by then comes in peace.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use flowcept_agent::sinks::lag;
use harness::flowcept::Flowcept;
use harness::host::{binary, library, need, root};
use harness::kafka::{Broker, Doors};
use harness::python::python;
use harness::rabbitmq;
use harness::random::Random;
use harness::run::{Helper, said};
use harness::server::Lasting;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::queues::{known, settled};
use crate::sinks::Keeper;
use crate::streams::lasting;

/// Lets go of who makes runs, also where the test fails.
struct Release<'a>(&'a AtomicBool);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A run of so many tasks: a shell that forks.
const TASKS: usize = 1000;
/// What a keeper may have of its own: 16 MiB of messages that wait for the database, what it makes of them, and pages.
const MOST_MEMORY: u64 = 192 << 20;

/// Makes runs into the store until told to stop, and none while told to hold; how many.
fn produce(store: &Path, work: &Path, stop: &AtomicBool, hold: &AtomicBool) -> usize {
    let script = format!("i=0; while [ $i -lt {TASKS} ]; do (:); i=$((i+1)); done");
    let mut runs = 0;
    while runs == 0 || !stop.load(Ordering::Relaxed) {
        if runs > 0 && hold.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50));
            continue;
        }
        let status = Command::new("sh")
            .args(["-c", &script])
            .current_dir(work)
            .env("LD_PRELOAD", library())
            .env("FLOWCEPT_STORE", store)
            .stdin(Stdio::null())
            .status();
        assert!(status.is_ok_and(|s| s.success()), "the shell runs");
        runs += 1;
    }
    runs
}

/// Fills the store with so many documents, in workflows as large as those runs; how many workflows.
fn filled(store: &Path, work: &Path, documents: usize) -> usize {
    let runs = documents.div_ceil(TASKS);
    for run in 0..runs {
        let workflow = format!("00000000-0000-4000-8000-{run:012}");
        let common = json!({"workflow_id": workflow, "campaign_id": workflow, "status": "FINISHED", "hostname": "node", "user": "u",
            "started_at": 1_795_470_000.5 + run as f64, "ended_at": 1_795_470_001.25 + run as f64});
        let document = |more: Value| {
            let mut document = common.clone();
            document.as_object_mut().zip(more.as_object()).into_iter().for_each(|(d, more)| d.extend(more.clone()));
            format!("{document}\n")
        };
        let mut lines = document(json!({"type": "workflow", "name": "many"}));
        lines.extend((1..TASKS).map(|task| {
            let used = json!({"x": task, "file": format!("/data/in/{task}")});
            document(
                json!({"type": "task", "task_id": format!("{workflow}-{task}"), "activity_id": "step", "used": used}),
            )
        }));
        fs::write(work.join(format!("{run}.jsonl")), lines).expect("because the folder is ours");
    }
    let files: Vec<String> = (0..runs).map(|run| work.join(format!("{run}.jsonl")).display().to_string()).collect();
    for files in files.chunks(100) {
        let mut command = flowcept(store, &["import"]);
        assert!(command.args(files).status().is_ok_and(|s| s.success()), "it is taken in");
    }
    runs
}

fn flowcept(store: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("--store").arg(store).args(arguments).env_remove("MQ_URI").env_remove("MQ_CHANNEL");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Anonymous memory of a process that may have gone.
fn memory(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
    line.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) << 10
}

#[test]
fn redis() {
    if need(&["python", "redis-cli"]) {
        nothing_is_lost_whoever_dies(&mut lasting());
    }
}

#[test]
fn kafka() {
    if need(&["python", "java", "mvn"]) {
        nothing_is_lost_whoever_dies(&mut Broker::start(Doors::Open));
    }
}

#[test]
fn rabbitmq() {
    if need(&["python", "epmd", "apt-get", "openssl"]) {
        nothing_is_lost_whoever_dies(&mut rabbitmq::Server::start("correct-horse"));
    }
}

/// How many messages are told to wait.
fn waiting(server: &dyn Lasting) -> u64 {
    lag(&server.url(), server.name(), "flowcept").expect("because it runs").expect("because the group was there")
}

/// Nobody reads or writes: what is told to wait is what the next keeper takes, to the message.
fn lag_is_what_comes(server: &dyn Lasting, keeper: &dyn Fn(&dyn Lasting) -> Keeper) {
    // Servers notice a moment later who has gone.
    sleep(Duration::from_secs(1));
    let lag = waiting(server);
    let next = keeper(server);
    if lag == 0 {
        // Time to take what was not told.
        sleep(Duration::from_secs(2));
    } else {
        settled(server, "flowcept");
    }
    next.stop(Signal::SIGTERM);
    let counts = next.counts();
    assert_eq!((counts["kept"].as_u64(), counts["aside"].as_u64()), (Some(lag), Some(0)), "{counts}");
    eprintln!("chaos at {}: {lag} messages were told to wait, and came", server.place());
}

fn nothing_is_lost_whoever_dies(server: &mut dyn Lasting) {
    let seconds = std::env::var("FLOWCEPT_CHAOS").unwrap_or_else(|_| "60".into());
    let seconds: u64 = seconds.parse().expect("because FLOWCEPT_CHAOS is a number of seconds");
    let mut random = Random::seeded();
    let base = tempfile::tempdir().expect("because tests may write temporary files");
    let (store, work) = (base.path().join("store"), base.path().join("work"));
    fs::create_dir(&work).expect("because the folder is ours");
    let url = server.url();
    let theirs = Flowcept::new(None);
    let folder = theirs.database();
    let keeper = |server: &dyn Lasting| Keeper::of_queue(server, &folder, &["--wait", "1s"]);
    let flags = server.flags();
    let ship = |wait| [&["ship", "--to", &url, "--wait", wait], flags].concat();
    known(server, &["flowcept"]);
    let (stop, hold) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut counts = [0; 6];
    let documents = std::env::var("FLOWCEPT_CHAOS_DOCUMENTS").ok();
    let documents = documents.map(|n| n.parse().expect("because FLOWCEPT_CHAOS_DOCUMENTS is a number"));
    let ready = documents.map(|documents| filled(&store, &work, documents));
    let runs = scope(|scope| {
        let producer = scope.spawn(|| ready.unwrap_or_else(|| produce(&store, &work, &stop, &hold)));
        let released = Release(&stop);
        let mut keepers = vec![keeper(server), keeper(server)];
        let mut counted = 0;
        let mut shipper: Option<Helper> = None;
        let mut holder: Option<Helper> = None;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) || counted < 2 {
            // Twice nobody reads, and then nobody writes either.
            if begun.elapsed().as_secs() * 3 > seconds * (counted + 1) && counted < 2 {
                hold.store(true, Ordering::Relaxed);
                keepers.clear();
                drop((shipper.take(), holder.take()));
                let mut last = flowcept(&store, &ship("20s")).spawn().map(Helper).expect("because the binary is there");
                // A while, and where servers are slow to come back, until something waits or nothing more is there to send.
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_secs(4)
                    || begun.elapsed() < Duration::from_secs(60)
                        && last.0.try_wait().is_ok_and(|ended| ended.is_none())
                        && waiting(server) == 0
                {
                    sleep(Duration::from_millis(200));
                }
                drop(last);
                lag_is_what_comes(server, &keeper);
                keepers.extend([keeper(server), keeper(server)]);
                counted += 1;
                hold.store(false, Ordering::Relaxed);
            }
            let ended = shipper.as_mut().map(|s| s.0.try_wait().expect("because it was started"));
            if ended.is_none_or(|ended| ended.is_some()) {
                shipper = flowcept(&store, &ship("2s")).spawn().ok().map(Helper);
            }
            let one = random.below(2) as usize;
            let action = random.below(8) as usize;
            match action {
                0 => {
                    server.kill();
                    sleep(Duration::from_millis(random.below(300)));
                    server.restart();
                }
                1 => server.pause(Duration::from_millis(random.below(1000))),
                2 => drop(shipper.take()),
                3 => keepers[one] = keeper(server),
                4 => {
                    keepers[one].stop(Signal::SIGTERM);
                    let ended = std::mem::replace(&mut keepers[one], keeper(server)).0.take();
                    let output = ended.and_then(|e| e.wait_with_output().ok()).expect("because it was started");
                    // One that had only just been started does not listen yet.
                    let ended = output.status.success() || output.status.signal() == Some(Signal::SIGTERM as i32);
                    assert!(ended, "{}", said(&output));
                }
                // Who has the database open, or none any more.
                5 if folder.join("data.mdb").exists() => {
                    holder = holder.is_none().then(|| theirs.try_holder()).flatten()
                }
                _ => sleep(Duration::from_millis(random.below(500))),
            }
            counts[action.min(5)] += 1;
            for keeper in &keepers {
                let used = keeper.0.as_ref().map_or(0, memory);
                assert!(used < MOST_MEMORY, "a keeper has {used} bytes");
            }
        }
        drop((holder, shipper));
        drop(released);
        let runs = producer.join().expect("because it does not panic");
        let mut last = flowcept(&store, &ship("60s"));
        let output = last.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("because the binary is there");
        assert!(output.status.success(), "{}", said(&output));
        settled(server, "flowcept");
        for keeper in keepers {
            keeper.stop(Signal::SIGTERM);
            assert_eq!(keeper.counts()["aside"], 0);
        }
        runs
    });
    assert!(!folder.join("quarantine").exists(), "something was set aside");
    // Each run, as it is exported.
    let listed = flowcept(&store, &["workflows", "--json"]).stdout(Stdio::piped()).output();
    let listed = listed.expect("because the binary is there").stdout;
    let listed: Vec<Value> = serde_json::from_slice(&listed).expect("because it is JSON");
    assert_eq!(listed.len(), runs);
    let mut check = Command::new(python());
    check.arg(root().join("tests/programs/check_documents.py")).arg(&folder);
    for (number, row) in listed.iter().enumerate() {
        let path = base.path().join(format!("{number}.jsonl"));
        let file = fs::File::create(&path).expect("because the folder is ours");
        let id = row["workflow_id"].as_str().expect("because it is text");
        assert!(flowcept(&store, &["export", id]).stdout(file).status().is_ok_and(|s| s.success()));
        check.arg(path);
    }
    let found = check.output().expect("because the interpreter is there");
    assert!(found.status.success(), "{}", said(&found));
    let found: usize = said(&found).trim().parse().expect("because it says how many");
    assert!(found >= runs * TASKS, "{found} documents of {runs} runs");
    let place = server.place();
    let [killed, paused, shipper, keeper, ended, _] = counts;
    eprintln!(
        "chaos at {place}: {found} documents of {runs} runs; 0 lost, 0 too many; the server killed {killed} times and paused {paused}, ship killed {shipper}, keepers killed {keeper} and ended {ended}"
    );
}
