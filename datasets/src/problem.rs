//! One thing that is wrong with the data, and how a list of them is printed.

use std::fmt::Write as _;

use serde::Serialize;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training on this would be wrong.
    Error,
    /// Worth a look.
    Warning,
}

impl Severity {
    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that is wrong, where, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The kind, in stable snake case, for programs.
    pub code: &'static str,
    /// The file, when the problem has a place.
    pub file: Option<String>,
    /// The line of a text file, the element of a JSON array or the row of a Parquet file, counted from 1.
    pub row: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// A problem of one row.
    pub(crate) fn at(
        severity: Severity,
        code: &'static str,
        place: (&str, u64),
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Problem {
            severity,
            code,
            file: Some(place.0.to_owned()),
            row: Some(place.1),
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// A problem of the data as a whole.
    pub(crate) fn overall(
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Problem { severity, code, file: None, row: None, message: message.into(), remedy: remedy.into() }
    }

    /// `file:row`, or nothing.
    pub fn place(&self) -> String {
        match (&self.file, self.row) {
            (Some(file), Some(row)) => format!("{file}:{row}"),
            (Some(file), None) => file.clone(),
            _ => String::new(),
        }
    }
}

/// Whether one of the problems is an error.
pub fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

/// The problems for people: errors first, gathered by code, at most `per_code` of each written out.
pub fn format_problems(problems: &[Problem], per_code: usize) -> String {
    let mut kinds: Vec<(Severity, &'static str, Vec<&Problem>)> = Vec::new();
    for problem in problems {
        match kinds.iter_mut().find(|(severity, code, _)| (*severity, *code) == (problem.severity, problem.code)) {
            Some((_, _, members)) => members.push(problem),
            None => kinds.push((problem.severity, problem.code, vec![problem])),
        }
    }
    kinds.sort_by_key(|(severity, _, _)| *severity);

    let mut out = String::new();
    for (severity, code, members) in kinds {
        let _ = writeln!(out, "{}: {code} ({})", severity.as_str(), members.len());
        for problem in members.iter().take(per_code) {
            let place = problem.place();
            let gap = if place.is_empty() { "" } else { "  " };
            let _ = writeln!(out, "  {place}{gap}{}", problem.message);
        }
        if members.len() > per_code {
            let _ = writeln!(out, "  ... and {} more", members.len() - per_code);
        }
        if let Some(first) = members.first() {
            let _ = writeln!(out, "  -> {}", first.remedy);
        }
    }
    out
}

/// A piece of data inside a sentence: short, in one line, without control characters.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 24;
    let mut short: String = text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_tells_errors_first_and_caps_each_code() {
        let mut problems = vec![Problem::overall(Severity::Warning, "small_class", "two are few", "bring more")];
        for row in 1..=5 {
            problems.push(Problem::at(Severity::Error, "empty_text", ("a.csv", row), "no text", "remove the row"));
        }
        let table = format_problems(&problems, 2);
        assert_eq!(
            table,
            "error: empty_text (5)\n  a.csv:1  no text\n  a.csv:2  no text\n  ... and 3 more\n  -> remove the row\n\
             warning: small_class (1)\n  two are few\n  -> bring more\n"
        );
        assert!(has_errors(&problems));
        assert!(!has_errors(&problems[..1]));
    }

    #[test]
    fn a_quoted_text_is_short_and_stands_in_one_line() {
        assert_eq!(quoted("你好\n"), "`你好\u{fffd}`");
        assert_eq!(quoted(&"长".repeat(40)), format!("`{}…`", "长".repeat(24)));
    }
}
