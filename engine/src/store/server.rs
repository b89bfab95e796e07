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
        Distance, FieldType, Filter, PointStruct, QueryPointsBuilder, Range, ScoredPoint, UpsertPointsBuilder,
        VectorParamsBuilder,
    },
};

use super::{
    CHUNK, Contents, INTEGER_FIELDS, KEYWORD_FIELDS, POINTS_PER_HIT, Payload, ReplyStore, StoredReply, check_model,
    group, point_id,
};
use crate::{EngineError, Hit};

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

    async fn nearest(&self, embedding: &[f32], points: usize, day: i64) -> Result<Vec<ScoredPoint>, QdrantError> {
        let day = Some(day as f64);
        let filter = Filter::must([
            Condition::range("valid_from", Range { lte: day, ..Range::default() }),
            Condition::range("valid_to", Range { gte: day, ..Range::default() }),
        ]);
        let query = QueryPointsBuilder::new(&self.alias)
            .query(embedding.to_vec())
            .filter(filter)
            .limit(points as u64)
            .with_payload(true);
        Ok(self.client.query(query).await?.result)
    }

    fn hit(&self, point: ScoredPoint, model_id: &str) -> Result<Hit, EngineError> {
        let payload: serde_json::Value =
            point.payload.into_iter().map(|(key, value)| (key, serde_json::Value::from(value))).collect();
        let payload: Payload = serde_json::from_value(payload).map_err(|error| EngineError::Store {
            store: format!("at {}", self.url),
            message: format!("a payload is damaged: {error}"),
        })?;
        if payload.model_id != model_id {
            return Err(EngineError::StoreOfAnotherModel {
                store: self.describe(),
                found: payload.model_id,
                wanted: model_id.to_owned(),
            });
        }
        Ok(payload.into_hit(point.score))
    }

    async fn fill(&self, collection: &str, contents: &Contents, replies: &[StoredReply]) -> Result<(), EngineError> {
        let metadata: HashMap<String, serde_json::Value> = match serde_json::to_value(contents) {
            Ok(serde_json::Value::Object(metadata)) => metadata.into_iter().collect(),
            _ => unreachable!("a struct of plain data is always a JSON object"),
        };
        self.client
            .create_collection(
                CreateCollectionBuilder::new(collection)
                    .vectors_config(VectorParamsBuilder::new(contents.dimension as u64, Distance::Cosine))
                    .metadata(metadata),
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
                    Ok(PointStruct::new(point_id(reply).to_string(), reply.embedding.clone(), payload))
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
        embedding: Vec<f32>,
        limit: usize,
        day: i64,
    ) -> Result<Vec<Hit>, EngineError> {
        let mut points = limit * POINTS_PER_HIT;
        loop {
            let found = match self.nearest(&embedding, points, day).await {
                Ok(found) => found,
                // Nothing is indexed yet, or the alias was moved to a new collection meanwhile.
                Err(_) if self.current().await?.is_none() => return Ok(Vec::new()),
                Err(_) => self.nearest(&embedding, points, day).await.map_err(self.failed("the search"))?,
            };
            let all = found.len() < points;
            let hits = found.into_iter().map(|point| self.hit(point, model_id)).collect::<Result<_, _>>()?;
            let hits = group(hits, limit);
            if all || hits.len() == limit {
                return Ok(hits);
            }
            points *= 4;
        }
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
