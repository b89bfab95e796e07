//! All settings and where they come from: flags, then environment (`YINGDA_...`), then the configuration file, then
//! defaults. `yingda.example.toml` and docs/desk.md show every key.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use yingda_engine::store::ServerSettings;
use yingda_engine::{EngineConfig, PolicyConfig, StoreConfig, WorkerConfig};

use crate::desk::DeskSettings;
use crate::outgoing::OutgoingSettings;
use crate::storage::{Dialect, sqlite_url};

/// Read when it exists and no other file is named.
pub const DEFAULT_FILE: &str = "yingda.toml";
/// The model folder of our sample shop, from the repository root.
pub const SAMPLE_MODEL: &str = "models/artifacts/yingda-sample";
/// The knowledge of our sample shop, from the repository root.
pub const SAMPLE_KNOWLEDGE: &str = "datasets/data/sample/knowledge.jsonl";

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
const DEFAULT_DATA: &str = "yingda-data";
const DEFAULT_COLLECTION: &str = "yingda";

/// What may be said on the command line and in the environment.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Configuration file [default: yingda.toml when it exists]
    #[arg(long, env = "YINGDA_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Folder for everything that yingda keeps [default: yingda-data]
    #[arg(long, env = "YINGDA_DATA", value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
    /// Model folder
    #[arg(long, env = "YINGDA_MODEL", value_name = "FOLDER", global = true)]
    pub model: Option<PathBuf>,
    /// Database, sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME [default: yingda.sqlite in the data folder]
    #[arg(long, env = "YINGDA_DATABASE", value_name = "URL", global = true, hide_env_values = true)]
    pub database: Option<String>,
    /// Qdrant server that keeps the replies, such as http://localhost:6334 [default: embedded, in the data folder]
    #[arg(long, env = "YINGDA_QDRANT", value_name = "URL", global = true)]
    pub qdrant: Option<String>,
    /// API key of the Qdrant server
    #[arg(long, env = "YINGDA_QDRANT_API_KEY", value_name = "KEY", global = true, hide_env_values = true)]
    pub qdrant_api_key: Option<String>,
    /// Collection on the Qdrant server [default: yingda]
    #[arg(long, env = "YINGDA_QDRANT_COLLECTION", value_name = "NAME", global = true)]
    pub qdrant_collection: Option<String>,
    /// File of rules and guided flows
    #[arg(long, env = "YINGDA_RULES", value_name = "FILE", global = true)]
    pub rules: Option<PathBuf>,
    /// Milliseconds after which a search on the Qdrant server is given up, and a message answered without it [default: 2000]
    #[arg(long, env = "YINGDA_QDRANT_DEADLINE_MS", value_name = "N", global = true)]
    pub qdrant_deadline_ms: Option<u64>,
    /// Shards of a new collection on a Qdrant cluster [default: what the server thinks right]
    #[arg(long, env = "YINGDA_QDRANT_SHARDS", value_name = "N", global = true)]
    pub qdrant_shards: Option<u32>,
    /// Copies of each shard of a new collection on a Qdrant cluster [default: what the server thinks right]
    #[arg(long, env = "YINGDA_QDRANT_COPIES", value_name = "N", global = true)]
    pub qdrant_copies: Option<u32>,
    /// Serve the sample shop; run it in the repository root
    #[arg(long, env = "YINGDA_SAMPLE", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL", global = true)]
    pub sample: Option<bool>,
}

/// What may be said besides, when serving.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeFlags {
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "YINGDA_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// Ask for no key; for trials on this machine only
    #[arg(long, env = "YINGDA_OPEN", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL")]
    pub open: Option<bool>,
    /// People reach this service by https, through a proxy: their log-in cookies are sent by https only
    #[arg(long, env = "YINGDA_HTTPS", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_name = "BOOL")]
    pub https: Option<bool>,
    /// Most messages that may be in work at once; more are answered with 429 [default: 512]
    #[arg(long, env = "YINGDA_MAX_IN_FLIGHT", value_name = "N")]
    pub max_in_flight: Option<usize>,
    /// Seconds after which a request is answered with 504 [default: 30]
    #[arg(long, env = "YINGDA_REQUEST_TIMEOUT", value_name = "SECONDS")]
    pub request_timeout_seconds: Option<u64>,
    /// Seconds that a stopping service spends on finishing what it accepted [default: 20]
    #[arg(long, env = "YINGDA_SHUTDOWN", value_name = "SECONDS")]
    pub shutdown_seconds: Option<u64>,
}

