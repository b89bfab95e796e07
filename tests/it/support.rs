//! What several tests need.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{LazyLock, Once},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, header},
};
use candle_core::Device;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use yingda::{
    Config,
    auth::{self, Role},
    desk::{Dispatcher, settings::DeskSettings},
    storage::now,
    users::NewUser,
};
use yingda_engine::{AnswerThresholds, KnowledgeEntry};
use yingda_models::{
    BertConfig, HiddenAct, Labels, ModelSettings, MultiTaskModel, Parameters, Pooling, Precision, SENTIMENTS,
    Temperatures, TextTokenizer, Thresholds, character_vocabulary, text::TextContract,
};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The tiny BERT that transformers made, with everything that transformers computed from it.
pub(crate) fn golden() -> PathBuf {
    root().join("tests/golden")
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// All numbers of nested JSON lists, in order.
pub(crate) fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(numbers).collect(),
        serde_json::Value::Number(number) => vec![number.as_f64().unwrap()],
        other => panic!("not a number: {other}"),
    }
}

/// The sample's files.
pub(crate) fn sample(file: &str) -> PathBuf {
    root().join("datasets/data/sample").join(file)
}

// The service.

/// A line that is seen although the test passes.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Thresholds that make decisions predictable whatever a model thinks: what is asked word for word is answered, the rest is
/// asked about once.
pub(crate) const WORD_FOR_WORD: Thresholds = Thresholds { intent_confidence: 1.0, intent_gap: 1.0, negative: 1.0 };

/// Writes a model folder in a moment. Its rankings mean nothing; everything else about it is real.
pub(crate) fn tiny_service_model(folder: &Path) {
    tiny_service_model_of(folder, 1);
}

/// Another seed is another model.
pub(crate) fn tiny_service_model_of(folder: &Path, seed: u64) {
    let labels = Labels {
        intents: ["退货", "物流查询", "转人工", "投诉", "问候", "out_of_scope"].map(str::to_owned).to_vec(),
        sentiments: SENTIMENTS.map(str::to_owned).to_vec(),
    };
    let vocabulary = character_vocabulary(["我的快递到哪了", "想退货，怎么操作", "你好"]);
    let config = BertConfig {
        vocab_size: vocabulary.len(),
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
        hidden_act: HiddenAct::Gelu,
        max_position_embeddings: 64,
        type_vocab_size: 2,
        ..BertConfig::default()
    };
    let settings = ModelSettings {
        context_turns: 0,
        serving: Default::default(),
        format: 1,
        labels,
        pooling: Pooling::Mean,
        max_tokens: 64,
        text: TextContract::default(),
        temperatures: Temperatures::default(),
        thresholds: WORD_FOR_WORD,
        guarantee: None,
        folded: None,
        data_fingerprint: "none".to_owned(),
        created_by: "tests".to_owned(),
    };
    let tokenizer = TextTokenizer::from_vocabulary(&vocabulary, settings.text.clone(), settings.max_tokens).unwrap();
    let parameters = Parameters::fresh(seed, 0.02, &Device::Cpu);
    let (model, _) = MultiTaskModel::new(parameters, &config, &settings.labels, &Device::Cpu).unwrap();
    model.save(folder, &tokenizer, &settings, "A model for tests.\n", Precision::F32).unwrap();
}

/// The folder of [`tiny_service_model`], made once.
pub(crate) fn tiny_model() -> PathBuf {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        tiny_service_model(&folder.path().join("tiny"));
        folder
    });
    FOLDER.path().join("tiny")
}

/// Three things that the shop knows.
pub(crate) fn knowledge() -> Vec<KnowledgeEntry> {
    let entry = |id: &str, question: &str, answer: &str, intent: &str| KnowledgeEntry {
        id: id.into(),
        question: question.into(),
        answer: answer.into(),
        intent: Some(intent.into()),
        ..KnowledgeEntry::default()
    };
    vec![
        entry("k-return", "怎么申请退货？", "在订单里点「申请售后」就可以退货。", "退货"),
        entry("k-track", "我的快递到哪里了？", "在订单里点「查看物流」就能看到。", "物流查询"),
        entry("k-hello", "你好", "您好，请问有什么可以帮您？", "问候"),
    ]
}

