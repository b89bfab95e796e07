//! `noise`: labels that are probably wrong, as files to review.
//!
//! Sessions are dealt to folds; each fold is judged by a model that `fit` made from the others, and confident learning
//! finds the labels that contradict what these models are sure of.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use yingda_datasets::{
    Chats, CheckOptions, ColumnMap, DatasetsError, Message, Severity, SplitOptions, load, split, write_atomically,
    write_parquet,
};
use yingda_models::{
    ModelFolder, SENTIMENTS,
    text::{MaskOptions, TextContract},
};

use crate::{
    TrainError,
    confident::{ConfidentLearning, RankBy, confident_learning},
    eval, examples,
    fit::{FitConfig, write_json},
    metrics::best,
    output, runs,
};

const SETTINGS: &str = "noise-settings.json";
/// Pairs that the table shows; `noise.json` has all of them.
const SHOWN_PAIRS: usize = 20;
/// From this share of wrong labels on, the models are the likelier culprits.
const WEAK: f64 = 0.3;

/// The flags of `noise`.
#[derive(Args, Clone, Debug)]
pub struct NoiseArgs {
    /// Folder for suspects.csv, suspects.jsonl, noise.json and the runs; the same command goes on where it was stopped
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Parts that the sessions are dealt to; each is judged by a model that learnt from the others
    #[arg(long, default_value_t = 5)]
    pub folds: usize,
    /// What the worst suspect is
    #[arg(long, value_enum, default_value_t)]
    pub rank_by: RankBy,
    /// Taken as by `fit`, and not needed
    #[arg(long, hide = true)]
    pub resume: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// How each model is fitted.
    #[command(flatten)]
    pub fit: FitConfig,
}

/// What decides which runs there are; kept so that a stopped command is gone on with, and another one is refused.
#[derive(PartialEq, Serialize, Deserialize)]
struct Settings {
    folds: usize,
    data_fingerprint: String,
    fit: FitConfig,
}

/// Two classes that are taken for each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfusedPair {
    /// The label that stands in the data.
    pub given: String,
    /// What it probably should be.
    pub suggested: String,
    /// Suspects of this kind.
    pub suspects: usize,
    /// Rows of this kind by the estimated joint distribution; other than the suspects, they come without names.
    pub estimated: f64,
    /// The estimate as a share of all rows with the given label.
    pub share: f64,
}

/// What was found for one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskNoise {
    /// `intent` or `sentiment`.
    pub task: &'static str,
    /// Labels that were judged.
    pub rows: usize,
    /// Labels that were not: all sessions with the class lie in one fold.
    pub not_judged: usize,
    /// Share of labels that the models agree with.
    pub agreement: f64,
    /// Suspects in the files.
    pub suspects: usize,
    /// Wrong labels, by estimate.
    pub estimated_wrong: f64,
    /// The probability from which a row is confidently of a class.
    pub thresholds: BTreeMap<String, f64>,
    /// Most suspects first.
    pub pairs: Vec<ConfusedPair>,
}

/// What `noise` gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoiseSummary {
    /// How many models judged.
    pub folds: usize,
    /// Intent, then sentiment; a task without labels is left out.
    pub tasks: Vec<TaskNoise>,
    /// The file for a spreadsheet.
    pub suspects: PathBuf,
}

/// A suspect as the files tell it.
#[derive(Serialize)]
struct Record {
    file: String,
    row: u64,
    session_id: String,
    turn: i64,
    text: String,
    task: &'static str,
    given: String,
    suggested: String,
    given_probability: f32,
    suggested_probability: f32,
    /// 0 surely wrong, 1 surely right.
    quality: f64,
    /// For the reviewer.
    verdict: &'static str,
}

/// Labels of one task with what the models say of them.
#[derive(Default)]
struct Judged {
    messages: Vec<Message>,
    /// Probabilities of all classes, and the given one.
    rows: Vec<(Vec<f32>, usize)>,
    not_judged: usize,
}

