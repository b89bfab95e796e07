//! Replies in Qdrant Edge: in this process, on disk.
//!
//! ```text
//! STORE/current          name of the generation that is searched, replaced by one rename
//! STORE/writing.lock     held by whoever writes the next generation
//! STORE/gen-.../         one generation: contents.json, in-use.lock, shard/
//! ```
//!
//! `yingda index` writes the next generation while a service reads the last. Only one process may open a generation; it holds
//! `in-use.lock`. It alone adds to the generation what later releases change: new points are written and flushed, and
//! `contents.json`, replaced by one rename, makes them count. The shard does not read its log again when it is opened, so what
//! was not flushed may be lost; points that count are never changed, and nothing of theirs can be.

mod folder;
mod search;

use std::{
    fs::File,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use folder::{
    FIXED_BYTES, OPEN_BYTES, as_json, blocking, bytes_of, current_name, damaged, enough_space, failed, json_path, lock,
    lock_to_write, read_contents, remove_old, shorten_log, space_for, sync_folder, try_lock_to_write, write_synced,
};
use qdrant_edge::{
    CountRequest, CreateIndex, Distance, EdgeConfigBuilder, EdgeOptimizersConfig, EdgeShard, EdgeSparseVectorParams,
    EdgeVectorParams, FieldIndexOperations, HnswIndexConfig, IntegerIndexParams, KeywordIndexParams, Modifier,
    PayloadFieldSchema, PayloadSchemaParams, PointId, PointInsertOperations, PointOperations, PointStruct,
    QuantizationConfig, ScalarQuantizationConfig, ScalarType, ScrollRequest, UpdateOperation, Vector, Vectors,
    WithPayloadInterface, WithVector,
};
use search::{filter, found, payload, request, vectors};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    Candidate, Change, Contents, DENSE, POINTS, QUANTIZED_FROM, ReplyStore, SPARSE, Scope, SearchQuery, StoredPoint,
    StoredReply, check_change, check_model,
    copy::Progress,
    group, is_same_model,
    points::{INTEGER_FIELDS, KEYWORD_FIELDS, Must, conditions, current, later, out_of_use, rubbish},
};
use crate::{EngineError, clock::now, ranking::Tuning};

/// Replies in a folder of this machine.
pub struct EdgeStore {
    root: PathBuf,
    current: RwLock<Option<Arc<Generation>>>,
    looking: tokio::sync::Mutex<()>,
    /// One for each search that runs. Many at once take time from each other, and some are very late; two for each core keep it
    /// busy while one hands over to the next.
    turns: Arc<Semaphore>,
}

/// An open generation. Its lock lasts as long as it.
struct Generation {
    name: String,
    /// Held by every search from what it asks to what it finds.
    state: RwLock<State>,
    shard: EdgeShard,
    _in_use: File,
}

