//! What the second stage sees of a question and of the entries that may answer it.

use std::collections::HashMap;

use crate::{
    RankedLabel,
    store::{Candidate, Found},
    terms::{Terms, is_han},
};

/// What is known of a question besides its candidates.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The terms that were searched for.
    pub terms: &'a Terms,
    /// Those of the message alone.
    pub own_terms: &'a Terms,
    /// Calibrated intents, likeliest first; may be empty.
    pub intents: &'a [RankedLabel],
    /// Intents that mean: nothing the shop does.
    pub out_of_scope: &'a [String],
    /// Calibrated probability that the customer is annoyed.
    pub negative: f32,
}

/// Features of one entry, in the order of [`ENTRY`].
pub type EntryFeatures = [f64; ENTRY.len()];
/// Features of the case that no entry answers, in the order of [`NOTHING`].
pub type NothingFeatures = [f64; NOTHING.len()];

/// Names of an entry's features, as they stand in stored weights. More of each speaks for the entry.
pub const ENTRY: [&str; 16] = [
    // Cosine of the nearest wording, and the mean of the nearest three.
    "cosine",
    "cosine_of_three",
    // Share of a softmax over the cosines of all found wordings, narrow and wide, and their logarithms.
    "vote",
    "vote_ln",
    "wide_vote",
    "wide_vote_ln",
    // The best wording's shared terms: as a share of the question's, of the best entry's, and the logarithm of a softmax.
    "words",
    "words_of_best",
    "words_vote_ln",
    // Share of the question's terms in the nearest wording, and the other way round.
    "overlap",
    "overlap_of_wording",
    // Reciprocal ranks.
    "rank",
    "words_rank",
    // Cosine less that of the best other entry.
    "lead",
    // Probability of the entry's intent.
    "intent",
    "intent_ln",
];

/// Names of the features of the case that no entry answers: what the entries' own features cannot say. How near they are is
/// theirs to say, so that nothing can make a nearer entry less likely.
pub const NOTHING: [&str; 5] = ["always", "no_characters", "out_of_scope", "intent", "negative"];

/// What is seen of all candidates of one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// One row for each candidate, in their order.
    pub entries: Vec<EntryFeatures>,
    /// Of the case that none of them answers.
    pub nothing: NothingFeatures,
}

/// Temperatures of the softmax over cosines.
const NARROW: f32 = 0.03;
const WIDE: f32 = 0.1;

impl Features {
    /// Sees `candidates` as answers to `question`.
    pub fn new(question: &Question<'_>, candidates: &[Candidate]) -> Self {
        let words = shared_words(question.terms, candidates);
        let best_words = words.iter().map(|words| max(words.iter().copied())).collect::<Vec<f32>>();
        let votes = vote(candidates, NARROW);
        let wide_votes = vote(candidates, WIDE);
        let words_votes = words_vote(&words);
        let nearest: Vec<f32> = candidates.iter().map(Candidate::cosine).collect();
        let (ranks, words_ranks) = (ranks(&nearest), ranks(&best_words));
        let (best, second) = two_best(&nearest);
        let most_words = max(best_words.iter().copied());
        let entries = candidates
            .iter()
            .enumerate()
            .map(|(at, candidate)| {
                let cosine = nearest[at];
                let other = if cosine == best { second } else { best };
                let (overlap, overlap_of_wording) =
                    candidate.wordings.first().map_or((0.0, 0.0), |wording| overlaps(question.terms, wording));
                let intent = probability_of(question, candidate.intent.as_deref());
                [
                    cosine,
                    mean_of_three(&candidate.wordings),
                    votes[at],
                    (votes[at] + 1e-4).ln(),
                    wide_votes[at],
                    (wide_votes[at] + 1e-3).ln(),
                    best_words[at],
                    best_words[at] / most_words.max(1e-6),
                    (words_votes[at] + 1e-3).ln(),
                    overlap,
                    overlap_of_wording,
                    1.0 / (1.0 + ranks[at] as f32),
                    1.0 / (1.0 + words_ranks[at] as f32),
                    cosine - other,
                    intent,
                    (intent + 1e-3).ln(),
                ]
                .map(f64::from)
            })
            .collect();
        let out_of_scope = question.intents.iter().filter(|intent| question.out_of_scope.contains(&intent.label));
        let top = question.intents.iter().find(|intent| !question.out_of_scope.contains(&intent.label));
        let characters = question.terms.indices.iter().any(|index| is_han(*index));
        let nothing = [
            1.0,
            if characters { 0.0 } else { 1.0 },
            out_of_scope.map(|intent| intent.probability).sum(),
            top.map_or(0.0, |top| top.probability),
            question.negative,
        ]
        .map(f64::from);
        Self { entries, nothing }
    }
}

