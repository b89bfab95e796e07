//! Knowledge files: JSON, CSV, Excel and Markdown, read and written. docs/knowledge-files.md shows their forms.
//!
//! [`read`] says all that is wrong with a file at once, each with its place. [`write`] gives back what [`read`] gave, or says
//! which value the format cannot hold. [`check`] looks for what a file may hold and should not: contradictions, for instance.

pub mod base;
pub mod check;
mod csv;
mod decode;
mod excel;
mod json;
mod markdown;
mod table;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use yingda_engine::KnowledgeEntry;

/// The form of a knowledge file, which the end of its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line (`.jsonl`, `.ndjson`).
    JsonLines,
    /// One JSON array (`.json`). Either JSON form is read from either kind of file.
    Json,
    /// Comma-separated values (`.csv`).
    Csv,
    /// An Excel workbook (`.xlsx`).
    Excel,
    /// A list of questions with their answers (`.md`, `.markdown`).
    Markdown,
}

impl Format {
    /// The form of the file with this name.
    ///
    /// # Errors
    ///
    /// When its end says nothing that we know.
    pub fn of(path: &Path) -> Result<Self, KnowledgeError> {
        let end = path.extension().map(|end| end.to_string_lossy().to_ascii_lowercase());
        end.as_deref().and_then(Self::named).ok_or_else(|| KnowledgeError::Format { path: path.to_owned() })
    }

    /// The form with this name, as files end with it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            "xlsx" => Some(Self::Excel),
            "md" | "markdown" => Some(Self::Markdown),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "JSON Lines",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Excel => "Excel",
            Self::Markdown => "Markdown",
        }
    }
}

/// One thing that is wrong in a knowledge file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: `line 3`, ``sheet `售后` row 3``, or `entry 3` of an array.
    pub place: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why a knowledge file cannot be used or written.
#[derive(Debug)]
pub enum KnowledgeError {
    /// Its name does not tell its form.
    Format {
        /// The file.
        path: PathBuf,
    },
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
    /// It is there already.
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Its format cannot hold the entries.
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Every value that it cannot hold.
        problems: Vec<Problem>,
    },
    /// It cannot be written.
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// More wordings than are compared with each other.
    TooManyWordings {
        /// How many there are.
        wordings: usize,
    },
}

impl std::error::Error for KnowledgeError {}

impl fmt::Display for KnowledgeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |formatter: &mut fmt::Formatter<'_>, problems: &[Problem]| {
            problems.iter().try_for_each(|problem| write!(formatter, "\n  {}: {}", problem.place, problem.message))
        };
        let count = |problems: &[Problem], noun: &str| {
            format!("{} {noun}{}", problems.len(), if problems.len() == 1 { "" } else { "s" })
        };
        match self {
            Self::Format { path } => write!(
                formatter,
                "the name of the knowledge file {} does not tell its form; it must end in .jsonl, .json, .csv, .xlsx or \
                 .md. Save an older Excel file (.xls) as .xlsx first",
                path.display()
            ),
            Self::Read { path, source } => write!(
                formatter,
                "the knowledge file {} cannot be read: {source}. Check its name and that you may read it",
                path.display()
            ),
            Self::Bad { path, problems } => {
                let count = count(problems, "problem");
                write!(formatter, "the knowledge file {} has {count}; nothing was changed:", path.display())?;
                list(formatter, problems)
            }
            Self::Exists { path } => write!(
                formatter,
                "the file {} exists already; name another one, or replace it with --force",
                path.display()
            ),
            Self::Unwritable { path, problems } => {
                let count = count(problems, "value");
                write!(formatter, "the file {} cannot hold {count}; nothing was written:", path.display())?;
                list(formatter, problems)
            }
            Self::Write { path, source } => write!(
                formatter,
                "the knowledge file {} cannot be written: {source}. Check that its folder exists, has space and may be \
                 written",
                path.display()
            ),
            Self::TooManyWordings { wordings } => write!(
                formatter,
                "the knowledge file holds {wordings} wordings, and every one is compared with every other: that is done \
                 for up to {} only. Split the file, by intent for instance, and check the parts",
                check::MAX_WORDINGS
            ),
        }
    }
}

