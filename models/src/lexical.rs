//! The lexical part: a linear classifier over the tokens of a text and their neighbours, beside the encoder.
//!
//! An encoder sees what a text means; a word that decides alone, such as a brand or a swear word, it may wash out, the more so
//! when it learnt from few texts. A linear classifier over n-grams is strong just there. Logits of both are added, as in Wide &
//! Deep (Cheng et al. 2016, <https://arxiv.org/abs/1606.07792>); here the two are trained apart, and how much the lexical part
//! counts is chosen on validation data.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};

use crate::{Labels, ModelError};

/// Name of the tensor of keys.
const GRAMS: &str = "lexical.grams";
/// The tasks, as their weights are named.
const TASKS: [&str; 2] = ["intent", "sentiment"];

/// A linear head over n-grams.
#[derive(Clone, Debug, PartialEq)]
pub struct LexicalHead {
    /// `[grams, labels]`, by rows.
    pub weight: Vec<f32>,
    /// `[labels]`.
    pub bias: Vec<f32>,
}

/// N-grams of one to three tokens with what each says for every label.
#[derive(Clone, Debug, PartialEq)]
pub struct Lexical {
    /// Keys in rising order; the place of a key is its row in the heads' weights.
    grams: Vec<u64>,
    intent: Option<LexicalHead>,
    sentiment: Option<LexicalHead>,
}

/// The keys of all n-grams of a text's tokens, special ones included, each as often as it occurs.
///
/// A key is made of token ids plus one, 21 bits each, the first lowest; so the beginning and the end of a text are seen by
/// `[CLS]` and `[SEP]`.
pub fn grams(ids: &[u32]) -> impl Iterator<Item = u64> + '_ {
    (0..ids.len()).flat_map(move |start| {
        let longest = Lexical::LONGEST.min(ids.len() - start);
        (1..=longest).map(move |length| {
            let parts = ids[start..start + length].iter().enumerate();
            parts.fold(0, |key, (place, &id)| key | (u64::from(id) + 1) << (Lexical::BITS * place as u32))
        })
    })
}

impl Lexical {
    /// Longest n-gram in tokens. A Chinese character is a token, so a word of up to three characters is seen whole.
    pub const LONGEST: usize = 3;
    /// Bits of a token in the key of an n-gram.
    pub const BITS: u32 = 21;

    /// From keys of n-grams in rising order and a head for each task that has one.
    ///
    /// # Errors
    /// When the keys are not in rising order, or a head does not fit them.
    pub fn new(
        grams: Vec<u64>,
        intent: Option<LexicalHead>,
        sentiment: Option<LexicalHead>,
    ) -> Result<Self, ModelError> {
        if !grams.is_sorted_by(|a, b| a < b) {
            return Err(ModelError::Config(format!("{GRAMS} must be in rising order, each once")));
        }
        for (task, head) in TASKS.iter().zip([&intent, &sentiment]) {
            if head.as_ref().is_some_and(|head| head.weight.len() != head.bias.len() * grams.len()) {
                return Err(ModelError::Config(format!("lexical.{task}.weight does not fit {GRAMS}")));
            }
        }
        Ok(Self { grams, intent, sentiment })
    }

