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
    sync::{Arc, PoisonError, RwLock},
};

use qdrant_edge::{
    Condition, CreateIndex, Distance, EdgeConfigBuilder, EdgeOptimizersConfig, EdgeShard, EdgeSparseVectorParams,
    EdgeVectorParams, FieldCondition, FieldIndexOperations, Filter, Fusion, JsonPath, Modifier, NamedQuery,
    PayloadFieldSchema, PayloadSchemaType, PointId, PointInsertOperations, PointOperations, PointStruct, Prefetch,
    QuantizationConfig, QuantizationSearchParams, QueryEnum, QueryRequest, Range, ScalarQuantizationConfig, ScalarType,
    ScoredPoint, ScoringQuery, SearchParams, SparseVector, UpdateOperation, Vector, VectorInternal,
    VectorStructInternal, Vectors, WithPayloadInterface, WithVector, external::ordered_float::OrderedFloat,
};

use super::{
    BEAM, CHUNK, Candidate, Contents, DENSE, FUSION, Found, INTEGER_FIELDS, KEYWORD_FIELDS, Method, OVERSAMPLING,
    POINTS, Payload, QUANTIZED_FROM, ReplyStore, SPARSE, SearchQuery, StoredReply, check_model, cosine, group,
    point_id,
};
use crate::{EngineError, ranking::Tuning, terms::Terms};

/// Replies in a folder of this machine.
pub struct EdgeStore {
    root: PathBuf,
    current: RwLock<Option<Arc<Generation>>>,
}

/// An open generation. Its lock lasts as long as it.
struct Generation {
    name: String,
    contents: RwLock<Contents>,
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
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ReplyStore for EdgeStore {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    async fn contents(&self) -> Result<Option<Contents>, EngineError> {
        if let Some(generation) = self.current() {
            return Ok(Some(generation.contents()));
        }
        // Opened for writing only: what cannot be read is about to be replaced.
        let root = self.root.clone();
        blocking(move || {
            let Ok(Some(name)) = current_name(&root) else { return Ok(None) };
            Ok(read_contents(&root.join(name), &root).ok())
        })
        .await
    }

    async fn replace(&self, contents: Contents, replies: Vec<StoredReply>) -> Result<(), EngineError> {
        let root = self.root.clone();
        let generation = blocking(move || Generation::write(&root, contents, &replies)).await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(generation));
        self.remove_old().await
    }

    async fn search(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        day: i64,
    ) -> Result<Vec<Candidate>, EngineError> {
        let Some(generation) = self.current() else { return Ok(Vec::new()) };
        check_model(self, Some(&generation.contents()), model_id)?;
        let (root, query) = (self.root.clone(), query.clone());
        blocking(move || generation.search(&query, entries, day).map_err(|message| failed(&root, message))).await
    }

    async fn keep_tuning(&self, tuning: Tuning) -> Result<(), EngineError> {
        let root = self.root.clone();
        let Some(generation) = self.current() else {
            return Err(failed(&root, "it is empty; fill it first with `yingda index FILE`".into()));
        };
        blocking(move || {
            let _writing = lock(&root.join("writing.lock"), &root)?;
            generation.keep_tuning(&root, tuning)
        })
        .await
    }

    async fn refresh(&self, model_id: &str) -> Result<(), EngineError> {
        let known = self.current();
        let root = self.root.clone();
        let open = known.clone();
        let fresh = blocking(move || match open {
            // Another process may have tuned what is open here.
            Some(open) if current_name(&root)?.as_ref() == Some(&open.name) => {
                open.set_contents(read_contents(&root.join(&open.name), &root)?);
                Ok(None)
            }
            _ => Generation::open_current(&root),
        })
        .await?;
        let Some(fresh) = fresh else {
            let contents = known.as_ref().map(|generation| generation.contents());
            return check_model(self, contents.as_ref(), model_id);
        };
        check_model(self, Some(&fresh.contents()), model_id)?;
        // The old generation is locked for as long as anybody holds it.
        drop(known);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(fresh));
        self.remove_old().await
    }
}

