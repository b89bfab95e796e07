//! `compare`: two models on the same rows, with what is chance and what is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use yingda_datasets::{ColumnMap, Message};
use yingda_models::ModelFolder;

use crate::{
    TrainError, calibrate,
    chats::{self, Seen},
    eval::{score_examples, write_lines},
    examples,
    metrics::best,
    output,
    statistics::{Interval, Tally, bootstrap, exact_mcnemar, rows_by_session},
};

/// What is asked of `compare`.
#[derive(Clone, Debug, clap::Args)]
pub struct CompareFlags {
    /// Model folder of the model that there is
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Model folder of the one that may take its place
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// Labelled chats that neither has learnt from
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Column names: OURS=THEIRS, such as text=content; may be repeated
    #[arg(long, value_name = "OURS=THEIRS")]
    pub map: Vec<String>,
    /// Write what only A has right (lost.jsonl) and what only B has right (gained.jsonl) there
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Where to compute: cpu or cuda
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Print the comparison as JSON
    #[arg(long)]
    pub json: bool,
}

/// One class under both models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassComparison {
    /// The class.
    pub label: String,
    /// Rows of it.
    pub rows: usize,
    /// F1 of A.
    pub f1_a: f64,
    /// F1 of B.
    pub f1_b: f64,
    /// F1 of B less that of A.
    pub difference: f64,
}

/// One task under both models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskComparison {
    /// Rows that have the label.
    pub rows: usize,
    /// Their sessions.
    pub sessions: usize,
    /// Accuracy of A.
    pub accuracy_a: f64,
    /// Accuracy of B.
    pub accuracy_b: f64,
    /// Rows that only A has right.
    pub only_a_right: usize,
    /// Rows that only B has right.
    pub only_b_right: usize,
    /// McNemar's exact test: how likely rows as uneven as these are when both are right equally often. It takes rows as
    /// independent.
    pub mcnemar_p: f64,
    /// Macro-F1 of A, over the classes that have rows.
    pub macro_f1_a: f64,
    /// Macro-F1 of B.
    pub macro_f1_b: f64,
    /// Macro-F1 of B less that of A.
    pub macro_f1_difference: f64,
    /// 95 % interval of that difference, by resampling whole sessions, the same for both.
    pub macro_f1_interval: Interval,
    /// Classes that have rows, in the order of their names.
    pub classes: Vec<ClassComparison>,
}

/// Two models on the same rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Name and fingerprint of A.
    pub a: String,
    /// Its folder.
    pub a_folder: PathBuf,
    /// Name and fingerprint of B.
    pub b: String,
    /// Its folder.
    pub b_folder: PathBuf,
    /// Intents, if any row has one.
    pub intent: Option<TaskComparison>,
    /// Sentiments, if any row has one.
    pub sentiment: Option<TaskComparison>,
}

/// A row that one model has right and the other wrong.
#[derive(Serialize)]
struct Changed<'a> {
    file: &'a str,
    row: u64,
    session_id: &'a str,
    turn: i64,
    text: &'a str,
    task: &'static str,
    gold: &'a str,
    a: &'a str,
    a_confidence: f32,
    b: &'a str,
    b_confidence: f32,
}

/// What a model says of every labelled message: intent and sentiment with their probabilities.
struct Said {
    model_id: String,
    messages: Vec<Message>,
    intents: Vec<(String, f32)>,
    sentiments: Vec<(String, f32)>,
}

