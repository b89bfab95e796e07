//! Requests to systems of others: one within a deadline, its address, its token, and what may come of it. The calls that guided flows
//! make, coupons, webhooks and service desks all go this way.

use std::time::Duration;

use serde_json::{Map, Value};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use yingda_engine::rules::Call;

/// Largest answer to a flow or a coupon that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Why a call came to nothing. The sentences hold nothing of what was sent or answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("it did not answer within {0} ms")]
    Late(u64),
    #[error("it cannot be reached ({0})")]
    Unreachable(String),
    #[error("it answered with status {0}")]
    Status(u16),
    #[error("its answer is too large")]
    TooLarge,
    #[error("its answer is no JSON object")]
    NoJson,
    #[error("{0}")]
    Token(String),
}

/// What is asked.
pub(crate) struct Request {
    /// The address.
    pub(crate) address: String,
    /// Headers beside the type of the body.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// A JSON body to post; without one it is only read.
    pub(crate) body: Option<String>,
    /// Milliseconds for all of it.
    pub(crate) deadline: u64,
    /// Largest answer that is read, in bytes.
    pub(crate) largest: u64,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Seconds after which it may be asked again, where it says so.
    pub(crate) retry_after: Option<i64>,
    /// The body, or why it did not come.
    pub(crate) body: Result<Vec<u8>, CallError>,
}

/// Calls services. Clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Client(ureq::Agent);

impl Client {
    /// Redirects are not followed and no proxy is used: an address is called as the settings name it.
    pub(crate) fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .accept_encoding("")
            .user_agent(concat!("yingda/", env!("CARGO_PKG_VERSION")))
            .build();
        Self(config.new_agent())
    }

    /// Makes the call of a flow and reads the answer, all within the call's deadline.
    pub(crate) async fn call(&self, call: &Call, body: &Value) -> Result<Map<String, Value>, CallError> {
        let answer = self.post(&call.url, call.token.as_deref(), call.deadline_ms, Vec::new(), body).await?;
        serde_json::from_slice(&answer).map_err(|_| CallError::NoJson)
    }

    /// Sends `body` with a key that is the same whenever it is sent again; whatever is answered with success is fine. The deadline in
    /// milliseconds is for all of it.
    pub(crate) async fn tell(
        &self,
        url: &str,
        token: Option<&str>,
        deadline: u64,
        idempotency_key: &str,
        body: &Value,
    ) -> Result<(), CallError> {
        let key = HeaderValue::from_str(idempotency_key);
        let key = key.map_err(|_| CallError::Token("a key would hold what no header may hold".to_owned()))?;
        self.post(url, token, deadline, vec![(HeaderName::from_static("idempotency-key"), key)], body).await?;
        Ok(())
    }

    /// The body of a success.
    async fn post(
        &self,
        url: &str,
        token: Option<&str>,
        deadline: u64,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        body: &Value,
    ) -> Result<Vec<u8>, CallError> {
        if let Some(variable) = token {
            headers.push((header::AUTHORIZATION, bearer(variable).map_err(CallError::Token)?));
        }
        let (address, body) = (url.to_owned(), Some(body.to_string()));
        let answer = self.send(Request { address, headers, body, deadline, largest: MAX_ANSWER }).await?;
        match answer.status {
            200..300 => answer.body,
            status => Err(CallError::Status(status)),
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    ///
    /// When no status came back.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, CallError> {
        let agent = self.0.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let Request { address, headers, body, deadline, largest } = request;
            let limit = Some(Duration::from_millis(deadline));
            let response = match body {
                Some(body) => {
                    let mut request = agent.post(&address).header(header::CONTENT_TYPE, "application/json");
                    for (name, value) in headers {
                        request = request.header(name, value);
                    }
                    request.config().timeout_global(limit).build().send(body.as_bytes())
                }
                None => {
                    let mut request = agent.get(&address);
                    for (name, value) in headers {
                        request = request.header(name, value);
                    }
                    request.config().timeout_global(limit).build().call()
                }
            };
            let response = response.map_err(|error| failed(&error, deadline))?;
            let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
            // One byte more: an answer that is just as large is not too large.
            let body = response.into_body().into_with_config().limit(largest + 1).read_to_vec();
            Ok(Answer { status, retry_after, body: body.map_err(|error| failed(&error, deadline)) })
        });
        asking.await.map_err(|_| CallError::Unreachable("the call panicked".to_owned()))?
    }
}

/// An hour at most: what asks for more is asked again then.
fn retry_after(headers: &HeaderMap) -> Option<i64> {
    let seconds: i64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.clamp(1, 3600))
}

/// Only the kind of an error is told: its words may hold what was sent.
fn failed(error: &ureq::Error, deadline: u64) -> CallError {
    match error {
        ureq::Error::Timeout(_) => CallError::Late(deadline),
        ureq::Error::BodyExceedsLimit(_) => CallError::TooLarge,
        ureq::Error::Io(error) => CallError::Unreachable(error.kind().to_string()),
        ureq::Error::HostNotFound => CallError::Unreachable("no such host".to_owned()),
        ureq::Error::ConnectionFailed => CallError::Unreachable("no connection".to_owned()),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => CallError::Unreachable("TLS failed".to_owned()),
        _ => CallError::Unreachable("what it says is not HTTP".to_owned()),
    }
}

/// The header that an environment variable makes.
pub(crate) fn bearer(variable: &str) -> Result<HeaderValue, String> {
    let header = HeaderValue::try_from(format!("Bearer {}", token(variable)?));
    let mut header =
        header.map_err(|_| format!("the environment variable {variable} holds what no header may hold"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// What an environment variable holds.
pub(crate) fn token(variable: &str) -> Result<String, String> {
    let token = std::env::var(variable).ok().filter(|token| !token.trim().is_empty());
    let token = token.ok_or_else(|| format!("the environment variable {variable} is not set"))?;
    Ok(token.trim().to_owned())
}

/// Whether an address can be called.
pub(crate) fn check_address(url: &str) -> Result<(), &'static str> {
    let wanted = "is not an address that can be called; write one such as https://orders.example.com/track";
    let address: Uri = url.parse().map_err(|_| wanted)?;
    let http = matches!(address.scheme_str(), Some("http" | "https"));
    let named = address.authority().is_some_and(|at| !at.host().is_empty() && !at.as_str().contains('@'));
    if http && named { Ok(()) } else { Err(wanted) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for fine in ["http://127.0.0.1:9000/track", "https://orders.example.com", "http://[::1]:1/a?b=c"] {
            assert_eq!(check_address(fine), Ok(()), "{fine}");
        }
        for wrong in ["", "/track", "orders.example.com/track", "ftp://a/b", "http://", "http://a b/", "http://u:p@a/"]
        {
            assert!(check_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_comes_from_a_variable_that_is_set() {
        assert!(bearer("PATH").unwrap().to_str().unwrap().starts_with("Bearer /"));
        let missing = bearer("YINGDA_TEST_NO_SUCH_VARIABLE").unwrap_err();
        assert!(missing.contains("YINGDA_TEST_NO_SUCH_VARIABLE is not set"), "{missing}");
    }

    #[test]
    fn only_whole_seconds_are_waited_for() {
        for (text, seconds) in [("7", Some(7)), (" 93 ", Some(93)), ("0", Some(1)), ("999999", Some(3600))] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers), seconds, "{text}");
        }
        let date = HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, date)])), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