struct State {
    contents: Contents,
    /// Whether there is nothing but points that count: none of a release that is still being written, none that is out of use.
    clean: bool,
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
            Ok(Self::new(root, current))
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
            Ok(Self::new(root, None))
        })
        .await
    }

    fn new(root: PathBuf, current: Option<Arc<Generation>>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let (current, turns) = (RwLock::new(current), Arc::new(Semaphore::new(2 * cores)));
        Self { root, current, looking: tokio::sync::Mutex::default(), turns }
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
        let _looking = self.looking.lock().await;
        let generation = blocking(move || Generation::write(&root, contents, &replies)).await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(generation));
        self.remove_old().await
    }

    async fn apply(&self, change: Change) -> Result<(), EngineError> {
        let root = self.root.clone();
        let Some(generation) = self.current() else {
            return Err(failed(&root, "it is empty; fill it first with `yingda index FILE`".into()));
        };
        let name = self.describe();
        blocking(move || {
            let _writing = lock_to_write(&root)?;
            // Now that nobody else writes.
            check_change(name, &generation.contents(), &change)?;
            if current_name(&root)?.as_ref() != Some(&generation.name) {
                return Err(failed(&root, "another process has filled it anew meanwhile; try again".into()));
            }
            generation.apply(&root, &change)
        })
        .await
    }

    async fn search(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        scope: &Scope,
    ) -> Result<Vec<Candidate>, EngineError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let Some(generation) = self.current() else { return Ok(Vec::new()) };
        check_model(self, Some(&generation.contents()), model_id)?;
        let (root, query, scope) = (self.root.clone(), query.clone(), scope.clone());
        blocking(move || {
            // Until the search is over, also where nobody waits for it any more.
            let _turn = turn;
            generation.search(&query, entries, &scope).map_err(|message| failed(&root, message))
        })
        .await
    }

    async fn page(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredPoint>, EngineError> {
        let Some(generation) = self.current() else { return Ok(Vec::new()) };
        let root = self.root.clone();
        blocking(move || generation.page(after, limit).map_err(|message| failed(&root, message))).await
    }

    async fn tidy(&self) -> Result<(), EngineError> {
        let Some(generation) = self.current() else { return Ok(()) };
        if !generation.contents().retired.iter().any(|retired| retired.is_over(now())) {
            return Ok(());
        }
        let root = self.root.clone();
        blocking(move || {
            // Whoever writes may take long; it is tried again.
            let Ok(_writing) = try_lock_to_write(&root) else { return Ok(()) };
            generation.tidy(&root)
        })
        .await
    }

    /// It is removed at once: nobody but this process searches here.
    async fn forget(&self, _kept: Duration) -> Result<(), EngineError> {
        Ok(())
    }

    async fn keep_tuning(&self, tuning: Tuning) -> Result<(), EngineError> {
        let root = self.root.clone();
        let Some(generation) = self.current() else {
            return Err(failed(&root, "it is empty; fill it first with `yingda index FILE`".into()));
        };
        blocking(move || {
            let _writing = lock_to_write(&root)?;
            generation.keep_tuning(&root, tuning)
        })
        .await
    }

    async fn refresh(&self, model_id: &str) -> Result<Option<Contents>, EngineError> {
        // One look at a time: opening takes the generation's lock.
        let _looking = self.looking.lock().await;
        let known = self.current();
        let (root, wanted) = (self.root.clone(), model_id.to_owned());
        let open = known.as_ref().map(|open| open.name.clone());
        let store = self.describe();
        let fresh = blocking(move || match current_name(&root)? {
            // Nobody else changes what is open here.
            name if name == open => Ok(None),
            Some(name) => {
                let found = read_contents(&root.join(&name), &root)?.model_id;
                // Before it is opened: whoever loads that model wants to open it.
                if !is_same_model(&found, &wanted) {
                    return Err(EngineError::StoreOfAnotherModel { store, found, wanted });
                }
                Generation::open_current(&root)
            }
            None => Ok(None),
        })
        .await?;
        let Some(fresh) = fresh else {
            let contents = known.as_ref().map(|generation| generation.contents());
            check_model(self, contents.as_ref(), model_id)?;
            return Ok(contents);
        };
        let contents = fresh.contents();
        check_model(self, Some(&contents), model_id)?;
        // The old generation is locked for as long as anybody holds it.
        drop(known);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(fresh));
        self.remove_old().await?;
        Ok(Some(contents))
    }
}

/// A copy that is arriving, in `STORE/copy-<what it is of>/`.
pub(super) struct EdgeFilling {
    pub(super) progress: Progress,
    folder: PathBuf,
    shard: Arc<EdgeShard>,
    _in_use: File,
}

