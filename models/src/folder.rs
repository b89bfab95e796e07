//! The files of a model folder, and writing one so that it is there whole or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{BertConfig, HiddenAct, ModelError, ServingPrecision, text::TextContract};

/// The files that make a model folder; the card `README.md` stands beside them.
pub const MODEL_FILES: [&str; 5] =
    ["config.json", "tokenizer.json", "model.safetensors", "heads.safetensors", "yingda.json"];

/// How token states become one vector for a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over all tokens that are not padding, special tokens included.
    #[default]
    Mean,
}

/// Number format of saved weights; they are always read into 32-bit floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats: half the size.
    F16,
}

/// Label names, in head order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Intents.
    pub intents: Vec<String>,
    /// Sentiments: always `negative`, `neutral`, `positive`.
    pub sentiments: Vec<String>,
}

/// Temperatures that make the softmax of a head a calibrated probability (Guo et al. 2017,
/// <https://arxiv.org/abs/1706.04599>): logits are divided by them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperatures {
    /// Of the intent head.
    pub intent: f32,
    /// Of the sentiment head.
    pub sentiment: f32,
}

impl Default for Temperatures {
    fn default() -> Self {
        Self { intent: 1.0, sentiment: 1.0 }
    }
}

/// Thresholds of the reply decision that fit this model, chosen on validation data. Those of answers are kept with the reply
/// store, because they depend on what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Least calibrated probability of the first intent.
    pub intent_confidence: f32,
    /// Least distance between the first and the second intent.
    pub intent_gap: f32,
    /// Probability from which a message counts as negative.
    pub negative: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { intent_confidence: 0.5, intent_gap: 0.1, negative: 0.6 }
    }
}

/// What `yingda-train calibrate` has certified on labelled chats that the model had not learnt from: with probability
/// `confidence`, at most a share of `max_wrong` of the intents that are answered automatically are wrong (Learn then Test,
/// <https://arxiv.org/abs/2110.01052>).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guarantee {
    /// Largest share of wrong ones among automatic answers.
    pub max_wrong: f64,
    /// Probability that the share stays below it.
    pub confidence: f64,
    /// Least intent probability for an automatic answer, of intents without one of their own; the same as
    /// [`Thresholds::intent_confidence`]. `None` when all have their own.
    pub threshold: Option<f32>,
    /// Share of the labelled messages that are answered.
    pub coverage: f64,
    /// Labelled messages that it rests on.
    pub rows: usize,
    /// Intents with a threshold of their own, or with none because they could not be certified.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_intent: BTreeMap<String, IntentGuarantee>,
}

/// What was certified for a single intent, as it is said by the model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentGuarantee {
    /// Least probability for an automatic answer; `None`: never answered automatically.
    pub threshold: Option<f32>,
    /// Share of the labelled messages said to be of this intent that are answered.
    pub coverage: f64,
    /// Labelled messages said to be of this intent.
    pub rows: usize,
}

/// Intents with too few messages to be learnt, which became one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoldedIntents {
    /// What they became.
    pub into: String,
    /// Their names.
    pub rare: BTreeSet<String>,
}

impl FoldedIntents {
    /// The name under which an intent was learnt.
    pub fn name<'a>(&'a self, intent: &'a str) -> &'a str {
        if self.rare.contains(intent) { &self.into } else { intent }
    }
}

/// `yingda.json`: what serving needs besides weights, configuration and tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Version of this file's form: 1.
    pub format: u32,
    /// Label names, in head order.
    pub labels: Labels,
    /// How token states become one vector.
    pub pooling: Pooling,
    /// Longest text in tokens, special tokens included.
    pub max_tokens: usize,
    /// Turns before a message that are read with it.
    #[serde(default)]
    pub context_turns: usize,
    /// Number format in which the model is served on the CPU.
    #[serde(default)]
    pub serving: ServingPrecision,
    /// What a text looks like to this model.
    pub text: TextContract,
    /// Temperatures of the heads.
    pub temperatures: Temperatures,
    /// Thresholds of the reply decision.
    pub thresholds: Thresholds,
    /// What was certified of them, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarantee: Option<Guarantee>,
    /// SHA-256 over the training messages and their labels, after cleaning.
    pub data_fingerprint: String,
    /// Rare intents that were learnt as another one, and that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folded: Option<FoldedIntents>,
    /// Program and version that wrote the folder.
    pub created_by: String,
}

