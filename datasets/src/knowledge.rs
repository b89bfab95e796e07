//! The entries of a knowledge base: questions with their answers.

use std::collections::HashMap;
use std::path::PathBuf;

use polars::prelude::*;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, Time};

use crate::error::{DatasetsError, Result};
use crate::problem::{Problem, Severity, quoted};
use crate::read::{read_source, split_list};
use crate::schema::{ColumnMap, KNOWLEDGE_FIELDS};

/// One question with its answer.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct KnowledgeEntry {
    /// Its name, for tickets and reports; empty where the file has none, which [`check_knowledge`] tells.
    pub id: String,
    /// The question, as it is best put.
    pub question: String,
    /// The same question, as others put it.
    pub similar_questions: Vec<String>,
    /// What is said in return.
    pub answer: String,
    /// The intent it belongs to.
    pub intent: Option<String>,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// From when the answer holds: a date such as `2025-01-31`, or a time with its zone (RFC 3339).
    pub valid_from: Option<String>,
    /// Until when it holds; a date counts with its whole day.
    pub valid_to: Option<String>,
    /// The file it was read from.
    pub file: String,
    /// Its line or row in that file, counted from 1.
    pub row: u64,
}

/// What knowledge files hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Knowledge {
    /// The entries, in their order.
    pub entries: Vec<KnowledgeEntry>,
    /// What stood in the way of reading.
    pub problems: Vec<Problem>,
}

/// Reads knowledge from the same formats as [`load`](crate::load).
///
/// Several texts in one cell are a list in JSON and Parquet, and joined by `|` elsewhere. A base without answers of its
/// own can give its questions as answers, with `--map answer=question`.
pub fn load_knowledge(paths: &[PathBuf], map: &ColumnMap) -> Result<Knowledge> {
    if paths.is_empty() {
        return Err(DatasetsError::NoFiles);
    }
    let mut knowledge = Knowledge::default();
    for path in paths {
        let source = read_source(path, KNOWLEDGE_FIELDS, map)?;
        knowledge.problems.extend(source.problems);
        knowledge.entries.extend(entries(&source.frame)?);
    }
    Ok(knowledge)
}

fn entries(frame: &DataFrame) -> Result<Vec<KnowledgeEntry>> {
    let text = |name: &str| -> Result<Vec<Option<String>>> {
        let words = frame.column(name)?.str()?.iter();
        Ok(words.map(|word| word.map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned)).collect())
    };
    let list = |name: &str| -> Result<Vec<Vec<String>>> {
        let column = frame.column(name)?;
        if let Ok(cells) = column.str() {
            let items = cells.iter().map(|cell| split_list(cell.unwrap_or_default()).map(str::to_owned).collect());
            return Ok(items.collect());
        }
        let mut lists = Vec::with_capacity(column.len());
        for at in 0..column.len() {
            let items = column.list()?.get_as_series(at);
            let items = items.as_ref().map(Series::str).transpose()?;
            let trimmed = items.into_iter().flat_map(|items| items.iter().flatten()).map(str::trim);
            lists.push(trimmed.filter(|item| !item.is_empty()).map(str::to_owned).collect());
        }
        Ok(lists)
    };
    let (ids, questions, answers) = (text("id")?, text("question")?, text("answer")?);
    let (similar, tags, intents) = (list("similar_questions")?, list("tags")?, text("intent")?);
    let (from, to, files) = (text("valid_from")?, text("valid_to")?, text("file")?);
    let rows = frame.column("row")?.u64()?;

    let said = ids.into_iter().zip(questions).zip(answers);
    let labels = similar.into_iter().zip(tags).zip(intents);
    let rest = from.into_iter().zip(to).zip(files).zip(rows.iter());
    Ok(said
        .zip(labels)
        .zip(rest)
        .map(
            |(
                (((id, question), answer), ((similar_questions, tags), intent)),
                (((valid_from, valid_to), file), row),
            )| {
                KnowledgeEntry {
                    id: id.unwrap_or_default(),
                    question: question.unwrap_or_default(),
                    similar_questions,
                    answer: answer.unwrap_or_default(),
                    intent,
                    tags,
                    valid_from,
                    valid_to,
                    file: file.unwrap_or_default(),
                    row: row.unwrap_or_default(),
                }
            },
        )
        .collect())
}