impl EdgeStore {
    pub(super) async fn begin(&self, contents: &Contents, key: &str) -> Result<EdgeFilling, EngineError> {
        let (root, folder) = (self.root.clone(), self.root.join(format!("copy-{key}")));
        let (dimension, wordings) = (contents.dimension, contents.wordings);
        enough_space(&root, FIXED_BYTES + space_for(contents, wordings, 0))?;
        blocking(move || {
            let io = |error: std::io::Error| failed(&root, format!("cannot be written: {error}"));
            std::fs::create_dir_all(&folder).map_err(io)?;
            let in_use = lock(&folder.join("in-use.lock"), &root)?;
            let noted = std::fs::read(folder.join("copied.json")).ok();
            let noted = noted.and_then(|noted| serde_json::from_slice::<Progress>(&noted).ok());
            let shard = folder.join("shard");
            let resumed = noted.and_then(|progress| Some((progress, EdgeShard::load(&shard, None).ok()?)));
            let (progress, shard) = match resumed {
                Some(resumed) => resumed,
                // Nothing is safe there yet.
                None => {
                    if shard.exists() {
                        std::fs::remove_dir_all(&shard).map_err(io)?;
                    }
                    std::fs::create_dir(&shard).map_err(io)?;
                    (Progress::default(), new_shard(&root, &shard, dimension, wordings)?)
                }
            };
            Ok(EdgeFilling { progress, folder, shard: Arc::new(shard), _in_use: in_use })
        })
        .await
    }

    pub(super) async fn put(&self, filling: &EdgeFilling, points: Vec<StoredPoint>) -> Result<(), EngineError> {
        let (root, shard) = (self.root.clone(), Arc::clone(&filling.shard));
        blocking(move || fill(&root, &shard, points)).await
    }

    pub(super) async fn note(&self, filling: &EdgeFilling, progress: Progress) -> Result<(), EngineError> {
        let (root, shard, file) = (self.root.clone(), Arc::clone(&filling.shard), filling.folder.join("copied.json"));
        blocking(move || {
            shard.flush();
            let noted = serde_json::to_vec(&progress).expect("plain data is always JSON");
            write_synced(&file, &noted).map_err(|error| failed(&root, format!("cannot be written: {error}")))
        })
        .await
    }

    pub(super) async fn finish(&self, filling: EdgeFilling, contents: Contents) -> Result<(), EngineError> {
        let root = self.root.clone();
        let generation = blocking(move || {
            let _writing = lock_to_write(&root)?;
            let io = |error: std::io::Error| failed(&root, format!("cannot be written: {error}"));
            let EdgeFilling { folder, shard, _in_use, .. } = filling;
            finish(&root, &shard)?;
            // Flushes, and lets the files go.
            drop(shard);
            write_synced(&folder.join("contents.json"), &as_json(&contents)).map_err(io)?;
            let name = format!("gen-{}", Uuid::now_v7().simple());
            std::fs::rename(&folder, root.join(&name)).map_err(io)?;
            let pointer = root.join(".current");
            write_synced(&pointer, name.as_bytes()).map_err(io)?;
            std::fs::rename(&pointer, root.join("current")).map_err(io)?;
            drop(_in_use);
            Generation::open_current(&root)
        })
        .await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = generation.map(Arc::new);
        self.remove_old().await
    }
}

impl Generation {
    fn open_current(root: &Path) -> Result<Option<Self>, EngineError> {
        let Some(name) = current_name(root)? else { return Ok(None) };
        let folder = root.join(&name);
        let contents = read_contents(&folder, root)?;
        let in_use = lock(&folder.join("in-use.lock"), root)?;
        enough_space(root, OPEN_BYTES)?;
        let shard = EdgeShard::load(&folder.join("shard"), None)
            .map_err(|error| damaged(root, format!("{} cannot be opened: {error}", folder.display())))?;
        // What an unfinished release left, and what is out of use and may have been removed in vain: nobody searches it here.
        let mut rubbish: Vec<Vec<Must>> = contents.retired.iter().map(out_of_use).collect();
        let unfinished = CountRequest { filter: Some(filter(&[later(&contents)])), exact: true };
        if shard.count(unfinished).map_err(|error| damaged(root, format!("it cannot be read: {error}")))? > 0 {
            rubbish.push(vec![later(&contents)]);
        }
        let generation = Self { name, state: RwLock::new(State { contents, clean: true }), shard, _in_use: in_use };
        generation.remove(root, rubbish)?;
        Ok(Some(generation))
    }