fn max(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, f32::max)
}

/// The highest and the second highest value; 0 where there is none.
fn two_best(values: &[f32]) -> (f32, f32) {
    values.iter().fold(
        (0.0, 0.0),
        |(best, second), &value| {
            if value > best { (value, best) } else { (best, second.max(value)) }
        },
    )
}

/// How many are better than each.
fn ranks(values: &[f32]) -> Vec<usize> {
    values.iter().map(|value| values.iter().filter(|other| *other > value).count()).collect()
}

fn mean_of_three(wordings: &[Found]) -> f32 {
    let last = wordings.last().map_or(0.0, |wording| wording.cosine);
    wordings.iter().map(|wording| wording.cosine).chain([last; 3]).take(3).sum::<f32>() / 3.0
}

/// The share of each candidate in the softmax over the cosines of all wordings.
fn vote(candidates: &[Candidate], temperature: f32) -> Vec<f32> {
    let best = max(candidates.iter().map(Candidate::cosine));
    let mass = |wording: &Found| ((wording.cosine - best) / temperature).exp();
    shares(candidates.iter().map(|candidate| candidate.wordings.iter().map(mass).sum()).collect())
}

fn words_vote(words: &[Vec<f32>]) -> Vec<f32> {
    let best = max(words.iter().flatten().copied());
    let mass = |words: &Vec<f32>| words.iter().map(|value| ((value - best) / WIDE).exp()).sum();
    shares(words.iter().map(mass).collect())
}

fn shares(mut masses: Vec<f32>) -> Vec<f32> {
    let all: f32 = masses.iter().sum();
    masses.iter_mut().for_each(|mass| *mass /= all.max(1e-12));
    masses
}

/// For each wording of each candidate: the weight of the terms that it shares with the question, over that of the whole
/// question. Terms weigh by how few of the found wordings have them (inverse document frequency among what was found), longer
/// wordings count less.
fn shared_words(question: &Terms, candidates: &[Candidate]) -> Vec<Vec<f32>> {
    let wordings = || candidates.iter().flat_map(|candidate| &candidate.wordings);
    let all = wordings().count() as f32;
    let mut having: HashMap<u32, f32> = question.indices.iter().map(|&index| (index, 0.0)).collect();
    let mut length = 0.0;
    for wording in wordings() {
        length += wording.terms.len() as f32;
        for index in &wording.terms {
            if let Some(having) = having.get_mut(index) {
                *having += 1.0;
            }
        }
    }
    let mean = (length / all.max(1.0)).max(1.0);
    let rare = |index: &u32| (1.0 + (all - having[index] + 0.5) / (having[index] + 0.5)).ln();
    let terms = question.indices.iter().zip(&question.values);
    let worth: HashMap<u32, f32> = terms.map(|(index, value)| (*index, value * rare(index))).collect();
    // In the order of the terms, so that the sum is the same every time.
    let whole: f32 = question.indices.iter().map(|index| worth[index]).sum();
    let shared = |wording: &Found| {
        let sum: f32 = wording.terms.iter().filter_map(|index| worth.get(index)).sum();
        sum / (whole.max(1e-6) * (0.25 + 0.75 * wording.terms.len() as f32 / mean).sqrt())
    };
    candidates.iter().map(|candidate| candidate.wordings.iter().map(shared).collect()).collect()
}

fn overlaps(question: &Terms, wording: &Found) -> (f32, f32) {
    let shared = question.indices.iter().filter(|index| wording.terms.binary_search(index).is_ok()).count() as f32;
    (shared / question.indices.len().max(1) as f32, shared / wording.terms.len().max(1) as f32)
}

/// The probability of an entry's intent; an entry without one fits whatever is meant.
fn probability_of(question: &Question<'_>, intent: Option<&str>) -> f32 {
    let found = match intent {
        Some(intent) => question.intents.iter().find(|ranked| ranked.label == intent),
        None => question.intents.iter().find(|ranked| !question.out_of_scope.contains(&ranked.label)),
    };
    found.map_or(0.0, |ranked| ranked.probability)
}
