//! A real browser, steered through a WebDriver (<https://www.w3.org/TR/webdriver2/>) such as chromedriver.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

/// What stands for keys that write nothing (section 17.4.2 of the page).
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const CONTROL: &str = "\u{e009}";
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const LEFT: &str = "\u{e012}";
pub(crate) const RIGHT: &str = "\u{e014}";
pub(crate) const ALT: &str = "\u{e00a}";

/// The name of an element's id in an answer (section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One browser of its own.
pub(crate) struct Client {
    agent: ureq::Agent,
    /// Address of its session at the driver.
    session: String,
}

/// Something in a page.
pub(crate) struct Element<'a> {
    client: &'a Client,
    id: String,
}

impl Client {
    /// Starts a browser at the driver of an address.
    pub(crate) async fn start(driver: &str, options: Value) -> Self {
        let settings =
            ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60))).http_status_as_error(false);
        let mut client = Self { agent: settings.build().new_agent(), session: driver.to_owned() };
        let capabilities = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let made = client.send("POST", "/session", capabilities).await;
        client.session = format!("{driver}/session/{}", made["sessionId"].as_str().unwrap());
        client
    }

    /// One command. What the driver refuses ends the test.
    async fn send(&self, method: &'static str, path: &str, body: Value) -> Value {
        let (agent, address) = (self.agent.clone(), format!("{}{path}", self.session));
        let answer = tokio::task::spawn_blocking(move || {
            let answer = match method {
                "GET" => agent.get(&address).call(),
                "DELETE" => agent.delete(&address).call(),
                _ => agent.post(&address).header("content-type", "application/json").send(body.to_string()),
            };
            answer.unwrap().body_mut().with_config().limit(64 << 20).read_to_string().unwrap()
        });
        let answer: Value = serde_json::from_str(&answer.await.unwrap()).unwrap();
        assert!(answer["value"].get("error").is_none(), "{method} {path}: {}", answer["value"]);
        answer["value"].clone()
    }

    pub(crate) async fn goto(&self, address: &str) {
        self.send("POST", "/url", json!({ "url": address })).await;
    }

    pub(crate) async fn refresh(&self) {
        self.send("POST", "/refresh", json!({})).await;
    }

    pub(crate) async fn title(&self) -> String {
        self.send("GET", "/title", Value::Null).await.as_str().unwrap().to_owned()
    }

    /// What a script returns.
    pub(crate) async fn execute(&self, script: &str) -> Value {
        self.send("POST", "/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The first element that a selector finds.
    pub(crate) async fn find(&self, selector: &str) -> Element<'_> {
        let found = self.send("POST", "/element", json!({ "using": "css selector", "value": selector })).await;
        Element { client: self, id: found[ELEMENT].as_str().unwrap().to_owned() }
    }

    /// The element that gets what is typed.
    pub(crate) async fn active_element(&self) -> Element<'_> {
        let found = self.send("GET", "/element/active", Value::Null).await;
        Element { client: self, id: found[ELEMENT].as_str().unwrap().to_owned() }
    }

    pub(crate) async fn cookie(&self, name: &str) -> Value {
        self.send("GET", &format!("/cookie/{name}"), Value::Null).await
    }

    /// A picture of the page, as PNG.
    pub(crate) async fn screenshot(&self) -> Vec<u8> {
        let picture = self.send("GET", "/screenshot", Value::Null).await;
        base64::prelude::BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap()
    }

    pub(crate) async fn close(self) {
        self.send("DELETE", "", Value::Null).await;
    }
}

impl Element<'_> {
    pub(crate) async fn click(&self) {
        self.client.send("POST", &format!("/element/{}/click", self.id), json!({})).await;
    }

    pub(crate) async fn send_keys(&self, text: &str) {
        self.client.send("POST", &format!("/element/{}/value", self.id), json!({ "text": text })).await;
    }
}