    fn contents(&self) -> Contents {
        self.state.read().unwrap_or_else(PoisonError::into_inner).contents.clone()
    }

    /// Changes what searches go by, when those that run are done.
    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn keep_tuning(&self, root: &Path, tuning: Tuning) -> Result<(), EngineError> {
        self.switch(root, Contents { tuning: Some(tuning), ..self.contents() })
    }

    fn remove(&self, root: &Path, rubbish: Vec<Vec<Must>>) -> Result<(), EngineError> {
        for must in rubbish {
            let delete = PointOperations::DeletePointsByFilter(filter(&must));
            self.shard
                .update(UpdateOperation::PointOperation(delete))
                .map_err(|error| failed(root, format!("cannot be written: {error}")))?;
        }
        Ok(())
    }

    fn tidy(&self, root: &Path) -> Result<(), EngineError> {
        let (mut contents, now) = (self.contents(), now());
        self.remove(root, rubbish(&contents, now))?;
        self.shard.flush();
        contents.retired.retain(|retired| !retired.is_over(now));
        self.switch(root, contents)
    }

    fn apply(&self, root: &Path, change: &Change) -> Result<(), EngineError> {
        let text = |error: qdrant_edge::OperationError| failed(root, format!("cannot be written: {error}"));
        let contents = self.contents();
        enough_space(root, OPEN_BYTES + space_for(&contents, change.replies.len(), bytes_of(&change.replies)))?;
        let now = now();
        let mut was_clean = false;
        self.set(|state| was_clean = std::mem::replace(&mut state.clean, false));
        self.remove(root, rubbish(&contents, now))?;
        for points in StoredPoint::chunks(&change.replies, &contents.model_id, change.release) {
            insert(root, &self.shard, points?)?;
        }
        // On disk before it counts.
        self.shard.flush();
        let after = contents.after(change, now);
        let grown = after.added / GROWN > contents.added / GROWN;
        // What earlier releases put out of use has been removed, where all was clean.
        let newest = usize::from(!change.retired.is_empty());
        let removed = if was_clean { after.retired.len() - newest } else { 0 };
        let out_of_use = after.retired[removed..].iter().map(out_of_use).collect();
        self.switch(root, after)?;
        // Nobody searches the release before any more: the switch has waited for them. Should this be lost, `retired` tells it.
        self.remove(root, out_of_use)?;
        self.set(|state| state.clean = true);
        if grown {
            // What was added is scanned until it has a search graph of its own; the large segment is left as it is.
            self.shard.set_optimizers_config(segments(SEGMENTS)).map_err(text)?;
            self.shard.optimize().map_err(text)?;
            self.shard.flush();
        }
        Ok(())
    }

    /// Makes other contents true, here and on disk.
    fn switch(&self, root: &Path, contents: Contents) -> Result<(), EngineError> {
        let io = |error: std::io::Error| failed(root, format!("cannot be written: {error}"));
        let folder = root.join(&self.name);
        let beside = folder.join(".contents.json");
        write_synced(&beside, &as_json(&contents)).map_err(io)?;
        std::fs::rename(&beside, folder.join("contents.json")).map_err(io)?;
        sync_folder(&folder).map_err(io)?;
        self.set(|state| state.contents = contents);
        Ok(())
    }

