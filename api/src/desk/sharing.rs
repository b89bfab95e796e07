//! What somebody sees of a ticket: the house, or an outside organisation with which it was shared; and what each side keeps to itself.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::ticket::{Status, Ticket};
use crate::storage::TicketEvent;

/// In the data of an event: the organisation whose people made it. The house's own events have none.
pub(crate) const BY: &str = "by_organisation";
/// In the data of a note: whom it is for.
pub(crate) const FOR: &str = "for";
/// [`FOR`] of a note that the other side may read too.
pub(crate) const BOTH: &str = "both";

/// How much an organisation sees of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// Category, priority, reason and what it noted itself; nothing that was said.
    Summary,
    /// Also what is said from the sharing on.
    Conversation,
    /// All that was said for this ticket, and its history.
    Everything,
}

impl Sees {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Summary, Self::Conversation, Self::Everything];

    /// The stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Conversation => "conversation",
            Self::Everything => "everything",
        }
    }
}

impl FromStr for Sees {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|sees| sees.as_str() == text).ok_or(())
    }
}

/// A partner outside the house: a factory, a courier, a team of another company.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organisation {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The team whose queue is theirs.
    pub team: String,
    /// When it was added.
    pub created_at: i64,
}

/// A ticket that was shared with an organisation and not taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The ticket.
    pub ticket_id: String,
    /// The organisation's id.
    pub organisation: String,
    /// How much it sees.
    pub sees: Sees,
    /// The session's last turn when it was shared.
    pub after_seq: i64,
    /// When it was shared.
    pub created_at: i64,
}

/// Whose eyes look at a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// The house's.
    House,
    /// An organisation's.
    Shared(Share),
}

