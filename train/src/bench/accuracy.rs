//! How well models do on the tasks that `bench/prepare.py` makes, beside TF-IDF, BM25 and a random start.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use candle_core::Device;
use clap::{Args, Parser};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use yingda_models::{Encoded, Labels, ModelFolder, MultiTaskModel, SENTIMENTS, TextTokenizer, text::TextContract};

use super::peer;
use crate::{
    TrainError, eval,
    fit::{FitConfig, FitSummary, write_json},
    metrics::TaskScores,
    output,
    pretrain::area_under_curve,
    retrieval, runs,
    statistics::{Tally, mean_and_deviation},
};

const MARKER: &str = "accuracy.json";
/// Longest text in tokens, where the base has as many positions.
const MAX_TOKENS: usize = 96;
/// What `fit` is called with for each task, beside its data. Context, epochs and rate of the JD tasks were chosen among a few on the
/// folds that are scored, so their figures flatter a little: acts gain by a context, satisfaction loses. Averaging was compared on
/// `assistant`. Nothing else was searched for.
const RECIPES: [(&str, &str); 7] = [
    ("securities-300", "--epochs 8 --learning-rate 3e-4 --average-epochs 2"),
    ("jd-acts", "--epochs 10 --learning-rate 2e-4 --average-epochs 3 --context-turns 4"),
    ("jd-acts-other", "--epochs 4 --learning-rate 2e-4 --average-epochs 2 --context-turns 4"),
    ("jd-satisfaction", "--epochs 6 --learning-rate 1e-4 --average-epochs 3"),
    ("assistant", "--epochs 15 --learning-rate 3e-4 --average-epochs 3"),
    ("reviews", "--epochs 3 --learning-rate 2e-4 --average-epochs 2"),
    ("car", "--epochs 5 --learning-rate 2e-4 --average-epochs 2"),
];

/// Flags of `bench accuracy`.
#[derive(Args, Clone, Debug)]
pub struct AccuracyFlags {
    /// Folder that `bench/prepare.py` filled
    #[arg(long, value_name = "FOLDER")]
    pub tasks: PathBuf,
    /// Base model to fine-tune and to embed with
    #[arg(long, value_name = "FOLDER")]
    pub base: PathBuf,
    /// Runs of each task, with --seed and the numbers after it
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 20_260_101)]
    pub seed: u64,
    /// Only these tasks
    #[arg(long, num_args = 1.., value_name = "TASK")]
    pub only: Vec<String>,
    /// Also fit the same architecture from a random start
    #[arg(long)]
    pub random: bool,
    /// At most so many epochs, for a quick look
    #[arg(long)]
    pub epochs: Option<usize>,
    /// A Python interpreter with what bench/requirements.txt names, to measure TF-IDF and BM25 as well
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<PathBuf>,
    /// Folder of the peers' scripts
    #[arg(long, default_value = "bench", value_name = "FOLDER")]
    pub scripts: PathBuf,
    /// Folder for the results; the same command goes on where it stopped
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Who did a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The base model, fine-tuned on the task.
    Fitted,
    /// The base model as it is.
    Base,
    /// The same architecture from a random start, trained on the task.
    Random,
    /// TF-IDF with logistic regression, or its cosine.
    TfIdf,
    /// BM25.
    Bm25,
}

const METHODS: [(Method, &str); 5] = [
    (Method::Fitted, "base, fitted"),
    (Method::Base, "base as it is"),
    (Method::Random, "random, fitted"),
    (Method::TfIdf, "TF-IDF"),
    (Method::Bm25, "BM25"),
];

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// The task.
    pub task: String,
    /// What was counted, such as `macro-F1`; more is better.
    pub measure: String,
    /// By whom.
    pub method: Method,
    /// Mean over the seeds, of means over the folds.
    pub mean: f64,
    /// Sample standard deviation over the seeds, from two on.
    pub standard_deviation: Option<f64>,
}

