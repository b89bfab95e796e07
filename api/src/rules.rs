//! The rules file: TOML on the disk, checked before it is used. It is read at the start and again at every reload.

use std::path::PathBuf;

use serde_json::Value;
use yingda_engine::{Engine, rules::Rules};

use crate::config::Config;
use crate::request;

/// Why a rules file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It cannot be read.
    #[error("the rules file {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("the rules file {path} is not TOML: {message}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// What it says is wrong.
    #[error("the rules file {path} cannot be used:\n- {}", .problems.join("\n- "))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All that is wrong, a sentence each.
        problems: Vec<String>,
    },
}

/// The rules that the settings name, checked and not yet in use; none when they name none.
///
/// # Errors
///
/// When the file cannot be read or anything in it is wrong.
pub fn load(config: &Config, engine: &Engine) -> Result<Option<Rules>, RulesError> {
    let Some(path) = &config.rules else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|source| RulesError::Read { path: path.clone(), source })?;
    let file: toml::Table = toml::from_str(&text)
        .map_err(|error| RulesError::Toml { path: path.clone(), message: error.to_string().trim_end().to_owned() })?;
    let wrong = |problems| RulesError::Wrong { path: path.clone(), problems };
    let rules = engine.check_rules(json(toml::Value::Table(file))).map_err(wrong)?;
    let mut problems = Vec::new();
    for (flow, url, token) in rules.calls() {
        if let Err(problem) = request::check_address(url) {
            problems.push(format!("flow `{flow}`: `url` {problem}"));
        }
        if let Some(Err(problem)) = token.map(request::bearer) {
            problems.push(format!("flow `{flow}`: `token`: {problem}"));
        }
    }
    if problems.is_empty() { Ok(Some(rules)) } else { Err(wrong(problems)) }
}

/// Uses rules that were loaded.
pub(crate) fn put_to_use(rules: Option<Rules>, engine: &Engine) {
    if let Some(rules) = rules {
        let (rules_count, flows) = rules.counts();
        tracing::info!(rules = rules_count, flows, "the rules file is in use");
        engine.set_rules(rules);
    }
}

/// The same as JSON. A day may be written with or without quotes.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(value) => Value::Bool(value),
        toml::Value::Datetime(at) => Value::String(at.to_string()),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(fields) => fields.into_iter().map(|(name, value)| (name, json(value))).collect(),
    }
}
