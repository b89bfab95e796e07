//! All that is wrong with chats, told at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use serde::Serialize;

use crate::chats::{Chats, Counts, Row};
use crate::error::Result;
use crate::near_duplicate::NearDuplicates;
use crate::problem::{Problem, Severity, format_problems, has_errors, quoted};
use crate::schema::{Role, Sentiment};

/// What to check against.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// The only intents that may occur; any may without such a list.
    pub intents: Option<BTreeSet<String>>,
    /// Classes with fewer messages are told.
    pub min_per_class: usize,
    /// How bad it is when one text has two intents. A warning by default: what came before may explain it.
    pub conflicts: Severity,
    /// When two texts of different sets count as the same.
    pub near_duplicates: NearDuplicates,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions {
            intents: None,
            min_per_class: 10,
            conflicts: Severity::Warning,
            near_duplicates: NearDuplicates::default(),
        }
    }
}

/// What there is and all that is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What there is.
    pub counts: Counts,
    /// What is wrong, in the order of the rows within each kind.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether training on this would be wrong.
    pub fn has_errors(&self) -> bool {
        has_errors(&self.problems)
    }

    /// The problems for people, at most `per_code` of each kind.
    pub fn table(&self, per_code: usize) -> String {
        format_problems(&self.problems, per_code)
    }
}

/// A text that is shorter may mean this in one chat and that in another.
const TELLING_CHARS: usize = 6;

/// Checks chats; `model_text` makes of a text what the model will see.
pub fn check(chats: &Chats, options: &CheckOptions, model_text: &dyn Fn(&str) -> String) -> Result<Report> {
    let rows = chats.rows()?;
    let cleaned: Vec<String> = rows.iter().map(|row| model_text(row.text)).collect();
    let mut problems = chats.problems().to_vec();

    for (row, cleaned) in rows.iter().zip(&cleaned) {
        check_words(row, options, &mut problems);
        check_text(row, cleaned, &mut problems);
    }
    check_turns(&rows, &mut problems);
    check_conflicts(&rows, &cleaned, options, &mut problems);
    let counts = chats.counts()?;
    check_sizes(&counts, options.min_per_class, &mut problems);

    let dealt = rows.iter().zip(&cleaned).filter_map(|(row, text)| Some(Dealt { split: row.split?, row, text }));
    check_dealt(&dealt.collect::<Vec<_>>(), &options.near_duplicates, &mut problems);
    Ok(Report { counts, problems })
}

/// Checks chats that were split elsewhere for what stands on two sides; the first set is the training set.
///
/// This looks at what lies between the sets only; each of them still needs its own [`check`].
pub fn check_splits(
    splits: &[(&str, &Chats)],
    options: &CheckOptions,
    model_text: &dyn Fn(&str) -> String,
) -> Result<Vec<Problem>> {
    let mut rows = Vec::new();
    for (name, chats) in splits {
        rows.extend(chats.rows()?.into_iter().map(|row| (*name, row, model_text(row.text))));
    }
    let dealt: Vec<Dealt<'_>> = rows.iter().map(|(split, row, text)| Dealt { split, row, text }).collect();
    let mut problems = Vec::new();
    check_dealt(&dealt, &options.near_duplicates, &mut problems);
    Ok(problems)
}

/// The words that must be of a known set.
fn check_words(row: &Row<'_>, options: &CheckOptions, problems: &mut Vec<Problem>) {
    let mut error = |code, message: String, remedy: &str| {
        problems.push(Problem::at(Severity::Error, code, row.place(), message, remedy));
    };
    if row.session.is_none() {
        let remedy = "give every message the id of its chat; a message that stands alone gets its own";
        error("missing_session", "there is no session_id".to_owned(), remedy);
    }
    let known_role = |word: &str| word.parse::<Role>().is_ok();
    if !row.role.is_some_and(known_role) {
        let message =
            row.role.map_or("there is no role".to_owned(), |word| format!("the role {} is not known", quoted(word)));
        error("unknown_role", message, "write user for the customer, agent for a person of yours, bot for a program");
    }
    if let Some(word) = row.sentiment.filter(|word| word.parse::<Sentiment>().is_err()) {
        let remedy = "write negative, neutral or positive, or leave it empty";
        error("unknown_sentiment", format!("the sentiment {} is not known", quoted(word)), remedy);
    }
    if let (Some(word), Some(known)) = (row.intent, &options.intents)
        && !known.contains(word)
    {
        let remedy = "correct the label, or add it to the list of intents";
        error("unknown_intent", format!("the intent {} is not in the list of intents", quoted(word)), remedy);
    }
    if row.turn.is_some_and(|turn| turn < 0) {
        let remedy = "number the messages of a session 0, 1, 2 ...";
        error("negative_turn", "the turn is negative".to_owned(), remedy);
    }
}

