//! Fits the second stage on labelled questions and chooses from which probability on it may answer.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use yingda_models::{
    Seeded,
    selective::{Bound, GRID, RiskCoverage, Row as JudgedRow, choose, rows_that_would_do},
};

use super::{
    AnswerThresholds, Certificate, Ranker, Tuning, certainty,
    features::Features,
    fit::{Row, fit},
};
use crate::{Conversation, EngineError, PastTurn, Role};

/// Parts of the labelled questions; each is judged by weights that were fitted on the others.
const FOLDS: usize = 5;

/// Fewer labelled questions than this say nothing.
const LEAST: usize = 30;

/// The least share of questions without an answer. Where there are fewer, questions are also shown with their right entries
/// taken away, so that the second stage learns what "nothing" looks like.
const WITHOUT_ANSWER: f64 = 0.25;

/// A question with the entries that answer it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledQuestion {
    /// What was said before, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<ContextTurn>,
    /// What a customer wrote.
    pub text: String,
    /// Ids of the entries whose answer is right; none: the knowledge does not answer it.
    pub knowledge: Vec<String>,
}

/// A turn before a labelled question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextTurn {
    /// Who wrote it.
    pub role: Role,
    /// What they wrote.
    pub text: String,
}

impl LabelledQuestion {
    /// What was said before, as the engine takes it.
    pub fn conversation(&self) -> Conversation {
        let turn =
            |turn: &ContextTurn| PastTurn { role: turn.role, text: turn.text.clone(), sentiment: None, decision: None };
        Conversation { turns: self.context.iter().map(turn).collect(), ..Conversation::default() }
    }
}

/// What tuning is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TuneOptions {
    /// Largest share of wrong ones among automatic answers.
    pub max_wrong: f64,
    /// Probability with which the share must stay below it.
    pub confidence: f64,
    /// Seed of the parts.
    pub seed: u64,
}

impl Default for TuneOptions {
    fn default() -> Self {
        Self { max_wrong: 0.02, confidence: 0.95, seed: 42 }
    }
}

/// How well a way of searching finds a right entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MethodScores {
    /// The way: `dense`, `sparse`, `fused` or `second stage`.
    pub method: String,
    /// Share of the answerable questions with a right entry first.
    pub recall_at_1: f64,
    /// Share with a right entry among the first ten.
    pub recall_at_10: f64,
    /// Mean reciprocal rank of the first right entry within the first ten.
    pub mrr_at_10: f64,
    /// Area under the ROC curve of telling answerable questions from others; `None` without others.
    pub no_match_auroc: Option<f64>,
    /// Share of the answerable questions that can be answered with at most 2 % wrong answers, surest first.
    pub coverage_at_2: f64,
}

/// What came of tuning. All figures are of questions that the judging weights had not seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneReport {
    /// Labelled questions.
    pub questions: usize,
    /// Those that the knowledge answers.
    pub answerable: usize,
    /// Questions that were only judged.
    pub judged: usize,
    /// Answerable questions of which no right entry was found: too far, or an id that is not in the store.
    pub not_found: Vec<LabelledQuestion>,
    /// Each way of searching.
    pub methods: Vec<MethodScores>,
    /// Mean of the probability that was promised for the first entry, and how often it was right.
    pub promised: f64,
    /// How often the first entry was right, over the same questions.
    pub kept: f64,
    /// The thresholds.
    pub thresholds: AnswerThresholds,
    /// Share of all labelled questions that are answered at the threshold.
    pub coverage: f64,
    /// Share of wrong ones among them.
    pub wrong: f64,
    /// What was certified.
    pub certificate: Option<Certificate>,
    /// How many labelled questions like these would about do for the certificate that was asked for, where it was not given.
    pub questions_that_would_do: Option<usize>,
}

/// A labelled question with what the store found for it.
pub(crate) struct Seen {
    pub(crate) text: String,
    pub(crate) features: Features,
    /// The same without its right entries; `None` when it has none.
    pub(crate) without: Option<Features>,
    /// Ids of the candidates, in the order of the features.
    pub(crate) ids: Vec<String>,
    /// Ids that are right.
    pub(crate) right: HashSet<String>,
    /// Entries in the order of each way of searching, with the best score.
    pub(crate) orders: [(Vec<String>, f32); 3],
}

impl Seen {
    fn is_right(&self, at: usize) -> bool {
        self.right.contains(&self.ids[at])
    }

    fn not_found(&self) -> Option<LabelledQuestion> {
        let missing = !self.right.is_empty() && !(0..self.ids.len()).any(|at| self.is_right(at));
        let mut knowledge: Vec<String> = self.right.iter().cloned().collect();
        knowledge.sort();
        missing.then(|| LabelledQuestion { text: self.text.clone(), knowledge, ..LabelledQuestion::default() })
    }

    fn row(&self) -> Row {
        let right = (0..self.ids.len()).filter(|&at| self.is_right(at)).collect();
        Row { features: self.features.clone(), right, weight: 1.0 }
    }
}

