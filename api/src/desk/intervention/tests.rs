use super::*;
use crate::desk::DeskSettings;

const NOW: i64 = 1_800_000_000_000;

fn rule(name: &str, when: When) -> Rule {
    Rule { name: name.to_owned(), when, categories: Vec::new(), vip_only: false, measure: Measure::SupervisorAlert }
}

fn facts() -> Facts {
    Facts {
        status: Status::New,
        category: Some("退款".to_owned()),
        vip: false,
        mood: Vec::new(),
        missed: false,
        rating: None,
        queued_at: NOW,
    }
}

fn holds(when: When, facts: &Facts) -> bool {
    !judge(&[rule("r", when)], facts, NOW).is_empty()
}

#[test]
fn a_mood_counts_when_the_last_messages_are_all_negative() {
    let when = When::NegativeInARow { count: 3, threshold: 0.6 };
    for (mood, expected) in [
        (vec![], false),
        (vec![0.9, 0.9], false),
        (vec![0.9, 0.9, 0.9], true),
        (vec![0.6, 0.6, 0.6], true),
        (vec![0.1, 0.9, 0.9, 0.9], true),
        (vec![0.9, 0.9, 0.9, 0.1], false),
        (vec![0.9, 0.9, 0.59], false),
        (vec![0.9, 0.9, f64::NAN], false),
    ] {
        assert_eq!(holds(when, &Facts { mood: mood.clone(), ..facts() }), expected, "{mood:?}");
    }
    let done = Facts { mood: vec![0.9; 3], status: Status::Resolved, ..facts() };
    assert!(!holds(when, &done), "nobody works on it any more");
}

#[test]
fn waiting_ends_with_the_first_answer() {
    let when = When::WaitingOver { milliseconds: 60_000 };
    let since = |milliseconds: i64, status| Facts { queued_at: NOW - milliseconds, status, ..facts() };
    assert!(!holds(when, &since(60_000, Status::New)));
    assert!(holds(when, &since(60_001, Status::New)));
    assert!(holds(when, &since(60_001, Status::Assigned)));
    for status in [Status::InProgress, Status::WaitingCustomer, Status::Resolved, Status::Closed, Status::Merged] {
        assert!(!holds(when, &since(90_000, status)), "{status:?}");
    }
}

#[test]
fn ratings_and_targets() {
    let rated = |score, status| Facts { rating: Some(score), status, ..facts() };
    assert!(holds(When::RatingAtMost(2), &rated(2, Status::Closed)));
    assert!(holds(When::RatingAtMost(2), &rated(1, Status::Resolved)));
    assert!(!holds(When::RatingAtMost(2), &rated(3, Status::Closed)));
    assert!(!holds(When::RatingAtMost(2), &rated(1, Status::New)), "it has begun again");
    assert!(!holds(When::RatingAtMost(5), &Facts { status: Status::Closed, ..facts() }), "nobody rated it");
    assert!(holds(When::TargetMissed, &Facts { missed: true, ..facts() }));
    assert!(!holds(When::TargetMissed, &facts()));
}

#[test]
fn a_rule_may_be_for_some_only() {
    let missed = Facts { missed: true, ..facts() };
    let some = Rule { categories: vec!["投诉".to_owned(), "退款".to_owned()], ..rule("some", When::TargetMissed) };
    let vips = Rule { vip_only: true, ..rule("vips", When::TargetMissed) };
    let rules = [some, vips, rule("all", When::TargetMissed)];
    let names = |facts: &Facts| judge(&rules, facts, NOW).iter().map(|rule| rule.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&missed), ["some", "all"]);
    assert_eq!(names(&Facts { category: None, ..missed.clone() }), ["all"]);
    assert_eq!(names(&Facts { vip: true, category: Some("物流".to_owned()), ..missed }), ["vips", "all"]);
}

