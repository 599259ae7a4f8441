//! A stream of Redis: it keeps each document until each group of readers has it, so that nobody has to be there. A reader of a group
//! that dies gives what it had to the others; what every group has is removed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::unistd::gethostname;
use redis::streams::{
    StreamAutoClaimReply, StreamId, StreamInfoGroupsReply, StreamPendingReply, StreamRangeReply, StreamReadReply,
};
use redis::{Connection, RedisError, Value as Answer};
use serde_json::Value;

use super::{Server, TOGETHER, failed, send};
use crate::sinks::{Queue, Sink, Undelivered};

/// The field of an entry that has the document.
const FIELD: &str = "message";
/// How long an entry is waited for, at most: an answer has to come within some seconds.
const LONGEST: Duration = Duration::from_secs(5);
/// What another reader has had so long without having settled it is taken over: its reader writes twice a second.
const ORPHANED: Duration = Duration::from_secs(5);
/// Between two looks for that, and between two removals.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Adds to a stream.
pub struct Stream {
    server: Server,
    name: String,
}

impl Stream {
    /// Of this server's URL. It connects when there is something to deliver.
    pub fn open(url: &str, name: &str) -> Result<Self> {
        Ok(Self { server: Server::open(url, &format!("stream {name}"))?, name: name.into() })
    }
}

impl Sink for Stream {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let name = &self.name;
        self.server.with(
            |_| Ok(()),
            |connection| {
                let mut request = redis::cmd("XADD");
                request.arg(name).arg("*").arg(FIELD);
                send(connection, &mut request, documents, usize::MAX, |_| Ok(())).map(drop)
            },
        )
    }
}

/// What a group of readers of a stream has not had yet.
pub struct Group {
    server: Server,
    stream: String,
    name: String,
    /// Readers of one host share a name, and with it what they have: whatever was left is settled by any of them.
    reader: String,
    /// When more was asked for where the answer has not been read.
    asked: Option<Instant>,
    /// Asked for at this time, and not given out yet.
    ahead: VecDeque<(StreamId, Instant)>,
    /// Given out, and not settled.
    given: VecDeque<(String, Instant)>,
    /// Where the look for what others have left is to go on, while one is under way.
    looking: Option<String>,
    looked: Instant,
    removed: Instant,
}

impl Group {
    /// Of this server's URL. Where it is new, it begins with all that the stream has.
    pub fn open(url: &str, stream: &str, name: &str) -> Result<Self> {
        Ok(Self {
            server: Server::open(url, &format!("stream {stream}"))?,
            stream: stream.into(),
            name: name.into(),
            reader: gethostname().unwrap_or_default().to_string_lossy().into_owned(),
            asked: None,
            ahead: VecDeque::new(),
            given: VecDeque::new(),
            looking: None,
            looked: Instant::now(),
            removed: Instant::now(),
        })
    }

    /// Reads ahead: what others have left, else what is new.
    fn read(&mut self, wait: Duration) -> Result<(), Undelivered> {
        // What we have is not taken from ourselves.
        let is_young = self.given.front().is_none_or(|(_, since)| since.elapsed() < ORPHANED / 2);
        if is_young && self.asked.is_none() && (self.looking.is_some() || self.looked.elapsed() > HOUSEKEEPING) {
            self.claim()?;
            if self.looking.is_some() || !self.ahead.is_empty() {
                return Ok(());
            }
        }
        let (stream, name, asked, ahead) = (&self.stream, &self.name, self.asked.take(), &mut self.ahead);
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(name).arg(&self.reader).arg("COUNT").arg(TOGETHER).arg("BLOCK").arg(block(wait));
        let read = read.arg("STREAMS").arg(stream).arg(">").get_packed_command();
        let ask = |connection: &mut Connection| {
            connection.send_packed_command(&read).map(|()| Instant::now()).map_err(failed)
        };
        self.asked = self.server.with(
            |connection| created(connection, stream, name),
            |connection| {
                let asked = asked.map_or_else(|| ask(connection), Ok)?;
                let entries = entries(connection)?;
                let is_full = entries.len() == TOGETHER;
                ahead.extend(entries.into_iter().map(|entry| (entry, asked)));
                // The server gathers the next while these are given out.
                is_full.then(|| ask(connection)).transpose()
            },
        )?;
        Ok(())
    }

