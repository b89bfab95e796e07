//! The state of a run between two steps: saved whole or not at all, and enough to go on as if nothing had happened.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use yingda_models::replace_folder;

use crate::{TrainError, optimizer::AdamW};

/// Where a run stands. Random streams are made from the seed, the epoch and the step, so they need no saving.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Epochs that are done.
    pub epoch: usize,
    /// Batches of the current epoch that are done.
    pub batch: usize,
    /// Optimiser steps of the whole run.
    pub step: usize,
    /// Best validation score so far and its epoch (from 1).
    pub best_score: Option<f64>,
    /// Epoch of the best score.
    pub best_epoch: usize,
    /// SHA-256 of the training data.
    pub data_fingerprint: String,
    /// SHA-256 of what it is judged by and of the knowledge; empty in runs of earlier versions.
    #[serde(default)]
    pub rest_fingerprint: String,
    /// Sum of the losses of the current epoch, and of how many steps.
    #[serde(default)]
    pub losses: f64,
    #[serde(default)]
    pub steps: usize,
    /// Lines of `metrics.jsonl` that belong to this state; a resumed run cuts what came after.
    pub metric_lines: usize,
}

/// The saved state of the run in `run`.
pub(crate) fn folder(run: &Path) -> PathBuf {
    run.join("checkpoint")
}

pub(crate) fn save(
    run: &Path,
    state: &impl Serialize,
    variables: &BTreeMap<String, Var>,
    optimizer: &AdamW,
) -> Result<(), TrainError> {
    let moments = optimizer.to_tensors()?;
    let weights = tensors(variables)?;
    Ok(replace_folder(&folder(run), |folder| {
        write_tensors(&folder.join("weights.safetensors"), &weights)?;
        write_tensors(&folder.join("moments.safetensors"), &moments)?;
        let path = folder.join("state.json");
        let text = serde_json::to_string_pretty(state).expect("plain data is always JSON");
        std::fs::write(&path, text).map_err(|source| yingda_models::ModelError::Io { doing: "write", path, source })
    })?)
}

/// Where the run in `run` stands; its variables are set to what they were.
pub(crate) fn load_progress<S: serde::de::DeserializeOwned>(
    run: &Path,
    variables: &BTreeMap<String, Var>,
) -> Result<S, TrainError> {
    let folder = folder(run);
    let path = folder.join("state.json");
    let text = std::fs::read(&path).map_err(|source| {
        if source.kind() == std::io::ErrorKind::NotFound {
            TrainError::Usage(format!(
                "--resume: {} holds no checkpoint; start the run without --resume",
                run.display()
            ))
        } else {
            TrainError::io("read", &path)(source)
        }
    })?;
    let state = serde_json::from_slice(&text)
        .map_err(|error| TrainError::Usage(format!("{} is damaged ({error}); start the run anew", path.display())))?;
    set_weights(variables, &folder.join("weights.safetensors"))?;
    Ok(state)
}

/// The optimiser's moments after `steps` steps.
pub(crate) fn load_moments(run: &Path, optimizer: &mut AdamW, steps: usize) -> Result<(), TrainError> {
    Ok(optimizer.restore(steps, read_tensors(&folder(run).join("moments.safetensors"))?)?)
}

/// Copies of the variables as they are now.
pub(crate) fn tensors(variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>, TrainError> {
    variables
        .iter()
        .map(|(name, variable)| Ok((name.clone(), variable.as_tensor().to_device(&Device::Cpu)?.copy()?)))
        .collect()
}

/// Sets the variables to the mean of the weights at the ends of the last `epochs` epochs; `trained` are those of epoch `epoch`,
/// counted from 0. Those of earlier epochs lie in the run's folder, so that a resumed run averages the same (Izmailov et al. 2018,
/// <https://arxiv.org/abs/1803.05407>).
pub(crate) fn average(
    run: &Path,
    variables: &BTreeMap<String, Var>,
    trained: &BTreeMap<String, Tensor>,
    epoch: usize,
    epochs: usize,
) -> Result<(), TrainError> {
    let folder = run.join("epochs");
    std::fs::create_dir_all(&folder).map_err(TrainError::io("make", &folder))?;
    let path = |epoch: usize| folder.join(format!("{epoch}.safetensors"));
    write_tensors(&path(epoch), trained)?;
    let first = (epoch + 1).saturating_sub(epochs);
    let mut sum = trained.clone();
    for earlier in first..epoch {
        for (name, tensor) in read_tensors(&path(earlier))? {
            let sum = sum.get_mut(&name).ok_or_else(|| {
                TrainError::Usage(format!("{} is not of this run; start the run anew", path(earlier).display()))
            })?;
            *sum = (&*sum + tensor)?;
        }
    }
    for (name, variable) in variables {
        variable.set(&(&sum[name] / (epoch + 1 - first) as f64)?.to_device(variable.device())?)?;
    }
    match first.checked_sub(1).map(|old| std::fs::remove_file(path(old))) {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::io("remove", &folder)(error))
        }
        _ => Ok(()),
    }
}

/// Sets every variable from a file that [`write_tensors`] wrote.
pub(crate) fn set_weights(variables: &BTreeMap<String, Var>, path: &Path) -> Result<(), TrainError> {
    let mut saved = read_tensors(path)?;
    for (name, variable) in variables {
        let tensor = saved.remove(name).filter(|tensor| tensor.shape() == variable.shape()).ok_or_else(|| {
            TrainError::Usage(format!(
                "{} does not belong to this run: {name} is missing or has another shape; start the run anew",
                path.display()
            ))
        })?;
        variable.set(&tensor.to_device(variable.device())?)?;
    }
    Ok(())
}

pub(crate) fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), yingda_models::ModelError> {
    let error = |error: safetensors::SafeTensorError| yingda_models::ModelError::Io {
        doing: "write",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    };
    safetensors::serialize_to_file(tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())), None, path)
        .map_err(error)
}

fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, TrainError> {
    let bytes = std::fs::read(path).map_err(TrainError::io("read", path))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|error| {
        TrainError::Usage(format!("{} is cut short or damaged ({error}); start the run anew", path.display()))
    })?;
    Ok(tensors.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_averaged_over_the_last_epochs_and_older_ones_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let variables = BTreeMap::from([("w".to_owned(), Var::new(&[0f32], &Device::Cpu).expect("a variable"))]);
        let mut means = Vec::new();
        // The third epoch is done twice, as after a stop.
        for epoch in [0, 1, 2, 2, 3] {
            let trained = Tensor::new(&[10f32.powi(epoch as i32)], &Device::Cpu).expect("a tensor");
            let trained = BTreeMap::from([("w".to_owned(), trained)]);
            average(folder.path(), &variables, &trained, epoch, 3).expect("an average");
            means.push(variables["w"].to_vec1::<f32>().expect("numbers")[0]);
        }
        assert_eq!(means, [1.0, 5.5, 37.0, 37.0, 370.0]);
        let kept = std::fs::read_dir(folder.path().join("epochs")).expect("a folder").count();
        assert_eq!(kept, 3);
    }
}
