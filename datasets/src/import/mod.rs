//! Exports of labelling tools to messages: Label Studio, doccano and Rasa NLU.
//!
//! Each tool's file is read into [`Entry`]s, one a text, with a vote for each label that somebody gave. What is the same for
//! all is done here: votes are counted, texts find their session, and everything that is wrong is told at once.

mod doccano;
mod label_studio;
mod rasa;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::{DatasetsError, Result};
use crate::problem::{Problem, Severity, quoted};
use crate::read::{json_text, read_text};
use crate::schema::{Message, Role, Sentiment};
use crate::write::write_atomically;

/// The tool that wrote an export.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ImportFormat {
    /// Label Studio, exported as JSON: a list of tasks with `data` and `annotations`.
    LabelStudio,
    /// doccano, exported as JSON Lines (or JSON): `text` with `label` or `labels`.
    Doccano,
    /// Rasa NLU training data: YAML of version 2 or 3 with `nlu:`.
    Rasa,
}

impl ImportFormat {
    /// How the tool is called in names of sessions.
    fn prefix(self) -> &'static str {
        match self {
            ImportFormat::LabelStudio => "label-studio",
            ImportFormat::Doccano => "doccano",
            ImportFormat::Rasa => "rasa",
        }
    }
}

/// Where in an export the columns are; what is not named is found by its usual name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ImportOptions {
    /// Key of the text; usually `text`.
    pub text_from: Option<String>,
    /// Label Studio: `from_name` of the results that are intents, usually `intent`. doccano: the key, usually `label`.
    pub intent_from: Option<String>,
    /// As `intent_from`, for sentiments. Rasa: the key under `metadata`, usually `sentiment`.
    pub sentiment_from: Option<String>,
}

/// What an import found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Imported {
    /// The messages, in the order of the files. Of no use when one of the problems is an error.
    #[serde(skip)]
    pub messages: Vec<Message>,
    /// Sessions.
    pub sessions: usize,
    /// Messages with an intent, by intent.
    pub intents: BTreeMap<String, usize>,
    /// Messages with a sentiment, by sentiment.
    pub sentiments: BTreeMap<String, usize>,
    /// Messages with neither.
    pub unlabelled: usize,
    /// What was left out on purpose, by kind, such as cancelled annotations or lookup tables.
    pub left_out: BTreeMap<&'static str, usize>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// Reads exports of one tool. A file or a row that cannot be read is a problem of the result.
///
/// # Errors
/// When no file is given.
pub fn import(paths: &[PathBuf], format: ImportFormat, options: &ImportOptions) -> Result<Imported> {
    if paths.is_empty() {
        return Err(DatasetsError::NoFiles);
    }
    let mut reader = Reader { options, entries: Vec::new(), problems: Vec::new(), left_out: BTreeMap::new() };
    let mut names = label_studio::Names::default();
    let mut keys = doccano::Keys::default();
    let mut stems = rasa::Stems::default();
    for path in paths {
        let file = path.display().to_string();
        let text = match read_text(path, &file) {
            Ok(text) => text,
            Err(error) => {
                reader.whole_file(&file, "unreadable_file", error.to_string(), "name another file, or export it again");
                continue;
            }
        };
        match format {
            ImportFormat::LabelStudio => label_studio::read(&mut reader, &file, &text, &mut names),
            ImportFormat::Doccano => doccano::read(&mut reader, &file, &text, &mut keys),
            ImportFormat::Rasa => rasa::read(&mut reader, &file, &text, stems.name(path)),
        }
    }
    match format {
        ImportFormat::LabelStudio => names.tell(&mut reader),
        ImportFormat::Doccano => keys.tell(&mut reader),
        ImportFormat::Rasa => {}
    }
    Ok(reader.finish(format.prefix()))
}

