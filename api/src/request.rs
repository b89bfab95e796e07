//! One request to a system of others, within a deadline.

use std::time::Duration;

use ureq::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::webhook::{CallError, failed};

/// What is asked.
pub(super) struct Request {
    /// The address.
    pub(super) address: String,
    /// Headers beside the type of the body.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// A JSON body to post; without one it is only read.
    pub(super) body: Option<String>,
    /// Milliseconds for all of it.
    pub(super) deadline: u64,
    /// Largest answer that is read, in bytes.
    pub(super) largest: u64,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// Seconds after which it may be asked again, where it says so.
    pub(super) retry_after: Option<i64>,
    /// The body, or why it did not come.
    pub(super) body: Result<Vec<u8>, CallError>,
}

/// Asks. Redirects are not followed.
///
/// # Errors
///
/// When no status came back.
pub(super) async fn send(agent: &ureq::Agent, request: Request) -> Result<Answer, CallError> {
    let agent = agent.clone();
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
        let body = response.into_body().into_with_config().limit(largest).read_to_vec();
        Ok(Answer { status, retry_after, body: body.map_err(|error| failed(&error, deadline)) })
    });
    asking.await.map_err(|_| CallError::Unreachable("the call panicked".to_owned()))?
}

/// An hour at most: what asks for more is asked again then.
fn retry_after(headers: &HeaderMap) -> Option<i64> {
    let seconds: i64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.clamp(1, 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

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
