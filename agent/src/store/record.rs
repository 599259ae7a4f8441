//! What the index says of a task and of a version of a file, as values and as bytes. It does not know the tables.

use std::borrow::Cow;

use flowcept_provenance::activity::ActivityNo;
use flowcept_provenance::entity::Origin;
use flowcept_provenance::identity::EntityId;
use flowcept_provenance::quantity::BootNs;
use flowcept_provenance::relation::Via;
use flowcept_provenance::role::Role;
use uuid::Uuid;

use super::bytes::{In, Out, numbered};

/// A task of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Task<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its activity.
    pub name: &'a str,
    /// Its command line.
    pub command: Cow<'a, str>,
    /// Begin.
    pub started: BootNs,
    /// End; absent while it ran when it was entered.
    pub ended: Option<BootNs>,
    /// Who started it.
    pub parent: Option<ActivityNo>,
    /// Whom it started.
    pub children: Vec<ActivityNo>,
    /// What it used, but for what it only revised.
    pub used: Vec<Used<'a>>,
    /// What it generated.
    pub generated: Vec<Generated>,
    /// By whom it was informed.
    pub informed_by: Vec<Told>,
    /// Whom it informed.
    pub informed: Vec<Told>,
}

/// A use.
#[derive(Clone, Debug, PartialEq)]
pub struct Used<'a> {
    /// Of what.
    pub entity: EntityId,
    /// Under which name.
    pub name: NameOf<'a>,
    /// As what.
    pub role: Role,
    /// First use.
    pub first: BootNs,
    /// Not beyond doubt.
    pub possible: bool,
    /// The same run made it.
    pub made_here: bool,
}

/// A name that a use had: one that the version has anyway, or another (of a hard link).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NameOf<'a> {
    /// Its position among [`Version::names`].
    Known(u32),
    /// Another.
    Other(&'a str),
}

/// A generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Of what.
    pub entity: EntityId,
    /// As what.
    pub role: Role,
    /// Last write, or a bound not before it.
    pub last: BootNs,
}

/// Bytes that went from one task to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The other task.
    pub other: ActivityNo,
    /// Through what.
    pub via: Via,
    /// The sender's first and last byte.
    pub sent: (BootNs, BootNs),
    /// The receiver's first byte.
    pub received: BootNs,
}

/// A version of a file as one run saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Version<'a> {
    /// How it began.
    pub origin: Origin,
    /// Its number within the run.
    pub local: u32,
    /// Size when last seen.
    pub size: u64,
    /// mtime when last seen, ns since 1970.
    pub mtime: u64,
    /// Its names, in order.
    pub names: Vec<&'a str>,
    /// Who generated it: the task, its last write, whether that is not beyond doubt.
    pub generated_by: Vec<(ActivityNo, BootNs, bool)>,
    /// Who used it, from when on.
    pub used_by: Vec<(ActivityNo, BootNs)>,
}

numbered!(role_number, role, Role {
    0 = Data, 1 = Program, 2 = Library, 3 = Configuration, 4 = Cache, 5 = Device, 6 = KernelFile, 7 = Temporary,
});
numbered!(via_number, via, Via { 0 = Pipe, 1 = Fifo, 2 = Fork, 3 = Memory });
numbered!(origin_number, origin, Origin { 0 = Found, 1 = Created, 2 = Truncated, 3 = Revised });

impl Out<'_> {
    fn entity(&mut self, id: &EntityId) {
        self.file(&id.file);
        self.number(id.version.into());
    }
    fn told(&mut self, told: &Told) {
        self.number(told.other.0.into());
        self.number(via_number(told.via));
        self.number(told.sent.0.0);
        self.number(told.sent.1.0);
        self.number(told.received.0);
    }
    fn list<T>(&mut self, list: &[T], mut one: impl FnMut(&mut Self, &T)) {
        self.number(list.len() as u64);
        list.iter().for_each(|item| one(self, item));
    }
}

impl In<'_> {
    fn entity(&mut self) -> Option<EntityId> {
        Some(EntityId { file: self.file()?, version: self.small()? })
    }
    fn task(&mut self) -> Option<ActivityNo> {
        self.small().map(ActivityNo)
    }
    fn told(&mut self) -> Option<Told> {
        let (other, via) = (self.task()?, via(self.number()?)?);
        Some(Told { other, via, sent: (self.at()?, self.at()?), received: self.at()? })
    }
}

