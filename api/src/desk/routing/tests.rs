use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_772_420_400_000; // Monday, 2026-03-02 11:00 in China.

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn skills(skills: &[(&str, u8)]) -> BTreeMap<String, u8> {
    skills.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect()
}

fn agent(id: &str, team: &str) -> Agent {
    Agent {
        id: id.to_owned(),
        team: team.to_owned(),
        skills: BTreeMap::new(),
        languages: BTreeSet::new(),
        channels: BTreeSet::new(),
        capacity: 3,
        load: 0,
        vip_load: 0,
        presence: Presence::Online,
        shift: None,
        vip_lane: false,
        last_given_at: None,
    }
}

fn team(id: &str, skills: &[&str]) -> Team {
    Team { id: id.to_owned(), skills: names(skills), overflow: None, outside: false }
}

fn overflowing(id: &str, skills: &[&str], to: &str, after_seconds: u32) -> Team {
    Team { overflow: Some(Overflow { team: to.to_owned(), after_seconds }), ..team(id, skills) }
}

fn ticket(id: &str) -> Waiting {
    Waiting {
        ticket_id: id.to_owned(),
        intent: None,
        category: None,
        language: None,
        channel: None,
        priority: Priority::Medium,
        vip: false,
        since: NOW - SECOND,
        last_agent: None,
        team: None,
        declined: BTreeSet::new(),
    }
}

/// One team for everything.
fn floor(agents: Vec<Agent>) -> Floor {
    Floor { agents, teams: vec![team("all", &[])] }
}

fn given(floor: &Floor, waiting: &[Waiting]) -> Vec<Assignment> {
    route(floor, waiting, &RoutingConfig::default(), NOW)
}

/// Who gets which ticket, in the order in which they are given.
fn pairs(assignments: &[Assignment]) -> Vec<(&str, &str)> {
    assignments.iter().map(|one| (one.ticket_id.as_str(), one.agent_id.as_str())).collect()
}

fn agent_of(floor: &Floor, waiting: Waiting) -> Option<String> {
    given(floor, &[waiting]).pop().map(|assignment| assignment.agent_id)
}

#[test]
fn who_may_have_a_ticket() {
    let mornings: Calendar = toml::from_str("monday = [\"06:00-11:00\"]").unwrap();
    let long: Calendar = toml::from_str("monday = [\"06:00-11:01\"]").unwrap();
    let one = || agent("one", "all");
    let cases: Vec<(&str, Agent, Waiting, bool)> = vec![
        ("anybody", one(), ticket("t"), true),
        ("away", Agent { presence: Presence::Away, ..one() }, ticket("t"), false),
        ("offline", Agent { presence: Presence::Offline, ..one() }, ticket("t"), false),
        ("full", Agent { load: 3, ..one() }, ticket("t"), false),
        ("more than full", Agent { load: 30, ..one() }, ticket("t"), false),
        ("almost full", Agent { load: 2, ..one() }, ticket("t"), true),
        ("no desk at all", Agent { capacity: 0, ..one() }, ticket("t"), false),
        ("after the shift", Agent { shift: Some(Arc::new(mornings)), ..one() }, ticket("t"), false),
        ("in the shift", Agent { shift: Some(Arc::new(long)), ..one() }, ticket("t"), true),
        ("of no team", agent("one", "gone"), ticket("t"), false),
        (
            "another channel",
            Agent { channels: names(&["app"]), ..one() },
            Waiting { channel: Some("phone".to_owned()), ..ticket("t") },
            false,
        ),
        (
            "the channel",
            Agent { channels: names(&["app", "phone"]), ..one() },
            Waiting { channel: Some("phone".to_owned()), ..ticket("t") },
            true,
        ),
        ("a channel for one of none", Agent { channels: names(&["app"]), ..one() }, ticket("t"), true),
        (
            "another language",
            Agent { languages: names(&["zh"]), ..one() },
            Waiting { language: Some("en".to_owned()), ..ticket("t") },
            false,
        ),
        ("any language", one(), Waiting { language: Some("en".to_owned()), ..ticket("t") }, true),
        ("declined", one(), Waiting { declined: names(&["one"]), ..ticket("t") }, false),
        ("declined by another", one(), Waiting { declined: names(&["two"]), ..ticket("t") }, true),
        ("two units for one", Agent { load: 2, ..one() }, Waiting { priority: Priority::Urgent, ..ticket("t") }, false),
        (
            "two units for a small desk",
            Agent { capacity: 1, ..one() },
            Waiting { priority: Priority::Urgent, ..ticket("t") },
            true,
        ),
        ("a clock behind", one(), Waiting { since: NOW + SECOND, ..ticket("t") }, true),
    ];
    for (name, agent, ticket, may) in cases {
        assert_eq!(agent_of(&floor(vec![agent]), ticket).is_some(), may, "{name}");
    }
}

