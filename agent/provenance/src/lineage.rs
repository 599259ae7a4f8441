//! Gathers observations and tells what follows from them. It does not know how they were captured, stored or sent.
//!
//! [`Lineage::apply`] takes facts in about their order in time; [`Lineage::tell`] relates what is known so far. Telling
//! again later adds: versions are numbered in the order in which they begin, so that what was told stays.

use crate::activity::{Activity, ActivityNo};
use crate::entity::{Entity, EntityNo};
use crate::observation::Counted;
use crate::relation::{Gap, Generation, Informed, Move, Use};

/// What was told: activities, entities and the relations between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Provenance {
    /// Tasks, by [`ActivityNo`], parents before children.
    pub activities: Vec<Activity>,
    /// File versions, by [`EntityNo`]; versions of a file in order.
    pub entities: Vec<Entity>,
    /// Who used what; one for each activity, entity and role.
    pub used: Vec<Use>,
    /// Who generated what; one for each activity and entity.
    pub generated: Vec<Generation>,
    /// Who was informed by whom.
    pub informed: Vec<Informed>,
    /// Names given.
    pub moved: Vec<Move>,
    /// What was not seen; empty is a claim.
    pub gaps: Vec<Gap>,
    /// Counters that balance where nothing was lost.
    pub books: Counted,
    /// The root of the workflow.
    pub root: Option<ActivityNo>,
}

impl Provenance {
    /// The activity of this number.
    pub fn activity(&self, no: ActivityNo) -> &Activity {
        &self.activities[no.0 as usize]
    }

    /// The entity of this number.
    pub fn entity(&self, no: EntityNo) -> &Entity {
        &self.entities[no.0 as usize]
    }
}