    fn write(root: &Path, contents: Contents, replies: &[StoredReply]) -> Result<Self, EngineError> {
        let _writing = lock_to_write(root)?;
        enough_space(root, FIXED_BYTES + space_for(&contents, replies.len(), bytes_of(replies)))?;
        let io = |error: std::io::Error| failed(root, format!("cannot be written: {error}"));
        let folder = tempfile::Builder::new().prefix("gen-").rand_bytes(12).tempdir_in(root).map_err(io)?;
        let in_use = lock(&folder.path().join("in-use.lock"), root)?;
        let shard_path = folder.path().join("shard");
        std::fs::create_dir(&shard_path).map_err(io)?;
        let shard = new_shard(root, &shard_path, contents.dimension, replies.len())?;
        for points in StoredPoint::chunks(replies, &contents.model_id, 0) {
            fill(root, &shard, points?)?;
        }
        finish(root, &shard)?;
        // Lets go of what filling took.
        drop(shard);
        let shard = open_shard(root, &shard_path)?;
        write_synced(&folder.path().join("contents.json"), &as_json(&contents)).map_err(io)?;
        let name = folder.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let pointer = root.join(".current");
        write_synced(&pointer, name.as_bytes()).map_err(io)?;
        let _ = folder.keep();
        std::fs::rename(&pointer, root.join("current")).map_err(io)?;
        Ok(Self { name, state: RwLock::new(State { contents, clean: true }), shard, _in_use: in_use })
    }

