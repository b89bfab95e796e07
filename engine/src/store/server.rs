//! Replies at a Qdrant server or cluster, over gRPC.
//!
//! The configured name is an alias. A replacement fills a new collection and then points the alias at it, so searches see the
//! old content or the new one and never half of either. What the content was made of stands in the collection's metadata
//! (Qdrant 1.16 or newer).

use std::{collections::HashMap, time::Duration};

use qdrant_client::{
    Qdrant, QdrantError,
    qdrant::{
        Condition, CountPointsBuilder, CreateAliasBuilder, CreateCollectionBuilder, CreateFieldIndexCollectionBuilder,
        Distance, FieldType, Filter, Modifier, NamedVectors, PointStruct, PrefetchQueryBuilder,
        QuantizationSearchParamsBuilder, QuantizationType, Query, QueryPoints, QueryPointsBuilder, Range, RrfBuilder,
        ScalarQuantizationBuilder, ScoredPoint, SearchParamsBuilder, SparseVectorParamsBuilder,
        SparseVectorsConfigBuilder, UpdateCollectionBuilder, UpsertPointsBuilder, Vector, VectorInput,
        VectorParamsBuilder, VectorsConfigBuilder, vector_output,
    },
};

use super::{
    BEAM, CHUNK, Candidate, Contents, DENSE, FUSION, Found, INTEGER_FIELDS, KEYWORD_FIELDS, Method, OVERSAMPLING,
    POINTS, Payload, QUANTIZED_FROM, ReplyStore, SPARSE, SearchQuery, StoredReply, check_model, cosine, group,
    point_id,
};
use crate::{EngineError, ranking::Tuning, terms::Terms};

/// Replies at a server.
pub struct ServerStore {
    client: Qdrant,
    url: String,
    alias: String,
}

impl ServerStore {
    /// Connects to the server at `url`.
    ///
    /// # Errors
    /// When the address is malformed, the server cannot be reached, or it does not take the key.
    pub async fn open(url: &str, api_key: Option<&str>, alias: &str) -> Result<Self, EngineError> {
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
        Ok(Self { client, url: url.to_owned(), alias: alias.to_owned() })
    }

    fn failed(&self, doing: &str) -> impl Fn(QdrantError) -> EngineError {
        let store = format!("at {}", self.url);
        let doing = doing.to_owned();
        move |error| EngineError::Store { store: store.clone(), message: format!("{doing} failed: {}", short(&error)) }
    }

    /// The collection behind the alias.
    async fn current(&self) -> Result<Option<String>, EngineError> {
        let aliases = self.client.list_aliases().await.map_err(self.failed("listing aliases"))?.aliases;
        Ok(aliases.into_iter().find(|alias| alias.alias_name == self.alias).map(|alias| alias.collection_name))
    }

    fn found(&self, point: ScoredPoint, query: &SearchQuery, model_id: &str) -> Result<(Payload, Found), EngineError> {
        let damaged = |what: String| EngineError::Store { store: format!("at {}", self.url), message: what };
        let vectors = point.vectors.unwrap_or_default();
        let payload: serde_json::Value =
            point.payload.into_iter().map(|(key, value)| (key, serde_json::Value::from(value))).collect();
        let payload: Payload =
            serde_json::from_value(payload).map_err(|error| damaged(format!("a payload is damaged: {error}")))?;
        if payload.model_id != model_id {
            return Err(EngineError::StoreOfAnotherModel {
                store: self.describe(),
                found: payload.model_id,
                wanted: model_id.to_owned(),
            });
        }
        let Some(vector_output::Vector::Dense(embedding)) = vectors.get_vector_by_name(DENSE) else {
            return Err(damaged(format!("a point came without its vector `{DENSE}`")));
        };
        let terms = match vectors.get_vector_by_name(SPARSE) {
            Some(vector_output::Vector::Sparse(terms)) => terms.indices,
            _ => Vec::new(),
        };
        let text = payload.wording.clone();
        let cosine = cosine(&embedding.data, &query.embedding);
        Ok((payload, Found { text, cosine, score: point.score, terms }))
    }

    async fn fill(&self, collection: &str, contents: &Contents, replies: &[StoredReply]) -> Result<(), EngineError> {
        let mut vectors = VectorsConfigBuilder::default();
        let mut dense = VectorParamsBuilder::new(contents.dimension as u64, Distance::Cosine);
        if replies.len() >= QUANTIZED_FROM {
            let scalar =
                ScalarQuantizationBuilder::default().r#type(QuantizationType::Int8.into()).always_ram(true).build();
            dense = dense.quantization_config(scalar).on_disk(true);
        }
        vectors.add_named_vector_params(DENSE, dense);
        let mut words = SparseVectorsConfigBuilder::default();
        words.add_named_vector_params(SPARSE, SparseVectorParamsBuilder::default().modifier(Modifier::Idf));
        self.client
            .create_collection(
                CreateCollectionBuilder::new(collection)
                    .vectors_config(vectors)
                    .sparse_vectors_config(words)
                    .metadata(metadata(contents)),
            )
            .await
            .map_err(self.failed("making a collection"))?;
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
        for chunk in replies.chunks(CHUNK) {
            let points = chunk
                .iter()
                .map(|reply| {
                    let payload = Payload::new(reply, &contents.model_id)?;
                    let payload = serde_json::to_value(payload).expect("plain data is always JSON");
                    let payload = qdrant_client::Payload::try_from(payload).map_err(self.failed("writing"))?;
                    let mut vectors =
                        NamedVectors::default().add_vector(DENSE, Vector::new_dense(reply.embedding.clone()));
                    // A wording of signs alone has no terms.
                    if !reply.terms.indices.is_empty() {
                        let Terms { indices, values } = reply.terms.clone();
                        vectors = vectors.add_vector(SPARSE, Vector::new_sparse(indices, values));
                    }
                    Ok(PointStruct::new(point_id(reply).to_string(), vectors, payload))
                })
                .collect::<Result<Vec<_>, EngineError>>()?;
            self.client
                .upsert_points(UpsertPointsBuilder::new(collection, points).wait(true))
                .await
                .map_err(self.failed("writing"))?;
        }
        let counted = self
            .client
            .count(CountPointsBuilder::new(collection).exact(true))
            .await
            .map_err(self.failed("counting"))?
            .result
            .map_or(0, |result| result.count);
        if counted as usize != replies.len() {
            return Err(EngineError::Store {
                store: format!("at {}", self.url),
                message: format!(
                    "{} wordings were written and {counted} are there; look at the server's log",
                    replies.len()
                ),
            });
        }
        Ok(())
    }
}

