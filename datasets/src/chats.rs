//! Chats as one data frame with checked column types.

use std::collections::{BTreeMap, HashSet};

use polars::prelude::*;
use serde::Serialize;

use crate::error::{DatasetsError, Result};
use crate::problem::{Problem, Severity, quoted};
use crate::schema::{CHAT_FIELDS, Message, Role, Sentiment};

/// Messages, one row each, with the columns of [`CHAT_FIELDS`], `file` and `row`.
///
/// All columns are always there: `turn` as 64-bit integers, `row` as unsigned ones, the others as strings, null where
/// nothing was said. What stood in the way of reading is kept for [`check`](crate::check) to tell.
#[derive(Clone, Debug)]
pub struct Chats {
    frame: DataFrame,
    problems: Vec<Problem>,
}

/// One row, as it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) session: Option<&'a str>,
    pub(crate) turn: Option<i64>,
    pub(crate) role: Option<&'a str>,
    pub(crate) text: &'a str,
    pub(crate) intent: Option<&'a str>,
    pub(crate) sentiment: Option<&'a str>,
    pub(crate) time: Option<&'a str>,
    pub(crate) channel: Option<&'a str>,
    pub(crate) split: Option<&'a str>,
    pub(crate) file: &'a str,
    pub(crate) row: u64,
}

impl<'a> Row<'a> {
    pub(crate) fn place(&self) -> (&'a str, u64) {
        (self.file, self.row)
    }

    pub(crate) fn is_user(&self) -> bool {
        self.role == Some(Role::User.as_str())
    }

    pub(crate) fn has_label(&self) -> bool {
        self.intent.is_some() || self.sentiment.is_some()
    }

    /// The session, or why the row cannot be used.
    pub(crate) fn known_session(&self) -> Result<&'a str> {
        self.session.ok_or_else(|| self.unusable("there is no session_id".to_owned()))
    }

    fn unusable(&self, what: String) -> DatasetsError {
        DatasetsError::InvalidRow { file: self.file.to_owned(), row: self.row, what }
    }

    fn message(&self) -> Result<Message> {
        let role = self.role.unwrap_or_default();
        let sentiment = match self.sentiment {
            Some(word) => match word.parse::<Sentiment>() {
                Ok(sentiment) => Some(sentiment),
                Err(_) => {
                    return Err(self.unusable(format!("the sentiment {} is not known", quoted(word))));
                }
            },
            None => None,
        };
        Ok(Message {
            session_id: self.known_session()?.to_owned(),
            turn: self.turn.ok_or_else(|| self.unusable("the turn is not a number".to_owned()))?,
            role: role.parse().map_err(|_| self.unusable(format!("the role {} is not known", quoted(role))))?,
            text: self.text.to_owned(),
            intent: self.intent.map(str::to_owned),
            sentiment,
            time: self.time.map(str::to_owned),
            channel: self.channel.map(str::to_owned),
            file: self.file.to_owned(),
            row: self.row,
        })
    }
}

/// How much of what there is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Chats.
    pub sessions: usize,
    /// Rows.
    pub messages: usize,
    /// Rows by role, as the word stands in the file.
    pub roles: BTreeMap<String, usize>,
    /// Rows by intent; those without one are not counted.
    pub intents: BTreeMap<String, usize>,
    /// Rows by sentiment; those without one are not counted.
    pub sentiments: BTreeMap<String, usize>,
    /// How long texts are.
    pub text_length: TextLength,
}

/// Lengths of texts in characters, at some quantiles.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct TextLength {
    /// Half of the texts are no longer.
    pub median: usize,
    /// 90 % are no longer.
    pub p90: usize,
    /// 99 % are no longer.
    pub p99: usize,
    /// The longest.
    pub max: usize,
}

