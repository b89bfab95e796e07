//! Stands in for a Qdrant server in tests, where none can be started.
//!
//! It is real gRPC over TCP on a free local port, made of the server traits that `qdrant-client` generates, and it searches
//! exactly, in memory. It answers the calls that the store makes and nothing else: every other call, and every option of an
//! answered call that it does not know, is `UNIMPLEMENTED`, so that no test passes because an option was overlooked. Where a
//! server would be lenient it insists: writes and indexes must be waited for, counts must be exact, and a field must be indexed
//! before it is filtered by.
//!
//! It does not keep anything on disk, search approximately, know TLS, or distribute; options that make a real server faster or
//! smaller (quantization, where vectors and payloads lie) are taken and ignored. Nor can it tell
//! whether a real server understands what the client sends; `YINGDA_TEST_QDRANT_URL` lets the same tests ask one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use qdrant_client::qdrant::{
    self, AliasDescription, ChangeAliases, CollectionConfig, CollectionDescription, CollectionInfo,
    CollectionOperationResponse, Condition, CountPoints, CountResponse, CountResult, CreateCollection,
    CreateFieldIndexCollection, DeleteCollection, DeletePoints, Distance, FieldCondition, Filter,
    GetCollectionInfoRequest, GetCollectionInfoResponse, ListAliasesRequest, ListAliasesResponse,
    ListCollectionsRequest, ListCollectionsResponse, Modifier, PointId, PointStruct, PointsOperationResponse,
    QueryPoints, QueryResponse, Range, RetrievedPoint, ScoredPoint, ScrollPoints, ScrollResponse, SparseVector,
    UpdateResult, UpdateStatus, UpsertPoints, Value, Vector, VectorOutput, VectorsOutput,
    alias_operations::Action,
    collections_server::{Collections, CollectionsServer},
    condition::ConditionOneOf,
    r#match::MatchValue,
    point_id::PointIdOptions,
    points_selector::PointsSelectorOneOf,
    points_server::{Points, PointsServer},
    query, value, vector, vector_input, vector_output, vectors, vectors_config, vectors_output,
    with_payload_selector::SelectorOptions,
    with_vectors_selector,
};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// A running stand-in; it stops when dropped.
pub(crate) struct StandIn {
    address: SocketAddr,
    service: Service,
    away: Arc<AtomicBool>,
    serving: tokio::task::JoinHandle<()>,
}

impl StandIn {
    /// Starts on a free port; with `key`, calls without it are refused. Must be called within a tokio runtime.
    pub(crate) fn start(key: Option<&str>) -> Self {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap().with_nodelay(Some(true));
        let address = incoming.local_addr().unwrap();
        let service = Service::default();
        let key = key.map(str::to_owned);
        let away = Arc::new(AtomicBool::new(false));
        let gone = Arc::clone(&away);
        let check_key = move |request: Request<()>| match &key {
            _ if gone.load(Ordering::SeqCst) => Err(Status::unavailable("the stand-in is away")),
            Some(key) if request.metadata().get("api-key").is_none_or(|given| given.as_bytes() != key.as_bytes()) => {
                Err(Status::unauthenticated("Invalid API key or JWT"))
            }
            _ => Ok(request),
        };
        let server = tonic::transport::Server::builder()
            .add_service(CollectionsServer::with_interceptor(service.clone(), check_key.clone()))
            .add_service(PointsServer::with_interceptor(service.clone(), check_key))
            .serve_with_incoming(incoming);
        Self { address, service, away, serving: tokio::spawn(async { server.await.unwrap() }) }
    }

    /// Where it listens, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// After `upserts` more, every upsert fails; with `None` none does.
    pub(crate) fn fail_after(&self, upserts: Option<usize>) {
        self.service.content().upserts_left = upserts;
    }

    /// From now on no call is answered, or all are again.
    pub(crate) fn go_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Every query takes so long.
    pub(crate) fn take(&self, long: Duration) {
        self.service.content().slow = long;
    }

