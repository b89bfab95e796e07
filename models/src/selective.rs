//! Answering only when sure: the risk-coverage curve, thresholds whose risk is certified, and a check of that certificate.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Seeded, binomial_at_most};

/// One place on the risk-coverage curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Least confidence of the rows that are answered.
    pub threshold: f32,
    /// Share of rows that are answered.
    pub coverage: f64,
    /// Share of wrong ones among them.
    pub risk: f64,
}

/// The largest share that can be answered within a risk, as measured: no promise about other rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoverageAt {
    /// Largest share of wrong ones among the answered.
    pub risk: f64,
    /// Share of rows that are answered.
    pub coverage: f64,
}

/// What confidence is worth for choosing whom to answer (Geifman and El-Yaniv 2017, <https://arxiv.org/abs/1705.08500>).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RiskCoverage {
    /// Area under the curve, AURC: the mean risk over all coverages; 0 is best (Geifman et al. 2019,
    /// <https://arxiv.org/abs/1805.08206>). Equal confidences count as if in random order.
    pub area: f64,
    /// Coverage within a risk of 1, 2 and 5 %.
    pub coverage_at: Vec<CoverageAt>,
    /// The curve from the surest row to all rows, thinned to 200 places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePoint>,
}

impl RiskCoverage {
    /// Of rows `(confidence, wrong)`; `None` without rows.
    pub fn new(mut rows: Vec<(f32, bool)>) -> Option<Self> {
        const PLACES: usize = 200;
        if rows.is_empty() {
            return None;
        }
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let all = rows.len() as f64;
        let (mut answered, mut wrong, mut area) = (0usize, 0usize, 0.0);
        let mut coverage_at = [0.01, 0.02, 0.05].map(|risk| CoverageAt { risk, coverage: 0.0 });
        let mut curve: Vec<CurvePoint> = Vec::new();
        for equal in rows.chunk_by(|a, b| a.0 == b.0) {
            let worse = equal.iter().filter(|row| row.1).count();
            for place in 1..=equal.len() {
                let expected = wrong as f64 + worse as f64 * place as f64 / equal.len() as f64;
                area += expected / (answered + place) as f64;
            }
            answered += equal.len();
            wrong += worse;
            let (coverage, risk) = (answered as f64 / all, wrong as f64 / answered as f64);
            for at in coverage_at.iter_mut().filter(|at| risk <= at.risk) {
                at.coverage = coverage;
            }
            let step = |coverage: f64| (coverage * PLACES as f64).floor();
            if curve.last().is_none_or(|last| step(coverage) > step(last.coverage)) || answered == rows.len() {
                curve.push(CurvePoint { threshold: equal[0].0, coverage, risk });
            }
        }
        Some(Self { area: area / all, coverage_at: coverage_at.to_vec(), curve })
    }

    /// The same without the curve.
    pub fn in_short(&self) -> Self {
        Self { curve: Vec::new(), ..self.clone() }
    }
}

/// How many thresholds are tried.
const STEPS: usize = 73;

/// The thresholds that are tried, strictest first; fixed beforehand, so that no label has a say in them.
pub const GRID: [f32; STEPS] = {
    let mut grid = [0.0; STEPS];
    (grid[0], grid[1], grid[2]) = (0.999, 0.998, 0.995);
    let mut step = 3;
    while step < STEPS {
        grid[step] = (102 - step) as f32 / 100.0;
        step += 1;
    }
    grid
};

/// Tests begin at three places, each with a third of the error that is allowed.
const STARTS: f64 = 3.0;

/// A labelled message as the choice of a threshold sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Head index of the first intent.
    pub predicted: usize,
    /// Strictest place on [`GRID`] that its confidence reaches; `STEPS` when it is never answered automatically.
    pub step: usize,
    /// Whether the first intent is not the label.
    pub wrong: bool,
}

