//! The index over all logs (LMDB): which runs there are, which versions of which files each has, and by which names.
//!
//! | table | key | answers |
//! |---|---|---|
//! | `workflows` | number (u64, big endian) | the workflow document, newest last |
//! | `ids` | workflow id (16 bytes) | its number |
//! | `files` | file key (28 bytes) | which runs had it, with which versions |
//! | `paths` | path, NUL, number, file key | which file had that name in that run |

use std::path::{Path, PathBuf};

use flowcept_provenance::entity::{Entity, Origin};
use flowcept_provenance::identity::{FileKey, FilesystemId};
use flowcept_provenance::lineage::Provenance;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::store::StoreError;
use crate::workflow::Workflow;

/// Address space, not memory: the file grows as it is filled.
const MAP_BYTES: usize = 64 << 30;
/// LMDB's keys are at most 511 bytes; longer paths are cut and told apart by their file.
const PATH_BYTES: usize = 440;

type Table = Database<'static, Bytes, Bytes>;

/// The open index.
pub struct Index {
    folder: PathBuf,
    env: Env,
    workflows: Table,
    ids: Table,
    files: Table,
    paths: Table,
}

/// The versions that one run had of a file: `base` to `base + count - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The run.
    pub workflow: u64,
    /// What its version 0 is called here.
    pub base: u32,
    /// How many.
    pub count: u32,
    /// Its first version was there before.
    pub found: bool,
}

#[derive(Clone, Debug, Default)]
struct Known {
    spans: Vec<Span>,
    size: u64,
    mtime: u64,
}

impl Index {
    /// Opens it, made if it is not there.
    pub fn open(store: &Path) -> Result<Self, StoreError> {
        let folder = store.join("index");
        std::fs::create_dir_all(&folder).map_err(|source| StoreError::File {
            action: "make",
            path: folder.clone(),
            source,
        })?;
        let fail = |e| StoreError::Index(folder.clone(), e);
        #[expect(unsafe_code, reason = "LMDB maps its file")]
        // SAFETY: the folder is ours alone (mode 0700) and nobody changes the file but LMDB.
        let env = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).max_dbs(8).open(&folder) }.map_err(fail)?;
        let txn = env.write_txn().map_err(fail)?;
        let made = env.create_databases_and_commit(txn, |opener, txn| {
            let mut table = |name| opener.create_database::<Bytes, Bytes>(txn, Some(name));
            let tables = (table("workflows")?, table("ids")?, table("files")?, table("paths")?);
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(tables))
        });
        let (workflows, ids, files, paths) = made.map_err(fail)?.unwrap_commit();
        Ok(Self { folder, env, workflows, ids, files, paths })
    }

    /// Deletes it.
    pub fn remove(store: &Path) -> Result<(), StoreError> {
        let path = store.join("index");
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::File { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    fn fail(&self, e: heed::Error) -> StoreError {
        StoreError::Index(self.folder.clone(), e)
    }

    /// Whether this run is in it.
    pub fn knows(&self, id: Uuid) -> Result<bool, StoreError> {
        let txn = self.env.read_txn().map_err(|e| self.fail(e))?;
        Ok(self.ids.get(&txn, id.as_bytes()).map_err(|e| self.fail(e))?.is_some())
    }

    /// Enters a run; its number.
    pub fn insert(&self, workflow: &Workflow, told: &Provenance) -> Result<u64, StoreError> {
        let mut txn = self.env.write_txn().map_err(|e| self.fail(e))?;
        let fail = |e| self.fail(e);
        if let Some(number) = self.ids.get(&txn, workflow.id.as_bytes()).map_err(fail)? {
            return Ok(number_of(number));
        }
        let last = self.workflows.last(&txn).map_err(fail)?;
        let number = last.map_or(0, |(k, _)| number_of(k) + 1);
        let document = serde_json::to_vec(workflow).unwrap_or_default();
        self.workflows.put(&mut txn, &number.to_be_bytes(), &document).map_err(fail)?;
        self.ids.put(&mut txn, workflow.id.as_bytes(), &number.to_be_bytes()).map_err(fail)?;
        let mut files: FxHashMap<FileKey, (&Entity, &Entity, u32)> = FxHashMap::default();
        for entity in &told.entities {
            let entry = files.entry(entity.file).or_insert((entity, entity, 0));
            (entry.1, entry.2) = (entity, entry.2 + 1);
        }
        // In the order of keys: LMDB fills pages best that way.
        let mut sorted: Vec<_> = files.iter().map(|(f, v)| (file_bytes(f), *v)).collect();
        sorted.sort_by_key(|(k, _)| *k);
        for (key, (first, last, count)) in sorted {
            let mut known = self.files.get(&txn, &key).map_err(fail)?.map(Known::read).unwrap_or_default();
            let found = first.origin == Origin::Found;
            let base = known.base_for(found, first.first_state.size.0, first.first_state.mtime.0);
            known.spans.push(Span { workflow: number, base, count, found });
            (known.size, known.mtime) = (last.state.size.0, last.state.mtime.0);
            self.files.put(&mut txn, &key, &known.write()).map_err(fail)?;
        }
        let mut keys: Vec<Vec<u8>> =
            told.entities.iter().flat_map(|e| e.names.iter().map(|n| path_key(&n.path, number, &e.file))).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            self.paths.put(&mut txn, &key, &[]).map_err(fail)?;
        }
        txn.commit().map_err(fail)?;
        Ok(number)
    }

    /// All runs, oldest first.
    pub fn workflows(&self) -> Result<Vec<(u64, Workflow)>, StoreError> {
        let txn = self.env.read_txn().map_err(|e| self.fail(e))?;
        let mut list = Vec::new();
        for row in self.workflows.iter(&txn).map_err(|e| self.fail(e))? {
            let (key, value) = row.map_err(|e| self.fail(e))?;
            if let Ok(workflow) = serde_json::from_slice(value) {
                list.push((number_of(key), workflow));
            }
        }
        Ok(list)
    }

    /// The run of this number.
    pub fn workflow(&self, number: u64) -> Result<Option<Workflow>, StoreError> {
        let txn = self.env.read_txn().map_err(|e| self.fail(e))?;
        let value = self.workflows.get(&txn, &number.to_be_bytes()).map_err(|e| self.fail(e))?;
        Ok(value.and_then(|v| serde_json::from_slice(v).ok()))
    }

    /// The runs that had this file, in the order in which they were entered.
    pub fn spans(&self, file: &FileKey) -> Result<Vec<Span>, StoreError> {
        let txn = self.env.read_txn().map_err(|e| self.fail(e))?;
        let value = self.files.get(&txn, &file_bytes(file)).map_err(|e| self.fail(e))?;
        Ok(value.map(Known::read).unwrap_or_default().spans)
    }

    /// The files that had this name, each with its run, oldest run first.
    pub fn named(&self, path: &str) -> Result<Vec<(u64, FileKey)>, StoreError> {
        let txn = self.env.read_txn().map_err(|e| self.fail(e))?;
        let mut prefix = cut(path).to_vec();
        prefix.push(0);
        let mut list = Vec::new();
        for row in self.paths.prefix_iter(&txn, &prefix).map_err(|e| self.fail(e))? {
            let (key, _) = row.map_err(|e| self.fail(e))?;
            let rest = &key[prefix.len()..];
            if let (Some(number), Some(file)) = (rest.get(..8), rest.get(8..).and_then(file_of)) {
                list.push((number_of(number), file));
            }
        }
        Ok(list)
    }
}

