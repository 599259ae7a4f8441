//! STUB-TO-BE-REPLACED
#![allow(missing_docs, unused)]
use crate::workflow::Workflow;
use flowcept_provenance::identity::FileKey;
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::relation::{Generation, Use};
pub enum Files {
    Bounded,
    All,
}
pub fn workflow(w: &Workflow, p: &Provenance, b: &dyn Fn(&FileKey) -> u32) -> serde_json::Value {
    serde_json::json!({})
}
pub fn tasks(w: &Workflow, p: &Provenance, f: Files, b: &dyn Fn(&FileKey) -> u32) -> Vec<serde_json::Value> {
    vec![]
}
pub fn inputs(p: &Provenance) -> Vec<&Use> {
    vec![]
}
pub fn outputs(p: &Provenance) -> Vec<&Generation> {
    vec![]
}
