//! The columns of chats and of knowledge, their values, and how columns with other names are mapped to them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{DatasetsError, Result};

/// One column that we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// Its name with us.
    pub name: &'static str,
    /// Whether a file without it is refused.
    pub required: bool,
    /// Whether a cell holds several texts: a list in JSON and Parquet, joined by `|` in CSV and TSV.
    pub list: bool,
}

const fn required(name: &'static str) -> Field {
    Field { name, required: true, list: false }
}

const fn optional(name: &'static str) -> Field {
    Field { name, required: false, list: false }
}

const fn list(name: &'static str) -> Field {
    Field { name, required: false, list: true }
}

/// The columns of chats: one row a message.
pub const CHAT_FIELDS: &[Field] = &[
    required("session_id"),
    required("turn"),
    required("role"),
    required("text"),
    optional("intent"),
    optional("sentiment"),
    optional("time"),
    optional("channel"),
    optional("split"),
];

/// The columns of knowledge: one row an entry.
pub const KNOWLEDGE_FIELDS: &[Field] = &[
    required("id"),
    required("question"),
    list("similar_questions"),
    required("answer"),
    optional("intent"),
    list("tags"),
    optional("valid_from"),
    optional("valid_to"),
];

/// Which of their columns holds which of our fields; a field that is not named keeps its name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ColumnMap {
    pairs: Vec<(&'static str, String)>,
}

impl ColumnMap {
    /// Parses `ours=theirs` pairs for chats.
    pub fn for_chats<S: AsRef<str>>(pairs: &[S]) -> Result<Self> {
        Self::parse(pairs, CHAT_FIELDS)
    }

    /// Parses `ours=theirs` pairs for knowledge.
    pub fn for_knowledge<S: AsRef<str>>(pairs: &[S]) -> Result<Self> {
        Self::parse(pairs, KNOWLEDGE_FIELDS)
    }

    fn parse<S: AsRef<str>>(given: &[S], fields: &[Field]) -> Result<Self> {
        let mut map = ColumnMap::default();
        for pair in given {
            let given = pair.as_ref().to_owned();
            let (ours, theirs) = match given.split_once('=') {
                Some((ours, theirs)) if !ours.trim().is_empty() && !theirs.trim().is_empty() => {
                    (ours.trim(), theirs.trim().to_owned())
                }
                _ => return Err(DatasetsError::MapSyntax { given }),
            };
            let Some(field) = fields.iter().find(|field| field.name == ours) else {
                let known = fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
                return Err(DatasetsError::UnknownField { field: ours.to_owned(), given, known });
            };
            if map.is_mapped(field.name) {
                return Err(DatasetsError::MappedTwice { field: ours.to_owned(), given });
            }
            map.pairs.push((field.name, theirs));
        }
        Ok(map)
    }

    /// The name that one of our fields has in the files.
    pub fn theirs<'a>(&'a self, ours: &'a str) -> &'a str {
        self.pairs.iter().find(|(name, _)| *name == ours).map_or(ours, |(_, theirs)| theirs)
    }

    /// Whether the field was named; then its column must be there, even if the field is optional.
    pub fn is_mapped(&self, ours: &str) -> bool {
        self.pairs.iter().any(|(name, _)| *name == ours)
    }
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The customer.
    User,
    /// A person of the customer service.
    Agent,
    /// A program of the customer service.
    Bot,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::User, Role::Agent, Role::Bot];

    /// The word in the files.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Agent => "agent",
            Role::Bot => "bot",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        Role::ALL.into_iter().find(|role| role.as_str() == word).ok_or(UnknownWord)
    }
}

/// How the customer feels in a message.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sentiment {
    /// Unhappy.
    Negative,
    /// Neither.
    Neutral,
    /// Happy.
    Positive,
}

impl Sentiment {
    /// All of them.
    pub const ALL: [Sentiment; 3] = [Sentiment::Negative, Sentiment::Neutral, Sentiment::Positive];

    /// The word in the files.
    pub fn as_str(self) -> &'static str {
        match self {
            Sentiment::Negative => "negative",
            Sentiment::Neutral => "neutral",
            Sentiment::Positive => "positive",
        }
    }
}

impl fmt::Display for Sentiment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Sentiment {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        Sentiment::ALL.into_iter().find(|sentiment| sentiment.as_str() == word).ok_or(UnknownWord)
    }
}

/// The word is none of those that we know.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the word is not known")]
pub struct UnknownWord;

/// One message of a chat.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Message {
    /// The chat it belongs to.
    pub session_id: String,
    /// Its place in the chat; grows, with or without gaps.
    pub turn: i64,
    /// Who wrote it.
    pub role: Role,
    /// What was written, as it stands in the file.
    pub text: String,
    /// What the customer wants, where that is labelled.
    pub intent: Option<String>,
    /// How the customer feels, where that is labelled.
    pub sentiment: Option<Sentiment>,
    /// When it was written, as it stands in the file.
    pub time: Option<String>,
    /// Where it was written, such as an app or a web page.
    pub channel: Option<String>,
    /// The file it was read from.
    pub file: String,
    /// Its line or row in that file, counted from 1.
    pub row: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_renames_only_what_it_names() {
        let map = ColumnMap::for_chats(&["text=content", " session_id = sid "]).expect("a good map");
        assert_eq!(map.theirs("text"), "content");
        assert_eq!(map.theirs("session_id"), "sid");
        assert_eq!(map.theirs("role"), "role");
        assert!(map.is_mapped("text") && !map.is_mapped("role"));
    }

    #[test]
    fn a_bad_map_says_what_to_write() {
        let sentence = |pair: &[&str]| ColumnMap::for_chats(pair).expect_err("a bad map").to_string();
        assert_eq!(
            sentence(&["txt=content"]),
            "--map txt=content: there is no field `txt`; the fields are session_id, turn, role, text, intent, sentiment, \
             time, channel, split"
        );
        for bad in ["text", "text=", "=content", ""] {
            assert!(sentence(&[bad]).contains("OURS=THEIRS"), "{bad}");
        }
        assert!(sentence(&["text=a", "text=b"]).contains("already mapped"));
        assert!(ColumnMap::for_knowledge(&["answer=question", "question=question"]).is_ok());
    }

    #[test]
    fn words_are_parsed_and_written_alike() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        for sentiment in Sentiment::ALL {
            assert_eq!(sentiment.to_string().parse(), Ok(sentiment));
        }
        assert_eq!("客户".parse::<Role>(), Err(UnknownWord));
    }
}