impl Known {
    /// What the first version of a run is called: a file that is as it was last told is the same version; else somebody
    /// unknown wrote, or the run itself began it anew.
    fn base_for(&self, found: bool, size: u64, mtime: u64) -> u32 {
        let Some(last) = self.spans.iter().map(|s| s.base + s.count).max() else { return 0 };
        if found && size == self.size && mtime == self.mtime { last - 1 } else { last }
    }

    fn read(bytes: &[u8]) -> Self {
        let number = |b: &[u8]| b.try_into().map_or(0, u64::from_le_bytes);
        let small = |b: &[u8]| b.try_into().map_or(0, u32::from_le_bytes);
        let (state, spans) = bytes.split_at_checked(16).unwrap_or_default();
        let spans = spans.chunks_exact(17).map(|s| Span {
            workflow: number(&s[..8]),
            base: small(&s[8..12]),
            count: small(&s[12..16]),
            found: s[16] != 0,
        });
        let size = state.get(..8).map_or(0, number);
        let mtime = state.get(8..).map_or(0, number);
        Self { spans: spans.collect(), size, mtime }
    }

    fn write(&self) -> Vec<u8> {
        let mut out = [self.size.to_le_bytes(), self.mtime.to_le_bytes()].concat();
        for s in &self.spans {
            out.extend(s.workflow.to_le_bytes());
            out.extend(s.base.to_le_bytes());
            out.extend(s.count.to_le_bytes());
            out.push(u8::from(s.found));
        }
        out
    }
}

fn number_of(key: &[u8]) -> u64 {
    key.try_into().map_or(0, u64::from_be_bytes)
}

fn file_bytes(file: &FileKey) -> [u8; 28] {
    let mut key = [0; 28];
    key[..4].copy_from_slice(&file.filesystem.magic.to_be_bytes());
    key[4..8].copy_from_slice(&file.filesystem.host.to_be_bytes());
    key[8..16].copy_from_slice(&file.filesystem.volume.to_be_bytes());
    key[16..24].copy_from_slice(&file.inode.to_be_bytes());
    key[24..].copy_from_slice(&file.generation.to_be_bytes());
    key
}

fn file_of(key: &[u8]) -> Option<FileKey> {
    let key: &[u8; 28] = key.try_into().ok()?;
    let small = |at: usize| u32::from_be_bytes([key[at], key[at + 1], key[at + 2], key[at + 3]]);
    let number = |at: usize| (u64::from(small(at)) << 32) | u64::from(small(at + 4));
    let filesystem = FilesystemId { magic: small(0), host: small(4), volume: number(8) };
    Some(FileKey { filesystem, inode: number(16), generation: small(24) })
}

fn cut(path: &str) -> &[u8] {
    &path.as_bytes()[..path.len().min(PATH_BYTES)]
}

fn path_key(path: &str, number: u64, file: &FileKey) -> Vec<u8> {
    let mut key = cut(path).to_vec();
    key.push(0);
    key.extend(number.to_be_bytes());
    key.extend(file_bytes(file));
    key
}