/// What came back for a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The JSON of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of an error, after a look at its whole form.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        assert!(self.status >= 400, "a success: {}", self.text());
        let kind = self.headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        assert_eq!(kind.as_deref(), Some("application/json"), "{} {}", self.status, self.text());
        assert!(self.headers.contains_key("x-request-id"), "no x-request-id");
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        let error = body["error"].as_object().unwrap();
        assert_eq!((body.as_object().unwrap().len(), error.len()), (1, 3), "{body}");
        for part in ["code", "message", "hint"] {
            assert!(!error[part].as_str().unwrap().is_empty(), "{part} is empty: {body}");
        }
        error["code"].as_str().unwrap().to_owned()
    }

    /// Status and code of an error.
    #[track_caller]
    pub(crate) fn refusal(&self) -> (u16, String) {
        let code = self.code();
        (self.status, code)
    }

    /// Checks that one field was refused, and which.
    #[track_caller]
    pub(crate) fn refuses(&self, field: &str) {
        assert_eq!(self.refusal(), (422, "invalid_field".to_owned()), "{}", self.text());
        assert!(self.text().contains(&format!("\"字段 {field} ")), "{} does not name {field}", self.text());
    }
}

/// A request without a body.
pub(crate) fn request(method: &str, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
}

/// A request with a JSON body as it is.
pub(crate) fn with_body(method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

/// A service without a port.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) state: yingda::AppState,
    router: Router,
}

impl Service {
    pub(crate) async fn open(config: Config) -> Self {
        let state = yingda::open_state(config).await.unwrap();
        Self { router: yingda::router(state.clone()), state }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(with_body("POST", path, body.to_string())).await
    }

    /// One message without an id, answered.
    pub(crate) async fn chat(&self, session: &str, text: &str) -> Value {
        self.post("/v1/chat", json!({ "session_id": session, "text": text })).await.ok()
    }

    /// A session with its turns.
    pub(crate) async fn session(&self, id: &str) -> Value {
        self.get(&format!("/v1/sessions/{id}")).await.ok()
    }

    /// Something done with a ticket.
    pub(crate) async fn act(&self, id: &str, action: &str, body: Value) -> Answer {
        self.post(&format!("/v1/tickets/{id}/{action}"), body).await
    }

    pub(crate) async fn index(&self) {
        let begun = self.state.base().begin_replace(&knowledge(), "test", "").await.unwrap();
        self.state.base().finish(begun, |_, _| {}).await.unwrap();
    }
}

/// Where a test keeps its data: a folder of its own and, on PostgreSQL, a schema of its own.
pub(crate) struct Place {
    folder: TempDir,
    schema: Option<Schema>,
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), schema: None }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.schema.is_some()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Settings of a service here; `replica` tells services that share the database apart.
    pub(crate) fn config_of(&self, replica: &str) -> Config {
        let mut config = Config::local(tiny_model(), self.data().join(replica));
        config.database = self.schema.as_ref().map(Schema::url);
        // The tiny model knows nothing: what is not word for word is asked about, never answered and never given up.
        config.policy.answers = Some(AnswerThresholds { answer: 0.999, relevant: 0.0 });
        config
    }

    pub(crate) fn config(&self) -> Config {
        self.config_of("")
    }

    pub(crate) async fn service(&self) -> Service {
        Service::open(self.config()).await
    }
}

/// Runs a test on SQLite, and on PostgreSQL when `YINGDA_TEST_POSTGRES_URL` says where one is.
pub(crate) async fn on_each_database(test: impl AsyncFn(&Place)) {
    // Every service keeps up to 16 connections; a server allows 100.
    static TURNS: Semaphore = Semaphore::const_new(3);
    test(&Place::sqlite()).await;
    if let Some(url) = postgres() {
        let _turn = TURNS.acquire().await.unwrap();
        let place = Place { schema: Some(Schema::new(url).await), ..Place::sqlite() };
        test(&place).await;
    }
}

