//! Provenance → the shapes that others read. Each knows its own format and nothing of where bytes go.

pub mod flowcept;
pub mod prov_json;