impl Row {
    /// A row with a confidence; `answerable` is false for what is never answered automatically, however sure the model is.
    pub fn new(predicted: usize, confidence: f32, answerable: bool, wrong: bool) -> Self {
        let reached = || GRID.partition_point(|&threshold| threshold > confidence);
        let step = if answerable && !confidence.is_nan() { reached() } else { STEPS };
        Self { predicted, step, wrong }
    }
}

/// What must be certified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Largest share of wrong ones among automatic answers.
    pub max_wrong: f64,
    /// Probability with which the share stays below it, over the draw of the labelled sessions.
    pub confidence: f64,
}

/// A threshold that passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Certified {
    /// Its place on [`GRID`].
    pub step: usize,
    /// Rows that reach it.
    pub answered: usize,
    /// Wrong ones among them.
    pub wrong: usize,
}

/// Intents that share a threshold, and what came of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Head indices.
    pub intents: Vec<usize>,
    /// Rows said to be of these intents.
    pub rows: usize,
    /// The lowest threshold that passed, if any.
    pub certified: Option<Certified>,
    /// Answered and wrong rows at the threshold that came nearest to passing; nothing when no row is answerable.
    pub nearest: Option<(usize, usize)>,
}

/// The outcome for all groups.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// One group for all intents, or one each for common intents and a last one for the rest.
    pub groups: Vec<Group>,
    /// By how much rows of the same session, being alike, say less than as many independent ones; at least 1.
    pub design_effect: f64,
}

impl Choice {
    /// Whether at least one group has a threshold.
    pub fn any(&self) -> bool {
        self.groups.iter().any(|group| group.certified.is_some())
    }
}

/// Rows without any error that a test at `level` needs to pass.
pub fn rows_needed(max_wrong: f64, level: f64) -> f64 {
    (level.ln() / (-max_wrong).ln_1p()).ceil()
}

/// Chooses thresholds by Learn then Test (Angelopoulos et al. 2021, <https://arxiv.org/abs/2110.01052>): with probability
/// `bound.confidence` over the draw of `sessions`, the share of wrong ones **among the answered** is at most `bound.max_wrong`
/// for every group that gets a threshold, all at once.
///
/// For each threshold of [`GRID`], from the strictest down, the hypothesis "more than `max_wrong` of the answers are wrong" is
/// tested with the exact binomial tail. Testing in a fixed order needs no correction for the number of thresholds; it stops at
/// the first that fails. A start where too few rows are answered must fail, so testing begins where the number of answered rows
/// (which no label has a say in) is 1, 2 and 4 times the least that can pass, each with a third of the level; what has passed
/// hands its level on (the fallback procedure; Wiens 2003). This is exact when surer answers are not wrong more often.
///
/// Rows of a session are not independent, so counts are divided by the design effect (Kish 1965, chapter 8; for exact tails Korn
/// and Graubard 1998), measured over all answerable rows. With one message a session it is 1 and tails are exact.
///
/// With `per_intent`, every intent with twice the least rows that can pass is a group of its own and the others share one; the level is
/// divided by the number of groups (Bonferroni). Which intents stand alone follows from how often they are said, not from
/// labels.
pub fn choose(sessions: &[&[Row]], intents: &[usize], bound: Bound, per_intent: bool) -> Choice {
    let known = intents.iter().max().map_or(0, |last| last + 1);
    let (mut said, mut answerable) = (vec![0usize; known], vec![0usize; known]);
    for row in sessions.iter().copied().flatten().filter(|row| row.predicted < known) {
        said[row.predicted] += 1;
        answerable[row.predicted] += usize::from(row.step < STEPS);
    }
    let error = 1.0 - bound.confidence;
    let design_effect = design_effect(sessions);
    let mut groups = vec![intents.to_vec()];
    if per_intent {
        let mut common = intents.to_vec();
        common.sort_by_key(|&intent| (std::cmp::Reverse(answerable[intent]), intent));
        // The more groups there are, the more rows each needs: the most that fit, with one for the rest.
        let fits = |count: &usize| {
            let needed = 2.0 * design_effect * rows_needed(bound.max_wrong, error / (count + 1) as f64 / STARTS);
            answerable[common[count - 1]] as f64 >= needed
        };
        let alone = (1..=common.len()).take_while(fits).last().unwrap_or(0);
        let mut rest = common.split_off(alone);
        rest.sort_unstable();
        groups = common.into_iter().map(|intent| vec![intent]).collect();
        if !rest.is_empty() {
            groups.push(rest);
        }
    }
    let mut group_of = vec![usize::MAX; known];
    for (group, intents) in groups.iter().enumerate() {
        intents.iter().for_each(|&intent| group_of[intent] = group);
    }
    let mut counts = vec![[(0usize, 0usize); STEPS]; groups.len()];
    for row in sessions.iter().copied().flatten().filter(|row| row.step < STEPS) {
        if let Some(counts) = group_of.get(row.predicted).and_then(|&group| counts.get_mut(group)) {
            counts[row.step].0 += 1;
            counts[row.step].1 += usize::from(row.wrong);
        }
    }
    let level = error / groups.len() as f64;
    let groups = groups
        .into_iter()
        .zip(&counts)
        .map(|(intents, counts)| {
            let rows = intents.iter().map(|&intent| said[intent]).sum();
            let (certified, nearest) = lowest_certified(counts, bound.max_wrong, level, design_effect);
            Group { intents, rows, certified, nearest }
        })
        .collect();
    Choice { groups, design_effect }
}

