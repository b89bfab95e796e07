use super::*;

pub(in crate::desk) fn ticket() -> Ticket {
    Ticket {
        id: "t".into(),
        session_id: "s".into(),
        source: "escalation".into(),
        status: Status::New,
        reason: "complaint".into(),
        detail: String::new(),
        priority: Priority::High,
        category: None,
        team: None,
        tags: Vec::new(),
        fields: Map::new(),
        merged_into: None,
        intent: None,
        sentiment: None,
        model: "m".into(),
        from_seq: 1,
        to_seq: 1,
        assignee: None,
        assignee_key: None,
        accepted: false,
        last_assignee: None,
        declined: Vec::new(),
        gaps: Vec::new(),
        by_hand: false,
        vip: false,
        language: None,
        reopened: 0,
        created_at: 1,
        updated_at: 1,
        queued_at: 1,
        assigned_at: None,
        taken_at: None,
        first_reply_at: None,
        resolved_at: None,
        closed_at: None,
    }
}

fn person(name: &str, manages: bool) -> Actor {
    Actor { name: Some(name.into()), key_name: "key".into(), key_id: format!("key of {name}"), manages }
}

/// Every pair of state and action, written out once more by state.
#[test]
fn the_table_of_moves() {
    use Action::*;
    use Status::*;
    let table: [(Status, &[(Action, Status)]); 7] = [
        (
            New,
            &[
                (Take, Assigned),
                (Assign, Assigned),
                (Transfer, New),
                (CustomerMessage, New),
                (CallOff, Closed),
                (Merge, Merged),
            ],
        ),
        (
            Assigned,
            &[
                (Accept, Assigned),
                (Assign, Assigned),
                (Return, New),
                (Transfer, New),
                (Reply, InProgress),
                (Wait, WaitingCustomer),
                (CustomerMessage, Assigned),
                (CallOff, Closed),
                (Resolve, Resolved),
                (Merge, Merged),
            ],
        ),
        (
            InProgress,
            &[
                (Assign, Assigned),
                (Return, New),
                (Transfer, New),
                (Reply, InProgress),
                (Wait, WaitingCustomer),
                (CustomerMessage, InProgress),
                (Resolve, Resolved),
                (Merge, Merged),
            ],
        ),
        (
            WaitingCustomer,
            &[
                (Assign, Assigned),
                (Return, New),
                (Transfer, New),
                (Reply, InProgress),
                (CustomerMessage, InProgress),
                (Resolve, Resolved),
                (Merge, Merged),
            ],
        ),
        (Resolved, &[(Close, Closed), (Reopen, New)]),
        (Closed, &[(Reopen, New)]),
        (Merged, &[]),
    ];
    let mut pairs = 0;
    for (status, moves) in table {
        for action in Action::ALL {
            let expected = moves.iter().find(|(allowed, _)| *allowed == action).map(|(_, after)| *after);
            assert_eq!(next(status, action), expected, "{status:?} {action:?}");
            pairs += 1;
        }
        assert_eq!(
            allowed(status),
            Action::ALL.into_iter().filter(|a| moves.iter().any(|(b, _)| a == b)).collect::<Vec<_>>()
        );
    }
    assert_eq!(pairs, Status::ALL.len() * Action::ALL.len());
}

#[test]
fn who_may_do_what() {
    let mut taken = ticket();
    taken.make(&Move::Take, &person("小王", false), 2).unwrap();
    let (other, supervisor) = (person("小李", false), person("主管", true));
    for (step, by_other, by_supervisor) in [
        (Move::Reply, false, false),
        (Move::Accept, false, false),
        (Move::Wait, false, true),
        (Move::Resolve, false, true),
        (Move::Return, false, true),
        (Move::Assign { agent: "小李".into() }, false, true),
        (Move::Transfer { team: "售后".into() }, false, true),
        (Move::Merge { into: "u".into() }, false, true),
    ] {
        assert_eq!(taken.clone().make(&step, &other, 3).is_ok(), by_other, "{step:?}");
        assert_eq!(taken.clone().make(&step, &supervisor, 3).is_ok(), by_supervisor, "{step:?}");
        assert!(taken.clone().make(&step, &person("小王", false), 3).is_ok(), "{step:?}");
    }
    let error = ticket().make(&Move::Transfer { team: "售后".into() }, &other, 2).unwrap_err();
    assert!(matches!(error, DeskError::NotManager { .. }), "{error}");
}

#[test]
fn who_took_it_is_known_by_the_name_that_was_given_or_by_the_key() {
    let anonymous = |key: &str| Actor { name: None, key_name: "小王".into(), key_id: key.into(), manages: false };
    let mut taken = ticket();
    taken.make(&Move::Take, &person("小王", false), 2).unwrap();
    assert!(taken.make(&Move::Reply, &anonymous("id of 小王, who has logged in"), 3).is_ok());
    let mut taken = ticket();
    taken.make(&Move::Take, &anonymous("a key"), 2).unwrap();
    assert!(taken.make(&Move::Reply, &anonymous("another key of that name"), 3).is_err());
    assert!(taken.make(&Move::Reply, &anonymous("a key"), 3).is_ok());
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut taken = ticket();
    taken.make(&Move::Take, &person("小王", false), 2).unwrap();
    let before = taken.clone();
    assert!(taken.make(&Move::Reply, &person("小李", false), 3).is_err());
    assert!(taken.make(&Move::Close, &person("小王", false), 3).is_err());
    assert_eq!(taken, before);
}

