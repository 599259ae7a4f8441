//! From the kernel's records to observations. It does not know what follows from them.

pub mod clock;
pub mod decode;
pub mod redact;
