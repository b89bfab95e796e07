//! Customer-service chats as data frames: read, check, clean, split, write.
//!
//! A chat file has one row a message, with the columns of [`schema::CHAT_FIELDS`]. The way through this crate:
//!
//! 1. [`load`] reads CSV, TSV, JSON Lines, JSON and Parquet into [`Chats`], renaming columns by a [`ColumnMap`].
//! 2. [`check`] tells everything that is wrong with them at once, as a [`Report`].
//! 3. [`split`] deals whole sessions to train, validation and test.
//! 4. [`write_parquet`] and [`write_frame`] put tables on disk, whole or not at all.
//!
//! [`import`] makes chats of the exports of labelling tools.
//!
//! [`load_knowledge`] and [`check_knowledge`] do the same for the entries of a knowledge base.
//!
//! What a text looks like to the model is said elsewhere; where cleaned text matters, the caller passes that function in.

mod chats;
mod check;
mod decode;
mod delimited;
mod error;
mod import;
mod knowledge;
mod near_duplicate;
mod problem;
mod read;
pub mod schema;
mod split;
mod write;

pub use chats::{Chats, Counts, TextLength};
pub use check::{CheckOptions, Report, check, check_splits};
pub use error::{DatasetsError, Result};
pub use import::{ImportFormat, ImportOptions, Imported, import, write_messages};
pub use knowledge::{Knowledge, KnowledgeEntry, check_knowledge, load_knowledge};
pub use near_duplicate::NearDuplicates;
pub use problem::{Problem, Severity, format_problems, has_errors};
pub use read::load;
pub use schema::{ColumnMap, Message, Role, Sentiment};
pub use split::{SplitCounts, SplitOptions, SplitReport, Splits, StratifyBy, split};
pub use write::{write_atomically, write_frame, write_parquet};