/// What may be said in the configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileConfig {
    listen: Option<String>,
    data: Option<PathBuf>,
    model: Option<PathBuf>,
    database: Option<String>,
    qdrant: Option<String>,
    qdrant_api_key: Option<String>,
    qdrant_collection: Option<String>,
    rules: Option<PathBuf>,
    qdrant_deadline_ms: Option<u64>,
    qdrant_shards: Option<u32>,
    qdrant_copies: Option<u32>,
    open: Option<bool>,
    https: Option<bool>,
    sample: Option<bool>,
    max_in_flight: Option<usize>,
    request_timeout_seconds: Option<u64>,
    shutdown_seconds: Option<u64>,
    #[serde(default)]
    worker: WorkerConfig,
    #[serde(default)]
    policy: PolicyConfig,
    #[serde(default)]
    desk: DeskSettings,
    #[serde(default)]
    outgoing: OutgoingSettings,
}

/// All settings, with nothing left open.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Folder for everything that is kept.
    pub data: PathBuf,
    /// Model folder.
    pub model: PathBuf,
    /// Database address; `None` for `yingda.sqlite` in the data folder.
    #[serde(skip)]
    pub database: Option<String>,
    /// Where replies are kept.
    #[serde(skip)]
    pub store: StoreConfig,
    /// File of rules and guided flows.
    pub rules: Option<PathBuf>,
    /// Ask for no key.
    pub open: bool,
    /// Log-in cookies are sent by https only, also where no proxy says that a request came so.
    pub https: bool,
    /// Serve the sample shop: an empty store is filled with its knowledge.
    pub sample: bool,
    /// Most messages in work at once.
    pub max_in_flight: usize,
    /// After this a request is answered with 504.
    pub request_timeout: Duration,
    /// What a stopping service spends on finishing what it accepted.
    pub shutdown: Duration,
    /// Limits of the model thread.
    pub worker: WorkerConfig,
    /// Words, thresholds and fixed sentences of the reply decision.
    pub policy: PolicyConfig,
    /// Teams, routing, working times and targets of the desk.
    pub desk: DeskSettings,
    /// Service desks of others that get tickets.
    pub outgoing: OutgoingSettings,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something that we do not know.
    #[error(
        "the configuration file {path} is not valid: {message}\nKeys are shown in api/yingda.example.toml and docs/desk.md"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// A setting is missing or wrong.
    #[error("{0}")]
    Value(String),
}

/// An empty environment variable means "not said".
fn said(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.trim().is_empty())
}

fn said_path(value: Option<PathBuf>) -> Option<PathBuf> {
    value.filter(|value| !value.as_os_str().is_empty())
}

