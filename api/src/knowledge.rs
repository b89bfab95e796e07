//! Knowledge files: JSON Lines, one JSON array, or CSV. All that is wrong is said at once, with its line.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use yingda_engine::KnowledgeEntry;

/// Longest question or answer, in characters.
const MAX_LENGTH: usize = 20_000;
const COLUMNS: [&str; 8] =
    ["id", "question", "similar_questions", "answer", "intent", "tags", "valid_from", "valid_to"];

/// One thing that is wrong in a knowledge file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `line 3`, or `entry 3` of an array.
    pub place: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why a knowledge file cannot be used.
#[derive(Debug)]
pub enum KnowledgeError {
    /// It cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    Bad {
        /// The file.
        path: PathBuf,
        /// All of it.
        problems: Vec<Problem>,
    },
}

impl std::error::Error for KnowledgeError {}

impl fmt::Display for KnowledgeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(
                formatter,
                "the knowledge file {} cannot be read: {source}. Save it as UTF-8 and check its name",
                path.display()
            ),
            Self::Bad { path, problems } => {
                let count = problems.len();
                let noun = if count == 1 { "problem" } else { "problems" };
                write!(formatter, "the knowledge file {} has {count} {noun}; nothing was changed:", path.display())?;
                for problem in problems {
                    write!(formatter, "\n  {}: {}", problem.place, problem.message)?;
                }
                Ok(())
            }
        }
    }
}

/// Reads and checks a whole file.
///
/// # Errors
///
/// When it cannot be read or anything in it is wrong.
pub fn read(path: &Path) -> Result<Vec<KnowledgeEntry>, KnowledgeError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| KnowledgeError::Read { path: path.to_owned(), source })?;
    let csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    parse(&text, csv).map_err(|problems| KnowledgeError::Bad { path: path.to_owned(), problems })
}

type Placed = Vec<(String, KnowledgeEntry)>;

fn parse(text: &str, csv: bool) -> Result<Vec<KnowledgeEntry>, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut problems = Vec::new();
    let entries = if csv {
        from_csv(text, &mut problems)
    } else if text.trim_start().starts_with('[') {
        from_array(text, &mut problems)
    } else {
        from_lines(text, &mut problems)
    };
    check(&entries, &mut problems);
    if entries.is_empty() && problems.is_empty() {
        problems.push(Problem { place: "line 1".to_owned(), message: "the file holds no entry".to_owned() });
    }
    if problems.is_empty() { Ok(entries.into_iter().map(|(_, entry)| entry).collect()) } else { Err(problems) }
}

fn from_lines(text: &str, problems: &mut Vec<Problem>) -> Placed {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = format!("line {}", index + 1);
        match serde_json::from_str(line) {
            Ok(entry) => entries.push((place, entry)),
            Err(error) => problems.push(Problem { place, message: sentence(&error) }),
        }
    }
    entries
}

fn from_array(text: &str, problems: &mut Vec<Problem>) -> Placed {
    let values: Vec<serde_json::Value> = match serde_json::from_str(text) {
        Ok(values) => values,
        Err(error) => {
            problems.push(Problem { place: format!("line {}", error.line()), message: sentence(&error) });
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let place = format!("entry {}", index + 1);
        match serde_json::from_value(value) {
            Ok(entry) => entries.push((place, entry)),
            Err(error) => problems.push(Problem { place, message: sentence(&error) }),
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

fn from_csv(text: &str, problems: &mut Vec<Problem>) -> Placed {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            problems.push(Problem { place: "line 1".to_owned(), message: error.to_string() });
            return Vec::new();
        }
    };
    let wanted = COLUMNS.join(", ");
    for column in header.iter().filter(|column| !COLUMNS.contains(column)) {
        let message = format!("unknown column `{column}`; columns are {wanted}");
        problems.push(Problem { place: "line 1".to_owned(), message });
    }
    for column in ["id", "question", "answer"].iter().filter(|column| !header.iter().any(|found| found == **column)) {
        let message = format!("the column `{column}` is missing; columns are {wanted}");
        problems.push(Problem { place: "line 1".to_owned(), message });
    }
    if !problems.is_empty() {
        return Vec::new();
    }
    let mut entries = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                problems.push(Problem { place: format!("line {line}"), message: error.to_string() });
                continue;
            }
        };
        let place = format!("line {}", record.position().map_or(0, csv::Position::line));
        if record.len() != header.len() {
            let message = format!(
                "{} columns where the first line has {}; put a text that holds a comma in quotes",
                record.len(),
                header.len()
            );
            problems.push(Problem { place, message });
            continue;
        }
        let value = |name: &str| {
            let index = header.iter().position(|column| column == name)?;
            record.get(index).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        // Several in one cell are separated by `|`.
        let list = |name: &str| -> Vec<String> {
            let cell = value(name).unwrap_or_default();
            cell.split('|').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
        };
        let entry = KnowledgeEntry {
            id: value("id").unwrap_or_default(),
            question: value("question").unwrap_or_default(),
            similar_questions: list("similar_questions"),
            answer: value("answer").unwrap_or_default(),
            intent: value("intent"),
            tags: list("tags"),
            valid_from: value("valid_from"),
            valid_to: value("valid_to"),
        };
        entries.push((place, entry));
    }
    entries
}

