//! What is asked of a shard, and what comes back, in the shard's own words.

use qdrant_edge::{
    Condition, FieldCondition, Filter, Fusion, Match, NamedQuery, Prefetch, QuantizationSearchParams, QueryEnum,
    QueryRequest, Range, ScoredPoint, ScoringQuery, SearchParams, SparseVector, VectorInternal, VectorStructInternal,
    WithPayloadInterface, WithVector, external::ordered_float::OrderedFloat,
};

use super::{
    super::{
        BEAM, DENSE, FUSION, Found, Method, OVERSAMPLING, SPARSE, SearchQuery, cosine,
        points::{Must, Payload},
    },
    folder::json_path,
};
use crate::terms::Terms;

pub(super) fn filter(must: &[Must]) -> Filter {
    let (mut all, mut none) = (Vec::new(), Vec::new());
    for must in must {
        match must {
            Must::AtMost(field, value) => all.push(range(field, None, Some(*value))),
            Must::AtLeast(field, value) => all.push(range(field, Some(*value), None)),
            Must::AnyOf(field, words) => {
                let any = Match::from(words.clone());
                all.push(Condition::Field(FieldCondition::new_match(json_path(field), any)));
            }
            Must::Not(must) => none.push(Condition::Filter(filter(must))),
        }
    }
    let some = |conditions: Vec<Condition>| (!conditions.is_empty()).then_some(conditions);
    Filter { should: None, min_should: None, must: some(all), must_not: some(none) }
}

pub(super) fn range(field: &str, from: Option<i64>, to: Option<i64>) -> Condition {
    let number = |value: Option<i64>| value.map(|value| OrderedFloat(value as f64));
    let range = Range { gte: number(from), lte: number(to), ..Range::default() };
    Condition::Field(FieldCondition::new_range(json_path(field), range))
}

/// What a store is asked; `None` when there is nothing to ask by.
pub(super) fn request(
    query: &SearchQuery,
    terms: Terms,
    points: usize,
    filter: Option<&Filter>,
) -> Result<Option<QueryRequest>, qdrant_edge::OperationError> {
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
        filter: filter.cloned(),
        score_threshold: None,
    };
    let mut searches = Vec::new();
    if query.method != Method::Sparse {
        searches.push(nearest(VectorInternal::Dense(query.embedding.clone()), DENSE));
    }
    if query.method != Method::Dense && !terms.indices.is_empty() {
        let Terms { indices, values } = terms;
        let terms = SparseVector::new(indices, values)
            .map_err(|error| qdrant_edge::OperationError::validation_error(error.to_string()))?;
        searches.push(nearest(VectorInternal::Sparse(terms), SPARSE));
    }
    let mut request = QueryRequest {
        prefetches: Vec::new(),
        query: None,
        filter: filter.cloned(),
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

pub(super) fn payload(payload: Option<qdrant_edge::Payload>) -> Result<Payload, String> {
    let payload = serde_json::Value::Object(payload.unwrap_or_default().0);
    serde_json::from_value(payload).map_err(|error| format!("a payload is damaged: {error}"))
}

pub(super) fn vectors(vectors: Option<VectorStructInternal>) -> Result<(Vec<f32>, Terms), String> {
    let Some(VectorStructInternal::Named(mut vectors)) = vectors else {
        return Err("a point came without its vectors".into());
    };
    let Some(VectorInternal::Dense(embedding)) = vectors.remove(DENSE) else {
        return Err(format!("a point came without its vector `{DENSE}`"));
    };
    let terms = match vectors.remove(SPARSE) {
        Some(VectorInternal::Sparse(terms)) => Terms { indices: terms.indices, values: terms.values },
        _ => Terms::default(),
    };
    Ok((embedding, terms))
}

pub(super) fn found(point: ScoredPoint, query: &SearchQuery) -> Result<(Payload, Found), String> {
    let payload = payload(point.payload)?;
    let (embedding, terms) = vectors(point.vector)?;
    let text = payload.wording.clone();
    Ok((
        payload,
        Found { text, cosine: cosine(&embedding, &query.embedding), score: point.score, terms: terms.indices },
    ))
}
