//! The second stage: how likely each found entry is the right answer, and how likely none is.
//!
//! A conditional logit (McFadden 1974) over the entries that the store found and one more alternative, *nothing*: every entry
//! has a score that is linear in its [`features`], so has *nothing*, and the softmax over all of them is a probability. Entries
//! that are nearly as good as each other share it, and a question that is near to none leaves most of it to *nothing*.

pub mod features;
mod fit;
mod tune;

use std::collections::BTreeMap;

pub use fit::{Row, fit};
use serde::{Deserialize, Serialize};
pub use tune::{ContextTurn, Judged, LabelledQuestion, MethodScores, TuneOptions, TuneReport};
pub(crate) use tune::{Seen, tune};

use crate::store::Candidate;
use features::{ENTRY, EntryFeatures, Features, NOTHING, NothingFeatures, Question};

/// Weights of the second stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Named", into = "Named")]
pub struct Ranker {
    /// Of an entry's features.
    pub entry: EntryFeatures,
    /// Of the features of the case that no entry answers.
    pub nothing: NothingFeatures,
}

/// Weights by name, so that a file says what it holds and a renamed feature is noticed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    entry: BTreeMap<String, f64>,
    nothing: BTreeMap<String, f64>,
}

impl From<Ranker> for Named {
    fn from(ranker: Ranker) -> Self {
        fn named(names: &[&str], weights: &[f64]) -> BTreeMap<String, f64> {
            names.iter().map(|name| (*name).to_owned()).zip(weights.iter().copied()).collect()
        }
        Self { entry: named(&ENTRY, &ranker.entry), nothing: named(&NOTHING, &ranker.nothing) }
    }
}

impl TryFrom<Named> for Ranker {
    type Error = String;

    fn try_from(named: Named) -> Result<Self, String> {
        fn weights<const N: usize>(names: [&str; N], mut named: BTreeMap<String, f64>) -> Result<[f64; N], String> {
            let mut weights = [0.0; N];
            for (weight, name) in weights.iter_mut().zip(names) {
                *weight = named.remove(name).ok_or_else(|| format!("the weight of `{name}` is missing"))?;
                if !weight.is_finite() {
                    return Err(format!("the weight of `{name}` is no number"));
                }
            }
            match named.keys().next() {
                Some(name) => Err(format!("there is no feature `{name}`")),
                None => Ok(weights),
            }
        }
        Ok(Self { entry: weights(ENTRY, named.entry)?, nothing: weights(NOTHING, named.nothing)? })
    }
}

/// From which probabilities on the reply decision acts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerThresholds {
    /// Least probability of an entry that is answered with.
    pub answer: f32,
    /// Least probability that any entry answers; below it there is nothing to choose from either.
    pub relevant: f32,
}

/// What was certified of the answers: with probability `confidence`, at most a share of `max_wrong` of the automatic answers is
/// wrong (Learn then Test, <https://arxiv.org/abs/2110.01052>).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Largest share of wrong ones among automatic answers.
    pub max_wrong: f64,
    /// Probability that the share stays below it.
    pub confidence: f64,
    /// Share of the labelled questions that are answered.
    pub coverage: f64,
}

/// All that the second stage needs; it is kept with the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// The weights.
    pub ranker: Ranker,
    /// The thresholds.
    pub thresholds: AnswerThresholds,
    /// What was certified, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Labelled questions that it was fitted on.
    pub questions: usize,
}

impl Default for Tuning {
    /// As fitted on the sample shop's tuning questions; features are shares and probabilities, so that it does for other
    /// knowledge until `yingda tune` has seen questions of it.
    fn default() -> Self {
        serde_json::from_str(include_str!("default.json")).expect("default.json is written by `yingda tune`")
    }
}

/// The candidates of a question with their probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Best first, one for each entry, with the probability that its answer is right.
    pub candidates: Vec<(Candidate, f32)>,
    /// Probability that one of them is the right answer.
    pub relevant: f32,
}

impl Ranker {
    /// The probabilities of the candidates, in their order, and last that of *nothing*; they add up to 1.
    pub fn probabilities(&self, features: &Features) -> Vec<f64> {
        let mut scores: Vec<f64> = features.entries.iter().map(|row| dot(row, &self.entry)).collect();
        scores.push(dot(&features.nothing, &self.nothing));
        softmax(&mut scores);
        scores
    }