#[test]
fn what_is_offered_is_not_accepted_before_it_is_taken_or_answered() {
    let mut offered = ticket();
    offered.make(&Move::Assign { agent: "小王".into() }, &Actor::system(), 2).unwrap();
    assert_eq!((offered.accepted, offered.taken_at, offered.assigned_at), (false, None, Some(2)));
    let mut answered = offered.clone();
    answered.make(&Move::Reply, &person("小王", false), 5).unwrap();
    assert_eq!((answered.accepted, answered.taken_at, answered.first_reply_at), (true, Some(5), Some(5)));
    offered.make(&Move::Accept, &person("小王", false), 3).unwrap();
    assert_eq!((offered.accepted, offered.taken_at, offered.first_reply_at), (true, Some(3), None));
}

#[test]
fn a_ticket_that_begins_again_has_no_end_and_knows_who_had_it() {
    let mut again = ticket();
    let actor = person("小王", false);
    for step in [Move::Take, Move::Resolve, Move::Close, Move::Reopen] {
        again.make(&step, &actor, 7).unwrap();
    }
    assert_eq!((again.status, again.reopened, again.resolved_at, again.closed_at), (Status::New, 1, None, None));
    assert_eq!((again.assignee.as_deref(), again.last_assignee.as_deref()), (None, Some("小王")));
}

#[test]
fn only_a_wish_for_a_person_that_nobody_took_up_can_be_called_off() {
    let customer = Actor::customer();
    let of = |reason: &str| Ticket { reason: reason.into(), ..ticket() };
    for (reason, can) in [
        ("person_requested", true),
        ("low_confidence", true),
        ("handoff_word", false),
        ("complaint", false),
        ("negative_sentiment", false),
        ("rule", false),
        ("flow", false),
    ] {
        assert_eq!(of(reason).make(&Move::CallOff, &customer, 5).is_ok(), can, "{reason}");
    }
    let form = Ticket { source: "form".into(), ..of("person_requested") };
    assert!(!form.can_be_called_off());
    let mut offered = of("person_requested");
    offered.make(&Move::Assign { agent: "小王".into() }, &Actor::system(), 2).unwrap();
    let mut taken = offered.clone();
    offered.make(&Move::CallOff, &customer, 5).unwrap();
    assert_eq!((offered.status, offered.assignee, offered.closed_at), (Status::Closed, None, Some(5)));
    taken.make(&Move::Accept, &person("小王", false), 3).unwrap();
    assert!(taken.make(&Move::CallOff, &customer, 5).is_err());
    // Once a person has had it, it is theirs to end.
    taken.make(&Move::Return, &person("小王", false), 4).unwrap();
    assert!(taken.make(&Move::CallOff, &customer, 5).is_err());
}

/// 10,000 random histories: one holder at most, and what was written down replays to what is.
#[test]
fn random_histories_keep_the_invariants() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    let people = [person("小王", false), person("小李", false), person("主管", true), Actor::system()];
    let mut random = StdRng::seed_from_u64(17);
    let (mut made, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let mut ticket = Ticket { reason: "person_requested".into(), ..ticket() };
        let mut history = vec![difference(&Map::new(), &ticket.told()).1];
        for at in 2..22 {
            let step = match random.random_range(0..13) {
                0 => Move::Take,
                1 => Move::Accept,
                2 => Move::Assign { agent: "小李".into() },
                3 => Move::Return,
                4 => Move::Transfer { team: "售后".into() },
                5 => Move::Reply,
                6 => Move::Wait,
                7 => Move::CustomerMessage,
                8 => Move::Resolve,
                9 => Move::Close,
                10 => Move::Reopen,
                11 => Move::CallOff,
                _ => Move::Merge { into: "u".into() },
            };
            let (before, status) = (ticket.clone(), ticket.status);
            match ticket.make(&step, &people[random.random_range(0..people.len())], at) {
                Ok(()) => {
                    made += 1;
                    assert_eq!(Some(ticket.status), next(status, step.action()));
                    history.push(difference(&before.told(), &ticket.told()).1);
                }
                Err(_) => {
                    refused += 1;
                    assert_eq!(ticket, before);
                }
            }
            let held = matches!(ticket.status, Status::Assigned | Status::InProgress | Status::WaitingCustomer);
            assert!(!held || ticket.assignee.is_some(), "{ticket:?}");
            assert!(ticket.status != Status::New || ticket.assignee.is_none(), "{ticket:?}");
            assert!(!ticket.accepted || ticket.assignee.is_some(), "{ticket:?}");
            assert_eq!(ticket.merged_into.is_some(), ticket.status == Status::Merged);
            assert_eq!(replay(&history), ticket.told());
        }
    }
    assert!(made > 20_000 && refused > 20_000, "{made} {refused}");
}

#[test]
fn priority_follows_reason_mood_and_customer() {
    use EscalationReason::*;
    for (reason, mood, vip, expected) in [
        (PersonRequested, &[][..], false, Priority::Medium),
        (PersonRequested, &[0.7, 0.6, 0.8], false, Priority::High),
        (PersonRequested, &[0.1, 0.3, 0.65], false, Priority::High),
        (PersonRequested, &[0.65, 0.3, 0.1], false, Priority::Medium),
        (PersonRequested, &[0.9, 0.9], false, Priority::Medium),
        (PersonRequested, &[], true, Priority::High),
        (Complaint, &[], false, Priority::High),
        (Complaint, &[0.9, 0.9, 0.9], false, Priority::Urgent),
        (HandoffWord, &[0.9, 0.9, 0.9], true, Priority::Urgent),
    ] {
        assert_eq!(Priority::of(reason, mood, vip), expected, "{reason:?} {mood:?} {vip}");
    }
}

#[test]
fn names_are_read_back() {
    for status in Status::ALL {
        assert_eq!(status.as_str().parse(), Ok(status));
    }
    for priority in Priority::ALL {
        assert_eq!(priority.as_str().parse(), Ok(priority));
    }
    assert_eq!("done".parse::<Status>(), Err(()));
}