#[derive(Deserialize)]
struct Task {
    kind: String,
    label: Option<String>,
    #[serde(default)]
    splits: Vec<Split>,
    index: Option<PathBuf>,
    queries: Option<PathBuf>,
    test: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Split {
    train: PathBuf,
    test: PathBuf,
}

/// What one run of `fit` gave.
#[derive(Serialize, Deserialize)]
struct Outcome {
    /// SHA-256 of the base's weights; empty for a random start.
    base: String,
    config: FitConfig,
    /// Rows by label and prediction.
    confusion: Vec<(String, String, usize)>,
    /// Of the task of retrieval that shares the data.
    retrieval: Option<Ranks>,
    seconds: f64,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Ranks {
    recall_at_1: f64,
    recall_at_10: f64,
    mrr_at_10: f64,
}

impl Ranks {
    fn named(self) -> [(&'static str, f64); 3] {
        [("R@1", self.recall_at_1), ("R@10", self.recall_at_10), ("MRR@10", self.mrr_at_10)]
    }
}

/// `FitConfig` with the defaults of the command line.
#[derive(Parser)]
struct Recipe {
    #[command(flatten)]
    fit: FitConfig,
}

/// Rows of a TSV file without its header.
type Rows = Vec<Vec<String>>;

/// Scores on the tasks, ours first. Runs that are done are not repeated.
///
/// # Errors
/// Those of [`fit`](crate::fit::fit); also when the folder of tasks is not whole, or the peer cannot be run.
pub fn accuracy(flags: &AccuracyFlags, stop: &AtomicBool) -> Result<Vec<Accuracy>, TrainError> {
    let path = flags.tasks.join("tasks.json");
    let text = std::fs::read(&path).map_err(TrainError::io("read", &path))?;
    let usage = |what: String| TrainError::Usage(format!("{}: {what}; fill it with bench/prepare.py", path.display()));
    let mut tasks: BTreeMap<String, Task> = serde_json::from_slice(&text).map_err(|error| usage(error.to_string()))?;
    tasks.retain(|_, task| match task.kind.as_str() {
        "classification" | "retrieval" => true,
        "pairs" => task.test.is_some(),
        _ => false,
    });
    if let Some(unknown) = flags.only.iter().find(|name| !tasks.contains_key(*name)) {
        let known: Vec<&str> = tasks.keys().map(String::as_str).collect();
        return Err(TrainError::Usage(format!("--only {unknown}: no such task; there are {}", known.join(", "))));
    }
    if flags.seeds == 0 || flags.epochs == Some(0) {
        return Err(TrainError::Usage("--seeds and --epochs must be at least 1".into()));
    }
    let wanted = |name: &str| flags.only.is_empty() || flags.only.iter().any(|only| only == name);
    runs::claim(&flags.out, MARKER, "yingda-train bench accuracy")?;
    let marker = flags.out.join(MARKER);
    if !marker.exists() {
        write_json(&marker, &Vec::<Accuracy>::new())?;
    }

    let base = BaseModel::open(&flags.base)?;
    let mut found = Vec::new();
    for (name, task) in tasks.iter().filter(|(name, _)| wanted(name)) {
        match task.kind.as_str() {
            "classification" => found.extend(classification(flags, &base, name, task, &tasks, stop)?),
            "retrieval" => {
                let (index, queries) = (table_of(flags, &task.index, 2)?, table_of(flags, &task.queries, 2)?);
                let ranks = ranks(&base.model, &base.tokenizer, &index, &queries)?;
                found.extend(figures(name, Method::Base, &[ranks.named().to_vec()]));
            }
            _ => {
                let area = pair_area(&base, &table_of(flags, &task.test, 3)?)?;
                found.extend(figures(name, Method::Base, &[vec![("AUC", area)]]));
            }
        }
    }
    // What is fitted on the intents of a knowledge base is also asked for its entries.
    found.retain(|figure| wanted(&figure.task));
    if let Some(python) = &flags.python {
        let names: Vec<&str> = tasks.keys().map(String::as_str).filter(|name| wanted(name)).collect();
        found.extend(peers(flags, python, &names)?);
    }
    write_json(&marker, &found)?;
    Ok(found)
}

/// A base model with its tokenizer, to embed with.
struct BaseModel {
    model: MultiTaskModel,
    tokenizer: TextTokenizer,
    digest: String,
}

impl BaseModel {
    fn open(folder: &Path) -> Result<Self, TrainError> {
        let labels = Labels { intents: vec!["none".into()], sentiments: SENTIMENTS.map(str::to_owned).to_vec() };
        let (model, _) = MultiTaskModel::from_base(folder, &labels, None, 0, &Device::Cpu)?;
        let max_tokens = model.encoder().config().max_position_embeddings.min(MAX_TOKENS);
        let tokenizer = TextTokenizer::load(folder, TextContract::default(), max_tokens)?;
        let mut digest = Sha256::new();
        // With one seed the heads are always drawn alike.
        for (name, variable) in model.variables() {
            digest.update(name);
            let values = variable.as_tensor().flatten_all()?.to_vec1::<f32>()?;
            values.iter().for_each(|value| digest.update(value.to_le_bytes()));
        }
        let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { model, tokenizer, digest })
    }
}

fn classification(
    flags: &AccuracyFlags,
    base: &BaseModel,
    name: &str,
    task: &Task,
    tasks: &BTreeMap<String, Task>,
    stop: &AtomicBool,
) -> Result<Vec<Accuracy>, TrainError> {
    // A task of retrieval over the same data: its index becomes the knowledge whose wordings train the embedding.
    let folder = task.splits.first().and_then(|split| split.train.parent());
    let search = tasks.iter().find(|(_, task)| task.index.as_deref().and_then(Path::parent) == folder);
    let knowledge = match search {
        Some((_, search)) => Some(write_knowledge(flags, &table_of(flags, &search.index, 2)?, name)?),
        None => None,
    };
    let mut found = Vec::new();
    for (method, of) in [(Method::Fitted, Some(base)), (Method::Random, None)] {
        if method == Method::Random && !flags.random {
            continue;
        }
        let (mut scores, mut ranked) = (Vec::new(), Vec::new());
        for seed in (0..flags.seeds).map(|more| flags.seed.wrapping_add(more)) {
            let mut outcomes = Vec::new();
            for (fold, split) in task.splits.iter().enumerate() {
                let config = config(flags, name, split, of, knowledge.as_deref(), seed)?;
                let kind = if of.is_some() { "base" } else { "random" };
                let run = format!("{name}-{kind}-seed-{seed}-fold-{fold}");
                let search = search.map(|(_, search)| search);
                outcomes.push(outcome(flags, &run, config, of, task, search, stop)?);
            }
            let folds: Vec<_> = outcomes.iter().map(|outcome| tally(&outcome.confusion)).collect();
            let mean = |of: &dyn Fn(&Tally) -> f64| folds.iter().map(of).sum::<f64>() / folds.len() as f64;
            let mut row = vec![("accuracy", mean(&Tally::accuracy)), ("macro-F1", mean(&Tally::macro_f1))];
            if folds.len() > 1 {
                let all: Vec<_> = outcomes.iter().flat_map(|outcome| outcome.confusion.clone()).collect();
                row.push(("macro-F1 pooled", tally(&all).macro_f1()));
            }
            scores.push(row);
            ranked.extend(outcomes.iter().filter_map(|outcome| outcome.retrieval).map(|ranks| ranks.named().to_vec()));
        }
        found.extend(figures(name, method, &scores));
        if let Some((search, _)) = search {
            found.extend(figures(search, method, &ranked));
        }
    }
    Ok(found)
}

/// The settings of one run, of the same flags as a person would give.
fn config(
    flags: &AccuracyFlags,
    task: &str,
    split: &Split,
    base: Option<&BaseModel>,
    knowledge: Option<&Path>,
    seed: u64,
) -> Result<FitConfig, TrainError> {
    let recipe = RECIPES.iter().find(|(name, _)| *name == task).map_or("", |(_, recipe)| recipe);
    let mut config = Recipe::try_parse_from(["fit", "--data", "unset"].into_iter().chain(recipe.split_whitespace()))
        .map_err(|error| TrainError::Usage(error.to_string()))?
        .fit;
    config.data = vec![flags.tasks.join(&split.train)];
    config.test = vec![flags.tasks.join(&split.test)];
    config.knowledge = knowledge.map(Path::to_owned).into_iter().collect();
    config.seed = seed;
    config.epochs = flags.epochs.map_or(config.epochs, |most| most.min(config.epochs));
    config.max_tokens = MAX_TOKENS;
    if let Some(base) = base {
        config.base = Some(flags.base.display().to_string());
        config.max_tokens = base.tokenizer.max_tokens();
    } else {
        // The rate that `fit` has for a fresh encoder.
        config.learning_rate = None;
    }
    Ok(config)
}

/// One run of `fit` and what it gave; read back when it was done before. Of the run only this stays.
fn outcome(
    flags: &AccuracyFlags,
    name: &str,
    config: FitConfig,
    base: Option<&BaseModel>,
    task: &Task,
    search: Option<&Task>,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let path = flags.out.join(format!("{name}.json"));
    let base = base.map_or(String::new(), |base| base.digest.clone());
    if let Ok(text) = std::fs::read(&path) {
        let outcome: Outcome = serde_json::from_slice(&text).map_err(|error| {
            TrainError::Usage(format!("{} is damaged ({error}); remove it to run its run again", path.display()))
        })?;
        if outcome.config == config && outcome.base == base {
            return Ok(outcome);
        }
        return Err(TrainError::Usage(format!(
            "{} is of other settings or another base; name a new --out, or remove it to run its run again",
            path.display()
        )));
    }
    output::line(&format!("run {name}"));
    let started = Instant::now();
    let run = flags.out.join(name);
    let summary = runs::fit_to_the_end(&config, &run, stop)?;
    let confusion = confusion(&summary, task)?;
    let retrieval = match search {
        None => None,
        Some(search) => {
            let fitted = ModelFolder::open(&summary.model, &Device::Cpu, false)?;
            let (index, queries) = (table_of(flags, &search.index, 2)?, table_of(flags, &search.queries, 2)?);
            Some(ranks(&fitted.model, &fitted.tokenizer, &index, &queries)?)
        }
    };
    let outcome = Outcome { base, config, confusion, retrieval, seconds: started.elapsed().as_secs_f64() };
    write_json(&path, &outcome)?;
    std::fs::remove_dir_all(&run).map_err(TrainError::io("remove", &run))?;
    Ok(outcome)
}

fn confusion(summary: &FitSummary, task: &Task) -> Result<Vec<(String, String, usize)>, TrainError> {
    let scores: Option<&TaskScores> = if task.label.as_deref() == Some("intent") {
        summary.test.intent.as_ref()
    } else {
        summary.test.sentiment.as_ref()
    };
    let scores =
        scores.ok_or_else(|| TrainError::Usage("the test rows of a task have no label that training knows".into()))?;
    let label = |class: usize| scores.classes[class].label.clone();
    let mut found = Vec::new();
    for (gold, row) in scores.confusion.iter().enumerate() {
        let said = row.iter().enumerate().filter(|(_, count)| **count > 0);
        found.extend(said.map(|(predicted, count)| (label(gold), label(predicted), *count)));
    }
    Ok(found)
}

fn tally(confusion: &[(String, String, usize)]) -> Tally {
    let labels: BTreeSet<&str> = confusion.iter().flat_map(|(gold, said, _)| [gold.as_str(), said.as_str()]).collect();
    let place: BTreeMap<&str, usize> = labels.into_iter().enumerate().map(|(place, label)| (label, place)).collect();
    let rows = confusion
        .iter()
        .flat_map(|(gold, said, count)| std::iter::repeat_n((place[gold.as_str()], place[said.as_str()]), *count));
    Tally::of(place.len(), rows)
}

/// Mean and deviation of every measure; each of `runs` has the same ones.
fn figures(task: &str, method: Method, runs: &[Vec<(&str, f64)>]) -> Vec<Accuracy> {
    let Some(first) = runs.first() else { return Vec::new() };
    let figure = |(place, (measure, _)): (usize, &(&str, f64))| {
        let values: Vec<f64> = runs.iter().map(|run| run[place].1).collect();
        let (mean, standard_deviation) = mean_and_deviation(&values);
        let mean = mean.unwrap_or_default();
        Accuracy { task: task.to_owned(), measure: (*measure).to_owned(), method, mean, standard_deviation }
    };
    first.iter().enumerate().map(figure).collect()
}

/// The index of a task of retrieval as knowledge: the first text of an entry is its question.
fn write_knowledge(flags: &AccuracyFlags, index: &Rows, name: &str) -> Result<PathBuf, TrainError> {
    let mut entries: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in index {
        entries.entry(&row[0]).or_default().push(&row[1]);
    }
    let lines: Vec<Value> = entries
        .iter()
        .map(|(id, texts)| {
            serde_json::json!({"id": id, "question": texts[0], "similar_questions": texts[1..], "answer": texts[0]})
        })
        .collect();
    let path = flags.out.join(format!("{name}-knowledge.jsonl"));
    eval::write_lines(&path, &lines)?;
    Ok(path)
}

fn table_of(flags: &AccuracyFlags, file: &Option<PathBuf>, cells: usize) -> Result<Rows, TrainError> {
    let path = flags.tasks.join(file.as_deref().unwrap_or(Path::new("")));
    let text = std::fs::read_to_string(&path).map_err(TrainError::io("read", &path))?;
    let mut rows = Rows::new();
    for (number, line) in text.split('\n').enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
        let row: Vec<String> = line.split('\t').map(str::to_owned).collect();
        if row.len() != cells {
            return Err(TrainError::Usage(format!(
                "{}, line {}: {} cells instead of {cells}; fill the folder again with bench/prepare.py",
                path.display(),
                number + 1,
                row.len()
            )));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn embed<'a>(
    model: &MultiTaskModel,
    tokenizer: &TextTokenizer,
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let texts: Vec<Encoded> = texts.map(|text| Ok(tokenizer.encode(text)?)).collect::<Result<_, TrainError>>()?;
    eval::embed(model, &texts.iter().collect::<Vec<_>>())
}

/// An entry ranks as its best text does.
fn ranks(model: &MultiTaskModel, tokenizer: &TextTokenizer, index: &Rows, queries: &Rows) -> Result<Ranks, TrainError> {
    let names: BTreeSet<&str> = index.iter().map(|row| row[0].as_str()).collect();
    let place: BTreeMap<&str, usize> = names.into_iter().enumerate().map(|(place, name)| (name, place)).collect();
    let vectors = |rows: &Rows| embed(model, tokenizer, rows.iter().map(|row| row[1].as_str()));
    let index: Vec<(usize, Vec<f32>)> = index.iter().map(|row| place[row[0].as_str()]).zip(vectors(index)?).collect();
    let mut sum = Ranks::default();
    for (row, query) in queries.iter().zip(vectors(queries)?) {
        let right = place.get(row[0].as_str());
        let ranked = retrieval::rank(&query, &index);
        let Some(rank) = ranked.iter().position(|(entry, _)| Some(entry) == right) else { continue };
        sum.recall_at_1 += f64::from(u8::from(rank == 0));
        if rank < 10 {
            sum.recall_at_10 += 1.0;
            sum.mrr_at_10 += 1.0 / (rank + 1) as f64;
        }
    }
    let share = 1.0 / queries.len().max(1) as f64;
    Ok(Ranks {
        recall_at_1: sum.recall_at_1 * share,
        recall_at_10: sum.recall_at_10 * share,
        mrr_at_10: sum.mrr_at_10 * share,
    })
}

fn pair_area(base: &BaseModel, pairs: &Rows) -> Result<f64, TrainError> {
    let side = |side: usize| embed(&base.model, &base.tokenizer, pairs.iter().map(move |row| row[side].as_str()));
    let scored: Vec<(f32, bool)> = side(0)?
        .iter()
        .zip(side(1)?)
        .zip(pairs)
        .map(|((left, right), row)| (left.iter().zip(&right).map(|(a, b)| a * b).sum(), row[2] == "1"))
        .collect();
    Ok(area_under_curve(&scored))
}

fn peers(flags: &AccuracyFlags, python: &Path, names: &[&str]) -> Result<Vec<Accuracy>, TrainError> {
    let mut arguments = vec![flags.tasks.display().to_string(), "--json".into(), "--only".into()];
    arguments.extend(names.iter().map(|name| (*name).to_owned()));
    let said = peer(python, &flags.scripts.join("tfidf.py"), &arguments)?;
    let mut found = Vec::new();
    for name in names {
        let result = &said["tasks"][name];
        let several = result["splits"].as_array().is_some_and(|splits| splits.len() > 1);
        let measures = [
            ("accuracy", Method::TfIdf, &result["accuracy"]),
            ("macro-F1", Method::TfIdf, &result["macro_f1"]),
            ("macro-F1 pooled", Method::TfIdf, if several { &result["macro_f1_pooled"] } else { &Value::Null }),
            ("AUC", Method::TfIdf, &result["auc"]),
            ("R@1", Method::TfIdf, &result["tfidf"]["recall_at_1"]),
            ("R@10", Method::TfIdf, &result["tfidf"]["recall_at_10"]),
            ("MRR@10", Method::TfIdf, &result["tfidf"]["mrr_at_10"]),
            ("R@1", Method::Bm25, &result["bm25"]["recall_at_1"]),
            ("R@10", Method::Bm25, &result["bm25"]["recall_at_10"]),
            ("MRR@10", Method::Bm25, &result["bm25"]["mrr_at_10"]),
        ];
        for (measure, method, value) in measures {
            if let Some(value) = value.as_f64() {
                found.extend(figures(name, method, &[vec![(measure, value)]]));
            }
        }
    }
    Ok(found)
}

/// The figures as a table: one row a task and measure, one column a method, and how far ours is ahead of the best peer.
pub fn table(found: &[Accuracy]) -> String {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for figure in found {
        let row = (figure.task.as_str(), figure.measure.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort_by_key(|row| row.0);
    let mut table = Table::new();
    let heads = METHODS.map(|(_, name)| name);
    table.load_style(presets::NOTHING).set_header(["task", "measure"].into_iter().chain(heads).chain(["ahead"]));
    for (task, measure) in rows {
        let of = |method: Method| {
            found.iter().find(|figure| figure.task == task && figure.measure == measure && figure.method == method)
        };
        let cell = |figure: Option<&Accuracy>| match figure {
            None => "-".to_owned(),
            Some(Accuracy { mean, standard_deviation: Some(deviation), .. }) => format!("{mean:.4} ± {deviation:.4}"),
            Some(figure) => format!("{:.4}", figure.mean),
        };
        let mean = |method: Method| of(method).map(|figure| figure.mean);
        let ours = mean(Method::Fitted).or(mean(Method::Base));
        let theirs = mean(Method::TfIdf).into_iter().chain(mean(Method::Bm25)).reduce(f64::max);
        let ahead = ours.zip(theirs).map_or("-".to_owned(), |(ours, theirs)| format!("{:+.4}", ours - theirs));
        let cells = METHODS.map(|(method, _)| cell(of(method)));
        table.add_row([task.to_owned(), measure.to_owned()].into_iter().chain(cells).chain([ahead]));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_one_that_fit_takes() {
        for (task, recipe) in RECIPES {
            let words = ["fit", "--data", "unset"].into_iter().chain(recipe.split_whitespace());
            assert!(Recipe::try_parse_from(words).is_ok(), "{task}: {recipe}");
        }
    }

    #[test]
    fn folds_are_pooled_by_label_and_tables_tell_who_is_ahead() {
        let row = |gold: &str, said: &str, count| (gold.to_owned(), said.to_owned(), count);
        let pooled =
            tally(&[row("退货", "退货", 2), row("换货", "退货", 1), row("换货", "换货", 1), row("退货", "退货", 1)]);
        assert_eq!(pooled.accuracy(), 0.8);
        // F1 of 退货 is 6 / 7, of 换货 2 / 3.
        assert!((pooled.macro_f1() - (6.0 / 7.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        let mut found = figures("car", Method::Fitted, &[vec![("macro-F1", 0.5)], vec![("macro-F1", 0.7)]]);
        found.extend(figures("car", Method::TfIdf, &[vec![("macro-F1", 0.52)]]));
        let table = table(&found);
        assert!(table.contains("0.6000 ± 0.1414") && table.contains("+0.0800"), "{table}");
    }
}
