//! Redis, as Flowcept publishes by default: each document as a message to one channel. Whoever is not subscribed gets nothing, and Redis keeps
//! nothing; so a batch counts as delivered only where somebody was, and none is sent to who does not keep up.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::{Client, Connection, ErrorKind, IntoConnectionInfo, PubSub, RedisError};
use serde_json::Value;

use super::{Sink, Undelivered};
use crate::formats::flowcept::packed;

/// To connect, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a subscriber waits for a message before it looks around.
const TICK: Duration = Duration::from_millis(100);
/// What may wait in the server for its slowest subscriber before more is sent: Redis drops a subscriber for whom 32 MB wait, or
/// 8 MB for a minute (`client-output-buffer-limit pubsub`).
const BACKLOG: u64 = 4 << 20;

/// A channel of a Redis server.
pub struct Redis {
    client: Client,
    connection: Option<Connection>,
    channel: String,
    place: String,
}

impl Redis {
    /// Of `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`. It connects when there is something to deliver.
    pub fn open(url: &str, channel: &str) -> Result<Self> {
        // What the parser says may repeat the URL, and that has the password.
        let form = "it has the form redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]";
        ensure!(url.starts_with("redis://"), "this is no URL of a Redis server that flowcept can use; {form}");
        let info =
            url.into_connection_info().ok().with_context(|| format!("this URL of a Redis server is wrong; {form}"))?;
        let place = format!("redis://{}/{} {channel}", info.addr(), info.redis_settings().db());
        let client = Client::open(info).ok().with_context(|| format!("{place} cannot be used"))?;
        Ok(Self { client, connection: None, channel: channel.into(), place })
    }

    /// Publishes all in one transaction; how many got them.
    fn publish(&mut self, documents: &[Value]) -> Result<i64, Undelivered> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connected(&self.client)?),
        };
        let waiting = backlog(connection)?;
        if waiting > BACKLOG {
            return Err(Undelivered::Now(format!(
                "a subscriber of its channels does not keep up: {waiting} bytes wait for it"
            )));
        }
        let mut pipe = redis::pipe();
        pipe.atomic();
        for document in documents {
            pipe.publish(&self.channel, packed(document));
        }
        let receivers: Vec<i64> = pipe.query(connection).map_err(failed)?;
        Ok(receivers.into_iter().min().unwrap_or(0))
    }

    /// Subscribes to the channel, which is a pattern there as it is for Flowcept.
    pub fn subscribe(&mut self) -> Result<Subscription<'_>, Undelivered> {
        self.connection = None;
        let connected = connected(&self.client).and_then(|connection| {
            connection.set_read_timeout(Some(TICK)).map_err(failed)?;
            let mut subscribed = self.connection.insert(connection).as_pubsub();
            subscribed.psubscribe(&self.channel).map_err(failed)?;
            Ok(subscribed)
        });
        match connected {
            Ok(subscribed) => Ok(Subscription(subscribed)),
            Err(why) => Err(named(&self.place, why)),
        }
    }
}

/// What comes to a channel from now on.
pub struct Subscription<'a>(PubSub<'a>);

impl Subscription<'_> {
    /// The next message; none where none came for a while.
    pub fn message(&mut self) -> Result<Option<Vec<u8>>, Undelivered> {
        match self.0.get_message() {
            Ok(message) => Ok(Some(message.get_payload_bytes().to_vec())),
            Err(error) if error.is_timeout() => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

fn named(place: &str, why: Undelivered) -> Undelivered {
    match why {
        Undelivered::Now(why) => Undelivered::Now(format!("{place}: {why}")),
        Undelivered::Ever(why) => Undelivered::Ever(format!("{place}: {why}")),
    }
}

impl Sink for Redis {
    fn place(&self) -> &str {
        &self.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let why = match self.publish(documents) {
            Ok(0) => {
                Undelivered::Now(format!("nobody is subscribed to the channel {}: start a consumer", self.channel))
            }
            Ok(_) => return Ok(()),
            Err(why) => {
                // What state it is in is not known.
                self.connection = None;
                why
            }
        };
        Err(named(&self.place, why))
    }
}

fn connected(client: &Client) -> Result<Connection, Undelivered> {
    let connection = client.get_connection_with_timeout(TIMEOUT).map_err(failed)?;
    connection
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| connection.set_write_timeout(Some(TIMEOUT)))
        .map_err(failed)?;
    Ok(connection)
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

fn failed(error: RedisError) -> Undelivered {
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            Undelivered::Ever("it refuses this user and password".into())
        }
        (_, Some("NOAUTH")) => Undelivered::Ever(
            "it wants a password: give it in the URL, and that in MQ_URI, where others do not see it".into(),
        ),
        (_, Some("NOPERM")) => Undelivered::Ever(format!("it does not allow this user to publish ({error})")),
        _ => Undelivered::Now(error.to_string()),
    }
}
