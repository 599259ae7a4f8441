//! What can go wrong with probes, by action.

/// Says what was attempted and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object or one of its programs was refused.
    #[error("load the probes: {0}")]
    Load(#[source] libbpf_rs::Error),
    /// A program was refused at its place.
    #[error("attach the probe {0}: {1}")]
    Attach(String, #[source] libbpf_rs::Error),
    /// The object lacks a part that this code expects: built from other sources.
    #[error("the probes lack {0}")]
    Lacks(&'static str),
    /// A process could not be put under watch.
    #[error("watch process {0}: {1}")]
    Watch(u32, #[source] std::io::Error),
    /// The ring could not be read.
    #[error("read the probes' ring: {0}")]
    Ring(#[source] libbpf_rs::Error),
    /// A map could not be read.
    #[error("read the probes' {0}: {1}")]
    Map(&'static str, #[source] libbpf_rs::Error),
}
