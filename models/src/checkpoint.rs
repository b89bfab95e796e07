//! Reading the weights of BERT checkpoints as they are found: safetensors or PyTorch pickles, old and new names.

use std::{collections::HashMap, path::Path};

use candle_core::{Device, Tensor};
use serde::Serialize;

use crate::ModelError;

/// Which weights of a checkpoint were used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Taken from the checkpoint.
    pub loaded: Vec<String>,
    /// Not in the checkpoint and drawn anew; only heads may be.
    pub missing: Vec<String>,
    /// In the checkpoint and not used, such as a pooler or a masked-language-model head.
    pub unexpected: Vec<String>,
}

/// Reads `model.safetensors`, or else `pytorch_model.bin`, of `folder`.
///
/// Names come back in one form: without the `bert.` prefix, norms as `weight` and `bias` (old checkpoints say `gamma` and
/// `beta`).
///
/// # Errors
/// When neither file is there, or one is cut short or damaged; the sentence names the file.
pub fn read_checkpoint(folder: &Path) -> Result<HashMap<String, Tensor>, ModelError> {
    let safetensors = folder.join("model.safetensors");
    let pickle = folder.join("pytorch_model.bin");
    let tensors = if safetensors.exists() {
        read_safetensors(&safetensors)?
    } else if pickle.exists() {
        candle_core::pickle::read_all(&pickle)
            .map_err(|error| {
                ModelError::malformed(
                    &pickle,
                    format!(
                        "it is not a PyTorch state dictionary ({error}); save it again or convert it to safetensors"
                    ),
                )
            })?
            .into_iter()
            .collect()
    } else {
        return Err(ModelError::MissingFile {
            folder: folder.to_owned(),
            file: "model.safetensors",
            hint: "nor a pytorch_model.bin; name a folder that holds BERT weights",
        });
    };
    Ok(tensors.into_iter().map(|(name, tensor)| (plain_name(&name), tensor)).collect())
}

/// Reads one safetensors file whole, with a sentence when it is damaged.
pub(crate) fn read_safetensors(path: &Path) -> Result<HashMap<String, Tensor>, ModelError> {
    let bytes = std::fs::read(path).map_err(ModelError::io("read", path))?;
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| {
        ModelError::malformed(
            path,
            format!("it is cut short or damaged ({} bytes; {error}); copy or train it again", bytes.len()),
        )
    })
}

fn plain_name(name: &str) -> String {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    match name.rsplit_once('.') {
        Some((stem, "gamma")) => format!("{stem}.weight"),
        Some((stem, "beta")) => format!("{stem}.bias"),
        _ => name.to_owned(),
    }
}
