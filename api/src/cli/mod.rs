//! The commands: what they read from the command line and what they print. The work is done in the library.
#![expect(clippy::print_stderr, reason = "this is the part that talks to the terminal")]

mod bench;
mod corrections;
mod knowledge;
mod questions;
mod users;

use std::fmt::Arguments;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use yingda::auth::{self, Role};
use yingda::config::{Config, ConfigError, Flags, ServeFlags};
use yingda::knowledge::base::KnowledgeBase;
use yingda::storage::{Storage, rfc3339};
use yingda::{Ready, StartError, lock_data, open_engine};
use yingda_engine::{Conversation, Decision, Engine, Response};

/// Yingda 应答: answers Chinese customers, and hands them to a person when it must
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the HTTP API and the chat page
    Serve(ServeFlags),
    /// Publish a knowledge file in place of everything, or fill the reply store again with what is published
    Index {
        /// Knowledge file: .jsonl, .json, .csv, .xlsx or .md; without one, the published knowledge is written again, for another
        /// model for instance
        file: Option<PathBuf>,
    },
    /// Look after knowledge files
    #[command(subcommand)]
    Knowledge(knowledge::Knowledge),
    /// Answer one message on the terminal, for trying out; nothing is stored
    Ask {
        /// The message
        text: String,
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Fit on labelled questions when an entry may be answered with, and keep that with the reply store
    Tune(questions::TuneFlags),
    /// Answer labelled questions and count what is right, asked back, refused and wrong; nothing is stored
    Evaluate(questions::EvaluateFlags),
    /// Write what agents put right of intent and sentiment as a file that `yingda-train` reads
    ExportCorrections {
        /// File to write, JSON Lines
        file: PathBuf,
    },
    /// Measure
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(Keys),
    /// Make and manage the accounts of people
    #[command(subcommand)]
    Users(users::UsersCommand),
}

#[derive(Subcommand)]
enum Keys {
    /// Make a key; it is printed once
    Create {
        /// What it may do; each role may also do what the ones before it may
        #[arg(long)]
        role: Role,
        /// Who will use it
        #[arg(long)]
        name: String,
    },
    /// List keys
    List,
    /// Refuse a key from now on
    Revoke {
        /// Id of the key, as in the list
        id: String,
    },
}

/// Runs the command of this process.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    log(matches!(cli.command, Command::Serve(_)));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the threads of the service cannot be started: {error}");
            return ExitCode::from(1);
        }
    };
    let mut done = ExitCode::SUCCESS;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Serve(serve) => self::serve(cli.flags, serve).await,
            Command::Index { file } => index(cli.flags, file).await,
            Command::Knowledge(command) => knowledge::run(cli.flags, command).await.map(|code| done = code),
            Command::Ask { text, json } => ask(cli.flags, text, json).await,
            Command::Tune(tune) => questions::tune(cli.flags, tune).await,
            Command::Evaluate(evaluate) => questions::evaluate(cli.flags, evaluate).await,
            Command::ExportCorrections { file } => corrections::export(cli.flags, &file).await,
            Command::Bench(bench) => self::bench::run(cli.flags, bench).await,
            Command::Keys(keys) => self::keys(cli.flags, keys).await,
            Command::Users(command) => users::run(cli.flags, command).await,
        }
    });
    match result {
        Ok(()) => done,
        Err(error) => {
            eprintln!("error: {error}");
            // 2 for what the user can put right, 1 for a fault.
            ExitCode::from(if error.is_users() { 2 } else { 1 })
        }
    }
}

/// One line on stdout. Whoever reads it may stop reading (`yingda ask ... | head`): that is no fault.
fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// `print` with a new line, by way of [`line`].
macro_rules! say {
    ($($text:tt)*) => { crate::cli::line(format_args!($($text)*)) };
}
pub(crate) use say;

fn wrong(sentence: String) -> StartError {
    ConfigError::Value(sentence).into()
}

