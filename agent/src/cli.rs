//! The command line: every flag and variable once. It answers nothing itself.

mod consume;
mod doctor;
mod follow;
mod import;
mod query;
mod run;
mod services;
mod settings;
mod ship;
mod show;
mod spelling;
mod spool;
mod stream;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::output::{self, tree};
use crate::query::{Library, Question};
use crate::session::inside;
use crate::settings::Settings;
use crate::store::Store;
use crate::{exit_code, formats, intake};

pub use spelling::ours;

/// Zero-code workflow provenance: what ran, with which inputs and parameters, and what it produced.
#[derive(Debug, Parser)]
#[command(name = "flowcept", version, after_help = exit_codes())]
pub struct Cli {
    /// Folder with the logs and their index [default: $XDG_STATE_HOME/flowcept or ~/.local/state/flowcept]
    #[arg(long, global = true, value_name = "FOLDER", env = "FLOWCEPT_STORE", hide_env_values = true)]
    store: Option<PathBuf>,
    /// Settings to use [default: $FLOWCEPT_SETTINGS_PATH or ~/.flowcept/settings.yaml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trace one command and all that it starts
    #[command(
        after_help = "Examples:\n  sudo flowcept run --user \"$USER\" -- make -j2\n  flowcept run --name train --param lr=0.1 -- python3 train.py\n  flowcept run -o run.jsonl -- ./pipeline.sh\n  flowcept run --source preload -- ./app\n\nThe exit code is the command's. Under sudo the command runs as root; --user runs it as somebody else and keeps\nits outputs theirs."
    )]
    Run(RunArgs),
    /// List workflows, newest first
    #[command(
        after_help = "Examples:\n  flowcept workflows --activity sort --since 2h\n  flowcept workflows --json | jq -r '.[0].workflow_id'"
    )]
    Workflows {
        /// Only those that had a task of this name (`activity_id`)
        #[arg(long, value_name = "NAME")]
        activity: Option<String>,
        /// Only those that began within this time, as 30m, 2h or 7days
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        since: Option<std::time::Duration>,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show a workflow or a task: tasks as a tree, their files by role, what was not seen
    #[command(after_help = "Examples:\n  flowcept show last\n  flowcept show last --failed")]
    Show {
        /// An id, the beginning of one, a name, or `last`; or a task's whole id
        #[arg(default_value = "last")]
        workflow: String,
        /// Only tasks that failed
        #[arg(long)]
        failed: bool,
        /// JSON instead of a tree
        #[arg(long)]
        json: bool,
    },
    /// Tell where a file came from, or what it fed
    #[command(
        after_help = "Examples:\n  flowcept lineage report.pdf\n  flowcept lineage raw.csv --down\n  flowcept lineage report.pdf --as dot | dot -Tsvg > lineage.svg"
    )]
    Lineage(LineageArgs),
    /// Write a workflow for other tools
    #[command(
        after_help = "Examples:\n  flowcept export last > run.jsonl\n  flowcept export last --format prov-json > prov.json"
    )]
    Export {
        /// An id, the beginning of one, a name, or `last`
        #[arg(default_value = "last")]
        workflow: String,
        /// The format
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// `all` writes every use of every role in the task itself, without bounds
        #[arg(long, value_enum, default_value_t = Files::Bounded)]
        files: Files,
    },
    /// Find tasks by Flowcept's filters, in all workflows of the store
    #[command(
        after_help = "Examples:\n  flowcept query '{\"status\": \"ERROR\"}' --sort -started_at --limit 5\n  flowcept query '{\"activity_id\": \"sort\", \"started_at\": {\"$gt\": 1795470000}}' --project task_id,used\n  flowcept query '{\"custom_metadata.process.exit_code\": {\"$gt\": 1}}'\n\nA filter is MongoDB's, as far as Flowcept's LMDB database answers it: fields with a value, or with $eq, $ne, $gt, $gte, $lt,\n$lte, $in, $nin, and $and and $or of filters. The answer is what Flowcept's own query gives on what is shipped; and a field of\na map may be named with a dot, which its database does not know."
    )]
    Query {
        /// The filter, as JSON; {} is every task
        filter: String,
        /// Only these fields, separated by commas
        #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
        project: Vec<String>,
        /// In the order of this field; with a - before it, the other way [default: as they ran]
        #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
        sort: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Take workflows of other nodes into the store: from Flowcept's database or its files
    #[command(
        after_help = "Examples:\n  flowcept import mongodb://db.cluster/flowcept --workflow 99efd744-3c15-4a03-9add-bea8afc9138b\n  flowcept import lmdb:flowcept_lmdb\n  flowcept import flowcept_buffer.jsonl\n\nDatabases are Flowcept's, filled by its own consumer or by `flowcept consume` and `ship`; files are its buffers, with a document a line, as\n`flowcept export` writes them. `show`, `lineage`, `query` and `export` answer on what came as on what was traced here: `export` gives the\ndocuments as they came. A workflow that is here already is not taken twice; one that has changed since replaces what came before.\nOf a database only tasks and workflows are taken: nothing here asks for agents and objects."
    )]
    Import {
        /// FILE, lmdb:FOLDER or mongodb://[USER:PASSWORD@]HOST[:PORT]/[DATABASE][?OPTION=VALUE&…]
        #[arg(required = true, value_name = "FROM")]
        from: Vec<String>,
        /// Only this workflow; repeatable
        #[arg(long, value_name = "ID")]
        workflow: Vec<String>,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Deliver finished workflows to Flowcept's queue or database, each once: what was not delivered before
    #[command(
        after_help = with_places("Examples:\n  flowcept ship --to redis://127.0.0.1:6379\n  MQ_URI=redis://user:password@queue flowcept ship --json\n  flowcept ship --to redis://127.0.0.1:6379 --stream flowcept\n  flowcept ship --to kafka://broker-1,broker-2 --channel provenance\n  MQ_URI='kafkas://user:password@broker?ssl.ca.location=ca.pem' flowcept ship\n  MQ_URI=amqps://user:password@queue flowcept ship\n  flowcept ship --to lmdb:flowcept_lmdb\n  flowcept ship --to jsonl:flowcept_buffer.jsonl\n\nDocuments are Flowcept's: its consumers and its tools take them as they are. A channel of Redis keeps nothing for who is not subscribed: what nobody took waits in the store, and the next `flowcept ship` goes on there. A stream keeps all until a `flowcept consume` has it; give that Redis `appendonly yes` and no eviction, or what it has is lost where it is killed. Kafka keeps all as long as its topic is told to; documents of one workflow go into one partition, acknowledged by all replicas. RabbitMQ keeps for each group of keepers that has been there once; where none has, what is sent waits in the store.")
    )]
    Ship {
        /// Queue, database or file to deliver to, see below; repeatable [default: what the settings enable, or $MQ_URI]
        #[arg(long, value_name = "URL")]
        to: Vec<String>,
        #[command(flatten)]
        name: Name,
        /// How long to try where a server cannot be reached, nobody is subscribed, or Flowcept has the database open, as 30s or 5m
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s")]
        wait: std::time::Duration,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Deliver a run while it goes on: `flowcept run` starts it, and tells it where
    #[command(hide = true)]
    Follow,
    /// Keep what comes to Flowcept's queue in its database, until SIGINT, SIGTERM or Flowcept's own message to stop
    #[command(
        after_help = with_queues("Examples:\n  flowcept consume --from redis://127.0.0.1:6379 --into lmdb:flowcept_lmdb\n  flowcept consume --from redis://127.0.0.1:6379 --stream flowcept --into lmdb:flowcept_lmdb\n  flowcept consume --from kafka://broker --into mongodb://127.0.0.1\n\nMessages may be ours or of Flowcept's Python. One that cannot be kept is set aside with its reason, in FOLDER/quarantine or with MongoDB in the store's, and the others are kept. Of Kafka, RabbitMQ and a stream a message is settled once it is written or set aside: where a keeper dies, another of its group, or itself when it is started again, has what it had within seconds.")
    )]
    Consume {
        /// Queue to read, see below [default: the settings' `mq`, or $MQ_URI]
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        #[command(flatten)]
        name: Name,
        /// The group of keepers that share what Kafka, RabbitMQ or a stream keeps: each message comes to one of them [default: the settings' `mq.group_id`, flowcept]
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Flowcept's database, mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST…]/[DATABASE][?OPTION=VALUE&…] or lmdb:FOLDER; given more than once, each has all, and all wait where one is away [default: those that the settings enable]
        #[arg(long, value_name = "DATABASE")]
        into: Vec<String>,
        /// How long to try at the end where Flowcept has the database open, as 30s or 5m
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s")]
        wait: std::time::Duration,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print what comes to Flowcept's queue, one JSON document a line, until it is stopped
    #[command(
        after_help = with_queues("Examples:\n  flowcept stream --from redis://127.0.0.1:6379 | jq -c 'select(.status == \"ERROR\")'\n  flowcept stream --from redis://127.0.0.1:6379 --stream runs --group alerts | ./alert.py\n\nA program that reads the lines is a consumer of its own. With a group it gets all that Kafka, RabbitMQ or a stream keeps, and where it was stopped it goes on: a message is settled once it is written to stdout. A group that nobody reads any more keeps a stream from being shortened, and in RabbitMQ its queue (CHANNEL.GROUP) grows: remove it with redis-cli's XGROUP DESTROY, or rabbitmqctl's delete_queue.")
    )]
    Stream {
        /// Queue to read, see below [default: the settings' `mq`, or $MQ_URI]
        #[arg(long, value_name = "URL")]
        from: Option<String>,
        #[command(flatten)]
        name: Name,
        /// The group of readers of Kafka, RabbitMQ or a stream that this one belongs to [default: none, and what comes from now on]
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
        /// Only these fields, separated by commas
        #[arg(long, value_name = "FIELDS", value_delimiter = ',')]
        project: Vec<String>,
    },
    /// Count what a workflow has, as JSON
    #[command(after_help = "Example:\n  flowcept workflow-count last")]
    WorkflowCount {
        /// An id, the beginning of one, a name, or `last`
        #[arg(default_value = "last")]
        workflow: String,
    },
    /// Write a settings file to begin with: $FLOWCEPT_SETTINGS_PATH or ~/.flowcept/settings.yaml
    #[command(after_help = "Examples:\n  flowcept init-settings\n  flowcept --settings site.yaml init-settings --full")]
    InitSettings {
        /// All settings, and not only what most change
        #[arg(long)]
        full: bool,
        /// Also where there is a file: what was there is kept beside it
        #[arg(short, long)]
        yes: bool,
    },
    /// List all settings: value, where it came from, and why it changes nothing where it does not
    #[command(
        after_help = "Examples:\n  flowcept show-settings\n  flowcept show-settings --json | jq 'map(select(.origin != \"default\"))'"
    )]
    ShowSettings {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Change the settings file to one of Flowcept's profiles
    #[command(after_help = profiles())]
    ConfigProfile {
        /// The profile
        #[arg(value_name = "NAME", value_parser = crate::settings::profile::PROFILES.map(|(name, _)| name))]
        profile: String,
        /// Without asking
        #[arg(short, long)]
        yes: bool,
    },
    /// Try each service that the settings enable, tell how much waits there, and what to do where one does not work
    #[command(after_help = "Example:\n  flowcept check-services")]
    CheckServices {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Print where the library is that watches a program from inside
    #[command(after_help = "Example:\n  LD_PRELOAD=$(flowcept preload-path) ./pipeline.sh; flowcept show last")]
    PreloadPath,
    /// List what the library has left in the spool: workflows that still run, and those that are not taken in yet
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  flowcept spool\n  flowcept spool --json | jq '.[] | select(.running) | .workflow_id'\n\nEvery command that asks the store takes in what has ended; this one does not."
    )]
    Spool {
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
        #[command(subcommand)]
        command: Option<SpoolCommand>,
    },
    /// Work on the store itself
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Tell what this host can capture, and what to do about the rest
    #[command(after_help = "Example:\n  sudo flowcept doctor")]
    Doctor {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum SpoolCommand {
    /// Remove workflows that are damaged: no process of theirs is there, and nothing says what ran
    #[command(after_help = "Example:\n  flowcept spool prune")]
    Prune {
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Make the index anew from the logs
    Rebuild,
}

/// Where in a server.
#[derive(Debug, Default, Args)]
struct Name {
    /// The channel of a Redis server, which keeps nothing for who is not subscribed, the topic of Kafka, or the exchange of RabbitMQ [default: the settings' `mq.channel`, interception]
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// The stream of a Redis server instead: it keeps all until each group of keepers has it [default: the settings' `mq.stream`]
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
}

impl Name {
    /// For this URL: what is asked for, else what the settings say; of a stream they speak for Redis.
    fn place<'a>(&'a self, settings: &'a Settings, url: &str) -> crate::sinks::Name<'a> {
        let channel = self.channel.as_deref().or_else(|| settings.text("mq.channel")).unwrap_or_default();
        let set = || settings.text("mq.stream").filter(|_| self.channel.is_none() && crate::sinks::redis::is_url(url));
        crate::sinks::Name { channel, stream: self.stream.as_deref().or_else(set) }
    }
}

/// The queue that is named, or that the settings have.
fn queue(named: Option<String>, settings: &Settings) -> Result<String> {
    named.or_else(|| settings.queue()).with_context(|| {
        format!("no queue is named: give --from, set MQ_URI, or set mq.enabled to true in {}", place_of(settings))
    })
}

/// The group of keepers.
fn group(settings: &Settings) -> &str {
    settings.text("mq.group_id").filter(|id| *id != "auto").unwrap_or("flowcept")
}

/// The settings file, for people.
fn place_of(settings: &Settings) -> String {
    match settings.file() {
        Some(path) => path.display().to_string(),
        None => "the settings (`flowcept init-settings` writes a file)".into(),
    }
}

fn profiles() -> String {
    let profiles = crate::settings::profile::PROFILES.iter().map(|(name, settings)| {
        let settings = settings.iter().map(|(key, value)| format!("    {key}: {value}\n"));
        format!("  {name}\n{}", settings.collect::<String>())
    });
    format!("Profiles:\n{}", profiles.collect::<String>())
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Name of the workflow [default: the command's base name]
    #[arg(long)]
    name: Option<String>,
    /// Campaign that it belongs to [default: $FLOWCEPT_CAMPAIGN_ID or a new one]
    #[arg(long, value_name = "UUID")]
    campaign: Option<uuid::Uuid>,
    /// A parameter to record; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    param: Vec<(String, String)>,
    /// A tag to record; repeatable
    #[arg(long)]
    tag: Vec<String>,
    /// Who watches: the kernel's probes, which need rights, or the library, which needs none [default: the settings' `capture.source`, auto]
    #[arg(long, value_enum)]
    source: Option<Source>,
    /// Run the command as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// No summary
    #[arg(short, long)]
    quiet: bool,
    /// Write the workflow as JSONL to this file and keep nothing in the store
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many seconds descendants are followed after the command has ended [default: until they end]
    #[arg(long, value_name = "SECONDS")]
    detach_after: Option<u64>,
    /// Bytes of the ring between kernel and tracer [default: the settings' `capture.ring_bytes`, 16 MiB]
    #[arg(long, value_name = "BYTES")]
    ring_bytes: Option<u32>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct LineageArgs {
    /// A file, or an entity id as `show --json` prints it
    file: String,
    /// What it was made from (the default)
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// What was made from it
    #[arg(long)]
    down: bool,
    /// Steps from file to file
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Follow also who started whom
    #[arg(long, value_enum, value_name = "EDGES")]
    via: Option<Via>,
    /// The form of the answer
    #[arg(long = "as", value_enum, default_value_t = As::Tree)]
    form: As,
    /// JSON instead of a tree
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The kernel's probes where we have the rights for them, else the library
    Auto,
    /// The kernel's probes (eBPF)
    Ebpf,
    /// The library (LD_PRELOAD)
    Preload,
    /// The kernel's probes, and the library in reserve: it goes on where the tracer is killed
    Both,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Flowcept's messages, one a line
    Jsonl,
    /// W3C PROV-JSON
    ProvJson,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Files {
    /// At most 200 a side in a message, the rest in pages
    Bounded,
    /// All
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Via {
    /// Data and control
    Control,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum As {
    /// A tree of text
    Tree,
    /// A graph for Graphviz
    Dot,
}

/// Address space for the stack of a walk; memory only as far as it is used.
const DEEP: usize = 1 << 30;

const QUEUES: &str = "  Redis     redis://[USER[:PASSWORD]@]HOST[:PORT][/DB][?cacertfile=FILE]; rediss: TLS
  Kafka     kafka://[USER:PASSWORD@]HOST[:PORT][,HOST…][?PROPERTY=VALUE…] (librdkafka's); kafkas: TLS
  RabbitMQ  amqp://[USER:PASSWORD@]HOST[:PORT][/VHOST][?cacertfile=FILE]; amqps: TLS
";
const STORES: &str = "  MongoDB   mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST…]/[DATABASE][?OPTION=VALUE&…]
  LMDB      lmdb:FOLDER, Flowcept's database
  a file    jsonl:FILE, which grows by a line a document
";

fn with_queues(help: &str) -> String {
    format!("{help}\n\nQueues:\n{QUEUES}")
}

fn with_places(help: &str) -> String {
    format!("{help}\n\nPlaces:\n{QUEUES}{STORES}")
}

fn exit_codes() -> String {
    let rows = exit_code::TABLE.iter().map(|(code, meaning)| format!("  {code:>3}  {meaning}\n"));
    format!("Exit codes (`run` returns the command's own):\n{}", rows.collect::<String>())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    Ok((key.to_string(), value.to_string()))
}

/// The store that the command line or the environment names, with all that is finished in its spool.
fn store(named: Option<PathBuf>) -> Result<Store> {
    let store = as_it_is(named)?;
    for (folder, error) in intake::take_in(&store) {
        eprintln!("flowcept: {}: {error:#}", folder.display());
    }
    Ok(store)
}

/// The same, without a look at its spool.
fn as_it_is(named: Option<PathBuf>) -> Result<Store> {
    let folder = match named {
        Some(folder) => folder,
        None => {
            let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
            let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
            state
                .or_else(home)
                .context("neither HOME nor XDG_STATE_HOME is set: name a store with --store")?
                .join("flowcept")
        }
    };
    Ok(Store::open(folder)?)
}

/// Runs a parsed command line.
pub fn run(cli: Cli) -> Result<ExitCode> {
    #[expect(unsafe_code, reason = "std ignores SIGPIPE before main, and has no word for its allocator")]
    // SAFETY: before any thread.
    unsafe {
        // A reader that has gone (`| head`) is no error worth a message.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        // What one table gives back the next asks for: the kernel clears page by page what goes through its hands in between.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 32 << 20);
    }
    let (named, file) = (cli.store, cli.settings);
    // Not for all: what is wrong with them is no matter where they are not used.
    let settings = || Settings::find(file.clone());
    match cli.command {
        Command::Run(args) => run::run(args, named, &settings()?),
        Command::Workflows { activity, since, json } => {
            show::workflows(&store(named)?, activity.as_deref(), since, json)
        }
        Command::Show { workflow, failed, json } => show::show(&store(named)?, &workflow, failed, json),
        Command::Lineage(args) => lineage(&store(named)?, &args),
        Command::Export { workflow, format, files } => export(&store(named)?, &workflow, format, files),
        Command::Consume { from, name, group, into, wait, json } => {
            let settings = settings()?;
            let from = queue(from, &settings)?;
            consume::consume(named, &settings, &from, &name, group.as_deref(), into, wait, json)
        }
        Command::Query { filter, project, sort, limit } => {
            query::query(&store(named)?, &filter, &project, sort.as_deref(), limit)
        }
        Command::Stream { from, name, group, project } => {
            let settings = settings()?;
            let from = queue(from, &settings)?;
            stream::stream(&from, name.place(&settings, &from), group.as_deref(), &project)
        }
        Command::Import { from, workflow, json } => import::import(&store(named)?, &from, &workflow, json),
        Command::WorkflowCount { workflow } => show::count(&store(named)?, &workflow),
        Command::Ship { to, name, wait, json } => ship::ship(&store(named)?, &settings()?, &to, &name, wait, json),
        Command::Follow => follow::follow(&as_it_is(named)?),
        Command::ShowSettings { json } => settings::show(&settings()?, json),
        Command::InitSettings { full, yes } => settings::init(file, full, yes),
        Command::ConfigProfile { profile, yes } => settings::apply(file, &profile, yes),
        Command::CheckServices { json } => services::check(&store(named)?, &settings()?, json),
        Command::Store { command: StoreCommand::Rebuild } => {
            let store = store(named)?;
            let count = store.rebuild()?;
            let place = store.index_elsewhere().map_or_else(String::new, |p| format!(" and lies in {}", p.display()));
            eprintln!("flowcept: the index holds {count} workflows{place}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Spool { json, command: None } => Ok(spool::list(&as_it_is(named)?, json)),
        Command::Spool { command: Some(SpoolCommand::Prune { json }), .. } => spool::prune(&as_it_is(named)?, json),
        Command::PreloadPath => preload_path(),
        Command::Doctor { json } => doctor::run(json),
    }
}

/// `libflowcept.so` lies beside this program.
fn preload_path() -> Result<ExitCode> {
    println!("{}", inside::library()?.display());
    Ok(ExitCode::SUCCESS)
}

fn lineage(store: &Store, args: &LineageArgs) -> Result<ExitCode> {
    let question = Question { up: !args.down, depth: args.depth, control: args.via.is_some() };
    let answer = || -> Result<()> {
        let answer = Library::open(store)?.lineage(&args.file, question)?;
        match (args.json, args.form) {
            (true, _) => println!("{}", tree::json(&answer)),
            (false, As::Tree) => print!("{}", tree::text(&answer, output::Style::of_stdout())),
            (false, As::Dot) => print!("{}", tree::dot(&answer)),
        }
        Ok(())
    };
    // A tree is walked, written and dropped by recursion: a log that was appended to 10,000 times is a tree as deep.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(DEEP).spawn_scoped(scope, answer);
        thread.context("start a thread")?.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn export(store: &Store, workflow: &str, format: Format, files: Files) -> Result<ExitCode> {
    let run = Library::open(store)?.find(workflow)?;
    match format {
        Format::Jsonl => {
            let files = match files {
                Files::Bounded => formats::flowcept::Files::Bounded,
                Files::All => formats::flowcept::Files::All,
            };
            print!("{}", formats::flowcept::lines(&run.documents(files)));
        }
        Format::ProvJson => {
            println!("{}", formats::prov_json::document(&run.workflow, &run.told, &|file| run.base(file)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A row of `workflows --json`.
fn row(w: &crate::workflow::Workflow, running: bool) -> serde_json::Value {
    json!({"workflow_id": w.id, "name": w.name, "status": if running { "RUNNING" } else { w.status() },
        "started_at": w.started as f64 / 1e9, "ended_at": w.ended.map(|t| t as f64 / 1e9),
        "campaign_id": w.campaign, "tags": w.tags, "command": w.command.join(" ")})
}
