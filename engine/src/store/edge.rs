//! Replies in Qdrant Edge: in this process, on disk.
//!
//! ```text
//! STORE/current          name of the generation that is searched, replaced by one rename
//! STORE/writing.lock     held by whoever writes the next generation
//! STORE/gen-.../         one generation: contents.json, in-use.lock, shard/
//! ```
//!
//! A generation is written once and then only read, so `yingda index` can write the next one while a service reads the last.
//! Only one process may open a generation; it holds `in-use.lock`.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use qdrant_edge::{
    Condition, CreateIndex, DEFAULT_VECTOR_NAME, Distance, EdgeConfigBuilder, EdgeShard, EdgeVectorParams,
    FieldCondition, FieldIndexOperations, Filter, JsonPath, NamedQuery, PayloadFieldSchema, PayloadSchemaType, PointId,
    PointInsertOperations, PointOperations, PointStruct, QueryEnum, Range, SearchRequest, UpdateOperation,
    WithPayloadInterface, external::ordered_float::OrderedFloat,
};

use super::{
    CHUNK, Contents, INTEGER_FIELDS, KEYWORD_FIELDS, POINTS_PER_HIT, Payload, ReplyStore, StoredReply, check_model,
    group, point_id,
};
use crate::{EngineError, Hit};

/// Replies in a folder of this machine.
pub struct EdgeStore {
    root: PathBuf,
    current: RwLock<Option<Arc<Generation>>>,
}

/// An open generation. Its lock lasts as long as it.
struct Generation {
    name: String,
    contents: Contents,
    shard: EdgeShard,
    _in_use: File,
}

impl EdgeStore {
    /// Opens the store in `root`, making the folder when it is absent.
    ///
    /// # Errors
    /// When the folder cannot be used or another process has its content open.
    pub async fn open(root: &Path) -> Result<Self, EngineError> {
        let root = root.to_owned();
        blocking(move || {
            std::fs::create_dir_all(&root)
                .map_err(|error| failed(&root, format!("cannot make the folder: {error}")))?;
            let current = Generation::open_current(&root)?.map(Arc::new);
            remove_old(&root);
            Ok(Self { root, current: RwLock::new(current) })
        })
        .await
    }

    /// As [`EdgeStore::open`], without opening what is there: for writing beside a process that uses it.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn open_to_write(root: &Path) -> Result<Self, EngineError> {
        let root = root.to_owned();
        blocking(move || {
            std::fs::create_dir_all(&root)
                .map_err(|error| failed(&root, format!("cannot make the folder: {error}")))?;
            Ok(Self { root, current: RwLock::new(None) })
        })
        .await
    }

    async fn remove_old(&self) -> Result<(), EngineError> {
        let root = self.root.clone();
        blocking(move || {
            remove_old(&root);
            Ok(())
        })
        .await
    }

    fn current(&self) -> Option<Arc<Generation>> {
        self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl ReplyStore for EdgeStore {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    async fn contents(&self) -> Result<Option<Contents>, EngineError> {
        Ok(self.current().map(|generation| generation.contents.clone()))
    }

    async fn replace(&self, contents: Contents, replies: Vec<StoredReply>) -> Result<(), EngineError> {
        let root = self.root.clone();
        let generation = blocking(move || Generation::write(&root, contents, &replies)).await?;
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(generation));
        self.remove_old().await
    }

    async fn search(
        &self,
        model_id: &str,
        embedding: Vec<f32>,
        limit: usize,
        day: i64,
    ) -> Result<Vec<Hit>, EngineError> {
        let Some(generation) = self.current() else { return Ok(Vec::new()) };
        check_model(self, Some(&generation.contents), model_id)?;
        let root = self.root.clone();
        blocking(move || generation.search(embedding, limit, day).map_err(|message| failed(&root, message))).await
    }

    async fn refresh(&self, model_id: &str) -> Result<(), EngineError> {
        let known = self.current();
        let name = known.as_ref().map(|generation| generation.name.clone());
        let root = self.root.clone();
        let fresh =
            blocking(move || if current_name(&root)? == name { Ok(None) } else { Generation::open_current(&root) })
                .await?;
        let Some(fresh) = fresh else {
            return check_model(self, known.as_ref().map(|generation| &generation.contents), model_id);
        };
        check_model(self, Some(&fresh.contents), model_id)?;
        // The old generation is locked for as long as anybody holds it.
        drop(known);
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(fresh));
        self.remove_old().await
    }
}