type Nearest = Option<(usize, usize)>;

fn lowest_certified(
    counts: &[(usize, usize); STEPS],
    max_wrong: f64,
    level: f64,
    design_effect: f64,
) -> (Option<Certified>, Nearest) {
    let share = level / STARTS;
    let needed = rows_needed(max_wrong, share) * design_effect;
    let mut starts = [1.0, 2.0, 4.0].map(|times| times * needed).into_iter().peekable();
    let (mut answered, mut wrong, mut budget) = (0, 0, 0.0);
    let (mut certified, mut nearest) = (None, None::<((usize, usize), f64)>);
    for (step, count) in counts.iter().enumerate() {
        answered += count.0;
        wrong += count.1;
        while starts.next_if(|&start| answered as f64 >= start).is_some() {
            budget += share;
        }
        if answered == 0 {
            continue;
        }
        let tail = binomial_at_most(wrong as f64 / design_effect, answered as f64 / design_effect, max_wrong);
        // A handful of answers says nothing of what more would show.
        let few = |counts: (usize, usize)| counts.0 < 30;
        if nearest.is_none_or(|(counts, least)| tail < least || few(counts)) {
            nearest = Some(((answered, wrong), tail));
        }
        if tail <= budget {
            certified = Some(Certified { step, answered, wrong });
        } else {
            budget = 0.0;
        }
    }
    (certified, nearest.map(|(counts, _)| counts))
}

/// How alike rows of a session are taken to be at least (intraclass correlation): few wrong rows say little of it, and none
/// say nothing.
const LEAST_ALIKE: f64 = 0.1;