    /// Names of the collections that exist.
    pub(crate) fn collections(&self) -> Vec<String> {
        self.service.content().collections.keys().cloned().collect()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    collections: BTreeMap<String, Collection>,
    aliases: BTreeMap<String, String>,
    upserts_left: Option<usize>,
    slow: Duration,
}

struct Collection {
    /// Dense vectors by name, with their dimension.
    dense: HashMap<String, usize>,
    /// Names of the sparse vectors; all weigh their terms by inverse document frequency.
    sparse: HashSet<String>,
    metadata: HashMap<String, Value>,
    indexed: HashSet<String>,
    points: BTreeMap<String, Point>,
}

struct Point {
    dense: HashMap<String, Vec<f32>>,
    sparse: HashMap<String, SparseVector>,
    payload: HashMap<String, Value>,
}

impl Point {
    fn vectors(&self) -> VectorsOutput {
        let dense = self.dense.iter().map(|(name, data)| {
            (name.clone(), vector_output::Vector::Dense(qdrant::DenseVector { data: data.clone() }))
        });
        let sparse =
            self.sparse.iter().map(|(name, terms)| (name.clone(), vector_output::Vector::Sparse(terms.clone())));
        let vectors = dense
            .chain(sparse)
            .map(|(name, vector)| (name, VectorOutput { vector: Some(vector), ..Default::default() }))
            .collect();
        let named = qdrant::NamedVectorsOutput { vectors };
        VectorsOutput { vectors_options: Some(vectors_output::VectorsOptions::Vectors(named)) }
    }
}

impl Service {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }
}

impl Content {
    /// A collection by its name or an alias.
    fn collection(&mut self, name: &str) -> Result<&mut Collection, Status> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.collections
            .get_mut(name)
            .ok_or_else(|| Status::not_found(format!("Not found: Collection `{name}` doesn't exist!")))
    }
}

impl Collection {
    /// The vector at length 1, as a server keeps it for cosine.
    fn normalise(&self, name: &str, mut vector: Vec<f32>) -> Result<Vec<f32>, Status> {
        let Some(&dimension) = self.dense.get(name) else {
            return Err(Status::invalid_argument(format!("Not existing vector name error: {name}")));
        };
        if vector.len() != dimension {
            let message = format!("Vector dimension error: expected dim: {dimension}, got {}", vector.len());
            return Err(Status::invalid_argument(message));
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= length);
        Ok(vector)
    }

    /// Points that pass the filter, by how near they are to a vector, nearest first; sparse ones only where a term is shared.
    fn nearest(
        &self,
        query: Option<qdrant::Query>,
        using: Option<String>,
        filter: Option<Filter>,
        limit: u64,
    ) -> Result<Vec<(&String, f32)>, Status> {
        let Some(query::Variant::Nearest(qdrant::VectorInput { variant: Some(wanted) })) =
            query.and_then(|query| query.variant)
        else {
            return Err(unknown("a search that is not for what is nearest to a vector"));
        };
        if limit == 0 {
            return Err(Status::invalid_argument(
                "Validation error in body: limit: value 0 invalid, must be 1 or larger",
            ));
        }
        let using = using.unwrap_or_default();
        let passing = self.passing(filter)?;
        let mut found: Vec<(&String, f32)> = match wanted {
            vector_input::Variant::Dense(wanted) => {
                let wanted = self.normalise(&using, wanted.data)?;
                let near = |point: &Point| Some(point.dense.get(&using)?.iter().zip(&wanted).map(|(a, b)| a * b).sum());
                passing.filter_map(|(id, point)| Some((id, near(point)?))).collect()
            }
            vector_input::Variant::Sparse(wanted) if self.sparse.contains(&using) => {
                let having = |term: u32| {
                    let has = |point: &&Point| point.sparse.get(&using).is_some_and(|own| own.indices.contains(&term));
                    self.points.values().filter(has).count() as f32
                };
                let all = self.points.values().filter(|point| point.sparse.contains_key(&using)).count() as f32;
                let terms: HashMap<u32, f32> = wanted
                    .indices
                    .iter()
                    .zip(&wanted.values)
                    .map(|(term, value)| {
                        (*term, value * (1.0 + (all - having(*term) + 0.5) / (having(*term) + 0.5)).ln())
                    })
                    .collect();
                let near = |point: &Point| {
                    let own = point.sparse.get(&using)?;
                    let shared: Vec<f32> = own
                        .indices
                        .iter()
                        .zip(&own.values)
                        .filter_map(|(term, value)| Some(terms.get(term)? * value))
                        .collect();
                    (!shared.is_empty()).then(|| shared.iter().sum())
                };
                passing.filter_map(|(id, point)| Some((id, near(point)?))).collect()
            }
            _ => return Err(unknown("a vector of this kind and name")),
        };
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.truncate(limit as usize);
        Ok(found)
    }

