//! From the records of the kernel and of the library to observations. It does not know what follows from them.

pub mod clock;
pub mod decode;
pub mod node;
pub mod redact;
pub mod settle;
pub mod spool;