/// The variance of the share of wrong rows when sessions are drawn, over that of as many independent rows; at least what
/// [`LEAST_ALIKE`] gives (Kish: `1 + (n - 1) ρ`), and larger where few sessions make it uncertain (the square of the quotient of
/// Student's and the normal quantile, Korn and Graubard 1998). 1 where no session has two rows.
fn design_effect(sessions: &[&[Row]]) -> f64 {
    let count = |session: &&[Row]| {
        let answerable = session.iter().filter(|row| row.step < STEPS);
        answerable.fold((0.0, 0.0), |sum, row| (sum.0 + 1.0, sum.1 + usize::from(row.wrong) as f64))
    };
    let counts: Vec<(f64, f64)> = sessions.iter().map(count).filter(|count| count.0 > 0.0).collect();
    let (rows, wrong) = counts.iter().fold((0.0, 0.0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    let clusters = counts.len() as f64;
    if clusters < 2.0 {
        return f64::max(rows, 1.0);
    }
    // Rows in the session of a random row.
    let together = counts.iter().map(|count| count.0 * count.0).sum::<f64>() / rows;
    if together <= 1.0 {
        return 1.0;
    }
    let rate = wrong / rows;
    let independent = rate * (1.0 - rate) / rows;
    let squares: f64 = counts.iter().map(|count| (count.1 - rate * count.0).powi(2)).sum();
    let variance = squares * clusters / (clusters - 1.0) / (rows * rows);
    let measured = if independent > 0.0 { variance / independent } else { 1.0 };
    measured.max(1.0 + (together - 1.0) * LEAST_ALIKE) * student_over_normal(clusters - 1.0).powi(2)
}

/// The quotient of the 95 % quantiles of Student's distribution with so many degrees of freedom and of the normal one: exact
/// for 1 and 2, else by the expansion of Fisher and Cornish (1960).
fn student_over_normal(freedom: f64) -> f64 {
    const NORMAL: f64 = 1.644_853_627;
    if freedom <= 2.0 {
        return if freedom <= 1.0 { 6.313_751_515 } else { 2.919_985_58 } / NORMAL;
    }
    let z = NORMAL;
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
    ];
    (z + terms.iter().zip(1..).map(|(term, power)| term / freedom.powi(power)).sum::<f64>()) / z
}

/// How many labelled rows like these would about do, or `None` when more rows of this kind will not help.
pub fn rows_that_would_do(nearest: (usize, usize), rows: usize, bound: Bound, design_effect: f64) -> Option<usize> {
    let answered = nearest.0 as f64 / design_effect;
    // None wrong in a few is no promise of none in many: a quarter of what is allowed is taken as the least.
    let wrong = (nearest.1 as f64 / design_effect).max(answered * bound.max_wrong / 4.0);
    let share = (1.0 - bound.confidence) / STARTS;
    let passes = |times: f64| binomial_at_most(times * wrong, times * answered, bound.max_wrong) <= share;
    if wrong >= bound.max_wrong * answered || !passes(1e4) {
        return None;
    }
    let (mut low, mut high) = (0.0, 1e4);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if passes(middle) { high = middle } else { low = middle }
    }
    // What there is was not enough, however near it came.
    Some((high.max(1.2) * rows as f64).ceil() as usize)
}

/// What [`simulate`] found at one bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// Largest share of wrong ones among automatic answers.
    pub max_wrong: f64,
    /// Random choices that were made.
    pub runs: usize,
    /// Half to choose, half to check.
    pub halves: Checked,
    /// As many sessions drawn with replacement to choose, checked against all sessions.
    pub drawn: Checked,
}

/// Thresholds of many random choices, checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Share of runs in which at least one threshold was certified.
    pub certified: f64,
    /// Share of all runs in which the share of wrong answers, measured on what it was checked against, exceeded the bound.
    pub exceeded: f64,
    /// Mean share of messages answered automatically; 0 in runs that certified nothing.
    pub coverage: f64,
    /// Wrong ones among all automatic answers of all runs.
    pub wrong: f64,
}

