//! What handlers are given: bodies, paths, queries and who is calling, each with errors in our form.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;

use super::{AppState, login};
use crate::auth::{self, Identity, Role};
use crate::error::ApiError;
use crate::storage::{Login, now};

/// A JSON body.
pub(super) struct ApiJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<AppState> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        Ok(Self(parse(&body(request, state).await?)?))
    }
}

/// A body of any type.
pub(super) struct ApiBytes(pub(super) Bytes);

impl FromRequest<AppState> for ApiBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        Ok(Self(body(request, state).await?))
    }
}

/// A JSON body that may be left out.
pub(super) struct OptionalJson<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let body = body(request, state).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        if !json {
            return Err(ApiError::UnsupportedMediaType);
        }
        Ok(Self(parse(&body)?))
    }
}

async fn body(request: Request, state: &AppState) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection: BytesRejection| {
        if rejection.into_response().status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::BodyTooLarge
        } else {
            ApiError::InvalidJson("没有收完就断开了".to_owned())
        }
    })
}

/// Also keeps other sites' pages out of a service without keys: a browser asks before it sends this type across sites.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::InvalidJson("不是 UTF-8 编码".to_owned()))?;
    // A byte order mark is what some Windows programs put in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        // A word where a known word must stand is told as a syntax error, although the JSON is good.
        if error.inner().is_syntax() && path != "." && serde_json::from_str::<serde_json::Value>(text).is_ok() {
            return ApiError::InvalidField { field: path, problem: "类型不对".to_owned() };
        }
        wrong(error.inner(), &path)
    })?;
    deserializer.end().map_err(|error| wrong(&error, "."))?;
    Ok(value)
}

fn wrong(error: &serde_json::Error, path: &str) -> ApiError {
    let text = error.to_string();
    match error.classify() {
        serde_json::error::Category::Data => {
            let (field, problem) = field_problem(path, &text);
            ApiError::InvalidField { field, problem }
        }
        serde_json::error::Category::Eof => ApiError::InvalidJson("内容不完整".to_owned()),
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
            let what = if text.contains("surrogate") || text.contains("end of hex escape") {
                "有不成对的 UTF-16 代理项"
            } else if text.contains("recursion limit") {
                "嵌套太深"
            } else if text.contains("control character") {
                "字符串里有未转义的控制字符"
            } else {
                "有语法错误"
            };
            ApiError::InvalidJson(format!("第 {} 行第 {} 列附近{what}", error.line(), error.column()))
        }
    }
}

/// The field that serde complains about, and its complaint in Chinese. No value is repeated.
fn field_problem(path: &str, text: &str) -> (String, String) {
    let quoted = text.split('`').nth(1).unwrap_or_default();
    let inside = |name: &str| if path == "." || path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let here = || if path == "." || path.is_empty() { "（请求体）".to_owned() } else { path.to_owned() };
    if text.starts_with("missing field") {
        return (inside(quoted), "缺失".to_owned());
    }
    if text.starts_with("unknown field") {
        // serde names the unknown field in the path already.
        let field = if path.rsplit('.').next() == Some(quoted) { path.to_owned() } else { inside(quoted) };
        return (field, "无法识别，请检查拼写".to_owned());
    }
    if text.starts_with("duplicate field") {
        return (inside(quoted), "重复出现".to_owned());
    }
    if text.starts_with("unknown variant") {
        let choices: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
        return (here(), format!("取值无效，可用：{}", choices.join("、")));
    }
    let expected = text.split_once("expected ").map_or("", |(_, rest)| rest);
    let expected = expected.split(" at line").next().unwrap_or_default();
    let expected = match expected {
        _ if expected.starts_with("a string") => "字符串",
        _ if expected.starts_with("a boolean") => "布尔值",
        _ if expected.starts_with("a sequence") => "数组",
        _ if expected.starts_with("struct") || expected.starts_with("a map") => "对象",
        _ if expected.contains("enum") || expected.contains("variant") => "规定的字符串之一",
        _ if expected.starts_with('i') || expected.starts_with('u') => "整数",
        _ => "文档规定的类型",
    };
    (here(), format!("类型不对，应为{expected}"))
}

/// One part of the path.
pub(super) struct ApiPath(pub(super) String);

impl FromRequestParts<AppState> for ApiPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Path(value) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| ApiError::InvalidPath)?;
        Ok(Self(value))
    }
}

/// Two parts of the path.
pub(super) struct ApiPaths(pub(super) String, pub(super) String);

impl FromRequestParts<AppState> for ApiPaths {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((first, second)) = path.map_err(|_| ApiError::InvalidPath)?;
        Ok(Self(first, second))
    }
}

/// The query string.
pub(super) struct ApiQuery<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Query(value) = Query::from_request_parts(parts, state).await.map_err(|rejection| {
            let text = rejection.body_text();
            let name = text.split('`').nth(1).unwrap_or_default();
            ApiError::InvalidQuery(if name.is_empty() {
                "格式不对".to_owned()
            } else {
                format!("{name} 不可用")
            })
        })?;
        Ok(Self(value))
    }
}

/// A cursor is the id of the last item of a page; anything else is refused.
pub(super) fn cursor(text: Option<String>) -> Result<Option<String>, ApiError> {
    text.map(|text| {
        let id = uuid::Uuid::try_parse(&text).map_err(|_| ApiError::field("cursor", "须为上一页返回的 next_cursor"))?;
        Ok(id.to_string())
    })
    .transpose()
}

/// A whole number of the query, within limits.
pub(super) fn number(name: &str, text: Option<&str>, default: i64, least: i64, most: i64) -> Result<i64, ApiError> {
    let Some(text) = text else { return Ok(default) };
    match text.parse::<i64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(ApiError::field(name, format!("须为 {least} 到 {most} 的整数"))),
    }
}

