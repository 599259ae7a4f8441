//! A topic of Kafka: it keeps each document for as long as its broker is told to, and each group of readers goes on where it was.
//! Documents of one workflow lie in one partition, so that their order stays.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use percent_encoding::percent_decode_str;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde_json::Value;
use uuid::Uuid;

use super::{Queue, Sink, Undelivered};
use crate::formats::flowcept::packed;

/// Until a broker must have a document, or an answer be there.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks for what has gone wrong.
const TICK: Duration = Duration::from_millis(100);
/// What a client says of its address, for messages.
const FORM: &str = "it has the form kafka://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][?PROPERTY=VALUE&…], with properties of \
                    librdkafka, and kafkas:// for TLS";

/// Brokers, and a topic there.
struct Broker {
    settings: ClientConfig,
    topic: String,
    /// Without user and password.
    place: String,
}

impl Broker {
    /// Of a URL, whose properties go before these.
    fn open(url: &str, topic: &str, defaults: &[(&str, &str)]) -> Result<Self> {
        // What is wrong is not repeated: it may be the password.
        let (rest, is_tls) = match (url.strip_prefix("kafka://"), url.strip_prefix("kafkas://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => anyhow::bail!("this is no URL of Kafka; {FORM}"),
        };
        let (address, properties) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, hosts) = match address.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, address),
        };
        let hosts = hosts.trim_end_matches('/');
        let is_host = |host: &str| {
            let (name, port) = host.rsplit_once(':').unwrap_or((host, "9092"));
            !name.is_empty() && !name.contains('/') && port.parse::<u16>().is_ok()
        };
        ensure!(hosts.split(',').all(is_host), "this URL of Kafka is wrong; {FORM}");
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", hosts).set("client.id", "flowcept");
        for (name, value) in defaults {
            settings.set(*name, *value);
        }
        let protocol = match (user.is_some(), is_tls) {
            (true, true) => "SASL_SSL",
            (true, false) => "SASL_PLAINTEXT",
            (false, true) => "SSL",
            (false, false) => "PLAINTEXT",
        };
        settings.set("security.protocol", protocol);
        if let Some(user) = user {
            let (name, password) = user.split_once(':').context(FORM).context("this URL of Kafka has no password")?;
            settings.set("sasl.mechanism", "PLAIN");
            settings.set("sasl.username", decoded(name)).set("sasl.password", decoded(password));
        }
        for property in properties.split('&').filter(|p| !p.is_empty()) {
            let (name, value) =
                property.split_once('=').context(FORM).context("a property of this URL has no value")?;
            settings.set(decoded(name), decoded(value));
        }
        let scheme = if is_tls { "kafkas" } else { "kafka" };
        Ok(Self { settings, topic: topic.into(), place: format!("{scheme}://{hosts} {topic}") })
    }

    /// A client of these settings; [`Told`] hears what it says.
    fn client<T: FromClientConfigAndContext<Told>>(&self) -> Result<T, Undelivered> {
        self.settings.create_with_context(Told::default()).map_err(|error| {
            Undelivered::Ever(match error {
                // The value may be a secret, and so may what is said about it.
                KafkaError::ClientConfig(_, _, name, _) => {
                    format!("{}: librdkafka does not take the property {name} with this value", self.place)
                }
                _ => format!("{}: librdkafka does not take these properties together", self.place),
            })
        })
    }

    /// What was in the way, by what the client has said, else by what came of it.
    fn failed(&self, error: &KafkaError, told: &Told) -> Undelivered {
        let heard = told.trouble().unwrap_or_else(|| (error.rdkafka_error_code(), error.to_string()));
        judged(&heard).of(&self.place)
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What a client has said, or what came of it.
type Heard = (Option<RDKafkaErrorCode>, String);

fn judged((code, why): &Heard) -> Undelivered {
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
            Undelivered::Ever("it refuses this user and password".into())
        }
        Some(Code::SSL) if why.contains("certificate") => {
            Undelivered::Ever("its certificate is not trusted; ssl.ca.location names who vouches for it".into())
        }
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            Undelivered::Ever(format!("it does not allow this to the user ({why})"))
        }
        _ => Undelivered::Now(why.clone()),
    }
}

/// What a client says while nobody asks.
#[derive(Default)]
struct Told {
    trouble: Mutex<Option<(RDKafkaErrorCode, String)>>,
    delivered: Mutex<Delivered>,
    changed: Condvar,
}

/// What became of documents.
#[derive(Default)]
struct Delivered {
    /// How many it is to become of.
    wanted: usize,
    /// Those that a broker has.
    count: usize,
    /// The first of those that it has not.
    error: Option<KafkaError>,
}