/// Runs `compare`: scores the chats with both models, writes the changed rows into `--out`.
///
/// A class that one of the models does not know is one that it never gets right.
///
/// # Errors
/// When a model or the data is not usable, no message has a label, or `--out` cannot be written.
pub fn compare(flags: &CompareFlags) -> Result<Comparison, TrainError> {
    let device = yingda_models::device(&flags.device)?;
    let [first, second] = [&flags.a, &flags.b].map(|path| ModelFolder::open(path, &device, false));
    let (first, second) = (first?, second?);
    let map = ColumnMap::for_chats(&flags.map)?;
    let mut messages = chats::checked("--data", &flags.data, &map, &first.settings.text)?.messages()?;
    // Where only one of them learnt rare intents as another one, it is wrong there.
    if first.settings.folded == second.settings.folded {
        chats::fold(&mut messages, first.settings.folded.as_ref());
    }
    if !messages.iter().any(examples::is_labelled) {
        return Err(TrainError::Usage(
            "no user message has a label; check the columns with `yingda-train check`, or map them with --map".into(),
        ));
    }
    let a = say(&first, messages.clone())?;
    let b = say(&second, messages)?;
    let (mut lost, mut gained) = (Vec::new(), Vec::new());
    let mut task = |name: &'static str, gold: fn(&Message) -> Option<&str>, said: fn(&Said) -> &[(String, f32)]| {
        let rows: Vec<usize> = (0..a.messages.len()).filter(|&row| gold(&a.messages[row]).is_some()).collect();
        let golds: Vec<&str> = rows.iter().filter_map(|&row| gold(&a.messages[row])).collect();
        let said = [&a, &b].map(|model| rows.iter().map(|&row| said(model)[row].0.as_str()).collect::<Vec<_>>());
        let sessions = rows_by_session(rows.iter().map(|&row| a.messages[row].session_id.as_str()));
        let [said_a, said_b] = &said;
        for (index, &row) in rows.iter().enumerate() {
            let message = &a.messages[row];
            let side = match (said_a[index] == golds[index], said_b[index] == golds[index]) {
                (true, false) => &mut lost,
                (false, true) => &mut gained,
                _ => continue,
            };
            let confidence =
                |model: &Said| if name == "intent" { model.intents[row].1 } else { model.sentiments[row].1 };
            side.push(Changed {
                file: &message.file,
                row: message.row,
                session_id: &message.session_id,
                turn: message.turn,
                text: &message.text,
                task: name,
                gold: golds[index],
                a: said_a[index],
                a_confidence: confidence(&a),
                b: said_b[index],
                b_confidence: confidence(&b),
            });
        }
        compare_task(&golds, said_a, said_b, &sessions)
    };
    let intent = task("intent", |message| message.intent.as_deref(), |said| &said.intents);
    let sentiment =
        task("sentiment", |message| message.sentiment.map(|sentiment| sentiment.as_str()), |said| &said.sentiments);
    if let Some(out) = &flags.out {
        std::fs::create_dir_all(out).map_err(TrainError::io("make", out))?;
        // The surest mistakes first.
        lost.sort_by(|x, y| y.b_confidence.total_cmp(&x.b_confidence));
        gained.sort_by(|x, y| y.a_confidence.total_cmp(&x.a_confidence));
        write_lines(&out.join("lost.jsonl"), &lost)?;
        write_lines(&out.join("gained.jsonl"), &gained)?;
    }
    Ok(Comparison {
        a: a.model_id.clone(),
        a_folder: flags.a.clone(),
        b: b.model_id.clone(),
        b_folder: flags.b.clone(),
        intent,
        sentiment,
    })
}

