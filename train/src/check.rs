//! `check`: everything that is wrong with a data set, at once.

use std::path::PathBuf;

use yingda_datasets::{CheckOptions, ColumnMap, Report, load};
use yingda_models::text::TextContract;

use crate::TrainError;

/// Reads and checks chats; nothing is written.
///
/// # Errors
/// When a file cannot be read at all; what is wrong inside it is in the report.
pub fn check(data: &[PathBuf], map: &ColumnMap, options: &CheckOptions) -> Result<Report, TrainError> {
    let contract = TextContract::default();
    Ok(yingda_datasets::check(&load(data, map)?, options, &|text| contract.model_text(text))?)
}
