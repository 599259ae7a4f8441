//! The index over all logs (LMDB): what answers questions without reading a log. It can be made anew from them.
//!
//! | table | key | answers |
//! |---|---|---|
//! | `workflows` | number | the workflow's document, newest last |
//! | `ids` | id (16 bytes) of a workflow or a task | its number; a task's number in its run behind that |
//! | `tasks` | number, task's number in the run | the task, what it used and generated, who informed whom ([`Task`]) |
//! | `entities` | file key, version, number | who generated and used that version in that run, its names ([`Version`]) |
//! | `paths` | path, NUL, number, file key | which file had that name in that run |
//! | `times` | begin (ns since 1970), number | which runs began when |
//! | `activities` | name, NUL, number | how many tasks of that name a run had |
//!
//! Numbers are big endian, so that keys are in their order.

use std::collections::HashMap;
use std::fs::{DirBuilder, OpenOptions};
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flowcept_provenance::activity::ActivityNo;
use flowcept_provenance::entity::{Entity, EntityNo, Origin};
use flowcept_provenance::groups::Groups;
use flowcept_provenance::identity::{EntityId, FileKey, FilesystemId};
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::relation::Manner;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, PutFlags, RoTxn, RwTxn, WithTls};
use rustc_hash::FxHashMap;
use uuid::Uuid;

use crate::store::StoreError;
use crate::store::record::{Generated, NameOf, Task, Told, Used, Version};
use crate::workflow::Workflow;

/// Address space, not memory: the file grows as it is filled.
const MAP_BYTES: usize = 64 << 30;
/// LMDB's keys are at most 511 bytes; longer paths and names are cut and told apart by what follows.
const TEXT_BYTES: usize = 440;
/// Room for LMDB's 126 readers of 64 bytes and what stands before them (mdb.c: `rsize`).
const LOCK_BYTES: i64 = 126 * 64 + 256;
/// The folder's name has the version of the tables: an index of another version is not looked at, but made anew.
const FOLDER: &str = "index-2";

type Table = Database<'static, Bytes, Bytes>;

#[derive(Clone, Copy)]
struct Tables {
    workflows: Table,
    ids: Table,
    tasks: Table,
    entities: Table,
    paths: Table,
    times: Table,
    activities: Table,
}

/// The open index.
pub struct Index {
    folder: PathBuf,
    env: Env,
    tables: Tables,
}

/// A view of the index as it was at one moment.
pub struct Reader<'i> {
    index: &'i Index,
    txn: RoTxn<'i, WithTls>,
}

/// Runs that are entered together.
pub struct Batch<'i> {
    index: &'i Index,
    txn: RwTxn<'i>,
    /// Entities entered.
    entities: usize,
}

impl Index {
    /// Opens it, made if it is not there.
    pub fn open(store: &Path) -> Result<Self, StoreError> {
        let folder = store.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|source| StoreError::File {
            action: "make",
            path: folder.clone(),
            source,
        })?;
        reserve_lock(&folder.join("lock.mdb"))?;
        let fail = |e| StoreError::Index(folder.clone(), e);
        #[expect(unsafe_code, reason = "LMDB maps its file")]
        // SAFETY: the folder is ours alone (mode 0700) and nobody changes the file but LMDB.
        let env = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).max_dbs(8).open(&folder) }.map_err(fail)?;
        // Making the tables waits for whoever is writing: only where they are not there.
        let tables = match Tables::open(&env).map_err(fail)? {
            Some(tables) => tables,
            None => Tables::make(&env).map_err(fail)?,
        };
        Ok(Self { folder, env, tables })
    }

    /// Deletes it.
    pub fn remove(store: &Path) -> Result<(), StoreError> {
        let path = store.join(FOLDER);
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

    /// The index as it is now.
    pub fn reader(&self) -> Result<Reader<'_>, StoreError> {
        Ok(Reader { index: self, txn: self.env.read_txn().map_err(|e| self.fail(e))? })
    }

    /// Begins to enter runs; others that want to wait until it is committed or dropped.
    pub fn batch(&self) -> Result<Batch<'_>, StoreError> {
        Ok(Batch { index: self, txn: self.env.write_txn().map_err(|e| self.fail(e))?, entities: 0 })
    }

    /// Enters one run; its number.
    pub fn insert(&self, workflow: &Workflow, told: &Provenance) -> Result<u64, StoreError> {
        let mut batch = self.batch()?;
        let number = batch.insert(workflow, told)?;
        batch.commit()?;
        Ok(number)
    }
}

