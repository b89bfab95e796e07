//! JSON Lines and JSON arrays: the two forms that hold every text as it is.

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

pub(super) fn render_lines(entries: &[KnowledgeEntry]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut bytes, entry).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

pub(super) fn render_array(entries: &[KnowledgeEntry]) -> Result<Vec<u8>, String> {
    let mut bytes = serde_json::to_vec_pretty(entries).map_err(|error| error.to_string())?;
    bytes.push(b'\n');
    Ok(bytes)
}
