//! `eval`: what a model is worth on labelled chats, with the files that people mend their data from.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use polars::prelude::{DataFrame, IntoColumn, NamedFrom, Series};
use serde::{Deserialize, Serialize};
use yingda_datasets::{ColumnMap, write_atomically, write_frame};
use yingda_models::selective::RiskCoverage;
use yingda_models::{Batch, Encoded, Labels, ModelFolder, ModelSettings, MultiTaskModel, Output};

use crate::{
    TrainError, calibrate,
    chats::{self, Seen},
    examples::{self, Example},
    fit::write_json,
    metrics::{Reliability, TaskScores, best},
    output,
    statistics::rows_by_session,
};

const BATCH: usize = 64;

/// Scores of both tasks; `None` where no message has the label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Intents.
    pub intent: Option<TaskScores>,
    /// Sentiments.
    pub sentiment: Option<TaskScores>,
}

/// Examples with what the model says of them.
pub struct Scored {
    rows: Vec<ScoredRow>,
    settings: ModelSettings,
}

struct ScoredRow {
    example: Example,
    intent_logits: Vec<f32>,
    sentiment_logits: Vec<f32>,
}

/// Runs the model over `examples`, in order.
///
/// # Errors
/// When a tensor operation fails.
pub fn score_examples(
    model: &MultiTaskModel,
    settings: &ModelSettings,
    examples: &[Example],
) -> Result<Scored, TrainError> {
    let outputs = outputs(model, &examples.iter().collect::<Vec<_>>())?;
    let rows = examples
        .iter()
        .cloned()
        .zip(outputs)
        .map(|(example, output)| ScoredRow {
            example,
            intent_logits: output.intent_logits,
            sentiment_logits: output.sentiment_logits,
        })
        .collect();
    Ok(Scored { rows, settings: settings.clone() })
}

/// What the model gives for each example, in order.
pub(crate) fn outputs(model: &MultiTaskModel, examples: &[&Example]) -> Result<Vec<Output>, TrainError> {
    run(model, &examples.iter().map(|example| &example.encoded).collect::<Vec<_>>())
}

/// Embeddings of tokenized texts, in order.
///
/// # Errors
/// When a tensor operation fails.
pub fn embed(model: &MultiTaskModel, texts: &[&Encoded]) -> Result<Vec<Vec<f32>>, TrainError> {
    Ok(run(model, texts)?.into_iter().map(|output| output.embedding).collect())
}

/// What the model gives for each text, in order; texts of like length run together.
fn run(model: &MultiTaskModel, texts: &[&Encoded]) -> Result<Vec<Output>, TrainError> {
    let lengths: Vec<usize> = texts.iter().map(|text| text.ids.len()).collect();
    let mut outputs = vec![None; texts.len()];
    let bar = output::bar(texts.len(), "run");
    for indices in examples::sorted_batches(&lengths, BATCH) {
        let mut batch = Batch::default();
        indices.iter().for_each(|&index| batch.push(&texts[index].ids, texts[index].own));
        for (&index, output) in indices.iter().zip(model.run(&batch)?) {
            outputs[index] = Some(output);
        }
        bar.inc(indices.len() as u64);
    }
    bar.finish_and_clear();
    Ok(outputs.into_iter().flatten().collect())
}

impl Scored {
    /// Intent logits with the gold index, of the rows that have one.
    pub fn intent_rows(&self) -> Vec<(Vec<f32>, usize)> {
        let row = |row: &ScoredRow| Some((row.intent_logits.clone(), row.example.intent? as usize));
        self.rows.iter().filter_map(row).collect()
    }

    /// Sentiment logits with the gold index, of the rows that have one.
    pub fn sentiment_rows(&self) -> Vec<(Vec<f32>, usize)> {
        let row = |row: &ScoredRow| Some((row.sentiment_logits.clone(), row.example.sentiment? as usize));
        self.rows.iter().filter_map(row).collect()
    }