impl<'a> Task<'a> {
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let mut out = Out(bytes);
        out.0.extend_from_slice(self.id.as_bytes());
        out.text(self.name);
        out.text(&self.command);
        out.number(self.started.0);
        out.flags(&[self.ended.is_some(), self.parent.is_some()]);
        out.number(self.ended.unwrap_or_default().0);
        out.number(self.parent.map_or(0, |p| p.0.into()));
        out.list(&self.children, |out, child| out.number(child.0.into()));
        out.list(&self.used, |out, u| {
            out.entity(&u.entity);
            match u.name {
                NameOf::Known(position) => out.number(u64::from(position) + 1),
                NameOf::Other(text) => {
                    out.number(0);
                    out.text(text);
                }
            }
            out.number(role_number(u.role));
            out.number(u.first.0);
            out.flags(&[u.possible, u.made_here]);
        });
        out.list(&self.generated, |out, g| {
            out.entity(&g.entity);
            out.number(role_number(g.role));
            out.number(g.last.0);
        });
        out.list(&self.informed_by, Out::told);
        out.list(&self.informed, Out::told);
    }

    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut i = In(bytes);
        let id = Uuid::from_bytes(i.fixed()?);
        let (name, command, started) = (i.text()?, i.text()?.into(), i.at()?);
        let [has_ended, has_parent] = i.flags()?;
        let (ended, parent) = (i.at()?, i.task()?);
        Some(Self {
            id,
            name,
            command,
            started,
            ended: has_ended.then_some(ended),
            parent: has_parent.then_some(parent),
            children: i.list(In::task)?,
            used: i.list(|i| {
                let entity = i.entity()?;
                let name = match i.small()? {
                    0 => NameOf::Other(i.text()?),
                    n => NameOf::Known(n - 1),
                };
                let (role, first) = (role(i.number()?)?, i.at()?);
                let [possible, made_here] = i.flags()?;
                Some(Used { entity, name, role, first, possible, made_here })
            })?,
            generated: i.list(|i| Some(Generated { entity: i.entity()?, role: role(i.number()?)?, last: i.at()? }))?,
            informed_by: i.list(In::told)?,
            informed: i.list(In::told)?,
        })
    }
}

impl<'a> Version<'a> {
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let mut out = Out(bytes);
        out.number(origin_number(self.origin));
        out.number(self.local.into());
        out.number(self.size);
        out.number(self.mtime);
        out.list(&self.names, |out, name| out.text(name));
        out.list(&self.generated_by, |out, (task, last, possible)| {
            out.number(task.0.into());
            out.number(last.0);
            out.flags(&[*possible]);
        });
        out.list(&self.used_by, |out, (task, first)| {
            out.number(task.0.into());
            out.number(first.0);
        });
    }

    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut i = In(bytes);
        Some(Self {
            origin: origin(i.number()?)?,
            local: i.small()?,
            size: i.number()?,
            mtime: i.number()?,
            names: i.list(In::text)?,
            generated_by: i.list(|i| {
                let (task, last, [possible]) = (i.task()?, i.at()?, i.flags()?);
                Some((task, last, possible))
            })?,
            used_by: i.list(|i| Some((i.task()?, i.at()?)))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowcept_provenance::identity::{FileKey, FilesystemId};

    fn entity(n: u64) -> EntityId {
        let filesystem = FilesystemId { magic: 0xEF53, host: 7, volume: n.wrapping_mul(0x9E37_79B9_7F4A_7C15) };
        EntityId { file: FileKey { filesystem, inode: n, generation: 3 }, version: n as u32 }
    }

    #[test]
    fn records_come_back_whole_and_never_panic_when_cut() {
        let task = Task {
            id: Uuid::from_u128(5),
            name: "sort",
            command: "sort in.txt".into(),
            started: BootNs(u64::MAX),
            ended: Some(BootNs(9)),
            parent: Some(ActivityNo(0)),
            children: vec![ActivityNo(2), ActivityNo(300)],
            used: vec![
                Used {
                    entity: entity(1),
                    name: NameOf::Known(0),
                    role: Role::Data,
                    first: BootNs(3),
                    possible: false,
                    made_here: true,
                },
                Used {
                    entity: entity(900),
                    name: NameOf::Other("/d/ä"),
                    role: Role::Temporary,
                    first: BootNs(4),
                    possible: true,
                    made_here: false,
                },
            ],
            generated: vec![Generated { entity: entity(2), role: Role::Cache, last: BootNs(8) }],
            informed_by: vec![Told {
                other: ActivityNo(1),
                via: Via::Fork,
                sent: (BootNs(1), BootNs(2)),
                received: BootNs(2),
            }],
            informed: vec![],
        };
        let version = Version {
            origin: Origin::Revised,
            local: 1,
            size: 5,
            mtime: u64::MAX,
            names: vec!["/a", ""],
            generated_by: vec![(ActivityNo(1), BootNs(2), true)],
            used_by: vec![(ActivityNo(3), BootNs(4))],
        };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        task.write(&mut a);
        version.write(&mut b);
        assert_eq!(Task::read(&a), Some(task));
        assert_eq!(Version::read(&b), Some(version));
        assert!((0..a.len()).all(|cut| Task::read(&a[..cut]).is_none()));
        assert!((0..b.len()).all(|cut| Version::read(&b[..cut]).is_none()));
    }
}