/// Log lines go to stderr. `YINGDA_LOG` filters them, `YINGDA_LOG_FORMAT=json` is for collectors.
fn log(serving: bool) {
    // The embedded store warns of things that only its own server sets.
    let default = if serving { "info,qdrant_edge=error" } else { "warn,qdrant_edge=error" };
    let filter = match std::env::var("YINGDA_LOG") {
        Ok(text) if !text.trim().is_empty() => EnvFilter::try_new(&text).unwrap_or_else(|error| {
            eprintln!("warning: YINGDA_LOG is `{text}`, which is no filter ({error}); `{default}` is used");
            EnvFilter::new(default)
        }),
        _ => EnvFilter::new(default),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var("YINGDA_LOG_FORMAT").is_ok_and(|format| format == "json") {
        lines.json().init();
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

async fn serve(flags: Flags, serve: ServeFlags) -> Result<(), StartError> {
    let config = Config::load(flags, serve)?;
    yingda::serve(config, signal(), started).await
}

fn started(ready: &Ready) {
    let Ready { address, model, open, first_key } = ready;
    say!("应答已启动：http://{address}  模型 {}  知识 {} 条", model.model_id, model.knowledge_entries);
    if model.knowledge_entries == 0 {
        say!(
            "知识库还是空的：请用 yingda index 文件 发布知识，一秒内生效，不用重启；也可以在客服台的「知识」页导入并发布。"
        );
    }
    if *open {
        say!("免密钥试用模式：只接受本机访问。");
    }
    if let Some(key) = first_key {
        say!("首个管理员密钥（只显示这一次，请妥善保存）：{key}");
    }
}

/// Ctrl-C or, where there is such a thing, SIGTERM.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                return;
            }
            Err(error) => tracing::warn!(%error, "SIGTERM cannot be caught; stop with Ctrl-C"),
        }
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "Ctrl-C cannot be caught");
        std::future::pending::<()>().await;
    }
}

async fn index(flags: Flags, file: Option<PathBuf>) -> Result<(), StartError> {
    let config = Config::load(flags, ServeFlags::default())?;
    // First all that can be wrong in the file, then anything that changes something.
    let entries = file.as_deref().map(yingda::knowledge::read).transpose()?;
    if config.database_is_local() {
        yingda::data::make_folder(&config.data)
            .map_err(|source| yingda::data::DataError::Unusable { path: config.data.clone(), source })?;
    }
    // No lock on the data folder: store and database take their own, and a running service goes on meanwhile.
    let engine = Engine::open_to_index(config.engine()).await?;
    let storage = Storage::open(&config.database_url()).await?;
    let base = KnowledgeBase::new(engine.clone(), storage.clone());
    let model = engine.info().model_id;
    let (count, release, source) = match (entries, file) {
        (Some(entries), Some(file)) => {
            let begun = base.begin_replace(&entries, "yingda index", &file.display().to_string()).await?;
            let shown = Shown::new(entries.len(), "entries");
            let release = base.finish(begun, |done, _| shown.at(done)).await;
            shown.end();
            (entries.len(), release?.release, file.display().to_string())
        }
        _ => {
            let count = base.entries(false).await?.len();
            if count == 0 {
                return Err(wrong("nothing is published yet; name a knowledge file: yingda index FILE".to_owned()));
            }
            let begun = base.begin_refill("yingda index without a file").await?;
            let shown = Shown::new(count, "entries");
            let release = base.finish(begun, |done, _| shown.at(done)).await;
            shown.end();
            (count, release?.release, "the published knowledge".to_owned())
        }
    };
    let wordings = engine.contents().await?.map_or(0, |contents| contents.wordings);
    engine.close().await;
    storage.close().await;
    say!("indexed {count} entries ({wordings} wordings) of {source} as release {release} with model {model}");
    Ok(())
}

/// How far long work has come: a bar on a terminal, a line at every tenth elsewhere.
struct Shown {
    bar: Option<ProgressBar>,
    all: usize,
    noun: &'static str,
    tenths: AtomicUsize,
}

impl Shown {
    fn new(all: usize, noun: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(all as u64);
            if let Ok(style) = ProgressStyle::with_template(&format!("{{bar:32}} {{pos}}/{{len}} {noun}, {{eta}} left"))
            {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, all, noun, tenths: AtomicUsize::new(0) }
    }

