//! The chat page at `/`: files of our own inside the program, nothing from elsewhere.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::AppState;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", include_str!("../../page/index.html"))))
        .route("/page/base.css", get(async || file("text/css; charset=utf-8", include_str!("../../page/base.css"))))
        .route("/page/chat.css", get(async || file("text/css; charset=utf-8", include_str!("../../page/chat.css"))))
        .route(
            "/page/chat.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../../page/chat.js"))),
        )
        .route(
            "/page/live.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../../page/live.js"))),
        )
        .route(
            "/page/attach.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("../../page/attach.js"))),
        )
        .route("/favicon.ico", get(async || file("image/svg+xml", include_str!("../../page/icon.svg"))))
}

/// A file of ours, with what the browser may do with it.
pub(super) fn file(kind: &'static str, text: impl Into<Body>) -> Response {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        // The files change with the program; the browser asks each time.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, text.into()).into_response()
}