/// Writes messages as chats in JSON Lines, whole or not at all; fields without a value are left out.
///
/// # Errors
/// When the file cannot be written; it is then as it was.
pub fn write_messages(messages: &[Message], path: &Path) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        session_id: &'a str,
        turn: i64,
        role: Role,
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        intent: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sentiment: Option<Sentiment>,
        #[serde(skip_serializing_if = "Option::is_none")]
        time: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        channel: Option<&'a str>,
    }
    write_atomically(path, |file| {
        let failed = |source: std::io::Error| DatasetsError::Write { file: path.display().to_string(), source };
        let mut out = std::io::BufWriter::new(file);
        for message in messages {
            let line = Line {
                session_id: &message.session_id,
                turn: message.turn,
                role: message.role,
                text: &message.text,
                intent: message.intent.as_deref(),
                sentiment: message.sentiment,
                time: message.time.as_deref(),
                channel: message.channel.as_deref(),
            };
            serde_json::to_writer(&mut out, &line).map_err(|error| failed(error.into()))?;
            out.write_all(b"\n").map_err(failed)?;
        }
        out.flush().map_err(failed)
    })
}

/// A label that somebody gave.
#[derive(Clone, Debug)]
struct Vote<T> {
    label: T,
    /// It was marked as the right one by whoever looked over the annotations.
    is_truth: bool,
}

/// One text of an export.
#[derive(Clone, Debug)]
struct Entry {
    /// What the tool calls it: entries with the same name are the same text, seen by several annotators.
    id: String,
    row: (String, u64),
    text: String,
    session: Option<String>,
    turn: Option<i64>,
    role: Role,
    time: Option<String>,
    channel: Option<String>,
    intents: Vec<Vote<String>>,
    sentiments: Vec<Vote<Sentiment>>,
}

/// Collects what the files hold.
struct Reader<'a> {
    options: &'a ImportOptions,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
    left_out: BTreeMap<&'static str, usize>,
}