impl Config {
    /// Settings for tests and embedding: a model folder and a data folder, no keys, any free port, all else default.
    pub fn local(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            model: model.into(),
            database: None,
            store: StoreConfig::Edge { path: data.join("store") },
            data,
            rules: None,
            open: true,
            https: false,
            sample: false,
            max_in_flight: 512,
            request_timeout: Duration::from_secs(30),
            shutdown: Duration::from_secs(20),
            worker: WorkerConfig::default(),
            policy: PolicyConfig::default(),
            desk: DeskSettings::default(),
            outgoing: OutgoingSettings::default(),
        }
    }

    /// Puts flags, environment, file and defaults together and checks them.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a setting is missing or wrong.
    pub fn load(flags: Flags, serve: ServeFlags) -> Result<Self, ConfigError> {
        Self::load_without_model(flags, serve)?.checked_model()
    }

    /// The same for a command that needs no model: its folder may be left empty.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a setting is wrong.
    pub fn load_without_model(flags: Flags, serve: ServeFlags) -> Result<Self, ConfigError> {
        let named = said_path(flags.config.clone());
        let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => String::new(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        Self::merge(flags, serve, &path, &text)
    }

    fn checked_model(self) -> Result<Self, ConfigError> {
        let model = self.model.display();
        if self.model.as_os_str().is_empty() {
            Err(ConfigError::Value(
                "no model folder: say --model FOLDER (or YINGDA_MODEL, or `model` in the configuration file); \
                 --sample serves the sample shop from the repository root"
                    .to_owned(),
            ))
        } else if self.model.is_dir() {
            Ok(self)
        } else if self.sample && self.model == Path::new(SAMPLE_MODEL) {
            Err(ConfigError::Value(format!(
                "--sample looks for the model folder {model}, which is not there: run yingda in the repository root"
            )))
        } else {
            Err(ConfigError::Value(format!(
                "the model folder {model} does not exist: name the folder that yingda-train wrote with --model"
            )))
        }
    }

    /// [`Config::load_without_model`] without reading: `text` is what the file at `path` holds.
    fn merge(flags: Flags, serve: ServeFlags, path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: FileConfig = toml::from_str(text)
            .map_err(|error| ConfigError::File { path: path.to_owned(), message: error.to_string() })?;
        let sample = flags.sample.or(file.sample).unwrap_or(false);
        let data = said_path(flags.data).or(file.data).unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
        let model = said_path(flags.model).or(file.model);
        let model = model.unwrap_or_else(|| PathBuf::from(if sample { SAMPLE_MODEL } else { "" }));
        let listen = said(serve.listen).or(file.listen).unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
        let listen = address(&listen)?;
        let open = serve.open.or(file.open).unwrap_or(false);
        if open && !listen.ip().is_loopback() {
            return Err(ConfigError::Value(format!(
                "--open asks for no key and is for trials on this machine only, but --listen {listen} can be reached from \
                 others: listen on 127.0.0.1, or drop --open and use keys"
            )));
        }
        let database = said(flags.database).or(file.database);
        if let Some(database) = &database
            && Dialect::of(database).is_none()
        {
            return Err(ConfigError::Value(
                "--database must start with sqlite: or postgres:, such as postgres://USER:PASSWORD@HOST/NAME"
                    .to_owned(),
            ));
        }
        let positive = |name: &str, value: u64| match value {
            0 => Err(ConfigError::Value(format!("{name} must be at least 1"))),
            value => Ok(value),
        };
        let defaults = ServerSettings::default();
        let settings = ServerSettings {
            deadline_ms: flags.qdrant_deadline_ms.or(file.qdrant_deadline_ms).unwrap_or(defaults.deadline_ms),
            shards: flags.qdrant_shards.or(file.qdrant_shards),
            copies: flags.qdrant_copies.or(file.qdrant_copies),
        };
        positive("qdrant_deadline_ms", settings.deadline_ms)?;
        positive("qdrant_shards", settings.shards.unwrap_or(1).into())?;
        positive("qdrant_copies", settings.copies.unwrap_or(1).into())?;
        let store = match said(flags.qdrant).or(file.qdrant) {
            None => StoreConfig::Edge { path: data.join("store") },
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                return Err(ConfigError::Value(format!(
                    "--qdrant must start with http:// or https:// and name the gRPC port, such as http://localhost:6334, \
                     but it is `{url}`"
                )));
            }
            Some(url) => StoreConfig::Server {
                url,
                api_key: said(flags.qdrant_api_key).or(file.qdrant_api_key),
                collection: said(flags.qdrant_collection)
                    .or(file.qdrant_collection)
                    .unwrap_or_else(|| DEFAULT_COLLECTION.to_owned()),
                settings,
            },
        };
        let mut problems = file.desk.problems();
        problems.extend(file.outgoing.problems());
        if !problems.is_empty() {
            return Err(ConfigError::File { path: path.to_owned(), message: problems.join("\n") });
        }
        let max_in_flight = serve.max_in_flight.or(file.max_in_flight).unwrap_or(512);
        positive("max_in_flight", max_in_flight as u64)?;
        if max_in_flight > 1_000_000 {
            return Err(ConfigError::Value("max_in_flight must be at most 1000000".to_owned()));
        }
        let timeout = serve.request_timeout_seconds.or(file.request_timeout_seconds).unwrap_or(30);
        let shutdown = serve.shutdown_seconds.or(file.shutdown_seconds).unwrap_or(20);
        Ok(Self {
            listen,
            data,
            model,
            database,
            store,
            rules: said_path(flags.rules).or(file.rules),
            open,
            https: serve.https.or(file.https).unwrap_or(false),
            sample,
            max_in_flight,
            request_timeout: Duration::from_secs(positive("request_timeout_seconds", timeout)?),
            shutdown: Duration::from_secs(shutdown),
            worker: file.worker,
            policy: file.policy,
            desk: file.desk,
            outgoing: file.outgoing,
        })
    }

    /// What the engine is made from.
    pub fn engine(&self) -> EngineConfig {
        EngineConfig {
            model: self.model.clone(),
            store: self.store.clone(),
            worker: self.worker.clone(),
            policy: self.policy.clone(),
        }
    }

    /// Where the database is.
    pub fn database_url(&self) -> String {
        self.database.clone().unwrap_or_else(|| sqlite_url(&self.database_file()))
    }

    /// The file of the database in the data folder.
    pub fn database_file(&self) -> PathBuf {
        self.data.join("yingda.sqlite")
    }

    /// Whether the reply store is a folder of ours, which only one process may use.
    pub fn store_is_local(&self) -> bool {
        matches!(self.store, StoreConfig::Edge { .. })
    }

    /// Whether the database lies in the data folder.
    pub fn database_is_local(&self) -> bool {
        self.database.is_none()
    }
}

