//! `/v1/login`, `/v1/logout`, `/v1/me`: a person's browser, and its cookie.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cookie::{Cookie, SameSite};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::AppState;
use super::extract::{ApiJson, Person, Visitor};
use super::organisations::OrganisationBody;
use super::users::UserBody;
use crate::auth::{IdentityKind, Role};
use crate::error::{ApiError, ErrorBody};
use crate::storage::{Login, now};
use crate::users::{LONGEST, LoggedIn, UserError};

/// Name of the cookie.
pub(super) const COOKIE: &str = "yingda_session";
const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The cookie of a request.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok)
        .find(|cookie| cookie.name() == COOKIE)
        .map(|cookie| cookie.value().to_owned())
}

/// A page of another site can make a browser send its cookie, but cannot read the token that must come along.
pub(super) fn check_csrf(method: &Method, headers: &HeaderMap, login: &Login) -> Result<(), ApiError> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let token = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
    if token.ct_eq(login.csrf_token.as_bytes()).into() { Ok(()) } else { Err(ApiError::Csrf) }
}

/// Whether the browser came by https, as far as we are told.
fn is_https(state: &AppState, headers: &HeaderMap) -> bool {
    let forwarded = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let outermost = forwarded.split(',').next().unwrap_or_default();
    state.0.config.https || outermost.trim().eq_ignore_ascii_case("https")
}

/// What makes a browser keep a cookie for some milliseconds; 0 makes it forget it.
fn set_cookie(token: &str, secure: bool, milliseconds: i64) -> Result<HeaderValue, ApiError> {
    let cookie = Cookie::build((COOKIE, token))
        .http_only(true)
        .same_site(SameSite::Strict)
        .path("/")
        .secure(secure)
        .max_age(cookie::time::Duration::milliseconds(milliseconds));
    HeaderValue::from_str(&cookie.to_string()).map_err(|error| ApiError::Internal(error.to_string()))
}

/// Where a request comes from, if it came through a socket.
pub(super) struct ClientAddress(Option<IpAddr>);

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical());
        Ok(Self(peer.map(|peer| behind_proxy(&parts.headers, peer))))
    }
}

/// A peer of this machine or network is taken for a proxy, which says last in its header who came to it.
fn behind_proxy(headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let inside = match peer {
        IpAddr::V4(peer) => peer.is_loopback() || peer.is_private(),
        IpAddr::V6(peer) => peer.is_loopback() || peer.is_unique_local(),
    };
    let last = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
    let client = last.and_then(|value| value.rsplit(',').next()).and_then(|address| address.trim().parse().ok());
    client.filter(|_| inside).unwrap_or(peer)
}

/// Who logs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginRequest {
    /// The login name.
    #[schema(example = "xiaowang")]
    login: String,
    /// The password.
    password: String,
}

/// Who is logged in now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginBody {
    /// The person.
    user: UserBody,
    /// What must stand in the header `X-CSRF-Token` of every request but GET and HEAD.
    csrf_token: String,
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeBody {
    /// How they are known.
    kind: IdentityKind,
    /// Name of the key, or the person's display name.
    name: String,
    /// What they may do.
    role: Role,
    /// The person, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserBody>,
    /// The organisation outside the house to which they belong: they see only what is shared with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    organisation: Option<OrganisationBody>,
    /// What must stand in the header `X-CSRF-Token` of every request but GET and HEAD, where the cookie is the only proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf_token: Option<String>,
}

/// A new password of one's own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordRequest {
    /// The password so far.
    old_password: String,
    /// The new one: at least 10 characters, at most 256 bytes, not the login name.
    new_password: String,
}

fn logged_in(state: &AppState, headers: &HeaderMap, logged_in: LoggedIn) -> Result<Response, ApiError> {
    let cookie = set_cookie(&logged_in.token, is_https(state, headers), LONGEST)?;
    let body = LoginBody { user: logged_in.user.into(), csrf_token: logged_in.csrf_token };
    let headers = [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Json(body)).into_response())
}

/// Log in
///
/// Sets the cookie `yingda_session`, which is accepted wherever a key is. It ends 12 hours after the last request, and 7 days after
/// this one. Five wrong passwords within 15 minutes lock the login name for 15 minutes.
#[utoipa::path(
    post, path = "/v1/login", tag = "people", request_body = LoginRequest,
    responses(
        (status = 200, description = "Logged in", body = LoginBody),
        (status = 401, description = "Login name or password is wrong", body = ErrorBody),
        (status = 403, description = "The account is disabled", body = ErrorBody),
        (status = 429, description = "Locked, or too many tries; see Retry-After", body = ErrorBody),
    )
)]
pub(super) async fn log_in(
    State(state): State<AppState>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    ApiJson(request): ApiJson<LoginRequest>,
) -> Result<Response, ApiError> {
    let at = now();
    if let Some(address) = address {
        let too_often = |milliseconds: i64| ApiError::LoginTooOften { seconds: (milliseconds + 999) / 1000 };
        state.0.addresses.count(address, at).map_err(too_often)?;
    }
    let found = state.0.users.log_in(&request.login, &request.password, at).await?;
    if let Some(address) = address {
        state.0.addresses.forgive(address);
    }
    // A browser has one login: the one before can be used by nobody any more.
    if let Some(token) = token(&headers) {
        state.0.users.log_out(&token).await?;
    }
    logged_in(&state, &headers, found)
}