impl Reader<'_> {
    fn whole_file(&mut self, file: &str, code: &'static str, message: String, remedy: &str) {
        // The place is printed before the message.
        let message = message.strip_prefix(file).map_or(message.as_str(), |rest| rest.trim_start_matches([':', ' ']));
        self.problems.push(Problem {
            severity: Severity::Error,
            code,
            file: Some(file.to_owned()),
            row: None,
            message: message.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    fn error(&mut self, code: &'static str, place: (&str, u64), message: impl Into<String>, remedy: &str) {
        self.problems.push(Problem::at(Severity::Error, code, place, message, remedy));
    }

    fn leave_out(&mut self, kind: &'static str, count: usize) {
        *self.left_out.entry(kind).or_default() += count;
    }

    /// The values of a JSON array, or of one JSON value a line, with the place of each from 1.
    fn json_rows(&mut self, file: &str, text: &str) -> Vec<(u64, Value)> {
        if text.trim_start().starts_with('[') {
            match serde_json::from_str::<Vec<Value>>(text) {
                Ok(values) => return (1..).zip(values).collect(),
                // A line of JSON Lines may be an array, too, and is told below as what it is.
                Err(error) if text.trim().lines().count() > 1 || error.is_eof() => {
                    let message = format!("this is not JSON: {error}");
                    self.whole_file(file, "malformed_file", message, "export it again, and do not edit it by hand");
                    return Vec::new();
                }
                Err(_) => {}
            }
        }
        let mut rows = Vec::new();
        let mut wrong = Vec::new();
        for (number, line) in (1u64..).zip(text.split('\n')) {
            let line = line.trim();
            if !line.is_empty() {
                match serde_json::from_str(line) {
                    Ok(value) => rows.push((number, value)),
                    Err(error) => {
                        wrong.push((number, error.to_string().replace(" at line 1 column ", " at character ")))
                    }
                }
            }
        }
        // One JSON object over many lines is no JSON Lines: one sentence is enough then.
        if rows.is_empty() && wrong.len() > 1 {
            let message = "this is neither a JSON array nor one JSON object a line".to_owned();
            self.whole_file(file, "malformed_file", message, "export it again as JSON");
            return rows;
        }
        for (number, message) in wrong {
            let message = format!("the line is not JSON: {message}");
            self.error("malformed_row", (file, number), message, "write one whole JSON object a line");
        }
        rows
    }

    /// A field that is a text or a number; anything else is told and stands for nothing.
    fn field(&mut self, place: (&str, u64), object: &serde_json::Map<String, Value>, key: &str) -> Option<String> {
        match object.get(key).map_or(Ok(None), json_text) {
            Ok(value) => value.filter(|value| !value.trim().is_empty()),
            Err(wrong) => {
                let message = format!("the field `{key}` is {wrong}");
                self.error("bad_field", place, message, "write a string or a number");
                None
            }
        }
    }

    /// An entry with what may stand beside the text: session, turn, role, time, channel.
    fn entry(
        &mut self,
        place: (&str, u64),
        id: String,
        text: String,
        beside: &serde_json::Map<String, Value>,
    ) -> Option<Entry> {
        if text.trim().is_empty() {
            self.error("empty_text", place, "the text is empty", "remove the row, or export its text, too");
            return None;
        }
        let trimmed = |text: Option<String>| text.map(|text| text.trim().to_owned());
        let session = trimmed(self.field(place, beside, "session_id"));
        let turn = match trimmed(self.field(place, beside, "turn")) {
            None => None,
            Some(word) => match word.strip_suffix(".0").unwrap_or(&word).parse::<i64>() {
                Ok(turn) => Some(turn),
                Err(_) => {
                    let message = format!("the turn {} is not a whole number", quoted(&word));
                    self.error("bad_turn", place, message, "number the messages of a session 0, 1, 2 ...");
                    return None;
                }
            },
        };
        let role = match trimmed(self.field(place, beside, "role")) {
            None => Role::User,
            Some(word) => match word.parse() {
                Ok(role) => role,
                Err(_) => {
                    let message = format!("the role {} is not known", quoted(&word));
                    self.error("bad_role", place, message, "write user, agent or bot; without a role it is user");
                    return None;
                }
            },
        };
        let (time, channel) = (self.field(place, beside, "time"), self.field(place, beside, "channel"));
        Some(Entry {
            id,
            row: (place.0.to_owned(), place.1),
            text,
            session,
            turn,
            role,
            time: trimmed(time),
            channel: trimmed(channel),
            intents: Vec::new(),
            sentiments: Vec::new(),
        })
    }

    /// The one intent among the labels of one annotator.
    fn intent(&mut self, place: (&str, u64), labels: &[String]) -> Option<String> {
        let labels: BTreeSet<&str> =
            labels.iter().map(|label| label.trim()).filter(|label| !label.is_empty()).collect();
        if labels.len() > 1 {
            let all = labels.iter().map(|label| quoted(label)).collect::<Vec<_>>().join(", ");
            let message = format!("the text has {} intents: {all}", labels.len());
            self.error("several_intents", place, message, "a message has one intent: choose the one to answer");
            return None;
        }
        labels.first().map(|&label| label.to_owned())
    }

    /// The one sentiment among the labels of one annotator.
    fn sentiment(&mut self, place: (&str, u64), labels: &[String]) -> Option<Sentiment> {
        let mut found = None;
        for label in labels.iter().filter(|label| !label.trim().is_empty()) {
            let Some(sentiment) = sentiment_word(label) else {
                let message = format!("the sentiment {} is not known", quoted(label));
                self.error("unknown_sentiment", place, message, "name it negative, neutral or positive");
                return None;
            };
            if found.is_some_and(|found| found != sentiment) {
                self.error("several_sentiments", place, "the text has several sentiments", "choose the main one");
                return None;
            }
            found = Some(sentiment);
        }
        found
    }

    fn finish(mut self, prefix: &str) -> Imported {
        let entries = self.merge();
        let mut messages = Vec::with_capacity(entries.len());
        let mut turns: HashMap<String, Turns> = HashMap::new();
        for entry in entries {
            let place = (entry.row.0.as_str(), entry.row.1);
            let intent = self.decide("intent", place, &entry.intents);
            let sentiment = self.decide("sentiment", place, &entry.sentiments);
            let session_id = entry.session.clone().unwrap_or_else(|| format!("{prefix}-{}", entry.id));
            let seen = turns.entry(session_id.clone()).or_default();
            let Some(turn) = seen.turn(&entry) else {
                let message = if entry.turn.is_some() {
                    format!("session {} has this turn twice, or other messages without a turn", quoted(&session_id))
                } else {
                    format!("session {} has messages with a turn and without one", quoted(&session_id))
                };
                self.error("bad_turn", place, message, "number all messages of a session, each differently, or none");
                continue;
            };
            messages.push(Message {
                session_id,
                turn,
                role: entry.role,
                text: entry.text,
                intent,
                sentiment,
                time: entry.time,
                channel: entry.channel,
                file: entry.row.0,
                row: entry.row.1,
            });
        }
        if messages.is_empty() && self.problems.is_empty() {
            self.problems.push(Problem::overall(
                Severity::Error,
                "no_rows",
                "there is no text in what was given",
                "name another file, or export it again",
            ));
        }
        let mut imported = Imported {
            sessions: turns.len(),
            unlabelled: messages.iter().filter(|m| m.intent.is_none() && m.sentiment.is_none()).count(),
            left_out: self.left_out,
            problems: self.problems,
            ..Imported::default()
        };
        for message in &messages {
            if let Some(intent) = &message.intent {
                *imported.intents.entry(intent.clone()).or_default() += 1;
            }
            if let Some(sentiment) = message.sentiment {
                *imported.sentiments.entry(sentiment.to_string()).or_default() += 1;
            }
        }
        imported.messages = messages;
        imported
    }

    /// Brings the votes of all annotators for a text together.
    fn merge(&mut self) -> Vec<Entry> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut merged: Vec<Entry> = Vec::with_capacity(self.entries.len());
        for entry in std::mem::take(&mut self.entries) {
            let known = places.get(&entry.id).copied().and_then(|at| merged.get_mut(at));
            let Some(first) = known else {
                places.insert(entry.id.clone(), merged.len());
                merged.push(entry);
                continue;
            };
            if (&first.text, &first.session, first.turn) == (&entry.text, &entry.session, entry.turn) {
                first.intents.extend(entry.intents);
                first.sentiments.extend(entry.sentiments);
            } else {
                let message = format!(
                    "the id {} is that of {}:{}, which has another text or place",
                    quoted(&entry.id),
                    first.row.0,
                    first.row.1
                );
                let remedy = "import files of different projects apart, each to a file of its own";
                self.error("same_id", (&entry.row.0, entry.row.1), message, remedy);
            }
        }
        merged
    }

    /// The label that the votes agree on: marked as the truth, or given by all, or by more than half.
    fn decide<T: Clone + Ord + ToString>(&mut self, what: &str, place: (&str, u64), votes: &[Vote<T>]) -> Option<T> {
        let mut counts = BTreeMap::<&T, usize>::new();
        votes.iter().for_each(|vote| *counts.entry(&vote.label).or_default() += 1);
        if counts.len() < 2 {
            return counts.into_keys().next().cloned();
        }
        let truths: BTreeSet<&T> = votes.iter().filter(|vote| vote.is_truth).map(|vote| &vote.label).collect();
        if let (Some(&truth), 1) = (truths.first(), truths.len()) {
            return Some(truth.clone());
        }
        let winner = counts.iter().find(|(_, count)| **count * 2 > votes.len()).map(|(&label, _)| label.clone());
        let all: Vec<String> =
            counts.iter().map(|(label, count)| format!("{} ({count})", quoted(&label.to_string()))).collect();
        let taken = winner.as_ref().map_or_else(
            || format!("no {what} is taken"),
            |winner| format!("{} is taken", quoted(&winner.to_string())),
        );
        self.problems.push(Problem::at(
            Severity::Warning,
            "annotators_disagree",
            place,
            format!("{what}: {}; {taken}", all.join(", ")),
            "settle it in the tool (in Label Studio: mark one annotation as ground truth) and export again",
        ));
        winner
    }
}

/// The turns of one session so far.
#[derive(Default)]
struct Turns {
    given: BTreeSet<i64>,
    counted: i64,
}

impl Turns {
    /// The turn of the next message, or nothing when the session would contradict itself.
    fn turn(&mut self, entry: &Entry) -> Option<i64> {
        match entry.turn {
            Some(turn) => (self.counted == 0 && self.given.insert(turn)).then_some(turn),
            None if self.given.is_empty() => {
                self.counted += 1;
                Some(self.counted - 1)
            }
            None => None,
        }
    }
}

/// A sentiment in the words that annotators use.
fn sentiment_word(word: &str) -> Option<Sentiment> {
    match word.trim().to_lowercase().as_str() {
        "negative" | "neg" | "负面" | "负向" | "消极" => Some(Sentiment::Negative),
        "neutral" | "neu" | "中性" | "中立" => Some(Sentiment::Neutral),
        "positive" | "pos" | "正面" | "正向" | "积极" => Some(Sentiment::Positive),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Imports texts as files of these names.
    pub(crate) fn import_texts(format: ImportFormat, options: &ImportOptions, files: &[(&str, &str)]) -> Imported {
        let folder = tempfile::tempdir().expect("a folder");
        let mut paths = Vec::new();
        for (name, text) in files {
            paths.push(folder.path().join(name));
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let mut imported = import(&paths, format, options).expect("files were given");
        let short = |file: &mut String| {
            *file = file.rsplit('/').next().unwrap_or_default().to_owned();
        };
        imported.messages.iter_mut().for_each(|message| short(&mut message.file));
        imported.problems.iter_mut().filter_map(|problem| problem.file.as_mut()).for_each(short);
        imported
    }

    /// Session, turn, role, text, intent and sentiment of each message.
    pub(crate) fn rows(imported: &Imported) -> Vec<String> {
        let row = |message: &Message| {
            format!(
                "{} {} {} {} {} {}",
                message.session_id,
                message.turn,
                message.role,
                message.text,
                message.intent.as_deref().unwrap_or("-"),
                message.sentiment.map_or("-", Sentiment::as_str)
            )
        };
        imported.messages.iter().map(row).collect()
    }

    /// Severity, code and place of each problem.
    pub(crate) fn problems(imported: &Imported) -> Vec<String> {
        let line = |problem: &Problem| format!("{} {} {}", problem.severity.as_str(), problem.code, problem.place());
        imported.problems.iter().map(line).collect()
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_beside_the_others() {
        let good = "{\"text\": \"退货\", \"label\": [\"退货\"]}";
        let files = [("a.jsonl", good), ("b.jsonl", " "), ("c.jsonl", "{\n\"text\": 1\n}"), ("d.json", "[{]")];
        let imported = import_texts(ImportFormat::Doccano, &ImportOptions::default(), &files);
        assert_eq!(
            problems(&imported),
            ["error unreadable_file b.jsonl", "error malformed_file c.jsonl", "error malformed_row d.json:1",]
        );
        assert!(matches!(import(&[], ImportFormat::Rasa, &ImportOptions::default()), Err(DatasetsError::NoFiles)));
        let gone = import(&["/no/such.json".into()], ImportFormat::Rasa, &ImportOptions::default()).expect("a problem");
        assert!(gone.problems[0].message.starts_with("cannot be read: "), "{:?}", gone.problems);
    }
}