    /// Ranks candidates. Where the question is in the very words of a wording, there is nothing to be unsure of: the entries
    /// with that wording share the whole probability.
    pub fn rank(&self, question: &Question<'_>, candidates: Vec<Candidate>) -> Ranked {
        let mut probabilities = self.probabilities(&Features::new(question, &candidates));
        let same = |candidate: &Candidate| {
            let terms = &question.own_terms.indices;
            !terms.is_empty() && candidate.wordings.iter().any(|wording| wording.terms == *terms)
        };
        let exact: Vec<bool> = candidates.iter().map(same).collect();
        let count = exact.iter().filter(|exact| **exact).count();
        if count > 0 {
            let share = 1.0 / count as f64;
            probabilities.fill(0.0);
            exact.iter().zip(&mut probabilities).filter(|pair| *pair.0).for_each(|pair| *pair.1 = share);
        }
        let nothing = probabilities.pop().unwrap_or(1.0);
        let mut ranked: Vec<(Candidate, f32)> =
            candidates.into_iter().zip(probabilities).map(|(candidate, p)| (candidate, p as f32)).collect();
        ranked.sort_by(|(a, one), (b, other)| {
            other
                .total_cmp(one)
                .then_with(|| b.cosine().total_cmp(&a.cosine()))
                .then_with(|| a.knowledge_id.cmp(&b.knowledge_id))
        });
        Ranked { candidates: ranked, relevant: (1.0 - nothing) as f32 }
    }
}

/// A second entry this near to the first (as a share of its probability) makes a near-tie: the customer is asked.
const NEAR_TIE: f32 = 0.6;

/// What the reply decision acts on: the highest of `probabilities`, which descend, or 0 where the second is nearly as high.
pub fn certainty(probabilities: impl IntoIterator<Item = f32>) -> f32 {
    let mut probabilities = probabilities.into_iter();
    match (probabilities.next(), probabilities.next()) {
        (Some(first), Some(second)) if second > NEAR_TIE * first => 0.0,
        (first, _) => first.unwrap_or(0.0),
    }
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn softmax(scores: &mut [f64]) {
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|score| *score = (*score - best).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RankedLabel, store::Found, terms::Terms};

    fn candidate(id: &str, wording: &str, cosine: f32) -> Candidate {
        let found = Found { text: wording.into(), cosine, score: cosine, terms: Terms::of_query(wording).indices };
        Candidate { knowledge_id: id.into(), intent: Some("退货".into()), body: "{}".into(), wordings: vec![found] }
    }

    fn rank(text: &str, candidates: Vec<Candidate>) -> Ranked {
        let terms = Terms::of_query(text);
        let intents = [RankedLabel { label: "退货".into(), probability: 0.9 }];
        let question =
            Question { terms: &terms, own_terms: &terms, intents: &intents, out_of_scope: &[], negative: 0.1 };
        Tuning::default().ranker.rank(&question, candidates)
    }

    #[test]
    fn probabilities_add_up_and_nearer_is_likelier() {
        let found = || vec![candidate("a", "怎么申请退货", 0.7), candidate("b", "运费谁出", 0.5)];
        let ranked = rank("我要退货咋弄", found());
        let sum: f32 = ranked.candidates.iter().map(|(_, probability)| probability).sum();
        assert!((sum - ranked.relevant).abs() < 1e-5 && ranked.relevant < 1.0, "{ranked:?}");
        assert_eq!(ranked.candidates[0].0.knowledge_id, "a");
        let mut nearer = found();
        nearer[0].wordings[0].cosine = 0.9;
        assert!(rank("我要退货咋弄", nearer).candidates[0].1 > ranked.candidates[0].1);
        assert_eq!(rank("我要退货咋弄", Vec::new()), Ranked { candidates: Vec::new(), relevant: 0.0 });
    }

    #[test]
    fn the_very_words_of_an_entry_are_sure() {
        let ranked = rank("运费，谁出？", vec![candidate("a", "怎么申请退货", 0.9), candidate("b", "运费谁出", 0.2)]);
        assert_eq!((ranked.candidates[0].0.knowledge_id.as_str(), ranked.candidates[0].1), ("b", 1.0));
        let twice = vec![candidate("a", "运费谁出", 0.9), candidate("b", "运费谁出？", 0.9)];
        let ranked = rank("运费谁出", twice);
        assert_eq!(
            certainty(ranked.candidates.iter().map(|(_, probability)| *probability)),
            0.0,
            "two entries, one question: ask"
        );
        // Nothing to compare is not the same.
        assert!(rank("？！", vec![candidate("a", "。。", 0.9)]).candidates[0].1 < 1.0);
    }

    #[test]
    fn stored_weights_name_their_features() {
        let tuning = Tuning::default();
        let mut json = serde_json::to_value(&tuning).expect("plain data");
        assert_eq!(serde_json::from_value::<Tuning>(json.clone()).expect("the same"), tuning);
        json["ranker"]["entry"]["stars"] = 1.0.into();
        let error = serde_json::from_value::<Tuning>(json.clone()).expect_err("an unknown feature").to_string();
        assert!(error.contains("stars"), "{error}");
        json["ranker"]["entry"].as_object_mut().expect("a map").retain(|name, _| name != "stars" && name != "lead");
        let error = serde_json::from_value::<Tuning>(json).expect_err("a missing feature").to_string();
        assert!(error.contains("lead"), "{error}");
    }
}
