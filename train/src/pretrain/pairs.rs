//! Question pairs: same meaning or not, and the contrastive loss over them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use candle_core::{D, Tensor};
use yingda_models::{Encoded, Seeded, TextTokenizer};

use crate::TrainError;

/// Pairs of texts with a label.
pub(crate) struct Pairs {
    pub(crate) texts: Vec<Encoded>,
    /// `(left, right)` that mean the same.
    pub(crate) same: Vec<(usize, usize)>,
    /// Texts that are known not to mean the same as the text.
    other: BTreeMap<usize, Vec<usize>>,
    /// Pairs that do not mean the same, of texts that mean the same as no other: no triple has them.
    apart: Vec<(usize, usize)>,
    /// Texts of one group mean the same, by any chain of pairs; they are never each other's negatives.
    group: Vec<usize>,
    /// Pairs that are not learnt from.
    pub(crate) held_out: Vec<(usize, usize, bool)>,
}

/// An anchor, what means the same, and (where one is known) what does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Triple {
    anchor: usize,
    same: usize,
    other: Option<usize>,
}

/// What one step learns from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    triples: Vec<Triple>,
    /// More pairs that do not mean the same.
    apart: Vec<(usize, usize)>,
}

impl Pairs {
    /// Reads TSV files with the columns `left`, `right` and `label` (1: the same, 0: not). One in `held_out` pairs is kept back.
    ///
    /// # Errors
    /// A sentence that names the file and the line.
    pub(crate) fn read(files: &[PathBuf], tokenizer: &TextTokenizer, held_out: usize) -> Result<Self, TrainError> {
        let mut ids = HashMap::<String, usize>::new();
        let mut texts = Vec::new();
        let mut rows = Vec::new();
        for path in files {
            let content = std::fs::read_to_string(path).map_err(TrainError::io("read", path))?;
            for (number, line) in content.lines().enumerate() {
                let Some((left, right, same)) = parse(line, path, number + 1)? else { continue };
                let mut id = |text: &str| -> Result<usize, TrainError> {
                    let text = tokenizer.contract().model_text(text);
                    if let Some(&id) = ids.get(&text) {
                        return Ok(id);
                    }
                    texts.push(tokenizer.encode_model_text(&text)?);
                    ids.insert(text, texts.len() - 1);
                    Ok(texts.len() - 1)
                };
                let (left, right) = (id(left)?, id(right)?);
                if left != right {
                    rows.push((left, right, same));
                }
            }
        }
        let mut group: Vec<usize> = (0..texts.len()).collect();
        for &(left, right, same) in &rows {
            if same {
                let (left, right) = (root(&mut group, left), root(&mut group, right));
                group[left.max(right)] = left.min(right);
            }
        }
        for text in 0..group.len() {
            group[text] = root(&mut group, text);
        }
        let mut pairs =
            Self { texts, same: Vec::new(), other: BTreeMap::new(), apart: Vec::new(), group, held_out: Vec::new() };
        let mut different = Vec::new();
        for (index, (left, right, same)) in rows.into_iter().enumerate() {
            if held_out > 0 && index % held_out == held_out - 1 {
                pairs.held_out.push((left, right, same));
            } else if same {
                pairs.same.push((left, right));
            } else if pairs.group[left] != pairs.group[right] {
                // Pairs that contradict a chain of others teach nothing.
                pairs.other.entry(left).or_default().push(right);
                pairs.other.entry(right).or_default().push(left);
                different.push((left, right));
            }
        }
        let paired: HashSet<usize> = pairs.same.iter().flat_map(|&(left, right)| [left, right]).collect();
        different.retain(|(left, right)| !paired.contains(left) && !paired.contains(right));
        pairs.apart = different;
        Ok(pairs)
    }

    /// One epoch's steps of `size` triples each, with an even share of the pairs that no triple has, drawn from `generator`.
    pub(crate) fn steps(&self, size: usize, generator: &mut Seeded) -> Vec<Step> {
        let mut order: Vec<usize> = (0..self.same.len()).collect();
        generator.shuffle(&mut order);
        let mut triples: Vec<Triple> = Vec::with_capacity(order.len());
        for index in order {
            let (left, right) = self.same[index];
            let (anchor, same) = if generator.below(2) == 0 { (left, right) } else { (right, left) };
            let other = [anchor, same]
                .iter()
                .find_map(|text| self.other.get(text))
                .map(|others| others[generator.below(others.len())]);
            triples.push(Triple { anchor, same, other });
        }
        let mut apart = self.apart.clone();
        generator.shuffle(&mut apart);
        let steps = triples.len().div_ceil(size);
        let share = |step: usize| step * apart.len() / steps;
        triples
            .chunks(size)
            .enumerate()
            .map(|(step, triples)| Step {
                triples: triples.to_vec(),
                apart: apart[share(step)..share(step + 1)].to_vec(),
            })
            .collect()
    }