impl ReplyStore for ServerStore {
    fn describe(&self) -> String {
        format!("{} ({})", self.url, self.alias)
    }

    async fn contents(&self) -> Result<Option<Contents>, EngineError> {
        let Some(collection) = self.current().await? else { return Ok(None) };
        let info = self.client.collection_info(collection).await.map_err(self.failed("reading the collection"))?;
        let metadata = info.result.and_then(|info| info.config).map(|config| config.metadata).unwrap_or_default();
        let metadata: serde_json::Value =
            metadata.into_iter().map(|(key, value)| (key, serde_json::Value::from(value))).collect();
        serde_json::from_value(metadata).map(Some).map_err(|error| EngineError::Store {
            store: format!("at {}", self.url),
            message: format!(
                "the collection behind {} was not made by yingda ({error}); choose another name for ours",
                self.alias
            ),
        })
    }

    async fn replace(&self, contents: Contents, replies: Vec<StoredReply>) -> Result<(), EngineError> {
        let old = self.current().await?;
        let collection = format!("{}-{}", self.alias, uuid::Uuid::now_v7());
        if let Err(error) = self.fill(&collection, &contents, &replies).await {
            // The old content goes on being served; what was half-written is of no use.
            let _ = self.client.delete_collection(&collection).await;
            return Err(error);
        }
        self.client
            .create_alias(CreateAliasBuilder::new(&collection, &self.alias))
            .await
            .map_err(self.failed("switching to the new collection"))?;
        if let Some(old) = old {
            self.client.delete_collection(&old).await.map_err(self.failed("removing the old collection"))?;
        }
        Ok(())
    }

    async fn search(
        &self,
        model_id: &str,
        query: &SearchQuery,
        entries: usize,
        day: i64,
    ) -> Result<Vec<Candidate>, EngineError> {
        let mut points = POINTS.max(entries);
        loop {
            let Some(request) = request(&self.alias, query, points, day) else { return Ok(Vec::new()) };
            let ask = || self.client.query(request.clone());
            let points_found = match ask().await {
                Ok(found) => found.result,
                // Nothing is indexed yet, or the alias was moved to a new collection meanwhile.
                Err(_) if self.current().await?.is_none() => return Ok(Vec::new()),
                Err(_) => ask().await.map_err(self.failed("the search"))?.result,
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

    async fn keep_tuning(&self, tuning: Tuning) -> Result<(), EngineError> {
        let (Some(collection), Some(contents)) = (self.current().await?, self.contents().await?) else {
            return Err(EngineError::Store {
                store: format!("at {}", self.url),
                message: "it is empty; fill it first with `yingda index FILE`".into(),
            });
        };
        let contents = Contents { tuning: Some(tuning), ..contents };
        self.client
            .update_collection(UpdateCollectionBuilder::new(collection).metadata(metadata(&contents)))
            .await
            .map_err(self.failed("keeping the tuning"))?;
        Ok(())
    }

    async fn refresh(&self, model_id: &str) -> Result<(), EngineError> {
        // The alias is looked up by the server at every search, so there is only the model to look at.
        check_model(self, self.contents().await?.as_ref(), model_id)
    }
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

/// What a store is asked; `None` when there is nothing to ask by.
fn request(alias: &str, query: &SearchQuery, points: usize, day: i64) -> Option<QueryPoints> {
    let day = Some(day as f64);
    let filter = Filter::must([
        Condition::range("valid_from", Range { lte: day, ..Range::default() }),
        Condition::range("valid_to", Range { gte: day, ..Range::default() }),
    ]);
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
    if query.method != Method::Dense && !query.terms.indices.is_empty() {
        let Terms { indices, values } = query.terms.clone();
        searches.push((VectorInput::new_sparse(indices, values), SPARSE));
    }
    let request =
        QueryPointsBuilder::new(alias).limit((points * searches.len()) as u64).with_payload(true).with_vectors(true);
    let request = match searches.len() {
        0 => return None,
        1 => {
            let (vector, name) = searches.pop()?;
            request.query(Query::new_nearest(vector)).using(name).filter(filter).params(params)
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
