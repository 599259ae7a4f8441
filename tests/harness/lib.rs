//! Runs real programs under the real binary and compares what was captured with what others saw. It knows no kernel.

pub mod flowcept;
pub mod fuzz;
pub mod host;
pub mod kafka;
pub mod maven;
pub mod lua;
pub mod mongodb;
pub mod oracle;
pub mod python;
pub mod rabbitmq;
pub mod random;
pub mod redis;
pub mod run;
pub mod server;