/// Runs `noise` to its end, or until `stop` becomes true. Folds that are done are not trained again.
///
/// # Errors
/// Those of [`fit`](crate::fit::fit); also when `out` holds something else, or cannot be written.
pub fn noise(args: &NoiseArgs, stop: &AtomicBool) -> Result<NoiseSummary, TrainError> {
    let config = &args.fit;
    if args.folds < 2 {
        return Err(TrainError::Usage(format!("--folds is {}; it must be at least 2", args.folds)));
    }
    if !config.test.is_empty() {
        return Err(TrainError::Usage(
            "--test has no use here: each label is judged by a model that did not learn from it; give all chats as --data"
                .into(),
        ));
    }
    let device = yingda_models::device(&config.device)?;
    let contract = TextContract {
        mask: if config.no_mask { MaskOptions::none() } else { MaskOptions::default() },
        ..TextContract::default()
    };
    let model_text = |text: &str| contract.model_text(text);
    let original = load(&config.data, &ColumnMap::for_chats(&config.map)?)?;
    let report = yingda_datasets::check(&original, &CheckOptions::default(), &model_text)?;
    if report.has_errors() {
        output::line(&report.table(20));
        let errors = report.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        return Err(TrainError::Unfit { errors });
    }
    let chats = if config.min_class > 0 {
        original.fold_rare_intents(config.min_class, &config.rare_label)?.0
    } else {
        original.clone()
    };
    let originals = original.messages()?;
    let folds = deal(&chats, args.folds, config.seed, &model_text)?;

    let out = &args.out;
    runs::claim(out, SETTINGS, "yingda-train noise")?;
    keep_settings(
        &out.join(SETTINGS),
        &Settings { folds: args.folds, data_fingerprint: fingerprint(&originals), fit: config.clone() },
    )?;
    let classes = examples::labels(&chats.messages()?).intents;
    let (mut intents, mut sentiments) = (Judged::default(), Judged::default());
    for fold in 0..args.folds {
        let held_out = chats.filter(&folds.iter().map(|&of_row| of_row == fold).collect::<Vec<_>>())?;
        let folder = out.join("folds").join((fold + 1).to_string());
        let run = folder.join("run");
        if run.join("model/yingda.json").exists() {
            output::line(&format!("fold {} of {} is done", fold + 1, args.folds));
        } else {
            output::line(&format!("fold {} of {}", fold + 1, args.folds));
            std::fs::create_dir_all(&folder).map_err(TrainError::io("make", &folder))?;
            let train = chats.filter(&folds.iter().map(|&of_row| of_row != fold).collect::<Vec<_>>())?;
            let files = [folder.join("train.parquet"), folder.join("held-out.parquet")];
            write_parquet(&train, &files[0], None)?;
            write_parquet(&held_out, &files[1], None)?;
            let [data, test] = files.map(|file| vec![file]);
            let config = FitConfig { data, test, map: Vec::new(), min_class: 0, ..config.clone() };
            runs::fit_to_the_end(&config, &run, stop)?;
        }
        runs::remove_checkpoint(&run)?;
        let folder = ModelFolder::open(&run.join("model"), &device, false)?;
        judge(&folder, held_out.messages()?, &classes, &mut intents, &mut sentiments)?;
    }

    // Rare intents were judged under one name, but stand in the data under their own.
    let given: HashMap<(&str, u64), &Message> =
        originals.iter().map(|message| ((message.file.as_str(), message.row), message)).collect();
    let sentiment_names = SENTIMENTS.map(str::to_owned);
    let (mut tasks, mut records) = (Vec::new(), Vec::new());
    for (task, classes, judged) in
        [("intent", &classes[..], intents.sorted()), ("sentiment", &sentiment_names[..], sentiments.sorted())]
    {
        if judged.rows.is_empty() {
            continue;
        }
        let found = confident_learning(classes.len(), &judged.rows, args.rank_by);
        records.extend(found.suspects.iter().map(|suspect| {
            let message = &judged.messages[suspect.row];
            let original = given.get(&(message.file.as_str(), message.row)).and_then(|message| message.intent.clone());
            let label = || classes[suspect.given].clone();
            let probabilities = &judged.rows[suspect.row].0;
            Record {
                file: message.file.clone(),
                row: message.row,
                session_id: message.session_id.clone(),
                turn: message.turn,
                text: message.text.clone(),
                task,
                given: if task == "intent" { original.unwrap_or_else(label) } else { label() },
                suggested: classes[suspect.suggested].clone(),
                given_probability: probabilities[suspect.given],
                suggested_probability: probabilities[suspect.suggested],
                quality: suspect.quality,
                verdict: "",
            }
        }));
        tasks.push(task_noise(task, classes, &judged, &found));
    }
    records.sort_by(|a, b| a.quality.total_cmp(&b.quality));
    write_records(out, &records)?;
    let summary = NoiseSummary { folds: args.folds, tasks, suspects: out.join("suspects.csv") };
    write_json(&out.join("noise.json"), &summary)?;
    Ok(summary)
}