/// Chooses thresholds on `runs` random parts of labelled sessions and checks each; what is random follows from `seed`.
///
/// Two checks. *Halves*: a random half of the sessions to choose, the other half to check. Strict: the half that is checked is
/// itself a sample, which may exceed the bound although the real rate does not; and as both halves are of one pool, a lucky
/// half leaves an unlucky one. Where the real rate is just the bound, a flawless procedure exceeds it here in up to 12 % of the
/// runs at a confidence of 95 % (the noise of two halves: Φ(-1.645/√2)), and in up to 5 % at 99 %. *Drawn*: the pool stands for the world, half as many
/// sessions are drawn from it with replacement, and the real rate is that of the pool, known exactly. This is what the
/// guarantee speaks of, and at most `1 - confidence` of the runs may exceed it.
pub fn simulate(
    sessions: &[Vec<Row>],
    intents: &[usize],
    bound: Bound,
    per_intent: bool,
    runs: usize,
    seed: u64,
) -> Simulated {
    let half = sessions.len() / 2;
    let run = |run: usize| {
        let mut generator = Seeded::new(seed, 2 * run as u64);
        let mut order: Vec<&[Row]> = sessions.iter().map(Vec::as_slice).collect();
        generator.shuffle(&mut order);
        let (chosen_on, checked_on) = order.split_at(half);
        let halves = examine(&choose(chosen_on, intents, bound, per_intent), checked_on, bound.max_wrong);
        let mut generator = Seeded::new(seed, 2 * run as u64 + 1);
        let drawn: Vec<&[Row]> = (0..half).map(|_| sessions[generator.below(sessions.len())].as_slice()).collect();
        [halves, examine(&choose(&drawn, intents, bound, per_intent), &order, bound.max_wrong)]
    };
    let outcomes: Vec<[Outcome; 2]> = (0..runs).into_par_iter().map(run).collect();
    let [halves, drawn] = [0, 1].map(|which| {
        let mut checked = Checked::default();
        let (mut answered, mut wrong) = (0, 0);
        for outcome in outcomes.iter().map(|outcome| outcome[which]) {
            checked.certified += usize::from(outcome.certified) as f64 / runs as f64;
            checked.exceeded += usize::from(outcome.exceeded) as f64 / runs as f64;
            checked.coverage += outcome.answered as f64 / outcome.rows.max(1) as f64 / runs as f64;
            answered += outcome.answered;
            wrong += outcome.wrong;
        }
        checked.wrong = wrong as f64 / answered.max(1) as f64;
        checked
    });
    Simulated { max_wrong: bound.max_wrong, runs, halves, drawn }
}

#[derive(Clone, Copy)]
struct Outcome {
    certified: bool,
    exceeded: bool,
    rows: usize,
    answered: usize,
    wrong: usize,
}