impl Tables {
    const NAMES: [&str; 7] = ["workflows", "ids", "tasks", "entities", "paths", "times", "activities"];

    fn of([workflows, ids, tasks, entities, paths, times, activities]: [Table; 7]) -> Self {
        Self { workflows, ids, tasks, entities, paths, times, activities }
    }

    /// What a run's first version of a file is called: a file that is as it was last told is the same version; else somebody unknown
    /// wrote, or the run itself began it anew (`found`, its size and time, is none).
    fn base(&self, txn: &RoTxn<'_>, file: &[u8; 28], found: Option<(u64, u64)>) -> Result<u32, heed::Error> {
        let end = entity_key(file, u32::MAX, u64::MAX);
        let last = self.entities.get_lower_than_or_equal_to(txn, &end)?;
        let Some((key, value)) = last.filter(|(key, _)| key.starts_with(file)) else { return Ok(0) };
        let version = version_of(key);
        let state = Version::read(value).map(|v| (v.size, v.mtime));
        Ok(if found.is_some() && found == state { version } else { version + 1 })
    }

    fn open(env: &Env) -> Result<Option<Self>, heed::Error> {
        let opened = env.open_databases_and_commit(env.read_txn()?, |opener, txn| {
            let tables = Self::NAMES.map(|name| opener.open_database::<Bytes, Bytes>(txn, Some(name)));
            let tables: Vec<_> = tables.into_iter().collect::<Result<Option<_>, _>>()?.unwrap_or_default();
            let tables: Result<[_; 7], _> = tables.try_into();
            Ok::<_, heed::Error>(tables.map_or(CommitOrAbort::Abort(()), CommitOrAbort::Commit))
        })?;
        Ok(opened.commit().map(Self::of))
    }

    fn make(env: &Env) -> Result<Self, heed::Error> {
        let made = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
            let mut table = |name| opener.create_database::<Bytes, Bytes>(txn, Some(name));
            let [a, b, c, d, e, f, g] = Self::NAMES;
            let tables = [table(a)?, table(b)?, table(c)?, table(d)?, table(e)?, table(f)?, table(g)?];
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(tables))
        })?;
        Ok(Self::of(made.unwrap_commit()))
    }
}

