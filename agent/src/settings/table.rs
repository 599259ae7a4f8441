//! Every key of the settings, once: Flowcept 1.0.3's, and ours beside them. What is read, refused, shown and written as a sample
//! follows from this table.

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// true or false.
    Flag,
    /// A whole number that is not below this.
    Whole(i64),
    /// A port, from 1 to 65535.
    Port,
    /// A number that is not below 0.
    Number,
    /// Text.
    Text,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Texts.
    List,
    /// Keys of the user's own, with whatever under them.
    Map,
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// With its sections, as `mq.host`.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// Its value where none is given, as YAML; `~` is none.
    pub default: &'static str,
    /// The environment variable that goes before the file.
    pub variable: Option<&'static str>,
    /// What it means, for the sample.
    pub meaning: &'static str,
    /// Why it changes nothing here; absent where it does.
    pub unused: Option<&'static str>,
    /// It is never shown.
    pub is_secret: bool,
    /// It is in the short sample.
    pub is_common: bool,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, meaning: &'static str) -> Key {
    Key { name, kind, default, variable: None, meaning, unused: None, is_secret: false, is_common: false }
}

impl Key {
    const fn or(self, variable: &'static str) -> Self {
        Self { variable: Some(variable), ..self }
    }

    const fn unused(self, why: &'static str) -> Self {
        Self { unused: Some(why), ..self }
    }

    const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    const fn common(self) -> Self {
        Self { is_common: true, ..self }
    }
}

use Kind::{Flag, List, Map, Number, OneOf, Port, Text, Whole};

const NOTHING_TO_INSTRUMENT: &str = "programs are watched from outside and need no instrumentation";
const NO_SERVER: &str = "there is no web service";
const NO_AGENT: &str = "there is no MCP agent";
const NO_LOG: &str = "what goes wrong is said on stderr";
const ONE_FILE: &str = "the file grows by each workflow once, and documents have their workflow's id";
const AT_ONCE: &str = "what is finished is sent at once, as much together as the server takes";
const NO_START: &str = "servers are not started: deployment/compose does";
const SAFE_STOP: &str = "at the end all that was read is written; --wait bounds it";

const WORDS: &[&str] = &["error", "debug", "info", "warning", "critical", "disable"];