fn say(folder: &ModelFolder, messages: Vec<Message>) -> Result<Said, TrainError> {
    let labels = &folder.settings.labels;
    let unknown: BTreeSet<&str> = messages
        .iter()
        .filter_map(|message| message.intent.as_deref())
        .filter(|&intent| labels.intents.iter().all(|known| known != intent))
        .collect();
    if !unknown.is_empty() {
        let unknown: Vec<&str> = unknown.into_iter().collect();
        output::line(&format!(
            "{} does not know these intents, and is wrong there: {}",
            folder.model_id,
            unknown.join(", ")
        ));
    }
    let examples = examples::examples(messages, labels, &folder.tokenizer, folder.settings.context_turns)?;
    Seen::read(&folder.path)?.warn(&folder.model_id, &examples);
    let scored = score_examples(&folder.model, &folder.settings, &examples)?;
    let temperatures = folder.settings.temperatures;
    let first = |labels: &[String], logits: &[f32], temperature: f32| {
        let (index, confidence) = best(&calibrate::softmax(logits, temperature));
        (labels[index].clone(), confidence)
    };
    let (intents, sentiments) = scored
        .rows()
        .map(|(_, intent, sentiment)| {
            let intent = first(&labels.intents, intent, temperatures.intent);
            (intent, first(&labels.sentiments, sentiment, temperatures.sentiment))
        })
        .unzip();
    let messages = examples.into_iter().map(|example| example.message).collect();
    Ok(Said { model_id: folder.model_id.clone(), messages, intents, sentiments })
}

/// Compares what two models say of the same rows; `None` without rows.
pub fn compare_task(gold: &[&str], a: &[&str], b: &[&str], sessions: &[Vec<usize>]) -> Option<TaskComparison> {
    if gold.is_empty() {
        return None;
    }
    let names: BTreeSet<&str> = gold.iter().chain(a).chain(b).copied().collect();
    let names: Vec<&str> = names.into_iter().collect();
    let index: BTreeMap<&str, usize> = names.iter().enumerate().map(|(index, &name)| (name, index)).collect();
    let rows: Vec<[usize; 3]> =
        gold.iter().zip(a).zip(b).map(|((gold, a), b)| [index[gold], index[a], index[b]]).collect();
    let tallies = |rows: &mut dyn Iterator<Item = [usize; 3]>| {
        let mut tallies = [Tally::new(names.len()), Tally::new(names.len())];
        for [gold, a, b] in rows {
            tallies[0].add(gold, a);
            tallies[1].add(gold, b);
        }
        tallies
    };
    let [tally_a, tally_b] = tallies(&mut rows.iter().copied());
    let [macro_f1_interval] = bootstrap(sessions.len(), |drawn| {
        let [a, b] = tallies(&mut drawn.iter().flat_map(|&session| &sessions[session]).map(|&row| rows[row]));
        [b.macro_f1() - a.macro_f1()]
    });
    let only_a_right = rows.iter().filter(|[gold, a, b]| a == gold && b != gold).count();
    let only_b_right = rows.iter().filter(|[gold, a, b]| a != gold && b == gold).count();
    let class = |(class, &label): (usize, &&str)| {
        let (f1_a, f1_b) = (tally_a.f1(class), tally_b.f1(class));
        let rows = tally_a.support(class);
        (rows > 0).then(|| ClassComparison { label: label.to_owned(), rows, f1_a, f1_b, difference: f1_b - f1_a })
    };
    Some(TaskComparison {
        rows: rows.len(),
        sessions: sessions.len(),
        accuracy_a: tally_a.accuracy(),
        accuracy_b: tally_b.accuracy(),
        only_a_right,
        only_b_right,
        mcnemar_p: exact_mcnemar(only_a_right, only_b_right),
        macro_f1_a: tally_a.macro_f1(),
        macro_f1_b: tally_b.macro_f1(),
        macro_f1_difference: tally_b.macro_f1() - tally_a.macro_f1(),
        macro_f1_interval,
        classes: names.iter().enumerate().filter_map(class).collect(),
    })
}

/// The comparison for a terminal.
pub fn report(comparison: &Comparison) -> String {
    let name = |id: &str, folder: &Path| format!("{id} in {}", folder.display());
    let (a, b) = (name(&comparison.a, &comparison.a_folder), name(&comparison.b, &comparison.b_folder));
    let mut parts = vec![format!("A: {a}\nB: {b}")];
    for (name, task) in [("intent", &comparison.intent), ("sentiment", &comparison.sentiment)] {
        parts.push(match task {
            Some(task) => format!("{name}, worst losses first\n{}\n{}", class_table(task), lines(name, task)),
            None => format!("{name}: no message has this label"),
        });
    }
    parts.join("\n\n")
}

