//! An exchange of RabbitMQ, as Flowcept has it: durable, and each queue that is bound to it gets each document. A group of readers has
//! a quorum queue of its own there, which keeps what it has not had yet, from when the group first came: in a cluster on several servers,
//! and what it has it gives more than twice as fast as a classic one.

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::task::{self, Poll, Waker};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_lite::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{
    Acker, BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, Error, ErrorKind,
    ExchangeKind,
};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{Queue, Sink, Undelivered};
use crate::formats::flowcept::packed;

/// To connect, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at whether its queues are there.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of messages that a reader may have without having settled them. The server counts messages only: so many as that is, by their
/// mean.
const AHEAD: usize = 24 << 20;
/// So many of them at most: of those with telemetry (2.7 kB) a keeper gets a tenth more than with 2000, and no more with 20,000.
const MOST: usize = 6000;
/// And so many before any came. The mean is that of some so many.
const LATEST: usize = 64;
/// How often a message may come again, where a quorum queue loses it after that (20 times is the default of RabbitMQ 4).
const DELIVERIES: i32 = i32::MAX;
/// Of a message that outlives its server.
const PERSISTENT: u8 = 2;
const FORM: &str = "it has the form amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST], or amqps:// for TLS, where \
                    ?cacertfile=FILE names who vouches for the server";

/// A server, and an exchange there.
struct Server {
    runtime: Runtime,
    uri: AMQPUri,
    authority: Option<PathBuf>,
    exchange: ShortString,
    /// Without user and password.
    place: String,
}

impl Server {
    fn open(url: &str, exchange: &str) -> Result<Self> {
        // What the parser says may repeat the URL, and that has the password.
        let mut uri: AMQPUri = url.parse().ok().with_context(|| format!("this URL of RabbitMQ is wrong; {FORM}"))?;
        uri.query.heartbeat.get_or_insert(10);
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let mut authority = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("cacertfile", path)) => {
                    authority = Some(PathBuf::from(percent_decode_str(path).decode_utf8_lossy().into_owned()));
                }
                Some(("frame_max" | "channel_max" | "heartbeat" | "connection_timeout" | "auth_mechanism", _)) => {}
                _ => anyhow::bail!("this URL of RabbitMQ has a parameter that flowcept does not know; {FORM}"),
            }
        }
        ensure!(exchange.len() < 200, "the name of an exchange of RabbitMQ has at most 200 bytes");
        let (host, port) = (&uri.authority.host, uri.authority.port);
        let scheme = url.split(':').next().unwrap_or_default();
        let vhost = if uri.vhost == "/" { "" } else { &uri.vhost };
        let place = format!("{scheme}://{host}:{port}/{vhost} {exchange}");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { runtime, uri, authority, exchange: exchange.into(), place })
    }

    /// Waits for what is to be done there.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Undelivered>>) -> Result<T, Undelivered> {
        let done = self.runtime.block_on(async {
            timeout(TIMEOUT, work).await.unwrap_or_else(|_| Err(Undelivered::Now("it does not answer".into())))
        });
        done.map_err(|why| why.of(&self.place))
    }

    /// A channel of a new connection, with the exchange.
    async fn connected(&self) -> Result<(Connection, Channel), Undelivered> {
        let mut tls = OwnedTLSConfig::default();
        if let Some(path) = &self.authority {
            let unreadable = |e| Undelivered::Ever(format!("{} cannot be read: {e}", path.display()));
            tls.cert_chain = Some(std::fs::read_to_string(path).map_err(unreadable)?);
        }
        let properties = ConnectionProperties::default().with_connection_name("flowcept".into());
        let runtime = lapin::runtime::default_runtime().map_err(failed)?;
        let connecting = Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime);
        let connection = connecting.await.map_err(failed)?;
        let channel = connection.create_channel().await.map_err(failed)?;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        channel
            .exchange_declare(self.exchange.clone(), ExchangeKind::Fanout, durable, FieldTable::default())
            .await
            .map_err(failed)?;
        Ok((connection, channel))
    }
}

fn failed(error: Error) -> Undelivered {
    match error.kind() {
        ErrorKind::ProtocolError(told) => {
            let why = told.get_message().to_string();
            match told.get_id() {
                403 if why.contains("Login was refused") => {
                    Undelivered::Ever("it refuses this user and password".into())
                }
                403 => Undelivered::Ever(format!("it does not allow this to the user ({why})")),
                // Of an exchange or a queue that is there and is of another kind; of a virtual host that is not there.
                406 | 530 => Undelivered::Ever(why),
                _ => Undelivered::Now(why),
            }
        }
        ErrorKind::IOError(why) if format!("{why:?}").contains("certificate verify failed") => Undelivered::Ever(
            "its certificate is not trusted; ?cacertfile=FILE in the URL names who vouches for it".into(),
        ),
        _ => Undelivered::Now(error.to_string()),
    }
}

