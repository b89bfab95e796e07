//! Label Studio: tasks with `data`, and `annotations` whose `result`s are choices.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Reader, Vote};
use crate::problem::{Problem, Severity};
use crate::read::json_text;

/// What stands beside the text in `data` and is no text itself.
const BESIDE: [&str; 6] = ["session_id", "turn", "role", "time", "channel", "id"];

/// How often each `from_name` of a choice was met, over all files.
#[derive(Default)]
pub(super) struct Names {
    choices: BTreeMap<String, usize>,
}

impl Names {
    /// Tells names that nothing was taken from, and those that were asked for and are not there.
    pub(super) fn tell(self, reader: &mut Reader<'_>) {
        // Then no annotation was read, and why is told already.
        if self.choices.is_empty() && !reader.problems.is_empty() {
            return;
        }
        let wanted = [
            ("intent", "--intent-from", reader.options.intent_from.as_deref()),
            ("sentiment", "--sentiment-from", reader.options.sentiment_from.as_deref()),
        ];
        let list = |names: Vec<(&String, &usize)>| {
            names.iter().map(|(name, count)| format!("`{name}` ({count})")).collect::<Vec<_>>().join(", ")
        };
        for (_, flag, given) in wanted {
            if let Some(given) = given
                && !self.choices.contains_key(given)
            {
                let there = list(self.choices.iter().collect());
                let there = if there.is_empty() { "none".to_owned() } else { there };
                reader.problems.push(Problem::overall(
                    Severity::Error,
                    "unknown_name",
                    format!("no choice has the from_name `{given}`; there are: {there}"),
                    format!("give {flag} the name of the Choices tag in the project's labelling interface"),
                ));
            }
        }
        let is_taken = |name: &str| wanted.iter().any(|(usual, _, given)| given.unwrap_or(usual) == name);
        let others: Vec<_> = self.choices.iter().filter(|(name, _)| !is_taken(name)).collect();
        if others.is_empty() {
            return;
        }
        // Without any label that we know, the file was surely not exported for nothing.
        let nothing = others.len() == self.choices.len();
        reader.problems.push(Problem::overall(
            if nothing { Severity::Error } else { Severity::Warning },
            "choices_not_taken",
            format!("choices that are neither intent nor sentiment: {}", list(others)),
            "name them with --intent-from or --sentiment-from if they are one of these",
        ));
    }
}

pub(super) fn read(reader: &mut Reader<'_>, file: &str, text: &str, names: &mut Names) {
    for (number, task) in reader.json_rows(file, text) {
        read_task(reader, (file, number), &task, names);
    }
}

fn read_task(reader: &mut Reader<'_>, place: (&str, u64), task: &Value, names: &mut Names) {
    let Some(data) = task.get("data").and_then(Value::as_object) else {
        return reader.error(
            "no_task",
            place,
            "this is no task: it has no `data` object",
            "export the project as JSON (not JSON-MIN, CSV or TSV)",
        );
    };
    let text = match text_of(data, reader.options.text_from.as_deref()) {
        Ok(text) => text,
        Err(message) => {
            let remedy = "say which key of `data` holds the text with --text-from";
            return reader.error("no_text", place, message, remedy);
        }
    };
    let id = task.get("id").and_then(|id| json_text(id).ok().flatten()).unwrap_or_else(|| format!("row-{}", place.1));
    let Some(mut entry) = reader.entry(place, id, text, data) else { return };
    for annotation in task.get("annotations").and_then(Value::as_array).into_iter().flatten() {
        let says = |key: &str| annotation.get(key).and_then(Value::as_bool).unwrap_or(false);
        if says("was_cancelled") {
            reader.leave_out("cancelled annotations", 1);
            continue;
        }
        let options = reader.options;
        let (intent_from, sentiment_from) = (
            options.intent_from.as_deref().unwrap_or("intent"),
            options.sentiment_from.as_deref().unwrap_or("sentiment"),
        );
        let (mut intents, mut sentiments) = (Vec::new(), Vec::new());
        for result in annotation.get("result").and_then(Value::as_array).into_iter().flatten() {
            let word = |key: &str| result.get(key).and_then(Value::as_str).unwrap_or_default();
            let name = word("from_name");
            if word("type") != "choices" {
                if name == intent_from || name == sentiment_from {
                    let message = format!("`{name}` is of type `{}` and must be of type `choices`", word("type"));
                    reader.error("no_choice", place, message, "label whole texts with a Choices tag");
                }
                continue;
            }
            *names.choices.entry(name.to_owned()).or_default() += 1;
            let choices = match result.pointer("/value/choices") {
                Some(Value::Array(choices)) => choices.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                Some(Value::String(choice)) => vec![choice.clone()],
                _ => Vec::new(),
            };
            if name == intent_from {
                intents.extend(choices);
            } else if name == sentiment_from {
                sentiments.extend(choices);
            }
        }
        let is_truth = says("ground_truth");
        entry.intents.extend(reader.intent(place, &intents).map(|label| Vote { label, is_truth }));
        entry.sentiments.extend(reader.sentiment(place, &sentiments).map(|label| Vote { label, is_truth }));
    }
    reader.entries.push(entry);
}