impl Batch<'_> {
    /// Enters a run; its number, which it keeps if it is there already.
    pub fn insert(&mut self, workflow: &Workflow, told: &Provenance) -> Result<u64, StoreError> {
        self.put(workflow, told).map_err(|e| self.index.fail(e))
    }

    /// Entities entered so far: a measure of the memory that it takes.
    pub fn entities(&self) -> usize {
        self.entities
    }

    /// Makes it last.
    pub fn commit(self) -> Result<(), StoreError> {
        self.txn.commit().map_err(|e| self.index.fail(e))
    }

    fn put(&mut self, workflow: &Workflow, told: &Provenance) -> Result<u64, heed::Error> {
        let tables = &self.index.tables;
        if let Some(number) = tables.ids.get(&self.txn, workflow.id.as_bytes())? {
            return Ok(number_of(number));
        }
        let number = tables.workflows.last(&self.txn)?.map_or(0, |(k, _)| number_of(k) + 1);
        let run = number.to_be_bytes();
        let document = serde_json::to_vec(workflow).unwrap_or_default();
        tables.workflows.put_with_flags(&mut self.txn, PutFlags::APPEND, &run, &document)?;
        tables.ids.put(&mut self.txn, workflow.id.as_bytes(), &run)?;
        tables.times.put(&mut self.txn, &[workflow.started.to_be_bytes(), run].concat(), &[])?;
        let bases = self.put_entities(number, told, workflow.imported)?;
        self.put_tasks(number, told, &bases)?;
        self.entities += told.entities.len();
        Ok(number)
    }

    /// Enters file versions and their names; what the run's version 0 of each entity's file is called here. Versions of a run that came
    /// from elsewhere have their numbers.
    fn put_entities(&mut self, number: u64, told: &Provenance, is_numbered: bool) -> Result<Vec<u32>, heed::Error> {
        let tables = &self.index.tables;
        let count = told.entities.len();
        // In the order of keys: LMDB fills pages best that way.
        let mut order: Vec<([u8; 28], u32)> =
            told.entities.iter().enumerate().map(|(i, e)| (file_bytes(&e.file), i as u32)).collect();
        order.sort_unstable();
        let made = Groups::new(count, told.generated.iter().map(|g| Some(g.entity.0)));
        let used = Groups::new(count, told.used.iter().map(|u| (u.manner != Manner::Revised).then_some(u.entity.0)));
        let mut bases = vec![0; count];
        let mut base = 0;
        let mut ahead = None;
        let mut before = None;
        let mut value = Vec::new();
        // Filled anew for each, so that its lists keep their room.
        let mut version = Version {
            origin: Origin::Found,
            local: 0,
            size: 0,
            mtime: 0,
            names: Vec::new(),
            generated_by: Vec::new(),
            used_by: Vec::new(),
        };
        for (file, i) in &order {
            let i = *i as usize;
            let entity = &told.entities[i];
            if before != Some(file) {
                base = if is_numbered { 0 } else { self.base(file, found(entity), &mut ahead)? };
                before = Some(file);
            }
            bases[i] = base;
            value.clear();
            version.origin = entity.origin;
            version.local = entity.version;
            version.size = entity.state.size.0;
            version.mtime = entity.state.mtime.0;
            version.names.clear();
            version.names.extend(entity.names.iter().map(|n| &*n.path));
            version.generated_by.clear();
            version
                .generated_by
                .extend(made.of(i).map(|g| &told.generated[g]).map(|g| (g.activity, g.last, g.possible)));
            version.used_by.clear();
            version.used_by.extend(used.of(i).map(|u| &told.used[u]).map(|u| (u.activity, u.first)));
            version.write(&mut value);
            tables.entities.put(&mut self.txn, &entity_key(file, entity.version + base, number), &value)?;
        }
        let mut names: Vec<(&[u8], u32)> = Vec::with_capacity(count);
        for (place, (_, i)) in order.iter().enumerate() {
            names.extend(told.entities[*i as usize].names.iter().map(|n| (cut(&n.path), place as u32)));
        }
        // Stable: files of one folder mostly come in order, which this sort makes use of.
        names.sort();
        let mut key = Vec::new();
        let mut before = None;
        for (name, place) in names {
            let file = &order[place as usize].0;
            // Versions of one file that share a name lie side by side.
            if before.replace((name, file)) != Some((name, file)) {
                key.clear();
                key.extend_from_slice(name);
                key.push(0);
                key.extend(number.to_be_bytes());
                key.extend_from_slice(file);
                tables.paths.put(&mut self.txn, &key, &[])?;
            }
        }
        Ok(bases)
    }

    /// [`Tables::base`]. Files are asked for in order; `ahead` is the next that is there (none: no more), once one was looked for: those
    /// before it are new, and need no search.
    fn base(
        &self,
        file: &[u8; 28],
        found: Option<(u64, u64)>,
        ahead: &mut Option<Option<[u8; 28]>>,
    ) -> Result<u32, heed::Error> {
        if ahead.as_ref().is_none_or(|next| next.as_ref().is_some_and(|next| file > next)) {
            let next = self.index.tables.entities.get_greater_than_or_equal_to(&self.txn, file)?;
            *ahead = Some(next.and_then(|(key, _)| key.first_chunk().copied()));
        }
        if *ahead != Some(Some(*file)) {
            return Ok(0);
        }
        self.index.tables.base(&self.txn, file, found)
    }

    fn put_tasks(&mut self, number: u64, told: &Provenance, bases: &[u32]) -> Result<(), heed::Error> {
        let tables = &self.index.tables;
        let run = number.to_be_bytes();
        let count = told.activities.len();
        let used = Groups::new(count, told.used.iter().map(|u| (u.manner != Manner::Revised).then_some(u.activity.0)));
        let generated = Groups::new(count, told.generated.iter().map(|g| Some(g.activity.0)));
        let informed_by = Groups::new(count, told.informed.iter().map(|i| Some(i.informed.0)));
        let informed = Groups::new(count, told.informed.iter().map(|i| Some(i.informant.0)));
        let children = Groups::new(count, told.activities.iter().map(|a| a.parent.map(|p| p.0)));
        let entity = |no: EntityNo| {
            let e = told.entity(no);
            EntityId { file: e.file, version: e.version + bases[no.0 as usize] }
        };
        let mut ids = Vec::with_capacity(count);
        let mut names: FxHashMap<&str, u32> = FxHashMap::default();
        let mut value = Vec::new();
        for (i, a) in told.activities.iter().enumerate() {
            let id = a.task_id();
            ids.push((id, i as u32));
            *names.entry(&a.name).or_default() += 1;
            let told_of = |i: usize, other: ActivityNo| {
                let i = &told.informed[i];
                Told { other, via: i.via, sent: i.sent, received: i.received.0 }
            };
            value.clear();
            Task {
                id,
                name: &a.name,
                command: a.command_line().into(),
                started: a.started,
                ended: a.ended,
                parent: a.parent,
                children: children.of(i).map(|c| ActivityNo(c as u32)).collect(),
                used: used
                    .of(i)
                    .map(|u| {
                        let u = &told.used[u];
                        let of = told.entity(u.entity);
                        let position = of.names.iter().position(|n| n.path == u.path);
                        Used {
                            entity: entity(u.entity),
                            name: position.map_or(NameOf::Other(&u.path), |p| NameOf::Known(p as u32)),
                            role: u.role,
                            first: u.first,
                            possible: u.possible,
                            made_here: of.origin != Origin::Found,
                        }
                    })
                    .collect(),
                generated: generated
                    .of(i)
                    .map(|g| &told.generated[g])
                    .map(|g| Generated { entity: entity(g.entity), role: g.role, last: g.last })
                    .collect(),
                informed_by: informed_by.of(i).map(|n| told_of(n, told.informed[n].informant)).collect(),
                informed: informed.of(i).map(|n| told_of(n, told.informed[n].informed)).collect(),
            }
            .write(&mut value);
            tables.tasks.put_with_flags(&mut self.txn, PutFlags::APPEND, &task_key(number, i as u32), &value)?;
        }
        ids.sort_unstable();
        for (id, i) in ids {
            tables.ids.put(&mut self.txn, id.as_bytes(), &task_key(number, i))?;
        }
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        for (name, count) in names {
            let key = [cut(name), &[0], &run].concat();
            tables.activities.put(&mut self.txn, &key, &count.to_be_bytes())?;
        }
        Ok(())
    }
}