impl TextLength {
    fn of(mut lengths: Vec<usize>) -> Self {
        lengths.sort_unstable();
        let at = |percent: usize| {
            let place = (lengths.len() * percent).div_ceil(100).saturating_sub(1);
            lengths.get(place).copied().unwrap_or(0)
        };
        TextLength { median: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

impl Chats {
    /// Takes columns of strings: trims what are not texts, makes numbers of turns, tells those that are none.
    pub(crate) fn from_cells(mut frame: DataFrame, mut problems: Vec<Problem>) -> Result<Self> {
        for field in CHAT_FIELDS {
            let cells = frame.column(field.name)?.str()?;
            let cleaned: StringChunked = match field.name {
                "text" => cells.iter().map(|cell| Some(cell.unwrap_or_default())).collect(),
                _ => cells.iter().map(|cell| cell.map(str::trim).filter(|cell| !cell.is_empty())).collect(),
            };
            frame.with_column(cleaned.with_name(field.name.into()).into_column())?;
        }

        let mut turns = Vec::with_capacity(frame.height());
        let words = frame.column("turn")?.str()?;
        let files = frame.column("file")?.str()?;
        let rows = frame.column("row")?.u64()?;
        for ((word, file), row) in words.iter().zip(files.iter()).zip(rows.iter()) {
            let turn = word.and_then(parse_turn);
            if turn.is_none() {
                let message = match word {
                    Some(word) => format!("the turn {} is not a whole number", quoted(word)),
                    None => "there is no turn".to_owned(),
                };
                problems.push(Problem::at(
                    Severity::Error,
                    "bad_turn",
                    (file.unwrap_or_default(), row.unwrap_or_default()),
                    message,
                    "number the messages of a session 0, 1, 2 ...",
                ));
            }
            turns.push(turn);
        }
        frame.with_column(Int64Chunked::from_iter_options("turn".into(), turns.into_iter()).into_column())?;
        Ok(Chats { frame, problems })
    }

    /// The table.
    pub fn frame(&self) -> &DataFrame {
        &self.frame
    }

    /// What stood in the way of reading.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.frame.height()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The messages, in their order; the first row that is none is an error.
    pub fn messages(&self) -> Result<Vec<Message>> {
        self.rows()?.iter().map(Row::message).collect()
    }

    pub(crate) fn rows(&self) -> Result<Vec<Row<'_>>> {
        let text = |name: &str| -> Result<&StringChunked> { Ok(self.frame.column(name)?.str()?) };
        let (sessions, roles, texts) = (text("session_id")?, text("role")?, text("text")?);
        let (intents, sentiments, times) = (text("intent")?, text("sentiment")?, text("time")?);
        let (channels, splits, files) = (text("channel")?, text("split")?, text("file")?);
        let (turns, numbers) = (self.frame.column("turn")?.i64()?, self.frame.column("row")?.u64()?);
        let words = sessions.iter().zip(roles.iter()).zip(texts.iter());
        let labels = intents.iter().zip(sentiments.iter());
        let rest = times.iter().zip(channels.iter()).zip(splits.iter());
        let places = files.iter().zip(numbers.iter()).zip(turns.iter());
        Ok(words
            .zip(labels)
            .zip(rest)
            .zip(places)
            .map(|(((((session, role), text), (intent, sentiment)), ((time, channel), split)), ((file, row), turn))| {
                Row {
                    session,
                    turn,
                    role,
                    text: text.unwrap_or_default(),
                    intent,
                    sentiment,
                    time,
                    channel,
                    split,
                    file: file.unwrap_or_default(),
                    row: row.unwrap_or_default(),
                }
            })
            .collect())
    }

    /// How much of what there is.
    pub fn counts(&self) -> Result<Counts> {
        let rows = self.rows()?;
        let sessions: HashSet<&str> = rows.iter().filter_map(|row| row.session).collect();
        Ok(Counts {
            sessions: sessions.len(),
            messages: rows.len(),
            roles: self.count_by("role")?,
            intents: self.count_by("intent")?,
            sentiments: self.count_by("sentiment")?,
            text_length: TextLength::of(rows.iter().map(|row| row.text.chars().count()).collect()),
        })
    }

    /// The rows by the word in a column; rows without one are not counted.
    fn count_by(&self, column: &str) -> Result<BTreeMap<String, usize>> {
        let counted = self
            .frame
            .clone()
            .lazy()
            .filter(col(column).is_not_null())
            .group_by([col(column)])
            .agg([len().cast(DataType::UInt64).alias("rows")])
            .collect()?;
        let (words, numbers) = (counted.column(column)?.str()?, counted.column("rows")?.u64()?);
        Ok(words
            .iter()
            .zip(numbers.iter())
            .filter_map(|(word, number)| Some((word?.to_owned(), usize::try_from(number?).ok()?)))
            .collect())
    }

    /// Gives every intent with fewer than `min` messages the name `other`, and tells which those were, with their counts.
    ///
    /// Do this before [`split`](crate::split), so that all sets have the same classes.
    pub fn fold_rare_intents(&self, min: usize, other: &str) -> Result<(Chats, BTreeMap<String, usize>)> {
        let mut rare = self.count_by("intent")?;
        rare.retain(|intent, count| *count < min && intent != other);
        let folded = self.fold_intents(|intent| rare.contains_key(intent), other)?;
        Ok((folded, rare))
    }

    /// The same rows, where each intent that is `rare` has become `other`.
    pub fn fold_intents(&self, rare: impl Fn(&str) -> bool, other: &str) -> Result<Chats> {
        let intents = self.frame.column("intent")?.str()?;
        let folded: StringChunked =
            intents.iter().map(|intent| intent.map(|intent| if rare(intent) { other } else { intent })).collect();
        let mut frame = self.frame.clone();
        frame.with_column(folded.with_name("intent".into()).into_column())?;
        Ok(Chats { frame, problems: self.problems.clone() })
    }

    /// The rows where `keep` is true; it has one value a row. What stood in the way of reading is not carried along.
    pub fn filter(&self, keep: &[bool]) -> Result<Chats> {
        if keep.len() != self.len() {
            let column = "keep".to_owned();
            return Err(DatasetsError::ColumnLength { column, values: keep.len(), rows: self.len() });
        }
        let mask = BooleanChunked::from_slice("keep".into(), keep);
        Ok(Chats { frame: self.frame.filter(&mask)?, problems: Vec::new() })
    }

    /// The same rows, without intent and sentiment where `blank` is true.
    pub(crate) fn without_labels(&self, blank: &[bool]) -> Result<Chats> {
        let mut frame = self.frame.clone();
        for name in ["intent", "sentiment"] {
            let labels: StringChunked =
                frame.column(name)?.str()?.iter().zip(blank).map(|(label, blank)| label.filter(|_| !blank)).collect();
            frame.with_column(labels.with_name(name.into()).into_column())?;
        }
        Ok(Chats { frame, problems: self.problems.clone() })
    }
}

/// A whole number, also one that a spreadsheet has written as `3.0`.
fn parse_turn(word: &str) -> Option<i64> {
    let whole = word.strip_suffix(".0").unwrap_or(word);
    whole.parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Chats from tuples of session, turn, role, text, intent, sentiment, split; an empty word stands for nothing.
    pub(crate) fn chats(rows: &[[&str; 7]]) -> Chats {
        let names = ["session_id", "turn", "role", "text", "intent", "sentiment", "split"];
        let mut columns: Vec<Column> = names
            .iter()
            .enumerate()
            .map(|(at, name)| Column::new((*name).into(), rows.iter().map(|row| row[at]).collect::<Vec<_>>()))
            .collect();
        for name in ["time", "channel"] {
            columns.push(Column::full_null(name.into(), rows.len(), &DataType::String));
        }
        columns.push(Column::new("file".into(), vec!["a.csv"; rows.len()]));
        columns.push(Column::new("row".into(), (1..=rows.len() as u64).collect::<Vec<_>>()));
        Chats::from_cells(DataFrame::new(rows.len(), columns).expect("a frame"), Vec::new()).expect("chats")
    }

    #[test]
    fn rare_intents_are_folded_and_told() {
        let chats = chats(&[
            ["1", "0", "user", "退款", "退款", "", ""],
            ["1", "1", "user", "退钱", "退款", "", ""],
            ["1", "2", "user", "发票", "发票", "", ""],
            ["1", "3", "user", "你好", "", "", ""],
        ]);
        let (folded, rare) = chats.fold_rare_intents(2, "OTHER").expect("folded");
        assert_eq!(rare, BTreeMap::from([("发票".to_owned(), 1)]));
        let counts = folded.counts().expect("counts");
        assert_eq!(counts.intents, BTreeMap::from([("OTHER".to_owned(), 1), ("退款".to_owned(), 2)]));
        assert_eq!((counts.sessions, counts.messages, counts.roles["user"]), (1, 4, 4));
    }

    #[test]
    fn a_row_that_is_no_message_is_named() {
        for (row, what) in [
            (["1", "0", "客户", "好", "", "", ""], "the role `客户` is not known"),
            (["1", "0", "", "好", "", "", ""], "the role `` is not known"),
            (["1", "0", "user", "好", "", "开心", ""], "the sentiment `开心` is not known"),
            (["", "0", "user", "好", "", "", ""], "there is no session_id"),
            (["1", "零", "user", "好", "", "", ""], "the turn is not a number"),
        ] {
            let sentence = chats(&[row]).messages().expect_err(what).to_string();
            assert!(sentence.starts_with(&format!("a.csv:1: {what}")), "{sentence}");
        }
    }

    #[test]
    fn lengths_are_told_at_quantiles() {
        assert_eq!(TextLength::of(Vec::new()), TextLength::default());
        assert_eq!(TextLength::of((1..=100).collect()), TextLength { median: 50, p90: 90, p99: 99, max: 100 });
        assert_eq!(TextLength::of(vec![7]), TextLength { median: 7, p90: 7, p99: 7, max: 7 });
    }

    #[test]
    fn turns_are_read_as_people_write_them() {
        for (word, turn) in [("3", Some(3)), ("3.0", Some(3)), ("-1", Some(-1)), ("3.5", None), ("三", None)] {
            assert_eq!(parse_turn(word), turn, "{word}");
        }
    }
}