    /// Takes over some of what others have left.
    fn claim(&mut self) -> Result<(), Undelivered> {
        let (stream, name, reader) = (&self.stream, &self.name, &self.reader);
        let from = self.looking.as_deref().unwrap_or("0-0");
        let claimed = self.server.with(
            |connection| created(connection, stream, name),
            |connection| {
                let mut claim = redis::cmd("XAUTOCLAIM");
                claim.arg(stream).arg(name).arg(reader).arg(millis(ORPHANED)).arg(from).arg("COUNT").arg(TOGETHER);
                claim.query::<StreamAutoClaimReply>(connection).map_err(failed)
            },
        )?;
        self.ahead.extend(claimed.claimed.into_iter().map(|entry| (entry, Instant::now())));
        self.looking = Some(claimed.next_stream_id).filter(|next| next != "0-0");
        self.looked = Instant::now();
        Ok(())
    }
}

impl Queue for Group {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn message(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, Undelivered> {
        if self.ahead.is_empty() {
            self.read(wait)?;
        }
        Ok(self.ahead.pop_front().map(|(entry, asked)| {
            let message = document(&entry);
            self.given.push_back((entry.id, asked));
            message
        }))
    }

    fn settle(&mut self, count: usize) -> Result<(), Undelivered> {
        let (stream, name) = (&self.stream, &self.name);
        let settled: Vec<&String> = self.given.range(..count).map(|(id, _)| id).collect();
        let (removes, ahead) = (self.removed.elapsed() > HOUSEKEEPING, &mut self.ahead);
        let asked = self.asked.take();
        self.server.with(
            |connection| created(connection, stream, name),
            |connection| {
                if let Some(asked) = asked {
                    ahead.extend(entries(connection)?.into_iter().map(|entry| (entry, asked)));
                }
                redis::cmd("XACK").arg(stream).arg(name).arg(settled).exec(connection).map_err(failed)?;
                match removes.then(|| remove(connection, stream)) {
                    // Who may not leaves that to others.
                    Some(Err(error)) if error.code() != Some("NOPERM") => Err(failed(error)),
                    _ => Ok(()),
                }
            },
        )?;
        self.given.drain(..count);
        if removes {
            self.removed = Instant::now();
        }
        Ok(())
    }

    fn keeps(&self) -> bool {
        true
    }
}

/// Waits for the answer to a request for entries.
fn entries(connection: &mut Connection) -> Result<Vec<StreamId>, Undelivered> {
    let answer = connection.recv_response().and_then(Answer::extract_error).map_err(failed)?;
    let answer: Option<StreamReadReply> = redis::from_redis_value(answer).map_err(|why| failed(why.into()))?;
    Ok(answer.into_iter().flat_map(|answer| answer.keys).flat_map(|key| key.ids).collect())
}

/// What comes to a stream from now on, without a trace there.
pub struct Tail {
    server: Server,
    stream: String,
    /// The last that is known.
    last: Option<String>,
    ahead: VecDeque<StreamId>,
}

impl Tail {
    /// Of this server's URL.
    pub fn open(url: &str, stream: &str) -> Result<Self> {
        let server = Server::open(url, &format!("stream {stream}"))?;
        Ok(Self { server, stream: stream.into(), last: None, ahead: VecDeque::new() })
    }
}

impl Queue for Tail {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn message(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, Undelivered> {
        if self.ahead.is_empty() {
            let (stream, last) = (&self.stream, &mut self.last);
            let read = self.server.with(
                |_| Ok(()),
                |connection| {
                    let since = match last {
                        Some(last) => last,
                        none => {
                            let newest = redis::cmd("XREVRANGE")
                                .arg(stream)
                                .arg("+")
                                .arg("-")
                                .arg("COUNT")
                                .arg(1)
                                .query(connection);
                            let newest: StreamRangeReply = newest.map_err(failed)?;
                            none.insert(newest.ids.into_iter().next().map_or_else(|| "0-0".into(), |entry| entry.id))
                        }
                    };
                    let mut read = redis::cmd("XREAD");
                    read.arg("COUNT").arg(TOGETHER).arg("BLOCK").arg(block(wait)).arg("STREAMS").arg(stream).arg(since);
                    read.query::<Option<StreamReadReply>>(connection).map_err(failed)
                },
            )?;
            self.ahead.extend(read.into_iter().flat_map(|answer| answer.keys).flat_map(|key| key.ids));
        }
        Ok(self.ahead.pop_front().map(|entry| {
            let message = document(&entry);
            self.last = Some(entry.id);
            message
        }))
    }

    fn settle(&mut self, _count: usize) -> Result<(), Undelivered> {
        Ok(())
    }

    fn keeps(&self) -> bool {
        false
    }
}

/// Entries that a group of readers has not settled; one that has not been there begins with all.
pub fn lag(url: &str, stream: &str, group: &str) -> Result<u64> {
    let mut server = Server::open(url, &format!("stream {stream}"))?;
    let counted = server.with(
        |_| Ok(()),
        |connection| {
            let all: u64 = redis::cmd("XLEN").arg(stream).query(connection).map_err(failed)?;
            if all == 0 {
                return Ok(0);
            }
            let groups = redis::cmd("XINFO").arg("GROUPS").arg(stream).query(connection);
            let groups: StreamInfoGroupsReply = groups.map_err(failed)?;
            let Some(group) = groups.groups.into_iter().find(|known| known.name == group) else { return Ok(all) };
            // What it says of that itself (`lag`) is nothing or far too much once entries were removed and it was killed: 518,000 more than
            // there were, on Redis 7.0.15.
            Ok(group.pending as u64 + after(connection, stream, group.last_delivered_id)?)
        },
    );
    Ok(counted?)
}

/// Counts the entries after this one.
fn after(connection: &mut Connection, stream: &str, mut last: String) -> Result<u64, Undelivered> {
    let mut count = 0;
    loop {
        let mut range = redis::cmd("XRANGE");
        range.arg(stream).arg(format!("({last}")).arg("+").arg("COUNT").arg(TOGETHER);
        let range: StreamRangeReply = range.query(connection).map_err(failed)?;
        count += range.ids.len() as u64;
        match range.ids.into_iter().next_back() {
            Some(entry) => last = entry.id,
            None => return Ok(count),
        }
    }
}

/// As the server takes it: with none it would wait for ever.
fn block(wait: Duration) -> u64 {
    millis(wait.min(LONGEST)).max(1)
}

fn millis(time: Duration) -> u64 {
    time.as_secs() * 1000 + u64::from(time.subsec_millis())
}

/// Makes the group where there is none, and the stream.
fn created(connection: &mut Connection, stream: &str, group: &str) -> Result<(), Undelivered> {
    let mut create = redis::cmd("XGROUP");
    create.arg("CREATE").arg(stream).arg(group).arg("0").arg("MKSTREAM");
    match create.exec(connection) {
        Err(error) if error.code() != Some("BUSYGROUP") => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Removes what every group has settled.
fn remove(connection: &mut Connection, stream: &str) -> Result<(), RedisError> {
    let groups: StreamInfoGroupsReply = redis::cmd("XINFO").arg("GROUPS").arg(stream).query(connection)?;
    let mut needed: Option<(u64, u64)> = None;
    for group in groups.groups {
        let waits: StreamPendingReply = redis::cmd("XPENDING").arg(stream).arg(&group.name).query(connection)?;
        let first = match waits {
            StreamPendingReply::Data(waits) => waits.start_id,
            _ => group.last_delivered_id,
        };
        let Some(first) = parts(&first) else { return Ok(()) };
        needed = Some(needed.map_or(first, |needed| needed.min(first)));
    }
    let Some((at, number)) = needed else { return Ok(()) };
    redis::cmd("XTRIM").arg(stream).arg("MINID").arg("~").arg(format!("{at}-{number}")).exec(connection)
}

/// Milliseconds and number of an entry's id.
fn parts(id: &str) -> Option<(u64, u64)> {
    let (at, number) = id.split_once('-')?;
    Some((at.parse().ok()?, number.parse().ok()?))
}

/// The document of an entry; of one that others have added, all that it has.
fn document(entry: &StreamId) -> Vec<u8> {
    let bytes = |value: &Answer| match value {
        Answer::BulkString(bytes) => bytes.clone(),
        other => format!("{other:?}").into_bytes(),
    };
    match entry.map.get(FIELD) {
        Some(message) => bytes(message),
        None => {
            entry.map.iter().flat_map(|(name, value)| [name.as_bytes(), b"=", &bytes(value), b"\n"].concat()).collect()
        }
    }
}
