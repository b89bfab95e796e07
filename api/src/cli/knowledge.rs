//! `yingda knowledge ...`: validate, convert and check knowledge files.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use yingda::StartError;
use yingda::config::{Config, Flags, ServeFlags};
use yingda::knowledge::check::{self, CheckSettings, Finding, FoundWording, Report};
use yingda::knowledge::{self, Counts, KnowledgeError};
use yingda::storage::Storage;
use yingda_engine::store::{Copied, ReplyStore as _, ServerSettings, Store};
use yingda_engine::{Engine, EngineConfig, StoreConfig};

use super::{Shown, line, wrong};

#[derive(Subcommand)]
pub(super) enum Knowledge {
    /// Say everything that is wrong with a knowledge file, or what is in it; nothing is changed
    ///
    /// Exit code 2 if anything is wrong.
    Validate {
        /// Knowledge file: .jsonl, .json, .csv, .xlsx or .md
        file: PathBuf,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a knowledge file in another form, the whole file or nothing
    Convert {
        /// Knowledge file: .jsonl, .json, .csv, .xlsx or .md
        from: PathBuf,
        /// File to write; the end of its name says the form
        to: PathBuf,
        /// Replace the file if it is there
        #[arg(long)]
        force: bool,
    },
    /// Copy a reply store, between this machine and a Qdrant server for instance; no model is needed
    ///
    /// What stands there is served on until all has arrived and is then replaced. An interrupted copy goes on where it was. In the
    /// end both are read and compared.
    Copy {
        /// Store to copy: a folder such as yingda-data/store, or http://HOST:6334
        #[arg(long, value_name = "STORE")]
        from: String,
        /// Store to write: a folder such as yingda-data/store, or http://HOST:6334
        #[arg(long, value_name = "STORE")]
        to: String,
        /// Collection of `--from`, where it is a server
        #[arg(long, default_value = "yingda", value_name = "NAME")]
        from_collection: String,
        /// Collection of `--to`, where it is a server
        #[arg(long, default_value = "yingda", value_name = "NAME")]
        to_collection: String,
        /// Print the outcome as JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for contradictions, misplaced wordings, and entries that are out of date or never used; needs a model
    ///
    /// Exit code 1 if anything is found. Use is looked up in the database, if there is one and it holds at least 1000 answers.
    Check {
        /// Knowledge file: .jsonl, .json, .csv, .xlsx or .md
        file: PathBuf,
        /// Two wordings are the same question from this cosine on [default: what follows from the model]
        #[arg(long, value_name = "COSINE")]
        same: Option<f32>,
        /// A wording is misplaced if its mean cosine to the nearest three of another entry is higher than to those of its own by
        /// more than this [default: what follows from the model]
        #[arg(long, value_name = "COSINE")]
        margin: Option<f32>,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(flags: Flags, command: Knowledge) -> Result<ExitCode, StartError> {
    match command {
        Knowledge::Validate { file, json } => validate(&file, json),
        Knowledge::Convert { from, to, force } => convert(&from, &to, force),
        Knowledge::Copy { from, to, from_collection, to_collection, json } => {
            let (from, to) = (place(&flags, from, from_collection), place(&flags, to, to_collection));
            copy(&from, &to, json).await
        }
        Knowledge::Check { file, same, margin, json } => {
            let settings = CheckSettings { same, margin, ..CheckSettings::default() };
            check(flags, &file, settings, json).await
        }
    }
}

fn validate(file: &Path, json: bool) -> Result<ExitCode, StartError> {
    let entries = match knowledge::read(file) {
        Err(KnowledgeError::Bad { path, problems }) if json => {
            line(format_args!("{:#}", json!({ "file": path, "problems": problems })));
            return Ok(ExitCode::from(2));
        }
        read => read?,
    };
    let counts = Counts::of(&entries);
    if json {
        line(format_args!("{:#}", json!({ "file": file, "problems": [], "counts": counts })));
        return Ok(ExitCode::SUCCESS);
    }
    let Counts { entries, wordings, intents, without_intent } = &counts;
    line(format_args!("{}: {entries} entries, {wordings} wordings, {} intents", file.display(), intents.len()));
    for (intent, count) in intents {
        line(format_args!("{count:>6}  {}", shown(intent)));
    }
    if *without_intent > 0 {
        line(format_args!("{without_intent:>6}  (no intent)"));
    }
    Ok(ExitCode::SUCCESS)
}

fn convert(from: &Path, to: &Path, force: bool) -> Result<ExitCode, StartError> {
    let entries = knowledge::read(from)?;
    knowledge::write(to, &entries, force)?;
    line(format_args!("wrote {} entries of {} to {}", entries.len(), from.display(), to.display()));
    Ok(ExitCode::SUCCESS)
}

/// A store by its address. Both servers get the key and the settings of this command.
fn place(flags: &Flags, address: String, collection: String) -> StoreConfig {
    if !address.starts_with("http://") && !address.starts_with("https://") {
        return StoreConfig::Edge { path: address.into() };
    }
    let settings =
        ServerSettings { shards: flags.qdrant_shards, copies: flags.qdrant_copies, ..ServerSettings::default() };
    StoreConfig::Server { url: address, api_key: flags.qdrant_api_key.clone(), collection, settings }
}

async fn copy(from: &StoreConfig, to: &StoreConfig, json: bool) -> Result<ExitCode, StartError> {
    if from == to {
        return Err(wrong("--from and --to are the same store; name two".to_owned()));
    }
    if let StoreConfig::Edge { path } = from
        && !path.is_dir()
    {
        return Err(wrong(format!("--from {} is no folder; name the folder `store` in a data folder", path.display())));
    }
    // What serves the target goes on with what it has until all has arrived.
    let (source, target) = (Store::open(from).await?, Store::open_to_write(to).await?);
    let wordings = source.contents().await?.map_or(0, |contents| contents.wordings);
    let (copying, comparing) = (Shown::new(wordings, "wordings copied"), Shown::new(wordings, "wordings compared"));
    let last = AtomicUsize::new(0);
    let compared = AtomicBool::new(false);
    let copied = source
        .copy_to(&target, |done, _| {
            // It counts twice from the beginning.
            if done < last.swap(done, Ordering::Relaxed) {
                copying.end();
                compared.store(true, Ordering::Relaxed);
            }
            if compared.load(Ordering::Relaxed) { comparing.at(done) } else { copying.at(done) }
        })
        .await;
    copying.end();
    comparing.end();
    let Copied { points, resumed, checksum, largest_difference } = copied?;
    if json {
        let outcome = json!({
            "wordings": points, "resumed": resumed, "checksum": checksum, "largest_difference": largest_difference,
        });
        line(format_args!("{outcome:#}"));
    } else {
        line(format_args!("copied {points} wordings ({resumed} of them by an earlier, interrupted copy)"));
        line(format_args!("both stores were read and are the same: checksum {checksum}"));
        line(format_args!("numbers of embeddings differ by {largest_difference:.1e} at most"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn check(flags: Flags, file: &Path, settings: CheckSettings, json: bool) -> Result<ExitCode, StartError> {
    for (name, value) in [("--same", settings.same), ("--margin", settings.margin)] {
        if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
            return Err(wrong(format!("{name} is a cosine from 0 to 1, but it is {value}")));
        }
    }
    let config = Config::load(flags, ServeFlags::default())?;
    let entries = knowledge::read(file)?;
    let wordings = check::wordings(&entries)?;
    let answers = answers(&config).await?;

    // An empty store of its own: the one that is served has nothing to do with this.
    let store = tempfile::tempdir().map_err(|error| {
        wrong(format!("no temporary folder can be made: {error}. Set TMPDIR to one that is writable"))
    })?;
    let store_config = StoreConfig::Edge { path: store.path().to_owned() };
    let engine = Engine::open(EngineConfig { store: store_config, ..config.engine() }).await?;
    let model = engine.info().model_id;
    let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(wordings.len() as u64));
    if let (Some(bar), Ok(style)) = (&bar, ProgressStyle::with_template("{bar:32} {pos}/{len} wordings, {eta} left")) {
        bar.set_style(style);
    }
    let progress = |done: usize| bar.iter().for_each(|bar| bar.set_position(done as u64));
    let embeddings = check::embed(&engine, &wordings, config.worker.queue.min(256), progress).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    engine.close().await;
    let Report { same, margin, findings } = check::find(&entries, &wordings, &embeddings?, answers.as_ref(), &settings);

    let total: Option<u64> = answers.map(|answers| answers.values().sum());
    if json {
        let report = json!({
            "file": file,
            "model": model,
            "entries": entries.len(),
            "wordings": wordings.len(),
            "answers": total,
            "same": same,
            "margin": margin,
            "findings": findings,
        });
        line(format_args!("{report:#}"));
    } else {
        print(&findings);
        let counts = format!(
            "{} entries, {} wordings, model {model}, same {same:.3}, margin {margin:.3}",
            entries.len(),
            wordings.len()
        );
        match findings.len() {
            0 => line(format_args!("nothing found: {counts}")),
            1 => line(format_args!("1 thing to look at: {counts}")),
            many => line(format_args!("{many} things to look at: {counts}")),
        }
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The bot's answers by entry, if there is a database. One is never made for this.
async fn answers(config: &Config) -> Result<Option<BTreeMap<String, u64>>, StartError> {
    if config.database_is_local() && !config.database_file().is_file() {
        return Ok(None);
    }
    let storage = Storage::open(&config.database_url()).await?;
    let answers = storage.answers_by_knowledge().await;
    storage.close().await;
    Ok(Some(answers?))
}

/// Findings come kind by kind.
fn print(findings: &[Finding]) {
    let mut title = "";
    for finding in findings {
        let (its_title, lines) = told(finding);
        if its_title != title {
            line(format_args!("{its_title}"));
            title = its_title;
        }
        for text in lines {
            line(format_args!("  {text}"));
        }
    }
}

fn told(finding: &Finding) -> (&'static str, Vec<String>) {
    let wording = |wording: &FoundWording| format!("{} [{}]", shown(&wording.text), shown(&wording.id));
    let entry = |id: &str, question: &str| format!("{} [{}]", shown(question), shown(id));
    match finding {
        Finding::DifferentAnswers { cosine, one, other } => (
            "The same question with different answers: keep it in one entry, or give both the same answer",
            vec![format!("{cosine:.3}  {}", wording(one)), format!("       {}", wording(other))],
        ),
        Finding::NearerToAnother { wording: stray, own_cosine, own, other_cosine, other } => (
            "Wordings that lie nearer to another entry than to their own: move them, or word them more clearly",
            vec![
                wording(stray),
                format!("  {other_cosine:.3}  {}", wording(other)),
                format!("  {own_cosine:.3}  {} (its own)", shown(own)),
            ],
        ),
        Finding::Expired { id, question, valid_to } => {
            ("Expired: remove them, or write a later last day", vec![format!("{valid_to}  {}", entry(id, question))])
        }
        Finding::NotValidYet { id, question, valid_from } => (
            "Not valid yet: nothing answers these until their first day",
            vec![format!("{valid_from}  {}", entry(id, question))],
        ),
        Finding::NeverUsed { id, question } => (
            "Never used as an answer: no customer asks this, or its wordings are not what customers write",
            vec![entry(id, question)],
        ),
    }
}

/// A text of the file on one line, with nothing in it that a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