/// The fold of each row: sessions stay whole, sessions that say almost the same stay together, and labels are spread
/// evenly, by the rules of [`split`].
fn deal(chats: &Chats, folds: usize, seed: u64, model_text: &dyn Fn(&str) -> String) -> Result<Vec<usize>, TrainError> {
    let sessions = |chats: &Chats| -> Result<Vec<String>, TrainError> {
        let column = chats.frame().column("session_id")?.str()?;
        Ok(column.iter().map(|session| session.unwrap_or_default().to_owned()).collect())
    };
    let mut fold_of: HashMap<String, usize> = HashMap::new();
    let mut rest = chats.clone();
    for fold in 0..folds - 1 {
        let share = 1.0 / (folds - fold) as f64;
        let options =
            SplitOptions { train: 1.0 - share, validation: 0.0, test: share, seed, ..SplitOptions::default() };
        let splits = split(&rest, &options, model_text)?;
        fold_of.extend(sessions(&splits.test)?.into_iter().map(|session| (session, fold)));
        let keep: Vec<bool> = sessions(&rest)?.iter().map(|session| !fold_of.contains_key(session)).collect();
        rest = rest.filter(&keep)?;
    }
    Ok(sessions(chats)?.iter().map(|session| fold_of.get(session).copied().unwrap_or(folds - 1)).collect())
}

