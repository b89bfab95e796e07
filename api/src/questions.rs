//! Files of labelled questions: what a customer wrote, and which entries of the knowledge answer it.

use std::path::{Path, PathBuf};

pub use yingda_engine::ranking::LabelledQuestion;

/// Why a file of labelled questions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QuestionsError {
    /// It cannot be read.
    #[error("the questions file {} cannot be read: {source}. Save it as UTF-8 and check its name", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it is wrong.
    #[error(
        "line {line} of the questions file {}: {message}. A line is such as {{\"text\": \"怎么退货\", \"knowledge\": [\"k1\"]}}, \
         with an empty list where no entry answers", path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Reads JSON Lines of `{"text": ..., "knowledge": [ids]}`; blank lines are skipped.
///
/// # Errors
///
/// When the file cannot be read, or a line is wrong: the first one is named.
pub fn read(path: &Path) -> Result<Vec<LabelledQuestion>, QuestionsError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| QuestionsError::Read { path: path.to_owned(), source })?;
    let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            let wrong = |message: String| QuestionsError::Line { path: path.to_owned(), line: index + 1, message };
            let question: LabelledQuestion = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            if question.text.trim().is_empty() {
                return Err(wrong("the text is empty".to_owned()));
            }
            Ok(question)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("questions.jsonl");
        std::fs::write(
            &file,
            "\u{feff}{\"text\": \"怎么退\", \"knowledge\": [\"a\"]}\n\n{\"text\": \"天气\", \"knowledge\": []}\n",
        )
        .unwrap();
        assert_eq!(read(&file).unwrap().len(), 2);
        for (line, message) in
            [("{\"text\": \"\", \"knowledge\": []}", "empty"), ("{\"text\": \"x\"}", "knowledge"), ("x", "expected")]
        {
            std::fs::write(&file, format!("{{\"text\": \"a\", \"knowledge\": []}}\n{line}\n")).unwrap();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.starts_with("line 2") && error.contains(message), "{error}");
        }
        assert!(read(&folder.path().join("none")).unwrap_err().to_string().contains("cannot be read"));
    }
}