fn check_text(row: &Row<'_>, cleaned: &str, problems: &mut Vec<Problem>) {
    if row.text.trim().is_empty() {
        problems.push(Problem::at(
            Severity::Error,
            "empty_text",
            row.place(),
            "there is no text",
            "remove the row, or write what stands for the picture or the file, such as [图片]",
        ));
    } else if cleaned.trim().is_empty() {
        problems.push(Problem::at(
            Severity::Warning,
            "empty_after_cleaning",
            row.place(),
            format!("nothing is left of the text {} after cleaning", quoted(row.text)),
            "remove the row: the model would see nothing",
        ));
    }
    let is_odd = |c: char| (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || c == char::REPLACEMENT_CHARACTER;
    if let Some(odd) = row.text.chars().find(|&c| is_odd(c)) {
        problems.push(Problem::at(
            Severity::Warning,
            "control_character",
            row.place(),
            format!("the text holds the character U+{:04X}, a sign of a damaged export", u32::from(odd)),
            "export the file again, as UTF-8",
        ));
    }
}

/// Rows that stand twice, and the order of turns in the rest.
fn check_turns(rows: &[Row<'_>], problems: &mut Vec<Problem>) {
    let mut seen = HashMap::new();
    let mut last: HashMap<&str, (i64, &Row<'_>)> = HashMap::new();
    for row in rows {
        let (Some(session), Some(turn)) = (row.session, row.turn) else {
            continue;
        };
        if let Some(first) = seen.insert((session, turn, row.role, row.text), row) {
            problems.push(Problem::at(
                Severity::Warning,
                "duplicate_row",
                row.place(),
                format!("the same message stands in {}:{}", first.file, first.row),
                "remove one of them",
            ));
            continue;
        }
        match last.insert(session, (turn, row)) {
            Some((before, at)) if turn <= before => problems.push(Problem::at(
                Severity::Error,
                if turn == before { "repeated_turn" } else { "turn_order" },
                row.place(),
                format!("turn {turn} comes after turn {before} of the session ({}:{})", at.file, at.row),
                "sort the messages by session and turn, and give each its own turn; two chats need two session ids",
            )),
            _ => {}
        }
    }
}

/// Customers' texts with two labels.
fn check_conflicts(rows: &[Row<'_>], cleaned: &[String], options: &CheckOptions, problems: &mut Vec<Problem>) {
    let texts = || rows.iter().zip(cleaned).filter(|(row, text)| row.is_user() && !text.trim().is_empty());
    let remedy = "give the text one label wherever it stands, unless what came before explains the difference";

    let intents = texts().filter_map(|(row, text)| Some((text.as_str(), row.intent?, row)));
    for (text, row, labels) in two_labels(intents) {
        let severity = if text.chars().count() >= TELLING_CHARS { options.conflicts } else { Severity::Warning };
        let message = format!("the text {} has several intents: {labels}", quoted(text));
        problems.push(Problem::at(severity, "conflicting_intents", row.place(), message, remedy));
    }
    let sentiments = texts().filter_map(|(row, text)| Some((text.as_str(), row.sentiment?, row)));
    for (text, row, labels) in two_labels(sentiments) {
        let message = format!("the text {} has several sentiments: {labels}", quoted(text));
        problems.push(Problem::at(Severity::Warning, "conflicting_sentiments", row.place(), message, remedy));
    }
}

/// The texts with more than one label, each with the row where the second came up and its labels with their counts.
fn two_labels<'a>(
    labelled: impl Iterator<Item = (&'a str, &'a str, &'a Row<'a>)>,
) -> Vec<(&'a str, &'a Row<'a>, String)> {
    struct Seen<'a> {
        labels: BTreeMap<&'a str, usize>,
        second: Option<&'a Row<'a>>,
    }
    let mut texts: Vec<(&str, Seen<'_>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (text, label, row) in labelled {
        let place = *places.entry(text).or_insert_with(|| {
            texts.push((text, Seen { labels: BTreeMap::new(), second: None }));
            texts.len() - 1
        });
        let seen = &mut texts[place].1;
        *seen.labels.entry(label).or_default() += 1;
        if seen.labels.len() == 2 && seen.second.is_none() {
            seen.second = Some(row);
        }
    }
    let told = |labels: &BTreeMap<&str, usize>| {
        labels.iter().map(|(label, count)| format!("{label} ({count})")).collect::<Vec<_>>().join(", ")
    };
    texts.into_iter().filter_map(|(text, seen)| Some((text, seen.second?, told(&seen.labels)))).collect()
}

fn check_sizes(counts: &Counts, min: usize, problems: &mut Vec<Problem>) {
    let remedies = [
        (&counts.intents, "intent", "label more messages, or merge small intents into OTHER with --min-class"),
        (&counts.sentiments, "sentiment", "label more messages, or train without this sentiment"),
    ];
    for (classes, kind, remedy) in remedies {
        for (label, count) in classes.iter().filter(|(_, count)| **count < min) {
            let message = format!("the {kind} {} has {count} message(s), fewer than {min}", quoted(label));
            problems.push(Problem::overall(Severity::Warning, "small_class", message, remedy));
        }
    }
}

/// A row of a named set, with what the model sees.
struct Dealt<'a> {
    split: &'a str,
    row: &'a Row<'a>,
    text: &'a str,
}

/// Sessions, and almost the same customers' texts, on two sides.
fn check_dealt(dealt: &[Dealt<'_>], near: &NearDuplicates, problems: &mut Vec<Problem>) {
    let names: HashSet<&str> = dealt.iter().map(|dealt| dealt.split).collect();
    if names.len() < 2 {
        return;
    }
    let sessions = dealt.iter().filter_map(|dealt| Some((dealt.row.session?, dealt)));
    let mut told = HashSet::new();
    for (session, here, there) in on_two_sides(sessions) {
        if told.insert((session, here.split)) {
            problems.push(Problem::at(
                Severity::Error,
                "session_in_two_splits",
                here.row.place(),
                format!(
                    "the session {} is in {} here and in {} in {}:{}",
                    quoted(session),
                    here.split,
                    there.split,
                    there.row.file,
                    there.row.row
                ),
                "keep all messages of a session in one set: the model would be tested on what it has seen",
            ));
        }
    }

    let users: Vec<&Dealt<'_>> = dealt.iter().filter(|dealt| dealt.row.is_user()).collect();
    let texts: Vec<&str> = users.iter().map(|dealt| dealt.text).collect();
    let clusters = near.clusters(&texts);
    let clustered = users.iter().zip(clusters).filter_map(|(dealt, cluster)| Some((cluster?, *dealt)));
    for (_, here, there) in on_two_sides(clustered) {
        problems.push(Problem::at(
            Severity::Warning,
            "near_duplicate_across_splits",
            here.row.place(),
            format!(
                "the text {} of {} stands almost the same in {}, in {}:{}",
                quoted(here.text),
                here.split,
                there.split,
                there.row.file,
                there.row.row
            ),
            "split again with this program, which keeps such texts on one side",
        ));
    }
}

/// The rows whose key came up in another set before, each with where it first came up.
fn on_two_sides<'a, K: Copy + Eq + Hash>(
    keyed: impl Iterator<Item = (K, &'a Dealt<'a>)>,
) -> Vec<(K, &'a Dealt<'a>, &'a Dealt<'a>)> {
    let mut first: HashMap<K, &Dealt<'_>> = HashMap::new();
    let mut found = Vec::new();
    for (key, here) in keyed {
        let there = *first.entry(key).or_insert(here);
        if there.split != here.split {
            found.push((key, here, there));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chats::tests::chats;

    /// The cleaning of these tests: no white space and no question marks.
    fn plain(text: &str) -> String {
        text.replace([' ', '?'], "")
    }

    fn checked(rows: &[[&str; 7]], options: &CheckOptions) -> Report {
        check(&chats(rows), options, &plain).expect("checked")
    }

    #[test]
    fn every_problem_has_its_code_and_its_place() {
        const E: Severity = Severity::Error;
        const W: Severity = Severity::Warning;
        let good = ["1", "0", "user", "我要退款", "退款", "neutral", ""];
        let long = "我昨天买的鞋子什么时候发货";
        type Case<'a> = (&'a str, Severity, Option<u64>, &'a [[&'a str; 7]]);
        let cases: &[Case<'_>] = &[
            ("missing_session", E, Some(1), &[["", "0", "user", "好", "", "", ""]]),
            ("bad_turn", E, Some(1), &[["1", "一", "user", "好", "", "", ""]]),
            ("bad_turn", E, Some(1), &[["1", "", "user", "好", "", "", ""]]),
            ("negative_turn", E, Some(1), &[["1", "-1", "user", "好", "", "", ""]]),
            ("unknown_role", E, Some(2), &[good, ["1", "1", "客服", "好", "", "", ""]]),
            ("unknown_role", E, Some(1), &[["1", "1", "", "好", "", "", ""]]),
            ("unknown_sentiment", E, Some(1), &[["1", "1", "user", "好", "", "开心", ""]]),
            ("unknown_intent", E, Some(2), &[good, ["1", "1", "user", "好", "物流", "", ""]]),
            ("empty_text", E, Some(1), &[["1", "1", "user", " ", "", "", ""]]),
            ("empty_after_cleaning", W, Some(1), &[["1", "1", "user", "??", "", "", ""]]),
            ("control_character", W, Some(1), &[["1", "1", "user", "好\u{0}", "", "", ""]]),
            ("control_character", W, Some(1), &[["1", "1", "user", "好\u{fffd}", "", "", ""]]),
            ("duplicate_row", W, Some(2), &[good, good]),
            ("repeated_turn", E, Some(2), &[good, ["1", "0", "user", "好", "", "", ""]]),
            ("turn_order", E, Some(2), &[["1", "2", "user", "我", "", "", ""], ["1", "1", "user", "好", "", "", ""]]),
            ("conflicting_intents", W, Some(2), &[good, ["2", "0", "user", "我要 退款", "发票", "", ""]]),
            ("conflicting_sentiments", W, Some(2), &[good, ["2", "0", "user", "我要退款?", "", "negative", ""]]),
            ("small_class", W, None, &[["1", "0", "user", "发票怎么开", "发票", "", ""]]),
            (
                "session_in_two_splits",
                E,
                Some(2),
                &[["1", "0", "user", "你好", "", "", "train"], ["1", "1", "user", "发票", "", "", "test"]],
            ),
            (
                "near_duplicate_across_splits",
                W,
                Some(2),
                &[["1", "0", "user", long, "", "", "train"], ["2", "0", "user", &format!("{long}?"), "", "", "test"]],
            ),
        ];
        let options = CheckOptions {
            intents: Some(["退款", "发票"].map(str::to_owned).into()),
            min_per_class: 1,
            ..CheckOptions::default()
        };
        for (code, severity, row, rows) in cases {
            let min_per_class = if *code == "small_class" { 2 } else { 1 };
            let report = checked(rows, &CheckOptions { min_per_class, ..options.clone() });
            let codes: Vec<_> = report.problems.iter().map(|problem| problem.code).collect();
            assert_eq!(codes, [*code], "{rows:?}: {:?}", report.problems);
            assert_eq!((report.problems[0].severity, report.problems[0].row), (*severity, *row), "{code}");
            assert_eq!(report.has_errors(), *severity == E, "{code}");
        }
        assert_eq!(checked(&[good], &options).problems, []);
    }

    #[test]
    fn only_a_telling_text_with_two_intents_can_be_an_error() {
        let options = CheckOptions { conflicts: Severity::Error, min_per_class: 0, ..CheckOptions::default() };
        for (text, severity) in [("怎么退款", Severity::Warning), ("怎么申请退款", Severity::Error)] {
            let report = checked(
                &[["1", "0", "user", text, "退款", "", ""], ["2", "0", "user", text, "售后", "", ""]],
                &options,
            );
            assert_eq!(report.problems[0].severity, severity, "{text}");
            assert!(report.problems[0].message.contains("售后 (1), 退款 (1)"));
        }
    }

    #[test]
    fn gaps_and_interleaved_sessions_are_fine() {
        let report = checked(
            &[
                ["1", "0", "user", "你好", "", "", ""],
                ["2", "5", "user", "在吗", "", "", ""],
                ["1", "7", "agent", "您好", "", "", ""],
                ["2", "6", "bot", "您好", "", "", ""],
            ],
            &CheckOptions::default(),
        );
        assert_eq!(report.problems, []);
    }

    #[test]
    fn named_splits_are_held_against_each_other() {
        let train = chats(&[["1", "0", "user", "我昨天买的鞋子什么时候发货", "", "", ""]]);
        let test = chats(&[
            ["1", "1", "user", "好的", "", "", ""],
            ["3", "0", "user", "我昨天买的鞋子什么时候发货", "", "", ""],
        ]);
        let options = CheckOptions::default();
        let problems = check_splits(&[("train", &train), ("test", &test)], &options, &plain).expect("checked");
        let told: Vec<_> = problems.iter().map(|problem| (problem.code, problem.row)).collect();
        assert_eq!(told, [("session_in_two_splits", Some(1)), ("near_duplicate_across_splits", Some(2))]);
        assert!(check_splits(&[("train", &train)], &options, &plain).expect("checked").is_empty());
    }

    #[test]
    fn a_report_is_json_for_programs_and_a_table_for_people() {
        let report = checked(&[["1", "0", "客户", "好", "", "", ""]], &CheckOptions::default());
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["problems"][0]["severity"], "error");
        assert_eq!(json["problems"][0]["code"], "unknown_role");
        assert_eq!(json["counts"]["messages"], 1);
        assert!(report.table(3).starts_with("error: unknown_role (1)\n  a.csv:1  the role `客户` is not known\n"));
    }
}