#[test]
fn who_is_preferred() {
    let one = || agent("one", "all");
    let two = || agent("two", "all");
    let refund = || Waiting { intent: Some("refund".to_owned()), category: Some("money".to_owned()), ..ticket("t") };
    let known = |agent: Agent, name: &str, level: u8| Agent { skills: skills(&[(name, level)]), ..agent };
    let cases: Vec<(&str, Agent, Agent, Waiting, &str)> = vec![
        ("a skill", one(), known(two(), "refund", 1), refund(), "two"),
        ("a higher level", known(one(), "refund", 2), known(two(), "refund", 3), refund(), "two"),
        ("the category", one(), known(two(), "money", 1), refund(), "two"),
        ("another skill is none", known(one(), "parcel", 3), known(two(), "money", 1), refund(), "two"),
        ("level 0 is none", known(one(), "refund", 0), known(two(), "money", 1), refund(), "two"),
        ("level 9 is 3: first by id", known(one(), "refund", 3), known(two(), "refund", 9), refund(), "one"),
        ("less load", Agent { load: 1, ..one() }, two(), refund(), "two"),
        (
            "less of what they can carry",
            Agent { load: 1, ..one() },
            Agent { load: 1, capacity: 5, ..two() },
            refund(),
            "two",
        ),
        ("skill before load", one(), Agent { load: 2, ..known(two(), "refund", 3) }, refund(), "two"),
        ("last agent", one(), two(), Waiting { last_agent: Some("two".to_owned()), ..refund() }, "two"),
        (
            "last agent before a level",
            known(one(), "refund", 3),
            known(two(), "refund", 2),
            Waiting { last_agent: Some("two".to_owned()), ..refund() },
            "two",
        ),
        (
            "a skill of level 3 before the last agent",
            known(one(), "refund", 3),
            two(),
            Waiting { last_agent: Some("two".to_owned()), ..refund() },
            "one",
        ),
        (
            "longest idle",
            Agent { last_given_at: Some(7), ..one() },
            Agent { last_given_at: Some(6), ..two() },
            refund(),
            "two",
        ),
        ("never given anything", Agent { last_given_at: Some(0), ..one() }, two(), refund(), "two"),
        ("first by id", two(), one(), refund(), "one"),
        (
            "the VIP lane before skill",
            known(one(), "refund", 3),
            Agent { vip_lane: true, load: 2, ..two() },
            Waiting { vip: true, ..refund() },
            "two",
        ),
        ("the VIP lane is nothing to others", one(), Agent { vip_lane: true, ..two() }, refund(), "one"),
    ];
    for (name, one, two, ticket, expected) in cases {
        let chosen = agent_of(&floor(vec![one.clone(), two.clone()]), ticket.clone());
        assert_eq!(chosen.as_deref(), Some(expected), "{name}");
        assert_eq!(agent_of(&floor(vec![two, one]), ticket).as_deref(), Some(expected), "{name}, the other way round");
    }
}