fn lines(name: &str, task: &TaskComparison) -> String {
    let interval = task.macro_f1_interval;
    let chance = if task.mcnemar_p < 1e-4 { "< 0.0001".to_owned() } else { format!("= {:.4}", task.mcnemar_p) };
    let verdict = if interval.low > 0.0 {
        "B is better"
    } else if interval.high < 0.0 {
        "B is worse"
    } else {
        "may be chance"
    };
    format!(
        "{name}: macro-F1 {:.4} → {:.4}, difference {:+.4} [{:+.4}, {:+.4}] by session: {verdict}\n\
         {name}: accuracy {:.4} → {:.4}; {} rows only A has right, {} only B: exact McNemar p {}; {} rows in {} sessions",
        task.macro_f1_a,
        task.macro_f1_b,
        task.macro_f1_difference,
        interval.low,
        interval.high,
        task.accuracy_a,
        task.accuracy_b,
        task.only_a_right,
        task.only_b_right,
        chance,
        task.rows,
        task.sessions
    )
}

fn class_table(task: &TaskComparison) -> String {
    const ENDS: usize = 20;
    let mut classes: Vec<&ClassComparison> = task.classes.iter().collect();
    classes.sort_by(|a, b| a.difference.total_cmp(&b.difference));
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["class", "rows", "F1 of A", "F1 of B", "difference"]);
    for (place, class) in classes.iter().enumerate() {
        if classes.len() > 2 * ENDS && (ENDS..classes.len() - ENDS).contains(&place) {
            if place == ENDS {
                table.add_row([format!("... {} between (--json has all)", classes.len() - 2 * ENDS)]);
            }
            continue;
        }
        table.add_row([
            class.label.clone(),
            class.rows.to_string(),
            format!("{:.3}", class.f1_a),
            format!("{:.3}", class.f1_b),
            format!("{:+.3}", class.difference),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures are those of `sklearn.metrics.f1_score(..., labels=["x", "y", "z"], average="macro")` and of
    /// `scipy.stats.binomtest(0, 3, 0.5).pvalue`.
    #[test]
    fn figures_agree_with_scikit_learn_and_scipy() {
        let gold = ["x", "x", "x", "y", "y", "y", "y", "z"];
        let a = ["x", "y", "y", "y", "y", "x", "x", "x"];
        let b = ["x", "x", "x", "y", "y", "y", "x", "q"];
        let sessions: Vec<Vec<usize>> = (0..4).map(|session| vec![2 * session, 2 * session + 1]).collect();
        let found = compare_task(&gold, &a, &b, &sessions).expect("rows");
        let close = |x: f64, y: f64| (x - y).abs() < 1e-12;
        assert_eq!((found.only_a_right, found.only_b_right, found.classes.len()), (0, 3, 3));
        assert!(close(found.mcnemar_p, 0.25), "{}", found.mcnemar_p);
        assert!(close(found.accuracy_a, 3.0 / 8.0) && close(found.accuracy_b, 6.0 / 8.0));
        // F1 of x, y, z: A 2/7, 1/2, 0; B 6/7, 6/7, 0. What is never the label is no class.
        assert!(close(found.macro_f1_a, (2.0 / 7.0 + 0.5) / 3.0), "{}", found.macro_f1_a);
        assert!(close(found.macro_f1_b, (6.0 / 7.0 + 6.0 / 7.0) / 3.0), "{}", found.macro_f1_b);
        assert!(found.macro_f1_interval.low >= 0.0 && found.macro_f1_interval.high > 0.1, "{found:?}");
        assert!(compare_task(&[], &[], &[], &[]).is_none());
        let same = compare_task(&gold, &a, &a, &sessions).expect("rows");
        assert_eq!((same.mcnemar_p, same.macro_f1_interval), (1.0, Interval::default()));
    }
}