/// SHA-256 over everything that a model learns from, in order.
fn fingerprint(messages: &[Message]) -> String {
    let mut hasher = Sha256::new();
    for message in messages {
        let sentiment = message.sentiment.map_or("", |sentiment| sentiment.as_str());
        let intent = message.intent.as_deref().unwrap_or_default();
        for field in
            [&message.session_id, &message.turn.to_string(), message.role.as_str(), &message.text, intent, sentiment]
        {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keep_settings(path: &Path, settings: &Settings) -> Result<(), TrainError> {
    let Some(text) = path.exists().then(|| std::fs::read(path)).transpose().map_err(TrainError::io("read", path))?
    else {
        return write_json(path, settings);
    };
    let old: Settings = serde_json::from_slice(&text).map_err(|error| {
        TrainError::Usage(format!("{} is damaged ({error}); name a new --out folder", path.display()))
    })?;
    if old == *settings {
        return Ok(());
    }
    let what = if old.data_fingerprint != settings.data_fingerprint { "data" } else { "settings" };
    Err(TrainError::Usage(format!(
        "{} was begun with other {what}; give those of the first time to go on, or name a new --out folder",
        path.parent().unwrap_or(path).display()
    )))
}

/// Adds what a model says of the labels that it did not learn from.
fn judge(
    folder: &ModelFolder,
    messages: Vec<Message>,
    classes: &[String],
    intents: &mut Judged,
    sentiments: &mut Judged,
) -> Result<(), TrainError> {
    let known = &folder.settings.labels.intents;
    // The place among all classes of each class that this model knows; it may know some from the knowledge alone.
    let places: Vec<Option<usize>> = known.iter().map(|name| classes.iter().position(|class| class == name)).collect();
    let examples =
        examples::examples(messages, &folder.settings.labels, &folder.tokenizer, folder.settings.context_turns)?;
    let scored = eval::score_examples(&folder.model, &folder.settings, &examples)?;
    for (example, intent_probabilities, sentiment_probabilities) in scored.probabilities() {
        if let Some(given) = example.intent.and_then(|given| places[given as usize]) {
            let mut row = vec![0.0; classes.len()];
            for (place, probability) in places.iter().zip(intent_probabilities) {
                if let Some(place) = place {
                    row[*place] = probability;
                }
            }
            intents.messages.push(example.message.clone());
            intents.rows.push((row, given));
        } else if example.message.intent.is_some() {
            intents.not_judged += 1;
        }
        if let Some(given) = example.sentiment {
            sentiments.messages.push(example.message.clone());
            sentiments.rows.push((sentiment_probabilities, given as usize));
        }
    }
    Ok(())
}

impl Judged {
    /// In the order of the files, whatever fold a row was in.
    fn sorted(self) -> Self {
        let mut all: Vec<_> = self.messages.into_iter().zip(self.rows).collect();
        all.sort_by(|(a, _), (b, _)| (&a.file, a.row).cmp(&(&b.file, b.row)));
        let (messages, rows) = all.into_iter().unzip();
        Self { messages, rows, not_judged: self.not_judged }
    }
}

fn task_noise(task: &'static str, classes: &[String], judged: &Judged, found: &ConfidentLearning) -> TaskNoise {
    let mut pairs = Vec::new();
    for (given, counts) in found.counts.iter().enumerate() {
        let rows: f64 = found.joint[given].iter().sum();
        for (class, &suspects) in counts.iter().enumerate().filter(|(class, count)| *class != given && **count > 0) {
            let estimated = found.joint[given][class];
            pairs.push(ConfusedPair {
                given: classes[given].clone(),
                suggested: classes[class].clone(),
                suspects,
                estimated,
                share: estimated / rows,
            });
        }
    }
    pairs.sort_by(|a, b| b.suspects.cmp(&a.suspects).then(b.estimated.total_cmp(&a.estimated)));
    let thresholds = classes.iter().zip(&found.thresholds);
    let agreeing = judged.rows.iter().filter(|(probabilities, given)| best(probabilities).0 == *given).count();
    TaskNoise {
        task,
        rows: judged.rows.len(),
        not_judged: judged.not_judged,
        agreement: agreeing as f64 / judged.rows.len() as f64,
        suspects: found.suspects.len(),
        estimated_wrong: found.estimated_wrong(),
        thresholds: thresholds.filter_map(|(class, threshold)| Some((class.clone(), (*threshold)?))).collect(),
        pairs,
    }
}

/// `suspects.jsonl` for programs and `suspects.csv` for a spreadsheet, worst first.
fn write_records(out: &Path, records: &[Record]) -> Result<(), TrainError> {
    let path = out.join("suspects.jsonl");
    let failed = |path: &Path| {
        let file = path.display().to_string();
        move |source| DatasetsError::Write { file, source }
    };
    write_atomically(&path, |file| {
        let mut text = String::new();
        for record in records {
            text += &serde_json::to_string(record).expect("plain data is always JSON");
            text.push('\n');
        }
        file.write_all(text.as_bytes()).map_err(failed(&path))
    })?;
    let path = out.join("suspects.csv");
    Ok(write_atomically(&path, |file| file.write_all(csv(records).as_bytes()).map_err(failed(&path)))?)
}

/// The suspects as CSV that Excel opens as it is: with a byte-order mark, and lines that end in CR and LF.
fn csv(records: &[Record]) -> String {
    let mut text = String::from(
        "\u{feff}file,row,session_id,turn,text,task,given,suggested,given_probability,suggested_probability,quality,\
         verdict\r\n",
    );
    for record in records {
        let cells = [
            cell(&record.file),
            record.row.to_string(),
            cell(&record.session_id),
            record.turn.to_string(),
            cell(&record.text),
            record.task.to_owned(),
            cell(&record.given),
            cell(&record.suggested),
            format!("{:.4}", record.given_probability),
            format!("{:.4}", record.suggested_probability),
            format!("{:.4}", record.quality),
            record.verdict.to_owned(),
        ];
        text += &cells.join(",");
        text += "\r\n";
    }
    text
}

/// A text as a cell. What a spreadsheet would run as a formula gets an apostrophe before it: customers write what they
/// like.
fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

impl NoiseSummary {
    /// The report for a terminal.
    pub fn report(&self) -> String {
        let mut parts = Vec::new();
        for task in &self.tasks {
            let mut lines = vec![format!(
                "{}: {} labels, {} of them suspect; wrong by estimate: {:.0} ({:.1} %). The models agree with {:.1} %",
                task.task,
                task.rows,
                task.suspects,
                task.estimated_wrong,
                100.0 * task.estimated_wrong / task.rows as f64,
                100.0 * task.agreement
            )];
            if task.estimated_wrong > WEAK * task.rows as f64 {
                lines.push(
                    "so many are a sign of weak models rather than of wrong labels: try --base, more --epochs or more data"
                        .to_owned(),
                );
            }
            if task.not_judged > 0 {
                lines.push(format!(
                    "{} labels are not judged: their classes stand in too few sessions to learn from all folds but one",
                    task.not_judged
                ));
            }
            if !task.pairs.is_empty() {
                lines.push(pair_table(&task.pairs));
            }
            parts.push(lines.join("\n"));
        }
        parts.join("\n\n")
    }
}

fn pair_table(pairs: &[ConfusedPair]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["given", "probably", "suspects", "by estimate", "of the label"]);
    for pair in pairs.iter().take(SHOWN_PAIRS) {
        table.add_row([
            pair.given.clone(),
            pair.suggested.clone(),
            pair.suspects.to_string(),
            format!("{:.1}", pair.estimated),
            format!("{:.1} %", 100.0 * pair.share),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = table.to_string();
    if pairs.len() > SHOWN_PAIRS {
        text += &format!("\n... and {} pairs more in noise.json", pairs.len() - SHOWN_PAIRS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record {
            file: "chats.csv".into(),
            row: 7,
            session_id: "s1".into(),
            turn: -1,
            text: text.into(),
            task: "intent",
            given: "退货".into(),
            suggested: "换货".into(),
            given_probability: 0.03125,
            suggested_probability: 0.9,
            quality: 0.0656,
            verdict: "",
        }
    }

    #[test]
    fn a_spreadsheet_gets_whole_cells_and_no_formula() {
        let text = csv(&[record("我说\"退\",\n不是换"), record("=1+1"), record("-5 分")]);
        let expected = "\u{feff}file,row,session_id,turn,text,task,given,suggested,given_probability,\
             suggested_probability,quality,verdict\r\n\
             \"chats.csv\",7,\"s1\",-1,\"我说\"\"退\"\",\n不是换\",intent,\"退货\",\"换货\",0.0312,0.9000,0.0656,\r\n\
             \"chats.csv\",7,\"s1\",-1,\"'=1+1\",intent,\"退货\",\"换货\",0.0312,0.9000,0.0656,\r\n\
             \"chats.csv\",7,\"s1\",-1,\"'-5 分\",intent,\"退货\",\"换货\",0.0312,0.9000,0.0656,\r\n";
        assert_eq!(text, expected);
    }
}
