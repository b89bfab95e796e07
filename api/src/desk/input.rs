//! Who acts at the desk, and what they bring.

use serde_json::{Map, Value};
use yingda_engine::Understanding;

use super::ticket::{Priority, Ticket};

/// The person who acts: the name they gave, and the key they came with.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The name, if one was given.
    pub name: Option<String>,
    /// Name of the key, which stands in for a missing name.
    pub key_name: String,
    /// Id of the key.
    pub key_id: String,
    /// Whether they may do with other people's tickets what these may.
    pub manages: bool,
}

impl Actor {
    /// The service itself: routing, deadlines.
    pub fn system() -> Self {
        Self { name: None, key_name: "system".to_owned(), key_id: "system".to_owned(), manages: true }
    }

    /// Whether the service acts by itself.
    pub fn is_system(&self) -> bool {
        self.name.is_none() && self.key_id == "system"
    }

    /// The customer.
    pub fn customer() -> Self {
        Self { name: None, key_name: "customer".to_owned(), key_id: "customer".to_owned(), manages: false }
    }

    /// The name that is recorded.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.key_name)
    }

    /// Whether this is the person who has the ticket: by name, or without a name by the same key.
    pub fn holds(&self, ticket: &Ticket) -> bool {
        match (&self.name, &ticket.assignee_key) {
            (None, Some(key)) => *key == self.key_id,
            _ => ticket.assignee.as_deref() == Some(self.name()),
        }
    }
}

/// What people put right about a ticket. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct Amendment {
    /// How soon a person should look.
    pub priority: Option<Priority>,
    /// What it is about.
    pub category: Option<String>,
    /// The language that the customer speaks, as [`language::primary`](super::language::primary) gives it.
    pub language: Option<String>,
    /// `negative`, `neutral` or `positive`: how the customer felt. Kept as an example only.
    pub sentiment: Option<&'static str>,
    /// All words on it.
    pub tags: Option<Vec<String>>,
    /// Fields to set; a null removes one.
    pub fields: Map<String, Value>,
}

/// What a person is asked for in writing.
#[derive(Clone, Debug)]
pub struct Form {
    /// The caller's id of the message: the same one in the same session is written down once.
    pub message_id: Option<String>,
    /// The session; a new one when `None`.
    pub session_id: Option<String>,
    /// The customer.
    pub user_id: Option<String>,
    /// Where it comes from; `form` when `None`.
    pub channel: Option<String>,
    /// Whether the customer is a VIP.
    pub vip: bool,
    /// The language that they speak, where it is known.
    pub language: Option<String>,
    /// What is known of the customer, masked JSON.
    pub profile: Option<String>,
    /// What it is about, masked.
    pub text: String,
    /// How soon a person should look; when `None` medium, and high for a VIP.
    pub priority: Option<Priority>,
    /// `form` or `agent`.
    pub source: &'static str,
    /// What the model made of the text.
    pub understood: Option<Understanding>,
    /// The model.
    pub model: String,
}

/// A suggested reply that a person used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The knowledge entry.
    pub knowledge_id: String,
    /// Whether the person changed its words.
    pub edited: bool,
}

/// How the customer judged the help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rating {
    /// 1 to 5.
    pub score: i64,
    /// Words that were chosen.
    pub reasons: Vec<String>,
    /// Free text, masked.
    pub comment: Option<String>,
}