/// All that is wrong with knowledge, what stood in the way of reading included; `model_text` makes of a question what
/// the model will see.
pub fn check_knowledge(knowledge: &Knowledge, model_text: &dyn Fn(&str) -> String) -> Vec<Problem> {
    let mut problems = knowledge.problems.clone();
    let mut ids: HashMap<&str, &KnowledgeEntry> = HashMap::new();
    let mut questions: HashMap<String, &KnowledgeEntry> = HashMap::new();
    for entry in &knowledge.entries {
        let place = (entry.file.as_str(), entry.row);
        let mut problem = |severity, code, message: String, remedy: &str| {
            problems.push(Problem::at(severity, code, place, message, remedy));
        };
        if entry.id.is_empty() {
            problem(Severity::Error, "missing_id", "there is no id".to_owned(), "give every entry an id of its own");
        } else if let Some(first) = ids.insert(&entry.id, entry) {
            let message = format!("the id {} stands in {}:{}, too", quoted(&entry.id), first.file, first.row);
            problem(Severity::Error, "duplicate_id", message, "give every entry an id of its own");
        }
        if entry.answer.is_empty() {
            let remedy = "write the answer, or let the question stand for it with --map answer=question";
            problem(Severity::Error, "empty_answer", "there is no answer".to_owned(), remedy);
        }
        let asked = model_text(&entry.question);
        if asked.trim().is_empty() {
            let message = "there is no question, or nothing is left of it after cleaning".to_owned();
            problem(Severity::Error, "empty_question", message, "write the question");
        }
        for question in std::iter::once(asked).chain(entry.similar_questions.iter().map(|text| model_text(text))) {
            if question.trim().is_empty() {
                continue;
            }
            let first = *questions.entry(question).or_insert(entry);
            if !std::ptr::eq(first, entry) {
                let message = format!("one of its questions is asked in {}:{}, too", first.file, first.row);
                let remedy = "keep the question in one entry, or both answers will do for it";
                problem(Severity::Warning, "repeated_question", message, remedy);
            }
        }

        let moment = |date: &Option<String>, end| date.as_deref().map(|date| parse_moment(date, end));
        let (from, to) = (moment(&entry.valid_from, false), moment(&entry.valid_to, true));
        for (name, date, parsed) in [("valid_from", &entry.valid_from, from), ("valid_to", &entry.valid_to, to)] {
            if parsed == Some(None) {
                let message = format!("{name} is {}, which is no date", quoted(date.as_deref().unwrap_or_default()));
                let remedy = "write dates as 2025-01-31, and times as 2025-01-31T08:00:00+08:00";
                problem(Severity::Error, "invalid_date", message, remedy);
            }
        }
        if let (Some(Some(from)), Some(Some(to))) = (from, to)
            && from > to
        {
            let message = "valid_from lies after valid_to".to_owned();
            problem(Severity::Error, "empty_validity", message, "exchange the two, or correct one");
        }
    }
    problems
}

