//! `check`: everything that is wrong with a data set, at once, and what there is.

use std::{collections::BTreeMap, path::PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use yingda_datasets::{CheckOptions, ColumnMap, Problem, Report, Severity, load};
use yingda_models::text::{MaskCounts, PersonalData, TextContract};

use crate::TrainError;

/// What the checker found.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Counts and problems.
    #[serde(flatten)]
    pub report: Report,
    /// Personal data that will be masked, by kind.
    pub masked: MaskCounts,
}

/// Reads and checks chats; nothing is written.
///
/// # Errors
/// When a file cannot be read at all; what is wrong inside it is in the report.
pub fn check(data: &[PathBuf], map: &ColumnMap, options: &CheckOptions) -> Result<Checked, TrainError> {
    let contract = TextContract::default();
    let chats = load(data, map)?;
    let mut report = yingda_datasets::check(&chats, options, &|text| contract.model_text(text))?;
    report.problems.extend(unusable(&report));
    let mut masked = MaskCounts::default();
    if !report.has_errors() {
        for message in chats.messages()? {
            masked += contract.mask(&message.text).1;
        }
    }
    Ok(Checked { report, masked })
}

/// What `fit` would refuse although every row is sound.
fn unusable(report: &Report) -> Option<Problem> {
    let counts = &report.counts;
    let (code, message, remedy) = if counts.messages == 0 {
        ("no_message", "there is no message".to_owned(), "look whether the export is empty or has other line ends")
    } else if counts.intents.is_empty() && counts.sentiments.is_empty() {
        let remedy =
            "name the columns with the labels, such as --map intent=意图 --map sentiment=情绪, or label some messages";
        ("no_label", "no message has an intent or a sentiment".to_owned(), remedy)
    } else if counts.sessions < LEAST_SESSIONS {
        let remedy = "give more chats; a message that stands alone gets a session_id of its own";
        let message = format!("there are {} sessions, too few for training, validation and test", counts.sessions);
        ("too_few_sessions", message, remedy)
    } else {
        return None;
    };
    Some(Problem { severity: Severity::Error, code, file: None, row: None, message, remedy: remedy.to_owned() })
}

/// One for each of training, validation and test.
const LEAST_SESSIONS: usize = 3;

impl Checked {
    /// Counts, problems and the verdict, for a terminal; at most `per_code` problems of each kind.
    pub fn table(&self, per_code: usize) -> String {
        let counts = &self.report.counts;
        let length = &counts.text_length;
        let mut rows = vec![
            ["sessions".to_owned(), String::new(), counts.sessions.to_string()],
            ["messages".to_owned(), String::new(), counts.messages.to_string()],
        ];
        let mut list = |what: &str, counts: &BTreeMap<String, usize>| {
            let mut sorted: Vec<_> = counts.iter().collect();
            sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
            for (index, (name, count)) in sorted.into_iter().enumerate() {
                let what = if index == 0 { what } else { "" };
                rows.push([what.to_owned(), name.clone(), count.to_string()]);
            }
        };
        list("role", &counts.roles);
        list("sentiment", &counts.sentiments);
        list("intent", &counts.intents);
        let masked = PersonalData::ALL.iter().map(|&kind| (kind.token().to_owned(), self.masked.of(kind)));
        list("will be masked", &masked.filter(|(_, count)| *count > 0).collect());
        for (name, value) in
            [("median", length.median), ("90 %", length.p90), ("99 %", length.p99), ("longest", length.max)]
        {
            let what = if name == "median" { "characters" } else { "" };
            rows.push([what.to_owned(), name.to_owned(), value.to_string()]);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["what", "", "count"]);
        table.add_rows(rows);
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut parts = vec![table.to_string()];
        if !self.report.problems.is_empty() {
            parts.push(self.report.table(per_code));
        }
        parts.push(self.verdict());
        parts.join("\n\n")
    }

    fn verdict(&self) -> String {
        let errors = self.report.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let warnings = self.report.problems.len() - errors;
        match (errors, warnings) {
            (0, 0) => "verdict: fit to train on".into(),
            (0, warnings) => format!("verdict: fit to train on, with {warnings} warnings"),
            (errors, warnings) => {
                format!("verdict: not fit to train on: {errors} errors to mend first, and {warnings} warnings")
            }
        }
    }
}