impl Generation {
    fn open_current(root: &Path) -> Result<Option<Self>, EngineError> {
        let Some(name) = current_name(root)? else { return Ok(None) };
        let folder = root.join(&name);
        let damaged = |what: String| {
            failed(root, format!("{what}. Fill it again with `yingda index FILE`, which replaces what is there"))
        };
        let contents_path = folder.join("contents.json");
        let contents = std::fs::read(&contents_path)
            .map_err(|error| damaged(format!("{} cannot be read: {error}", contents_path.display())))?;
        let contents: Contents = serde_json::from_slice(&contents)
            .map_err(|error| damaged(format!("{} is damaged: {error}", contents_path.display())))?;
        let in_use = lock(&folder.join("in-use.lock"), root)?;
        enough_space(root, OPEN_BYTES)?;
        let shard = EdgeShard::load(&folder.join("shard"), None)
            .map_err(|error| damaged(format!("{} cannot be opened: {error}", folder.display())))?;
        Ok(Some(Self { name, contents, shard, _in_use: in_use }))
    }

    fn write(root: &Path, contents: Contents, replies: &[StoredReply]) -> Result<Self, EngineError> {
        let _writing = lock(&root.join("writing.lock"), root)?;
        // Vectors and payloads are written about twice, while segments are put together.
        let per_reply = 4 * contents.dimension + 8192;
        enough_space(root, FIXED_BYTES + 2 * (replies.len() * per_reply) as u64)?;
        let io = |error: std::io::Error| failed(root, format!("cannot be written: {error}"));
        let folder = tempfile::Builder::new().prefix("gen-").rand_bytes(12).tempdir_in(root).map_err(io)?;
        let in_use = lock(&folder.path().join("in-use.lock"), root)?;
        let shard_path = folder.path().join("shard");
        std::fs::create_dir(&shard_path).map_err(io)?;
        let shard = Self::fill(root, &shard_path, &contents, replies)?;
        let text = serde_json::to_vec_pretty(&contents).expect("plain data is always JSON");
        write_synced(&folder.path().join("contents.json"), &text).map_err(io)?;
        let name = folder.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let pointer = root.join(".current");
        write_synced(&pointer, name.as_bytes()).map_err(io)?;
        let _ = folder.keep();
        std::fs::rename(&pointer, root.join("current")).map_err(io)?;
        Ok(Self { name, contents, shard, _in_use: in_use })
    }