    /// The points that a filter lets through, by id.
    fn passing(&self, filter: Option<Filter>) -> Result<impl Iterator<Item = (&String, &Point)>, Status> {
        let filter = filter.unwrap_or_default();
        self.check(&filter)?;
        Ok(self.points.iter().filter(move |(_, point)| passes(point, &filter)))
    }

    /// Only ranges and words of indexed fields can be filtered by: all must hold, or all of some must not.
    fn check(&self, filter: &Filter) -> Result<(), Status> {
        let Filter { should, min_should, must, must_not } = filter;
        insist(should.is_empty() && min_should.is_none(), "a filter that one of several may pass")?;
        for condition in must.iter().chain(must_not) {
            match &condition.condition_one_of {
                Some(ConditionOneOf::Filter(filter)) => self.check(filter)?,
                Some(ConditionOneOf::Field(field)) => {
                    let words = field.r#match.as_ref().and_then(|wanted| wanted.match_value.as_ref());
                    let words = matches!(words, Some(MatchValue::Keywords(_)));
                    insist(field.range.is_some() != words, "a condition that is neither a range nor some words")?;
                    let known = FieldCondition {
                        key: field.key.clone(),
                        range: field.range,
                        r#match: field.r#match.clone(),
                        ..FieldCondition::default()
                    };
                    insist(*field == known, &format!("all of {field:?}"))?;
                    if !self.indexed.contains(&field.key) {
                        return Err(Status::invalid_argument(format!(
                            "Index required but not found for {:?}",
                            field.key
                        )));
                    }
                }
                _ => return Err(unknown("a condition that is not of a field")),
            }
        }
        Ok(())
    }
}

fn passes(point: &Point, filter: &Filter) -> bool {
    let holds = |condition: &Condition| match &condition.condition_one_of {
        Some(ConditionOneOf::Filter(filter)) => passes(point, filter),
        Some(ConditionOneOf::Field(field)) => {
            let value = point.payload.get(&field.key);
            match (&field.range, field.r#match.as_ref().and_then(|wanted| wanted.match_value.as_ref())) {
                (Some(range), _) => in_range(value, range),
                (None, Some(MatchValue::Keywords(words))) => has_one_of(value, &words.strings),
                _ => false,
            }
        }
        _ => false,
    };
    filter.must.iter().all(holds) && !filter.must_not.iter().any(holds)
}

/// A word, or a list with a word, that is one of these.
fn has_one_of(value: Option<&Value>, words: &[String]) -> bool {
    match value.and_then(|value| value.kind.as_ref()) {
        Some(value::Kind::StringValue(word)) => words.contains(word),
        Some(value::Kind::ListValue(list)) => list.values.iter().any(|value| has_one_of(Some(value), words)),
        _ => false,
    }
}

fn in_range(value: Option<&Value>, range: &Range) -> bool {
    let number = match value.and_then(|value| value.kind.as_ref()) {
        Some(value::Kind::IntegerValue(number)) => *number as f64,
        Some(value::Kind::DoubleValue(number)) => *number,
        _ => return false,
    };
    range.lt.is_none_or(|end| number < end)
        && range.lte.is_none_or(|end| number <= end)
        && range.gt.is_none_or(|end| number > end)
        && range.gte.is_none_or(|end| number >= end)
}

fn unknown(what: &str) -> Status {
    Status::unimplemented(format!("the stand-in does not know {what}"))
}

/// What is left of a request after the known fields were taken out of it must be empty.
fn nothing_else<T: Default + PartialEq + std::fmt::Debug>(rest: T) -> Result<(), Status> {
    if rest == T::default() { Ok(()) } else { Err(unknown(&format!("all of {rest:?}"))) }
}

fn insist(on: bool, what: &str) -> Result<(), Status> {
    if on { Ok(()) } else { Err(unknown(what)) }
}

fn done() -> Result<Response<CollectionOperationResponse>, Status> {
    Ok(Response::new(CollectionOperationResponse { result: true, ..Default::default() }))
}

fn completed() -> Result<Response<PointsOperationResponse>, Status> {
    let result = UpdateResult { operation_id: Some(0), status: UpdateStatus::Completed.into() };
    Ok(Response::new(PointsOperationResponse { result: Some(result), ..Default::default() }))
}

