//! What the configuration file says of systems of others.

use serde::{Deserialize, Serialize};

use crate::request::{check_address, token};

/// The table `[outgoing]` of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutgoingSettings {
    /// Service desks that get the tickets of a team.
    pub service_desk: Vec<ServiceDeskSettings>,
}

/// Which program a service desk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceDeskKind {
    /// Zendesk Support.
    Zendesk,
    /// Jira Service Management in Atlassian's cloud.
    Jira,
}

/// A service desk that gets the tickets of a team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceDeskSettings {
    /// Its name, as people read it; a ticket that is solved there is given to it.
    pub name: String,
    /// Which program it is.
    pub kind: ServiceDeskKind,
    /// Where it is, such as `https://shop.zendesk.com` or `https://shop.atlassian.net`.
    pub address: String,
    /// The mail address of the account that the token belongs to.
    pub user: String,
    /// The environment variable that holds the API token.
    pub token: String,
    /// The team whose tickets it gets.
    pub team: String,
    /// Jira: the id of the service desk.
    #[serde(default)]
    pub service_desk_id: Option<String>,
    /// Jira: the id of the request type.
    #[serde(default)]
    pub request_type_id: Option<String>,
}

impl OutgoingSettings {
    /// All that is wrong, a sentence each, naming the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (number, desk) in self.service_desk.iter().enumerate() {
            let mut wrong = |what: String| problems.push(format!("[[outgoing.service_desk]] {:?}: {what}", desk.name));
            for (field, text) in
                [("name", &desk.name), ("user", &desk.user), ("token", &desk.token), ("team", &desk.team)]
            {
                if text.trim().is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
                    wrong(format!("`{field}` must have 1 to 128 bytes without control characters"));
                }
            }
            if self.service_desk[..number].iter().any(|other| other.name == desk.name) {
                wrong("another one has this name; give each its own".to_owned());
            }
            if self.service_desk[..number].iter().any(|other| other.team == desk.team) {
                wrong(format!("another one gets the tickets of {:?}; a team has one service desk", desk.team));
            }
            if let Err(problem) = check_address(&desk.address) {
                wrong(format!("`address` {problem}"));
            }
            let ids = [("service_desk_id", &desk.service_desk_id), ("request_type_id", &desk.request_type_id)];
            for (field, id) in ids {
                match (desk.kind, id) {
                    (ServiceDeskKind::Jira, None) => wrong(format!("`{field}` is missing; Jira wants it")),
                    (ServiceDeskKind::Zendesk, Some(_)) => wrong(format!("`{field}` is for Jira; remove it")),
                    _ => {}
                }
            }
        }
        problems
    }

    /// Whether every token is there.
    ///
    /// # Errors
    ///
    /// A sentence that names the variable which is not set.
    pub(crate) fn check_tokens(&self) -> Result<(), String> {
        for desk in &self.service_desk {
            token(&desk.token).map_err(|problem| format!("[[outgoing.service_desk]] {:?}: {problem}", desk.name))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        toml::from_str::<OutgoingSettings>(text).unwrap().problems().join("\n")
    }

    const ZENDESK: &str = "[[service_desk]]\nname = \"Z\"\nkind = \"zendesk\"\naddress = \"https://a.zendesk.com\"\n\
                           user = \"a@example.com\"\ntoken = \"TOKEN\"\nteam = \"外包\"\n";

    #[test]
    fn every_problem_is_told_with_its_field() {
        assert_eq!(problems(ZENDESK), "");
        let twice = problems(&format!("{ZENDESK}{ZENDESK}"));
        assert!(twice.contains("has this name") && twice.contains("gets the tickets"), "{twice}");
        let jira = problems(&ZENDESK.replace("zendesk\"\naddress", "jira\"\naddress"));
        assert!(jira.contains("`service_desk_id` is missing") && jira.contains("`request_type_id`"), "{jira}");
        assert!(problems(&format!("{ZENDESK}service_desk_id = \"1\"")).contains("is for Jira"));
        assert!(problems(&ZENDESK.replace("https://a", "ftp://a")).contains("`address` is not an address"));
        assert!(problems(&ZENDESK.replace("外包", " ")).contains("`team`"));
    }

    #[test]
    fn a_token_that_is_not_set_is_named() {
        let mut settings: OutgoingSettings = toml::from_str(ZENDESK).unwrap();
        settings.service_desk[0].token = "YINGDA_TEST_NO_SUCH_VARIABLE".to_owned();
        assert!(settings.check_tokens().unwrap_err().contains("YINGDA_TEST_NO_SUCH_VARIABLE is not set"));
        settings.service_desk[0].token = "PATH".to_owned();
        assert_eq!(settings.check_tokens(), Ok(()));
    }
}
