//! A list of questions with their answers, as people write it:
//!
//! ```markdown
//! # 售后
//!
//! ## 怎么申请退货？
//!
//! - 编号：return-01
//! - 问法：我想退货
//! - 意图：退货
//! - 标签：售后、运费
//! - 有效期：2026-01-01 至 2026-12-31
//!
//! 在订单里点「申请售后」，选择「退货退款」。
//! ```
//!
//! Nothing else of Markdown is interpreted: an answer is taken as it stands. A line of it that looks like a heading or like one
//! of the lines above has a `\` before it, as Markdown knows it.

use sha2::{Digest, Sha256};
use yingda_engine::KnowledgeEntry;

use super::validate::normal_day;
use super::{Place, Placed, Problems, quoted};

/// What a line beneath a question may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Id,
    Similar,
    Intent,
    Tags,
    Valid,
}

impl Label {
    const ALL: [(&str, Self); 6] = [
        ("编号", Self::Id),
        ("问法", Self::Similar),
        ("相似问法", Self::Similar),
        ("意图", Self::Intent),
        ("标签", Self::Tags),
        ("有效期", Self::Valid),
    ];
}

/// Tags stand between these.
const TAGS: char = '、';
/// Between the first and the last day.
const UNTIL: char = '至';
/// Behind a first day without a last one.
const FROM: char = '起';

enum Line<'a> {
    Heading(usize, &'a str),
    Labelled(Label, &'a str),
    Text(String),
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let trimmed = line.trim_start();
        let level = trimmed.len() - trimmed.trim_start_matches('#').len();
        let rest = &trimmed[level..];
        if (1..=6).contains(&level) && (rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            return Self::Heading(level, rest.trim());
        }
        if let Some(item) = trimmed.strip_prefix(['-', '*', '+'])
            && item.starts_with(char::is_whitespace)
            && let Some((label, text)) = item.split_once(['：', ':'])
            && let Some((_, label)) = Label::ALL.iter().find(|(name, _)| *name == label.trim())
        {
            return Self::Labelled(*label, text.trim());
        }
        if is_escaped(trimmed) {
            let blank = &line[..line.len() - trimmed.len()];
            return Self::Text(format!("{blank}{}", &trimmed[1..]));
        }
        Self::Text(line.to_owned())
    }
}

/// Whether a line begins as Markdown's own escapes do.
fn is_escaped(line: &str) -> bool {
    line.strip_prefix('\\').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_punctuation()))
}

/// An entry while its lines are read.
struct Draft {
    place: Place,
    entry: KnowledgeEntry,
    seen: Vec<Label>,
    answer: Vec<String>,
}

impl Draft {
    fn new(place: Place, question: &str) -> Self {
        let entry = KnowledgeEntry { question: question.to_owned(), ..KnowledgeEntry::default() };
        Self { place, entry, seen: Vec::new(), answer: Vec::new() }
    }

    fn label(&mut self, label: Label, text: &str, place: &Place, problems: &mut Problems) {
        if !self.answer.is_empty() {
            let message = "this line stands within the answer; move it up to the question, or put \\ before it if \
                           customers are to read it";
            problems.add(place, message);
            return;
        }
        if text.is_empty() {
            problems.add(place, "nothing stands behind the colon; fill it in, or remove the line");
            return;
        }
        if label != Label::Similar && self.seen.contains(&label) {
            problems.add(place, "this stands twice beneath the same question; remove one");
            return;
        }
        self.seen.push(label);
        match label {
            Label::Id => self.entry.id = text.to_owned(),
            Label::Similar => self.entry.similar_questions.push(text.to_owned()),
            Label::Intent => self.entry.intent = Some(text.to_owned()),
            Label::Tags => {
                let tags = text.split(TAGS).map(str::trim).filter(|tag| !tag.is_empty());
                self.entry.tags = tags.map(str::to_owned).collect();
            }
            Label::Valid => match period(text) {
                Some((from, to)) => (self.entry.valid_from, self.entry.valid_to) = (from, to),
                None => {
                    let message = format!(
                        "{} is no period; write 2026-01-01 至 2026-02-01, 2026-01-01 起, or 至 2026-02-01",
                        quoted(text)
                    );
                    problems.add(place, message);
                }
            },
        }
    }