    /// Examples with their intent and sentiment logits, in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&Example, &[f32], &[f32])> {
        self.rows.iter().map(|row| (&row.example, row.intent_logits.as_slice(), row.sentiment_logits.as_slice()))
    }

    /// What the confidence of the first intent is worth for choosing whom to answer.
    pub fn risk_coverage(&self) -> Option<RiskCoverage> {
        let temperature = self.settings.temperatures.intent;
        let row = |(logits, gold): (Vec<f32>, usize)| {
            let (predicted, confidence) = best(&calibrate::softmax(&logits, temperature));
            (confidence, predicted != gold)
        };
        RiskCoverage::new(self.intent_rows().into_iter().map(row).collect())
    }

    /// Scores of both tasks with how far they can be trusted, for a report.
    pub fn reliable_scores(&self, labels: &Labels) -> Scores {
        let mut scores = self.scores(labels);
        let temperatures = self.settings.temperatures;
        let sessions = |labelled: fn(&Example) -> bool| {
            let rows = self.rows.iter().map(|row| &row.example).filter(|example| labelled(example));
            rows_by_session(rows.map(|example| example.message.session_id.as_str()))
        };
        if let Some(intent) = &mut scores.intent {
            let sessions = sessions(|example| example.intent.is_some());
            let mut found = Reliability::new(&self.intent_rows(), &sessions, labels.intents.len(), temperatures.intent);
            found.risk_coverage = self.risk_coverage().map(|curve| curve.in_short());
            intent.reliability = Some(found);
        }
        if let Some(sentiment) = &mut scores.sentiment {
            let sessions = sessions(|example| example.sentiment.is_some());
            let (rows, classes) = (self.sentiment_rows(), labels.sentiments.len());
            sentiment.reliability = Some(Reliability::new(&rows, &sessions, classes, temperatures.sentiment));
        }
        scores
    }

    /// Every example with its probabilities at the settings' temperatures: intents, then sentiments, in head order.
    pub fn probabilities(&self) -> impl Iterator<Item = (&Example, Vec<f32>, Vec<f32>)> {
        let temperatures = self.settings.temperatures;
        self.rows.iter().map(move |row| {
            let intents = calibrate::softmax(&row.intent_logits, temperatures.intent);
            (&row.example, intents, calibrate::softmax(&row.sentiment_logits, temperatures.sentiment))
        })
    }

    /// Scores of both tasks at the settings' temperatures.
    pub fn scores(&self, labels: &Labels) -> Scores {
        let task = |labels: &[String], rows: Vec<(Vec<f32>, usize)>, temperature: f32| {
            let rows: Vec<(usize, Vec<f32>)> =
                rows.into_iter().map(|(logits, gold)| (gold, calibrate::softmax(&logits, temperature))).collect();
            TaskScores::new(labels, rows.iter().map(|(gold, row)| (*gold, row.as_slice())))
        };
        let temperatures = self.settings.temperatures;
        Scores {
            intent: task(&labels.intents, self.intent_rows(), temperatures.intent),
            sentiment: task(&labels.sentiments, self.sentiment_rows(), temperatures.sentiment),
        }
    }
}

/// A prediction that is not the label, as `errors.jsonl` tells it.
#[derive(Serialize)]
struct Mistake<'a> {
    file: &'a str,
    row: u64,
    session_id: &'a str,
    turn: i64,
    text: &'a str,
    task: &'static str,
    gold: &'a str,
    predicted: &'a str,
    confidence: f32,
    gold_probability: f32,
}

/// Writes one JSON value a line, the whole file or nothing.
pub(crate) fn write_lines(path: &Path, values: &[impl Serialize]) -> Result<(), TrainError> {
    Ok(write_atomically(path, |file| {
        let mut text = String::new();
        for value in values {
            text += &serde_json::to_string(value).expect("plain data is always JSON");
            text.push('\n');
        }
        file.write_all(text.as_bytes())
            .map_err(|source| yingda_datasets::DatasetsError::Write { file: path.display().to_string(), source })
    })?)
}

