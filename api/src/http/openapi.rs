//! All routes that are in the API description, the description itself at `/openapi.json`, and its page at `/docs`.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use utoipa::openapi::PathItem;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::{
    AppState, admin, agents, alerts, attachments, chat, health, knowledge, live, login, organisations, reports, search,
    sessions, surveys, tickets, tuning, understand, users, webhooks,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Yingda 应答",
        description = "Reads a Chinese customer's message once and answers, asks, or hands over to a person. \
                       All errors have one form: {\"error\": {\"code\", \"message\", \"hint\"}}."
    ),
    tags(
        (name = "chat", description = "Messages and sessions (role caller)"),
        (name = "tickets", description = "Sessions that people answer (role agent)"),
        (name = "reports", description = "How the desk stands (role agent), and reports (role supervisor)"),
        (name = "knowledge", description = "What the knowledge holds and lacks (role agent), and what of it is served (publish and roll back: role admin)"),
        (name = "admin", description = "Model and keys (role admin)"),
        (name = "people", description = "Accounts (role admin), and logging in with one"),
        (name = "outgoing", description = "Webhooks that are told of tickets (role admin)"),
        (name = "operation", description = "Probes and numbers (no key)"),
    ),
    // Frames to us are in no request body.
    components(schemas(live::LiveRequest)),
    modifiers(&Schemes)
)]
struct ApiDoc;

/// The two ways to say who one is.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key made with `yingda keys create`: `yd_...`"))
            .build();
        let cookie = ApiKeyValue::with_description(
            login::COOKIE,
            "The cookie of `POST /v1/login`. Every method but GET and HEAD also wants the header `X-CSRF-Token`.",
        );
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(key));
        components.add_security_scheme("login", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
    }
}

/// Wherever a key is accepted, a login is.
fn accept_logins(path: &mut PathItem) {
    let PathItem { get, put, post, delete, patch, .. } = path;
    let key = SecurityRequirement::new::<_, [&str; 0], &str>("api_key", []);
    for operation in [get, put, post, delete, patch].into_iter().flatten() {
        if let Some(accepted) = &mut operation.security
            && accepted.contains(&key)
        {
            accepted.push(SecurityRequirement::new::<_, [&str; 0], &str>("login", []));
        }
    }
}

/// The routes and their description. `largest_file` in bytes.
pub(super) fn routes(largest_file: usize) -> (Router<AppState>, utoipa::openapi::OpenApi) {
    let (routes, mut api) = OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(chat::chat))
        .routes(routes!(live::live))
        .routes(routes!(understand::understand))
        .routes(routes!(search::search))
        .routes(routes!(sessions::session))
        .routes(routes!(tickets::list, tickets::open::open))
        .routes(routes!(tickets::search::search))
        .routes(routes!(tickets::read, tickets::remarks::amend))
        .routes(routes!(tickets::assist::assist))
        .routes(routes!(tickets::moves::take))
        .routes(routes!(tickets::moves::assign))
        .routes(routes!(tickets::moves::transfer))
        .routes(routes!(tickets::moves::put_back))
        .routes(routes!(tickets::moves::reply))
        .routes(routes!(tickets::moves::wait))
        .routes(routes!(tickets::moves::resolve))
        .routes(routes!(tickets::moves::close))
        .routes(routes!(tickets::moves::reopen))
        .routes(routes!(tickets::moves::merge))
        .routes(routes!(tickets::remarks::note))
        .routes(routes!(tickets::remarks::link))
        .routes(routes!(tickets::remarks::rate))
        .routes(routes!(tickets::remarks::corrections))
        .routes(routes!(surveys::answer))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(tickets::shares::share))
        .routes(routes!(tickets::shares::take_back))
        .routes(routes!(organisations::list, organisations::create))
        .routes(routes!(organisations::change))
        .routes(routes!(attachments::of_customer).layer(DefaultBodyLimit::max(largest_file)))
        .routes(routes!(attachments::of_agent).layer(DefaultBodyLimit::max(largest_file)))
        .routes(routes!(attachments::for_customer))
        .routes(routes!(attachments::for_agent))
        .routes(routes!(reports::board))
        .routes(routes!(reports::summary))
        .routes(routes!(reports::report))
        .routes(routes!(agents::list))
        .routes(routes!(agents::put, agents::remove))
        .routes(routes!(agents::presence))
        .routes(routes!(tuning::read, tuning::put))
        .routes(routes!(knowledge::gaps::gaps))
        .routes(routes!(knowledge::entries::list))
        .routes(routes!(knowledge::entries::read, knowledge::entries::save, knowledge::entries::remove))
        .routes(routes!(knowledge::entries::discard))
        .routes(routes!(knowledge::entries::history))
        .routes(routes!(knowledge::files::import).layer(DefaultBodyLimit::max(knowledge::files::MAX_FILE)))
        .routes(routes!(knowledge::files::export))
        .routes(routes!(knowledge::releases::releases))
        .routes(routes!(knowledge::releases::release))
        .routes(routes!(knowledge::releases::publish))
        .routes(routes!(knowledge::releases::rollback))
        .routes(routes!(admin::reload))
        .routes(routes!(admin::keys, admin::create_key))
        .routes(routes!(admin::revoke_key))
        .routes(routes!(login::log_in))
        .routes(routes!(login::log_out))
        .routes(routes!(login::me))
        .routes(routes!(login::change_password))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::change))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::change, webhooks::remove))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::retry))
        .routes(routes!(webhooks::retry_dead))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::prometheus))
        .split_for_parts();
    api.paths.paths.values_mut().for_each(accept_logins);
    (routes, api)
}

/// The description as a file and as a page.
pub(super) fn pages(api: utoipa::openapi::OpenApi) -> Router<AppState> {
    SwaggerUi::new("/docs").url("/openapi.json", api).into()
}