/// Log out
///
/// The cookie is worth nothing any more. Without one, or with one that has expired, nothing happens.
#[utoipa::path(
    post, path = "/v1/logout", tag = "people",
    responses(
        (status = 204, description = "Logged out"),
        (status = 403, description = "X-CSRF-Token is missing or wrong", body = ErrorBody),
    )
)]
pub(super) async fn log_out(
    State(state): State<AppState>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if let Some(token) = token(&headers) {
        if let Some(login) = state.0.users.logged_in(&token, now()).await? {
            check_csrf(&method, &headers, &login)?;
        }
        state.0.users.log_out(&token).await?;
    }
    let cookie = set_cookie("", is_https(&state, &headers), 0)?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Who am I
///
/// For a page that was loaded anew: who is logged in, and the CSRF token. A key is told its name and role.
#[utoipa::path(
    get, path = "/v1/me", tag = "people", security(("api_key" = [])),
    responses(
        (status = 200, description = "Who asks", body = MeBody),
        (status = 401, description = "Nobody, or not any more", body = ErrorBody),
    )
)]
pub(super) async fn me(State(state): State<AppState>, visitor: Visitor) -> Result<Response, ApiError> {
    let Visitor { identity, login } = visitor;
    let organisation = match &identity.organisation {
        Some(id) => state.0.storage.organisation(id).await?.map(OrganisationBody::from),
        None => None,
    };
    let (user, csrf_token) = login.map(|login| (login.user.into(), login.csrf_token)).unzip();
    let body = MeBody { kind: identity.kind, name: identity.name, role: identity.role, user, organisation, csrf_token };
    Ok(([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(body)).into_response())
}

/// Change one's own password
///
/// Logs the person out everywhere and in anew here: with a new cookie and a new CSRF token. A wrong old password counts as a wrong
/// log-in does.
#[utoipa::path(
    post, path = "/v1/me/password", tag = "people", request_body = PasswordRequest, security(("login" = [])),
    responses(
        (status = 200, description = "Changed", body = LoginBody),
        (status = 403, description = "A key, or X-CSRF-Token is missing or wrong", body = ErrorBody),
        (status = 422, description = "The old password is wrong or the new one cannot be used", body = ErrorBody),
        (status = 429, description = "Locked; see Retry-After", body = ErrorBody),
    )
)]
pub(super) async fn change_password(
    State(state): State<AppState>,
    Person(login): Person,
    headers: HeaderMap,
    ApiJson(request): ApiJson<PasswordRequest>,
) -> Result<Response, ApiError> {
    let PasswordRequest { old_password, new_password } = request;
    let changed = state.0.users.change_password(&login.user.login, &old_password, &new_password, now()).await;
    let changed = changed.map_err(|error| match error {
        UserError::WrongLogin => ApiError::field("old_password", "不正确"),
        error => match ApiError::from(error) {
            ApiError::InvalidField { problem, .. } => ApiError::field("new_password", problem),
            error => error,
        },
    })?;
    logged_in(&state, &headers, changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        for (lines, wanted) in [
            (vec![], None),
            (vec![("cookie", "a=1; yingda_session=t0; b=2")], Some("t0")),
            (vec![("cookie", "a=1"), ("cookie", "yingda_session=t1")], Some("t1")),
            (vec![("cookie", "yingda_sessions=t; my_yingda_session=t")], None),
            (vec![("cookie", "yingda_session")], None),
            (vec![("cookie", ";;=; =x; yingda_session=\"")], Some("\"")),
        ] {
            assert_eq!(token(&headers(&lines)).as_deref(), wanted, "{lines:?}");
        }
    }

    #[test]
    fn only_a_proxy_of_ours_says_where_somebody_comes_from() {
        let client: IpAddr = "203.0.113.7".parse().unwrap();
        let forged = headers(&[("x-forwarded-for", "10.1.1.1, 203.0.113.7")]);
        for proxy in ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "::1", "fd00::1"] {
            assert_eq!(behind_proxy(&forged, proxy.parse().unwrap()), client, "{proxy}");
        }
        let stranger: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(behind_proxy(&forged, stranger), stranger);
        let proxy: IpAddr = "127.0.0.1".parse().unwrap();
        for unreadable in [headers(&[]), headers(&[("x-forwarded-for", "203.0.113.7, unknown")])] {
            assert_eq!(behind_proxy(&unreadable, proxy), proxy);
        }
    }

    #[test]
    fn the_cookie_is_kept_from_scripts_and_other_sites() {
        let cookie = |secure| set_cookie("t", secure, LONGEST).unwrap().to_str().unwrap().to_owned();
        assert_eq!(cookie(false), "yingda_session=t; HttpOnly; SameSite=Strict; Path=/; Max-Age=604800");
        assert!(cookie(true).contains("; Secure"));
        assert!(set_cookie("", false, 0).unwrap().to_str().unwrap().ends_with("Max-Age=0"));
    }
}
