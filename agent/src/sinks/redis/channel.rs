//! A channel of Redis, as Flowcept publishes by default: each document is a message. Whoever is not subscribed gets nothing, and Redis
//! keeps nothing; so a batch counts as delivered only where somebody was, and none is sent to who does not keep up.

use std::cell::Cell;
use std::thread::sleep;
use std::time::Duration;

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
}

impl Channel {
    /// Of this server's URL. It connects when there is something to deliver.
    pub fn open(url: &str, name: &str) -> Result<Self> {
        Ok(Self { server: Server::open(url, name)?, name: name.into(), sent: None })
    }
}

impl Sink for Channel {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let (name, sent) = (&self.name, self.sent.take());
        let now = self.server.with(
            |_| Ok(()),
            |connection| {
                let mut sent = sent.filter(|sent| *sent < LOOK);
                if sent.is_none() {
                    let waiting = backlog(connection)?;
                    if waiting > BACKLOG {
                        return Err(Undelivered::Now(format!(
                            "a subscriber of its channels does not keep up: {waiting} bytes wait for it"
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
        Ok(())
    }
}

/// Bytes that wait in the server for the slowest subscriber; none where the user may not ask.
fn backlog(connection: &mut Connection) -> Result<u64, Undelivered> {
    let list: Result<String, _> = redis::cmd("CLIENT").arg("LIST").arg("TYPE").arg("pubsub").query(connection);
    match list {
        Ok(list) => {
            let waits = list.split_whitespace().filter_map(|word| word.strip_prefix("omem=")?.parse().ok());
            Ok(waits.max().unwrap_or(0))
        }
        Err(error) if error.code() == Some("NOPERM") => Ok(0),
        Err(error) => Err(failed(error)),
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