impl Delivered {
    fn is_open(&mut self) -> bool {
        self.error.is_none() && self.count < self.wanted
    }
}

impl Told {
    /// What has gone wrong since the last look.
    fn trouble(&self) -> Option<Heard> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        trouble.map(|(code, why)| (Some(code), why))
    }

    fn delivered(&self) -> MutexGuard<'_, Delivered> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Told {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That nobody can be reached is what follows from the rest.
        if code != RDKafkaErrorCode::AllBrokersDown || trouble.is_none() {
            *trouble = Some((code, reason.to_string()));
        }
    }
}

impl ConsumerContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.delivered();
        match result {
            Ok(_) => delivered.count += 1,
            Err((error, _)) => drop(delivered.error.get_or_insert_with(|| error.clone())),
        }
        if !delivered.is_open() {
            self.changed.notify_one();
        }
    }
}

/// Adds to a topic: acknowledged by all replicas that are in step, each document once and in its order.
pub struct Topic {
    broker: Broker,
    producer: Option<ThreadedProducer<Told>>,
}

impl Topic {
    /// Of these brokers. It connects when there is something to deliver.
    pub fn open(url: &str, topic: &str) -> Result<Self> {
        let defaults = [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("compression.type", "lz4"),
            // Whoever delivers waits: nothing more comes that others could be sent with.
            ("linger.ms", "1"),
            ("message.timeout.ms", &*TIMEOUT.as_millis().to_string()),
        ];
        let broker = Broker::open(url, topic, &defaults)?;
        Ok(Self { broker, producer: None })
    }
}

impl Sink for Topic {
    fn place(&self) -> &str {
        &self.broker.place
    }

    fn deliver(&mut self, documents: &[Value]) -> Result<(), Undelivered> {
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => self.broker.client()?,
        };
        // Where it fails the client goes, and with it what it has not sent: the whole is sent again.
        self.broker.send(&producer, documents)?;
        self.producer = Some(producer);
        Ok(())
    }
}

impl Broker {
    /// Asks for the topic.
    fn reach(&self, producer: &ThreadedProducer<Told>) -> Result<(), Undelivered> {
        let (begun, told) = (Instant::now(), producer.context());
        loop {
            let Err(error) = producer.client().fetch_metadata(Some(&self.topic), 10 * TICK) else { return Ok(()) };
            // Now it says why, where it knows.
            sleep(TICK);
            match told.trouble() {
                Some(heard) => return Err(judged(&heard).of(&self.place)),
                None if begun.elapsed() > TIMEOUT => return Err(self.failed(&error, told)),
                None => {}
            }
        }
    }

    fn send(&self, producer: &ThreadedProducer<Told>, documents: &[Value]) -> Result<(), Undelivered> {
        let told = producer.context();
        if documents.is_empty() {
            return self.reach(producer);
        }
        *told.delivered() = Delivered { wanted: documents.len(), ..Delivered::default() };
        for document in documents {
            let text = |name: &str| document[name].as_str().unwrap_or_default();
            let message = packed(document);
            let headers = OwnedHeaders::new()
                .insert(Header { key: "content-type", value: Some("application/msgpack") })
                .insert(Header { key: "type", value: Some(text("type")) });
            let record = BaseRecord::to(&self.topic).key(text("workflow_id")).payload(&message).headers(headers);
            producer.send(record).map_err(|(error, _)| self.failed(&error, told))?;
        }
        let begun = Instant::now();
        let mut heard = None;
        loop {
            let waited = told.changed.wait_timeout_while(told.delivered(), TICK, Delivered::is_open);
            let (delivered, _) = waited.unwrap_or_else(PoisonError::into_inner);
            let (is_there, error) = (delivered.count == delivered.wanted, delivered.error.clone());
            drop(delivered);
            if is_there {
                return Ok(());
            }
            heard = told.trouble().or(heard);
            let is_over = begun.elapsed() > 2 * TIMEOUT;
            let timed_out = is_over.then_some(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
            let error = error.or(timed_out);
            match (heard.as_ref().map(|heard| judged(heard).of(&self.place)), error) {
                (Some(why @ Undelivered::Ever(_)), _) | (Some(why), Some(_)) => return Err(why),
                (None, Some(error)) => return Err(self.failed(&error, told)),
                (_, None) => {}
            }
        }
    }
}

/// What a group of readers of a topic has not had yet; or without a group what comes from now on.
pub struct Group {
    broker: Broker,
    consumer: Option<BaseConsumer<Told>>,
    keeps: bool,
    /// Given out and not settled: partition and place there.
    given: VecDeque<(i32, i64)>,
}

impl Group {
    /// Of these brokers. Where the group is new, it begins with all that the topic has.
    pub fn open(url: &str, topic: &str, group: Option<&str>) -> Result<Self> {
        let defaults = [
            ("auto.offset.reset", if group.is_some() { "earliest" } else { "latest" }),
            ("allow.auto.create.topics", "true"),
            // What a reader that was killed had comes to others within this time.
            ("session.timeout.ms", "10000"),
            // Of what is fetched ahead.
            ("queued.max.messages.kbytes", "16384"),
            // How long it fetches no more where that much waits; a second is its default.
            ("fetch.queue.backoff.ms", "10"),
        ];
        let mut broker = Broker::open(url, topic, &defaults)?;
        let name = group.map_or_else(|| format!("flowcept-{}", Uuid::new_v4()), str::to_string);
        let needed = [("group.id", &*name), ("enable.auto.commit", "false"), ("enable.auto.offset.store", "false")];
        for (name, value) in needed {
            broker.settings.set(name, value);
        }
        Ok(Self { broker, consumer: None, keeps: group.is_some(), given: VecDeque::new() })
    }

