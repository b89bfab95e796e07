//! Chats dealt to train, validation and test.
//!
//! The rules, in their order:
//!
//! 1. A session is never cut.
//! 2. Sessions in which customers say almost the same ([`NearDuplicates`]) are one group, and a group is never cut.
//! 3. A group of more than [`SplitOptions::max_group`] of all sessions would leave nothing to deal: phrases that everybody
//!    uses chain nearly all chats of a shop together. Such a group is undone. Its sessions are dealt one by one, and
//!    then the rows of validation that stand almost the same in train, and those of test that stand so in train or
//!    validation, lose their labels: they stay as context, but nothing is measured on what was learned by heart.
//! 4. Groups are dealt by iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the rarest label first, each
//!    group to the set that lacks this label most.
//! 5. A set that got nothing is given the smallest group of the set that has most.
//! 6. A label with at least ten sessions that still misses a set gets one of its groups moved there, where that takes no
//!    such label from a set.
//!
//! The same chats and seed give the same sets, in whatever order the rows stand.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::chats::{Chats, Row};
use crate::error::{DatasetsError, Result};
use crate::near_duplicate::{Clusters, NearDuplicates};

/// Which labels are spread evenly.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StratifyBy {
    /// Intents.
    Intent,
    /// Sentiments.
    Sentiment,
    /// Both.
    #[default]
    Both,
}

impl StratifyBy {
    /// The labels of a row, each with its kind.
    fn labels<'a>(self, row: &Row<'a>) -> impl Iterator<Item = (&'static str, &'a str)> {
        let intent = row.intent.filter(|_| self != StratifyBy::Sentiment).map(|label| ("intent", label));
        let sentiment = row.sentiment.filter(|_| self != StratifyBy::Intent).map(|label| ("sentiment", label));
        intent.into_iter().chain(sentiment)
    }
}

/// How to split.
#[derive(Clone, Debug, PartialEq)]
pub struct SplitOptions {
    /// The share of sessions to learn from.
    pub train: f64,
    /// The share to choose by.
    pub validation: f64,
    /// The share to judge by, once.
    pub test: f64,
    /// The same seed gives the same sets.
    pub seed: u64,
    /// Which labels are spread evenly.
    pub stratify_by: StratifyBy,
    /// Which texts must stay on one side.
    pub near_duplicates: NearDuplicates,
    /// The largest share of all sessions that a group may have.
    pub max_group: f64,
}

impl Default for SplitOptions {
    fn default() -> Self {
        SplitOptions {
            train: 0.8,
            validation: 0.1,
            test: 0.1,
            seed: 0,
            stratify_by: StratifyBy::default(),
            near_duplicates: NearDuplicates::default(),
            max_group: 0.2,
        }
    }
}

/// The three sets; each keeps the order of the rows.
#[derive(Clone, Debug)]
pub struct Splits {
    /// To learn from.
    pub train: Chats,
    /// To choose by.
    pub validation: Chats,
    /// To judge by, once.
    pub test: Chats,
    /// What was done.
    pub report: SplitReport,
}

/// What one set got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SplitCounts {
    /// Chats.
    pub sessions: usize,
    /// Rows.
    pub messages: usize,
    /// Rows that lost their labels, by rule 3.
    pub labels_removed: usize,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SplitReport {
    /// What train got.
    pub train: SplitCounts,
    /// What validation got.
    pub validation: SplitCounts,
    /// What test got.
    pub test: SplitCounts,
    /// Groups of at least two sessions that were kept on one side.
    pub groups: usize,
    /// The sessions in them.
    pub grouped_sessions: usize,
    /// Groups that were too large and undone.
    pub groups_undone: usize,
    /// The sessions in those.
    pub undone_sessions: usize,
}

/// A label with fewer sessions may miss a set.
const SESSIONS_PER_LABEL: usize = 10;
const SETS: usize = 3;

