//! `import`: exports of labelling tools as chats in JSON Lines.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use yingda_datasets::{
    ImportFormat, ImportOptions, Imported, Severity, format_problems, has_errors, import, write_messages,
};

use crate::TrainError;

/// The tool that wrote the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Tool {
    /// Label Studio, exported as JSON
    LabelStudio,
    /// doccano, exported as JSONL
    Doccano,
    /// Rasa NLU training data in YAML
    Rasa,
}

/// Flags of `import`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportFlags {
    /// The tool that wrote the files
    #[arg(long, value_enum, value_name = "TOOL")]
    pub from: Tool,
    /// Exported files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// New file for the chats, named .jsonl
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Key of the text; found by itself when it is `text` or the only text
    #[arg(long, value_name = "KEY")]
    pub text_from: Option<String>,
    /// Name of the intent's labels: from_name in Label Studio (intent), key in doccano (label)
    #[arg(long, value_name = "NAME")]
    pub intent_from: Option<String>,
    /// Name of the sentiment's labels: from_name in Label Studio (sentiment), key in doccano, metadata in Rasa (sentiment)
    #[arg(long, value_name = "NAME")]
    pub sentiment_from: Option<String>,
    /// Print counts and problems as JSON
    #[arg(long)]
    pub json: bool,
}

/// What an import came to.
#[derive(Clone, Debug, Serialize)]
pub struct ImportSummary {
    /// Counts and problems.
    #[serde(flatten)]
    pub imported: Imported,
    /// How many messages were written; none when something must be mended.
    pub messages: usize,
    /// The file, if it was written.
    pub written: Option<PathBuf>,
}

impl ImportFlags {
    /// Reads the exports and writes the chats, unless anything is wrong with them: then everything that is wrong is in the
    /// summary and nothing is written.
    ///
    /// # Errors
    /// When flags contradict each other, or the file cannot be written.
    pub fn run(&self) -> Result<ImportSummary, TrainError> {
        let extension = self.out.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !["jsonl", "ndjson"].contains(&extension.to_ascii_lowercase().as_str()) {
            return Err(usage(&self.out, "must be named .jsonl, since JSON Lines are written"));
        }
        if self.out.exists() {
            return Err(usage(&self.out, "exists already; name a new file"));
        }
        let format = match self.from {
            Tool::LabelStudio => ImportFormat::LabelStudio,
            Tool::Doccano => ImportFormat::Doccano,
            Tool::Rasa => ImportFormat::Rasa,
        };
        if format == ImportFormat::Rasa {
            for (flag, given) in [("--intent-from", &self.intent_from), ("--text-from", &self.text_from)] {
                if given.is_some() {
                    let why = "Rasa files always say where intents and texts are; leave it out";
                    return Err(TrainError::Usage(format!("{flag} cannot be used with --from rasa: {why}")));
                }
            }
        }
        let options = ImportOptions {
            text_from: self.text_from.clone(),
            intent_from: self.intent_from.clone(),
            sentiment_from: self.sentiment_from.clone(),
        };
        let imported = import(&self.files, format, &options)?;
        if has_errors(&imported.problems) {
            return Ok(ImportSummary { imported, messages: 0, written: None });
        }
        write_messages(&imported.messages, &self.out)?;
        Ok(ImportSummary { messages: imported.messages.len(), imported, written: Some(self.out.clone()) })
    }
}

fn usage(out: &Path, what: &str) -> TrainError {
    TrainError::Usage(format!("--out {} {what}", out.display()))
}

impl ImportSummary {
    /// Counts, problems and what was written, for a terminal; at most `per_code` problems of each kind.
    pub fn table(&self, per_code: usize) -> String {
        let mut parts = Vec::new();
        let found = &self.imported;
        if self.written.is_some() {
            let mut rows = vec![
                ["sessions".to_owned(), String::new(), found.sessions.to_string()],
                ["messages".to_owned(), String::new(), self.messages.to_string()],
                ["without label".to_owned(), String::new(), found.unlabelled.to_string()],
            ];
            let left_out = found.left_out.iter().map(|(&kind, &count)| (kind.to_owned(), count)).collect();
            for (what, counts) in
                [("sentiment", &found.sentiments), ("intent", &found.intents), ("left out", &left_out)]
            {
                let counts: &BTreeMap<String, usize> = counts;
                let mut sorted: Vec<_> = counts.iter().collect();
                sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
                for (index, (name, count)) in sorted.into_iter().enumerate() {
                    let what = if index == 0 { what } else { "" };
                    rows.push([what.to_owned(), name.clone(), count.to_string()]);
                }
            }
            let mut table = Table::new();
            table.load_style(presets::NOTHING).set_header(["what", "", "count"]);
            table.add_rows(rows);
            if let Some(column) = table.column_mut(2) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            parts.push(table.to_string());
        }
        if !found.problems.is_empty() {
            parts.push(format_problems(&found.problems, per_code).trim_end().to_owned());
        }
        parts.push(match &self.written {
            Some(path) => format!("written to {}; see what is in it with `yingda-train check`", path.display()),
            None => {
                let errors = found.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
                format!("nothing was written: {errors} errors to mend first")
            }
        });
        parts.join("\n\n")
    }
}