    fn connected(&mut self) -> Result<&BaseConsumer<Told>, Undelivered> {
        let broker = &self.broker;
        Ok(match &mut self.consumer {
            Some(consumer) => consumer,
            none => {
                let consumer: BaseConsumer<Told> = broker.client()?;
                consumer.subscribe(&[&broker.topic]).map_err(|e| broker.failed(&e, consumer.context()))?;
                none.insert(consumer)
            }
        })
    }
}

impl Queue for Group {
    fn place(&self) -> &str {
        &self.broker.place
    }

    fn message(&mut self, wait: Duration) -> Result<Option<Vec<u8>>, Undelivered> {
        self.connected()?;
        let (Some(consumer), broker) = (&self.consumer, &self.broker) else { return Ok(None) };
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                self.given.push_back((message.partition(), message.offset()));
                Ok(Some(message.payload().unwrap_or_default().to_vec()))
            }
            // It is being made.
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition))) => Ok(None),
            Some(Err(error)) => {
                let failed = broker.failed(&error, consumer.context());
                if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                    self.consumer = None;
                }
                Err(failed)
            }
            None => match consumer.context().trouble() {
                Some(heard) => Err(judged(&heard).of(&broker.place)),
                None => Ok(None),
            },
        }
    }

    fn settle(&mut self, count: usize) -> Result<(), Undelivered> {
        let Some(consumer) = self.consumer.as_ref().filter(|_| self.keeps) else {
            self.given.drain(..count);
            return Ok(());
        };
        let last: BTreeMap<i32, i64> = self.given.range(..count).copied().collect();
        for (partition, offset) in last {
            // Where the partition has gone to another reader since, that one has the messages too.
            let _ = consumer.store_offset(&self.broker.topic, partition, offset);
        }
        use RDKafkaErrorCode as Code;
        match consumer.commit_consumer_state(CommitMode::Sync) {
            Ok(()) => {}
            // The partitions go to others, which read again what was not settled.
            Err(KafkaError::ConsumerCommit(
                Code::NoOffset
                | Code::IllegalGeneration
                | Code::RebalanceInProgress
                | Code::UnknownMemberId
                | Code::AssignmentLost,
            )) => {}
            Err(error) => return Err(self.broker.failed(&error, consumer.context())),
        }
        self.given.drain(..count);
        Ok(())
    }

    fn keeps(&self) -> bool {
        self.keeps
    }
}

/// Messages that a group of readers has not settled; one that has not been there begins with all.
pub fn lag(url: &str, topic: &str, group: &str) -> Result<u64> {
    let mut broker = Broker::open(url, topic, &[])?;
    broker.settings.set("group.id", group);
    let consumer: BaseConsumer<Told> = broker.client()?;
    let wrong = |error: KafkaError| broker.failed(&error, consumer.context());
    let known = consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(wrong)?;
    let mut list = TopicPartitionList::new();
    for partition in known.topics().iter().flat_map(|topic| topic.partitions()) {
        list.add_partition(topic, partition.id());
    }
    let mut lag = 0;
    for partition in consumer.committed_offsets(list, TIMEOUT).map_err(wrong)?.elements() {
        let (first, end) = consumer.fetch_watermarks(topic, partition.partition(), TIMEOUT).map_err(wrong)?;
        let next = match partition.offset() {
            Offset::Offset(next) => next.max(first),
            _ => first,
        };
        lag += u64::try_from(end - next).unwrap_or(0);
    }
    Ok(lag)
}