/// Splits chats by whole sessions; `model_text` makes of a text what the model will see.
pub fn split(chats: &Chats, options: &SplitOptions, model_text: &dyn Fn(&str) -> String) -> Result<Splits> {
    let rows = chats.rows()?;
    let shares = [options.train, options.validation, options.test];
    let names: BTreeSet<&str> = rows.iter().map(Row::known_session).collect::<Result<_>>()?;
    check_shares(shares, names.len())?;
    let places: HashMap<&str, usize> = names.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    let sessions: Vec<usize> = rows.iter().map(|row| Ok(places[row.known_session()?])).collect::<Result<_>>()?;

    let clusters = clusters_of_rows(&rows, options, model_text);
    let mut report = SplitReport::default();
    let groups = group_sessions(names.len(), &sessions, &clusters, options.max_group, &mut report);
    let groups = with_labels(groups, &rows, &sessions, options.stratify_by);
    let sets = deal(&groups, shares, options.seed);
    let splits = shares.iter().filter(|&&share| share > 0.0).count();
    if sets.iter().collect::<BTreeSet<_>>().len() < splits {
        return Err(DatasetsError::TooFewSessions { sessions: names.len(), splits });
    }

    let mut set_of_session = vec![0; names.len()];
    for (group, &set) in groups.iter().zip(&sets) {
        for &session in &group.sessions {
            set_of_session[session] = set;
        }
    }
    let set_of_row: Vec<usize> = sessions.iter().map(|&session| set_of_session[session]).collect();
    let mut blank = learned_by_heart(&set_of_row, &clusters);
    for (blank, row) in blank.iter_mut().zip(&rows) {
        *blank &= row.has_label();
    }
    let labelled = chats.without_labels(&blank)?;

    let part = |set: usize| -> Result<(Chats, SplitCounts)> {
        let keep: Vec<bool> = set_of_row.iter().map(|&of_row| of_row == set).collect();
        let counts = SplitCounts {
            sessions: set_of_session.iter().filter(|&&of_session| of_session == set).count(),
            messages: keep.iter().filter(|&&keep| keep).count(),
            labels_removed: keep.iter().zip(&blank).filter(|&(&keep, &blank)| keep && blank).count(),
        };
        Ok((labelled.filter(&keep)?, counts))
    };
    let (train, validation, test) = (part(0)?, part(1)?, part(2)?);
    (report.train, report.validation, report.test) = (train.1, validation.1, test.1);
    Ok(Splits { train: train.0, validation: validation.0, test: test.0, report })
}

fn check_shares(shares: [f64; SETS], sessions: usize) -> Result<()> {
    let sound = shares.iter().all(|share| (0.0..=1.0).contains(share))
        && shares[0] > 0.0
        && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-6;
    if !sound {
        return Err(DatasetsError::Fractions { train: shares[0], validation: shares[1], test: shares[2] });
    }
    let splits = shares.iter().filter(|&&share| share > 0.0).count();
    if sessions < splits {
        return Err(DatasetsError::TooFewSessions { sessions, splits });
    }
    Ok(())
}

