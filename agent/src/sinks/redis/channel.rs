//! A channel of Redis, as Flowcept publishes by default: each document is a message. Whoever is not subscribed gets nothing, and Redis
//! keeps nothing; so a batch counts as delivered only where somebody was, none is sent to who does not keep up, and what may have died
//! with the server, or with a subscriber's connection, is sent again.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use redis::{Connection, Msg};
use serde_json::Value;

use super::{Server, failed};
use crate::formats::flowcept::packed;
use crate::sinks::{Queue, Sink, Undelivered};

/// What may wait in the server for its slowest subscriber before more is sent: Redis drops a subscriber for whom 32 MB wait, or
/// 8 MB for a minute (`client-output-buffer-limit pubsub`).
const BACKLOG: u64 = 4 << 20;
/// Bytes that are sent between two looks at that.
const LOOK: usize = 1 << 20;

/// Publishes to a channel.
pub struct Channel {
    server: Server,
    name: String,
    /// Bytes since the last look at what waits in the server; absent where it is to be looked at first.
    sent: Option<usize>,
    /// Subscribers that were there at the last look; where one has gone since, or the server, what was sent may not have come to it.
    subscribers: BTreeSet<u64>,
    /// Something was sent since it was last sure that all had come.
    is_open: bool,
    is_unsure: bool,
}

/// How long the last of what was sent is waited for.
const LAST: Duration = Duration::from_secs(1);

impl Channel {
    /// Of this server's URL. It connects when there is something to deliver.
    pub fn open(url: &str, name: &str) -> Result<Self> {
        Ok(Self {
            server: Server::open(url, name)?,
            name: name.into(),
            sent: None,
            subscribers: BTreeSet::new(),
            is_open: false,
            is_unsure: false,
        })
    }
}

impl Sink for Channel {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let (name, sent) = (&self.name, self.sent.take());
        let (subscribers, unsure) = (&mut self.subscribers, &mut self.is_unsure);
        let is_open = self.is_open;
        let now = self.server.with(
            |_| {
                // Another connection: whatever the server had for subscribers may have died with it.
                *unsure |= is_open;
                Ok(())
            },
            |connection| {
                let mut sent = sent.filter(|sent| *sent < LOOK);
                if sent.is_none() {
                    let look = Look::at(connection)?;
                    subscribers.extend(look.subscribers);
                    if look.waiting > BACKLOG {
                        return Err(Undelivered::Now(format!(
                            "a subscriber of its channels does not keep up: {} bytes wait for it",
                            look.waiting
                        )));
                    }
                }
                let mut pipe = redis::pipe();
                pipe.atomic();
                for document in documents {
                    let message = packed(document);
                    *sent.get_or_insert(0) += message.len();
                    pipe.publish(name, message);
                }
                let receivers: Vec<i64> = pipe.query(connection).map_err(failed)?;
                match receivers.into_iter().min() {
                    Some(0) => {
                        let why = format!("nobody is subscribed to the channel {name}: start a consumer");
                        Err(Undelivered::Now(why))
                    }
                    _ => Ok(sent),
                }
            },
        )?;
        self.sent = now;
        self.is_open = true;
        Ok(())
    }

    /// Once the server has nothing more for anybody, what was sent is in their hands, or on the way to them in this kernel or theirs.
    fn confirm(&mut self) -> Result<bool, Undelivered> {
        let (subscribers, unsure) = (&mut self.subscribers, &mut self.is_unsure);
        let (begun, is_open) = (Instant::now(), self.is_open);
        let look = self.server.with(
            |_| {
                *unsure |= is_open;
                Ok(())
            },
            |connection| {
                let mut pause = Duration::from_millis(1);
                loop {
                    let look = Look::at(connection)?;
                    if look.waiting == 0 {
                        return Ok(look);
                    }
                    if begun.elapsed() > LAST {
                        let bytes = look.waiting;
                        return Err(Undelivered::Now(format!("{bytes} bytes wait for a subscriber of its channels")));
                    }
                    sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
            },
        )?;
        let has_gone = !subscribers.iter().all(|subscriber| look.subscribers.contains(subscriber));
        *subscribers = look.subscribers;
        self.is_open = false;
        Ok(!std::mem::take(unsure) && !has_gone)
    }
}

/// What the server says of subscribers; nothing where the user may not ask.
#[derive(Default)]
struct Look {
    subscribers: BTreeSet<u64>,
    /// Bytes that wait for the slowest.
    waiting: u64,
}

impl Look {
    fn at(connection: &mut Connection) -> Result<Self, Undelivered> {
        let list: Result<String, _> = redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("pubsub").query(connection);
        let list = match list {
            Ok(list) => list,
            Err(error) if error.code() == Some("NOPERM") => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let numbers = |name: &'static str| {
            let words = list.split_whitespace().filter_map(move |word| word.strip_prefix(name));
            words.filter_map(|number| number.parse::<u64>().ok())
        };
        // What waits lies in a buffer of 16 kB, and then in a list.
        let waiting = numbers("obl=").chain(numbers("omem=")).max().unwrap_or(0);
        Ok(Self { subscribers: numbers("id=").collect(), waiting })
    }
}

/// What comes to a channel from now on. After each PING all that came before its answer is there, so that nobody waits for what may
/// not come, and a server that has gone is noticed.
pub struct Subscription {
    server: Server,
    pattern: String,
    /// An answer to a PING has not come yet.
    asked: bool,
}

/// Between two PINGs where nothing came.
const PAUSE: Duration = Duration::from_millis(20);

impl Subscription {
    /// Of this server's URL, to a channel that is a pattern there as it is for Flowcept.
    pub fn open(url: &str, pattern: &str) -> Result<Self> {
        Ok(Self { server: Server::open(url, pattern)?, pattern: pattern.into(), asked: false })
    }
}

impl Queue for Subscription {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn message(&mut self) -> Result<Option<Vec<u8>>, Undelivered> {
        let (pattern, asked) = (&self.pattern, Cell::new(self.asked));
        let answer = self.server.with(
            |connection| {
                asked.set(false);
                let subscribe = redis::cmd("PSUBSCRIBE").arg(pattern).get_packed_command();
                connection.send_packed_command(&subscribe).map_err(failed)?;
                // Its answer; an error where it is not allowed.
                connection.recv_response().map_err(failed).map(drop)
            },
            |connection| {
                if !asked.replace(true) {
                    connection.send_packed_command(&redis::cmd("PING").get_packed_command()).map_err(failed)?;
                }
                connection.recv_response().map_err(failed)
            },
        )?;
        let message = Msg::from_owned_value(answer);
        self.asked = message.is_some();
        if message.is_none() {
            sleep(PAUSE);
        }
        Ok(message.map(|message| message.get_payload_bytes().to_vec()))
    }

    fn settle(&mut self) -> Result<(), Undelivered> {
        Ok(())
    }

    fn keeps(&self) -> bool {
        false
    }
}