/// The text: under the key that was named, under `text`, or the only one there is.
fn text_of(data: &Map<String, Value>, key: Option<&str>) -> Result<String, String> {
    let found = data.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let take = |key: &str, value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(format!("`{key}` of `data` is no string")),
    };
    if let Some(key) = key {
        return data
            .get(key)
            .map_or_else(|| Err(format!("`data` has no key `{key}`; it has {found}")), |v| take(key, v));
    }
    if let Some(value) = data.get("text") {
        return take("text", value);
    }
    let mut texts =
        data.iter().filter(|(key, value)| value.is_string() && !BESIDE.contains(&key.as_str())).map(|(_, value)| value);
    match (texts.next(), texts.next()) {
        (Some(only), None) => take("text", only),
        _ => Err(format!("`data` has no key `text`; it has {found}")),
    }
}

#[cfg(test)]
mod tests {
    use crate::import::tests::{import_texts, problems, rows};
    use crate::import::{ImportFormat, ImportOptions};

    use super::*;

    fn choice(name: &str, choices: &[&str]) -> Value {
        serde_json::json!({
            "id": "x", "type": "choices", "from_name": name, "to_name": "text", "value": { "choices": choices },
        })
    }

    fn task(id: u64, data: Value, annotations: Vec<Value>) -> Value {
        serde_json::json!({
            "id": id, "data": data, "annotations": annotations, "predictions": [], "drafts": [], "meta": {},
        })
    }

    fn annotation(result: Vec<Value>) -> Value {
        serde_json::json!({ "completed_by": 1, "was_cancelled": false, "ground_truth": false, "result": result })
    }

    fn said(intent: &str) -> Value {
        annotation(vec![choice("intent", &[intent])])
    }

    fn run(options: &ImportOptions, tasks: Vec<Value>) -> crate::import::Imported {
        let text = serde_json::to_string(&tasks).expect("JSON");
        import_texts(ImportFormat::LabelStudio, options, &[("a.json", &text)])
    }

    #[test]
    fn tasks_become_messages() {
        let data = |text: &str| serde_json::json!({ "text": text });
        let both = annotation(vec![choice("intent", &["退货"]), choice("sentiment", &["Negative"])]);
        let turn = |turn: u64, role: &str, text: &str| serde_json::json!({ "text": text, "session_id": 12, "turn": turn, "role": role, "channel": "app" });
        let imported = run(
            &ImportOptions::default(),
            vec![
                task(7, data("怎么退货，太慢了"), vec![both]),
                task(8, turn(0, "user", "在吗"), vec![said("问候")]),
                task(9, turn(1, "agent", "在的"), vec![]),
                task(10, serde_json::json!({ "content": "发票呢" }), vec![]),
            ],
        );
        assert_eq!(
            rows(&imported),
            [
                "label-studio-7 0 user 怎么退货，太慢了 退货 negative",
                "12 0 user 在吗 问候 -",
                "12 1 agent 在的 - -",
                "label-studio-10 0 user 发票呢 - -",
            ]
        );
        assert_eq!(problems(&imported), Vec::<String>::new());
        assert_eq!((imported.sessions, imported.unlabelled, imported.intents["退货"]), (3, 2, 1));
        assert_eq!(imported.messages[1].channel.as_deref(), Some("app"));
    }