impl Reader<'_> {
    fn get<'t>(&'t self, table: Table, key: &[u8]) -> Result<Option<&'t [u8]>, StoreError> {
        table.get(&self.txn, key).map_err(|e| self.index.fail(e))
    }

    /// The number of a run, and of the task in it where the id is a task's.
    pub fn number(&self, id: Uuid) -> Result<Option<(u64, Option<ActivityNo>)>, StoreError> {
        let value = self.get(self.index.tables.ids, id.as_bytes())?;
        Ok(value.and_then(|v| v.split_first_chunk::<8>()).map(|(number, rest)| {
            (u64::from_be_bytes(*number), rest.try_into().ok().map(|t| ActivityNo(u32::from_be_bytes(t))))
        }))
    }

    /// All runs, oldest first.
    pub fn workflows(&self) -> Result<Vec<(u64, Workflow)>, StoreError> {
        let mut list = Vec::new();
        for row in self.index.tables.workflows.iter(&self.txn).map_err(|e| self.index.fail(e))? {
            let (key, value) = row.map_err(|e| self.index.fail(e))?;
            if let Ok(workflow) = serde_json::from_slice(value) {
                list.push((number_of(key), workflow));
            }
        }
        Ok(list)
    }

    /// The runs that began at `since` (ns since 1970) or later, oldest first.
    pub fn since(&self, since: u64) -> Result<Vec<u64>, StoreError> {
        let from = [since.to_be_bytes(), [0; 8]].concat();
        let range = (Bound::Included(&*from), Bound::Unbounded);
        let rows = self.index.tables.times.range(&self.txn, &range).map_err(|e| self.index.fail(e))?;
        rows.map(|row| row.map(|(key, _)| number_of(&key[8..])).map_err(|e| self.index.fail(e))).collect()
    }

    /// The runs that had tasks of this name, each with how many, oldest first.
    pub fn with_activity(&self, name: &str) -> Result<Vec<(u64, u32)>, StoreError> {
        let prefix = [cut(name), &[0]].concat();
        let rows = self.index.tables.activities.prefix_iter(&self.txn, &prefix).map_err(|e| self.index.fail(e))?;
        rows.map(|row| {
            let (key, count) = row.map_err(|e| self.index.fail(e))?;
            Ok((number_of(&key[prefix.len()..]), count.try_into().map_or(0, u32::from_be_bytes)))
        })
        .collect()
    }

    /// The document of the run of this number.
    pub fn workflow(&self, number: u64) -> Result<Option<Workflow>, StoreError> {
        let value = self.get(self.index.tables.workflows, &number.to_be_bytes())?;
        Ok(value.and_then(|v| serde_json::from_slice(v).ok()))
    }

    /// A task of a run.
    pub fn task(&self, number: u64, task: ActivityNo) -> Result<Option<Task<'_>>, StoreError> {
        Ok(self.get(self.index.tables.tasks, &task_key(number, task.0))?.and_then(Task::read))
    }

    /// A version of a file, as each run that had it saw it, in the order in which they were entered.
    pub fn versions(&self, id: &EntityId) -> Result<Vec<(u64, Version<'_>)>, StoreError> {
        let prefix = [&file_bytes(&id.file)[..], &id.version.to_be_bytes()].concat();
        let rows = self.index.tables.entities.prefix_iter(&self.txn, &prefix).map_err(|e| self.index.fail(e))?;
        let mut list = Vec::new();
        for row in rows {
            let (key, value) = row.map_err(|e| self.index.fail(e))?;
            list.extend(Version::read(value).map(|v| (number_of(&key[32..]), v)));
        }
        Ok(list)
    }

    /// The last version of a file that a run had, and the run's own number of it.
    pub fn last_version(&self, file: &FileKey, number: u64) -> Result<Option<(EntityId, u32)>, StoreError> {
        let prefix = file_bytes(file);
        let rows = self.index.tables.entities.rev_prefix_iter(&self.txn, &prefix).map_err(|e| self.index.fail(e))?;
        for row in rows {
            let (key, value) = row.map_err(|e| self.index.fail(e))?;
            if number_of(&key[32..]) == number {
                let id = EntityId { file: *file, version: version_of(key) };
                return Ok(Version::read(value).map(|v| (id, v.local)));
            }
        }
        Ok(None)
    }

    /// What version 0 of each file is called of a run that is not entered yet.
    pub fn bases(&self, told: &Provenance) -> Result<HashMap<FileKey, u32>, StoreError> {
        let first = told.entities.iter().filter(|entity| entity.version == 0);
        let bases = first.map(|entity| {
            let base = self.index.tables.base(&self.txn, &file_bytes(&entity.file), found(entity));
            base.map(|base| (entity.file, base)).map_err(|e| self.index.fail(e))
        });
        bases.collect()
    }

    /// The files that had this name, each with its run, oldest run first.
    pub fn named(&self, path: &str) -> Result<Vec<(u64, FileKey)>, StoreError> {
        let mut prefix = cut(path).to_vec();
        prefix.push(0);
        let mut list = Vec::new();
        for row in self.index.tables.paths.prefix_iter(&self.txn, &prefix).map_err(|e| self.index.fail(e))? {
            let (key, _) = row.map_err(|e| self.index.fail(e))?;
            let rest = &key[prefix.len()..];
            if let (Some(number), Some(file)) = (rest.get(..8), rest.get(8..).and_then(file_of)) {
                list.push((number_of(number), file));
            }
        }
        Ok(list)
    }
}