fn check(entries: &Placed, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (place, entry) in entries {
        let mut say = |message: String| problems.push(Problem { place: place.clone(), message });
        let wordings = entry.similar_questions.iter().map(|wording| ("similar_questions", wording.as_str()));
        let texts = [("id", entry.id.as_str()), ("question", &entry.question), ("answer", &entry.answer)];
        for (field, text) in texts.into_iter().chain(wordings) {
            if text.trim().is_empty() {
                say(format!("`{field}` is empty"));
            } else if text.chars().count() > MAX_LENGTH {
                say(format!("`{field}` is longer than {MAX_LENGTH} characters"));
            } else if text.contains('\0') {
                say(format!("`{field}` holds a NUL character"));
            }
        }
        if !entry.id.trim().is_empty()
            && let Some(first) = seen.insert(&entry.id, place)
        {
            say(format!("the id `{}` is already used in {first}; ids must differ", entry.id));
        }
        let mut days = Vec::new();
        for (field, day) in [("valid_from", &entry.valid_from), ("valid_to", &entry.valid_to)] {
            match day.as_deref().map(|day| (day, is_day(day))) {
                Some((day, false)) => say(format!("`{field}` must be a day such as 2026-01-31, but it is `{day}`")),
                Some((day, true)) => days.push(day),
                None => {}
            }
        }
        if let [from, to] = days.as_slice()
            && from > to
        {
            say(format!("`valid_from` ({from}) lies after `valid_to` ({to})"));
        }
    }
}

/// Whether this is a day of the calendar as `YYYY-MM-DD`.
fn is_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts.as_slice() else { return false };
    if (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return false;
    }
    let (Ok(year), Ok(month), Ok(day)) = (year.parse(), month.parse::<u8>(), day.parse()) else { return false };
    time::Month::try_from(month).is_ok_and(|month| time::Date::from_calendar_date(year, month, day).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str, csv: bool) -> Vec<String> {
        parse(text, csv).unwrap_err().into_iter().map(|problem| problem.place).collect()
    }

    #[test]
    fn the_three_forms_say_the_same() {
        let line = r#"{"id": "k1", "question": "怎么退货", "similar_questions": ["如何退货", "退货流程"], "answer": "在订单页点退货", "intent": "refund"}"#;
        let lines = parse(&format!("\u{feff}{line}\n\n"), false).unwrap();
        let array = parse(&format!("[{line}]"), false).unwrap();
        let table =
            "id,question,similar_questions,answer,intent\nk1,怎么退货,如何退货|退货流程,在订单页点退货,refund\n";
        let table = parse(table, true).unwrap();
        assert_eq!(lines, array);
        assert_eq!(lines, table);
    }

    #[test]
    fn all_bad_lines_are_named() {
        let text = "{\"id\": \"a\", \"question\": \"q\", \"answer\": \"x\"}\n{broken\n{\"id\": \"a\", \"question\": \"\", \"answer\": \"x\"}\n{\"id\": \"b\"}\n";
        assert_eq!(places(text, false), ["line 2", "line 4", "line 3", "line 3"]);
        assert_eq!(places("id,question,answer\na,q\nb,,x\n", true), ["line 2", "line 3"]);
        assert_eq!(places("id,frage\n", true), ["line 1", "line 1", "line 1"]);
        assert_eq!(places("", false), ["line 1"]);
    }

    #[test]
    fn days_are_days() {
        assert!(is_day("2024-02-29") && !is_day("2023-02-29") && !is_day("2024-2-9") && !is_day("tomorrow"));
        let text =
            r#"{"id": "a", "question": "q", "answer": "x", "valid_from": "2026-02-01", "valid_to": "2026-01-01"}"#;
        assert_eq!(places(text, false), ["line 1"]);
    }
}