/// Calls of a server trait that are not answered, written as `async_trait` writes them.
macro_rules! unanswered {
    ($($call:ident($request:ident) -> $response:ident,)*) => {$(
        fn $call<'life0, 'async_trait>(
            &'life0 self,
            _request: Request<qdrant::$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<qdrant::$response>, Status>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(unknown(stringify!($call))) })
        }
    )*};
}

#[tonic::async_trait]
impl Collections for Service {
    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let mut request = request.into_inner();
        let name = std::mem::take(&mut request.collection_name);
        let metadata = std::mem::take(&mut request.metadata);
        let Some(vectors_config::Config::ParamsMap(vectors)) =
            request.vectors_config.take().and_then(|vectors| vectors.config)
        else {
            return Err(unknown("a vector without a name"));
        };
        let cosine = vectors.map.values().all(|vector| vector.distance() == Distance::Cosine);
        insist(cosine, "a distance that is not cosine")?;
        let dense = vectors.map.into_iter().map(|(name, vector)| (name, vector.size as usize)).collect();
        let sparse = request.sparse_vectors_config.take().unwrap_or_default().map;
        insist(sparse.values().all(|sparse| sparse.modifier() == Modifier::Idf), "terms that all weigh the same")?;
        nothing_else(request)?;
        let mut content = self.content();
        if content.collections.contains_key(&name) || content.aliases.contains_key(&name) {
            return Err(Status::already_exists(format!("Collection `{name}` already exists!")));
        }
        let (sparse, indexed) = (sparse.into_keys().collect(), HashSet::new());
        content.collections.insert(name, Collection { dense, sparse, metadata, indexed, points: BTreeMap::new() });
        done()
    }

    async fn delete(
        &self,
        request: Request<DeleteCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let name = request.into_inner().collection_name;
        let mut content = self.content();
        let result = content.collections.remove(&name).is_some();
        content.aliases.retain(|_, of| *of != name);
        Ok(Response::new(CollectionOperationResponse { result, ..Default::default() }))
    }

    async fn list(&self, _: Request<ListCollectionsRequest>) -> Result<Response<ListCollectionsResponse>, Status> {
        let names = self.content().collections.keys().cloned().collect::<Vec<_>>();
        let collections = names.into_iter().map(|name| CollectionDescription { name }).collect();
        Ok(Response::new(ListCollectionsResponse { collections, ..Default::default() }))
    }

    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        let mut content = self.content();
        let collection = content.collection(&request.into_inner().collection_name)?;
        let config = CollectionConfig { metadata: collection.metadata.clone(), ..Default::default() };
        let info = CollectionInfo {
            config: Some(config),
            points_count: Some(collection.points.len() as u64),
            ..Default::default()
        };
        Ok(Response::new(GetCollectionInfoResponse { result: Some(info), ..Default::default() }))
    }

    async fn update_aliases(
        &self,
        request: Request<ChangeAliases>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let mut content = self.content();
        for operation in request.into_inner().actions {
            let Some(Action::CreateAlias(alias)) = operation.action else {
                return Err(unknown("renaming and deleting aliases"));
            };
            content.collection(&alias.collection_name)?;
            content.aliases.insert(alias.alias_name, alias.collection_name);
        }
        done()
    }

    async fn list_aliases(&self, _: Request<ListAliasesRequest>) -> Result<Response<ListAliasesResponse>, Status> {
        let content = self.content();
        let aliases = content.aliases.iter().map(|(alias, collection)| AliasDescription {
            alias_name: alias.clone(),
            collection_name: collection.clone(),
        });
        Ok(Response::new(ListAliasesResponse { aliases: aliases.collect(), ..Default::default() }))
    }

    async fn update(
        &self,
        request: Request<qdrant::UpdateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let mut request = request.into_inner();
        let name = std::mem::take(&mut request.collection_name);
        let metadata = std::mem::take(&mut request.metadata);
        nothing_else(request)?;
        self.content().collection(&name)?.metadata.extend(metadata);
        done()
    }

    unanswered! {
        list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse,
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse,
        collection_exists(CollectionExistsRequest) -> CollectionExistsResponse,
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse,
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse,
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse,
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse,
    }
}