/// Reads and checks a whole file.
///
/// # Errors
///
/// When its name tells no form, it cannot be read or anything in it is wrong.
pub fn read(path: &Path) -> Result<Vec<KnowledgeEntry>, KnowledgeError> {
    let format = Format::of(path)?;
    let bytes = std::fs::read(path).map_err(|source| KnowledgeError::Read { path: path.to_owned(), source })?;
    parse(format, &bytes).map_err(|problems| KnowledgeError::Bad { path: path.to_owned(), problems })
}

/// As [`read`], of a file's content.
///
/// # Errors
///
/// All that is wrong in it.
pub fn read_bytes(format: Format, bytes: &[u8]) -> Result<Vec<KnowledgeEntry>, Vec<Problem>> {
    parse(format, bytes)
}

/// The content of a file with these entries, as [`write`] writes it.
///
/// # Errors
///
/// Every value that the format cannot hold.
pub fn to_bytes(format: Format, entries: &[KnowledgeEntry]) -> Result<Vec<u8>, Vec<Problem>> {
    render(format, entries)
}

/// What is wrong with one entry, if anything.
pub fn problems_of(entry: &KnowledgeEntry) -> Vec<String> {
    validate::problems_of(entry)
}

/// Writes a whole file or nothing, in the form that its name tells: what [`read`] reads from it are these entries.
///
/// # Errors
///
/// When the file is there and `replace` is false, its format cannot hold a value, or it cannot be written.
pub fn write(path: &Path, entries: &[KnowledgeEntry], replace: bool) -> Result<(), KnowledgeError> {
    let format = Format::of(path)?;
    let exists = || KnowledgeError::Exists { path: path.to_owned() };
    if !replace && path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let bytes =
        render(format, entries).map_err(|problems| KnowledgeError::Unwritable { path: path.to_owned(), problems })?;
    let failed = |source| KnowledgeError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        // As for any new file, and not for the owner alone, which is how temporary files are made.
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.prefix(".yingda-").suffix(".tmp").tempfile_in(folder).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    if replace {
        file.persist(path).map_err(|error| failed(error.error))?;
    } else {
        // Somebody may have made it since we looked.
        file.persist_noclobber(path).map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => exists(),
            _ => failed(error.error),
        })?;
    }
    Ok(())
}

/// What a file holds, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Entries.
    pub entries: usize,
    /// Different wordings, counted entry by entry, as they are indexed.
    pub wordings: usize,
    /// Entries of each intent.
    pub intents: BTreeMap<String, usize>,
    /// Entries that name no intent.
    pub without_intent: usize,
}

impl Counts {
    /// Counts entries that were read.
    pub fn of(entries: &[KnowledgeEntry]) -> Self {
        let mut intents = BTreeMap::new();
        for intent in entries.iter().filter_map(|entry| entry.intent.clone()) {
            *intents.entry(intent).or_insert(0) += 1;
        }
        Self {
            entries: entries.len(),
            wordings: entries.iter().map(|entry| entry.wordings().len()).sum(),
            intents,
            without_intent: entries.iter().filter(|entry| entry.intent.is_none()).count(),
        }
    }
}

/// Where something stands in a file. The order is that of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    sheet: usize,
    number: usize,
    text: String,
}

impl Place {
    fn line(number: usize) -> Self {
        Self { sheet: 0, number, text: format!("line {number}") }
    }

    fn entry(number: usize) -> Self {
        Self { sheet: 0, number, text: format!("entry {number}") }
    }

    /// A row of the sheet with this index and name; row 0 is the sheet itself.
    fn row(sheet: usize, name: &str, number: usize) -> Self {
        let name = quoted(name);
        let text = if number == 0 { format!("sheet {name}") } else { format!("sheet {name} row {number}") };
        Self { sheet, number, text }
    }

    fn file() -> Self {
        Self { sheet: 0, number: 0, text: "the file".to_owned() }
    }
}

/// An entry with its place.
#[derive(Clone, Debug)]
struct Placed {
    place: Place,
    entry: KnowledgeEntry,
    /// Whether the file gave no id and one was made of the question.
    id_of_question: bool,
}

/// What is wrong, as it is found.
#[derive(Debug, Default)]
struct Problems(Vec<(Place, String)>);

