//! Chats as the commands read them: checked, with the intents under which a model learnt them, and with what it has seen of
//! them.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use yingda_datasets::{Chats, CheckOptions, ColumnMap, DatasetsError, Message, Severity, load, write_atomically};
use yingda_models::{FoldedIntents, ModelSettings, text::TextContract};

use crate::{
    TrainError,
    examples::{Example, is_labelled},
    output,
};

/// Reads chats and refuses what a score or a model would silently rest on; warnings are counted. `name` is the flag.
///
/// # Errors
/// When a file cannot be read, or anything in it is an error to `yingda-train check`; the problems are printed.
pub(crate) fn checked(
    name: &str,
    files: &[PathBuf],
    map: &ColumnMap,
    contract: &TextContract,
) -> Result<Chats, TrainError> {
    let chats = load(files, map)?;
    let report = yingda_datasets::check(&chats, &CheckOptions::default(), &|text| contract.model_text(text))?;
    if report.has_errors() {
        output::line(&report.table(20));
        let errors = report.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        return Err(TrainError::Unfit { errors });
    }
    if !report.problems.is_empty() {
        output::line(&format!("{name}: {} warnings; see them with `yingda-train check`", report.problems.len()));
    }
    Ok(chats)
}

/// Checked messages for a model: rare intents that it learnt as another one have that one's name.
///
/// # Errors
/// As [`checked`].
pub(crate) fn of_model(
    files: &[PathBuf],
    map: &ColumnMap,
    settings: &ModelSettings,
) -> Result<Vec<Message>, TrainError> {
    let mut messages = checked("--data", files, map, &settings.text)?.messages()?;
    fold(&mut messages, settings.folded.as_ref());
    Ok(messages)
}

/// Gives messages the intents under which they are learnt.
pub(crate) fn fold(messages: &mut [Message], folded: Option<&FoldedIntents>) {
    let Some(folded) = folded else { return };
    for intent in messages.iter_mut().filter_map(|message| message.intent.as_mut()) {
        if folded.rare.contains(intent) {
            intent.clone_from(&folded.into);
        }
    }
}

/// The first message of `others` that also is one of `messages`: of the same session, with the same text.
pub(crate) fn shared<'a>(messages: &[&'a [Message]], others: &'a [Message]) -> Option<(&'a Message, usize)> {
    fn place(message: &Message) -> (&str, &str) {
        (&message.session_id, &message.text)
    }
    let labelled = messages.iter().flat_map(|some| some.iter()).filter(|message| is_labelled(message));
    let known: HashSet<(&str, &str)> = labelled.map(place).collect();
    let mut found = others.iter().filter(|message| is_labelled(message) && known.contains(&place(message)));
    let first = found.next()?;
    Some((first, 1 + found.count()))
}

/// The messages that a model was made from: those that it learnt from, and those by which it was chosen and calibrated. They
/// say nothing of how it does with others. Of each only four bytes of a hash are kept, in a file beside the model.
pub(crate) struct Seen(Vec<u32>);

const SEEN: &str = "seen.bin";

impl Seen {
    /// What is to be remembered of examples.
    pub(crate) fn new<'a>(examples: impl Iterator<Item = &'a Example>) -> Self {
        let mut keys: Vec<u32> = examples.map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        Self(keys)
    }

    /// What the model in `folder` has seen; nothing where the folder does not tell.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn read(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join(SEEN);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self(bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self(Vec::new())),
            Err(error) => Err(TrainError::io("read", &path)(error)),
        }
    }

    /// Puts it beside the model in `folder`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), TrainError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let path = folder.join(SEEN);
        let bytes: Vec<u8> = self.0.iter().flat_map(|key| key.to_le_bytes()).collect();
        Ok(write_atomically(&path, |file| {
            std::io::Write::write_all(file, &bytes)
                .map_err(|source| DatasetsError::Write { file: path.display().to_string(), source })
        })?)
    }

    /// The sessions of which the model has seen a message.
    pub(crate) fn sessions<'a>(&self, examples: &'a [Example]) -> HashSet<&'a str> {
        let seen = examples.iter().filter(|example| self.0.binary_search(&key(example)).is_ok());
        seen.map(|example| example.message.session_id.as_str()).collect()
    }

    /// Says so where a model is judged on what it has seen.
    pub(crate) fn warn(&self, name: &str, examples: &[Example]) {
        let sessions = self.sessions(examples);
        let seen = examples.iter().filter(|example| sessions.contains(example.message.session_id.as_str())).count();
        if seen > 0 {
            output::line(&format!(
                "{name} has seen the sessions of {seen} of {} messages while it was fitted: the scores are better than they will be",
                examples.len()
            ));
        }
    }
}

/// A message by its session and what the model sees of it.
fn key(example: &Example) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update((example.message.session_id.len() as u64).to_le_bytes());
    hasher.update(&example.message.session_id);
    hasher.update(&example.model_text);
    let digest = hasher.finalize();
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}
