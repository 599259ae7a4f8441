//! Where documents go, one file a sink, and the queues that they come back from; an [`outlet`] is a sink with its place in the store.
//! They do not know what documents say, but for the names of Flowcept's tables and of files.

pub mod jsonl;
pub mod kafka;
pub mod lmdb;
pub mod mongodb;
pub mod outlet;
pub mod rabbitmq;
pub mod redis;
pub mod table;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::sinks::redis::{channel, stream};

/// Takes documents for others.
pub trait Sink {
    /// What it is called, for people and as the name of its cursor: without user and password.
    fn place(&self) -> &str;

    /// Delivers documents in their order: when it returns, who is there has them. Where it fails, somebody may have some of them.
    /// With none it only connects, so that it shows what is in the way.
    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered>;

    /// Whether a document that comes again takes the place of what was there under its id.
    fn replaces(&self) -> bool {
        true
    }

    /// Whether all that was delivered since the last time is beyond doubt where it belongs; if not it has to be delivered again.
    fn confirm(&mut self) -> Result<bool, Undelivered> {
        Ok(true)
    }
}

/// Where documents of others and ours come from, as messages.
pub trait Queue {
    /// What it is called, for people: without user and password.
    fn place(&self) -> &str;

    /// The next message, for which it waits so long at most, and some seconds at most; none where none came. It connects where it has to.
    fn message(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, Undelivered>;

    /// Says that the oldest so many of the messages that are not settled have been kept somewhere.
    fn settle(&mut self, count: usize) -> Result<(), Undelivered>;

    /// How many it gives before some of them are settled, at most: then none comes.
    fn most(&self) -> usize {
        usize::MAX
    }

    /// Whether it gives again what was not settled, if need be to somebody else.
    fn keeps(&self) -> bool;
}

/// Where in a server documents are.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// A channel of Redis, a topic of Kafka, or an exchange of RabbitMQ.
    pub channel: &'a str,
    /// A stream of Redis instead.
    pub stream: Option<&'a str>,
}

/// The sink of a URL.
pub fn sink(url: &str, name: Name<'_>) -> Result<Box<dyn Sink>> {
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    Ok(match (scheme, name.stream) {
        ("lmdb", None) => Box::new(lmdb::Lmdb::open(Path::new(rest))?),
        ("jsonl", None) => Box::new(jsonl::Jsonl::open(Path::new(rest))?),
        ("kafka" | "kafkas", None) => Box::new(kafka::Topic::open(url, name.channel)?),
        ("amqp" | "amqps", None) => Box::new(rabbitmq::Exchange::open(url, name.channel)?),
        ("mongodb", None) => Box::new(mongodb::Mongo::open(url)?),
        ("redis" | "rediss", Some(stream)) => Box::new(stream::Stream::open(url, stream)?),
        ("redis" | "rediss", None) => Box::new(channel::Channel::open(url, name.channel)?),
        (scheme, _) => bail!(unusable(
            scheme,
            "redis://HOST, kafka://HOST, amqp://HOST, mongodb://HOST, lmdb:FOLDER and jsonl:FILE"
        )),
    })
}

/// The queue of a URL, as a group of readers has it, or from now on.
pub fn queue(url: &str, name: Name<'_>, group: Option<&str>) -> Result<Box<dyn Queue>> {
    let scheme = url.split_once(':').unwrap_or_default().0;
    Ok(match (scheme, name.stream, group) {
        ("kafka" | "kafkas", None, _) => Box::new(kafka::Group::open(url, name.channel, group)?),
        ("amqp" | "amqps", None, _) => Box::new(rabbitmq::Group::open(url, name.channel, group)?),
        ("redis" | "rediss", Some(stream), Some(group)) => Box::new(stream::Group::open(url, stream, group)?),
        ("redis" | "rediss", Some(stream), None) => Box::new(stream::Tail::open(url, stream)?),
        ("redis" | "rediss", None, None) => Box::new(channel::Subscription::open(url, name.channel)?),
        ("redis" | "rediss", None, Some(_)) => {
            bail!("a channel of Redis has no groups of readers: give none, or a stream")
        }
        (scheme, _, _) => bail!(unusable(scheme, "redis://HOST, kafka://HOST and amqp://HOST")),
    })
}

/// Whether a queue keeps messages for groups of readers; a channel of Redis is the one that does not.
pub fn has_groups(url: &str, name: Name<'_>) -> bool {
    name.stream.is_some() || !redis::is_url(url)
}

/// Messages that a group of readers of a queue has not settled; none where nothing is kept for it, as it has not been there.
pub fn lag(url: &str, name: Name<'_>, group: &str) -> Result<Option<u64>> {
    match (url.split(':').next().unwrap_or_default(), name.stream) {
        ("kafka" | "kafkas", _) => kafka::lag(url, name.channel, group).map(Some),
        ("amqp" | "amqps", _) => rabbitmq::lag(url, name.channel, group),
        (_, Some(name)) => stream::lag(url, name, group).map(Some),
        _ => Ok(None),
    }
}

/// The rest of the URL may have a password.
fn unusable(scheme: &str, known: &str) -> String {
    match scheme {
        "amqp" | "amqps" | "kafka" | "kafkas" | "lmdb" | "mongodb" | "jsonl" => {
            format!("{scheme} has no streams: give --stream with Redis only")
        }
        "" => format!("this is no URL; there are {known}"),
        _ => format!("{scheme} is nothing that flowcept knows here; there are {known}"),
    }
}

/// Why documents were not delivered, or not received.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// It may go better later.
    #[error("{0}")]
    Now(String),
    /// Somebody has to do something about it first.
    #[error("{0}")]
    Ever(String),
}

impl Undelivered {
    /// With the name of where it happened.
    fn of(self, place: &str) -> Self {
        match self {
            Self::Now(why) => Self::Now(format!("{place}: {why}")),
            Self::Ever(why) => Self::Ever(format!("{place}: {why}")),
        }
    }
}
