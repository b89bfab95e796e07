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
    /// Texts of one group mean the same, by any chain of pairs; they are never each other's negatives.
    group: Vec<usize>,
    /// Pairs that are not learnt from.
    pub(crate) held_out: Vec<(usize, usize, bool)>,
}

/// One step's texts: an anchor, what means the same, and (where one is known) what does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Triple {
    anchor: usize,
    same: usize,
    other: Option<usize>,
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
        let mut pairs = Self { texts, same: Vec::new(), other: BTreeMap::new(), group, held_out: Vec::new() };
        for (index, (left, right, same)) in rows.into_iter().enumerate() {
            if held_out > 0 && index % held_out == held_out - 1 {
                pairs.held_out.push((left, right, same));
            } else if same {
                pairs.same.push((left, right));
            } else if pairs.group[left] != pairs.group[right] {
                // Pairs that contradict a chain of others teach nothing.
                pairs.other.entry(left).or_default().push(right);
                pairs.other.entry(right).or_default().push(left);
            }
        }
        Ok(pairs)
    }

    /// One epoch's steps of `size` triples each, drawn from `generator`.
    pub(crate) fn steps(&self, size: usize, generator: &mut Seeded) -> Vec<Vec<Triple>> {
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
        triples.chunks(size).map(<[Triple]>::to_vec).collect()
    }

    /// The texts of a step, each once, and where the triples' texts are among them.
    pub(crate) fn texts(triples: &[Triple]) -> (Vec<usize>, HashMap<usize, usize>) {
        let mut order = Vec::new();
        let mut places = HashMap::new();
        for triple in triples {
            for text in [Some(triple.anchor), Some(triple.same), triple.other].into_iter().flatten() {
                places.entry(text).or_insert_with(|| {
                    order.push(text);
                    order.len() - 1
                });
            }
        }
        (order, places)
    }

    /// InfoNCE (van den Oord et al. 2018, <https://arxiv.org/abs/1807.03748>) with all texts of the step as negatives, except those that
    /// mean the same; plus CoSENT (Su 2022, <https://kexue.fm/archives/8847>): every pair that means the same should be
    /// nearer than every pair that does not.
    ///
    /// `embeddings` are `[texts, hidden]` of length 1, in the order of [`Pairs::texts`].
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub(crate) fn loss(&self, triples: &[Triple], embeddings: &Tensor, temperature: f64) -> Result<Tensor, TrainError> {
        let (order, places) = Self::texts(triples);
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
        let triples = [Triple { anchor: 0, same: 1, other: None }, Triple { anchor: 1, same: 2, other: None }];
        // Three texts of one group: each anchor sees its positive alone.
        let embeddings = Tensor::full(0.5f32, (3, 4), &Device::Cpu).expect("a tensor");
        let loss = pairs.loss(&triples, &embeddings, 0.05).expect("a loss").to_scalar::<f32>().expect("a scalar");
        assert!(loss.abs() < 1e-5, "{loss}");
        let triples = [Triple { anchor: 0, same: 1, other: None }, Triple { anchor: 4, same: 5, other: None }];
        let embeddings = Tensor::full(0.5f32, (4, 4), &Device::Cpu).expect("a tensor");
        let loss = pairs.loss(&triples, &embeddings, 0.05).expect("a loss").to_scalar::<f32>().expect("a scalar");
        assert!((loss - 3f32.ln()).abs() < 1e-4, "one positive and two negatives: {loss}");
    }

    /// sklearn.metrics.roc_auc_score([0, 0, 1, 1, 1], [0.1, 0.4, 0.35, 0.8, 0.4]) = 0.75.
    #[test]
    fn area_agrees_with_scikit_learn() {
        let rows = [(0.1, false), (0.4, false), (0.35, true), (0.8, true), (0.4, true)];
        assert!((area_under_curve(&rows) - 0.75).abs() < 1e-9);
    }
}
