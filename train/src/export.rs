//! `export`: a model folder in another number format, with its loss of accuracy measured.

use std::path::Path;

use serde::Serialize;
use yingda_models::{ModelFolder, Precision};

use crate::TrainError;

/// What an export changed.
#[derive(Clone, Debug, Serialize)]
pub struct ExportSummary {
    /// Size of the weights in bytes, before.
    pub bytes_before: u64,
    /// Size of the weights in bytes, after.
    pub bytes_after: u64,
    /// Largest difference of any probability on the probe texts.
    pub probability_difference: f32,
    /// Least cosine between the embeddings of a probe text before and after.
    pub least_cosine: f32,
}

/// Texts of every shape that both folders must agree on.
const PROBES: [&str; 8] = [
    "我的包裹怎么还没到",
    "退货",
    "你好",
    "说了三天了还不处理，太让人失望了！！！",
    "谢谢，问题解决啦😊",
    "訂單號20260101123，幫我查一下",
    "ok",
    "我想问一下上周买的那件蓝色外套尺码偏大能不能换小一号，另外运费是你们出还是我出，换的话大概几天能收到",
];

/// Writes the model in `model` to `out` in `precision`, and compares both on probe texts.
///
/// # Errors
/// When the folder is not a model folder, `out` exists already, or it cannot be written.
pub fn export(model: &Path, out: &Path, precision: Precision) -> Result<ExportSummary, TrainError> {
    if out.exists() {
        return Err(TrainError::Usage(format!("--out {} exists already; name a new folder", out.display())));
    }
    let device = candle_core::Device::Cpu;
    let before = ModelFolder::open(model, &device, false)?;
    let card_path = model.join("README.md");
    let card = std::fs::read_to_string(&card_path).map_err(TrainError::io("read", &card_path))?;
    before.model.save(out, &before.tokenizer, &before.settings, &card, precision)?;
    let after = ModelFolder::open(out, &device, false)?;
    let mut summary = ExportSummary {
        bytes_before: weight_bytes(model)?,
        bytes_after: weight_bytes(out)?,
        probability_difference: 0.0,
        least_cosine: 1.0,
    };
    for (old, new) in before.predict(&PROBES)?.iter().zip(after.predict(&PROBES)?) {
        let pairs = old.intents.iter().chain(&old.sentiments).zip(new.intents.iter().chain(&new.sentiments));
        for (a, b) in pairs {
            summary.probability_difference = summary.probability_difference.max((a - b).abs());
        }
        let cosine: f32 = old.embedding.iter().zip(&new.embedding).map(|(a, b)| a * b).sum();
        summary.least_cosine = summary.least_cosine.min(cosine);
    }
    Ok(summary)
}

fn weight_bytes(folder: &Path) -> Result<u64, TrainError> {
    ["model.safetensors", "heads.safetensors"]
        .iter()
        .map(|file| {
            let path = folder.join(file);
            Ok(std::fs::metadata(&path).map_err(TrainError::io("read", &path))?.len())
        })
        .sum()
}