/// Publishes to an exchange: each document is on the disk of the server, in each queue that is bound, once it is confirmed.
pub struct Exchange {
    server: Server,
    open: Option<(Connection, Channel)>,
}

impl Exchange {
    /// Of this server's URL. It connects when there is something to deliver.
    pub fn open(url: &str, name: &str) -> Result<Self> {
        Ok(Self { server: Server::open(url, name)?, open: None })
    }
}

impl Sink for Exchange {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let (server, open) = (&self.server, self.open.take());
        let used = server.wait(async {
            let (connection, channel) = match open {
                Some(open) => open,
                None => {
                    let (connection, channel) = server.connected().await?;
                    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(failed)?;
                    (connection, channel)
                }
            };
            let mut confirms = Vec::with_capacity(documents.len());
            for document in documents {
                let kind = document["type"].as_str().unwrap_or_default();
                let properties = BasicProperties::default()
                    .with_delivery_mode(PERSISTENT)
                    .with_content_type("application/msgpack".into())
                    .with_type(kind.into());
                // Mandatory: it comes back where no queue takes it.
                let options = BasicPublishOptions { mandatory: true, ..Default::default() };
                let (message, exchange) = (packed(document), server.exchange.clone());
                let sent = channel.basic_publish(exchange, "".into(), options, &message, properties).await;
                confirms.push(sent.map_err(failed)?);
            }
            for confirm in confirms {
                match confirm.await.map_err(failed)? {
                    Confirmation::Ack(None) => {}
                    Confirmation::Ack(Some(_)) => {
                        let why = format!("no queue is bound to the exchange {}: start a consumer", server.exchange);
                        return Err(Undelivered::Now(why));
                    }
                    _ => return Err(Undelivered::Now("it could not keep a document".into())),
                }
            }
            Ok((connection, channel))
        })?;
        self.open = Some(used);
        Ok(())
    }
}

/// What a group of readers has not had yet of what comes to an exchange; or without a group what comes from now on.
pub struct Group {
    server: Server,
    name: Option<String>,
    open: Option<Reading>,
    /// Given out and not settled.
    given: VecDeque<Acker>,
    /// And before those by connections that are gone: these come again.
    lost: usize,
    /// How many came, through all connections.
    came: usize,
    /// Mean bytes of the latest messages.
    mean: usize,
}

/// What is open to a reader.
struct Reading {
    _connection: Connection,
    channel: Channel,
    queue: ShortString,
    consumer: Consumer,
    /// How many it may have.
    ahead: usize,
    /// How many came since.
    came: usize,
    /// Whether it was told that it may have more or fewer: then the consumer ends, and another one follows.
    ends: bool,
}

impl Reading {
    /// Gives so many from now on.
    async fn begin(channel: &Channel, queue: &ShortString, ahead: usize) -> Result<Consumer, Undelivered> {
        let count = u16::try_from(ahead).unwrap_or(u16::MAX);
        channel.basic_qos(count, BasicQosOptions::default()).await.map_err(failed)?;
        let (tag, options) = ("".into(), BasicConsumeOptions::default());
        channel.basic_consume(queue.clone(), tag, options, FieldTable::default()).await.map_err(failed)
    }

    /// Whether so many would be far more or far fewer. What lies between may come and go.
    fn is_far_from(&self, ahead: usize) -> bool {
        2 * ahead <= self.ahead || (ahead >= 2 * self.ahead && self.came >= self.ahead)
    }
}

impl Group {
    /// Of this server's URL. The group has what comes from when it is first there.
    pub fn open(url: &str, exchange: &str, group: Option<&str>) -> Result<Self> {
        let name = group.map(|group| format!("{exchange}.{group}"));
        let server = Server::open(url, exchange)?;
        Ok(Self { server, name, open: None, given: VecDeque::new(), lost: 0, came: 0, mean: AHEAD / LATEST })
    }

    /// How many it may have, by their mean; two, for some are written while others come.
    fn ahead(&self) -> usize {
        (AHEAD / self.mean.max(1)).clamp(2, MOST)
    }

    /// The connection is gone.
    fn disconnected(&mut self) {
        self.open = None;
        self.lost += self.given.len();
        self.given.clear();
    }

