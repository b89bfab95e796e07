//! Everything that stops this crate, each with a sentence for the person who can act on it.

use std::io;

use polars::error::PolarsError;

/// What the functions of this crate return.
pub type Result<T, E = DatasetsError> = std::result::Result<T, E>;

/// Why reading, splitting or writing had to stop.
///
/// What is wrong with a single row is no error but a [`Problem`](crate::Problem), and all of them are told together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetsError {
    /// Nothing to read.
    #[error("no file was given; name at least one CSV, TSV, JSON Lines, JSON or Parquet file")]
    NoFiles,

    /// The operating system would not let the file be read.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// The operating system would not let the file be written.
    #[error("{file} cannot be written: {source}")]
    Write {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// The name does not tell the format.
    #[error(
        "{file}: the name must end in one of .csv, .tsv, .jsonl, .ndjson, .json or .parquet, so that the format is known"
    )]
    UnknownFormat {
        /// The file.
        file: String,
    },

    /// Not even a header.
    #[error("{file} is empty: it has neither a header nor a row")]
    EmptyFile {
        /// The file.
        file: String,
    },

    /// The bytes are text in no encoding that we read.
    #[error(
        "{file}: the byte at offset {offset} is not valid {encoding}; save the file again as UTF-8 (GB18030 is read, too)"
    )]
    Encoding {
        /// The file.
        file: String,
        /// Where, counted in bytes from 0.
        offset: usize,
        /// The encodings that were tried.
        encoding: &'static str,
    },

    /// Columns that must be there are not.
    #[error(
        "{file}: no column {missing}; wanted: {wanted}; found: {found}. If a column is there under another name, say so with --map, for example --map {example}=NAME"
    )]
    MissingColumns {
        /// The file.
        file: String,
        /// The missing ones.
        missing: String,
        /// All that must be there.
        wanted: String,
        /// All that are there.
        found: String,
        /// One of ours, for the example.
        example: &'static str,
    },

    /// Two columns have one name.
    #[error("{file}: two columns are named `{column}`; rename or remove one of them")]
    DuplicateColumn {
        /// The file.
        file: String,
        /// The name.
        column: String,
    },

    /// A `--map` without an equals sign, or with an empty side.
    #[error("--map {given}: write it as OURS=THEIRS, for example --map text=content")]
    MapSyntax {
        /// What was given.
        given: String,
    },

    /// A `--map` for a field that we do not have.
    #[error("--map {given}: there is no field `{field}`; the fields are {known}")]
    UnknownField {
        /// What was given.
        given: String,
        /// The left side of it.
        field: String,
        /// The fields that there are.
        known: String,
    },

    /// One field was mapped twice.
    #[error("--map {given}: the field `{field}` was already mapped; map it once")]
    MappedTwice {
        /// What was given.
        given: String,
        /// The field.
        field: String,
    },

    /// A `.json` file that is no array of objects.
    #[error("{file} is not a JSON array of objects: {detail}; one object a line, named .jsonl, is read, too")]
    Json {
        /// The file.
        file: String,
        /// What the parser said.
        detail: String,
    },

    /// A Parquet file that cannot be read.
    #[error("{file} cannot be read as Parquet: {detail}; write it again, with plain text columns")]
    Parquet {
        /// The file.
        file: String,
        /// What the reader said.
        detail: String,
    },

    /// A row that must be repaired before this step.
    #[error("{file}:{row}: {what}; run the check to see every such row, and repair them first")]
    InvalidRow {
        /// The file.
        file: String,
        /// The row, as people count.
        row: u64,
        /// What is wrong with it.
        what: String,
    },

    /// Fractions that cannot be dealt.
    #[error(
        "the fractions train {train}, validation {validation}, test {test} must each lie between 0 and 1, with train above 0, and sum to 1"
    )]
    Fractions {
        /// The share of the training set.
        train: f64,
        /// The share of the validation set.
        validation: f64,
        /// The share of the test set.
        test: f64,
    },

    /// Less to deal than hands to deal to.
    #[error(
        "{sessions} session(s) cannot be dealt to {splits} sets, those with almost the same text together; bring more chats, or ask for fewer sets"
    )]
    TooFewSessions {
        /// How many there are.
        sessions: usize,
        /// How many sets are wanted.
        splits: usize,
    },

    /// A column to add has another number of rows than the table.
    #[error("the column `{column}` has {values} values for {rows} rows")]
    ColumnLength {
        /// The column.
        column: String,
        /// Its length.
        values: usize,
        /// The length of the table.
        rows: usize,
    },

    /// A data frame operation failed, which bad data does not explain.
    #[error("a data frame operation failed: {0}")]
    Frame(#[from] PolarsError),
}