/// Anybody who may do anything, and the login of their browser where that is how they are known.
pub(super) struct Visitor {
    pub(super) identity: Identity,
    pub(super) login: Option<Login>,
}

impl FromRequestParts<AppState> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        visitor(parts, state, Role::Caller).await
    }
}

/// A person in their browser; a key is none.
pub(super) struct Person(pub(super) Login);

impl FromRequestParts<AppState> for Person {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        visitor(parts, state, Role::Agent).await?.login.map(Self).ok_or(ApiError::LoginNeeded)
    }
}

/// The key of a request. A proxy may ask for a password of its own in the same header: what is no key is none.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(header) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let header = header.to_str().map_err(|_| ApiError::KeyUnknown)?;
    let bearer = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Ok(bearer.map(|(_, key)| key.trim()))
}

/// What somebody shows to be let in.
pub(super) enum Credential {
    /// An API key.
    Key(String),
    /// The cookie of a browser.
    Cookie(String),
}

impl Credential {
    /// What the headers of a request show.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        Ok(match bearer(headers)? {
            Some(key) => Some(Self::Key(key.to_owned())),
            None => login::token(headers).map(Self::Cookie),
        })
    }

    /// Who that is now.
    pub(super) async fn identify(&self, state: &AppState) -> Result<Identity, ApiError> {
        Ok(self.visitor(state).await?.identity)
    }

    async fn visitor(&self, state: &AppState) -> Result<Visitor, ApiError> {
        match self {
            Self::Key(key) => {
                let identity = auth::identify(&state.0.storage, key).await?.ok_or(ApiError::KeyUnknown)?;
                Ok(Visitor { identity, login: None })
            }
            Self::Cookie(token) => {
                let login = state.0.users.logged_in(token, now()).await?.ok_or(ApiError::LoginExpired)?;
                Ok(Visitor { identity: Identity::user(&login.user), login: Some(login) })
            }
        }
    }
}

/// Whoever comes with a role, or a larger one, also from outside the house: only what limits itself may ask for them.
pub(super) async fn visitor(parts: &Parts, state: &AppState, needed: Role) -> Result<Visitor, ApiError> {
    if state.0.config.open {
        return Ok(Visitor { identity: Identity::open(), login: None });
    }
    let credential = Credential::of(&parts.headers)?.ok_or(ApiError::KeyMissing)?;
    let visitor = credential.visitor(state).await?;
    if let Some(login) = &visitor.login {
        login::check_csrf(&parts.method, &parts.headers, login)?;
    }
    if visitor.identity.role < needed { Err(ApiError::Forbidden { needed }) } else { Ok(visitor) }
}

/// Makes an extractor that lets through whoever of the house has a role, or a larger one. People of outside organisations are let
/// through by [`Scoped`](super::scope::Scoped) alone.
macro_rules! role {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub(super) struct $name(#[allow(dead_code, reason = "not every handler asks who it is")] pub(super) Identity);

        impl FromRequestParts<AppState> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
                let identity = visitor(parts, state, Role::$name).await?.identity;
                if identity.organisation.is_some() { Err(ApiError::Outside) } else { Ok(Self(identity)) }
            }
        }
    };
}

role!(
    /// Whoever may send messages.
    Caller
);
role!(
    /// Whoever may work tickets.
    Agent
);
role!(
    /// Whoever may look after agents.
    Supervisor
);
role!(
    /// Whoever may manage the service.
    Admin
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Incoming;

    fn problem(body: &str) -> (String, String) {
        match parse::<Incoming>(body.as_bytes()).unwrap_err() {
            ApiError::InvalidField { field, problem } => (field, problem),
            ApiError::InvalidJson(problem) => ("json".to_owned(), problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_field_is_named() {
        assert_eq!(problem(r#"{"text": "好"}"#), ("session_id".into(), "缺失".into()));
        assert_eq!(problem(r#"{"session_id": 5}"#), ("session_id".into(), "类型不对，应为字符串".into()));
        assert_eq!(problem(r#"{"session_id": "s", "text": ["好"]}"#).0, "text");
        assert_eq!(problem(r#"{"session_id": "s", "messageId": "1"}"#).0, "messageId");
        assert_eq!(problem(r#"{"session_id": "s", "session_id": "s"}"#).0, "session_id");
        let (field, problem_text) = problem(r#"{"session_id": "s", "type": "video"}"#);
        assert_eq!(field, "type");
        assert!(problem_text.contains("voice"), "{problem_text}");
        assert_eq!(problem("[]").0, "（请求体）");
    }

    #[test]
    fn broken_json_says_where() {
        assert_eq!(problem("{\"session_id\": \"s\",}").0, "json");
        assert_eq!(problem("").1, "内容不完整");
        assert!(problem(r#"{"session_id": "s", "text": "\ud800"}"#).1.contains("代理项"));
        assert!(problem(r#"{"session_id": "s", "text": "\ud800abc"}"#).1.contains("代理项"));
        assert!(parse::<Incoming>(b"\xff\xfe").is_err());
        assert!(parse::<Incoming>("\u{feff}{\"session_id\": \"s\", \"text\": \"好\"}".as_bytes()).is_ok());
    }

    #[test]
    fn numbers_have_limits() {
        assert_eq!(number("limit", None, 20, 1, 100).unwrap(), 20);
        assert_eq!(number("limit", Some("7"), 20, 1, 100).unwrap(), 7);
        for bad in ["0", "101", "x", "-1", "", "9999999999999999999"] {
            assert!(number("limit", Some(bad), 20, 1, 100).is_err(), "{bad}");
        }
    }
}
