//! Many runs of `fit` in one folder, of which any may have been stopped.

use std::{path::Path, sync::atomic::AtomicBool};

use crate::{
    TrainError,
    fit::{FitConfig, FitSummary, fit},
    state,
};

/// Runs `fit` in the folder `run` to its end: from the start, or from where it was stopped.
///
/// # Errors
/// Those of [`fit`]; also when the folder holds a run with other settings.
pub(crate) fn fit_to_the_end(config: &FitConfig, run: &Path, stop: &AtomicBool) -> Result<FitSummary, TrainError> {
    let begun = same_settings(config, run)?;
    let resume = begun && state::folder(run).join("state.json").exists();
    if !resume && run.exists() {
        // Cut off before its first checkpoint: there is nothing to go on from.
        std::fs::remove_dir_all(run).map_err(TrainError::io("remove", run))?;
    }
    fit(config, run, resume, stop).map_err(|error| match error {
        TrainError::Interrupted { epoch, step, run } => TrainError::Stopped { epoch, step, run },
        other => other,
    })
}

/// Whether `run` is a run that was begun, with these settings.
///
/// # Errors
/// When it was begun with others.
pub(crate) fn same_settings(config: &FitConfig, run: &Path) -> Result<bool, TrainError> {
    let path = run.join("config.json");
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        text => text.map_err(TrainError::io("read", &path))?,
    };
    let old: FitConfig = serde_json::from_slice(&text).map_err(|error| {
        TrainError::Usage(format!("{} is damaged ({error}); remove its folder to run it anew", path.display()))
    })?;
    if old == *config {
        return Ok(true);
    }
    Err(TrainError::Usage(format!(
        "{} is a run with other settings; give the settings of the first time, or name a new --out",
        run.display()
    )))
}

/// Removes the checkpoint of a run that is done: it is several times the size of the model.
pub(crate) fn remove_checkpoint(run: &Path) -> Result<(), TrainError> {
    let folder = state::folder(run);
    match std::fs::remove_dir_all(&folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(TrainError::Io { doing: "remove", path: folder, source })
        }
        _ => Ok(()),
    }
}

/// Makes `out`, or accepts it when it is empty or holds `marker`, which shows that it is of the same command.
pub(crate) fn claim(out: &Path, marker: &str, command: &str) -> Result<(), TrainError> {
    std::fs::create_dir_all(out).map_err(TrainError::io("make", out))?;
    let mut entries = std::fs::read_dir(out).map_err(TrainError::io("read", out))?;
    if entries.next().is_some() && !out.join(marker).exists() {
        return Err(TrainError::Usage(format!(
            "--out {} is not empty and holds no {marker} of `{command}`; name a new folder",
            out.display()
        )));
    }
    Ok(())
}