fn postgres() -> Option<String> {
    static SAID: Once = Once::new();
    let url = std::env::var("YINGDA_TEST_POSTGRES_URL").ok().filter(|url| !url.trim().is_empty());
    if url.is_none() {
        SAID.call_once(|| say("YINGDA_TEST_POSTGRES_URL is not set: the service is tested on SQLite only"));
    }
    url
}

/// A schema of our own in a PostgreSQL database; removed when dropped, also when the test fails.
struct Schema {
    server: String,
    name: String,
}

impl Schema {
    async fn new(server: String) -> Self {
        let name = format!("yingda_test_{}", uuid::Uuid::new_v4().simple());
        let schema = Self { server, name };
        schema.run(format!("CREATE SCHEMA {}", schema.name)).await.unwrap();
        schema
    }

    fn url(&self) -> String {
        let sign = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{sign}options=-csearch_path%3D{}", self.server, self.name)
    }

    fn run(&self, sql: String) -> impl Future<Output = Result<(), sqlx::Error>> + use<> {
        let server = self.server.clone();
        async move {
            let mut connection = sqlx::postgres::PgConnection::connect(&server).await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await?;
            connection.close().await
        }
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let clean = self.run(format!("SET lock_timeout = '10s'; DROP SCHEMA {} CASCADE", self.name));
        // A thread of its own, because the test's runtime is busy dropping this.
        let cleaned = std::thread::scope(|scope| {
            let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            scope.spawn(move || runtime().block_on(clean)).join()
        });
        if !matches!(cleaned, Ok(Ok(()))) {
            say(&format!("the schema {} may be left: {cleaned:?}", self.name));
        }
    }
}

/// The password of everybody at a [`Listening`] service.
pub(crate) const PASSWORD: &str = "correct horse";

/// A service that asks who one is, on a port.
pub(crate) struct Listening {
    pub(crate) service: Service,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl Listening {
    pub(crate) async fn start(mut config: Config) -> Self {
        config.open = false;
        let service = Service::open(config).await;
        let key = auth::create_key(service.state.storage(), "shop", Role::Admin).await.unwrap().1;
        for (login, name, role, team) in [
            ("xiaowang", "小王", Role::Agent, "售前"),
            ("xiaoli", "小李", Role::Agent, "售后"),
            ("chen", "陈主管", Role::Admin, "管理"),
        ] {
            let (login, name, team) = (login.to_owned(), name.to_owned(), Some(team.to_owned()));
            let new = NewUser { login, name, role, team, password: PASSWORD.to_owned() };
            service.state.users().create(new, now()).await.unwrap();
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = yingda::router(service.state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let live = service.state.live().clone();
        tokio::spawn(async move { live.run().await });
        Self { service, address, key }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Value) -> Value {
        let mut request = with_body(method, path, body.to_string());
        let bearer = format!("Bearer {}", self.key).parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        self.service.send(request).await.ok()
    }

    /// Somebody is at the desk.
    pub(crate) async fn present(&self, name: &str) {
        let body = json!({ "agent": name, "presence": "online" }).to_string();
        let mut request = with_body("PUT", "/v1/me/presence", body);
        request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {}", self.key).parse().unwrap());
        assert_eq!(self.service.send(request).await.status, 204);
    }

    /// From now on tickets are offered to those who are there. Browsers on a busy machine are slow: nobody is hurried.
    pub(crate) fn route(&self) {
        let mut settings = DeskSettings { offline_seconds: 600, ..DeskSettings::default() };
        settings.routing.accept_seconds = 600;
        let dispatcher = Dispatcher::new(self.service.state.storage().clone(), settings);
        tokio::spawn(async move { dispatcher.run().await });
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send("GET", path, Value::Null).await
    }

    pub(crate) async fn chat(&self, session: &str, user: &str, text: &str) -> Value {
        let body = json!({ "session_id": session, "user_id": user, "channel": "web", "text": text });
        self.send("POST", "/v1/chat", body).await
    }
}