    async fn connected(server: &Server, name: Option<&str>, ahead: usize) -> Result<Reading, Undelivered> {
        let (connection, channel) = server.connected().await?;
        let options = QueueDeclareOptions { durable: name.is_some(), exclusive: name.is_none(), ..Default::default() };
        let mut arguments = FieldTable::default();
        if name.is_some() {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERIES));
        }
        let declared = channel.queue_declare(name.unwrap_or_default().into(), options, arguments);
        let queue = declared.await.map_err(failed)?.name().clone();
        let (exchange, bind) = (server.exchange.clone(), QueueBindOptions::default());
        let bound = channel.queue_bind(queue.clone(), exchange, "".into(), bind, FieldTable::default());
        bound.await.map_err(failed)?;
        let consumer = Reading::begin(&channel, &queue, ahead).await?;
        Ok(Reading { _connection: connection, channel, queue, consumer, ahead, came: 0, ends: false })
    }
}

impl Queue for Group {
    fn place(&self) -> &str {
        &self.server.place
    }

    fn message(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, Undelivered> {
        let (server, ahead) = (&self.server, self.ahead());
        if self.open.is_none() {
            self.open = Some(server.wait(Self::connected(server, self.name.as_deref(), ahead))?);
        }
        let Some(reading) = &mut self.open else { return Ok(None) };
        // What is here already is taken without the runtime.
        let next = match reading.consumer.poll_next(&mut task::Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Ok(next),
            Poll::Pending => server.runtime.block_on(async { timeout(wait, reading.consumer.next()).await }),
        };
        let ended = match next {
            Err(_) => return Ok(None),
            Ok(Some(Ok(delivery))) => {
                self.given.push_back(delivery.acker);
                reading.came += 1;
                self.came += 1;
                let latest = self.came.min(LATEST);
                self.mean = ((latest - 1) * self.mean + delivery.data.len()) / latest;
                if !reading.ends && reading.is_far_from(ahead) {
                    let end = reading.channel.basic_cancel(reading.consumer.tag(), BasicCancelOptions::default());
                    // Where that fails the consumer says so next.
                    reading.ends = server.wait(async { end.await.map_err(failed) }).is_ok();
                }
                return Ok(Some(delivery.data));
            }
            Ok(None) if reading.ends => match server.wait(Reading::begin(&reading.channel, &reading.queue, ahead)) {
                Ok(consumer) => {
                    (reading.consumer, reading.ahead, reading.came, reading.ends) = (consumer, ahead, 0, false);
                    return Ok(None);
                }
                Err(why) => why,
            },
            Ok(ended) => {
                ended.and_then(Result::err).map_or(Undelivered::Now("it is gone".into()), failed).of(&server.place)
            }
        };
        self.disconnected();
        Err(ended)
    }

    fn settle(&mut self, count: usize) -> Result<(), Undelivered> {
        let lost = count.min(self.lost);
        let count = count - lost;
        if let Some(last) = count.checked_sub(1).and_then(|last| self.given.get(last)) {
            // With all before it.
            let settled = async { last.ack(BasicAckOptions { multiple: true }).await.map_err(failed).map(drop) };
            self.server.wait(settled).inspect_err(|_| self.disconnected())?;
        }
        self.given.drain(..count);
        self.lost -= lost;
        Ok(())
    }

    fn most(&self) -> usize {
        let reading = self.open.as_ref().filter(|reading| !reading.ends);
        reading.map_or_else(|| self.ahead(), |reading| reading.ahead)
    }

    fn keeps(&self) -> bool {
        self.name.is_some()
    }
}

/// Messages that wait for a group of readers, without those that a reader has just now; none where the group has not been there, for
/// then none are kept.
pub fn lag(url: &str, exchange: &str, group: &str) -> Result<Option<u64>> {
    let server = Server::open(url, exchange)?;
    let begun = Instant::now();
    loop {
        match server.wait(waiting(&server, format!("{exchange}.{group}").into())) {
            // Its queues are there some time after it.
            Err(Undelivered::Now(_)) if begun.elapsed() < TIMEOUT / 2 => sleep(TICK),
            counted => return Ok(counted?),
        }
    }
}

async fn waiting(server: &Server, queue: ShortString) -> Result<Option<u64>, Undelivered> {
    let (_connection, channel) = server.connected().await?;
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    let told = match channel.queue_declare(queue.clone(), options, FieldTable::default()).await {
        Ok(told) => told.message_count(),
        Err(error) => match error.kind() {
            ErrorKind::ProtocolError(told) if told.get_id() == 404 => return Ok(None),
            _ => return Err(failed(error)),
        },
    };
    if told > 0 {
        return Ok(Some(told.into()));
    }
    // A quorum queue says so, too, where it does not know yet what it has. What is looked at goes back with the connection.
    match channel.basic_get(queue, BasicGetOptions::default()).await {
        Ok(first) => Ok(Some(first.map_or(0, |first| u64::from(first.message_count) + 1))),
        // Who only publishes may not look.
        Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(told) if told.get_id() == 403) => Ok(Some(0)),
        Err(error) => Err(failed(error)),
    }
}
