//! The calls that guided flows make: one JSON object there, one back. And what every call to others needs: the client, the tokens,
//! the look at an address.

use std::time::Duration;

use serde_json::{Map, Value};
use ureq::http::{HeaderValue, Uri, header};
use yingda_engine::rules::Call;

/// Largest answer that is read, in bytes.
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
    #[error("its answer is larger than 64 KiB")]
    TooLarge,
    #[error("its answer is no JSON object")]
    NoJson,
    #[error("{0}")]
    Token(String),
}

/// A client whose clones share their connections. Redirects are not followed and no proxy is used: an address is called as the
/// settings name it.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .max_redirects(0)
        .http_status_as_error(false)
        .proxy(None)
        .accept_encoding("")
        .user_agent(concat!("yingda/", env!("CARGO_PKG_VERSION")))
        .build();
    config.new_agent()
}

/// Calls services.
#[derive(Clone, Debug)]
pub(crate) struct Webhook(ureq::Agent);

impl Webhook {
    pub(crate) fn new() -> Self {
        Self(agent())
    }

    /// Sends `body` and reads the answer, all within the call's deadline.
    pub(crate) async fn call(&self, call: &Call, body: &Value) -> Result<Map<String, Value>, CallError> {
        let answer = self.post(&call.url, call.token.as_deref(), call.deadline_ms, None, body).await?;
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
        self.post(url, token, deadline, Some(idempotency_key), body).await?;
        Ok(())
    }

    async fn post(
        &self,
        url: &str,
        token: Option<&str>,
        deadline: u64,
        idempotency_key: Option<&str>,
        body: &Value,
    ) -> Result<Vec<u8>, CallError> {
        let (agent, url, key) = (self.0.clone(), url.to_owned(), idempotency_key.map(str::to_owned));
        let token = token.map(bearer).transpose().map_err(CallError::Token)?;
        let body = body.to_string();
        let calling = tokio::task::spawn_blocking(move || {
            let mut request = agent.post(&url).header(header::CONTENT_TYPE, "application/json");
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, token);
            }
            if let Some(key) = key {
                request = request.header("idempotency-key", key);
            }
            let limited = request.config().timeout_global(Some(Duration::from_millis(deadline))).build();
            let response = limited.send(body.as_bytes()).map_err(|error| failed(&error, deadline))?;
            if !response.status().is_success() {
                return Err(CallError::Status(response.status().as_u16()));
            }
            let answer = response.into_body().into_with_config().limit(MAX_ANSWER + 1).read_to_vec();
            answer.map_err(|error| failed(&error, deadline))
        });
        calling.await.map_err(|_| CallError::Unreachable("the call panicked".to_owned()))?
    }
}

/// Only the kind of an error is told: its words may hold what was sent.
pub(crate) fn failed(error: &ureq::Error, deadline: u64) -> CallError {
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
}
