//! A channel of Redis, as Flowcept publishes by default: each document is a message. Whoever is not subscribed gets nothing, and Redis
//! keeps nothing; so a batch counts as delivered only where somebody was, none is sent to who does not keep up, and what may have died
//! with the server, or with a subscriber's connection, is sent again.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use redis::{Connection, Msg, Value as Answer};
use serde_json::Value;

use super::{Server, failed, send};
use crate::sinks::{Queue, Sink, Undelivered};

/// What may wait in the server for its slowest subscriber before more is sent: Redis drops a subscriber for whom 32 MB wait, or
/// 8 MB for a minute (`client-output-buffer-limit pubsub`).
const BACKLOG: u64 = 4 << 20;
/// Bytes that are sent between two looks at that.
const LOOK: usize = 1 << 20;
/// How long a subscriber may take nothing while it is waited for.
const STALL: Duration = Duration::from_secs(1);

/// Publishes to a channel.
pub struct Channel {
    server: Server,
    name: String,
    /// Whom it was sent to; where one has gone since, or the server, what was sent may not have come.
    seen: Seen,
}

/// What is known of the other side.
#[derive(Default)]
struct Seen {
    /// The server's `run_id`, new each time it is started; none where the user may not ask.
    server: Option<String>,
    /// Subscribers at the last look, and since it was last sure.
    subscribers: BTreeSet<u64>,
    /// Something was sent since it was last sure that all had come.
    is_open: bool,
    is_unsure: bool,
}

impl Seen {
    /// A new connection: to another server, or one that was started anew, what was there for subscribers may have died with the old.
    fn connected(&mut self, connection: &mut Connection) -> Result<(), Undelivered> {
        let told: Result<String, _> = redis::cmd("INFO").arg("server").query(connection);
        let server = match told {
            Ok(told) => told.lines().find_map(|line| line.strip_prefix("run_id:")).map(String::from),
            Err(error) if error.code() == Some("NOPERM") => None,
            Err(error) => return Err(failed(error)),
        };
        self.is_unsure |= self.is_open && (server.is_none() || server != self.server);
        self.server = server;
        Ok(())
    }
}

impl Channel {
    /// Of this server's URL. It connects when there is something to deliver.
    pub fn open(url: &str, name: &str) -> Result<Self> {
        Ok(Self { server: Server::open(url, name)?, name: name.into(), seen: Seen::default() })
    }
}

impl Sink for Channel {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let (name, seen) = (&self.name, &mut self.seen);
        let subscribers = self.server.with(
            |connection| seen.connected(connection),
            |connection| {
                let (mut rest, mut subscribers) = (documents, BTreeSet::new());
                loop {
                    subscribers.extend(drained(connection, BACKLOG)?.subscribers);
                    let mut publish = redis::cmd("PUBLISH");
                    let sent = send(connection, publish.arg(name), rest, LOOK, |receivers| match receivers {
                        Answer::Int(0) => {
                            let why = format!("nobody is subscribed to the channel {name}: start a consumer");
                            Err(Undelivered::Now(why))
                        }
                        _ => Ok(()),
                    })?;
                    rest = &rest[sent..];
                    if rest.is_empty() {
                        return Ok(subscribers);
                    }
                }
            },
        )?;
        self.seen.is_open = true;
        self.seen.subscribers.extend(subscribers);
        Ok(())
    }

    /// Once the server has nothing more for anybody, what was sent is in their hands, or on the way to them in this kernel or theirs.
    fn confirm(&mut self) -> Result<bool, Undelivered> {
        let seen = &mut self.seen;
        let look = self.server.with(|connection| seen.connected(connection), |connection| drained(connection, 0))?;
        let has_gone = !self.seen.subscribers.is_subset(&look.subscribers);
        self.seen.subscribers = look.subscribers;
        self.seen.is_open = false;
        Ok(!std::mem::take(&mut self.seen.is_unsure) && !has_gone)
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

/// A look, once no more bytes than these wait for anybody. Each time that they get fewer is progress: who reads slowly is waited for,
/// or a batch would be begun again and again, and never end.
fn drained(connection: &mut Connection, most: u64) -> Result<Look, Undelivered> {
    let (mut least, mut since, mut pause) = (u64::MAX, Instant::now(), Duration::from_millis(1));
    loop {
        let look = Look::at(connection)?;
        let waiting = look.waiting;
        if waiting <= most {
            return Ok(look);
        }
        if waiting < least {
            (least, since) = (waiting, Instant::now());
        } else if since.elapsed() > STALL {
            let why = format!("a subscriber of its channels does not keep up: {waiting} bytes wait for it");
            return Err(Undelivered::Now(why));
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
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

/// Between two PINGs where nothing came, at most.
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

    fn message(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, Undelivered> {
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
            sleep(PAUSE.min(wait));
        }
        Ok(message.map(|message| message.get_payload_bytes().to_vec()))
    }

    fn settle(&mut self, _count: usize) -> Result<(), Undelivered> {
        Ok(())
    }

    fn keeps(&self) -> bool {
        false
    }
}
