//! The parts of the Jira Service Management and Jira Cloud APIs that are used:
//! <https://developer.atlassian.com/cloud/jira/service-desk/rest/api-group-request/> and
//! <https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/>.

use serde_json::{Value, json};

use super::super::ServiceDeskSettings;
use super::Remote;
use crate::storage::NewRemote;

/// Where and with what a request is made.
pub(super) fn creation(settings: &ServiceDeskSettings, new: &NewRemote) -> (&'static str, Value) {
    let body = json!({
        "serviceDeskId": settings.service_desk_id,
        "requestTypeId": settings.request_type_id,
        "requestFieldValues": { "summary": new.summary, "description": new.description },
    });
    ("/rest/servicedeskapi/request", body)
}

/// Where issues whose summary has a reference are listed. A reference is one word of letters and digits.
pub(super) fn by_reference(reference: &str) -> String {
    format!("/rest/api/3/search/jql?jql=summary%20~%20%22{reference}%22&fields=summary,status&maxResults=10")
}

/// Where a request is read by its key.
pub(super) fn by_key(key: &str) -> String {
    format!("/rest/servicedeskapi/request/{key}")
}

/// Where people read a request.
pub(super) fn page(key: &str) -> String {
    format!("/browse/{key}")
}

/// A key such as `HELP-12`: nothing else may become part of an address.
fn key(value: &Value) -> Option<String> {
    let key = value.as_str()?;
    let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (plain && !key.is_empty()).then(|| key.to_owned())
}

/// A request, as it is told when it is made and when it is read.
pub(super) fn told(answer: &Value) -> Option<Remote> {
    let status = &answer["currentStatus"];
    let done = status["statusCategory"].as_str().is_some_and(|category| category.eq_ignore_ascii_case("done"));
    Some(Remote { id: key(&answer["issueKey"])?, status: status["status"].as_str()?.to_owned(), done })
}

/// The first issue with a reference in its summary.
pub(super) fn found(answer: &Value, reference: &str) -> Option<Remote> {
    let named = format!("[{reference}]");
    answer["issues"].as_array()?.iter().find_map(|issue| {
        let fields = &issue["fields"];
        if !fields["summary"].as_str()?.contains(&named) {
            return None;
        }
        let status = &fields["status"];
        let done = status["statusCategory"]["key"] == "done";
        Some(Remote { id: key(&issue["key"])?, status: status["name"].as_str()?.to_owned(), done })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let request = |category: &str| json!({ "issueKey": "HELP-7", "currentStatus": { "status": "已解决", "statusCategory": category } });
        let remote = Remote { id: "HELP-7".to_owned(), status: "已解决".to_owned(), done: true };
        assert_eq!(told(&request("DONE")), Some(remote.clone()));
        assert!(!told(&request("INDETERMINATE")).unwrap().done);
        assert_eq!(told(&json!({ "issueKey": "../../x", "currentStatus": { "status": "a" } })), None);

        let issue = |summary: &str| {
            let status = json!({ "name": "已解决", "statusCategory": { "key": "done" } });
            json!({ "key": "HELP-7", "fields": { "summary": summary, "status": status } })
        };
        let list = json!({ "issues": [issue("x [yd10]"), issue("退货 [yd1]")] });
        assert_eq!(found(&list, "yd1"), Some(remote));
        assert_eq!(found(&list, "yd"), None, "a part of another reference is none");
        assert_eq!(found(&json!({}), "yd1"), None);
    }
}