/// The keys, in the order of Flowcept's sample; ours come last.
pub const KEYS: &[Key] = &[
    key("flowcept_version", Text, "~", "The version of Flowcept that the file was made for.").unused("for information"),
    key("project.debug", Flag, "true", "").unused("Flowcept does nothing with it either"),
    key("project.json_serializer", OneOf(&["default", "complex"]), "default", "").unused("documents are JSON already"),
    key("project.replace_non_json_serializable", Flag, "true", "").unused("documents are JSON already"),
    key("project.performance_logging", Flag, "false", "").unused("benches/ measure it"),
    key("project.enrich_messages", Flag, "false", "").unused("documents always name host, user and repository"),
    key(
        "project.db_flush_mode",
        OneOf(&["offline", "online"]),
        "offline",
        "online: `flowcept run` delivers its workflow while it goes on; offline: `flowcept ship` does when it has ended.",
    )
    .or("DB_FLUSH_MODE")
    .common(),
    key("project.dump_buffer.enabled", Flag, "false", "Deliver into a JSONL file.").or("DUMP_BUFFER").common(),
    key("project.dump_buffer.path", Text, "flowcept_buffer.jsonl", "That file.").common(),
    key("project.dump_buffer.append_id_to_path", Flag, "false", "").unused(ONE_FILE),
    key("project.dump_buffer.append_workflow_id_to_path", Flag, "false", "").unused(ONE_FILE),
    key("project.dump_buffer.delete_previous_file", Flag, "false", "").unused(ONE_FILE),
    key("log.log_path", Text, "default", "").unused(NO_LOG),
    key("log.log_file_level", OneOf(WORDS), "disable", "").unused(NO_LOG),
    key("log.log_stream_level", OneOf(WORDS), "disable", "").unused(NO_LOG),
    key("telemetry_capture.enabled", Flag, "true", "false: none of these, whatever they say.").or("TELEMETRY_ENABLED"),
    key("telemetry_capture.gpu", List, "~", "").unused("GPUs are not asked"),
    key("telemetry_capture.cpu", Flag, "false", "How busy the node's CPUs are, when a task begins and when it ends.")
        .common(),
    key("telemetry_capture.per_cpu", Flag, "false", "The same of each CPU.").common(),
    key("telemetry_capture.process_info", Flag, "false", "What a task itself cost, by the kernel's accounts.").common(),
    key("telemetry_capture.mem", Flag, "false", "The node's memory and swap.").common(),
    key("telemetry_capture.disk", Flag, "false", "Its root filesystem and its disks.").common(),
    key("telemetry_capture.network", Flag, "false", "What goes through its network interfaces.").common(),
    key("telemetry_capture.machine_info", Flag, "false", "").unused("workflows always name their machine"),
    key("instrumentation.enabled", Flag, "true", "").unused(NOTHING_TO_INSTRUMENT),
    key("instrumentation.torch.what", OneOf(&["parent_only", "parent_and_children"]), "~", "")
        .unused(NOTHING_TO_INSTRUMENT),
    key(
        "instrumentation.torch.children_mode",
        OneOf(&["lightweight", "tensor_inspection", "telemetry", "telemetry_and_tensor_inspection"]),
        "~",
        "",
    )
    .unused(NOTHING_TO_INSTRUMENT),
    key("instrumentation.torch.epoch_loop", OneOf(&["lightweight", "default"]), "~", "").unused(NOTHING_TO_INSTRUMENT),
    key("instrumentation.torch.batch_loop", OneOf(&["lightweight", "default"]), "~", "").unused(NOTHING_TO_INSTRUMENT),
    key("instrumentation.torch.capture_epochs_at_every", Whole(1), "1", "").unused(NOTHING_TO_INSTRUMENT),
    key("instrumentation.torch.register_workflow", Flag, "true", "").unused(NOTHING_TO_INSTRUMENT),
    key("experiment.user", Text, "~", "Who runs the experiment; ~: the user's name.").or("FLOWCEPT_USER").common(),
    key("mq.enabled", Flag, "false", "Deliver to this queue and read it. MQ_URI says so by itself.")
        .or("MQ_ENABLED")
        .common(),
    key("mq.type", OneOf(&["redis", "kafka", "rabbitmq"]), "redis", "redis, kafka or rabbitmq.").or("MQ_TYPE").common(),
    key("mq.uri", Text, "~", "Its URL instead of host and port, as `flowcept ship --help` has them.")
        .or("MQ_URI")
        .secret(),
    key("mq.instances", List, "~", "").unused("one queue is used: mq.host, mq.port"),
    key("mq.host", Text, "localhost", "Where it is.").or("MQ_HOST").common(),
    key("mq.port", Port, "~", "Its port; ~: that of its type (6379, 9092, 5672).").or("MQ_PORT").common(),
    key("mq.group_id", Text, "auto", "The group of keepers that share Kafka, RabbitMQ or a stream; auto: flowcept.")
        .or("MQ_GROUP_ID"),
    key("mq.group_file", Text, "~", "").unused("it is Mofka's"),
    key("mq.username", Text, "~", "Its user; ~: guest for RabbitMQ, else none.").or("MQ_USERNAME"),
    key("mq.password", Text, "~", "The password; who may read this file has it.").secret(),
    key("mq.vhost", Text, "/", "The virtual host in RabbitMQ.").or("MQ_VHOST"),
    key("mq.channel", Text, "interception", "Channel of Redis, topic of Kafka, exchange of RabbitMQ.")
        .or("MQ_CHANNEL")
        .common(),
    key(
        "mq.stream",
        Text,
        "~",
        "A stream of Redis instead: it keeps what is sent. Flowcept's Python does not know it.",
    )
    .or("MQ_STREAM")
    .common(),
    key("mq.buffer_size", Whole(1), "50", "").unused(AT_ONCE),
    key("mq.insertion_buffer_time_secs", Number, "5", "").unused(AT_ONCE),
    key("mq.timing", Flag, "false", "").unused("benches/ measure it"),
    key("mq.chunk_size", Whole(-1), "-1", "").unused(AT_ONCE),
    key("mq.same_as_kvdb", Flag, "false", "The queue is the Redis server of kv_db."),
    key("mq.bin", Text, "~", "").unused(NO_START),
    key("mq.conf_file", Text, "~", "").unused(NO_START),
    key("kv_db.enabled", Flag, "false", "")
        .unused("no key-value database is needed: what is stored is known by its id"),
    key("kv_db.host", Text, "localhost", "Where it is, for mq.same_as_kvdb.").or("KVDB_HOST"),
    key("kv_db.port", Port, "6379", "Its port.").or("KVDB_PORT"),
    key("kv_db.uri", Text, "~", "Its URL instead.").or("KVDB_URI").secret(),
    key("kv_db.password", Text, "~", "The password; who may read this file has it.").secret(),
    key("web_server.host", Text, "127.0.0.1", "").or("WEBSERVER_HOST").unused(NO_SERVER),
    key("web_server.port", Port, "8008", "").or("WEBSERVER_PORT").unused(NO_SERVER),
    key("web_server.ui_enabled", Flag, "true", "").unused(NO_SERVER),
    key("web_server.cors_origins", List, "[]", "").unused(NO_SERVER),
    key("web_server.sse_poll_interval_sec", Number, "2", "").unused(NO_SERVER),
    key("web_server.sse_max_batch", Whole(1), "500", "").unused(NO_SERVER),
    key("web_server.dashboards_dir", Text, "~/.flowcept/dashboards", "").unused(NO_SERVER),
    key("web_server.max_label_length", Whole(1), "30", "").or("WEBSERVER_MAX_LABEL_LENGTH").unused(NO_SERVER),
    key("sys_metadata.environment_id", Text, "~", "The name of this environment, as a cluster's; ~: the host's name.")
        .common(),
    key("sys_metadata.sys_name", Text, "~", "").unused("the system tells"),
    key("sys_metadata.node_name", Text, "~", "").unused("the system tells"),
    key("sys_metadata.login_name", Text, "~", "").unused("the system tells"),
    key("sys_metadata.public_ip", Text, "~", "").unused("addresses are not recorded"),
    key("sys_metadata.private_ip", Text, "~", "").unused("addresses are not recorded"),
    key("extra_metadata", Map, "{}", "What else each workflow shall say of itself.").common(),
    key(
        "db_buffer.insertion_buffer_time_secs",
        Number,
        "0.5",
        "Seconds after which a keeper writes what it has read, at the latest.",
    ),
    key("db_buffer.buffer_size", Whole(1), "10000", "Messages that it writes together, at most."),
    key("db_buffer.remove_empty_fields", Flag, "false", "Leave out fields that are null or empty text."),
    key("db_buffer.stop_max_trials", Whole(1), "300", "").unused(SAFE_STOP),
    key("db_buffer.stop_trials_sleep", Number, "0.1", "").unused(SAFE_STOP),
    key("agent.enabled", Flag, "false", "").unused(NO_AGENT),
    key("agent.mcp_host", Text, "localhost", "").or("AGENT_HOST").unused(NO_AGENT),
    key("agent.mcp_port", Port, "8000", "").or("AGENT_PORT").unused(NO_AGENT),
    key("agent.mcp_allowed_hosts", List, "~", "").or("MCP_ALLOWED_HOSTS").unused(NO_AGENT),
    key("agent.mcp_allowed_origins", List, "~", "").or("MCP_ALLOWED_ORIGINS").unused(NO_AGENT),
    key("agent.llm_server_url", Text, "~", "").unused(NO_AGENT),
    key("agent.api_key", Text, "~", "").or("AGENT_API_KEY").secret().unused(NO_AGENT),
    key("agent.model", Text, "~", "").unused(NO_AGENT),
    key("agent.service_provider", Text, "~", "").unused(NO_AGENT),
    key("agent.model_kwargs", Map, "{}", "").unused(NO_AGENT),
    key("agent.audio_enabled", Flag, "false", "").or("AGENT_AUDIO").unused(NO_AGENT),
    key("agent.debug", Flag, "false", "").unused(NO_AGENT),
    key("agent.start_persistence", Flag, "false", "").unused(NO_AGENT),
    key("agent.chat_enabled", Flag, "true", "").unused(NO_AGENT),
    key("agent.chat_max_tool_iterations", Whole(1), "5", "").unused(NO_AGENT),
    key("agent.chat_max_query_limit", Whole(1), "1000", "").unused(NO_AGENT),
    key("agent.chat_max_tool_result_chars", Whole(1), "4000", "").unused(NO_AGENT),
    key("agent.agent_mode", OneOf(&["disabled", "separate", "colocated"]), "disabled", "")
        .or("AGENT_MODE")
        .unused(NO_AGENT),
    key("databases.lmdb.enabled", Flag, "false", "Keep and deliver into Flowcept's LMDB database.")
        .or("LMDB_ENABLED")
        .common(),
    key("databases.lmdb.path", Text, "flowcept_lmdb", "Its folder.").or("LMDB_PATH").common(),
    key("databases.mongodb.enabled", Flag, "false", "Keep and deliver into Flowcept's MongoDB database.")
        .or("MONGO_ENABLED")
        .common(),
    key("databases.mongodb.host", Text, "localhost", "Where it is.").or("MONGO_HOST").common(),
    key("databases.mongodb.port", Port, "27017", "Its port.").or("MONGO_PORT").common(),
    key("databases.mongodb.uri", Text, "~", "Its URL instead, with user, password and TLS.").or("MONGO_URI").secret(),
    key("databases.mongodb.db", Text, "flowcept", "The database there.").common(),
    key("databases.mongodb.create_collection_index", Flag, "true", "")
        .unused("indexes that are not there are made; documents are joined by them"),
    key("databases.mongodb.bin", Text, "~", "").unused(NO_START),
    key("databases.mongodb.db_path", Text, "~", "").unused(NO_START),
    key("databases.mongodb.log_path", Text, "~", "").unused(NO_START),
    key("databases.mongodb.lock_file_path", Text, "~", "").unused(NO_START),
    key("adapters", Map, "{}", "").unused("programs are watched from outside and need no adapter"),
    key(
        "capture.source",
        OneOf(&["auto", "ebpf", "preload", "both"]),
        "auto",
        "Who watches: the kernel's probes, the library, both, or what there are rights for.",
    )
    .or("FLOWCEPT_SOURCE")
    .common(),
    key("capture.ring_bytes", Whole(4096), "16777216", "Bytes of the ring between kernel and tracer.")
        .or("FLOWCEPT_RING_BYTES"),
];

/// The key of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_explained_and_names_are_once() {
        for (place, key) in KEYS.iter().enumerate() {
            assert!(key.unused.is_some() || !key.meaning.is_empty(), "{} means nothing", key.name);
            assert!(!key.is_common || key.unused.is_none(), "{} is of no use in the short sample", key.name);
            assert!(KEYS[place + 1..].iter().all(|other| other.name != key.name), "{} is there twice", key.name);
        }
    }
}
