//! doccano: one text a line with a list of labels under `label`, or `labels` in older exports.
//!
//! A project has one set of labels for everything. Where the same key gives both intent and sentiment, which is so when no
//! key is named, a label is told apart by its word: one that names a sentiment is the sentiment, any other the intent.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Reader, Vote, sentiment_word};
use crate::problem::{Problem, Severity, quoted};
use crate::read::json_text;

/// Which keys were met, over all files.
#[derive(Default)]
pub(super) struct Keys {
    rows: usize,
    labelled: [usize; 2],
    others: BTreeSet<String>,
}

impl Keys {
    /// Tells that no row has the key that labels are taken from.
    pub(super) fn tell(self, reader: &mut Reader<'_>) {
        let given =
            [("--intent-from", &reader.options.intent_from), ("--sentiment-from", &reader.options.sentiment_from)];
        let there = self.others.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let mut missing = Vec::new();
        if self.rows > 0 && given.iter().all(|(_, given)| given.is_none()) && self.labelled == [0, 0] {
            missing.push(("no row has a key `label` or `labels`".to_owned(), "--intent-from"));
        }
        for ((flag, given), labelled) in given.into_iter().zip(self.labelled) {
            if let Some(key) = given
                && labelled == 0
                && self.rows > 0
            {
                missing.push((format!("no row has a key `{key}`"), flag));
            }
        }
        for (message, flag) in missing {
            reader.problems.push(Problem::overall(
                Severity::Error,
                "no_labels",
                format!("{message}; other keys are: {there}"),
                format!("name the key that holds the labels with {flag}; only text classification projects are read"),
            ));
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, file: &str, text: &str, keys: &mut Keys) {
    for (number, row) in reader.json_rows(file, text) {
        let Value::Object(object) = row else {
            reader.error("no_object", (file, number), "this is JSON, but no object", "export it again as JSONL");
            continue;
        };
        keys.rows += 1;
        read_row(reader, (file, number), &object, keys);
    }
}

fn read_row(reader: &mut Reader<'_>, place: (&str, u64), object: &Map<String, Value>, keys: &mut Keys) {
    /// Enough to recognise a file by.
    const MOST: usize = 32;
    for key in object.keys().filter(|key| !["id", "label", "labels"].contains(&key.as_str())) {
        if keys.others.len() < MOST && !keys.others.contains(key) {
            keys.others.insert(key.clone());
        }
    }
    let key = match reader.options.text_from.as_deref() {
        Some(key) => key,
        // doccano 1.5 wrote the text as `data`.
        None if !object.contains_key("text") && object.contains_key("data") => "data",
        None => "text",
    };
    let Some(text) = object.get(key).and_then(Value::as_str) else {
        let message = format!("there is no string under the key `{key}`");
        return reader.error("no_text", place, message, "say which key holds the text with --text-from");
    };
    let id = object.get("id").and_then(|id| json_text(id).ok().flatten());
    let Some(mut entry) = reader.entry(place, id.unwrap_or_else(|| nameless(place)), text.to_owned(), object) else {
        return;
    };

    let options = reader.options;
    let (intent_from, sentiment_from) = match (options.intent_from.as_deref(), options.sentiment_from.as_deref()) {
        (None, None) => (Some("label"), Some("label")),
        named => named,
    };
    let value = |key: Option<&str>| {
        key.and_then(|key| match key {
            "label" | "labels" => object.get("label").or_else(|| object.get("labels")),
            other => object.get(other),
        })
    };
    let values = [value(intent_from), value(sentiment_from)];
    for (count, value) in keys.labelled.iter_mut().zip(values) {
        *count += usize::from(value.is_some());
    }
    let [mut intents, mut sentiments] = [Vec::new(), Vec::new()];
    if let Some(value) = values[0] {
        intents = labels_of(reader, place, text, value);
    }
    if intent_from == sentiment_from {
        sentiments = intents.extract_if(.., |label| sentiment_word(label).is_some()).collect();
    } else if let Some(value) = values[1] {
        sentiments = labels_of(reader, place, text, value);
    }
    entry.intents.extend(reader.intent(place, &intents).map(|label| Vote { label, is_truth: false }));
    entry.sentiments.extend(reader.sentiment(place, &sentiments).map(|label| Vote { label, is_truth: false }));
    reader.entries.push(entry);
}

/// A name for a row without one: rows of different files are different then.
fn nameless((file, number): (&str, u64)) -> String {
    let stem = std::path::Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    format!("{}-{number}", stem.unwrap_or_default())
}

/// The labels in a cell: a word or a list of words. A span `[from, to, word]` counts when it covers the whole text.
fn labels_of(reader: &mut Reader<'_>, place: (&str, u64), text: &str, value: &Value) -> Vec<String> {
    let items = match value {
        Value::Null => return Vec::new(),
        Value::String(label) => return vec![label.clone()],
        Value::Array(items) => items,
        other => std::slice::from_ref(other),
    };
    let mut labels = Vec::new();
    for item in items {
        match item {
            Value::String(label) => labels.push(label.clone()),
            Value::Array(span) => match span.as_slice() {
                [Value::Number(from), Value::Number(to), Value::String(label)] => {
                    if from.as_u64() == Some(0) && to.as_u64() == Some(text.chars().count() as u64) {
                        labels.push(label.clone());
                    } else {
                        reader.leave_out("labels of a part of a text", 1);
                    }
                }
                _ => wrong_label(reader, place, item),
            },
            _ => wrong_label(reader, place, item),
        }
    }
    labels
}

fn wrong_label(reader: &mut Reader<'_>, place: (&str, u64), item: &Value) {
    let message = format!("the label {} is no word", quoted(&item.to_string()));
    reader.error("bad_label", place, message, "export the names of labels, not their numbers");
}

#[cfg(test)]
mod tests {
    use crate::import::tests::{import_texts, problems, rows};
    use crate::import::{ImportFormat, ImportOptions, Imported};

    fn run(options: &ImportOptions, files: &[(&str, &str)]) -> Imported {
        import_texts(ImportFormat::Doccano, options, files)
    }

    fn named(intent: Option<&str>, sentiment: Option<&str>) -> ImportOptions {
        ImportOptions {
            intent_from: intent.map(str::to_owned),
            sentiment_from: sentiment.map(str::to_owned),
            ..ImportOptions::default()
        }
    }

    #[test]
    fn rows_of_old_and_new_exports_become_messages() {
        let text = r#"{"id": 1, "text": "怎么退货", "label": ["退货"]}
{"id": 2, "text": "太差了，退货", "labels": ["退货", "negative"], "session_id": "s1", "turn": 3}

{"id": 3, "data": "谢谢", "label": "正面", "Comments": []}
{"id": 4, "text": "发票", "label": [[0, 2, "发票"], [0, 1, "字"]]}
{"id": 5, "text": "嗯", "label": []}"#;
        let imported = run(&ImportOptions::default(), &[("all.jsonl", text)]);
        assert_eq!(
            rows(&imported),
            [
                "doccano-1 0 user 怎么退货 退货 -",
                "s1 3 user 太差了，退货 退货 negative",
                "doccano-3 0 user 谢谢 - positive",
                "doccano-4 0 user 发票 发票 -",
                "doccano-5 0 user 嗯 - -",
            ]
        );
        assert_eq!(problems(&imported), Vec::<String>::new());
        assert_eq!(imported.left_out["labels of a part of a text"], 1);
        assert_eq!(imported.messages[2].row, 4);

        let array =
            "[\n{\"text\": \"怎么退货\", \"label\": [\"退货\"]},\n{\"text\": \"你好\", \"label\": [\"问候\"]}\n]";
        let imported = run(&ImportOptions::default(), &[("all.json", array)]);
        assert_eq!(rows(&imported), ["doccano-all-1 0 user 怎么退货 退货 -", "doccano-all-2 0 user 你好 问候 -"]);
    }

    #[test]
    fn a_named_key_says_what_its_labels_are() {
        let text = r#"{"id": 1, "text": "好评怎么返现", "label": ["正面"], "mood": ["neutral"]}"#;
        let all = |options: &ImportOptions| rows(&run(options, &[("a.jsonl", text)]));
        assert_eq!(all(&named(Some("label"), None)), ["doccano-1 0 user 好评怎么返现 正面 -"]);
        assert_eq!(all(&named(None, Some("label"))), ["doccano-1 0 user 好评怎么返现 - positive"]);
        assert_eq!(all(&named(Some("label"), Some("mood"))), ["doccano-1 0 user 好评怎么返现 正面 neutral"]);
        let imported = run(&named(Some("topic"), Some("mood")), &[("a.jsonl", text)]);
        assert_eq!(problems(&imported), ["error no_labels "]);
        assert!(imported.problems[0].message.contains("no row has a key `topic`"), "{:?}", imported.problems);
    }

    #[test]
    fn files_of_several_annotators_are_brought_together() {
        let one = r#"{"id": 1, "text": "运费", "label": ["运费"]}
{"id": 2, "text": "快点", "label": ["催促"]}
{"id": 3, "text": "好", "label": ["问候"]}"#;
        let two = r#"{"id": 1, "text": "运费", "label": ["运费"]}
{"id": 2, "text": "快点", "label": ["物流查询"]}
{"id": 3, "text": "不好", "label": ["问候"]}"#;
        let imported = run(&ImportOptions::default(), &[("ann.jsonl", one), ("bob.jsonl", two)]);
        assert_eq!(problems(&imported), ["error same_id bob.jsonl:3", "warning annotators_disagree ann.jsonl:2"]);
        assert_eq!(rows(&imported)[..2], ["doccano-1 0 user 运费 运费 -", "doccano-2 0 user 快点 - -"]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let text = r#"{"id": 1, "text": "a", "label": ["退货", "换货"]}
{"id": 2, "text": "a", "label": [3]}
{"id": 3, "label": ["退货"]}
{"id": 4, "text": "a", "label": [
["一", "二"]
{"id": 5, "text": "", "label": ["退货"]}
{"id": 6, "text": "a", "label": ["negative", "positive"]}"#;
        let imported = run(&ImportOptions::default(), &[("a.jsonl", text)]);
        assert_eq!(
            problems(&imported),
            [
                "error malformed_row a.jsonl:4",
                "error several_intents a.jsonl:1",
                "error bad_label a.jsonl:2",
                "error no_text a.jsonl:3",
                "error no_object a.jsonl:5",
                "error empty_text a.jsonl:6",
                "error several_sentiments a.jsonl:7",
            ]
        );
        let imported =
            run(&ImportOptions::default(), &[("a.jsonl", r#"{"text": "a", "annotations": [{"label": 3}]}"#)]);
        assert_eq!(problems(&imported), ["error no_labels "]);
    }
}
