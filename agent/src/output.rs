//! How answers look to a person. It does not ask the questions.

pub mod tree;
