//! The agents' console at `/console`: files of our own inside the program, nothing from elsewhere.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::AppState;
use super::page::file;
use crate::error::ApiError;

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! console_files {
    ($($name:literal: $kind:expr),+ $(,)?) => {
        [$(($name, $kind, include_str!(concat!("../../console/", $name)))),+]
    };
}

/// Name, type and content of every file but the page itself.
const FILES: [(&str, &str, &str); 31] = console_files! {
    "console.css": "text/css; charset=utf-8",
    "actions.js": SCRIPT,
    "alerts.js": SCRIPT,
    "api.js": SCRIPT,
    "apikeys.js": SCRIPT,
    "assist.js": SCRIPT,
    "attachments.js": SCRIPT,
    "board.js": SCRIPT,
    "details.js": SCRIPT,
    "dialog.js": SCRIPT,
    "dom.js": SCRIPT,
    "keys.js": SCRIPT,
    "knowledge.js": SCRIPT,
    "live.js": SCRIPT,
    "login.js": SCRIPT,
    "main.js": SCRIPT,
    "notice.js": SCRIPT,
    "poll.js": SCRIPT,
    "queue.js": SCRIPT,
    "releases.js": SCRIPT,
    "reports.js": SCRIPT,
    "rules.js": SCRIPT,
    "search.js": SCRIPT,
    "settings.js": SCRIPT,
    "sharing.js": SCRIPT,
    "team.js": SCRIPT,
    "ticket.js": SCRIPT,
    "timeline.js": SCRIPT,
    "users.js": SCRIPT,
    "webhooks.js": SCRIPT,
    "words.js": SCRIPT,
};

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/console", get(async || page())).route(
        "/console/{name}",
        get(async |Path(name): Path<String>| {
            let found = FILES.iter().find(|(known, ..)| *known == name);
            found.map_or_else(|| ApiError::RouteNotFound.into_response(), |(_, kind, text)| file(kind, *text))
        }),
    )
}

fn page() -> Response {
    file("text/html; charset=utf-8", include_str!("../../console/index.html"))
}
