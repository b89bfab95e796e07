//! Where a base model comes from: a local folder always; the Hugging Face hub only when asked.

use std::path::{Path, PathBuf};

use crate::ModelError;

/// The folder of `--base`.
///
/// A local folder wins. Otherwise, with `allow_hub`, `name` is a model at the Hugging Face hub (`owner/name`), whose
/// configuration, tokenizer and weights are fetched into the hub's cache folder.
///
/// # Errors
/// When there is no such folder and the hub may not be asked, or the hub does not give it.
pub fn resolve_base(name: &str, allow_hub: bool) -> Result<PathBuf, ModelError> {
    let folder = Path::new(name);
    if folder.is_dir() {
        return Ok(folder.to_owned());
    }
    if !allow_hub {
        return Err(ModelError::Config(format!(
            "there is no folder {name}; if it is the name of a model at the Hugging Face hub, say so with --from-hub"
        )));
    }
    let failed = |message: String| ModelError::Hub { name: name.to_owned(), message };
    let api = hf_hub::api::sync::ApiBuilder::from_env().build().map_err(|error| failed(error.to_string()))?;
    let repository = api.model(name.to_owned());
    let config = repository.get("config.json").map_err(|error| failed(error.to_string()))?;
    let fetch_first = |files: [&str; 2]| {
        repository.get(files[0]).or_else(|first| {
            repository
                .get(files[1])
                .map_err(|second| failed(format!("{} ({first}), {} ({second})", files[0], files[1])))
        })
    };
    fetch_first(["tokenizer.json", "vocab.txt"])?;
    fetch_first(["model.safetensors", "pytorch_model.bin"])?;
    Ok(config.parent().map(Path::to_owned).unwrap_or_default())
}