    /// InfoNCE (van den Oord et al. 2018, <https://arxiv.org/abs/1807.03748>) with all texts of the step as negatives, except those that
    /// mean the same; plus CoSENT (Su 2022, <https://kexue.fm/archives/8847>): every pair that means the same should be
    /// nearer than every pair that does not.
    ///
    /// `embeddings` are `[texts, hidden]` of length 1, in the order of [`Step::texts`].
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(crate) fn loss(&self, step: &Step, embeddings: &Tensor, temperature: f64) -> Result<Tensor, TrainError> {
        let (order, places) = step.texts();
        let triples = &step.triples;
        let count = order.len();
        let similarity = embeddings.matmul(&embeddings.t()?)?;
        // Every row of the mask tells which texts may stand in the denominator of an anchor.
        let mut rows = Vec::new();
        let mut mask = Vec::new();
        let mut targets = vec![0f32; 2 * triples.len() * count];
        for triple in triples {
            for (from, to) in [(triple.anchor, triple.same), (triple.same, triple.anchor)] {
                targets[rows.len() * count + places[&to]] = 1.0;
                rows.push(places[&from] as u32);
                let group = self.group[from];
                mask.extend(
                    order.iter().map(|&text| if self.group[text] != group || text == to { 0f32 } else { -1e4 }),
                );
            }
        }
        let device = embeddings.device();
        let picked = similarity.index_select(&Tensor::new(rows.as_slice(), device)?, 0)?;
        let mask = Tensor::from_vec(mask, (rows.len(), count), device)?;
        let targets = Tensor::from_vec(targets, (rows.len(), count), device)?;
        let log_probabilities = candle_nn::ops::log_softmax(&((picked / temperature)? + mask)?, D::Minus1)?;
        let info_nce = ((log_probabilities * targets)?.sum_all()?.neg()? / rows.len() as f64)?;

        let flat = similarity.flatten_all()?;
        let cosines = |pairs: Vec<(usize, usize)>| -> Result<Tensor, TrainError> {
            let places: Vec<u32> =
                pairs.iter().map(|(left, right)| (places[left] * count + places[right]) as u32).collect();
            Ok(flat.index_select(&Tensor::new(places, device)?, 0)?)
        };
        let different: Vec<(usize, usize)> = triples
            .iter()
            .filter_map(|triple| {
                let other = triple.other?;
                let owner = if self.other.get(&triple.anchor).is_some_and(|others| others.contains(&other)) {
                    triple.anchor
                } else {
                    triple.same
                };
                Some((owner, other))
            })
            .chain(step.apart.iter().copied())
            .collect();
        if different.is_empty() {
            return Ok(info_nce);
        }
        let same = cosines(triples.iter().map(|triple| (triple.anchor, triple.same)).collect())?;
        let different = cosines(different)?;
        let gaps = (different.unsqueeze(0)?.broadcast_sub(&same.unsqueeze(1)?)? * 20.0)?.flatten_all()?;
        // log(1 + sum of exp), with the 1 as one more gap of 0.
        let gaps = Tensor::cat(&[&gaps, &Tensor::zeros(1, gaps.dtype(), device)?], 0)?;
        let cosent = gaps.log_sum_exp(0)?;
        Ok((info_nce + (cosent * 0.2)?)?)
    }
}

impl Step {
    /// The texts of the step, each once, and where each is among them.
    pub(crate) fn texts(&self) -> (Vec<usize>, HashMap<usize, usize>) {
        let mut order = Vec::new();
        let mut places = HashMap::new();
        let triples = self.triples.iter().flat_map(|triple| [Some(triple.anchor), Some(triple.same), triple.other]);
        let apart = self.apart.iter().flat_map(|&(left, right)| [Some(left), Some(right)]);
        for text in triples.chain(apart).flatten() {
            places.entry(text).or_insert_with(|| {
                order.push(text);
                order.len() - 1
            });
        }
        (order, places)
    }
}

fn root(group: &mut [usize], mut text: usize) -> usize {
    while group[text] != text {
        group[text] = group[group[text]];
        text = group[text];
    }
    text
}

fn parse<'a>(line: &'a str, path: &Path, number: usize) -> Result<Option<(&'a str, &'a str, bool)>, TrainError> {
    let cells: Vec<&str> = line.split('\t').collect();
    match cells[..] {
        ["left", "right", "label"] if number == 1 => Ok(None),
        [left, right, "1"] => Ok(Some((left, right, true))),
        [left, right, "0"] => Ok(Some((left, right, false))),
        _ => Err(TrainError::Usage(format!(
            "--pairs {}: line {number} is not left, right and label (0 or 1) with tabs between; mend or remove it",
            path.display()
        ))),
    }
}

/// Area under the ROC curve of `(score, whether it is a hit)`: the probability that a hit scores above a miss, ties half.
pub fn area_under_curve(rows: &[(f32, bool)]) -> f64 {
    let mut sorted: Vec<&(f32, bool)> = rows.iter().collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let hits = rows.iter().filter(|row| row.1).count() as f64;
    let misses = rows.len() as f64 - hits;
    let mut sum = 0f64;
    let mut index = 0;
    while index < sorted.len() {
        let end = index + sorted[index..].iter().take_while(|row| row.0 == sorted[index].0).count();
        let rank = (index + 1 + end) as f64 / 2.0;
        sum += rank * sorted[index..end].iter().filter(|row| row.1).count() as f64;
        index = end;
    }
    if hits == 0.0 || misses == 0.0 { 0.5 } else { (sum - hits * (hits + 1.0) / 2.0) / (hits * misses) }
}

