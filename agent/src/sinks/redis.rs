//! A Redis server: Flowcept's [`channel`], which keeps nothing for who is away, and a [`stream`], which does.

pub mod channel;
pub mod stream;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::percent_decode_str;
use redis::{Client, Cmd, Connection, ErrorKind, IntoConnectionInfo, RedisError, TlsCertificates, Value as Answer};
use serde_json::Value;

use super::Undelivered;
use crate::formats::flowcept::pack;

/// Documents that are sent together.
const TOGETHER: usize = 200;

/// To connect, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

const FORM: &str = "it has the form redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], or rediss:// for TLS, where ?cacertfile=FILE names \
                    who vouches for the server";

/// Whether a URL is of a Redis server.
pub fn is_url(url: &str) -> bool {
    matches!(scheme(url), "redis" | "rediss") && url.contains("://")
}

fn scheme(url: &str) -> &str {
    url.split(':').next().unwrap_or_default()
}

/// A connection, made when it is needed.
struct Server {
    client: Client,
    connection: Option<Connection>,
    /// Without user and password.
    place: String,
}

impl Server {
    /// Of `redis[s]://[USER[:PASSWORD]@]HOST[:PORT][/DB][?cacertfile=FILE]`; `name` is what it is used for there.
    fn open(url: &str, name: &str) -> Result<Self> {
        // What the parser says may repeat the URL, and that has the password.
        let wrong = || format!("this URL of a Redis server is wrong; {FORM}");
        ensure!(is_url(url), "this is no URL of a Redis server that flowcept can use; {FORM}");
        ensure!(!url.contains('#'), wrong());
        let (bare, query) = url.split_once('?').unwrap_or((url, ""));
        let info = bare.into_connection_info().ok().with_context(wrong)?;
        let place = format!("{}://{}/{} {name}", scheme(url), info.addr(), info.redis_settings().db());
        let client = match query.split_once('=') {
            Some(("cacertfile", path)) => {
                let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
                let authority = std::fs::read(&path).with_context(|| format!("{place}: {path} cannot be read"))?;
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(authority) })
            }
            None if query.is_empty() => Client::open(info),
            _ => bail!("this URL of a Redis server has a parameter that flowcept does not know; {FORM}"),
        };
        let unusable = || format!("{place} cannot be used with this; {FORM}");
        Ok(Self { client: client.ok().with_context(unusable)?, connection: None, place })
    }

    /// Does something with the connection, which is made and prepared first where there is none, and dropped where it fails: what
    /// state it is in is not known then.
    fn with<T>(
        &mut self,
        prepare: impl FnOnce(&mut Connection) -> Result<(), Undelivered>,
        work: impl FnOnce(&mut Connection) -> Result<T, Undelivered>,
    ) -> Result<T, Undelivered> {
        let done = match &mut self.connection {
            Some(connection) => work(connection),
            none => connected(&self.client).and_then(|mut made| {
                prepare(&mut made)?;
                work(none.insert(made))
            }),
        };
        done.map_err(|why| {
            self.connection = None;
            why.of(&self.place)
        })
    }
}

/// Sends documents, each as the last argument of this request, until they have so many bytes; how many it has sent. The server has
/// some in hand while the next are made. What it answers to one that is not the first error.
fn send(
    connection: &mut Connection,
    request: &mut Cmd,
    documents: &[Value],
    bytes: usize,
    mut answered: impl FnMut(Answer) -> Result<(), Undelivered>,
) -> Result<usize, Undelivered> {
    let mut answers = |connection: &mut Connection, count| {
        (0..count)
            .try_for_each(|_| answered(connection.recv_response().and_then(Answer::extract_error).map_err(failed)?))
    };
    // As it begins, whatever the argument is.
    let mut begin = request.arg("").get_packed_command();
    begin.truncate(begin.len() - "$0\r\n\r\n".len());
    let (mut sent, mut sent_bytes, mut unanswered) = (0, 0, 0);
    let (mut requests, mut message) = (Vec::new(), Vec::new());
    for documents in documents.chunks(TOGETHER) {
        requests.clear();
        for document in documents {
            message.clear();
            pack(document, &mut message);
            requests.extend_from_slice(&begin);
            requests.extend_from_slice(format!("${}\r\n", message.len()).as_bytes());
            requests.extend_from_slice(&message);
            requests.extend_from_slice(b"\r\n");
        }
        connection.send_packed_command(&requests).map_err(failed)?;
        answers(connection, unanswered)?;
        unanswered = documents.len();
        sent += documents.len();
        sent_bytes += requests.len();
        if sent_bytes >= bytes {
            break;
        }
    }
    answers(connection, unanswered)?;
    Ok(sent)
}

fn connected(client: &Client) -> Result<Connection, Undelivered> {
    let connection = client.get_connection_with_timeout(TIMEOUT).map_err(failed)?;
    connection
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| connection.set_write_timeout(Some(TIMEOUT)))
        .map_err(failed)?;
    Ok(connection)
}

fn failed(error: RedisError) -> Undelivered {
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
            Undelivered::Ever("it refuses this user and password".into())
        }
        (_, Some("NOAUTH")) => Undelivered::Ever(
            "it wants a password: give it in the URL, and that in MQ_URI, where others do not see it".into(),
        ),
        (_, Some("NOPERM")) => Undelivered::Ever(format!("it does not allow this to the user ({error})")),
        (_, Some("WRONGTYPE")) => Undelivered::Ever("there is a key of this name, and it is no stream".into()),
        _ if error.to_string().contains("certificate verify failed") => Undelivered::Ever(
            "its certificate is not trusted; ?cacertfile=FILE in the URL names who vouches for it".into(),
        ),
        _ => Undelivered::Now(error.to_string()),
    }
}