fn read(text: &str) -> Result<Vec<Rule>, Vec<String>> {
    let settings: DeskSettings = toml::from_str(text).unwrap();
    Rule::all(&settings.intervention, &settings.teams)
}

#[test]
fn settings_become_rules() {
    let rules = read(
        r#"
        [[teams]]
        name = "资深"
        skills = ["投诉"]

        [[intervention]]
        name = "upset"
        when = "negative_in_a_row"
        count = 3
        categories = ["退款"]
        vip = true
        action = "senior_agent"
        skill = "投诉"

        [[intervention]]
        name = "sorry"
        when = "rating_at_most"
        score = 2
        action = "coupon"
        address = "https://shop.example.com/coupons"
        amount_fen = 500
        budget_fen = 100000
        "#,
    )
    .unwrap();
    let coupon = Coupon {
        address: "https://shop.example.com/coupons".to_owned(),
        token: None,
        amount_fen: 500,
        budget_fen: 100_000,
        customer_limit: 1,
    };
    let upset = Rule {
        categories: vec!["退款".to_owned()],
        vip_only: true,
        measure: Measure::SeniorAgent { team: "资深".to_owned() },
        ..rule("upset", When::NegativeInARow { count: 3, threshold: 0.6 })
    };
    let sorry = Rule { measure: Measure::Coupon(coupon), ..rule("sorry", When::RatingAtMost(2)) };
    assert_eq!(rules, [upset, sorry]);
}

#[test]
fn what_cannot_be_is_said_with_the_rule_and_the_field() {
    for (rest, problem) in [
        ("when = 'negative_in_a_row'\naction = 'supervisor_alert'", "`count` is missing"),
        ("when = 'negative_in_a_row'\ncount = 0\naction = 'supervisor_alert'", "`count` is 0"),
        ("when = 'negative_in_a_row'\ncount = 1\nthreshold = 1.5\naction = 'supervisor_alert'", "`threshold` is 1.5"),
        ("when = 'waiting_over_seconds'\naction = 'supervisor_alert'", "`seconds` is missing"),
        ("when = 'rating_at_most'\nscore = 6\naction = 'supervisor_alert'", "`score` is 6"),
        ("when = 'rating_at_most'\nscore = 1\naction = 'senior_agent'\nteam = 't'", "nobody works on it then"),
        ("when = 'target_missed'\nscore = 1\naction = 'supervisor_alert'", "`score` does not belong"),
        ("when = 'target_missed'\naction = 'senior_agent'", "either `team` or `skill`"),
        ("when = 'target_missed'\naction = 'senior_agent'\nskill = 's'", "no team of [[desk.teams]] lists"),
        ("when = 'target_missed'\naction = 'coupon'\namount_fen = 1\nbudget_fen = 1", "`address`"),
        (
            "when = 'target_missed'\naction = 'coupon'\naddress = 'http://a'\namount_fen = 2\nbudget_fen = 1",
            "`amount_fen` is more than",
        ),
        (
            "when = 'target_missed'\naction = 'coupon'\naddress = 'http://a'\namount_fen = 1\nbudget_fen = 1\ntoken = 'YINGDA_TEST_NO_SUCH_VARIABLE'",
            "YINGDA_TEST_NO_SUCH_VARIABLE is not set",
        ),
    ] {
        let problems = read(&format!("[[intervention]]\nname = 'r'\n{rest}")).unwrap_err();
        assert!(problems.iter().any(|found| found.contains(problem)), "{rest}: {problems:?}");
        assert!(problems.iter().all(|found| found.starts_with("[[desk.intervention]] \"r\": ")), "{problems:?}");
    }
    let twice = "[[intervention]]\nname = 'r'\nwhen = 'target_missed'\naction = 'supervisor_alert'\n";
    let problems = read(&format!("{twice}{twice}")).unwrap_err();
    assert!(problems[0].contains("twice"), "{problems:?}");
    assert_eq!(read(""), Ok(Vec::new()));
}