/// What weights make of a question that they had not seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Ids with probabilities, likeliest first.
    pub order: Vec<(String, f32)>,
    /// Probability that any is right.
    pub relevant: f32,
    /// As [`certainty`] of the reply decision.
    pub certainty: f32,
    /// Whether the first is right.
    pub right: bool,
}

fn judge(ranker: &Ranker, seen: &Seen) -> Judged {
    let mut probabilities = ranker.probabilities(&seen.features);
    let nothing = probabilities.pop().unwrap_or(1.0);
    let mut order: Vec<(String, f32)> = seen.ids.iter().cloned().zip(probabilities.iter().map(|p| *p as f32)).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let right = order.first().is_some_and(|first| seen.right.contains(&first.0));
    Judged { relevant: (1.0 - nothing) as f32, certainty: certainty(order.iter().map(|pair| pair.1)), right, order }
}

fn learn(seen: &[&Seen]) -> Ranker {
    let mut rows: Vec<Row> = seen.iter().map(|seen| seen.row()).collect();
    let outside = seen.iter().filter(|seen| seen.right.is_empty()).count() as f64;
    let answerable = seen.len() as f64 - outside;
    let missing = WITHOUT_ANSWER / (1.0 - WITHOUT_ANSWER) * answerable - outside;
    if missing > 0.0 {
        let weight = missing / answerable;
        let copies = seen.iter().filter_map(|seen| seen.without.clone());
        rows.extend(copies.map(|features| Row { features, right: Vec::new(), weight }));
    }
    fit(&rows)
}

/// Fits and measures; `only_judged` are questions that nothing is learnt from.
pub(crate) fn tune(
    seen: &[Seen],
    only_judged: &[Seen],
    options: TuneOptions,
) -> Result<(Tuning, TuneReport), EngineError> {
    let answerable = seen.iter().filter(|seen| !seen.right.is_empty()).count();
    if seen.len() < LEAST || answerable < LEAST / 2 {
        return Err(EngineError::Tuning(format!(
            "there are {} labelled questions, {answerable} of which the knowledge answers; tuning wants at least {LEAST}, half of \
             them answerable, and some hundreds say more",
            seen.len()
        )));
    }
    let mut order: Vec<usize> = (0..seen.len()).collect();
    Seeded::new(options.seed, 0).shuffle(&mut order);
    let mut judged: Vec<Option<Judged>> = vec![None; seen.len()];
    for fold in 0..FOLDS {
        let others: Vec<&Seen> =
            order.iter().enumerate().filter(|(place, _)| place % FOLDS != fold).map(|(_, &at)| &seen[at]).collect();
        let ranker = learn(&others);
        for &at in order.iter().skip(fold).step_by(FOLDS) {
            judged[at] = Some(judge(&ranker, &seen[at]));
        }
    }
    let judged: Vec<Judged> = judged.into_iter().flatten().collect();
    let all: Vec<&Seen> = seen.iter().collect();
    let ranker = learn(&all);
    let also: Vec<Judged> = only_judged.iter().map(|seen| judge(&ranker, seen)).collect();

    let bound = Bound { max_wrong: options.max_wrong, confidence: options.confidence };
    let rows: Vec<[JudgedRow; 1]> =
        judged.iter().map(|judged| [JudgedRow::new(0, judged.certainty, true, !judged.right)]).collect();
    let rows: Vec<&[JudgedRow]> = rows.iter().map(<[JudgedRow; 1]>::as_slice).collect();
    let choice = choose(&rows, &[0], bound, false);
    let group = &choice.groups[0];
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let (answer, certificate, would_do) = match group.certified {
        Some(certified) => {
            let coverage = share(certified.answered, seen.len());
            let certificate = Certificate { max_wrong: options.max_wrong, confidence: options.confidence, coverage };
            (GRID[certified.step], Some(certificate), None)
        }
        None => {
            let would_do =
                group.nearest.and_then(|nearest| rows_that_would_do(nearest, seen.len(), bound, choice.design_effect));
            (measured_threshold(&judged, options.max_wrong), None, would_do)
        }
    };
    let relevant = relevant_threshold(seen, &judged).min(answer);
    let answered: Vec<&Judged> = judged.iter().filter(|judged| judged.certainty >= answer).collect();
    let pairs: Vec<(&Seen, &Judged)> = seen.iter().zip(&judged).chain(only_judged.iter().zip(&also)).collect();
    let report = TuneReport {
        questions: seen.len(),
        answerable,
        judged: only_judged.len(),
        not_found: seen.iter().chain(only_judged).filter_map(Seen::not_found).collect(),
        methods: all_scores(&pairs),
        promised: mean(judged.iter().map(|judged| judged.order.first().map_or(0.0, |first| f64::from(first.1)))),
        kept: mean(judged.iter().map(|judged| f64::from(u8::from(judged.right)))),
        thresholds: AnswerThresholds { answer, relevant },
        coverage: share(answered.len(), seen.len()),
        wrong: share(answered.iter().filter(|judged| !judged.right).count(), answered.len()),
        certificate,
        questions_that_would_do: would_do,
    };
    let tuning = Tuning { ranker, thresholds: report.thresholds, certificate, questions: seen.len() };
    Ok((tuning, report))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// The lowest threshold of the grid from which, as measured, at most a share of `max_wrong` of the answers is wrong: no promise.
fn measured_threshold(judged: &[Judged], max_wrong: f64) -> f32 {
    let fine = |threshold: f32| {
        let answered = judged.iter().filter(|judged| judged.certainty >= threshold);
        let (all, wrong) =
            answered.fold((0usize, 0usize), |(all, wrong), judged| (all + 1, wrong + usize::from(!judged.right)));
        all > 0 && wrong as f64 <= max_wrong * all as f64
    };
    GRID.iter().rev().copied().find(|&threshold| fine(threshold)).unwrap_or(GRID[0])
}

/// Where a tenth of the questions that the knowledge answers lie below: to say of one of them that no answer is known is worse
/// than to ask back about one that has none.
fn relevant_threshold(seen: &[Seen], judged: &[Judged]) -> f32 {
    let answerable = seen.iter().zip(judged).filter(|(seen, _)| !seen.right.is_empty());
    let mut relevant: Vec<f32> = answerable.map(|(_, judged)| judged.relevant).collect();
    relevant.sort_by(f32::total_cmp);
    // Two decimals, as the thresholds of answers have.
    (relevant.get(relevant.len() / 10).copied().unwrap_or(0.0) * 100.0).floor() / 100.0
}

fn all_scores(pairs: &[(&Seen, &Judged)]) -> Vec<MethodScores> {
    let names = ["dense", "sparse", "fused"];
    let mut methods: Vec<MethodScores> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let rows = pairs
                .iter()
                .map(|(seen, _)| (&seen.right, seen.orders[at].0.as_slice(), seen.orders[at].1, seen.orders[at].1));
            method_scores(name, rows)
        })
        .collect();
    let orders: Vec<Vec<String>> =
        pairs.iter().map(|(_, judged)| judged.order.iter().map(|pair| pair.0.clone()).collect()).collect();
    let rows = pairs.iter().zip(&orders).map(|((seen, judged), order)| {
        let first = judged.order.first().map_or(0.0, |first| first.1);
        (&seen.right, order.as_slice(), first, judged.relevant)
    });
    methods.push(method_scores("second stage", rows));
    methods
}

