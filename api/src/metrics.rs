//! What Prometheus reads at `/metrics`.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use yingda_engine::Timings;

const REQUESTS: &str = "yingda_http_requests_total";
const REQUEST_SECONDS: &str = "yingda_http_request_duration_seconds";
const CHAT: &str = "yingda_chat_total";
const STAGE_SECONDS: &str = "yingda_stage_duration_seconds";
const QUEUE: &str = "yingda_queue_depth";
const IN_FLIGHT: &str = "yingda_chat_in_flight";
const TICKETS: &str = "yingda_tickets_opened_total";
const WEBHOOKS: &str = "yingda_webhook_attempts_total";
const KNOWLEDGE: &str = "yingda_knowledge_entries";

/// Seconds; a CPU forward pass takes milliseconds, a queue at its limit seconds.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
static INSTALL: Mutex<()> = Mutex::new(());

/// The recorder of this process, installed at the first call; several services in one process (tests) share it.
///
/// # Errors
///
/// When the buckets are refused or another library has installed its own recorder.
pub(crate) fn install() -> Result<PrometheusHandle, String> {
    let _once = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .map_err(|error| error.to_string())?;
    let handle = builder.install_recorder().map_err(|error| error.to_string())?;
    describe_counter!(REQUESTS, "HTTP requests by route, method and status");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "Time of HTTP requests by route");
    describe_counter!(CHAT, "Answers by decision and reason");
    describe_histogram!(STAGE_SECONDS, Unit::Seconds, "Time of an answer by stage: queue, model, search, total");
    describe_gauge!(QUEUE, "Texts that wait for the model");
    describe_gauge!(IN_FLIGHT, "Messages in work");
    describe_counter!(TICKETS, "Tickets opened by reason");
    describe_counter!(WEBHOOKS, "Attempts to tell webhooks something, by outcome: delivered, failed");
    describe_gauge!(KNOWLEDGE, "Knowledge entries in the reply store");
    let _ = HANDLE.set(handle.clone());
    Ok(handle)
}

/// One HTTP request has been answered.
pub(crate) fn request(route: String, method: &'static str, status: u16, took: Duration) {
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status.to_string()).increment(1);
    histogram!(REQUEST_SECONDS, "route" => route).record(took.as_secs_f64());
}

/// One message has been answered and stored.
pub(crate) fn answered(decision: &'static str, reason: Option<&str>, timings: &Timings) {
    counter!(CHAT, "decision" => decision, "reason" => reason.unwrap_or("").to_owned()).increment(1);
    stages(timings);
}

fn stages(timings: &Timings) {
    for (stage, milliseconds) in [
        ("queue", timings.queue_ms),
        ("model", timings.model_ms),
        ("search", timings.search_ms),
        ("total", timings.total_ms),
    ] {
        histogram!(STAGE_SECONDS, "stage" => stage).record(milliseconds / 1000.0);
    }
}

/// One ticket has been opened.
pub(crate) fn ticket_opened(reason: &str) {
    counter!(TICKETS, "reason" => reason.to_owned()).increment(1);
}

/// A webhook has been told something, or could not be.
pub(crate) fn webhook_attempted(delivered: bool) {
    counter!(WEBHOOKS, "outcome" => if delivered { "delivered" } else { "failed" }).increment(1);
}

/// What is read off at the moment of a scrape.
pub(crate) fn now(waiting: usize, in_flight: usize, knowledge: usize) {
    gauge!(QUEUE).set(waiting as f64);
    gauge!(IN_FLIGHT).set(in_flight as f64);
    gauge!(KNOWLEDGE).set(knowledge as f64);
}