/// The cluster of almost equal texts of each row that a model may be measured on: those of customers, and whatever else
/// has a label.
fn clusters_of_rows(
    rows: &[Row<'_>],
    options: &SplitOptions,
    model_text: &dyn Fn(&str) -> String,
) -> Vec<Option<usize>> {
    let measured: Vec<usize> = (0..rows.len()).filter(|&at| rows[at].is_user() || rows[at].has_label()).collect();
    let texts: Vec<String> = measured.iter().map(|&at| model_text(rows[at].text)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut clusters = vec![None; rows.len()];
    for (at, cluster) in measured.into_iter().zip(options.near_duplicates.clusters(&texts)) {
        clusters[at] = cluster;
    }
    clusters
}

/// Unites sessions that share a cluster, and undoes what has grown too large. The groups come in the order of sessions.
fn group_sessions(
    count: usize,
    sessions: &[usize],
    clusters: &[Option<usize>],
    max_group: f64,
    report: &mut SplitReport,
) -> Vec<Vec<usize>> {
    let mut united = Clusters::new(count);
    let mut first: HashMap<usize, usize> = HashMap::new();
    for (&session, cluster) in sessions.iter().zip(clusters) {
        if let Some(cluster) = cluster {
            united.unite(session, *first.entry(*cluster).or_insert(session));
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for session in 0..count {
        groups.entry(united.find(session)).or_default().push(session);
    }
    let most = ((max_group * count as f64) as usize).max(2);
    let mut kept = Vec::with_capacity(groups.len());
    for group in groups.into_values() {
        if group.len() > most {
            report.groups_undone += 1;
            report.undone_sessions += group.len();
            kept.extend(group.into_iter().map(|session| vec![session]));
        } else {
            if group.len() > 1 {
                report.groups += 1;
                report.grouped_sessions += group.len();
            }
            kept.push(group);
        }
    }
    kept
}

/// Sessions that go together.
struct Group {
    sessions: Vec<usize>,
    /// How many of its sessions have each label.
    labels: BTreeMap<usize, usize>,
    messages: usize,
}

fn with_labels(groups: Vec<Vec<usize>>, rows: &[Row<'_>], sessions: &[usize], stratify_by: StratifyBy) -> Vec<Group> {
    let mut pairs: BTreeSet<((&str, &str), usize)> = BTreeSet::new();
    let mut messages: HashMap<usize, usize> = HashMap::new();
    for (row, &session) in rows.iter().zip(sessions) {
        *messages.entry(session).or_default() += 1;
        pairs.extend(stratify_by.labels(row).map(|label| (label, session)));
    }
    let names: BTreeSet<(&str, &str)> = pairs.iter().map(|(label, _)| *label).collect();
    let numbers: HashMap<(&str, &str), usize> = names.into_iter().zip(0..).collect();
    let mut labels: HashMap<usize, Vec<usize>> = HashMap::new();
    for (label, session) in pairs {
        labels.entry(session).or_default().push(numbers[&label]);
    }
    groups
        .into_iter()
        .map(|sessions| {
            let mut counts = BTreeMap::new();
            for label in sessions.iter().filter_map(|session| labels.get(session)).flatten() {
                *counts.entry(*label).or_default() += 1;
            }
            let messages = sessions.iter().filter_map(|session| messages.get(session)).sum();
            Group { sessions, labels: counts, messages }
        })
        .collect()
}

/// Iterative stratification: the set of each group.
fn deal(groups: &[Group], shares: [f64; SETS], seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let labels = groups.iter().flat_map(|group| group.labels.keys()).max().map_or(0, |label| label + 1);
    let mut left = vec![0usize; labels];
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); labels];
    // Large groups first, because small ones can still even out what large ones have done; equal ones by lot.
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.shuffle(&mut random);
    order.sort_by_key(|&group| std::cmp::Reverse(groups[group].sessions.len()));
    for &group in &order {
        for (&label, count) in &groups[group].labels {
            left[label] += count;
            members[label].push(group);
        }
    }
    let totals = left.clone();

    // What each set still lacks: of each label, of sessions, of messages.
    let wanted = |total: usize| shares.map(|share| share * total as f64);
    let mut lack: Vec<[f64; SETS]> = totals.iter().map(|&total| wanted(total)).collect();
    let mut lack_sessions = wanted(groups.iter().map(|group| group.sessions.len()).sum());
    let mut lack_messages = wanted(groups.iter().map(|group| group.messages).sum());

    let mut sets: Vec<Option<usize>> = vec![None; groups.len()];
    loop {
        let rarest = (0..labels).filter(|&label| left[label] > 0).min_by_key(|&label| left[label]);
        let next: Vec<usize> = match rarest {
            Some(label) => members[label].iter().copied().filter(|&group| sets[group].is_none()).collect(),
            None => order.iter().copied().filter(|&group| sets[group].is_none()).collect(),
        };
        if next.is_empty() {
            break;
        }
        for group in next {
            let of_label = rarest.map_or(lack_sessions, |label| lack[label]);
            let set = neediest(shares, [of_label, lack_sessions, lack_messages], &mut random);
            sets[group] = Some(set);
            for (&label, &count) in &groups[group].labels {
                left[label] -= count;
                lack[label][set] -= count as f64;
            }
            lack_sessions[set] -= groups[group].sessions.len() as f64;
            lack_messages[set] -= groups[group].messages as f64;
        }
    }
    let mut sets: Vec<usize> = sets.into_iter().map(Option::unwrap_or_default).collect();
    fill_empty(groups, &order, shares, &mut sets);
    fill_missing(groups, &order, &totals, shares, &mut sets);
    sets
}

/// The set that lacks most; equal ones are told apart by the next lack, and at last by lot.
fn neediest(shares: [f64; SETS], lacks: [[f64; SETS]; 3], random: &mut ChaCha8Rng) -> usize {
    let mut best: Vec<usize> = (0..SETS).filter(|&set| shares[set] > 0.0).collect();
    for lack in lacks {
        let most = best.iter().map(|&set| lack[set]).fold(f64::NEG_INFINITY, f64::max);
        best.retain(|&set| lack[set] > most - 1e-9);
    }
    best.choose(random).copied().unwrap_or_default()
}

/// Rule 5: gives a set without any group one, if another has two.
fn fill_empty(groups: &[Group], order: &[usize], shares: [f64; SETS], sets: &mut [usize]) {
    for set in (0..SETS).filter(|&set| shares[set] > 0.0) {
        let mut sizes = [0usize; SETS];
        sets.iter().for_each(|&of_group| sizes[of_group] += 1);
        let richest = (0..SETS).max_by_key(|&set| sizes[set]).unwrap_or_default();
        if sizes[set] > 0 || sizes[richest] < 2 {
            continue;
        }
        let of_richest = order.iter().copied().filter(|&group| sets[group] == richest);
        if let Some(group) = of_richest.min_by_key(|&group| groups[group].sessions.len()) {
            sets[group] = set;
        }
    }
}

/// Rule 6: moves a group for each label that is frequent enough and misses a set.
fn fill_missing(groups: &[Group], order: &[usize], totals: &[usize], shares: [f64; SETS], sets: &mut [usize]) {
    let mut holders = vec![[0usize; SETS]; totals.len()];
    for (group, &set) in groups.iter().zip(sets.iter()) {
        for &label in group.labels.keys() {
            holders[label][set] += 1;
        }
    }
    for label in (0..totals.len()).filter(|&label| totals[label] >= SESSIONS_PER_LABEL) {
        for set in (0..SETS).filter(|&set| shares[set] > 0.0) {
            if holders[label][set] > 0 {
                continue;
            }
            let can_go = |group: usize| {
                let from = sets[group];
                let spared = |other: &usize| totals[*other] < SESSIONS_PER_LABEL || holders[*other][from] > 1;
                groups[group].labels.contains_key(&label) && groups[group].labels.keys().all(spared)
            };
            let movable = order.iter().copied().filter(|&group| can_go(group));
            if let Some(group) = movable.min_by_key(|&group| (groups[group].sessions.len(), sets[group])) {
                for &other in groups[group].labels.keys() {
                    holders[other][sets[group]] -= 1;
                    holders[other][set] += 1;
                }
                sets[group] = set;
            }
        }
    }
}

/// The rows whose text stands almost the same in a set before theirs.
fn learned_by_heart(set_of_row: &[usize], clusters: &[Option<usize>]) -> Vec<bool> {
    let known: HashSet<(usize, usize)> =
        set_of_row.iter().zip(clusters).filter_map(|(&set, cluster)| Some((set, (*cluster)?))).collect();
    set_of_row
        .iter()
        .zip(clusters)
        .map(|(&set, cluster)| cluster.is_some_and(|cluster| (0..set).any(|before| known.contains(&(before, cluster)))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chats::tests::chats;

    const INTENTS: [&str; 6] = ["退款", "物流", "发票", "价格", "修改地址", "人工"];
    const SENTIMENTS: [&str; 3] = ["negative", "neutral", "positive"];

    /// Chats with one to four user messages, intents of very different size, and texts that share little.
    fn sample(sessions: usize) -> Vec<[String; 7]> {
        let mut rows = Vec::new();
        for session in 0..sessions {
            for turn in 0..1 + session % 4 {
                let number = session * 7 + turn;
                let intent = match number % 40 {
                    0..=19 => INTENTS[0],
                    20..=29 => INTENTS[1],
                    30..=34 => INTENTS[2],
                    35..=37 => INTENTS[3],
                    38 => INTENTS[4],
                    _ => INTENTS[5],
                };
                let text: String =
                    (0..12).filter_map(|k| char::from_u32(0x4E00 + (number as u32 * 613 + k * 97) % 20_000)).collect();
                let sentiment = SENTIMENTS[number % 3];
                rows.push(
                    [&format!("s{session:04}"), &turn.to_string(), "user", &text, intent, sentiment, ""]
                        .map(str::to_owned),
                );
            }
        }
        rows
    }

    fn table(rows: &[[String; 7]]) -> Chats {
        let rows: Vec<[&str; 7]> = rows.iter().map(|row| row.each_ref().map(String::as_str)).collect();
        chats(&rows)
    }

    fn same(text: &str) -> String {
        text.to_owned()
    }

    fn dealt(rows: &[[String; 7]], options: &SplitOptions) -> Splits {
        split(&table(rows), options, &same).expect("split")
    }

    fn sessions(chats: &Chats) -> BTreeSet<String> {
        chats.rows().expect("rows").iter().filter_map(|row| row.session.map(str::to_owned)).collect()
    }

    fn all(splits: &Splits) -> [BTreeSet<String>; 3] {
        [&splits.train, &splits.validation, &splits.test].map(sessions)
    }

    #[test]
    fn sessions_stay_whole_and_shares_are_kept() {
        for seed in 0..5 {
            let rows = sample(400);
            let splits = dealt(&rows, &SplitOptions { seed, ..SplitOptions::default() });
            let [train, validation, test] = all(&splits);
            assert!(train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test));
            assert_eq!(train.len() + validation.len() + test.len(), 400);
            assert_eq!(splits.train.len() + splits.validation.len() + splits.test.len(), rows.len());
            for (set, share) in [(&splits.train, 0.8), (&splits.validation, 0.1), (&splits.test, 0.1)] {
                let got = set.len() as f64 / rows.len() as f64;
                assert!((got - share).abs() < 0.03, "seed {seed}: {got} of {share}");
            }
            assert_eq!(splits.report.train.sessions, train.len());
            assert_eq!(splits.report.test.messages, splits.test.len());
        }
    }

    #[test]
    fn every_frequent_class_is_in_every_set() {
        for seed in 0..20 {
            for sessions in [40, 100, 400] {
                let rows = sample(sessions);
                let splits = dealt(&rows, &SplitOptions { seed, ..SplitOptions::default() });
                let all_rows = table(&rows);
                let whole = all_rows.rows().expect("rows");
                for intent in INTENTS {
                    let holders: BTreeSet<_> =
                        whole.iter().filter(|row| row.intent == Some(intent)).filter_map(|row| row.session).collect();
                    if holders.len() >= SESSIONS_PER_LABEL {
                        for set in [&splits.train, &splits.validation, &splits.test] {
                            let counts = set.counts().expect("counts");
                            assert!(counts.intents.contains_key(intent), "seed {seed}, {sessions} sessions: {intent}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_seed_decides_and_the_order_of_rows_does_not() {
        let mut rows = sample(120);
        let options = SplitOptions { seed: 7, ..SplitOptions::default() };
        let first = all(&dealt(&rows, &options));
        assert_eq!(first, all(&dealt(&rows, &options)));
        rows.reverse();
        assert_eq!(first, all(&dealt(&rows, &options)));
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(first, all(&dealt(&rows, &options)));
        assert_ne!(first, all(&dealt(&rows, &SplitOptions { seed: 8, ..options })));
    }

    #[test]
    fn almost_the_same_texts_stay_on_one_side() {
        let mut rows = sample(100);
        // Sessions 10 to 19, 20 to 29, ... share their first text, but for one mark.
        for row in rows.iter_mut().filter(|row| row[1] == "0") {
            let ten = row[0][1..4].to_owned();
            if ten.parse::<usize>().expect("a number") % 2 == 0 {
                let mark = if row[0].ends_with('3') { "?" } else { "" };
                row[3] = format!("第{ten}次请问一下我在你们这里买的那件东西究竟什么时候能够送到我的家里来{mark}");
            }
        }
        for seed in 0..5 {
            let options = SplitOptions {
                seed,
                near_duplicates: NearDuplicates { threshold: 0.9, ..NearDuplicates::default() },
                ..SplitOptions::default()
            };
            let splits = dealt(&rows, &options);
            assert_eq!((splits.report.groups, splits.report.grouped_sessions), (5, 50));
            assert_eq!(splits.report.groups_undone, 0);
            for ten in (0..10).step_by(2) {
                let holding = all(&splits)
                    .iter()
                    .filter(|set| set.iter().any(|session| session[1..4] == format!("{ten:03}")))
                    .count();
                assert_eq!(holding, 1, "seed {seed}: {ten}");
            }
            assert_eq!(splits.report.test.labels_removed + splits.report.validation.labels_removed, 0);
        }
    }

    #[test]
    fn a_group_of_nearly_all_is_undone_and_nothing_learned_by_heart_is_measured() {
        let mut rows = sample(100);
        for row in rows.iter_mut().filter(|row| row[1] == "0" && row[0].as_str() < "s0060") {
            row[3] = "麻烦你帮我看一下订单".to_owned();
        }
        let splits = dealt(&rows, &SplitOptions::default());
        assert_eq!((splits.report.groups_undone, splits.report.undone_sessions), (1, 60));
        let [train, validation, test] = all(&splits);
        assert!(train.len() > 70 && !validation.is_empty() && !test.is_empty());
        for set in [&splits.validation, &splits.test] {
            for row in set.rows().expect("rows").iter().filter(|row| row.text.starts_with("麻烦")) {
                assert_eq!((row.intent, row.sentiment), (None, None));
            }
        }
        let kept = splits.train.rows().expect("rows").iter().all(|row| row.intent.is_some());
        assert!(kept && splits.report.train.labels_removed == 0);
        assert!(splits.report.validation.labels_removed + splits.report.test.labels_removed > 0);
    }

    #[test]
    fn what_cannot_be_split_says_why() {
        let rows = sample(2);
        let sentence = |options: &SplitOptions, rows: &[[String; 7]]| {
            split(&table(rows), options, &same).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(sentence(&SplitOptions::default(), &rows).starts_with("2 session(s) cannot be dealt to 3 sets"));
        for (train, validation, test) in [(0.8, 0.1, 0.2), (0.0, 0.5, 0.5), (1.2, -0.1, -0.1), (f64::NAN, 0.5, 0.5)] {
            let options = SplitOptions { train, validation, test, ..SplitOptions::default() };
            assert!(sentence(&options, &rows).starts_with("the fractions train"));
        }
        let two = SplitOptions { train: 0.5, validation: 0.0, test: 0.5, ..SplitOptions::default() };
        let splits = dealt(&rows, &two);
        assert_eq!(all(&splits).map(|set| set.len()), [1, 0, 1]);
        assert!(splits.validation.is_empty() && splits.validation.messages().expect("messages").is_empty());
        let mut lost = sample(9);
        lost[3][0] = String::new();
        assert!(sentence(&SplitOptions::default(), &lost).starts_with("a.csv:4: there is no session_id"));
    }

    #[test]
    fn few_sessions_leave_no_set_empty() {
        for count in 3..12 {
            let report = dealt(&sample(count), &SplitOptions::default()).report;
            let got = [report.train.sessions, report.validation.sessions, report.test.sessions];
            assert!(got.iter().all(|&sessions| sessions > 0) && got[0] >= got[1].max(got[2]), "{count}: {got:?}");
        }
    }

    #[test]
    fn a_frequent_label_that_misses_sets_is_moved_there() {
        let group = |session, label| Group { sessions: vec![session], labels: [(label, 1)].into(), messages: 1 };
        let groups: Vec<Group> = (0..10).map(|session| group(session, 0)).chain([group(10, 1)]).collect();
        let order: Vec<usize> = (0..groups.len()).collect();
        let mut sets = vec![0; groups.len()];
        fill_missing(&groups, &order, &[10, 1], [0.8, 0.1, 0.1], &mut sets);
        let count = |set| sets[..10].iter().filter(|&&of_group| of_group == set).count();
        assert_eq!([0, 1, 2].map(count), [8, 1, 1]);
        assert_eq!(sets[10], 0, "a rare label stays where it is");
    }

    #[test]
    fn chats_without_labels_are_split_by_sessions() {
        let mut rows = sample(200);
        for row in &mut rows {
            (row[4], row[5]) = (String::new(), String::new());
        }
        let report = dealt(&rows, &SplitOptions::default()).report;
        assert_eq!([report.train.sessions, report.validation.sessions, report.test.sessions], [160, 20, 20]);
    }
}
