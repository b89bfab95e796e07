//! The data folder: made when missing, and used by one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The folder is ours while this lives.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another process uses it.
    #[error(
        "the data folder {path} is in use by another yingda process{holder}; stop that one or choose another folder with --data"
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// ` (process 123)` when it is known.
        holder: String,
    },
    /// It cannot be made or written.
    #[error(
        "the data folder {path} cannot be used: {source}. Choose a writable folder with --data, or free some space"
    )]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl DataLock {
    /// Makes the folder when it is missing and takes it.
    ///
    /// # Errors
    ///
    /// When another process has it or it cannot be written.
    pub fn take(folder: &Path) -> Result<Self, DataError> {
        let unusable = |source| DataError::Unusable { path: folder.to_owned(), source };
        make_folder(folder).map_err(unusable)?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(folder.join("lock"))
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Where a locked file cannot be read either, the sentence goes without the number.
                let holder = match file.read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => format!(" (process {})", holder.trim()),
                    _ => String::new(),
                };
                return Err(DataError::InUse { path: folder.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .and_then(|()| file.sync_all())
            .map_err(unusable)?;
        Ok(Self { _file: file })
    }
}

/// Makes the folder when it is missing, readable for its owner only: it will hold what customers wrote.
///
/// # Errors
///
/// When it cannot be made.
pub fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
