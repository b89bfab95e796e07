//! The store's folder: its files, locks and disk.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use qdrant_edge::JsonPath;

use super::super::{Contents, StoredReply};
use crate::{EngineError, KnowledgeEntry};

/// What so many more wordings take, together with `bytes` of long answers: vectors and payloads are written about twice, in the log
/// and in segments.
pub(super) fn space_for(contents: &Contents, wordings: usize, bytes: usize) -> u64 {
    2 * (wordings * (4 * contents.dimension + 8192) + bytes) as u64
}

/// Bytes of the texts of wordings: each is kept with its whole entry.
pub(super) fn bytes_of(replies: &[StoredReply]) -> usize {
    let variants = |entry: &KnowledgeEntry| entry.variants.iter().map(|variant| variant.answer.len()).sum::<usize>();
    let similar = |entry: &KnowledgeEntry| entry.similar_questions.iter().map(String::len).sum::<usize>();
    replies.iter().map(|StoredReply { entry, .. }| entry.answer.len() + variants(entry) + similar(entry)).sum()
}

/// What a shard takes on disk before it holds anything: its log and its first pages, with room to spare.
pub(super) const FIXED_BYTES: u64 = 160 << 20;

/// What opening a shard may take: one more piece of its log.
pub(super) const OPEN_BYTES: u64 = 40 << 20;

/// The store maps its files into memory, and a mapped page that the disk has no room for ends the process: so there must be
/// room before anything is mapped.
#[cfg(unix)]
pub(super) fn enough_space(root: &Path, needed: u64) -> Result<(), EngineError> {
    let disk = rustix::fs::statvfs(root).map_err(|error| failed(root, format!("its disk cannot be asked: {error}")))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= needed {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(failed(
        root,
        format!(
            "its disk has {} MiB free and {} MiB are needed; free some space, nothing was changed",
            mebibytes(free),
            mebibytes(needed)
        ),
    ))
}

#[cfg(not(unix))]
pub(super) fn enough_space(_: &Path, _: u64) -> Result<(), EngineError> {
    Ok(())
}

pub(super) fn json_path(field: &str) -> JsonPath {
    field.parse().expect("our field names are plain words")
}

pub(super) fn failed(root: &Path, message: String) -> EngineError {
    EngineError::Store { store: format!("in {}", root.display()), message }
}

pub(super) fn damaged(root: &Path, what: String) -> EngineError {
    failed(root, format!("{what}. Fill it again with `yingda index FILE`, which replaces what is there"))
}

pub(super) fn read_contents(folder: &Path, root: &Path) -> Result<Contents, EngineError> {
    let path = folder.join("contents.json");
    let contents =
        std::fs::read(&path).map_err(|error| damaged(root, format!("{} cannot be read: {error}", path.display())))?;
    serde_json::from_slice(&contents).map_err(|error| damaged(root, format!("{} is damaged: {error}", path.display())))
}

pub(super) fn as_json(contents: &Contents) -> Vec<u8> {
    serde_json::to_vec_pretty(contents).expect("plain data is always JSON")
}

/// Runs a blocking call off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(call).await.map_err(|error| EngineError::Store {
        store: "on disk".into(),
        message: format!("a call did not finish ({error}); look at the disk's free space and the log"),
    })?
}

pub(super) fn lock(path: &Path, root: &Path) -> Result<File, EngineError> {
    let file =
        File::create(path).map_err(|error| failed(root, format!("{} cannot be made: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EngineError::StoreInUse { path: root.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(root, format!("{} cannot be locked: {error}", path.display()))),
    }
}

/// The lock of whoever writes. Others hold it for moments, while they tidy up; so it is waited for.
pub(super) fn lock_to_write(root: &Path) -> Result<File, EngineError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match try_lock_to_write(root) {
            Err(EngineError::StoreInUse { .. }) if Instant::now() < until => std::thread::sleep(PAUSE),
            locked => return locked,
        }
    }
}

/// As [`lock_to_write`], without waiting.
pub(super) fn try_lock_to_write(root: &Path) -> Result<File, EngineError> {
    lock(&root.join(WRITING), root)
}

/// File that is locked by whoever writes.
const WRITING: &str = "writing.lock";
/// How long the lock is waited for, and how long until it is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn current_name(root: &Path) -> Result<Option<String>, EngineError> {
    match std::fs::read_to_string(root.join("current")) {
        Ok(name) => Ok(Some(name.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(root, format!("the file `current` cannot be read: {error}"))),
    }
}

pub(super) fn write_synced(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes a rename in a folder last: what is done after it must not be on the disk before it.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Removes generations that are neither current nor open anywhere. What cannot be removed now is removed next time.
pub(super) fn remove_old(root: &Path) {
    // Nobody makes another generation current meanwhile.
    let Ok(_writing) = try_lock_to_write(root) else { return };
    let (Ok(current), Ok(entries)) = (current_name(root), std::fs::read_dir(root)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("gen-")
            && Some(name) != current
            && let Ok(_in_use) = lock(&entry.path().join("in-use.lock"), root)
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the pieces of a shard's log that are full, but for the last: opening reads and checks them all, and nothing is ever
/// read back from them, as a shard flushes what counts before it counts. The last one tells how far the log has come.
pub(super) fn shorten_log(log: &Path) -> Result<(), String> {
    let entries = std::fs::read_dir(log).map_err(|error| format!("{} cannot be read: {error}", log.display()))?;
    let mut full: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let first = entry.file_name().to_str()?.strip_prefix("closed-")?.parse().ok()?;
            Some((first, entry.path()))
        })
        .collect();
    full.sort();
    full.pop();
    // From the oldest on, so that what is left is always one piece.
    full.iter().try_for_each(|(_, path)| {
        std::fs::remove_file(path).map_err(|error| format!("{} cannot be removed: {error}", path.display()))
    })
}
