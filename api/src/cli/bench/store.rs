//! `bench store`: what the reply store costs as it grows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use yingda::config::{Config, Flags, SAMPLE_KNOWLEDGE, ServeFlags};
use yingda::{StartError, knowledge};
use yingda_engine::store::{Method, SearchQuery, StoreConfig};
use yingda_engine::{Engine, EngineError, KnowledgeEntry};

use crate::cli::{Shown, say, wrong};

/// What `bench store` is asked.
#[derive(Args)]
pub(in crate::cli) struct StoreFlags {
    /// Entries, each with one wording
    #[arg(long, default_value_t = 1_000)]
    entries: usize,
    /// Knowledge file whose wordings the made-up ones resemble
    #[arg(long, value_name = "FILE", default_value = SAMPLE_KNOWLEDGE)]
    like: PathBuf,
    /// Questions that recall is measured with
    #[arg(long, default_value_t = 200)]
    questions: usize,
    /// How long latency is measured, each way
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Callers at once
    #[arg(long, default_value_t = 16)]
    callers: usize,
    /// Entries a second that are changed and published while latency is measured again; 0: none
    #[arg(long, default_value_t = 100)]
    writes: usize,
    /// Seed of the made-up texts
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Measure the store that an earlier run filled
    #[arg(long)]
    filled: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// What searching costs. Times are in milliseconds, sizes in MiB.
#[derive(Debug, Serialize, Deserialize)]
struct Searched {
    /// From nothing to the first answer, the model included.
    open_ms: f64,
    /// Resident memory when nothing was asked yet, of which the model is a part.
    opened_mib: f64,
    /// Resident memory after all searches but the exact ones that recall is measured by, which read every vector; and the part of
    /// it that no file backs.
    resident_mib: f64,
    anonymous_mib: f64,
    /// Share of the ten nearest by exact search that the search graph finds.
    recall_at_10: f64,
    /// Latency of a hybrid search when each question is asked for the first time, and the files are read with it.
    first: Latency,
    /// Latency one at a time, and with callers at once, when all have been asked before.
    alone: Latency,
    together: Latency,
    /// The same while entries are written; nothing when none are.
    writing: Option<Writing>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Writing {
    alone: Latency,
    together: Latency,
    /// Entries that were published.
    per_second: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    per_second: f64,
    /// Searches that the store did not answer, or not within its deadline; they count for as long as they took.
    given_up: usize,
}

pub(super) async fn run(flags: Flags, store: StoreFlags) -> Result<(), StartError> {
    if store.entries == 0 || store.questions == 0 || store.callers == 0 || store.seconds == 0 {
        return Err(wrong("--entries, --questions, --callers and --seconds want at least 1".to_owned()));
    }
    let config = Config::load(flags, ServeFlags::default())?;
    if store.filled { measure(&config, &store).await } else { fill(&config, &store).await }
}

/// Fills the store, then has another process measure it: memory of the filling must not count.
async fn fill(config: &Config, flags: &StoreFlags) -> Result<(), StartError> {
    let folder = &config.data;
    if folder.read_dir().is_ok_and(|mut files| files.next().is_some()) {
        return Err(wrong(format!(
            "{} is not empty; name a new folder with --data, or measure what is there with --filled",
            folder.display()
        )));
    }
    let entries = made_up(&flags.like, flags.seed, 0)?
        .take(flags.entries)
        .enumerate()
        .map(|(number, question)| KnowledgeEntry {
            id: format!("made-up-{number:07}"),
            answer: format!("答：{question}"),
            question,
            ..KnowledgeEntry::default()
        })
        .collect();
    let started = Instant::now();
    let engine = Engine::open_to_index(config.engine()).await?;
    let shown = Shown::new(flags.entries, "entries");
    engine.index(entries, 1, |done, _| shown.at(done)).await?;
    shown.end();
    engine.close().await;
    drop(engine);
    let built = started.elapsed();
    let program = std::env::current_exe().map_err(|error| wrong(format!("this program cannot be started: {error}")))?;
    let mut measuring = std::process::Command::new(program);
    measuring.args(std::env::args_os().skip(1)).arg("--filled");
    if !flags.json {
        measuring.arg("--json");
    }
    let output = measuring
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| wrong(format!("the measuring process cannot be started: {error}")))?;
    let searched: Searched = serde_json::from_slice(&output.stdout)
        .map_err(|_| wrong("the measuring process failed; what it said stands above".to_owned()))?;
    // A server's disk cannot be seen from here.
    let here = matches!(config.store, StoreConfig::Edge { .. });
    let disk_mib = here.then(|| disk_bytes(folder) as f64 / f64::from(1 << 20));
    if flags.json {
        let build_seconds = built.as_secs_f64();
        let outcome = serde_json::json!({
            "entries": flags.entries, "build_seconds": build_seconds, "disk_mib": disk_mib, "searched": searched,
        });
        say!("{outcome:#}");
    } else {
        let disk = disk_mib.map_or_else(String::new, |disk| format!(", {disk:.0} MiB on disk"));
        say!("{} entries: built in {:.1} s{disk}", flags.entries, built.as_secs_f64());
        print(&searched, flags);
    }
    Ok(())
}

async fn measure(config: &Config, flags: &StoreFlags) -> Result<(), StartError> {
    let questions: Vec<String> = made_up(&flags.like, flags.seed, 1)?.take(flags.questions.max(500)).collect();
    let started = Instant::now();
    let engine = Engine::open(config.engine()).await?;
    engine.search(&questions[0], 10).await?;
    let open_ms = milliseconds(started.elapsed());
    let opened_mib = status_mib("VmRSS");
    // As the service does some seconds after a release.
    if engine.may_forget() {
        engine.forget().await?;
    }
    let mut asked = Vec::with_capacity(questions.len());
    for text in &questions {
        let understood = engine.understand(vec![text.clone()]).await?;
        asked.extend(understood.iter().map(|understanding| engine.query(understanding, text, Method::Fused)));
    }
    let first = first_time(&engine, &asked).await?;
    let alone = latency(&engine, &asked, 1, flags.seconds).await?;
    let together = latency(&engine, &asked, flags.callers, flags.seconds).await?;
    let writing = if flags.writes > 0 { Some(while_writing(&engine, &asked, flags).await?) } else { None };
    let (resident_mib, anonymous_mib) = (status_mib("VmRSS"), status_mib("RssAnon"));
    let recall_at_10 = recall(&engine, &asked[..flags.questions]).await?;
    engine.close().await;
    let searched =
        Searched { open_ms, opened_mib, resident_mib, anonymous_mib, recall_at_10, first, alone, together, writing };
    if flags.json {
        say!("{}", serde_json::to_string_pretty(&searched).expect("plain data is always JSON"));
    } else {
        print(&searched, flags);
    }
    Ok(())
}

fn print(searched: &Searched, flags: &StoreFlags) {
    let Searched { open_ms, opened_mib, resident_mib, anonymous_mib, recall_at_10, first, alone, together, writing } =
        searched;
    say!(
        "open and answer once {open_ms:.0} ms; resident {opened_mib:.0} MiB then, {resident_mib:.0} MiB at the end ({anonymous_mib:.0} MiB without files)"
    );
    say!("recall@10 against exact search {recall_at_10:.4} over {} questions", flags.questions);
    let callers = format!("{} callers", flags.callers);
    let mut lines = vec![
        ("for the first time".to_owned(), first),
        ("one at a time".to_owned(), alone),
        (callers.clone(), together),
    ];
    if let Some(Writing { alone, together, per_second }) = writing {
        say!("while writing: {per_second:.0} entries a second were published");
        lines.extend([("one, writing".to_owned(), alone), (format!("{callers}, writing"), together)]);
    }
    for (name, Latency { p50_ms, p99_ms, per_second, given_up }) in lines {
        let given_up = if *given_up == 0 { String::new() } else { format!("   {given_up} given up") };
        say!("{name:<20} p50 {p50_ms:>7.2} ms   p99 {p99_ms:>7.2} ms   {per_second:>7.0} a second{given_up}");
    }
}

/// Of the ten nearest by embedding, how many the approximate search finds.
async fn recall(engine: &Engine, asked: &[SearchQuery]) -> Result<f64, StartError> {
    let (mut found, mut all) = (0usize, 0usize);
    for query in asked {
        let near = SearchQuery { method: Method::Dense, ..query.clone() };
        let ten = async |query: &SearchQuery| {
            let candidates = engine.candidates(query, 10).await?;
            Ok::<_, StartError>(
                candidates.into_iter().take(10).map(|candidate| candidate.knowledge_id).collect::<Vec<_>>(),
            )
        };
        let exact = ten(&SearchQuery { exact: true, ..near.clone() }).await?;
        let approximate = ten(&near).await?;
        all += exact.len();
        found += exact.iter().filter(|id| approximate.contains(id)).count();
    }
    Ok(found as f64 / all.max(1) as f64)
}

/// Each question once, one after the other.
async fn first_time(engine: &Engine, asked: &[SearchQuery]) -> Result<Latency, StartError> {
    let (started, mut searches) = (Instant::now(), Vec::with_capacity(asked.len()));
    for query in asked {
        searches.push(timed(engine, query).await?);
    }
    Ok(Latency::of(&searches, started.elapsed()))
}

/// How long a search took, and whether it was answered.
struct Timed {
    milliseconds: f64,
    answered: bool,
}

async fn timed(engine: &Engine, query: &SearchQuery) -> Result<Timed, StartError> {
    let started = Instant::now();
    let answered = match engine.candidates(query, 10).await {
        Ok(_) => true,
        Err(EngineError::Store { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(Timed { milliseconds: milliseconds(started.elapsed()), answered })
}

/// Hybrid searches by `callers` at once, each the next when the last is answered.
async fn latency(engine: &Engine, asked: &[SearchQuery], callers: usize, seconds: u64) -> Result<Latency, StartError> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut running = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let (engine, asked) = (engine.clone(), asked.to_vec());
        running.spawn(async move {
            let mut searches = Vec::new();
            for query in asked.iter().cycle().skip(caller * 31) {
                if Instant::now() >= until {
                    break;
                }
                searches.push(timed(&engine, query).await?);
            }
            Ok::<_, StartError>(searches)
        });
    }
    let mut searches = Vec::new();
    while let Some(done) = running.join_next().await {
        searches.extend(done.map_err(|error| wrong(format!("a caller stopped: {error}")))??);
    }
    Ok(Latency::of(&searches, Duration::from_secs(seconds)))
}

impl Latency {
    fn of(searches: &[Timed], within: Duration) -> Self {
        let mut times: Vec<f64> = searches.iter().map(|search| search.milliseconds).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        let answered = searches.iter().filter(|search| search.answered).count();
        Self {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            per_second: answered as f64 / within.as_secs_f64(),
            given_up: searches.len() - answered,
        }
    }
}

/// The same latencies while entries are changed and published, a release a second.
async fn while_writing(engine: &Engine, asked: &[SearchQuery], flags: &StoreFlags) -> Result<Writing, StartError> {
    let mut texts = made_up(&flags.like, flags.seed, 2)?;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (engine, stop) = (engine.clone(), Arc::clone(&stop));
        let (writes, entries) = (flags.writes, flags.entries);
        let mut changed: Vec<KnowledgeEntry> = Vec::new();
        let batches: Vec<Vec<String>> =
            (0..4 * flags.seconds + 60).map(|_| texts.by_ref().take(writes).collect()).collect();
        async move {
            let release = engine.contents().await?.map_or(0, |contents| contents.release);
            let (started, mut written) = (Instant::now(), 0);
            let mut ticks = tokio::time::interval(Duration::from_secs(1));
            for (number, batch) in batches.into_iter().enumerate() {
                ticks.tick().await;
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                changed.clear();
                changed.extend(batch.into_iter().enumerate().map(|(at, question)| KnowledgeEntry {
                    id: format!("made-up-{:07}", (number * writes + at) % entries),
                    answer: format!("答：{question}"),
                    question,
                    ..KnowledgeEntry::default()
                }));
                engine.publish(release + 1 + number as i64, &changed, &[], (entries, entries), |_, _| {}).await?;
                written += changed.len();
            }
            Ok::<_, StartError>(written as f64 / started.elapsed().as_secs_f64())
        }
    });
    let alone = latency(engine, asked, 1, flags.seconds).await?;
    let together = latency(engine, asked, flags.callers, flags.seconds).await?;
    stop.store(true, Ordering::Relaxed);
    let per_second = writer.await.map_err(|error| wrong(format!("the writer stopped: {error}")))??;
    Ok(Writing { alone, together, per_second })
}