/// The size and time of a file that was there before the run.
fn found(first: &Entity) -> Option<(u64, u64)> {
    (first.origin == Origin::Found).then_some((first.first_state.size.0, first.first_state.mtime.0))
}

/// LMDB maps its lock file and writes to it: where the disk is full, a hole in it would be a SIGBUS instead of an error.
fn reserve_lock(path: &Path) -> Result<(), StoreError> {
    let fail = |source| StoreError::File { action: "reserve room for", path: path.to_path_buf(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.len() >= LOCK_BYTES as u64 {
        return Ok(());
    }
    nix::fcntl::posix_fallocate(&file, 0, LOCK_BYTES).map_err(|e| fail(e.into()))
}

fn number_of(key: &[u8]) -> u64 {
    key.try_into().map_or(0, u64::from_be_bytes)
}

/// The version in a key of `entities`.
fn version_of(key: &[u8]) -> u32 {
    key.get(28..32).and_then(|v| v.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn entity_key(file: &[u8; 28], version: u32, number: u64) -> [u8; 40] {
    let mut key = [0; 40];
    key[..28].copy_from_slice(file);
    key[28..32].copy_from_slice(&version.to_be_bytes());
    key[32..].copy_from_slice(&number.to_be_bytes());
    key
}

fn task_key(number: u64, task: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&task.to_be_bytes());
    key
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

fn cut(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(TEXT_BYTES)]
}
