//! Replies at a Qdrant server or cluster, over gRPC.
//!
//! The configured name is an alias. A replacement fills a new collection and then points the alias at it, so searches see the
//! old content or the new one and never half of either. What the content was made of stands in the collection's metadata
//! (Qdrant 1.16 or newer).

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use qdrant_client::{
    Qdrant, QdrantError,
    qdrant::{
        Condition, CountPointsBuilder, CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder,
        DeletePointsBuilder, Distance, FieldType, Filter, Modifier, NamedVectors, PointStruct, PrefetchQueryBuilder,
        QuantizationSearchParamsBuilder, QuantizationType, Query, QueryPoints, QueryPointsBuilder, Range, RrfBuilder,
        ScalarQuantizationBuilder, ScoredPoint, ScrollPoints, SearchParamsBuilder, SparseVectorParamsBuilder,
        SparseVectorsConfigBuilder, UpdateCollectionBuilder, UpsertPointsBuilder, Value, Vector, VectorInput,
        VectorParamsBuilder, VectorsConfigBuilder, VectorsOutput, point_id::PointIdOptions, vector_output,
    },
};

use uuid::Uuid;

use super::{
    BEAM, Candidate, Change, Contents, DENSE, FUSION, Found, Method, OVERSAMPLING, POINTS, QUANTIZED_FROM, ReplyStore,
    Retired, SPARSE, Scope, SearchQuery, ServerSettings, StoredPoint, StoredReply, check_change, check_model,
    copy::Progress,
    cosine, group, is_same_model,
    points::{INTEGER_FIELDS, KEYWORD_FIELDS, Must, Payload, conditions, current, out_of_use, rubbish},
};
use crate::{EngineError, clock::now, ranking::Tuning, terms::Terms};

/// Replies at a server.
pub struct ServerStore {
    client: Qdrant,
    url: String,
    alias: String,
    settings: ServerSettings,
    /// The collection that was current when it was last looked at, and what it was made of. Searches go by both until the next
    /// look: what a filter says holds for this collection only.
    known: RwLock<Option<(String, Contents)>>,
}

impl ServerStore {
    /// Connects to the server at `url`.
    ///
    /// # Errors
    /// When the address is malformed, the server cannot be reached, or it does not take the key.
    pub async fn open(
        url: &str,
        api_key: Option<&str>,
        alias: &str,
        settings: &ServerSettings,
    ) -> Result<Self, EngineError> {
        let fail = |message: String| EngineError::Store { store: format!("at {url}"), message };
        let client = Qdrant::from_url(url)
            .api_key(api_key.map(str::to_owned))
            .timeout(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(5))
            .skip_compatibility_check()
            .build()
            .map_err(|error| fail(format!("the address cannot be used ({error}); write it as http://HOST:6334")))?;
        client.list_collections().await.map_err(|error| match &error {
            // PERMISSION_DENIED and UNAUTHENTICATED.
            QdrantError::ResponseError { status } if matches!(status.code() as i32, 7 | 16) => fail(format!(
                "it does not take the API key ({}); give the right one with --qdrant-api-key",
                short(&error)
            )),
            _ => {
                fail(format!("cannot be reached ({}); is it running, and is this its gRPC port (6334)?", short(&error)))
            }
        })?;
        let (url, alias, settings) = (url.to_owned(), alias.to_owned(), settings.clone());
        let store = Self { client, url, alias, settings, known: RwLock::default() };
        store.know(store.look().await?);
        Ok(store)
    }