#[tonic::async_trait]
impl Points for Service {
    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = request.into_inner();
        insist(request.wait == Some(true), "an index that is not waited for")?;
        insist(request.field_type.is_some(), "an index without a type")?;
        self.content().collection(&request.collection_name)?.indexed.insert(request.field_name);
        completed()
    }

    async fn upsert(&self, request: Request<UpsertPoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let mut request = request.into_inner();
        let name = std::mem::take(&mut request.collection_name);
        let points = std::mem::take(&mut request.points);
        insist(request.wait.take() == Some(true), "a write that is not waited for")?;
        nothing_else(request)?;
        let mut content = self.content();
        if let Some(left) = &mut content.upserts_left {
            *left = left.checked_sub(1).ok_or_else(|| Status::internal("the stand-in was told to fail"))?;
        }
        let collection = content.collection(&name)?;
        for PointStruct { id, payload, vectors } in points {
            let Some(PointIdOptions::Uuid(id)) = id.and_then(|id| id.point_id_options) else {
                return Err(unknown("a point id that is not a UUID"));
            };
            let Some(vectors::VectorsOptions::Vectors(named)) = vectors.and_then(|vectors| vectors.vectors_options)
            else {
                return Err(unknown("a vector without a name"));
            };
            let (mut dense, mut sparse) = (HashMap::new(), HashMap::new());
            for (name, Vector { vector, .. }) in named.vectors {
                match vector {
                    Some(vector::Vector::Dense(vector)) => {
                        let vector = collection.normalise(&name, vector.data)?;
                        dense.insert(name, vector);
                    }
                    Some(vector::Vector::Sparse(vector)) if collection.sparse.contains(&name) => {
                        insist(vector.indices.len() == vector.values.len(), "terms without values")?;
                        sparse.insert(name, vector);
                    }
                    _ => return Err(unknown("a vector of this kind and name")),
                }
            }
            collection.points.insert(id, Point { dense, sparse, payload });
        }
        completed()
    }

    async fn count(&self, request: Request<CountPoints>) -> Result<Response<CountResponse>, Status> {
        let mut request = request.into_inner();
        let name = std::mem::take(&mut request.collection_name);
        insist(request.exact.take() == Some(true), "a count that is not exact")?;
        nothing_else(request)?;
        let count = self.content().collection(&name)?.points.len() as u64;
        Ok(Response::new(CountResponse { result: Some(CountResult { count }), ..Default::default() }))
    }

    async fn delete(&self, request: Request<DeletePoints>) -> Result<Response<PointsOperationResponse>, Status> {
        let mut request = request.into_inner();
        let name = std::mem::take(&mut request.collection_name);
        insist(request.wait.take() == Some(true), "a removal that is not waited for")?;
        let selected = request.points.take().and_then(|points| points.points_selector_one_of);
        let Some(PointsSelectorOneOf::Filter(filter)) = selected else {
            return Err(unknown("a removal of other points than a filter selects"));
        };
        nothing_else(request)?;
        let mut content = self.content();
        let collection = content.collection(&name)?;
        let gone: Vec<String> = collection.passing(Some(filter))?.map(|(id, _)| id.clone()).collect();
        collection.points.retain(|id, _| !gone.contains(id));
        completed()
    }

    async fn scroll(&self, request: Request<ScrollPoints>) -> Result<Response<ScrollResponse>, Status> {
        let mut request = request.into_inner();
        let name = std::mem::take(&mut request.collection_name);
        let (filter, limit) = (request.filter.take(), request.limit.take().unwrap_or(10) as usize);
        let with_payload = request.with_payload.take().and_then(|payload| payload.selector_options);
        insist(with_payload == Some(SelectorOptions::Enable(true)), "points without payloads")?;
        let with_vectors = request.with_vectors.take().and_then(|vectors| vectors.selector_options);
        let all_vectors = Some(with_vectors_selector::SelectorOptions::Enable(true));
        insist(with_vectors == all_vectors, "points without vectors")?;
        let from = match request.offset.take().and_then(|id| id.point_id_options) {
            Some(PointIdOptions::Uuid(id)) => id,
            None => String::new(),
            _ => return Err(unknown("a point id that is not a UUID")),
        };
        nothing_else(request)?;
        let mut content = self.content();
        let collection = content.collection(&name)?;
        let mut page: Vec<RetrievedPoint> = collection
            .passing(filter)?
            .filter(|(id, _)| **id >= from)
            .take(limit + 1)
            .map(|(id, point)| RetrievedPoint {
                id: Some(PointId::from(id.clone())),
                payload: point.payload.clone(),
                vectors: Some(point.vectors()),
                ..Default::default()
            })
            .collect();
        let next = page.get(limit).and_then(|point| point.id.clone());
        page.truncate(limit);
        Ok(Response::new(ScrollResponse { result: page, next_page_offset: next, ..Default::default() }))
    }

    async fn query(&self, request: Request<QueryPoints>) -> Result<Response<QueryResponse>, Status> {
        let mut request = request.into_inner();
        let name = std::mem::take(&mut request.collection_name);
        let limit = request.limit.take().unwrap_or(10);
        let with_payload = request.with_payload.take().and_then(|payload| payload.selector_options);
        let with_vectors = request.with_vectors.take().and_then(|vectors| vectors.selector_options);
        insist(with_payload == Some(SelectorOptions::Enable(true)), "a query without payloads")?;
        let all_vectors = Some(with_vectors_selector::SelectorOptions::Enable(true));
        insist(with_vectors == all_vectors, "a query without vectors")?;
        // They tune an approximate search; this one is exact.
        request.params = None;
        let (query, using) = (request.query.take(), request.using.take());
        let (filter, prefetches) = (request.filter.take(), std::mem::take(&mut request.prefetch));
        nothing_else(request)?;
        let slow = self.content().slow;
        tokio::time::sleep(slow).await;
        let mut content = self.content();
        let collection = content.collection(&name)?;
        let found: Vec<(&String, f32)> = if prefetches.is_empty() {
            collection.nearest(query, using, filter, limit)?
        } else {
            let Some(query::Variant::Rrf(rrf)) = query.and_then(|query| query.variant) else {
                return Err(unknown("fusing in another way than by reciprocal ranks"));
            };
            let constant = rrf.k.unwrap_or(2);
            let mut fused: BTreeMap<&String, f32> = BTreeMap::new();
            for mut search in prefetches {
                search.params = None;
                let (query, using, filter) = (search.query.take(), search.using.take(), search.filter.take());
                let limit = search.limit.take().unwrap_or(10);
                nothing_else(search)?;
                for (rank, (id, _)) in collection.nearest(query, using, filter, limit)?.into_iter().enumerate() {
                    *fused.entry(id).or_default() += 1.0 / (rank as u32 + constant) as f32;
                }
            }
            let mut fused: Vec<_> = fused.into_iter().collect();
            fused.sort_by(|a, b| b.1.total_cmp(&a.1));
            fused.truncate(limit as usize);
            fused
        };
        let result = found
            .into_iter()
            .map(|(id, score)| {
                let point = &collection.points[id];
                ScoredPoint {
                    id: Some(PointId::from(id.clone())),
                    payload: point.payload.clone(),
                    score,
                    vectors: Some(point.vectors()),
                    ..Default::default()
                }
            })
            .collect();
        Ok(Response::new(QueryResponse { result, ..Default::default() }))
    }

    unanswered! {
        get(GetPoints) -> GetResponse,
        update_vectors(UpdatePointVectors) -> PointsOperationResponse,
        delete_vectors(DeletePointVectors) -> PointsOperationResponse,
        set_payload(SetPayloadPoints) -> PointsOperationResponse,
        overwrite_payload(SetPayloadPoints) -> PointsOperationResponse,
        delete_payload(DeletePayloadPoints) -> PointsOperationResponse,
        clear_payload(ClearPayloadPoints) -> PointsOperationResponse,
        delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse,
        create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse,
        delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse,
        search(SearchPoints) -> SearchResponse,
        search_batch(SearchBatchPoints) -> SearchBatchResponse,
        search_groups(SearchPointGroups) -> SearchGroupsResponse,
        recommend(RecommendPoints) -> RecommendResponse,
        recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse,
        recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse,
        discover(DiscoverPoints) -> DiscoverResponse,
        discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse,
        update_batch(UpdateBatchPoints) -> UpdateBatchResponse,
        query_batch(QueryBatchPoints) -> QueryBatchResponse,
        query_groups(QueryPointGroups) -> QueryGroupsResponse,
        facet(FacetCounts) -> FacetResponse,
        search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse,
        search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse,
    }
}
