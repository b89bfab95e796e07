//! Rasa NLU: `nlu:` items in YAML, versions 2 and 3. Intents with their examples are taken; synonyms, lookup tables and
//! regular expressions are left out, and marked entities are reduced to their text.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::{Reader, Vote};
use crate::problem::quoted;

#[derive(Deserialize)]
struct Document {
    version: Option<String>,
    nlu: Option<Vec<Spanned<Item>>>,
}

#[derive(Deserialize)]
struct Item {
    intent: Option<String>,
    synonym: Option<IgnoredAny>,
    lookup: Option<IgnoredAny>,
    regex: Option<IgnoredAny>,
    examples: Option<Spanned<Examples>>,
    metadata: Option<Value>,
}

/// What stands under `examples`.
enum Examples {
    /// Lines that begin with a hyphen, in one text.
    Block(String),
    /// A list, each with metadata of its own.
    List(Vec<Spanned<Example>>),
}

#[derive(Deserialize)]
struct Example {
    text: String,
    metadata: Option<Value>,
}

impl<'de> Deserialize<'de> for Examples {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Examples;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("lines that begin with `- `, or a list of `text`")
            }

            fn visit_str<E>(self, text: &str) -> Result<Examples, E> {
                Ok(Examples::Block(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Examples, A::Error> {
                let mut examples = Vec::new();
                while let Some(example) = items.next_element()? {
                    examples.push(example);
                }
                Ok(Examples::List(examples))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Names for the sessions of each file: its own, with a number where several files have the same.
#[derive(Default)]
pub(super) struct Stems {
    seen: HashMap<String, usize>,
}

impl Stems {
    pub(super) fn name(&mut self, path: &Path) -> String {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let seen = self.seen.entry(stem.clone()).or_default();
        *seen += 1;
        if *seen == 1 { stem } else { format!("{stem}.{seen}") }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, file: &str, text: &str, name: String) {
    let document: Document = match serde_saphyr::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let row = error.location().map(|location| location.line());
            let message = format!("this is not Rasa training data in YAML: {}", first_line(&error.to_string()));
            let remedy =
                "mend the line, or bring a file of version 2 or 3 (`rasa data convert` makes one of older files)";
            match row {
                Some(row) => reader.error("malformed_file", (file, row), message, remedy),
                None => reader.whole_file(file, "malformed_file", message, remedy),
            }
            return;
        }
    };
    if let Some(version) = document.version.as_deref().map(str::trim)
        && !["2", "3"].contains(&version.split('.').next().unwrap_or_default())
    {
        let message = format!("the version is {} and must be 2 or 3", quoted(version));
        return reader.whole_file(file, "unknown_version", message, "convert the file with `rasa data convert`");
    }
    let Some(items) = document.nlu else {
        let remedy = "name the file with the intents; rules, stories and answers are no training texts";
        return reader.whole_file(file, "no_nlu", "there is no `nlu:` in this file".to_owned(), remedy);
    };
    let mut source = Source { reader, file, lines: text.lines().collect(), name, entries: 0 };
    for item in items {
        source.read_item(item);
    }
}

/// The parser's sentence: it shows the place below it, and says it before it, which the row does.
fn first_line(message: &str) -> &str {
    let line = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.split_once(": ") {
        Some((place, sentence)) if place.starts_with("line ") => sentence,
        _ => line,
    }
}

struct Source<'a, 'o> {
    reader: &'a mut Reader<'o>,
    file: &'a str,
    lines: Vec<&'a str>,
    name: String,
    entries: usize,
}

impl Source<'_, '_> {
    fn read_item(&mut self, item: Spanned<Item>) {
        let row = item.referenced.line();
        let item = item.value;
        for (kind, there) in [
            ("synonyms", item.synonym.is_some()),
            ("lookup tables", item.lookup.is_some()),
            ("regular expressions", item.regex.is_some()),
        ] {
            if there {
                return self.reader.leave_out(kind, 1);
            }
        }
        let Some(intent) = item.intent.filter(|intent| !intent.trim().is_empty()) else {
            let message = "this item has no intent; known are intent, synonym, lookup and regex";
            return self.reader.error("no_intent", (self.file, row), message, "name the intent of the examples");
        };
        let Some(examples) = item.examples else {
            let message = format!("the intent {} has no examples", quoted(&intent));
            return self.reader.error(
                "no_examples",
                (self.file, row),
                message,
                "write examples under it, or remove it",
            );
        };
        match examples.value {
            Examples::Block(block) => {
                for (row, line) in (self.block_start(examples.referenced.line(), &block)..).zip(block.lines()) {
                    let line = line.trim();
                    if line.is_empty() || line.starts_with('#') {
                        continue;
                    }
                    match line.strip_prefix('-') {
                        Some(text) => self.add(row, text.trim(), &intent, [item.metadata.as_ref(), None]),
                        None => {
                            let message = format!("the example {} does not begin with a hyphen", quoted(line));
                            let remedy = "begin each example with `- `, in one line";
                            self.reader.error("malformed_row", (self.file, row), message, remedy);
                        }
                    }
                }
            }
            Examples::List(examples) => {
                for example in examples {
                    let (row, example) = (example.referenced.line(), example.value);
                    let text = example.text.trim();
                    let text = text.strip_prefix("- ").unwrap_or(text).trim();
                    self.add(row, text, &intent, [item.metadata.as_ref(), example.metadata.as_ref()]);
                }
            }
        }
    }

    /// The line where the first line of a block stands: below the `|`, or beside the key.
    fn block_start(&self, row: u64, block: &str) -> u64 {
        let first = block.lines().next().unwrap_or_default().trim();
        let stands = |row: u64| {
            let index = usize::try_from(row).ok()?.checked_sub(1)?;
            Some(self.lines.get(index)?.trim() == first)
        };
        if stands(row) == Some(true) || stands(row + 1) != Some(true) { row } else { row + 1 }
    }

    /// One example; metadata of its own goes before that of its intent.
    fn add(&mut self, row: u64, marked: &str, intent: &str, metadata: [Option<&Value>; 2]) {
        self.entries += 1;
        let place = (self.file, row);
        let id = format!("{}-{}", self.name, self.entries);
        let Some(mut entry) = self.reader.entry(place, id, plain(marked), &serde_json::Map::new()) else { return };
        let key = self.reader.options.sentiment_from.as_deref().unwrap_or("sentiment");
        let word = metadata.iter().rev().flatten().find_map(|metadata| metadata.get(key)?.as_str());
        if let Some(word) = word {
            let sentiment = self.reader.sentiment(place, &[word.to_owned()]);
            entry.sentiments.extend(sentiment.map(|label| Vote { label, is_truth: false }));
        }
        entry.intents.push(Vote { label: intent.trim().to_owned(), is_truth: false });
        self.reader.entries.push(entry);
    }
}

/// The text of an example without the marks of entities: `[北京](city)`, `[北京](city:BJ)`, `[北京]{"entity": "city"}` and
/// `[北京][{"entity": "city"}]` are all 北京. Other brackets stay.
fn plain(marked: &str) -> String {
    let mut text = String::with_capacity(marked.len());
    let mut rest = marked;
    while let Some(open) = rest.find('[') {
        text.push_str(&rest[..open]);
        let tail = &rest[open + 1..];
        match entity(tail) {
            Some((inner, length)) => {
                text.push_str(inner);
                rest = &tail[length..];
            }
            None => {
                text.push('[');
                rest = tail;
            }
        }
    }
    text.push_str(rest);
    text
}

/// The text of the entity that begins behind a `[`, and how long it is with its marks.
fn entity(tail: &str) -> Option<(&str, usize)> {
    let close = tail.find(']').filter(|&close| close > 0)?;
    let marks = &tail[close + 1..];
    let end = match marks.as_bytes().first()? {
        b'(' => ')',
        b'{' => '}',
        b'[' if marks[1..].trim_start().starts_with('{') => ']',
        _ => return None,
    };
    let length = marks.find(end).filter(|&length| length > 1)?;
    Some((&tail[..close], close + 1 + length + 1))
}

#[cfg(test)]
mod tests {
    use crate::import::tests::{import_texts, problems, rows};
    use crate::import::{ImportFormat, ImportOptions, Imported};

    use super::*;

    fn run(files: &[(&str, &str)]) -> Imported {
        import_texts(ImportFormat::Rasa, &ImportOptions::default(), files)
    }

    const NLU: &str = r#"version: "3.1"

nlu:
- intent: 物流查询
  examples: |
    - 我的快递到[北京](city)了吗
    - 发[顺丰]{"entity": "carrier", "value": "SF"}还是[中通](carrier:ZTO)

    - 单号[手机号]查一下
- synonym: 北京
  examples: |
    - 帝都
- intent: faq/退货
  metadata:
    sentiment: negative
  examples:
  - text: |
      怎么还不给我[退]
    metadata:
      sentiment: neutral
  - text: '退[货][{"entity": "a"}, {"entity": "b"}]'
- lookup: city
  examples: |
    - 北京
- regex: order
  examples: |
    - \d{12}
- intent: 问候   # not many
  examples: "- 你好"
rules:
- rule: hello
  steps: []
"#;

    #[test]
    fn intents_with_their_examples_become_messages() {
        let imported = run(&[("nlu.yml", NLU)]);
        assert_eq!(problems(&imported), Vec::<String>::new());
        assert_eq!(
            rows(&imported),
            [
                "rasa-nlu-1 0 user 我的快递到北京了吗 物流查询 -",
                "rasa-nlu-2 0 user 发顺丰还是中通 物流查询 -",
                "rasa-nlu-3 0 user 单号[手机号]查一下 物流查询 -",
                "rasa-nlu-4 0 user 怎么还不给我[退] faq/退货 neutral",
                "rasa-nlu-5 0 user 退货 faq/退货 negative",
                "rasa-nlu-6 0 user 你好 问候 -",
            ]
        );
        let lines: Vec<u64> = imported.messages.iter().map(|message| message.row).collect();
        assert_eq!(lines, [6, 7, 9, 17, 21, 29]);
        assert_eq!(
            imported.left_out.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>(),
            ["lookup tables 1", "regular expressions 1", "synonyms 1"]
        );
    }

    #[test]
    fn sessions_of_files_with_the_same_name_stay_apart() {
        let file = "nlu:\n- intent: a\n  examples: |\n    - 好\n";
        let imported = run(&[("nlu.yml", file), ("nlu.yaml", file)]);
        assert_eq!(rows(&imported), ["rasa-nlu-1 0 user 好 a -", "rasa-nlu.2-1 0 user 好 a -"]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let wrong = "version: 3.1\nnlu:\n- intent: a\n  examples: |\n    - 好\n    不好\n    -\n- examples: |\n    - 好\n\
                     - intent: b\n";
        let imported = run(&[
            ("a.yml", wrong),
            ("b.yml", "nlu:\n- intent: [a\n"),
            ("c.yml", "version: '1.0'\nnlu: []\n"),
            ("d.yml", "stories: []\n"),
            ("e.yml", "## intent:greet\n- hello\n"),
        ]);
        let told = problems(&imported);
        assert_eq!(
            told[..4],
            [
                "error malformed_row a.yml:6",
                "error empty_text a.yml:7",
                "error no_intent a.yml:8",
                "error no_examples a.yml:10",
            ]
        );
        assert!(told[4].starts_with("error malformed_file b.yml:"), "{told:?}");
        assert_eq!(told[5..7], ["error unknown_version c.yml", "error no_nlu d.yml"]);
        assert!(told[7].starts_with("error malformed_file e.yml"), "{told:?}");
    }

    #[test]
    fn the_parser_is_quoted_without_its_place() {
        let imported = run(&[("a.yml", "nlu:\n- intent: [b]\n")]);
        assert_eq!(imported.problems[0].row, Some(2));
        assert_eq!(imported.problems[0].message, "this is not Rasa training data in YAML: expected string scalar");
    }

    #[test]
    fn marks_of_entities_go_and_other_brackets_stay() {
        for (marked, text) in [
            ("[北京](city)", "北京"),
            ("去[北京](city:BJ)和[上海](city)", "去北京和上海"),
            ("[x]{\"entity\": \"y\", \"role\": \"z\"}!", "x!"),
            ("[x][{\"entity\": \"y\"}]", "x"),
            ("[a][b]", "[a][b]"),
            ("[手机号]", "[手机号]"),
            ("[](a) [x]() [x", "[](a) [x]() [x"),
            ("[x](没完", "[x](没完"),
        ] {
            assert_eq!(plain(marked), text, "{marked}");
        }
    }
}