    fn fill(root: &Path, path: &Path, contents: &Contents, replies: &[StoredReply]) -> Result<EdgeShard, EngineError> {
        let text = |error: qdrant_edge::OperationError| failed(root, format!("cannot be written: {error}"));
        let vectors = EdgeVectorParams::builder(contents.dimension, Distance::Cosine).build();
        let config = EdgeConfigBuilder::new().vector(DEFAULT_VECTOR_NAME, vectors).build();
        let shard = EdgeShard::new(path, config).map_err(text)?;
        let fields = INTEGER_FIELDS
            .map(|field| (field, PayloadSchemaType::Integer))
            .into_iter()
            .chain(KEYWORD_FIELDS.map(|field| (field, PayloadSchemaType::Keyword)));
        for (field, kind) in fields {
            shard
                .update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(CreateIndex {
                    field_name: json_path(field),
                    field_schema: Some(PayloadFieldSchema::FieldType(kind)),
                })))
                .map_err(text)?;
        }
        for chunk in replies.chunks(CHUNK) {
            let points = chunk
                .iter()
                .map(|reply| {
                    let payload = Payload::new(reply, &contents.model_id)?;
                    let payload = serde_json::to_value(payload).expect("plain data is always JSON");
                    Ok(PointStruct::new(PointId::Uuid(point_id(reply)), reply.embedding.clone(), payload).into())
                })
                .collect::<Result<Vec<_>, EngineError>>()?;
            let insert = PointInsertOperations::PointsList(points);
            shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(insert))).map_err(text)?;
        }
        // Builds the search graph where there is enough to search; a small store is scanned exactly.
        shard.optimize().map_err(text)?;
        shard.flush();
        Ok(shard)
    }

    fn search(&self, embedding: Vec<f32>, limit: usize, day: i64) -> Result<Vec<Hit>, String> {
        let day = Some(OrderedFloat(day as f64));
        let range = |field: &str, range| Condition::Field(FieldCondition::new_range(json_path(field), range));
        let filter = Filter {
            should: None,
            min_should: None,
            must: Some(vec![
                range("valid_from", Range { lte: day, ..Range::default() }),
                range("valid_to", Range { gte: day, ..Range::default() }),
            ]),
            must_not: None,
        };
        let mut points = limit * POINTS_PER_HIT;
        loop {
            let request = SearchRequest {
                query: QueryEnum::Nearest(NamedQuery::default_dense(embedding.clone())),
                filter: Some(filter.clone()),
                params: None,
                limit: points,
                offset: 0,
                with_payload: Some(WithPayloadInterface::Bool(true)),
                with_vector: None,
                score_threshold: None,
            };
            let found = self.shard.search(request).map_err(|error| format!("the search failed: {error}"))?;
            let all = found.len() < points;
            let hits = found
                .into_iter()
                .map(|point| {
                    let payload = serde_json::to_value(point.payload).and_then(serde_json::from_value::<Payload>);
                    let payload = payload.map_err(|error| format!("a payload is damaged: {error}"))?;
                    Ok(payload.into_hit(point.score))
                })
                .collect::<Result<_, String>>()?;
            let hits = group(hits, limit);
            if all || hits.len() == limit {
                return Ok(hits);
            }
            points *= 4;
        }
    }
}

/// What a shard takes on disk before it holds anything: its log and its first pages, with room to spare.
const FIXED_BYTES: u64 = 160 << 20;

/// What opening a shard may take: one more piece of its log.
const OPEN_BYTES: u64 = 40 << 20;

/// The store maps its files into memory, and a mapped page that the disk has no room for ends the process: so there must be
/// room before anything is mapped.
#[cfg(unix)]
fn enough_space(root: &Path, needed: u64) -> Result<(), EngineError> {
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
fn enough_space(_: &Path, _: u64) -> Result<(), EngineError> {
    Ok(())
}

fn json_path(field: &str) -> JsonPath {
    field.parse().expect("our field names are plain words")
}

fn failed(root: &Path, message: String) -> EngineError {
    EngineError::Store { store: format!("in {}", root.display()), message }
}

/// Runs a blocking call off the async threads.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(call).await.map_err(|error| EngineError::Store {
        store: "on disk".into(),
        message: format!("a call did not finish ({error}); look at the disk's free space and the log"),
    })?
}

fn lock(path: &Path, root: &Path) -> Result<File, EngineError> {
    let file =
        File::create(path).map_err(|error| failed(root, format!("{} cannot be made: {error}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EngineError::StoreInUse { path: root.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(root, format!("{} cannot be locked: {error}", path.display()))),
    }
}

fn current_name(root: &Path) -> Result<Option<String>, EngineError> {
    match std::fs::read_to_string(root.join("current")) {
        Ok(name) => Ok(Some(name.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(root, format!("the file `current` cannot be read: {error}"))),
    }
}

fn write_synced(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Removes generations that are neither current nor open anywhere. What cannot be removed now is removed next time.
fn remove_old(root: &Path) {
    // Nobody makes another generation current meanwhile.
    let Ok(_writing) = lock(&root.join("writing.lock"), root) else { return };
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