#[test]
fn who_goes_first() {
    let low = |id: &str, ago: i64| Waiting { priority: Priority::Low, since: NOW - ago * SECOND, ..ticket(id) };
    let with = |priority: Priority, waiting: Waiting| Waiting { priority, ..waiting };
    let cases: Vec<(&str, Waiting, Waiting)> = vec![
        ("who came first", low("b", 20), low("a", 10)),
        ("by id", low("a", 10), low("b", 10)),
        ("a priority", with(Priority::Medium, low("b", 10)), low("a", 10)),
        ("a higher one", with(Priority::Urgent, low("b", 10)), with(Priority::High, low("a", 10))),
        ("urgent, until the head start is used up", with(Priority::Urgent, low("b", 0)), low("a", 599)),
        ("low, when it is", low("b", 600), with(Priority::Urgent, low("a", 0))),
        ("a VIP, whatever else", Waiting { vip: true, ..low("b", 0) }, with(Priority::Urgent, low("a", 9_000))),
    ];
    for (name, first, second) in cases {
        let floor = floor(vec![Agent { capacity: 4, ..agent("one", "all") }]);
        let assignments = given(&floor, &[second, first.clone()]);
        assert_eq!(assignments[0].ticket_id, first.ticket_id, "{name}");
        assert_eq!(assignments.len(), 2, "{name}");
    }
}

#[test]
fn who_goes_first_at_an_agent_who_knows_their_intent() {
    let asks = |intent: &str, id: &str, ago: i64| Waiting {
        intent: Some(intent.to_owned()),
        since: NOW - ago * SECOND,
        ..ticket(id)
    };
    let vip = |waiting: Waiting| Waiting { vip: true, ..waiting };
    let cases: Vec<(&str, Waiting, Waiting)> = vec![
        ("the skill", asks("known", "b", 0), asks("unknown", "a", 299)),
        ("until the head start is used up", asks("unknown", "b", 301), asks("known", "a", 0)),
        ("who came first, of two with the skill", asks("known", "b", 10), asks("known", "a", 9)),
        ("who came first, of two without", asks("unknown", "b", 10), asks("unknown", "a", 9)),
        ("no skill in the VIP lane", vip(asks("unknown", "b", 10)), vip(asks("known", "a", 9))),
    ];
    let one = Agent { capacity: 1, skills: skills(&[("known", 1)]), ..agent("one", "all") };
    for (name, first, second) in cases {
        let given = given(&floor(vec![one.clone()]), &[second, first.clone()]);
        assert_eq!(pairs(&given), [(first.ticket_id.as_str(), "one")], "{name}");
    }
    let blind = RoutingConfig { skill_head_start_seconds: 0, ..RoutingConfig::default() };
    let waiting = [asks("unknown", "a", 2), asks("known", "b", 1)];
    assert_eq!(pairs(&route(&floor(vec![one]), &waiting, &blind, NOW)), [("a", "one")]);
}