/// A date such as `2025-01-31`, at its beginning or its end, or a time by RFC 3339. A date has no zone: it is taken as UTC.
fn parse_moment(text: &str, end: bool) -> Option<OffsetDateTime> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(moment);
    }
    let mut parts = text.splitn(3, '-');
    let mut digits = |length: usize| {
        let part = parts.next().filter(|part| part.len() == length)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then_some(part)
    };
    let (year, month, day) = (digits(4)?.parse().ok()?, digits(2)?.parse::<u8>().ok()?, digits(2)?.parse().ok()?);
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let time = if end { Time::from_hms(23, 59, 59).ok()? } else { Time::MIDNIGHT };
    Some(date.with_time(time).assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::write_frame;

    fn load_text(name: &str, text: &str) -> Knowledge {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        load_knowledge(&[path], &ColumnMap::default()).expect("loaded")
    }

    const CSV: &str = "id,question,similar_questions,answer,tags,valid_from,valid_to\n\
        q1,怎么退款,如何退款 | 想退钱,在订单页申请,售后|退款,2025-01-01,2025-12-31\n\
        q2,怎么开发票,,下单时勾选,,,\n";

    #[test]
    fn lists_are_read_from_every_format() {
        let jsonl = concat!(
            r#"{"id":"q1","question":"怎么退款","similar_questions":["如何退款","想退钱"],"answer":"在订单页申请","#,
            r#""tags":"售后|退款","valid_from":"2025-01-01","valid_to":"2025-12-31"}"#,
            "\n",
            r#"{"id":"q2","question":"怎么开发票","answer":"下单时勾选","tags":null}"#
        );
        let folder = tempfile::tempdir().expect("a folder");
        let (text, parquet) = (folder.path().join("a.jsonl"), folder.path().join("a.parquet"));
        std::fs::write(&text, jsonl).expect("written");
        let frame = read_source(&text, KNOWLEDGE_FIELDS, &ColumnMap::default()).expect("read").frame;
        write_frame(&frame, &parquet).expect("written");
        let from_parquet = load_knowledge(&[parquet], &ColumnMap::default()).expect("loaded");

        for knowledge in [load_text("a.csv", CSV), load_text("a.jsonl", jsonl), from_parquet] {
            assert_eq!(knowledge.problems, []);
            let [first, second] = knowledge.entries.as_slice() else { panic!("two entries") };
            assert_eq!(first.similar_questions, ["如何退款", "想退钱"]);
            assert_eq!(first.tags, ["售后", "退款"]);
            assert_eq!(first.valid_to.as_deref(), Some("2025-12-31"));
            assert_eq!((second.id.as_str(), second.answer.as_str()), ("q2", "下单时勾选"));
            assert!(second.similar_questions.is_empty() && second.tags.is_empty() && second.valid_from.is_none());
            assert_eq!(check_knowledge(&knowledge, &str::to_owned), []);
        }
    }

    #[test]
    fn a_base_without_answers_can_give_its_questions() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, r#"{"id":"q1","question":"怎么退款"}"#).expect("written");
        let paths = [path];
        let refused = load_knowledge(&paths, &ColumnMap::default()).expect_err("no answers").to_string();
        assert!(refused.contains("no column answer"), "{refused}");
        let map = ColumnMap::for_knowledge(&["answer=question"]).expect("a map");
        assert_eq!(load_knowledge(&paths, &map).expect("loaded").entries[0].answer, "怎么退款");
    }

    #[test]
    fn every_problem_has_its_code() {
        let good = "q1,怎么退款,,在订单页申请,,\n";
        for (code, row) in [
            ("missing_id", ",怎么开发票,,下单时勾选,,\n"),
            ("duplicate_id", "q1,怎么开发票,,下单时勾选,,\n"),
            ("empty_question", "q2,,,下单时勾选,,\n"),
            ("empty_answer", "q2,怎么开发票,, ,,\n"),
            ("repeated_question", "q2,怎么退款,,下单时勾选,,\n"),
            ("repeated_question", "q2,怎么开发票,怎么退款|开票,下单时勾选,,\n"),
            ("invalid_date", "q2,怎么开发票,,下单时勾选,2025-02-30,\n"),
            ("invalid_date", "q2,怎么开发票,,下单时勾选,,明天\n"),
            ("empty_validity", "q2,怎么开发票,,下单时勾选,2025-02-02,2025-02-01\n"),
            ("malformed_row", "q2,怎么开发票\n"),
        ] {
            let header = "id,question,similar_questions,answer,valid_from,valid_to\n";
            let problems = check_knowledge(&load_text("a.csv", &format!("{header}{good}{row}")), &str::to_owned);
            let told: Vec<_> = problems.iter().map(|problem| (problem.code, problem.row)).collect();
            assert_eq!(told, [(code, Some(3))], "{row}");
        }
    }

    #[test]
    fn dates_count_with_their_whole_day() {
        let moment = |text, end| parse_moment(text, end).map(OffsetDateTime::unix_timestamp);
        assert_eq!(moment("1970-01-01", false), Some(0));
        assert_eq!(moment("1970-01-01", true), Some(86_399));
        assert_eq!(moment("1970-01-01T08:00:00+08:00", false), Some(0));
        for bad in ["", "1970", "1970-1-1", "1970-13-01", "1970-01-32", "+970-01-01", "1970-01-01 08:00"] {
            assert_eq!(moment(bad, false), None, "{bad}");
        }
    }
}