impl Problems {
    fn add(&mut self, place: &Place, message: impl Into<String>) {
        self.0.push((place.clone(), message.into()));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order of the file.
    fn list(mut self) -> Vec<Problem> {
        self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.0.into_iter().map(|(place, message)| Problem { place: place.text, message }).collect()
    }
}

/// A text of the file in a message: cut short, and with nothing in it that a terminal would obey.
fn quoted(text: &str) -> String {
    const MAX: usize = 40;
    let mut shown: String = text.chars().take(MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn parse(format: Format, bytes: &[u8]) -> Result<Vec<KnowledgeEntry>, Vec<Problem>> {
    let mut problems = Problems::default();
    let entries = if format == Format::Excel {
        excel::parse(bytes, &mut problems)
    } else {
        match decode::decode(bytes) {
            Ok(text) => match format {
                Format::Csv => csv::parse(&text, &mut problems),
                Format::Markdown => markdown::parse(&text, &mut problems),
                _ => json::parse(&text, &mut problems),
            },
            Err((place, message)) => {
                problems.add(&place, message);
                Vec::new()
            }
        }
    };
    validate::validate(&entries, &mut problems);
    if entries.is_empty() && problems.is_empty() {
        problems.add(&Place::file(), "it holds no entry");
    }
    if problems.is_empty() {
        Ok(entries.into_iter().map(|placed| placed.entry).collect())
    } else {
        Err(problems.list())
    }
}

/// The content of a file with these entries.
fn render(format: Format, entries: &[KnowledgeEntry]) -> Result<Vec<u8>, Vec<Problem>> {
    let mut problems = Problems::default();
    let place = |index: usize| Place::entry(index + 1);
    let placed = |(index, entry): (usize, &KnowledgeEntry)| Placed {
        place: place(index),
        entry: entry.clone(),
        id_of_question: false,
    };
    validate::validate(&entries.iter().enumerate().map(placed).collect::<Vec<_>>(), &mut problems);
    for (index, entry) in entries.iter().enumerate() {
        for (field, text) in validate::texts(entry) {
            if let Some(reason) = obstacle(format, field, text) {
                let id = quoted(&entry.id);
                let message =
                    format!("`{field}` of {id} {reason}, which {} cannot hold: {}", format.name(), quoted(text));
                problems.add(&place(index), message);
            }
        }
    }
    if entries.is_empty() {
        problems.add(&Place::file(), "there is no entry to write");
    }
    if !problems.is_empty() {
        return Err(problems.list());
    }
    let bytes = match format {
        Format::JsonLines => json::render_lines(entries),
        Format::Json => json::render_array(entries),
        Format::Csv => csv::render(entries),
        Format::Excel => excel::render(entries),
        Format::Markdown => Ok(markdown::render(entries).into_bytes()),
    };
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(message) => {
            problems.add(&Place::file(), message);
            return Err(problems.list());
        }
    };
    // The reasons above are those that we know. Whatever else a format or its library may change, nobody should find out later.
    match parse(format, &bytes) {
        Ok(read) if read == entries => Ok(bytes),
        Ok(read) => {
            for (index, entry) in entries.iter().enumerate().filter(|(index, entry)| read.get(*index) != Some(*entry)) {
                let message =
                    format!("{} would come back changed from {}; write JSON instead", quoted(&entry.id), format.name());
                problems.add(&place(index), message);
            }
            if problems.is_empty() {
                problems.add(&Place::file(), format!("{} entries would come back from {}", read.len(), entries.len()));
            }
            Err(problems.list())
        }
        Err(problems) => Err(problems),
    }
}

/// Why a format cannot hold a text.
fn obstacle(format: Format, field: &str, text: &str) -> Option<&'static str> {
    let listed = matches!(field, "similar_questions" | "tags" | "channels" | "audiences" | "products");
    // These stand in JSON, which holds any text.
    if matches!(field, "parts" | "variants") && matches!(format, Format::Csv | Format::Excel) {
        return None;
    }
    if matches!(format, Format::Json | Format::JsonLines) {
        return None;
    }
    if text.is_empty() {
        return Some("is empty, and not absent");
    }
    if text.trim() != text {
        return Some("begins or ends with white space");
    }
    match format {
        Format::Csv | Format::Excel if listed && text.contains('|') => {
            Some("holds `|`, which separates several values")
        }
        Format::Excel if text.encode_utf16().count() > excel::MAX_CELL => Some("is longer than a cell"),
        Format::Markdown if field == "tags" && text.contains('、') => Some("holds `、`, which separates tags"),
        Format::Markdown if field != "answer" && text.contains('\n') => Some("is of several lines"),
        Format::Markdown if text.contains("\r\n") => Some("holds a carriage return at the end of a line"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