    fn page(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredPoint>, String> {
        let request = ScrollRequest {
            offset: after.map(PointId::Uuid),
            // The one that it begins with may be known.
            limit: Some(limit + 1),
            filter: Some(filter(&current(&self.contents()))),
            with_payload: Some(WithPayloadInterface::Bool(true)),
            with_vector: WithVector::Bool(true),
            order_by: None,
        };
        let (points, _) = self.shard.scroll(request).map_err(|error| format!("it cannot be read: {error}"))?;
        let points = points.into_iter().map(|point| {
            let PointId::Uuid(id) = point.id else { return Err("a point has no id of ours".to_owned()) };
            let (embedding, terms) = vectors(point.vector)?;
            Ok(StoredPoint { id, payload: payload(point.payload)?, embedding, terms })
        });
        let mut points = points.collect::<Result<Vec<_>, _>>()?;
        points.retain(|point| Some(point.id) != after);
        points.truncate(limit);
        Ok(points)
    }

    fn search(&self, query: &SearchQuery, entries: usize, scope: &Scope) -> Result<Vec<Candidate>, String> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let must = conditions(scope, &state.contents, state.clean);
        let filter = (!must.is_empty()).then(|| filter(&must));
        let terms = state.contents.asked(&query.terms);
        let mut points = POINTS.max(entries);
        loop {
            let request = request(query, terms.clone(), points, filter.as_ref())
                .map_err(|error| format!("the question cannot be asked: {error}"))?;
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

/// Opens a filled shard.
fn open_shard(root: &Path, path: &Path) -> Result<EdgeShard, EngineError> {
    shorten_log(&path.join("wal"))
        .and_then(|()| EdgeShard::load(path, None).map_err(|error| error.to_string()))
        .map_err(|error| damaged(root, format!("{} cannot be opened: {error}", path.display())))
}

/// An empty shard that is going to hold so many wordings. It is filled with [`fill`], piece by piece, and then needs [`finish`].
fn new_shard(root: &Path, path: &Path, dimension: usize, wordings: usize) -> Result<EdgeShard, EngineError> {
    let text = |error: qdrant_edge::OperationError| failed(root, format!("cannot be written: {error}"));
    let mut vectors = EdgeVectorParams::builder(dimension, Distance::Cosine);
    let large = wordings >= QUANTIZED_FROM;
    if large {
        // Eight bits of every number in memory; the whole vectors stay in files, for rescoring.
        let scalar = ScalarQuantizationConfig { r#type: ScalarType::Int8, quantile: None, always_ram: Some(true) };
        vectors = vectors.quantization_config(QuantizationConfig::from(scalar)).on_disk(true);
    }
    // In files, as far as a large shard can be: what is not read takes no memory, and opening reads nothing.
    let words = EdgeSparseVectorParams::builder().modifier(Modifier::Idf).on_disk(large).build();
    let config = EdgeConfigBuilder::new()
        .vector(DENSE, vectors.build())
        .sparse_vector(SPARSE, words)
        .on_disk_payload(true)
        .hnsw_config(HnswIndexConfig { m: 0, ..HnswIndexConfig::default() })
        .optimizers(EdgeOptimizersConfig {
            default_segment_number: Some(PIECES),
            indexing_threshold: Some(1),
            ..EdgeOptimizersConfig::default()
        })
        .build();
    let shard = EdgeShard::new(path, config).map_err(text)?;
    let fields = INTEGER_FIELDS
        .map(|field| (field, integers(large)))
        .into_iter()
        .chain(KEYWORD_FIELDS.map(|field| (field, keywords(large))));
    for (field, params) in fields {
        shard
            .update(UpdateOperation::FieldIndexOperation(FieldIndexOperations::CreateIndex(CreateIndex {
                field_name: json_path(field),
                field_schema: Some(PayloadFieldSchema::FieldParams(params)),
            })))
            .map_err(text)?;
    }
    Ok(shard)
}

fn integers(on_disk: bool) -> PayloadSchemaParams {
    // Nobody asks for one number.
    let (lookup, range) = (Some(false), Some(true));
    let params = IntegerIndexParams { on_disk: Some(on_disk), lookup, range, ..IntegerIndexParams::default() };
    PayloadSchemaParams::Integer(params)
}

fn keywords(on_disk: bool) -> PayloadSchemaParams {
    PayloadSchemaParams::Keyword(KeywordIndexParams { on_disk: Some(on_disk), ..KeywordIndexParams::default() })
}

/// Inserts into a shard that nobody searches yet. What a wording costs grows with the wordings of its segment (each goes through
/// the lists of all its terms), so a segment is closed when it is large enough.
fn fill(root: &Path, shard: &EdgeShard, points: Vec<StoredPoint>) -> Result<(), EngineError> {
    insert(root, shard, points)?;
    let there = shard.info();
    if there.points_count >= there.segments_count * PIECE {
        shard.optimize().map_err(|error| failed(root, format!("cannot be written: {error}")))?;
    }
    Ok(())
}

/// Makes one segment of all pieces, with a search graph where there is enough to search; a small one is scanned exactly.
fn finish(root: &Path, shard: &EdgeShard) -> Result<(), EngineError> {
    let text = |error: qdrant_edge::OperationError| failed(root, format!("cannot be written: {error}"));
    shard.set_hnsw_config(HnswIndexConfig::default()).map_err(text)?;
    shard.set_optimizers_config(segments(1)).map_err(text)?;
    shard.optimize().map_err(text)?;
    shard.flush();
    Ok(())
}

/// How many segments there may be; their size does not matter.
fn segments(number: usize) -> EdgeOptimizersConfig {
    EdgeOptimizersConfig {
        default_segment_number: Some(number),
        max_segment_size: Some(SEGMENT_KIBIBYTES),
        ..EdgeOptimizersConfig::default()
    }
}

fn insert(root: &Path, shard: &EdgeShard, points: Vec<StoredPoint>) -> Result<(), EngineError> {
    let text = |error: qdrant_edge::OperationError| failed(root, format!("cannot be written: {error}"));
    let points = points
        .into_iter()
        .map(|StoredPoint { id, payload, embedding, terms }| {
            let payload = serde_json::to_value(payload).expect("plain data is always JSON");
            let mut vectors = vec![(DENSE, Vector::new_dense(embedding))];
            // A wording of signs alone has no terms.
            if !terms.indices.is_empty() {
                vectors.push((SPARSE, Vector::new_sparse(terms.indices, terms.values).map_err(text)?));
            }
            Ok(PointStruct::new(PointId::Uuid(id), Vectors::new_named(vectors), payload).into())
        })
        .collect::<Result<Vec<_>, EngineError>>()?;
    let insert = PointInsertOperations::PointsList(points);
    shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(insert))).map_err(text)
}

/// Wordings that are added before they get a search graph, and how many pieces there may be then.
const GROWN: usize = 20_000;
const SEGMENTS: usize = 8;

/// Wordings in a piece of a shard that is being filled, and how many pieces there may be.
const PIECE: usize = 20_000;
const PIECES: usize = 1 << 20;

/// More than any shard on one machine holds.
const SEGMENT_KIBIBYTES: usize = 1 << 30;