/// Distinct texts of a file of pairs, for a vocabulary.
pub(crate) fn texts_of(path: &Path) -> Result<HashSet<String>, TrainError> {
    let content = std::fs::read_to_string(path).map_err(TrainError::io("read", path))?;
    let mut texts = HashSet::new();
    for (number, line) in content.lines().enumerate() {
        if let Some((left, right, _)) = parse(line, path, number + 1)? {
            texts.extend([left.to_owned(), right.to_owned()]);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn pairs() -> Pairs {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pairs.tsv");
        let rows = "left\tright\tlabel\n怎么退货\t如何退货\t1\n如何退货\t退货流程\t1\n怎么退货\t怎么退款\t0\n查快递\t快递到哪了\t1\n怎么退货\t退货流程\t0\n";
        std::fs::write(&path, rows).expect("a file");
        let vocabulary = yingda_models::character_vocabulary([rows]);
        let tokenizer = TextTokenizer::from_vocabulary(&vocabulary, Default::default(), 32).expect("a vocabulary");
        Pairs::read(&[path], &tokenizer, 0).expect("whole rows")
    }

    #[test]
    fn chains_of_pairs_are_one_group_and_contradictions_are_dropped() {
        let pairs = pairs();
        assert_eq!(pairs.same.len(), 3);
        assert_eq!(pairs.group[0], pairs.group[2], "怎么退货 and 退货流程, through 如何退货");
        assert_ne!(pairs.group[0], pairs.group[3]);
        assert_eq!(pairs.other.values().map(Vec::len).sum::<usize>(), 2, "one pair, seen from both sides");
    }

    /// With embeddings that are all alike, what means the same must not stand in a denominator: torch gives ln 4 for the rows
    /// with three negatives and one positive, and so on.
    #[test]
    fn what_means_the_same_is_no_negative() {
        let pairs = pairs();
        let step = |triples: [(usize, usize); 2], apart: Vec<(usize, usize)>| Step {
            triples: triples.map(|(anchor, same)| Triple { anchor, same, other: None }).to_vec(),
            apart,
        };
        let loss = |step: &Step, texts: usize| -> f32 {
            let embeddings = Tensor::full(0.5f32, (texts, 4), &Device::Cpu).expect("a tensor");
            pairs.loss(step, &embeddings, 0.05).expect("a loss").to_scalar().expect("a scalar")
        };
        // Three texts of one group: each anchor sees its positive alone.
        let one = loss(&step([(0, 1), (1, 2)], vec![]), 3);
        assert!(one.abs() < 1e-5, "{one}");
        let two = loss(&step([(0, 1), (4, 5)], vec![]), 4);
        assert!((two - 3f32.ln()).abs() < 1e-4, "one positive and two negatives: {two}");
        // One text more in the denominators; and every gap of CoSENT is 0, so it is ln(1 + 2 × 1).
        let apart = loss(&step([(0, 1), (4, 5)], vec![(0, 3)]), 5);
        assert!((apart - (4f32.ln() + 0.2 * 3f32.ln())).abs() < 1e-4, "{apart}");
    }

    #[test]
    fn every_pair_that_is_apart_is_learnt_from_once_an_epoch() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pairs.tsv");
        let mut rows = String::from("left\tright\tlabel\n");
        for number in 0..5 {
            rows += &format!("同{number}\t样{number}\t1\n同{number}\t别{number}\t0\n");
        }
        for number in 0..7 {
            rows += &format!("甲{number}\t乙{number}\t0\n");
        }
        std::fs::write(&path, &rows).expect("a file");
        let vocabulary = yingda_models::character_vocabulary([rows.as_str()]);
        let tokenizer = TextTokenizer::from_vocabulary(&vocabulary, Default::default(), 32).expect("a vocabulary");
        let pairs = Pairs::read(&[path], &tokenizer, 0).expect("whole rows");
        assert_eq!(pairs.apart.len(), 7, "those of 甲 and 乙: 同 and 别 stand in triples");
        let steps = pairs.steps(2, &mut Seeded::new(1, 1));
        assert_eq!(steps.iter().map(|step| step.triples.len()).collect::<Vec<_>>(), [2, 2, 1]);
        let mut seen: Vec<(usize, usize)> = steps.iter().flat_map(|step| step.apart.clone()).collect();
        seen.sort_unstable();
        assert_eq!(seen, pairs.apart);
        assert!(steps.iter().all(|step| step.apart.len() >= 2), "spread evenly");
    }

    /// sklearn.metrics.roc_auc_score([0, 0, 1, 1, 1], [0.1, 0.4, 0.35, 0.8, 0.4]) = 0.75.
    #[test]
    fn area_agrees_with_scikit_learn() {
        let rows = [(0.1, false), (0.4, false), (0.35, true), (0.8, true), (0.4, true)];
        assert!((area_under_curve(&rows) - 0.75).abs() < 1e-9);
    }
}
