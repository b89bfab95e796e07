//! The parts of the Zendesk Support API that are used: <https://developer.zendesk.com/api-reference/ticketing/introduction/>.

use serde_json::{Value, json};
use ureq::http::HeaderName;

use super::Remote;
use crate::storage::NewRemote;

/// The header under which a creation that is repeated gives the ticket of the first one.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Where and with what a ticket is made.
pub(super) fn creation(new: &NewRemote) -> (&'static str, Value) {
    let ticket = json!({
        "subject": new.summary,
        "comment": { "body": new.description },
        "external_id": new.reference,
        "tags": ["yingda"],
    });
    ("/api/v2/tickets.json", json!({ "ticket": ticket }))
}

/// Where tickets of a reference are listed. A reference is made of letters, digits and hyphens.
pub(super) fn by_reference(reference: &str) -> String {
    format!("/api/v2/tickets.json?external_id={reference}")
}

/// Where tickets are listed by their ids, at most a hundred.
pub(super) fn by_ids(ids: &[&str]) -> String {
    format!("/api/v2/tickets/show_many.json?ids={}", ids.join(","))
}

/// Where people read a ticket.
pub(super) fn page(id: &str) -> String {
    format!("/agent/tickets/{id}")
}

fn ticket(value: &Value) -> Option<Remote> {
    let status = value["status"].as_str()?.to_owned();
    let done = matches!(status.as_str(), "solved" | "closed");
    Some(Remote { id: value["id"].as_u64()?.to_string(), status, done })
}

/// The ticket that was made.
pub(super) fn made(answer: &Value) -> Option<Remote> {
    ticket(&answer["ticket"])
}

/// All tickets of a list.
pub(super) fn told(answer: &Value) -> Vec<Remote> {
    answer["tickets"].as_array().into_iter().flatten().filter_map(ticket).collect()
}

/// The first ticket with a reference.
pub(super) fn found(answer: &Value, reference: &str) -> Option<Remote> {
    let tickets = answer["tickets"].as_array()?;
    tickets.iter().filter(|ticket| ticket["external_id"] == reference).find_map(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let solved = json!({ "id": 35, "status": "solved", "external_id": "a" });
        let remote = Remote { id: "35".to_owned(), status: "solved".to_owned(), done: true };
        assert_eq!(made(&json!({ "ticket": solved })), Some(remote.clone()));
        let list = json!({ "tickets": [{ "id": 34, "status": "open", "external_id": "b" }, solved, { "id": 1 }] });
        assert_eq!(told(&list).iter().map(|remote| remote.done).collect::<Vec<_>>(), [false, true]);
        assert_eq!(found(&list, "a"), Some(remote));
        assert_eq!(found(&list, "c"), None);
        assert_eq!((made(&json!({})), told(&json!([]))), (None, Vec::new()));
    }
}