    /// Rows of the n-grams of a text that are known, each as often as it occurs.
    pub fn rows<'a>(&'a self, ids: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        grams(ids).filter_map(|gram| Some(self.grams.binary_search(&gram).ok()? as u32))
    }

    /// Adds to the logits of a text with the token ids `ids`: the sum over its known n-grams, divided by the root of their
    /// number, plus the bias.
    pub fn add(&self, ids: &[u32], intent_logits: &mut [f32], sentiment_logits: &mut [f32]) {
        let rows: Vec<u32> = self.rows(ids).collect();
        let share = 1.0 / (rows.len().max(1) as f32).sqrt();
        for (head, logits) in [(&self.intent, intent_logits), (&self.sentiment, sentiment_logits)] {
            let Some(head) = head else { continue };
            let labels = head.bias.len();
            for &row in &rows {
                let weights = &head.weight[row as usize * labels..][..labels];
                logits.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += weight * share);
            }
            logits.iter_mut().zip(&head.bias).for_each(|(logit, bias)| *logit += bias);
        }
    }

    /// The same with the heads of intent and sentiment multiplied; a head times 0 is left out. `None` where none is left.
    #[must_use]
    pub fn scaled(mut self, strengths: [f32; 2]) -> Option<Self> {
        for (head, strength) in [&mut self.intent, &mut self.sentiment].into_iter().zip(strengths) {
            match head {
                Some(head) if strength != 0.0 => {
                    head.weight.iter_mut().chain(&mut head.bias).for_each(|number| *number *= strength);
                }
                head => *head = None,
            }
        }
        (self.intent.is_some() || self.sentiment.is_some()).then_some(self)
    }

    /// Keys of the known n-grams, in rising order: the rows of the heads' weights.
    pub fn keys(&self) -> &[u64] {
        &self.grams
    }

    /// The heads of intent and sentiment.
    pub fn heads(&self) -> [Option<&LexicalHead>; 2] {
        [self.intent.as_ref(), self.sentiment.as_ref()]
    }

    /// The tensors of a folder: keys `[grams]` as 64-bit integers, and for each task that has a head a weight `[grams, labels]`
    /// and a bias `[labels]`.
    pub(crate) fn tensors(&self) -> Result<BTreeMap<String, Tensor>, ModelError> {
        let device = &Device::Cpu;
        let keys: Vec<i64> = self.grams.iter().map(|&gram| gram as i64).collect();
        let mut tensors = BTreeMap::from([(GRAMS.to_owned(), Tensor::from_vec(keys, self.grams.len(), device)?)]);
        for (task, head) in TASKS.iter().zip([&self.intent, &self.sentiment]) {
            let Some(head) = head else { continue };
            let weight = Tensor::from_slice(&head.weight, (self.grams.len(), head.bias.len()), device)?;
            tensors.insert(format!("lexical.{task}.weight"), weight);
            tensors.insert(format!("lexical.{task}.bias"), Tensor::from_slice(&head.bias, head.bias.len(), device)?);
        }
        Ok(tensors)
    }

    /// Takes the lexical part out of the tensors of a folder's heads; `None` where there is none.
    pub(crate) fn take(tensors: &mut HashMap<String, Tensor>, labels: &Labels) -> Result<Option<Self>, ModelError> {
        let Some(keys) = tensors.remove(GRAMS) else { return Ok(None) };
        let keys = keys.flatten_all()?.to_vec1::<i64>().map_err(|error| {
            ModelError::Config(format!("{GRAMS} must be 64-bit integers ({error}); copy or train the folder again"))
        })?;
        let grams: Vec<u64> = keys.into_iter().map(|key| key as u64).collect();
        let mut head = |task: &str, labels: usize| -> Result<Option<LexicalHead>, ModelError> {
            let Some(weight) = tensors.remove(&format!("lexical.{task}.weight")) else { return Ok(None) };
            let bias = tensors.remove(&format!("lexical.{task}.bias"));
            let bias = bias.ok_or_else(|| ModelError::Config(format!("lexical.{task}.bias is missing")))?;
            if weight.dims() != [grams.len(), labels] || bias.dims() != [labels] {
                return Err(ModelError::Config(format!(
                    "lexical.{task}.weight is {:?} and its bias {:?}, but there are {} n-grams and {labels} labels",
                    weight.dims(),
                    bias.dims(),
                    grams.len()
                )));
            }
            let numbers = |tensor: Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
            Ok(Some(LexicalHead { weight: numbers(weight)?, bias: numbers(bias)? }))
        };
        let intent = head("intent", labels.intents.len())?;
        let sentiment = head("sentiment", labels.sentiments.len())?;
        Self::new(grams, intent, sentiment).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexical() -> Lexical {
        let mut keys: Vec<u64> = grams(&[7, 8]).collect();
        keys.sort_unstable();
        // 7, 8, then 7 8 together.
        let head = LexicalHead { weight: vec![1.0, 0.0, 2.0, 0.0, 0.0, 4.0], bias: vec![0.5, 0.0] };
        Lexical::new(keys, Some(head), None).expect("keys in order")
    }

    #[test]
    fn n_grams_of_up_to_three_tokens_have_keys_of_their_own() {
        let all: Vec<u64> = grams(&[0, 1, 0, 1]).collect();
        assert_eq!(all.len(), 4 + 3 + 2);
        let mut different = all.clone();
        different.sort_unstable();
        different.dedup();
        // 0, 1, 01, 10, 010, 101.
        assert_eq!(different.len(), 6);
        assert_eq!(grams(&[3]).collect::<Vec<_>>(), [4]);
        assert_eq!(grams(&[]).count(), 0);
    }

    #[test]
    fn known_n_grams_add_to_the_logits_of_their_task() {
        let (mut intents, mut sentiments) = (vec![10.0, 10.0], vec![1.0; 3]);
        lexical().add(&[7, 8, 9], &mut intents, &mut sentiments);
        let share = 1.0 / 3f32.sqrt();
        assert_eq!(intents, [10.0 + 1.0 * share + 2.0 * share + 0.5, 10.0 + 4.0 * share]);
        assert_eq!(sentiments, [1.0; 3]);
        let mut nothing_known = [0.0, 0.0];
        lexical().add(&[1, 2], &mut nothing_known, &mut sentiments);
        assert_eq!(nothing_known, [0.5, 0.0]);
    }

    #[test]
    fn a_head_without_strength_is_left_out() {
        let doubled = lexical().scaled([2.0, 1.0]).expect("one head is left");
        let mut intents = [0.0, 0.0];
        doubled.add(&[1], &mut intents, &mut []);
        assert_eq!(intents, [1.0, 0.0]);
        assert_eq!(lexical().scaled([0.0, 1.0]), None);
    }

    #[test]
    fn tensors_give_the_same_part_back_and_wrong_ones_are_named() {
        let labels = Labels { intents: vec!["a".into(), "b".into()], sentiments: vec![] };
        let tensors = || lexical().tensors().expect("numbers").into_iter().collect::<HashMap<_, _>>();
        let mut whole = tensors();
        assert_eq!(Lexical::take(&mut whole, &labels).ok(), Some(Some(lexical())));
        assert!(whole.is_empty());
        assert_eq!(Lexical::take(&mut HashMap::new(), &labels).ok(), Some(None));
        let one = Labels { intents: vec!["a".into()], sentiments: vec![] };
        let error = Lexical::take(&mut tensors(), &one).expect_err("two labels").to_string();
        assert!(error.contains("lexical.intent.weight") && error.contains("1 labels"), "{error}");
        let mut halves = tensors();
        halves.insert(GRAMS.to_owned(), Tensor::zeros(3, DType::F16, &Device::Cpu).expect("zeros"));
        let error = Lexical::take(&mut halves, &labels).expect_err("no integers").to_string();
        assert!(error.contains("64-bit integers"), "{error}");
        let error = Lexical::new(vec![2, 1], None, None).expect_err("falling").to_string();
        assert!(error.contains("rising order"), "{error}");
    }
}
