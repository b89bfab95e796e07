//! Knowledge in training: pairs of wordings for the contrastive loss, and how well held-out wordings find their entry.

use serde::{Deserialize, Serialize};
use yingda_datasets::KnowledgeEntry;
use yingda_models::{Encoded, MultiTaskModel, Seeded, TextTokenizer};

use crate::{TrainError, eval};

/// Tokens of one entry's wordings.
struct Wordings {
    train: Vec<Encoded>,
    held_out: Option<Encoded>,
}

/// The wordings of an entry that may be learnt from, and the one that is held out: the last, when there are three or more.
pub fn wordings(entry: &KnowledgeEntry) -> (Vec<&str>, Option<&str>) {
    let mut train: Vec<&str> =
        std::iter::once(&entry.question).chain(&entry.similar_questions).map(String::as_str).collect();
    let held_out = if train.len() >= 3 { train.pop() } else { None };
    (train, held_out)
}

/// The wordings of a knowledge base; see [`wordings`] for what is held out.
pub struct KnowledgePairs {
    entries: Vec<Wordings>,
}

/// How well held-out wordings find their entry by cosine over all training wordings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetrievalScores {
    /// Share whose entry came first.
    pub recall_at_1: f64,
    /// Share whose entry came among the first five.
    pub recall_at_5: f64,
    /// Mean reciprocal rank within the first ten.
    pub mrr_at_10: f64,
    /// Held-out wordings.
    pub queries: usize,
    /// Entries searched.
    pub entries: usize,
}

impl KnowledgePairs {
    /// Tokenizes the wordings of `entries`.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn new(entries: &[KnowledgeEntry], tokenizer: &TextTokenizer) -> Result<Self, TrainError> {
        let entries = entries
            .iter()
            .map(|entry| {
                let (train, held_out) = wordings(entry);
                let tokens = |wording: &str| Ok::<_, TrainError>(tokenizer.encode(wording)?);
                let train = train.into_iter().map(tokens).collect::<Result<_, _>>()?;
                Ok(Wordings { train, held_out: held_out.map(tokens).transpose()? })
            })
            .collect::<Result<_, TrainError>>()?;
        Ok(Self { entries })
    }

    /// Draws two different wordings each of up to `count` different entries.
    pub fn draw(&self, count: usize, generator: &mut Seeded) -> Vec<(&Encoded, &Encoded)> {
        let mut usable: Vec<&Wordings> = self.entries.iter().filter(|entry| entry.train.len() >= 2).collect();
        let count = count.min(usable.len());
        for index in 0..count {
            let other = index + generator.below(usable.len() - index);
            usable.swap(index, other);
        }
        usable[..count]
            .iter()
            .map(|entry| {
                let first = generator.below(entry.train.len());
                let second = (first + 1 + generator.below(entry.train.len() - 1)) % entry.train.len();
                (&entry.train[first], &entry.train[second])
            })
            .collect()
    }

    /// Training wordings with the index of their entry.
    pub fn indexed(&self) -> Vec<(usize, &Encoded)> {
        self.entries
            .iter()
            .enumerate()
            .flat_map(|(entry, wordings)| wordings.train.iter().map(move |text| (entry, text)))
            .collect()
    }

    /// Held-out wordings with the index of their entry.
    pub fn held_out(&self) -> Vec<(usize, &Encoded)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(entry, wordings)| Some((entry, wordings.held_out.as_ref()?)))
            .collect()
    }
}

/// Entries by their best wording for one query embedding, best first, with the cosine.
pub fn rank(query: &[f32], index: &[(usize, Vec<f32>)]) -> Vec<(usize, f32)> {
    let mut best = std::collections::BTreeMap::<usize, f32>::new();
    for (entry, embedding) in index {
        let cosine: f32 = query.iter().zip(embedding).map(|(a, b)| a * b).sum();
        best.entry(*entry).and_modify(|known| *known = known.max(cosine)).or_insert(cosine);
    }
    let mut ranked: Vec<_> = best.into_iter().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ranked
}

/// Scores queries with known entries against an index of wordings.
pub fn score(queries: &[(usize, Vec<f32>)], index: &[(usize, Vec<f32>)]) -> RetrievalScores {
    let mut scores = RetrievalScores { queries: queries.len(), ..RetrievalScores::default() };
    let mut entries: Vec<usize> = index.iter().map(|(entry, _)| *entry).collect();
    entries.dedup();
    scores.entries = entries.len();
    if queries.is_empty() {
        return scores;
    }
    let share = 1.0 / queries.len() as f64;
    for (entry, query) in queries {
        if let Some(position) = rank(query, index).iter().position(|(found, _)| found == entry) {
            if position == 0 {
                scores.recall_at_1 += share;
            }
            if position < 5 {
                scores.recall_at_5 += share;
            }
            if position < 10 {
                scores.mrr_at_10 += share / (position + 1) as f64;
            }
        }
    }
    scores
}

/// Scores of held-out wordings.
///
/// # Errors
/// When a tensor operation fails.
pub(crate) fn held_out(model: &MultiTaskModel, pairs: &KnowledgePairs) -> Result<RetrievalScores, TrainError> {
    let embed = |rows: &[(usize, &Encoded)]| -> Result<Vec<(usize, Vec<f32>)>, TrainError> {
        let texts: Vec<&Encoded> = rows.iter().map(|row| row.1).collect();
        let embeddings = eval::embed(model, &texts)?;
        Ok(rows.iter().map(|row| row.0).zip(embeddings).collect())
    };
    let index = embed(&pairs.indexed())?;
    let queries = embed(&pairs.held_out())?;
    Ok(score(&queries, &index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_entries_by_their_best_wording() {
        let index = vec![(0, vec![1.0, 0.0]), (1, vec![0.0, 1.0]), (0, vec![0.6, 0.8])];
        assert_eq!(rank(&[0.6, 0.8], &index), vec![(0, 1.0), (1, 0.8)]);
        let scores = score(&[(0, vec![1.0, 0.0]), (1, vec![0.6, 0.8])], &index);
        assert_eq!((scores.recall_at_1, scores.recall_at_5, scores.mrr_at_10), (0.5, 1.0, 0.75));
    }
}