/// What chosen thresholds do to other sessions.
fn examine(choice: &Choice, sessions: &[&[Row]], max_wrong: f64) -> Outcome {
    let rows = || sessions.iter().copied().flatten();
    let mut outcome = Outcome { certified: choice.any(), exceeded: false, rows: rows().count(), answered: 0, wrong: 0 };
    for group in &choice.groups {
        let Some(certified) = group.certified else { continue };
        let answered = rows().filter(|row| row.step <= certified.step && group.intents.contains(&row.predicted));
        let (count, wrong) = answered.fold((0, 0), |sum, row| (sum.0 + 1, sum.1 + usize::from(row.wrong)));
        outcome.exceeded |= wrong as f64 > max_wrong * count as f64;
        outcome.answered += count;
        outcome.wrong += wrong;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_the_one_by_hand() {
        // Right, right, then one wrong of two equal ones, right: risks 0, 0, (0.5/3), 1/4, 1/5.
        let rows = vec![(0.9, false), (0.8, false), (0.7, true), (0.7, false), (0.6, false)];
        let found = RiskCoverage::new(rows).expect("rows");
        assert!((found.area - (0.5 / 3.0 + 0.25 + 0.2) / 5.0).abs() < 1e-12, "{}", found.area);
        assert_eq!(found.coverage_at.iter().map(|at| at.coverage).collect::<Vec<_>>(), [0.4, 0.4, 0.4]);
        let last = found.curve.last().expect("a place");
        assert_eq!((found.curve.len(), last.coverage, last.risk, last.threshold), (4, 1.0, 0.2, 0.6));
        assert!(RiskCoverage::new(Vec::new()).is_none());
    }

    #[test]
    fn the_grid_goes_down_in_hundredths() {
        assert_eq!((GRID[0], GRID[2], GRID[3], GRID[72]), (0.999, 0.995, 0.99, 0.3));
        assert!(GRID.is_sorted_by(|a, b| a > b));
        assert_eq!(Row::new(0, 0.97, true, false).step, GRID.iter().position(|&t| t == 0.97).expect("on it"));
        assert_eq!(Row::new(0, 0.2, true, false).step, STEPS);
        assert_eq!(Row::new(0, 1.0, false, false).step, STEPS);
    }

    fn single(rows: impl IntoIterator<Item = Row>) -> Vec<Vec<Row>> {
        rows.into_iter().map(|row| vec![row]).collect()
    }

    fn slices(sessions: &[Vec<Row>]) -> Vec<&[Row]> {
        sessions.iter().map(Vec::as_slice).collect()
    }

    const BOUND: Bound = Bound { max_wrong: 0.02, confidence: 0.95 };

    #[test]
    fn as_few_rows_as_can_pass_do_and_one_less_does_not() {
        // ln(0.05 / 3) / ln(0.98) = 202.7.
        assert_eq!(rows_needed(0.02, 0.05 / 3.0), 203.0);
        for (rows, passes) in [(203, true), (202, false)] {
            let sessions = single((0..rows).map(|_| Row::new(0, 0.95, true, false)));
            let choice = choose(&slices(&sessions), &[0], BOUND, false);
            assert_eq!(choice.any(), passes, "{rows}");
            assert_eq!(choice.design_effect, 1.0);
        }
        let wrong = single((0..203).map(|row| Row::new(0, 0.95, true, row == 0)));
        let choice = choose(&slices(&wrong), &[0], BOUND, false);
        assert!(!choice.any());
        assert_eq!(choice.groups[0].nearest, Some((203, 1)));
        let more = rows_that_would_do((203, 1), 203, BOUND, 1.0).expect("more rows do");
        assert!((243..600).contains(&more), "{more}");
        assert_eq!(rows_that_would_do((203, 5), 203, BOUND, 1.0), None);
    }

    /// Sure rows are right, unsure ones half wrong: the threshold lies just above where errors begin to count.
    #[test]
    fn the_lowest_threshold_that_holds_is_taken() {
        let rows = (0..2000).map(|row| {
            let confidence = 0.5 + (row % 100) as f32 / 200.0;
            Row::new(0, confidence, true, confidence < 0.7 && row % 2 == 0)
        });
        let sessions = single(rows);
        let choice = choose(&slices(&sessions), &[0], BOUND, false);
        let certified = choice.groups[0].certified.expect("certified");
        // 1200 rows from 0.70 on; the tail of 10 in 1240 is 0.0007, of 20 in 1280 already 0.15.
        assert!((0.68..=0.70).contains(&GRID[certified.step]), "{certified:?}");
        assert!((certified.wrong as f64) < 0.02 * certified.answered as f64);
    }

    #[test]
    fn rows_of_a_session_that_are_alike_count_less() {
        let alike: Vec<Vec<Row>> = (0..60).map(|s| vec![Row::new(0, 0.9, true, s % 10 == 0); 10]).collect();
        let choice = choose(&slices(&alike), &[0], BOUND, false);
        // Wholly alike, and sessions of equal size: ten rows say as much as one, times 60/59, times what 59 degrees of freedom cost.
        let freedom = (1.671_093_f64 / 1.644_854).powi(2);
        assert!((choice.design_effect - 10.0 * 60.0 / 59.0 * freedom).abs() < 1e-4, "{}", choice.design_effect);
        let one = vec![vec![Row::new(0, 0.9, true, false); 1000]];
        assert!(!choose(&slices(&one), &[0], BOUND, false).any(), "one session is no sample");
        let two = vec![vec![Row::new(0, 0.9, true, false); 500]; 2];
        assert!(!choose(&slices(&two), &[0], BOUND, false).any(), "nor are two");
    }

    /// scipy.stats.t.ppf(0.95, freedom) / scipy.stats.norm.ppf(0.95).
    #[test]
    fn the_quotient_of_quantiles_is_that_of_the_tables() {
        for (freedom, quantile) in
            [(1.0, 6.313752), (2.0, 2.919986), (3.0, 2.353363), (5.0, 2.015048), (30.0, 1.697261)]
        {
            let found = student_over_normal(freedom) * 1.644854;
            assert!((found - quantile).abs() < 0.01, "{freedom}: {found} against {quantile}");
        }
    }

    /// Sessions whose error rates differ (beta-binomial, drawn from an urn), truly wrong a little more often than the bound: whatever
    /// the size of the sessions, no more than 5 % of the draws may be certified.
    #[test]
    fn sessions_of_any_size_do_not_cheat_the_bound() {
        for (count, rows, wrong, alike) in
            [(30, 8, 0.0205, 0.3), (15, 15, 0.0205, 0.2), (11, 20, 0.0205, 0.3), (2, 130, 0.05, 0.3)]
        {
            let mut generator = Seeded::new(5, count as u64);
            let both = (1.0 - alike) / alike;
            let certified = (0..400).filter(|_| {
                let sessions: Vec<Vec<Row>> = (0..count)
                    .map(|_| {
                        let mut seen = 0.0;
                        let mut row = |before: usize| {
                            let chance = (both * wrong + seen) / (both + before as f64);
                            let wrong = (generator.below(1_000_000) as f64) < chance * 1e6;
                            seen += f64::from(u8::from(wrong));
                            Row::new(0, 1.0, true, wrong)
                        };
                        (0..rows).map(&mut row).collect()
                    })
                    .collect();
                choose(&slices(&sessions), &[0], BOUND, false).any()
            });
            let share = certified.count() as f64 / 400.0;
            assert!(share <= 0.05, "{count} sessions of {rows}: {share}");
        }
    }

    #[test]
    fn common_intents_stand_alone_and_rare_ones_share() {
        let rows = (0..3000).map(|row| match row % 10 {
            0..=5 => Row::new(0, 0.9, true, false),
            6..=8 => Row::new(1, 0.9, true, row % 4 == 0),
            _ => Row::new(2 + row / 10 % 3, 0.9, true, false),
        });
        let sessions = single(rows);
        let choice = choose(&slices(&sessions), &[0, 1, 2, 3, 4], BOUND, true);
        let groups: Vec<(&[usize], bool)> =
            choice.groups.iter().map(|group| (group.intents.as_slice(), group.certified.is_some())).collect();
        assert_eq!(groups, [(&[0][..], true), (&[1][..], false), (&[2, 3, 4][..], true)]);
        // All together they would not hold: an intent that is often wrong must not hide among those that are not.
        assert!(!choose(&slices(&sessions), &[0, 1, 2, 3, 4], BOUND, false).any());
    }

    #[test]
    fn the_promise_holds_over_many_draws() {
        // A world of 3,000 sessions of two messages, errors shared half of the time, surer answers wrong less often.
        let mut generator = Seeded::new(3, 1);
        let mut chance = || generator.below(10_000) as f64 / 10_000.0;
        let sessions: Vec<Vec<Row>> = (0..3000)
            .map(|_| {
                let (confidence, luck) = (0.5 + 0.5 * chance(), chance());
                let mut row = || {
                    let luck = if chance() < 0.5 { luck } else { chance() };
                    Row::new(0, confidence as f32, true, luck < 0.12 * (1.0 - confidence))
                };
                vec![row(), row()]
            })
            .collect();
        let found = simulate(&sessions, &[0], BOUND, false, 200, 7);
        assert!(found.drawn.exceeded <= 0.05 && found.halves.exceeded <= 0.12, "{found:?}");
        assert!(found.drawn.certified > 0.9 && found.drawn.coverage > 0.3, "{found:?}");
        assert_eq!(found, simulate(&sessions, &[0], BOUND, false, 200, 7));
    }
}