/// Scores of `(right ids, found ids best first, confidence in the first, how likely any is right)`.
fn method_scores<'a>(
    method: &str,
    rows: impl Iterator<Item = (&'a HashSet<String>, &'a [String], f32, f32)>,
) -> MethodScores {
    let mut scores = MethodScores { method: method.to_owned(), ..MethodScores::default() };
    let (mut inside, mut outside, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for (right, order, confidence, relevant) in rows {
        if right.is_empty() {
            outside.push(relevant);
            continue;
        }
        inside.push(relevant);
        let rank = order.iter().position(|id| right.contains(id));
        first.push((confidence, rank != Some(0)));
        match rank {
            Some(rank) if rank < 10 => {
                scores.recall_at_10 += 1.0;
                scores.mrr_at_10 += 1.0 / (rank + 1) as f64;
                scores.recall_at_1 += f64::from(u8::from(rank == 0));
            }
            _ => {}
        }
    }
    let count = inside.len().max(1) as f64;
    for score in [&mut scores.recall_at_1, &mut scores.recall_at_10, &mut scores.mrr_at_10] {
        *score /= count;
    }
    scores.no_match_auroc = auroc(&inside, &outside);
    let at_2 = RiskCoverage::new(first).map(|curve| curve.coverage_at);
    scores.coverage_at_2 =
        at_2.into_iter().flatten().find(|at| (at.risk - 0.02).abs() < 1e-9).map_or(0.0, |at| at.coverage);
    scores
}

/// The probability that a value of the first kind is above one of the second (Mann and Whitney 1947); ties count half.
fn auroc(inside: &[f32], outside: &[f32]) -> Option<f64> {
    if inside.is_empty() || outside.is_empty() {
        return None;
    }
    let wins: f64 = inside
        .iter()
        .flat_map(|a| {
            outside.iter().map(move |b| {
                if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                }
            })
        })
        .sum();
    Some(wins / (inside.len() * outside.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_of_a_way_of_searching() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let right: Vec<HashSet<String>> =
            [vec!["a"], vec!["b", "c"], vec!["z"], vec![]].map(|right| ids(&right).into_iter().collect()).into();
        let orders = [ids(&["a", "b"]), ids(&["a", "c"]), ids(&["a"]), ids(&["a"])];
        let confidence = [0.9, 0.4, 0.3, 0.6];
        let rows = (0..4).map(|at| (&right[at], orders[at].as_slice(), confidence[at], confidence[at]));
        let scores = method_scores("test", rows);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(scores.recall_at_1, 1.0 / 3.0) && close(scores.recall_at_10, 2.0 / 3.0), "{scores:?}");
        assert!(close(scores.mrr_at_10, 0.5) && close(scores.coverage_at_2, 1.0 / 3.0), "{scores:?}");
        assert_eq!(scores.no_match_auroc, Some(1.0 / 3.0));
    }
}