    #[test]
    fn annotators_agree_or_are_told() {
        let data = || serde_json::json!({ "text": "运费谁出" });
        let mut cancelled = said("闲聊");
        cancelled["was_cancelled"] = true.into();
        let mut truth = said("换货");
        truth["ground_truth"] = true.into();
        let imported = run(
            &ImportOptions::default(),
            vec![
                task(1, data(), vec![said("运费"), said("运费"), cancelled]),
                task(2, data(), vec![said("运费"), said("退货"), said("运费")]),
                task(3, data(), vec![said("运费"), said("退货")]),
                task(4, data(), vec![said("运费"), said("退货"), truth]),
            ],
        );
        let intents: Vec<_> = imported.messages.iter().map(|message| message.intent.as_deref()).collect();
        assert_eq!(intents, [Some("运费"), Some("运费"), None, Some("换货")]);
        assert_eq!(
            problems(&imported),
            ["warning annotators_disagree a.json:2", "warning annotators_disagree a.json:3"]
        );
        assert_eq!(imported.problems[0].message, "intent: `运费` (2), `退货` (1); `运费` is taken");
        assert_eq!(imported.problems[1].message, "intent: `运费` (1), `退货` (1); no intent is taken");
        assert_eq!(imported.left_out["cancelled annotations"], 1);
    }

    #[test]
    fn names_of_the_labels_can_be_said() {
        let result = vec![choice("topic", &["退货"]), choice("mood", &["正面"]), choice("urgent", &["yes"])];
        let tasks =
            || vec![task(1, serde_json::json!({ "message": "好", "note": "n" }), vec![annotation(result.clone())])];
        let named = |text: Option<&str>, intent: &str| ImportOptions {
            text_from: text.map(str::to_owned),
            intent_from: Some(intent.to_owned()),
            sentiment_from: Some("mood".to_owned()),
        };
        let imported = run(&named(Some("message"), "topic"), tasks());
        assert_eq!(rows(&imported), ["label-studio-1 0 user 好 退货 positive"]);
        assert_eq!(problems(&imported), ["warning choices_not_taken "]);
        assert!(imported.problems[0].message.ends_with(": `urgent` (1)"), "{:?}", imported.problems);

        let imported = run(&named(Some("message"), "subject"), tasks());
        assert_eq!(problems(&imported), ["error unknown_name ", "warning choices_not_taken "]);
        let imported = run(&ImportOptions { text_from: Some("message".into()), ..ImportOptions::default() }, tasks());
        assert_eq!(problems(&imported), ["error choices_not_taken "]);
        let imported = run(&named(None, "topic"), tasks());
        assert_eq!(problems(&imported)[0], "error no_text a.json:1");
        assert!(imported.problems[0].message.ends_with("it has `message`, `note`"), "{:?}", imported.problems);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let data = |more: Value| {
            let mut data = serde_json::json!({ "text": "好" });
            data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            data
        };
        let none = || serde_json::json!({});
        let span = serde_json::json!({ "type": "labels", "from_name": "intent", "value": { "labels": ["x"] } });
        let imported = run(
            &ImportOptions::default(),
            vec![
                serde_json::json!({ "text": "JSON-MIN", "intent": "退货" }),
                task(2, data(none()), vec![annotation(vec![choice("intent", &["退货", "换货"])])]),
                task(3, data(none()), vec![annotation(vec![choice("sentiment", &["开心"])])]),
                task(4, data(serde_json::json!({ "role": "客户" })), vec![]),
                task(5, data(serde_json::json!({ "turn": "零", "session_id": "s" })), vec![]),
                task(6, data(serde_json::json!({ "turn": 1, "session_id": "t" })), vec![]),
                task(7, data(serde_json::json!({ "turn": 1, "session_id": "t" })), vec![]),
                task(8, data(serde_json::json!({ "session_id": "t" })), vec![]),
                task(9, serde_json::json!({ "text": " " }), vec![]),
                task(10, data(none()), vec![annotation(vec![span])]),
                task(3, serde_json::json!({ "text": "另一个" }), vec![]),
                serde_json::json!(5),
            ],
        );
        assert_eq!(
            problems(&imported),
            [
                "error no_task a.json:1",
                "error several_intents a.json:2",
                "error unknown_sentiment a.json:3",
                "error bad_role a.json:4",
                "error bad_turn a.json:5",
                "error empty_text a.json:9",
                "error no_choice a.json:10",
                "error no_task a.json:12",
                "error same_id a.json:11",
                "error bad_turn a.json:7",
                "error bad_turn a.json:8",
            ]
        );
    }
}
