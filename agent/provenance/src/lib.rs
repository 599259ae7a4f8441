//! Turns observations of running programs into provenance. Pure: no IO, no clock, no threads, no serialisation.
//!
//! The chain, in reading order: an [`observation`] is a fact that somebody saw; [`lineage`] gathers them and tells what
//! follows: which [`activity`] used and generated which [`entity`], and the [`relation`]s between them. [`walk`] answers
//! questions about the result. What is promised stands, numbered, in `SEMANTICS.md`.

pub mod groups;
pub mod identity;
pub mod quantity;

pub mod node;
pub mod observation;

pub mod activity;
pub mod entity;
pub mod relation;
pub mod role;

pub mod lineage;
mod pipes;
mod versions;

#[cfg(test)]
mod tests;