/// Writes `metrics.json`, `predictions.parquet`, `errors.jsonl` (most confident mistakes first) and, where messages have an
/// intent, `risk_coverage.json` into `folder`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(folder: &Path, scores: &Scores, scored: &Scored, labels: &Labels) -> Result<(), TrainError> {
    std::fs::create_dir_all(folder).map_err(TrainError::io("make", folder))?;
    write_json(&folder.join("metrics.json"), scores)?;
    if let Some(curve) = scored.risk_coverage() {
        write_json(&folder.join("risk_coverage.json"), &curve)?;
    }
    let temperatures = scored.settings.temperatures;
    let mut mistakes = Vec::new();
    let mut intents: Vec<(String, f32)> = Vec::new();
    let mut sentiments: Vec<(String, f32)> = Vec::new();
    for row in &scored.rows {
        for (task, logits, temperature, labels, gold, column) in [
            ("intent", &row.intent_logits, temperatures.intent, &labels.intents, row.example.intent, &mut intents),
            (
                "sentiment",
                &row.sentiment_logits,
                temperatures.sentiment,
                &labels.sentiments,
                row.example.sentiment,
                &mut sentiments,
            ),
        ] {
            let probabilities = calibrate::softmax(logits, temperature);
            let (predicted, confidence) = best(&probabilities);
            column.push((labels[predicted].clone(), confidence));
            if let Some(gold) = gold.map(|gold| gold as usize)
                && gold != predicted
            {
                let message = &row.example.message;
                mistakes.push(Mistake {
                    file: &message.file,
                    row: message.row,
                    session_id: &message.session_id,
                    turn: message.turn,
                    text: &message.text,
                    task,
                    gold: &labels[gold],
                    predicted: &labels[predicted],
                    confidence,
                    gold_probability: probabilities[gold],
                });
            }
        }
    }
    mistakes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    write_lines(&folder.join("errors.jsonl"), &mistakes)?;
    let messages = || scored.rows.iter().map(|row| &row.example.message);
    let strings = |name: &str, values: Vec<Option<String>>| Series::new(name.into(), values).into_column();
    let (intent_names, intent_confidences): (Vec<String>, Vec<f32>) = intents.into_iter().unzip();
    let (sentiment_names, sentiment_confidences): (Vec<String>, Vec<f32>) = sentiments.into_iter().unzip();
    let columns = vec![
        strings("session_id", messages().map(|message| Some(message.session_id.clone())).collect()),
        Series::new("turn".into(), messages().map(|message| message.turn).collect::<Vec<i64>>()).into_column(),
        strings("text", messages().map(|message| Some(message.text.clone())).collect()),
        strings("intent", messages().map(|message| message.intent.clone()).collect()),
        strings("intent_predicted", intent_names.into_iter().map(Some).collect()),
        Series::new("intent_confidence".into(), intent_confidences).into_column(),
        strings("sentiment", messages().map(|m| m.sentiment.map(|s| s.as_str().to_owned())).collect()),
        strings("sentiment_predicted", sentiment_names.into_iter().map(Some).collect()),
        Series::new("sentiment_confidence".into(), sentiment_confidences).into_column(),
    ];
    let frame = DataFrame::new(scored.rows.len(), columns)?;
    Ok(write_frame(&frame, &folder.join("predictions.parquet"))?)
}

/// The report for a terminal.
pub fn report(scores: &Scores) -> String {
    let mut parts = Vec::new();
    for (name, task) in [("intent", &scores.intent), ("sentiment", &scores.sentiment)] {
        match task {
            Some(task) => {
                let mut lines = vec![task.line()];
                lines.extend(task.reliability_lines());
                let lines: Vec<String> = lines.into_iter().map(|line| format!("{name}: {line}")).collect();
                parts.push(format!("{name}\n{}\n{}\n{}", task.table(), task.confusion_table(), lines.join("\n")));
            }
            None => parts.push(format!("{name}: no message has this label")),
        }
    }
    parts.join("\n\n")
}

/// Runs `eval`: opens the model in `model`, scores the chats, writes the files into `out`.
///
/// # Errors
/// When the model or the data is not usable, no message has a label that the model knows, or `out` cannot be written.
pub fn eval(model: &Path, data: &[PathBuf], map: &ColumnMap, out: &Path, device: &str) -> Result<Scores, TrainError> {
    let device = yingda_models::device(device)?;
    let folder = ModelFolder::open(model, &device, false)?;
    let scored = score_chats(&folder, data, map)?;
    let scores = scored.reliable_scores(&folder.settings.labels);
    write(out, &scores, &scored, &folder.settings.labels)?;
    Ok(scores)
}

/// Scores of the model in `model` on labelled chats, without intervals and without files.
pub(crate) fn score_folder(model: &Path, data: &[PathBuf], map: &ColumnMap) -> Result<Scores, TrainError> {
    let folder = ModelFolder::open(model, &candle_core::Device::Cpu, false)?;
    Ok(score_chats(&folder, data, map)?.scores(&folder.settings.labels))
}

fn score_chats(folder: &ModelFolder, data: &[PathBuf], map: &ColumnMap) -> Result<Scored, TrainError> {
    let labels = &folder.settings.labels;
    let messages = chats::of_model(data, map, &folder.settings)?;
    let mut unknown: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for intent in messages.iter().filter_map(|message| message.intent.as_deref()) {
        if !labels.intents.iter().any(|known| known == intent) {
            *unknown.entry(intent).or_default() += 1;
        }
    }
    for (intent, count) in &unknown {
        output::line(&format!("the model has no intent {intent}: {count} messages are not scored for intent"));
    }
    let examples = examples::examples(messages, labels, &folder.tokenizer, folder.settings.context_turns)?;
    if !examples.iter().any(|example| example.intent.is_some() || example.sentiment.is_some()) {
        return Err(TrainError::Usage(
            "no user message has a label that the model knows; check the columns with `yingda-train check`".into(),
        ));
    }
    Seen::read(&folder.path)?.warn("the model", &examples);
    score_examples(&folder.model, &folder.settings, &examples)
}
