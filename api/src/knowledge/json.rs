//! JSON Lines and JSON arrays: the two forms that hold every text as it is.

use serde::Serialize;
use yingda_engine::KnowledgeEntry;

use super::{Place, Placed, Problems};

pub(super) fn parse(text: &str, problems: &mut Problems) -> Vec<Placed> {
    if text.trim_start().starts_with('[') { from_array(text, problems) } else { from_lines(text, problems) }
}

fn from_lines(text: &str, problems: &mut Problems) -> Vec<Placed> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place::line(index + 1);
        match serde_json::from_str(line) {
            Ok(entry) => entries.push(Placed { place, entry, id_of_question: false }),
            Err(error) => problems.add(&place, sentence(&error)),
        }
    }
    entries
}

fn from_array(text: &str, problems: &mut Problems) -> Vec<Placed> {
    let values: Vec<serde_json::Value> = match serde_json::from_str(text) {
        Ok(values) => values,
        Err(error) => {
            problems.add(&Place::line(error.line()), sentence(&error));
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let place = Place::entry(index + 1);
        match serde_json::from_value(value) {
            Ok(entry) => entries.push(Placed { place, entry, id_of_question: false }),
            Err(error) => problems.add(&place, sentence(&error)),
        }
    }
    entries
}

/// serde's sentence without its own line number, which counts from the start of our line.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((text, _)) => format!("{text} (column {})", error.column()),
        None => text,
    }
}

/// An entry as it is written: what it does not say is left out.
#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    question: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    similar_questions: &'a [String],
    answer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_to: Option<&'a str>,
}

fn written(entry: &KnowledgeEntry) -> Written<'_> {
    Written {
        id: &entry.id,
        question: &entry.question,
        similar_questions: &entry.similar_questions,
        answer: &entry.answer,
        intent: entry.intent.as_deref(),
        tags: &entry.tags,
        valid_from: entry.valid_from.as_deref(),
        valid_to: entry.valid_to.as_deref(),
    }
}

pub(super) fn render_lines(entries: &[KnowledgeEntry]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut bytes, &written(entry)).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

pub(super) fn render_array(entries: &[KnowledgeEntry]) -> Result<Vec<u8>, String> {
    let entries: Vec<Written<'_>> = entries.iter().map(written).collect();
    let mut bytes = serde_json::to_vec_pretty(&entries).map_err(|error| error.to_string())?;
    bytes.push(b'\n');
    Ok(bytes)
}
