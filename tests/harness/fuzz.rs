//! The body of the fuzz target `log`: any bytes in a log can be read, related and written in every format.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use flowcept_agent::formats::{flowcept, prov_json};
use flowcept_agent::store::Store;
use flowcept_agent::store::log::Writer;
use flowcept_agent::workflow::Workflow;
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
    let path = store.log_path(&Workflow::default());
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
        for (at, entity) in told.entities.iter().enumerate() {
            let earlier = entity.revision_of.is_none_or(|before| (before.0 as usize) < at);
            assert!(earlier, "{entity:?} revises a later version");
        }
        let task = |no: flowcept_provenance::activity::ActivityNo| assert!((no.0 as usize) < told.activities.len());
        told.activities.iter().flat_map(|a| [a.parent, a.previous]).flatten().for_each(task);
        flowcept::workflow(&workflow, &told, &|_| 0);
        flowcept::tasks(&workflow, &told, flowcept::Files::All, &|_| 0);
        prov_json::document(&workflow, &told, &|_| 0);
    });
}
