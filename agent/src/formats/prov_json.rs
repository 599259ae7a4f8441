//! STUB-TO-BE-REPLACED
#![allow(missing_docs, unused)]
use crate::workflow::Workflow;
use flowcept_provenance::identity::FileKey;
use flowcept_provenance::lineage::Provenance;
pub fn document(w: &Workflow, p: &Provenance, b: &dyn Fn(&FileKey) -> u32) -> serde_json::Value {
    serde_json::json!({})
}