impl View {
    /// Whether an organisation may see all of it, or it is the house.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::House => true,
            Self::Shared(share) => share.sees == Sees::Everything,
        }
    }

    /// Whether a turn of the ticket's session is seen. `at` in milliseconds since 1970. What was said before the ticket, after
    /// it was done, or before it was reopened, is nobody's business outside.
    pub fn shows_turn(&self, ticket: &Ticket, seq: i64, at: i64) -> bool {
        let Self::Shared(share) = self else { return true };
        let within = match ticket.status {
            Status::New | Status::Assigned | Status::InProgress | Status::WaitingCustomer => true,
            Status::Resolved | Status::Closed => {
                ticket.resolved_at.or(ticket.closed_at).is_some_and(|done_at| at <= done_at)
            }
            Status::Merged => seq <= ticket.to_seq,
        };
        let in_between = ticket.gaps.iter().any(|(after, until)| (after + 1..=*until).contains(&seq));
        within
            && !in_between
            && seq >= ticket.from_seq
            && match share.sees {
                Sees::Summary => false,
                Sees::Conversation => seq > share.after_seq,
                Sees::Everything => true,
            }
    }

    /// The ticket as it is seen. Nothing in it leads to the customer, or to another ticket.
    pub fn ticket(&self, mut ticket: Ticket) -> Ticket {
        let Self::Shared(share) = self else { return ticket };
        ticket.session_id.clear();
        ticket.merged_into = None;
        if share.sees != Sees::Everything {
            ticket.tags.clear();
            ticket.fields = Map::new();
        }
        if share.sees == Sees::Summary {
            (ticket.intent, ticket.sentiment) = (None, None);
        }
        ticket
    }

    /// An event as it is seen, if it is.
    pub fn event(&self, mut event: TicketEvent) -> Option<TicketEvent> {
        let by = event.data.get(BY).and_then(Value::as_str);
        let is_note = event.kind == "note";
        let for_both = event.data.get(FOR).and_then(Value::as_str) == Some(BOTH);
        let Self::Shared(share) = self else {
            return (!is_note || by.is_none() || for_both).then_some(event);
        };
        if let Some(by) = by {
            return (by == share.organisation).then_some(event);
        }
        if is_note {
            return for_both.then_some(event);
        }
        if let Some(about) = event.data.get("organisation").and_then(Value::as_str) {
            return (about == share.organisation).then_some(event);
        }
        if share.sees != Sees::Everything || matches!(event.kind.as_str(), "linked" | "merged" | "merged_here") {
            return None;
        }
        if event.kind == "resolved" {
            // It is a note for colleagues.
            event.data = Value::Object(Map::new());
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::desk::ticket::tests::ticket;

    fn share(sees: Sees) -> View {
        let (ticket_id, organisation) = ("t".to_owned(), "courier".to_owned());
        View::Shared(Share { ticket_id, organisation, sees, after_seq: 5, created_at: 0 })
    }

    fn event(kind: &str, data: Value) -> TicketEvent {
        let (before, after) = (Map::new(), Map::new());
        TicketEvent { seq: 1, kind: kind.into(), actor: "小王".into(), reason: None, before, after, data, at: 0 }
    }

    #[test]
    fn turns_are_seen_within_the_share_and_the_life_of_the_ticket() {
        let open = Ticket { from_seq: 3, ..ticket() };
        let shown = |view: &View, ticket: &Ticket| {
            let turns = (1..=9).filter(|seq| view.shows_turn(ticket, *seq, seq * 10));
            turns.collect::<Vec<i64>>()
        };
        assert_eq!(shown(&View::House, &open).len(), 9);
        assert!(shown(&share(Sees::Summary), &open).is_empty());
        assert_eq!(shown(&share(Sees::Conversation), &open), [6, 7, 8, 9]);
        assert_eq!(shown(&share(Sees::Everything), &open), [3, 4, 5, 6, 7, 8, 9]);
        let done = Ticket { status: Status::Closed, resolved_at: Some(70), ..open.clone() };
        assert_eq!(shown(&share(Sees::Conversation), &done), [6, 7], "what was said later belongs to nobody outside");
        let merged = Ticket { status: Status::Merged, to_seq: 4, ..open };
        assert_eq!(shown(&share(Sees::Everything), &merged), [3, 4]);
    }

    #[test]
    fn each_side_keeps_its_notes() {
        let own = json!({ "text": "x", BY: "courier" });
        let others = json!({ "text": "x", BY: "factory" });
        let both = json!({ "text": "x", BY: "courier", FOR: BOTH });
        let house = json!({ "text": "x" });
        let open = json!({ "text": "x", FOR: BOTH });
        for (data, house_reads, courier_reads) in
            [(own, false, true), (others, false, false), (both, true, true), (house, true, false), (open, true, true)]
        {
            let note = || event("note", data.clone());
            assert_eq!(View::House.event(note()).is_some(), house_reads, "{data}");
            for sees in Sees::ALL {
                assert_eq!(share(sees).event(note()).is_some(), courier_reads, "{data} {sees:?}");
            }
        }
    }

    #[test]
    fn the_history_is_for_those_who_see_everything_and_leads_to_no_other_ticket() {
        let (whole, part) = (share(Sees::Everything), share(Sees::Conversation));
        for kind in ["opened", "taken", "customer_message", "agent_reply", "amended", "rated"] {
            assert!(whole.event(event(kind, json!({}))).is_some() && part.event(event(kind, json!({}))).is_none());
        }
        for kind in ["linked", "merged", "merged_here"] {
            assert_eq!(whole.event(event(kind, json!({ "ticket_id": "other" }))).map(|event| event.data), None);
        }
        for (about, seen) in [("courier", true), ("factory", false)] {
            for kind in ["shared", "unshared", "transferred"] {
                assert_eq!(part.event(event(kind, json!({ "organisation": about }))).is_some(), seen, "{kind} {about}");
            }
        }
        let resolved = whole.event(event("resolved", json!({ "note": "赔了一个杯子" })));
        assert_eq!(resolved.map(|event| event.data), Some(json!({})), "the house's note");
        let resolved = json!({ "note": "已补送", BY: "courier" });
        assert_eq!(View::House.event(event("resolved", resolved.clone())).map(|event| event.data), Some(resolved));
    }

    #[test]
    fn a_ticket_leads_neither_to_the_customer_nor_to_another_ticket() {
        let fields = json!({ "备注": "急" }).as_object().cloned().unwrap_or_default();
        let full = Ticket {
            merged_into: Some("other".into()),
            tags: vec!["老客户".into()],
            fields,
            intent: Some(("退货".into(), 0.9)),
            ..ticket()
        };
        assert_eq!(View::House.ticket(full.clone()), full);
        for sees in Sees::ALL {
            let seen = share(sees).ticket(full.clone());
            assert!(seen.session_id.is_empty() && seen.merged_into.is_none());
            assert_eq!(seen.tags.is_empty() && seen.fields.is_empty(), sees != Sees::Everything);
            assert_eq!(seen.intent.is_none(), sees == Sees::Summary);
            assert_eq!(sees.as_str().parse(), Ok(sees));
        }
        assert_eq!("all".parse::<Sees>(), Err(()));
    }
}