/// `ADDRESS:PORT`, also with a name such as `localhost`.
fn address(text: &str) -> Result<SocketAddr, ConfigError> {
    let wrong = |why: String| {
        ConfigError::Value(format!("--listen wants ADDRESS:PORT, such as 127.0.0.1:8080, but it is `{text}`: {why}"))
    };
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut found: Vec<SocketAddr> = text.to_socket_addrs().map_err(|error| wrong(error.to_string()))?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| wrong("no such host".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(flags: Flags, serve: ServeFlags, text: &str) -> Result<Config, ConfigError> {
        Config::merge(flags, serve, Path::new("yingda.toml"), text)
    }

    fn with_model() -> Flags {
        Flags { model: Some("m".into()), ..Flags::default() }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let text = "model = \"of-file\"\ndata = \"data-of-file\"\nlisten = \"127.0.0.1:9000\"";
        let config = merge(with_model(), ServeFlags::default(), text).unwrap();
        assert_eq!(config.model, Path::new("m"));
        assert_eq!(config.data, Path::new("data-of-file"));
        assert_eq!(config.listen.port(), 9000);
        assert_eq!(config.store, StoreConfig::Edge { path: Path::new("data-of-file").join("store") });
        let config = merge(with_model(), ServeFlags::default(), "").unwrap();
        assert_eq!(config.data, Path::new("yingda-data"));
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    }

    #[test]
    fn an_empty_variable_says_nothing() {
        let flags = Flags { database: Some(String::new()), qdrant: Some(" ".into()), ..with_model() };
        let config = merge(flags, ServeFlags::default(), "").unwrap();
        assert!(config.database_is_local() && config.store_is_local());
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = merge(with_model(), ServeFlags::default(), "listn = \"127.0.0.1:1\"").unwrap_err().to_string();
        assert!(error.contains("`listn`") && error.contains("yingda.toml"), "{error}");
    }

    #[test]
    fn open_is_refused_unless_only_this_machine_can_call() {
        for (listen, fine) in [("127.0.0.1:1", true), ("[::1]:1", true), ("0.0.0.0:1", false), ("10.0.0.1:1", false)] {
            let serve = ServeFlags { open: Some(true), listen: Some(listen.into()), ..ServeFlags::default() };
            let result = merge(with_model(), serve, "");
            assert_eq!(result.is_ok(), fine, "{listen}");
            if let Err(error) = result {
                assert!(error.to_string().contains("--open") && error.to_string().contains(listen));
            }
        }
    }

    #[test]
    fn a_missing_model_and_bad_addresses_are_sentences() {
        let config = merge(Flags::default(), ServeFlags::default(), "").unwrap();
        let error = config.checked_model().unwrap_err().to_string();
        assert!(error.contains("--model"), "{error}");
        let flags = Flags { database: Some("mysql://x".into()), ..with_model() };
        assert!(merge(flags, ServeFlags::default(), "").unwrap_err().to_string().contains("sqlite:"));
        let flags = Flags { qdrant: Some("localhost".into()), ..with_model() };
        assert!(merge(flags, ServeFlags::default(), "").unwrap_err().to_string().contains("6334"));
        let serve = ServeFlags { listen: Some("8080".into()), ..ServeFlags::default() };
        assert!(merge(with_model(), serve, "").unwrap_err().to_string().contains("ADDRESS:PORT"));
    }

    #[test]
    fn the_sample_knows_its_model() {
        let flags = Flags { sample: Some(true), ..Flags::default() };
        assert_eq!(merge(flags, ServeFlags::default(), "").unwrap().model, Path::new(SAMPLE_MODEL));
    }

    /// Every commented key of the example, switched on, is a key that we read.
    #[test]
    fn the_example_file_is_right() {
        let example = include_str!("../yingda.example.toml");
        merge(with_model(), ServeFlags::default(), example).unwrap();
        let mut switched_on = String::new();
        for line in example.lines() {
            switched_on.push_str(line.strip_prefix("#: ").unwrap_or(line));
            switched_on.push('\n');
        }
        assert!(switched_on.lines().any(|line| line.starts_with("listen = ")));
        merge(with_model(), ServeFlags::default(), &switched_on).unwrap();
    }

    #[test]
    fn what_the_page_of_the_desk_shows_is_right() {
        let page = include_str!("../../docs/desk.md");
        let settings = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        merge(with_model(), ServeFlags::default(), settings).unwrap();
        for table in ["[desk.routing]", "[desk.service_levels]", "[desk.calendars.", "[[desk.teams]]"] {
            assert!(settings.contains(table), "{table}");
        }
    }

    #[test]
    fn the_example_file_shows_every_key() {
        let example = include_str!("../yingda.example.toml");
        let worker = serde_json::to_value(WorkerConfig::default()).unwrap();
        let policy = serde_json::to_value(PolicyConfig::default()).unwrap();
        for key in [worker, policy].iter().flat_map(|table| table.as_object().unwrap().keys()) {
            let shown = example.contains(&format!("\n#: {key} = ")) || example.contains(&format!(".{key}]"));
            assert!(shown, "{key} is missing in yingda.example.toml");
        }
    }
}
