//! `export-corrections`: what people put right, as examples for `yingda-train`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::json;
use yingda::StartError;
use yingda::config::{Config, Flags, ServeFlags};
use yingda::storage::{Correction, Storage};

use super::{say, wrong};

/// Writes one message a line; the file appears when it is whole.
pub(super) async fn export(flags: Flags, file: &Path) -> Result<(), StartError> {
    let config = Config::load_without_model(flags, ServeFlags::default())?;
    let storage = Storage::open(&config.database_url()).await?;
    let corrections = storage.corrections().await?;
    storage.close().await;
    let examples = examples(&corrections);
    let cannot = |error: std::io::Error| wrong(format!("{} cannot be written: {error}", file.display()));
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut written = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    for example in &examples {
        writeln!(written, "{example}").map_err(cannot)?;
    }
    written.as_file().sync_all().map_err(cannot)?;
    written.persist(file).map_err(|error| cannot(error.error))?;
    say!("{} messages that people put right are in {}", examples.len(), file.display());
    Ok(())
}

/// The messages with their last corrections of intent and sentiment, in the form that `yingda-train` reads.
fn examples(corrections: &[(Correction, String)]) -> Vec<serde_json::Value> {
    let mut messages: BTreeMap<(&str, i64), serde_json::Value> = BTreeMap::new();
    for (correction, text) in corrections {
        // A priority is no label of the model.
        if !["intent", "sentiment"].contains(&correction.field.as_str()) {
            continue;
        }
        let Correction { session_id, seq, field, is_now, .. } = correction;
        let message = messages
            .entry((session_id, *seq))
            .or_insert_with(|| json!({ "session_id": session_id, "turn": seq, "role": "user", "text": text }));
        message[field] = json!(is_now);
    }
    messages.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_message_counts() {
        let correction = |seq, field: &str, is_now: &str| {
            let correction = Correction {
                ticket_id: "t".into(),
                session_id: "s".into(),
                seq,
                field: field.into(),
                was: None,
                is_now: is_now.into(),
                model: "m".into(),
                author: "小王".into(),
            };
            (correction, "退款呢".to_owned())
        };
        let all = [
            correction(3, "intent", "退货"),
            correction(3, "priority", "high"),
            correction(3, "sentiment", "negative"),
            correction(3, "intent", "退款"),
            correction(1, "priority", "low"),
        ];
        let message = json!({
            "session_id": "s", "turn": 3, "role": "user", "text": "退款呢", "intent": "退款", "sentiment": "negative",
        });
        assert_eq!(examples(&all), [message]);
    }
}