impl Generation {
    fn open_current(root: &Path) -> Result<Option<Self>, EngineError> {
        let Some(name) = current_name(root)? else { return Ok(None) };
        let folder = root.join(&name);
        let contents = RwLock::new(read_contents(&folder, root)?);
        let in_use = lock(&folder.join("in-use.lock"), root)?;
        enough_space(root, OPEN_BYTES)?;
        let shard = EdgeShard::load(&folder.join("shard"), None)
            .map_err(|error| damaged(root, format!("{} cannot be opened: {error}", folder.display())))?;
        Ok(Some(Self { name, contents, shard, _in_use: in_use }))
    }

    fn contents(&self) -> Contents {
        self.contents.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_contents(&self, contents: Contents) {
        *self.contents.write().unwrap_or_else(PoisonError::into_inner) = contents;
    }

    fn keep_tuning(&self, root: &Path, tuning: Tuning) -> Result<(), EngineError> {
        let io = |error: std::io::Error| failed(root, format!("cannot be written: {error}"));
        let contents = Contents { tuning: Some(tuning), ..self.contents() };
        let folder = root.join(&self.name);
        let beside = folder.join(".contents.json");
        write_synced(&beside, &as_json(&contents)).map_err(io)?;
        std::fs::rename(&beside, folder.join("contents.json")).map_err(io)?;
        self.set_contents(contents);
        Ok(())
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
        write_synced(&folder.path().join("contents.json"), &as_json(&contents)).map_err(io)?;
        let name = folder.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let pointer = root.join(".current");
        write_synced(&pointer, name.as_bytes()).map_err(io)?;
        let _ = folder.keep();
        std::fs::rename(&pointer, root.join("current")).map_err(io)?;
        Ok(Self { name, contents: RwLock::new(contents), shard, _in_use: in_use })
    }

    fn fill(root: &Path, path: &Path, contents: &Contents, replies: &[StoredReply]) -> Result<EdgeShard, EngineError> {
        let text = |error: qdrant_edge::OperationError| failed(root, format!("cannot be written: {error}"));
        let mut vectors = EdgeVectorParams::builder(contents.dimension, Distance::Cosine);
        if replies.len() >= QUANTIZED_FROM {
            // Eight bits of every number in memory; the whole vectors stay in files, for rescoring.
            let scalar = ScalarQuantizationConfig { r#type: ScalarType::Int8, quantile: None, always_ram: Some(true) };
            vectors = vectors.quantization_config(QuantizationConfig::from(scalar)).on_disk(true);
        }
        let words = EdgeSparseVectorParams::builder().modifier(Modifier::Idf).build();
        let config = EdgeConfigBuilder::new()
            .vector(DENSE, vectors.build())
            .sparse_vector(SPARSE, words)
            .on_disk_payload(true)
            .optimizers(EdgeOptimizersConfig {
                // One segment, however large, is searched in one walk.
                default_segment_number: Some(1),
                max_segment_size: Some(SEGMENT_KIBIBYTES),
                ..EdgeOptimizersConfig::default()
            })
            .build();
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
                    let mut vectors = vec![(DENSE, Vector::new_dense(reply.embedding.clone()))];
                    // A wording of signs alone has no terms.
                    if !reply.terms.indices.is_empty() {
                        let Terms { indices, values } = reply.terms.clone();
                        vectors.push((SPARSE, Vector::new_sparse(indices, values).map_err(text)?));
                    }
                    let vectors = Vectors::new_named(vectors);
                    Ok(PointStruct::new(PointId::Uuid(point_id(reply)), vectors, payload).into())
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

    fn search(&self, query: &SearchQuery, entries: usize, day: i64) -> Result<Vec<Candidate>, String> {
        let mut points = POINTS.max(entries);
        loop {
            let request =
                request(query, points, day).map_err(|error| format!("the question cannot be asked: {error}"))?;
            let Some(request) = request else { return Ok(Vec::new()) };
            let points_found = self.shard.query(request).map_err(|error| format!("the search failed: {error}"))?;
            let all = points_found.len() < points;
            let found = points_found.into_iter().map(|point| found(point, query)).collect::<Result<_, String>>()?;
            let candidates = group(found);
            if all || candidates.len() >= entries {
                return Ok(candidates);
            }
            points *= 4;
        }
    }
}

/// What a store is asked; `None` when there is nothing to ask by.
fn request(query: &SearchQuery, points: usize, day: i64) -> Result<Option<QueryRequest>, qdrant_edge::OperationError> {
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
    let quantization =
        QuantizationSearchParams { ignore: false, rescore: Some(true), oversampling: Some(OVERSAMPLING) };
    let params = SearchParams {
        hnsw_ef: Some(BEAM.max(points)),
        exact: query.exact,
        quantization: Some(quantization),
        ..SearchParams::default()
    };
    let nearest = |vector: VectorInternal, name: &str| Prefetch {
        prefetches: Vec::new(),
        query: Some(ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery::new(vector, name)))),
        limit: points,
        params: Some(params),
        filter: Some(filter.clone()),
        score_threshold: None,
    };
    let mut searches = Vec::new();
    if query.method != Method::Sparse {
        searches.push(nearest(VectorInternal::Dense(query.embedding.clone()), DENSE));
    }
    if query.method != Method::Dense && !query.terms.indices.is_empty() {
        let Terms { indices, values } = query.terms.clone();
        let terms = SparseVector::new(indices, values)
            .map_err(|error| qdrant_edge::OperationError::validation_error(error.to_string()))?;
        searches.push(nearest(VectorInternal::Sparse(terms), SPARSE));
    }
    let mut request = QueryRequest {
        prefetches: Vec::new(),
        query: None,
        filter: Some(filter),
        score_threshold: None,
        limit: points * searches.len(),
        offset: 0,
        params: Some(params),
        with_vector: WithVector::Bool(true),
        with_payload: WithPayloadInterface::Bool(true),
    };
    match searches.len() {
        0 => return Ok(None),
        1 => request.query = searches.pop().and_then(|search| search.query),
        _ => {
            request.query = Some(ScoringQuery::Fusion(Fusion::Rrf { k: FUSION, weights: None }));
            (request.prefetches, request.filter, request.params) = (searches, None, None);
        }
    }
    Ok(Some(request))
}

fn found(point: ScoredPoint, query: &SearchQuery) -> Result<(Payload, Found), String> {
    let payload = serde_json::to_value(point.payload).and_then(serde_json::from_value::<Payload>);
    let payload = payload.map_err(|error| format!("a payload is damaged: {error}"))?;
    let Some(VectorStructInternal::Named(mut vectors)) = point.vector else {
        return Err("a point came without its vectors".into());
    };
    let Some(VectorInternal::Dense(embedding)) = vectors.remove(DENSE) else {
        return Err(format!("a point came without its vector `{DENSE}`"));
    };
    let terms = match vectors.remove(SPARSE) {
        Some(VectorInternal::Sparse(terms)) => terms.indices,
        _ => Vec::new(),
    };
    let text = payload.wording.clone();
    Ok((payload, Found { text, cosine: cosine(&embedding, &query.embedding), score: point.score, terms }))
}

/// More than any shard on one machine holds.
const SEGMENT_KIBIBYTES: usize = 1 << 30;

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

fn damaged(root: &Path, what: String) -> EngineError {
    failed(root, format!("{what}. Fill it again with `yingda index FILE`, which replaces what is there"))
}

fn read_contents(folder: &Path, root: &Path) -> Result<Contents, EngineError> {
    let path = folder.join("contents.json");
    let contents =
        std::fs::read(&path).map_err(|error| damaged(root, format!("{} cannot be read: {error}", path.display())))?;
    serde_json::from_slice(&contents).map_err(|error| damaged(root, format!("{} is damaged: {error}", path.display())))
}

fn as_json(contents: &Contents) -> Vec<u8> {
    serde_json::to_vec_pretty(contents).expect("plain data is always JSON")
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