/// Texts whose characters follow each other as in the wordings of a knowledge file; endless, the same for the same seed.
pub(super) fn made_up(like: &Path, seed: u64, stream: u64) -> Result<impl Iterator<Item = String> + use<>, StartError> {
    let entries = knowledge::read(like)?;
    let mut after: std::collections::BTreeMap<Option<char>, Vec<char>> = std::collections::BTreeMap::new();
    for wording in entries.iter().flat_map(|entry| std::iter::once(&entry.question).chain(&entry.similar_questions)) {
        let mut last = None;
        for character in wording.chars() {
            after.entry(last).or_default().push(character);
            last = Some(character);
        }
    }
    let mut random = StdRng::seed_from_u64(seed ^ (stream << 32));
    Ok(std::iter::from_fn(move || {
        let length = random.random_range(6..=24);
        let (mut text, mut last) = (String::new(), None);
        for _ in 0..length {
            let next = after.get(&last).or_else(|| after.get(&None))?;
            let character = next[random.random_range(0..next.len())];
            text.push(character);
            last = Some(character);
        }
        Some(text)
    }))
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A line of this process's status, in MiB; 0 where there is no such thing.
fn status_mib(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|number| number.parse::<f64>().ok());
    kibibytes.unwrap_or_default() / 1024.0
}

fn disk_bytes(folder: &Path) -> u64 {
    let Ok(files) = folder.read_dir() else { return 0 };
    files
        .flatten()
        .map(|file| match file.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&file.path()),
            #[cfg(unix)]
            Ok(metadata) => std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
            #[cfg(not(unix))]
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
