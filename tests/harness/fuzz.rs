//! The bodies of the fuzz targets `log` and `segment`: any bytes in a log or a spool can be read, related and written in
//! every format.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use flowcept_agent::capture::spool::{Known, Spool};
use flowcept_agent::formats::{flowcept, prov_json};
use flowcept_agent::store::Store;
use flowcept_agent::store::log::Writer;
use flowcept_agent::workflow::Workflow;
use flowcept_provenance::lineage::{Lineage, Provenance};
use tempfile::TempDir;

/// A store with a log to which a frame is added, again and again.
struct Bench {
    _folder: TempDir,
    store: Store,
    path: PathBuf,
    /// The log with its first frame.
    begin: Vec<u8>,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

fn bench() -> Bench {
    // In memory where that can be: a disk would cost most of the time.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("because tests may write temporary files");
    let store = Store::open(folder.path().to_path_buf()).expect("because the folder is ours");
    let path = store.log_path(Workflow::default().id);
    drop(Writer::create(&path, &Workflow::default()).expect("because the folder is ours"));
    let begin = fs::read(&path).expect("because it was just written");
    Bench { _folder: folder, store, path, begin }
}

/// Whatever the bytes of a batch, the log is read, with or without a part of it, and what is understood is told without
/// a panic: as a graph of versions without cycles, and in every format.
pub fn log(batch: &[u8]) {
    BENCH.with_borrow_mut(|kept| {
        let bench = kept.get_or_insert_with(bench);
        let payload = [&[2], batch].concat();
        let length = u32::try_from(payload.len()).expect("because inputs are short");
        let checksum = crc32fast::hash(&payload);
        let log = [&bench.begin, &length.to_le_bytes()[..], &checksum.to_le_bytes(), &payload].concat();
        fs::write(&bench.path, log).expect("because the folder is ours");
        let (workflow, told) = bench.store.read(&bench.path).expect("because its first frame is whole");
        check(&workflow, &told);
    });
}

/// What is told is a graph of versions without cycles, and can be written.
fn check(workflow: &Workflow, told: &Provenance) {
    for (at, entity) in told.entities.iter().enumerate() {
        let earlier = entity.revision_of.is_none_or(|before| (before.0 as usize) < at);
        assert!(earlier, "{entity:?} revises a later version");
    }
    let task = |no: flowcept_provenance::activity::ActivityNo| assert!((no.0 as usize) < told.activities.len());
    told.activities.iter().flat_map(|a| [a.parent, a.previous]).flatten().for_each(task);
    flowcept::workflow(workflow, told, &|_| 0);
    flowcept::tasks(workflow, told, flowcept::Files::All, &|_| 0);
    prov_json::document(workflow, told, &|_| 0);
}

thread_local! {
    static SPOOL: RefCell<Option<(TempDir, PathBuf)>> = const { RefCell::new(None) };
}

fn spooled() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let folder = folder.expect("because tests may write temporary files");
    let spool = folder.path().join("w-00000000-0000-4000-8000-000000000000");
    fs::create_dir(&spool).expect("because the folder is ours");
    (folder, spool)
}

/// Whatever the bytes of a segment, it is read to its end, and a spool that has it twice is told without a panic.
pub fn segment(bytes: &[u8]) {
    let Ok((_, records)) = flowcept_wire::segment::open(bytes) else { return };
    assert!(records.count() <= bytes.len() / flowcept_wire::segment::STEP, "because each takes a step");
    SPOOL.with_borrow_mut(|kept| {
        let (_, folder) = kept.get_or_insert_with(spooled);
        // Two images of one process.
        for name in ["1-1.seg", "2-2.seg"] {
            fs::write(folder.join(name), bytes).expect("because the folder is ours");
        }
        let spool = Spool::open(folder);
        spool.look(&Known::default());
        let known = Known::default();
        let Some(taken) = spool.taken(&known) else { return };
        let (command, directory) = (taken.command.clone(), taken.directory.clone());
        let workflow = Workflow { command, directory, ..Workflow::default() };
        let mut lineage = Lineage::default();
        taken.tell(1, 2, |o| lineage.apply(o));
        check(&workflow, &lineage.tell());
    });
}