#[test]
fn which_team_gets_it_and_when() {
    let teams = || {
        vec![
            overflowing("money", &["money", "refund"], "parcels", 30),
            overflowing("parcels", &["parcels"], "everything", 60),
            team("everything", &["everything"]),
            Team { outside: true, ..overflowing("partner", &["money", "parcels"], "money", 300) },
        ]
    };
    let waiting =
        |skill: &str, ago: i64| Waiting { category: Some(skill.to_owned()), since: NOW - ago * SECOND, ..ticket("t") };
    let sent = |team: &str, waiting: Waiting| Waiting { team: Some(team.to_owned()), ..waiting };
    let vip = |waiting: Waiting| Waiting { vip: true, ..waiting };
    let cases: Vec<(&str, Waiting, &[&str])> = vec![
        ("at first its own team", waiting("money", 29), &["money"]),
        ("by intent", Waiting { intent: Some("refund".to_owned()), ..waiting("lost", 0) }, &["money"]),
        ("then the one it overflows to", waiting("money", 30), &["money", "parcels"]),
        ("then that one's", waiting("money", 90), &["everything", "money", "parcels"]),
        ("a team of its own chain", waiting("parcels", 60), &["everything", "parcels"]),
        ("nobody's: everybody's of the house", waiting("weather", 0), &["everything", "money", "parcels"]),
        ("nothing known: the same", ticket("t"), &["everything", "money", "parcels"]),
        ("a VIP's own team", vip(waiting("money", 4)), &["money"]),
        ("a VIP soon everywhere", vip(waiting("money", 5)), &["everything", "money", "parcels"]),
        ("transferred", sent("everything", waiting("money", 3600)), &["everything"]),
        ("transferred to the outside", sent("partner", waiting("weather", 299)), &["partner"]),
        ("back from the outside", sent("partner", waiting("weather", 300)), &["money", "partner"]),
        ("a VIP, transferred", vip(sent("partner", waiting("money", 60))), &["partner"]),
        ("transferred to a team that is gone", sent("gone", waiting("money", 0)), &["money"]),
    ];
    for (name, waiting, expected) in cases {
        let mut got = Vec::new();
        for place in ["everything", "money", "parcels", "partner"] {
            let floor = Floor { agents: vec![agent("one", place)], teams: teams() };
            if let Some(assignment) = given(&floor, std::slice::from_ref(&waiting)).pop() {
                got.push(place);
                assert_eq!(assignment.reason.team, place, "{name}");
            }
        }
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn overflow_never_goes_outside_nor_in_circles() {
    let teams = vec![
        overflowing("one", &["x"], "two", 0),
        overflowing("two", &["y"], "one", 0),
        overflowing("three", &["z"], "partner", 0),
        overflowing("four", &["w"], "four", 10),
        Team { outside: true, ..team("partner", &[]) },
    ];
    let at = |place: &str, skill: &str| {
        let floor = Floor { agents: vec![agent("agent", place)], teams: teams.clone() };
        agent_of(&floor, Waiting { intent: Some(skill.to_owned()), since: 0, ..ticket("t") }).is_some()
    };
    assert!(at("two", "x") && at("one", "y"));
    assert!(!at("partner", "z") && !at("partner", "unknown"));
    assert!(at("four", "w"));
}

#[test]
fn what_is_reserved_for_vips() {
    let lane = |load: u32, vip_load: u32| Agent { vip_lane: true, load, vip_load, ..agent("one", "all") };
    let vip = |waiting: Waiting| Waiting { vip: true, ..waiting };
    let urgent = |waiting: Waiting| Waiting { priority: Priority::Urgent, ..waiting };
    for (name, agent, ticket, units) in [
        ("the common units", lane(1, 0), ticket("t"), Some(1)),
        ("the reserved one", lane(2, 0), ticket("t"), None),
        ("for a VIP", lane(2, 0), vip(ticket("t")), Some(1)),
        ("full is full", lane(3, 1), vip(ticket("t")), None),
        ("a VIP sits on the reserved one", lane(2, 1), ticket("t"), Some(1)),
        ("two common ones", lane(0, 0), urgent(ticket("t")), Some(2)),
        ("one common one of two", lane(1, 0), urgent(ticket("t")), None),
        ("all common ones of a small desk", Agent { capacity: 2, ..lane(0, 0) }, urgent(ticket("t")), Some(1)),
        ("nothing in common", Agent { capacity: 1, ..lane(0, 0) }, ticket("t"), None),
        ("nothing in common but for a VIP", Agent { capacity: 1, ..lane(0, 0) }, vip(ticket("t")), Some(1)),
    ] {
        let given = given(&floor(vec![agent]), &[ticket]);
        assert_eq!(given.first().map(|assignment| assignment.units), units, "{name}");
    }
}

#[test]
fn tickets_are_spread_and_those_without_room_wait() {
    let agents = vec![agent("a", "all"), agent("b", "all")];
    let waiting: Vec<Waiting> = (0..8).map(|number| ticket(&format!("t{number}"))).collect();
    let given = given(&floor(agents), &waiting);
    assert_eq!(
        pairs(&given),
        [("t0", "a"), ("t1", "b"), ("t2", "a"), ("t3", "b"), ("t4", "a"), ("t5", "b")],
        "by load, and by who waited longest for work"
    );
}

#[test]
fn a_ticket_that_nobody_may_have_holds_up_nobody() {
    let one = Agent { languages: names(&["zh"]), ..agent("one", "all") };
    let english = Waiting { language: Some("en".to_owned()), since: 0, ..ticket("a") };
    assert_eq!(pairs(&given(&floor(vec![one]), &[english, ticket("b"), ticket("b")])), [("b", "one")]);
}

#[test]
fn the_reason_says_why() {
    let teams = vec![overflowing("money", &["money"], "parcels", 30), team("parcels", &["parcels"])];
    let agents = vec![Agent {
        skills: skills(&[("money", 2)]),
        load: 1,
        capacity: 4,
        vip_lane: true,
        ..agent("one", "parcels")
    }];
    let waiting = Waiting {
        intent: Some("refund".to_owned()),
        category: Some("money".to_owned()),
        vip: true,
        since: NOW - 40 * SECOND,
        last_agent: Some("one".to_owned()),
        ..ticket("t")
    };
    let given = given(&Floor { agents, teams }, &[waiting]);
    let expected = Assignment {
        ticket_id: "t".to_owned(),
        agent_id: "one".to_owned(),
        units: 1,
        accept_by: NOW + 20 * SECOND,
        reason: Reason {
            lane: Lane::Vip,
            waited_ms: 40 * SECOND,
            late: true,
            skill: Some(MatchedSkill { name: "money".to_owned(), level: 2 }),
            last_agent: true,
            load: 1,
            capacity: 4,
            team: "parcels".to_owned(),
            overflow: true,
            transferred: false,
            score: 2.0 / 3.0 + 0.4 + 0.5 * 0.75,
        },
    };
    assert_eq!(given, [expected]);
    let written = serde_json::to_string(&given).unwrap();
    // JSON may lose the last bit of a number.
    let mut read: Vec<Assignment> = serde_json::from_str(&written).unwrap();
    assert!((read[0].reason.score - given[0].reason.score).abs() < 1e-12);
    read[0].reason.score = given[0].reason.score;
    assert_eq!(read, given);
    assert!(written.contains(r#""lane":"vip""#), "{written}");
}

#[test]
fn what_was_not_accepted_is_routed_again() {
    let offer = |ticket: &str, agent: &str, after: i64| Offer {
        ticket_id: ticket.to_owned(),
        agent_id: agent.to_owned(),
        accept_by: NOW + after,
    };
    let floor = floor(vec![
        agent("here", "all"),
        Agent { presence: Presence::Away, ..agent("away", "all") },
        Agent { presence: Presence::Offline, ..agent("offline", "all") },
    ]);
    let offers = [
        offer("later", "here", 1),
        offer("just now", "here", 0),
        offer("long ago b", "here", -SECOND),
        offer("long ago a", "here", -SECOND),
        offer("away", "away", 2),
        offer("offline", "offline", 3),
        offer("gone", "gone", 4),
    ];
    let again: Vec<&str> = to_route_again(&offers, &floor, NOW).iter().map(|offer| offer.ticket_id.as_str()).collect();
    assert_eq!(again, ["long ago a", "long ago b", "just now", "away", "offline", "gone"]);
}

#[test]
fn settings_are_read_and_checked() {
    let config: RoutingConfig =
        toml::from_str("skill_weight = 2.0\nhead_start_seconds = { low = 1, medium = 2, high = 3, urgent = 4 }")
            .unwrap();
    assert_eq!(config.head_start_seconds.of(Priority::High), 3);
    assert_eq!(config.accept_seconds, RoutingConfig::default().accept_seconds);
    assert_eq!(toml::from_str::<RoutingConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
    assert!(RoutingConfig::default().problems().is_empty());
    assert!(toml::from_str::<RoutingConfig>("skills = 1").is_err());
    let wrong = RoutingConfig {
        skill_weight: f64::NAN,
        load_weight: -1.0,
        accept_seconds: 0,
        load_units: PerPriority { low: 0, medium: 1, high: 1, urgent: 0 },
        ..RoutingConfig::default()
    };
    let problems = wrong.problems();
    for part in ["`skill_weight`", "`load_weight`", "`accept_seconds`", "`load_units.low`", "`load_units.urgent`"] {
        assert!(problems.iter().any(|problem| problem.starts_with(part)), "{part} in {problems:#?}");
    }
    assert_eq!(problems.len(), 5);
    assert_eq!(route(&floor(vec![agent("one", "all")]), &[ticket("t")], &wrong, NOW).len(), 1);
}

/// One desk, work without end, and an urgent ticket every ten seconds: a low ticket has its turn all the same.
#[test]
fn a_low_ticket_does_not_starve() {
    let config = RoutingConfig::default();
    let busy = floor(vec![Agent { capacity: 1, ..agent("one", "all") }]);
    let mut waiting = vec![Waiting { priority: Priority::Low, since: NOW, ..ticket("low") }];
    for turn in 0.. {
        let now = NOW + turn * 10 * SECOND;
        waiting.push(Waiting { priority: Priority::Urgent, since: now, ..ticket(&format!("urgent {turn}")) });
        let given = route(&busy, &waiting, &config, now);
        assert_eq!(given.len(), 1);
        if given[0].ticket_id == "low" {
            // 600 seconds of head start are 60 urgent tickets.
            assert_eq!(turn, 60);
            return;
        }
        waiting.retain(|ticket| ticket.ticket_id != given[0].ticket_id);
        assert!(turn < 100, "the low ticket starves");
    }
}

/// Any floor of up to 12 agents in 3 teams, one of them outside.
fn floors() -> impl Strategy<Value = Floor> {
    let one = (
        (0..4usize, 0..5u32, 0..5u32, 0..5u32, 0..4usize),
        (any::<bool>(), prop::option::of(0..3i64), 0..3usize, prop::collection::btree_map(0..4usize, 0..5u8, 0..4)),
    );
    let agents = prop::collection::vec(one, 0..12).prop_map(|agents| {
        let agents = agents.into_iter().enumerate();
        let agents =
            agents.map(|(number, ((team, capacity, load, vip_load, presence), (vip_lane, given, language, known)))| {
                Agent {
                    skills: known.into_iter().map(|(skill, level)| (format!("s{skill}"), level)).collect(),
                    languages: [names(&[]), names(&["zh"]), names(&["zh", "en"])][language].clone(),
                    capacity,
                    load,
                    vip_load: vip_load.min(load),
                    presence: [Presence::Online, Presence::Online, Presence::Away, Presence::Offline][presence],
                    vip_lane,
                    last_given_at: given,
                    ..agent(&format!("agent {number:02}"), ["a", "b", "partner", "gone"][team])
                }
            });
        agents.collect::<Vec<_>>()
    });
    let teams = (0..90u32).prop_map(|after| {
        vec![
            overflowing("a", &["s0", "s1"], "b", after),
            team("b", &["s2"]),
            Team { outside: true, ..team("partner", &[]) },
        ]
    });
    (agents, teams).prop_map(|(agents, teams)| Floor { agents, teams })
}

fn queues() -> impl Strategy<Value = Vec<Waiting>> {
    let one = (
        (prop::option::of(0..5usize), 0..4usize, any::<bool>(), 0..120i64),
        (prop::option::of(0..12usize), 0..8usize, prop::collection::vec(0..12usize, 0..3), any::<bool>()),
    );
    prop::collection::vec(one, 0..40).prop_map(|tickets| {
        let tickets = tickets.into_iter().enumerate();
        let tickets = tickets.map(|(number, ((intent, priority, vip, ago), (last, team, declined, english)))| {
            let name = |agent: usize| format!("agent {agent:02}");
            Waiting {
                intent: intent.map(|skill| format!("s{skill}")),
                language: english.then(|| "en".to_owned()),
                priority: [Priority::Low, Priority::Medium, Priority::High, Priority::Urgent][priority],
                vip,
                since: NOW - ago * SECOND,
                last_agent: last.map(name),
                team: ["a", "partner", "gone"].get(team).map(|team| (*team).to_owned()),
                declined: declined.into_iter().map(name).collect(),
                ..ticket(&format!("ticket {number:02}"))
            }
        });
        tickets.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_order_of_what_is_handed_over_does_not_matter(
        floor in floors(),
        waiting in queues(),
        (agents, teams, tickets) in (any::<u64>(), any::<u64>(), any::<u64>()),
    ) {
        use rand::SeedableRng;
        use rand::seq::SliceRandom;
        let mut shuffled = (floor.clone(), waiting.clone());
        shuffled.0.agents.shuffle(&mut rand::rngs::StdRng::seed_from_u64(agents));
        shuffled.0.teams.shuffle(&mut rand::rngs::StdRng::seed_from_u64(teams));
        shuffled.1.shuffle(&mut rand::rngs::StdRng::seed_from_u64(tickets));
        prop_assert_eq!(given(&floor, &waiting), given(&shuffled.0, &shuffled.1));
    }

    #[test]
    fn nobody_gets_what_they_may_not_have(floor in floors(), waiting in queues()) {
        let mut loads: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let given = given(&floor, &waiting);
        for assignment in &given {
            prop_assert!(seen.insert(&assignment.ticket_id), "a ticket is given once");
            let agent = floor.agents.iter().find(|agent| agent.id == assignment.agent_id).unwrap();
            let ticket = waiting.iter().find(|ticket| ticket.ticket_id == assignment.ticket_id).unwrap();
            let load = loads.entry(&agent.id).or_insert((agent.load, agent.load.saturating_sub(agent.vip_load)));
            load.0 += assignment.units;
            load.1 += if ticket.vip { 0 } else { assignment.units };
            prop_assert!(load.0 <= agent.capacity, "above capacity");
            if !ticket.vip && agent.vip_lane {
                prop_assert!(load.1 < agent.capacity, "on what is reserved for VIPs");
            }
            prop_assert_eq!(agent.presence, Presence::Online);
            prop_assert!(!ticket.declined.contains(&agent.id));
            if agent.team == "partner" {
                prop_assert_eq!(ticket.team.as_deref(), Some("partner"));
            }
            if let Some(language) = &ticket.language {
                prop_assert!(agent.languages.is_empty() || agent.languages.contains(language));
            }
        }
    }

    /// A VIP who could be served is not left waiting while an agent of the lane has room; nor is anybody while somebody has.
    #[test]
    fn nobody_waits_for_an_agent_who_is_free(floor in floors(), waiting in queues()) {
        let given = given(&floor, &waiting);
        let mut after = floor.clone();
        for assignment in &given {
            let agent = after.agents.iter_mut().find(|agent| agent.id == assignment.agent_id).unwrap();
            agent.load += assignment.units;
            if assignment.reason.lane == Lane::Vip {
                agent.vip_load += assignment.units;
            }
        }
        let left: Vec<Waiting> = waiting
            .iter()
            .filter(|ticket| given.iter().all(|assignment| assignment.ticket_id != ticket.ticket_id))
            .cloned()
            .collect();
        prop_assert_eq!(route(&after, &left, &RoutingConfig::default(), NOW), []);
        let first_ordinary = given.iter().position(|assignment| assignment.reason.lane == Lane::Ordinary);
        let last_vip = given.iter().rposition(|assignment| assignment.reason.lane == Lane::Vip);
        if let (Some(ordinary), Some(vip)) = (first_ordinary, last_vip) {
            prop_assert!(vip < ordinary, "a VIP was served behind somebody else");
        }
    }
}