    fn at(&self, done: usize) {
        match &self.bar {
            Some(bar) => bar.set_position(done as u64),
            None => {
                let tenth = done * 10 / self.all.max(1);
                if self.tenths.fetch_max(tenth, Ordering::Relaxed) < tenth {
                    eprintln!("{done} of {} {}", self.all, self.noun);
                }
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

async fn ask(flags: Flags, text: String, json: bool) -> Result<(), StartError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(wrong("the message is empty; say something such as: yingda ask \"怎么退货\"".to_owned()));
    }
    let config = Config::load(flags, ServeFlags::default())?;
    let _lock = lock_data(&config, false)?;
    let engine = open_engine(&config).await?;
    if let Some(rules) = yingda::rules::load(&config, &engine)? {
        engine.set_rules(rules);
    }
    let response = engine.respond(&Conversation::default(), text).await;
    let model = engine.info().model_id;
    engine.close().await;
    let response = response?;
    if json {
        say!("{:#}", as_json(&response, &model));
    } else {
        print(&response, &model);
    }
    Ok(())
}

fn as_json(response: &Response, model: &str) -> serde_json::Value {
    let (choices, reason, knowledge_id) = match &response.decision {
        Decision::Reply { knowledge_id, .. } => (None, None, knowledge_id.clone()),
        Decision::Clarify { choices, .. } => (Some(choices), None, None),
        Decision::OutOfScope { .. } | Decision::NoAnswer { .. } => (None, None, None),
        Decision::Escalate { reason, .. } => (None, Some(reason.as_str()), None),
    };
    serde_json::json!({
        "decision": response.decision.kind(),
        "reply": response.decision.text(),
        "choices": choices,
        "reason": reason,
        "knowledge_id": knowledge_id,
        "rule": response.rule,
        "flow": response.flow.flow,
        "intents": response.understanding.intents,
        "sentiment": response.understanding.sentiment,
        "matches": response.hits,
        "model": model,
        "timings": response.timings,
    })
}

fn print(response: &Response, model: &str) {
    let decision = match &response.decision {
        Decision::Reply { knowledge_id: Some(id), .. } => format!("reply ({id})"),
        Decision::Reply { knowledge_id: None, .. } => "reply".to_owned(),
        Decision::Clarify { .. } => "clarify".to_owned(),
        Decision::OutOfScope { .. } => "out of scope".to_owned(),
        Decision::NoAnswer { .. } => "no answer".to_owned(),
        Decision::Escalate { reason, detail, .. } => format!("escalate ({}: {detail})", reason.as_str()),
    };
    let by = [("rule", &response.rule), ("flow", &response.flow.flow)];
    let by: String = by.iter().filter_map(|(kind, id)| Some(format!(", {kind} {}", id.as_ref()?))).collect();
    say!("decision   {decision}{by}");
    say!("reply      {}", response.decision.text());
    if let Decision::Clarify { choices, .. } = &response.decision {
        for choice in choices {
            say!("           - {} [{}]", choice.question, choice.knowledge_id);
        }
    }
    let intents: Vec<String> = response
        .understanding
        .intents
        .iter()
        .take(5)
        .map(|intent| format!("{} {:.3}", intent.label, intent.probability))
        .collect();
    say!("intents    {}", intents.join("  "));
    let sentiment = &response.understanding.sentiment;
    say!(
        "sentiment  {} (negative {:.3}  neutral {:.3}  positive {:.3})",
        sentiment.label(),
        sentiment.negative,
        sentiment.neutral,
        sentiment.positive
    );
    for (index, hit) in response.hits.iter().enumerate() {
        let title = if index == 0 { "matches" } else { "" };
        say!("{title:<10} {:.3}  {} [{}] (cosine {:.3})", hit.probability, hit.question, hit.knowledge_id, hit.score);
    }
    let timings = &response.timings;
    say!(
        "time       {:.1} ms (model {:.1}, search {:.1})  model {model}",
        timings.total_ms,
        timings.model_ms,
        timings.search_ms
    );
}

/// Keys and people may be managed while the service runs: only the database is opened, not the data folder taken.
async fn open_database(flags: Flags) -> Result<Storage, StartError> {
    let config = Config::load_without_model(flags, ServeFlags::default())?;
    if config.database_is_local() {
        yingda::data::make_folder(&config.data)
            .map_err(|source| yingda::data::DataError::Unusable { path: config.data.clone(), source })?;
    }
    Ok(Storage::open(&config.database_url()).await?)
}

async fn keys(flags: Flags, command: Keys) -> Result<(), StartError> {
    let storage = open_database(flags).await?;
    match command {
        Keys::Create { role, name } => {
            let name = name.trim();
            if name.is_empty() || name.chars().count() > 128 || name.chars().any(char::is_control) {
                return Err(wrong("--name wants 1 to 128 characters, none of them a control character".to_owned()));
            }
            let (record, key) = auth::create_key(&storage, name, role).await?;
            say!("{key}");
            eprintln!("key {} with role {role} for {name}; keep it, it is not shown again", record.id);
        }
        Keys::List => {
            say!("{:<36}  {:<10}  {:<24}  {:<24}  name", "id", "role", "created", "revoked");
            for key in storage.keys().await? {
                let revoked = key.revoked_at.map_or_else(|| "-".to_owned(), rfc3339);
                say!(
                    "{:<36}  {:<10}  {:<24}  {revoked:<24}  {}",
                    key.id,
                    key.role.as_str(),
                    rfc3339(key.created_at),
                    key.name
                );
            }
        }
        Keys::Revoke { id } => {
            if !storage.revoke_key(&id).await? {
                return Err(wrong(format!("there is no key with the id `{id}`; see `yingda keys list`")));
            }
            say!("revoked {id}");
        }
    }
    storage.close().await;
    Ok(())
}