pub(crate) const FORMAT: u32 = 1;

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    folder: &Path,
    file: &'static str,
    hint: &'static str,
) -> Result<T, ModelError> {
    let path = folder.join(file);
    if !path.exists() {
        return Err(ModelError::MissingFile { folder: folder.to_owned(), file, hint });
    }
    let bytes = std::fs::read(&path).map_err(ModelError::io("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::malformed(&path, error.to_string()))
}

/// `config.json` in Hugging Face form. transformers and sentence-transformers read it as a plain BERT.
pub(crate) fn config_json(config: &BertConfig, labels: &Labels) -> serde_json::Value {
    let by_id: serde_json::Map<_, _> =
        labels.intents.iter().enumerate().map(|(id, label)| (id.to_string(), label.as_str().into())).collect();
    let by_label: serde_json::Map<_, _> =
        labels.intents.iter().enumerate().map(|(id, label)| (label.clone(), id.into())).collect();
    serde_json::json!({
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "hidden_act": match config.hidden_act {
            HiddenAct::Gelu => "gelu",
            HiddenAct::GeluApproximate => "gelu_new",
            HiddenAct::Relu => "relu",
        },
        "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.hidden_dropout_prob,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.type_vocab_size,
        "initializer_range": config.initializer_range,
        "layer_norm_eps": config.layer_norm_eps,
        "pad_token_id": config.pad_token_id,
        "position_embedding_type": "absolute",
        "id2label": by_id,
        "label2id": by_label,
    })
}

/// Reads `config.json`, accepting what Hugging Face folders leave out.
pub(crate) fn read_config(folder: &Path) -> Result<BertConfig, ModelError> {
    let mut json: serde_json::Map<String, serde_json::Value> =
        read_json(folder, "config.json", "name a Hugging Face BERT folder, or one that yingda-train wrote")?;
    let path = folder.join("config.json");
    if let Some(kind) = json.get("model_type").and_then(|kind| kind.as_str())
        && kind != "bert"
    {
        return Err(ModelError::malformed(&path, format!("model_type is {kind:?}; only \"bert\" can be loaded")));
    }
    for (key, value) in [
        ("hidden_act", serde_json::json!("gelu")),
        ("hidden_dropout_prob", serde_json::json!(0.1)),
        ("type_vocab_size", serde_json::json!(2)),
        ("initializer_range", serde_json::json!(0.02)),
        ("layer_norm_eps", serde_json::json!(1e-12)),
        ("pad_token_id", serde_json::json!(0)),
    ] {
        json.entry(key).or_insert(value);
    }
    if json["hidden_act"] == "gelu_new" {
        json.insert("hidden_act".into(), "gelu_approximate".into());
    }
    if json["hidden_act"] == "gelu_approximate" {
        json.insert("hidden_act".into(), "gelu".into());
        let mut config: BertConfig =
            serde_json::from_value(json.into()).map_err(|error| ModelError::malformed(&path, error.to_string()))?;
        config.hidden_act = HiddenAct::GeluApproximate;
        return Ok(config);
    }
    serde_json::from_value(json.into()).map_err(|error| ModelError::malformed(&path, error.to_string()))
}

/// Short SHA-256 (12 hexadecimal digits) over the files of a model folder: changes when anything that serving reads changes.
///
/// # Errors
/// When a file cannot be read.
pub fn fingerprint(folder: &Path) -> Result<String, ModelError> {
    let mut hasher = Sha256::new();
    for file in MODEL_FILES {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).map_err(ModelError::io("read", &path))?;
        hasher.update(file.as_bytes());
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    Ok(hasher.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a folder so that `destination` holds either its old content or the whole new one, whatever happens meanwhile.
///
/// `fill` gets an empty folder beside `destination`; when it succeeds the files are flushed to disk and the folders change
/// places.
///
/// # Errors
/// When `fill` fails or the folder cannot be written; `destination` is then as it was.
pub fn replace_folder(
    destination: &Path,
    fill: impl FnOnce(&Path) -> Result<(), ModelError>,
) -> Result<(), ModelError> {
    let parent = match destination.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    std::fs::create_dir_all(&parent).map_err(ModelError::io("make", &parent))?;
    let fresh = tempfile::Builder::new()
        .prefix(".writing-")
        .tempdir_in(&parent)
        .map_err(ModelError::io("make a folder in", &parent))?;
    fill(fresh.path())?;
    settle(fresh.path())?;
    readable(fresh.path(), 0o755)?;
    if destination.exists() {
        swap(fresh.path(), destination)?;
        // What is dropped now is the old content.
        drop(fresh);
    } else {
        let fresh = fresh.keep();
        std::fs::rename(&fresh, destination).map_err(|source| {
            let _ = std::fs::remove_dir_all(&fresh);
            ModelError::io("write", destination)(source)
        })?;
    }
    Ok(())
}

/// Flushes everything in a folder to disk, and makes it readable.
fn settle(folder: &Path) -> Result<(), ModelError> {
    for entry in std::fs::read_dir(folder).map_err(ModelError::io("read", folder))? {
        let path = entry.map_err(ModelError::io("read", folder))?.path();
        if path.is_dir() {
            settle(&path)?;
            readable(&path, 0o755)?;
        } else {
            readable(&path, 0o644)?;
            std::fs::File::open(&path).and_then(|file| file.sync_all()).map_err(ModelError::io("flush", &path))?;
        }
    }
    Ok(())
}

/// Temporary files are private; what takes their place is for whoever serves it.
#[cfg(unix)]
fn readable(path: &Path, mode: u32) -> Result<(), ModelError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(ModelError::io("write", path))
}

#[cfg(not(unix))]
fn readable(_: &Path, _: u32) -> Result<(), ModelError> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn swap(fresh: &Path, destination: &Path) -> Result<(), ModelError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, fresh, CWD, destination, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Some file systems cannot exchange.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => swap_by_steps(fresh, destination),
        Err(error) => Err(ModelError::io("write", destination)(error.into())),
    }
}

#[cfg(not(target_os = "linux"))]
fn swap(fresh: &Path, destination: &Path) -> Result<(), ModelError> {
    swap_by_steps(fresh, destination)
}

fn swap_by_steps(fresh: &Path, destination: &Path) -> Result<(), ModelError> {
    let aside = fresh.with_extension("aside");
    std::fs::rename(destination, &aside).map_err(ModelError::io("write", destination))?;
    if let Err(source) = std::fs::rename(fresh, destination) {
        let _ = std::fs::rename(&aside, destination);
        return Err(ModelError::io("write", destination)(source));
    }
    std::fs::rename(&aside, fresh).map_err(ModelError::io("write", fresh))
}