    fn know(&self, known: Option<(String, Contents)>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn known(&self) -> Option<(String, Contents)> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The current collection and what it was made of.
    async fn look(&self) -> Result<Option<(String, Contents)>, EngineError> {
        let Some(collection) = self.current().await? else { return Ok(None) };
        let metadata = self.metadata_of(&collection).await?;
        let contents = serde_json::from_value(metadata).map_err(|error| {
            self.error(format!(
                "the collection behind {} was not made by yingda ({error}); choose another name for ours",
                self.alias
            ))
        })?;
        Ok(Some((collection, contents)))
    }

    fn failed(&self, doing: &str) -> impl Fn(QdrantError) -> EngineError {
        let store = format!("at {}", self.url);
        let doing = doing.to_owned();
        move |error| EngineError::Store { store: store.clone(), message: format!("{doing} failed: {}", short(&error)) }
    }

    /// Does something that may be done twice, again where the server was out of reach or had too much to do.
    async fn patiently<T, F: Future<Output = Result<T, QdrantError>>>(
        &self,
        doing: &str,
        call: impl Fn() -> F,
    ) -> Result<T, EngineError> {
        let mut pause = Duration::from_millis(100);
        for _ in 1..TRIES {
            match call().await {
                Err(error) if passes(&error) => {
                    tracing::warn!(error = short(&error), "{doing} failed; trying again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                result => return result.map_err(self.failed(doing)),
            }
        }
        call().await.map_err(self.failed(doing))
    }

    /// The collection behind the alias.
    async fn current(&self) -> Result<Option<String>, EngineError> {
        let aliases = self.client.list_aliases().await.map_err(self.failed("listing aliases"))?.aliases;
        Ok(aliases.into_iter().find(|alias| alias.alias_name == self.alias).map(|alias| alias.collection_name))
    }

    fn payload(&self, payload: HashMap<String, Value>) -> Result<Payload, EngineError> {
        let payload: serde_json::Value =
            payload.into_iter().map(|(key, value)| (key, serde_json::Value::from(value))).collect();
        serde_json::from_value(payload).map_err(|error| self.error(format!("a payload is damaged: {error}")))
    }

    fn found(&self, point: ScoredPoint, query: &SearchQuery, model_id: &str) -> Result<(Payload, Found), EngineError> {
        let payload = self.payload(point.payload)?;
        if !is_same_model(&payload.model_id, model_id) {
            return Err(EngineError::StoreOfAnotherModel {
                store: self.describe(),
                found: payload.model_id,
                wanted: model_id.to_owned(),
            });
        }
        let (embedding, terms) = self.vectors(point.vectors)?;
        let text = payload.wording.clone();
        let cosine = cosine(&embedding, &query.embedding);
        Ok((payload, Found { text, cosine, score: point.score, terms: terms.indices }))
    }

    fn vectors(&self, vectors: Option<VectorsOutput>) -> Result<(Vec<f32>, Terms), EngineError> {
        let vectors = vectors.unwrap_or_default();
        let Some(vector_output::Vector::Dense(embedding)) = vectors.get_vector_by_name(DENSE) else {
            return Err(self.error(format!("a point came without its vector `{DENSE}`")));
        };
        let terms = match vectors.get_vector_by_name(SPARSE) {
            Some(vector_output::Vector::Sparse(terms)) => Terms { indices: terms.indices, values: terms.values },
            _ => Terms::default(),
        };
        Ok((embedding.data, terms))
    }

    fn error(&self, message: String) -> EngineError {
        EngineError::Store { store: format!("at {}", self.url), message }
    }

    /// An empty collection for so many wordings.
    async fn make(&self, collection: &str, contents: &Contents, wordings: usize) -> Result<(), EngineError> {
        let mut vectors = VectorsConfigBuilder::default();
        let mut dense = VectorParamsBuilder::new(contents.dimension as u64, Distance::Cosine);
        if wordings >= QUANTIZED_FROM {
            let scalar =
                ScalarQuantizationBuilder::default().r#type(QuantizationType::Int8.into()).always_ram(true).build();
            dense = dense.quantization_config(scalar).on_disk(true);
        }
        vectors.add_named_vector_params(DENSE, dense);
        let mut words = SparseVectorsConfigBuilder::default();
        words.add_named_vector_params(SPARSE, SparseVectorParamsBuilder::default().modifier(Modifier::Idf));
        let mut request = CreateCollectionBuilder::new(collection)
            .vectors_config(vectors)
            .sparse_vectors_config(words)
            .metadata(metadata(contents));
        if let Some(shards) = self.settings.shards {
            request = request.shard_number(shards);
        }
        if let Some(copies) = self.settings.copies {
            request = request.replication_factor(copies);
        }
        self.client.create_collection(request).await.map_err(self.failed("making a collection"))?;
        let fields = INTEGER_FIELDS
            .map(|field| (field, FieldType::Integer))
            .into_iter()
            .chain(KEYWORD_FIELDS.map(|field| (field, FieldType::Keyword)));
        for (field, kind) in fields {
            self.client
                .create_field_index(CreateFieldIndexCollectionBuilder::new(collection, field, kind).wait(true))
                .await
                .map_err(self.failed("making an index"))?;
        }
        Ok(())
    }

    async fn fill(&self, collection: &str, contents: &Contents, replies: &[StoredReply]) -> Result<(), EngineError> {
        self.make(collection, contents, replies.len()).await?;
        self.insert_replies(collection, &contents.model_id, replies, 0).await?;
        let counted = self
            .client
            .count(CountPointsBuilder::new(collection).exact(true))
            .await
            .map_err(self.failed("counting"))?
            .result
            .map_or(0, |result| result.count);
        if counted as usize != replies.len() {
            return Err(self.error(format!(
                "{} wordings were written and {counted} are there; look at the server's log",
                replies.len()
            )));
        }
        Ok(())
    }
}

impl ServerStore {
    async fn insert_replies(
        &self,
        collection: &str,
        model_id: &str,
        replies: &[StoredReply],
        release: i64,
    ) -> Result<(), EngineError> {
        for points in StoredPoint::chunks(replies, model_id, release) {
            self.insert(collection, points?).await?;
        }
        Ok(())
    }

    async fn remove(&self, collection: &str, must: &[Must]) -> Result<(), EngineError> {
        let request = DeletePointsBuilder::new(collection).points(filter(must)).wait(true);
        let doing = "removing what does not count any more";
        self.patiently(doing, || self.client.delete_points(request.clone())).await?;
        Ok(())
    }

    async fn insert(&self, collection: &str, points: Vec<StoredPoint>) -> Result<(), EngineError> {
        let points = points
            .into_iter()
            .map(|StoredPoint { id, payload, embedding, terms }| {
                let payload = serde_json::to_value(payload).expect("plain data is always JSON");
                let payload = qdrant_client::Payload::try_from(payload).map_err(self.failed("writing"))?;
                let mut vectors = NamedVectors::default().add_vector(DENSE, Vector::new_dense(embedding));
                // A wording of signs alone has no terms.
                if !terms.indices.is_empty() {
                    vectors = vectors.add_vector(SPARSE, Vector::new_sparse(terms.indices, terms.values));
                }
                Ok(PointStruct::new(id.to_string(), vectors, payload))
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        let request = UpsertPointsBuilder::new(collection, points).wait(true);
        self.patiently("writing", || self.client.upsert_points(request.clone())).await?;
        Ok(())
    }

    pub(super) async fn begin(&self, contents: &Contents, key: &str) -> Result<ServerFilling, EngineError> {
        let prefix = format!("{}-copy-{key}-", self.alias);
        let current = self.current().await?;
        let there = self.client.list_collections().await.map_err(self.failed("listing collections"))?.collections;
        let unfinished = there
            .into_iter()
            .map(|collection| collection.name)
            .find(|name| name.starts_with(&prefix) && Some(name) != current.as_ref());
        if let Some(collection) = unfinished {
            let noted = self.metadata_of(&collection).await?.get("copied").cloned();
            let progress = noted.and_then(|noted| serde_json::from_value(noted).ok()).unwrap_or_default();
            return Ok(ServerFilling { progress, collection });
        }
        let collection = format!("{prefix}{}", Uuid::now_v7().simple());
        self.make(&collection, contents, contents.wordings).await?;
        Ok(ServerFilling { progress: Progress::default(), collection })
    }

    pub(super) async fn put(&self, filling: &ServerFilling, points: Vec<StoredPoint>) -> Result<(), EngineError> {
        self.insert(&filling.collection, points).await
    }

    pub(super) async fn note(
        &self,
        filling: &ServerFilling,
        contents: &Contents,
        progress: Progress,
    ) -> Result<(), EngineError> {
        let mut metadata = metadata(contents);
        metadata.insert("copied".into(), serde_json::to_value(progress).expect("plain data is always JSON"));
        let request = UpdateCollectionBuilder::new(&filling.collection).metadata(metadata);
        self.patiently("noting how far it has come", || self.client.update_collection(request.clone())).await?;
        Ok(())
    }

    pub(super) async fn finish(&self, filling: ServerFilling, contents: Contents) -> Result<(), EngineError> {
        self.point_at(&filling.collection, contents).await
    }

    /// Makes a filled collection the current one.
    async fn point_at(&self, collection: &str, contents: Contents) -> Result<(), EngineError> {
        let old = self.current().await?.filter(|old| old != collection);
        self.client
            .create_alias(CreateAliasBuilder::new(collection, &self.alias))
            .await
            .map_err(self.failed("switching to the new collection"))?;
        if let Some(old) = old {
            self.client.delete_collection(&old).await.map_err(self.failed("removing the old collection"))?;
        }
        self.know(Some((collection.to_owned(), contents)));
        self.remove_left().await;
        Ok(())
    }

    /// Removes collections of ours that writers left who were stopped long ago, and never one that a name leads to. What cannot be
    /// removed now is removed next time.
    async fn remove_left(&self) {
        let Ok(aliases) = self.client.list_aliases().await else { return };
        let Ok(there) = self.client.list_collections().await else { return };
        let served = |name: &String| aliases.aliases.iter().any(|alias| alias.collection_name == *name);
        let left = there.collections.into_iter().map(|collection| collection.name).filter(|name| !served(name));
        for name in left.filter(|name| is_left(name, &self.alias, now())) {
            if let Err(error) = self.client.delete_collection(&name).await {
                tracing::warn!(
                    error = short(&error),
                    collection = name,
                    "what a stopped writer left cannot be removed"
                );
            }
        }
    }

    async fn metadata_of(&self, collection: &str) -> Result<serde_json::Value, EngineError> {
        let info = self.client.collection_info(collection).await.map_err(self.failed("reading the collection"))?;
        let metadata = info.result.and_then(|info| info.config).map(|config| config.metadata).unwrap_or_default();
        Ok(metadata.into_iter().map(|(key, value)| (key, serde_json::Value::from(value))).collect())
    }

    /// Gives something up that takes longer than a customer should wait.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        let deadline = self.settings.deadline_ms;
        let late = || Err(self.error(format!("no answer within {deadline} ms")));
        tokio::time::timeout(Duration::from_millis(deadline), call).await.unwrap_or_else(|_| late())
    }

    async fn search_slowly(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        scope: &Scope,
    ) -> Result<Vec<Candidate>, EngineError> {
        let Some(mut known) = self.known() else { return Ok(Vec::new()) };
        let mut points = POINTS.max(entries);
        let mut looked = false;
        loop {
            // Another process may be writing.
            let filter = filter(&conditions(scope, &known.1, false));
            let terms = known.1.asked(&query.terms);
            let Some(request) = request(&known.0, query, terms, points, &filter) else { return Ok(Vec::new()) };
            let points_found = match self.client.query(request).await {
                Ok(found) => found.result,
                Err(error) if looked => return Err(self.failed("the search")(error)),
                // Another process may have put another collection in its place.
                Err(_) => {
                    looked = true;
                    let now = self.look().await?;
                    check_model(self, now.as_ref().map(|(_, contents)| contents), model_id)?;
                    self.know(now.clone());
                    match now {
                        Some(now) => known = now,
                        None => return Ok(Vec::new()),
                    }
                    continue;
                }
            };
            let all = points_found.len() < points;
            let found =
                points_found.into_iter().map(|point| self.found(point, query, model_id)).collect::<Result<_, _>>()?;
            let candidates = group(found);
            if all || candidates.len() >= entries {
                return Ok(candidates);
            }
            points *= 4;
        }
    }

    async fn switch(&self, collection: &str, contents: Contents, doing: &str) -> Result<(), EngineError> {
        let request = UpdateCollectionBuilder::new(collection).metadata(metadata(&contents));
        self.patiently(doing, || self.client.update_collection(request.clone())).await?;
        self.know(Some((collection.to_owned(), contents)));
        Ok(())
    }

    /// As [`ServerStore::look`], where there must be something.
    async fn filled(&self) -> Result<(String, Contents), EngineError> {
        self.look().await?.ok_or_else(|| self.error("it is empty; fill it first with `yingda index FILE`".into()))
    }
}

impl ReplyStore for ServerStore {
    fn describe(&self) -> String {
        format!("{} ({})", self.url, self.alias)
    }

    async fn contents(&self) -> Result<Option<Contents>, EngineError> {
        Ok(self.look().await?.map(|(_, contents)| contents))
    }

    async fn replace(&self, contents: Contents, replies: Vec<StoredReply>) -> Result<(), EngineError> {
        let collection = format!("{}-{}", self.alias, Uuid::now_v7());
        if let Err(error) = self.fill(&collection, &contents, &replies).await {
            // The old content goes on being served; what was half-written is of no use.
            let _ = self.client.delete_collection(&collection).await;
            return Err(error);
        }
        self.point_at(&collection, contents).await
    }

    async fn apply(&self, change: Change) -> Result<(), EngineError> {
        let (collection, contents) = self.filled().await?;
        check_change(self.describe(), &contents, &change)?;
        let now = now();
        for must in rubbish(&contents, now) {
            self.remove(&collection, &must).await?;
        }
        self.insert_replies(&collection, &contents.model_id, &change.replies, change.release).await?;
        // Somebody may have given this release up and published another one.
        check_change(self.describe(), &self.filled().await?.1, &change)?;
        self.switch(&collection, contents.after(&change, now), "switching to the new release").await
    }

    async fn search(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        scope: &Scope,
    ) -> Result<Vec<Candidate>, EngineError> {
        self.in_time(self.search_slowly(model_id, query, entries, scope)).await
    }

    async fn page(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredPoint>, EngineError> {
        let Some((collection, contents)) = self.known() else { return Ok(Vec::new()) };
        let request = ScrollPoints {
            collection_name: collection,
            filter: Some(filter(&current(&contents))),
            offset: after.map(|after| after.to_string().into()),
            // The one that it begins with may be known.
            limit: Some(limit as u32 + 1),
            with_payload: Some(true.into()),
            with_vectors: Some(true.into()),
            ..ScrollPoints::default()
        };
        let page = self.patiently("reading all", || self.client.scroll(request.clone())).await?;
        let points = page.result.into_iter().map(|point| {
            let id = match point.id.and_then(|id| id.point_id_options) {
                Some(PointIdOptions::Uuid(id)) => Uuid::parse_str(&id).ok(),
                _ => None,
            };
            let id = id.ok_or_else(|| self.error("a point has no id of ours".into()))?;
            let (embedding, terms) = self.vectors(point.vectors)?;
            Ok(StoredPoint { id, payload: self.payload(point.payload)?, embedding, terms })
        });
        let mut points = points.collect::<Result<Vec<_>, EngineError>>()?;
        points.retain(|point| Some(point.id) != after);
        points.truncate(limit);
        Ok(points)
    }

    /// Another replica may be publishing; what does not count is removed with the next release.
    async fn tidy(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn may_forget(&self) -> bool {
        let retired = self.known().map(|(_, contents)| contents.retired).unwrap_or_default();
        let now = now();
        !retired.is_empty() && retired.iter().all(|retired| retired.is_over(now))
    }

    async fn forget(&self, kept: Duration) -> Result<(), EngineError> {
        let (collection, contents) = self.filled().await?;
        let Some(newest) = contents.retired.iter().map(|retired| retired.at).max() else { return Ok(()) };
        let left = newest + i64::try_from(kept.as_millis()).unwrap_or(i64::MAX) - now();
        tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(kept)).await;
        for Retired { release, at, entries } in &contents.retired {
            for entries in entries.chunks(NAMED) {
                let some = Retired { release: *release, at: *at, entries: entries.to_vec() };
                self.remove(&collection, &out_of_use(&some)).await?;
            }
        }
        // What else is said of it may have changed while it was removed.
        let (now_current, mut now_said) = self.filled().await?;
        if now_current != collection {
            return Ok(());
        }
        now_said.retired.retain(|retired| !contents.retired.contains(retired));
        self.switch(&collection, now_said, "noting what was removed").await
    }

    async fn keep_tuning(&self, tuning: Tuning) -> Result<(), EngineError> {
        let (collection, contents) = self.filled().await?;
        self.switch(&collection, Contents { tuning: Some(tuning), ..contents }, "keeping the tuning").await
    }

    async fn refresh(&self, model_id: &str) -> Result<Option<Contents>, EngineError> {
        let now = self.in_time(self.look()).await?;
        let contents = now.as_ref().map(|(_, contents)| contents.clone());
        check_model(self, contents.as_ref(), model_id)?;
        self.know(now);
        Ok(contents)
    }
}

/// A copy that is arriving, in a collection that is not pointed at yet.
pub(super) struct ServerFilling {
    pub(super) progress: Progress,
    collection: String,
}

/// Whether this is a collection that was begun under an alias more than a day ago: its name ends with when that was.
fn is_left(name: &str, alias: &str, now: i64) -> bool {
    let Some(rest) = name.strip_prefix(alias).and_then(|rest| rest.strip_prefix('-')) else { return false };
    let id = match rest.strip_prefix("copy-") {
        Some(copy) => copy.split_once('-').map_or("", |(_, id)| id),
        None => rest,
    };
    let begun = Uuid::parse_str(id).ok().and_then(|id| id.get_timestamp());
    let begun = begun.map(|begun| i64::try_from(begun.to_unix().0).unwrap_or(i64::MAX) * 1000);
    begun.is_some_and(|begun| now - begun > LEFT_MILLISECONDS)
}

/// Nobody writes a collection for so long.
const LEFT_MILLISECONDS: i64 = 24 * 60 * 60 * 1000;

/// Entries that one request names.
const NAMED: usize = 10_000;

/// How often something is tried.
const TRIES: usize = 5;

/// Whether it may be better in a moment: DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, UNAVAILABLE.
fn passes(error: &QdrantError) -> bool {
    matches!(error, QdrantError::ResponseError { status } if matches!(status.code() as i32, 4 | 8 | 10 | 14))
}

/// An error without its metadata, which can hold headers.
fn short(error: &QdrantError) -> String {
    match error {
        QdrantError::ResponseError { status } => format!("{}: {}", status.code(), status.message()),
        other => other.to_string(),
    }
}

fn metadata(contents: &Contents) -> HashMap<String, serde_json::Value> {
    match serde_json::to_value(contents) {
        Ok(serde_json::Value::Object(metadata)) => metadata.into_iter().collect(),
        _ => unreachable!("a struct of plain data is always a JSON object"),
    }
}

fn filter(must: &[Must]) -> Filter {
    let mut filter = Filter::default();
    for must in must {
        match must {
            Must::AtMost(field, value) => {
                let range = Range { lte: Some(*value as f64), ..Range::default() };
                filter.must.push(Condition::range(*field, range));
            }
            Must::AtLeast(field, value) => {
                let range = Range { gte: Some(*value as f64), ..Range::default() };
                filter.must.push(Condition::range(*field, range));
            }
            Must::AnyOf(field, words) => filter.must.push(Condition::matches(*field, words.clone())),
            Must::Not(must) => filter.must_not.push(self::filter(must).into()),
        }
    }
    filter
}

/// What a store is asked; `None` when there is nothing to ask by.
fn request(alias: &str, query: &SearchQuery, terms: Terms, points: usize, filter: &Filter) -> Option<QueryPoints> {
    let quantization = QuantizationSearchParamsBuilder::default().rescore(true).oversampling(OVERSAMPLING);
    let params = SearchParamsBuilder::default()
        .hnsw_ef(BEAM.max(points) as u64)
        .exact(query.exact)
        .quantization(quantization)
        .build();
    let mut searches: Vec<(VectorInput, &str)> = Vec::new();
    if query.method != Method::Sparse {
        searches.push((VectorInput::new_dense(query.embedding.clone()), DENSE));
    }
    if query.method != Method::Dense && !terms.indices.is_empty() {
        let Terms { indices, values } = terms;
        searches.push((VectorInput::new_sparse(indices, values), SPARSE));
    }
    let request =
        QueryPointsBuilder::new(alias).limit((points * searches.len()) as u64).with_payload(true).with_vectors(true);
    let request = match searches.len() {
        0 => return None,
        1 => {
            let (vector, name) = searches.pop()?;
            request.query(Query::new_nearest(vector)).using(name).filter(filter.clone()).params(params)
        }
        _ => searches.into_iter().fold(
            request.query(Query::new_rrf(RrfBuilder::default().k(FUSION as u32))),
            |request, (vector, name)| {
                let search = PrefetchQueryBuilder::default()
                    .query(Query::new_nearest(vector))
                    .using(name)
                    .limit(points as u64)
                    .filter(filter.clone())
                    .params(params.clone());
                request.add_prefetch(search)
            },
        ),
    };
    Some(request.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stopped_writer_left_is_known_by_its_name() {
        let id = Uuid::now_v7();
        let (now, hour) = (now(), 60 * 60 * 1000);
        for (name, left) in [
            (format!("shop-{id}"), true),
            (format!("shop-copy-0123456789ab-{}", id.simple()), true),
            (format!("other-{id}"), false),
            (format!("shop-two-{id}"), false),
            ("shop-made-by-somebody".to_owned(), false),
            (format!("shop-{}", Uuid::from_u128(7)), false),
            ("shop".to_owned(), false),
        ] {
            assert_eq!(is_left(&name, "shop", now + 25 * hour), left, "{name}");
            assert!(!is_left(&name, "shop", now + 23 * hour), "{name}");
        }
    }
}