    fn finish(mut self) -> Placed {
        self.entry.answer = self.answer.join("\n").trim().to_owned();
        let id_of_question = !self.seen.contains(&Label::Id);
        if id_of_question {
            self.entry.id = id_of(&self.entry.question);
        }
        Placed { place: self.place, entry: self.entry, id_of_question }
    }
}

/// The id of an entry that has none: the same as long as its question stays the same.
fn id_of(question: &str) -> String {
    format!("q-{}", &hex::encode(Sha256::digest(question))[..12])
}

fn period(text: &str) -> Option<(Option<String>, Option<String>)> {
    let day = |text: &str| Some(text.trim()).filter(|text| !text.is_empty()).map(normal_day);
    let (from, to) = match text.split_once(UNTIL) {
        Some((from, to)) => (day(from), day(to)),
        None => (day(text.strip_suffix(FROM)?), None),
    };
    (from.is_some() || to.is_some()).then_some((from, to))
}

pub(super) fn parse(text: &str, problems: &mut Problems) -> Vec<Placed> {
    let mut entries = Vec::new();
    let mut draft: Option<Draft> = None;
    let mut lost = false;
    for (index, line) in text.lines().enumerate() {
        let place = Place::line(index + 1);
        match (Line::of(line), &mut draft) {
            (Line::Heading(1, _), _) => {
                entries.extend(draft.take().map(Draft::finish));
                lost = false;
            }
            (Line::Heading(2, question), _) => {
                entries.extend(draft.replace(Draft::new(place, question)).map(Draft::finish));
            }
            (Line::Heading(..), _) => {
                let message = "a heading deeper than ## belongs to no entry; make it a question with ##, or put \\ before \
                               it if customers are to read it";
                problems.add(&place, message);
            }
            (Line::Labelled(label, text), Some(draft)) => draft.label(label, text, &place, problems),
            (Line::Text(text), Some(draft)) => {
                if !draft.answer.is_empty() || !text.trim().is_empty() {
                    draft.answer.push(text);
                }
            }
            (Line::Text(text), None) if text.trim().is_empty() => {}
            (_, None) => {
                // Once for a whole paragraph of it.
                if !lost {
                    let message =
                        "this text belongs to no question; put a line such as `## 怎么退货？` above it, or remove it";
                    problems.add(&place, message);
                }
                lost = true;
            }
        }
    }
    entries.extend(draft.map(Draft::finish));
    entries
}

pub(super) fn render(entries: &[KnowledgeEntry]) -> String {
    let mut text = String::new();
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&format!("## {}\n\n- 编号：{}\n", entry.question, entry.id));
        for wording in &entry.similar_questions {
            text.push_str(&format!("- 问法：{wording}\n"));
        }
        if let Some(intent) = &entry.intent {
            text.push_str(&format!("- 意图：{intent}\n"));
        }
        if !entry.tags.is_empty() {
            text.push_str(&format!("- 标签：{}\n", entry.tags.join(&TAGS.to_string())));
        }
        match (&entry.valid_from, &entry.valid_to) {
            (Some(from), Some(to)) => text.push_str(&format!("- 有效期：{from} {UNTIL} {to}\n")),
            (Some(from), None) => text.push_str(&format!("- 有效期：{from} {FROM}\n")),
            (None, Some(to)) => text.push_str(&format!("- 有效期：{UNTIL} {to}\n")),
            (None, None) => {}
        }
        text.push('\n');
        for line in entry.answer.split('\n') {
            text.push_str(&escaped(line));
            text.push('\n');
        }
    }
    text
}

/// A line of an answer, so that it is read as one.
fn escaped(line: &str) -> String {
    let trimmed = line.trim_start();
    if matches!(Line::of(line), Line::Text(_)) && !is_escaped(trimmed) {
        return line.to_owned();
    }
    let blank = &line[..line.len() - trimmed.len()];
    format!("{blank}\\{trimmed}")
}
