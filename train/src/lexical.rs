//! Training the lexical part of a model: logistic regression over n-grams of tokens, and how much it counts beside the encoder.

use std::collections::HashMap;

use yingda_models::{Labels, Lexical, LexicalHead, ModelSettings, MultiTaskModel, Seeded, grams};

use crate::{
    TrainError, calibrate, eval,
    examples::{self, Example},
    fit::FitConfig,
    loss,
    metrics::TaskScores,
    output,
};

/// Texts that are learnt from at most, evenly drawn: a linear part gains little from more, and its memory must not grow.
const MOST_TEXTS: usize = 200_000;
/// Numbers of a head at most, so that 300 intents leave room for 28,000 n-grams.
const MOST_NUMBERS: usize = 1 << 23;
/// Texts that an n-gram must stand in.
const LEAST_TEXTS: u32 = 2;
/// Inverse strength of the pull of the weights towards 0 (`C` of scikit-learn).
const INVERSE_PULL: f32 = 10.0;
const EPOCHS: usize = 20;
/// Step of AdaGrad.
const STEP: f32 = 0.3;
/// Random streams of shuffles.
const SHUFFLES: u64 = 1 << 44;

/// A text as rows of n-grams, each as often as it occurs, with its label.
struct Row {
    grams: Vec<u32>,
    label: usize,
}

/// The lexical part that examples teach; `None` where no n-gram is in two texts.
///
/// # Errors
/// When the parts do not fit together.
fn learn(train: &[Example], labels: &Labels, config: &FitConfig) -> Result<Option<Lexical>, TrainError> {
    let texts: Vec<&Example> = train.iter().step_by(train.len().div_ceil(MOST_TEXTS).max(1)).collect();
    let mut frequency: HashMap<u64, u32> = HashMap::new();
    for text in &texts {
        let mut keys: Vec<u64> = grams(own(text)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().for_each(|key| *frequency.entry(key).or_default() += 1);
    }
    let mut kept: Vec<(u64, u32)> = frequency.into_iter().filter(|&(_, count)| count >= LEAST_TEXTS).collect();
    // The commonest first; of equals the lower key, so that nothing depends on the order of a table.
    kept.sort_unstable_by_key(|&(key, count)| (std::cmp::Reverse(count), key));
    kept.truncate(MOST_NUMBERS / labels.intents.len().max(labels.sentiments.len()));
    kept.sort_unstable();
    if kept.is_empty() {
        return Ok(None);
    }
    let (keys, frequency): (Vec<u64>, Vec<u32>) = kept.into_iter().unzip();
    let known = Lexical::new(keys.clone(), None, None)?;
    let (intents, sentiments) = examples::label_counts(train, labels);
    let head = |counts: &[usize], label: fn(&Example) -> Option<u32>| {
        let rows: Vec<Row> = texts
            .iter()
            .filter_map(|text| Some(Row { label: label(text)? as usize, grams: known.rows(own(text)).collect() }))
            .collect();
        let weights = loss::class_weights(counts, config.class_weight_power);
        // One class is always right.
        let classes = counts.iter().filter(|&&count| count > 0).count();
        (classes > 1).then(|| regress(&rows, &frequency, texts.len(), &weights, config.seed))
    };
    let (intent, sentiment) = (head(&intents, |text| text.intent), head(&sentiments, |text| text.sentiment));
    Ok(Some(Lexical::new(keys, intent, sentiment)?))
}

fn own(text: &Example) -> &[u32] {
    &text.encoded.ids[..text.encoded.own]
}

/// Multinomial logistic regression with class weights and an L2 pull, by AdaGrad (Duchi, Hazan and Singer 2011,
/// <https://jmlr.org/papers/v12/duchi11a.html>) with one step size an n-gram.
///
/// A text's features are the inverse document frequencies of its n-grams over the root of their number; they end up in the
/// weights. The pull acts on an n-gram when it is met, as much more strongly as it is rarer.
fn regress(rows: &[Row], frequency: &[u32], texts: usize, class_weights: &[f32], seed: u64) -> LexicalHead {
    let labels = class_weights.len();
    let inverse: Vec<f32> =
        frequency.iter().map(|&count| ((1 + texts) as f32 / (1 + count) as f32).ln() + 1.0).collect();
    let mut weight = vec![0f32; frequency.len() * labels];
    let mut bias = vec![0f32; labels];
    let (mut seen, mut seen_bias) = (vec![1e-8f32; frequency.len()], 1e-8f32);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut slope = vec![0f32; labels];
    for epoch in 0..EPOCHS {
        Seeded::new(seed, SHUFFLES + epoch as u64).shuffle(&mut order);
        for row in order.iter().map(|&index| &rows[index]) {
            let share = 1.0 / (row.grams.len().max(1) as f32).sqrt();
            slope.copy_from_slice(&bias);
            for &gram in &row.grams {
                let value = inverse[gram as usize] * share;
                let weights = &weight[gram as usize * labels..][..labels];
                slope.iter_mut().zip(weights).for_each(|(logit, weight)| *logit += weight * value);
            }
            let mut probabilities = calibrate::softmax(&slope, 1.0);
            probabilities[row.label] -= 1.0;
            let class_weight = class_weights[row.label];
            slope.iter_mut().zip(probabilities).for_each(|(slope, value)| *slope = value * class_weight);
            let square: f32 = slope.iter().map(|slope| slope * slope).sum();
            seen_bias += square;
            let step = STEP / seen_bias.sqrt();
            bias.iter_mut().zip(&slope).for_each(|(bias, slope)| *bias -= step * slope);
            for &gram in &row.grams {
                let value = inverse[gram as usize] * share;
                let seen = &mut seen[gram as usize];
                *seen += square * value * value;
                let step = STEP / seen.sqrt();
                let pull = (1.0 - step / (INVERSE_PULL * frequency[gram as usize] as f32)).max(0.0);
                let weights = &mut weight[gram as usize * labels..][..labels];
                weights
                    .iter_mut()
                    .zip(&slope)
                    .for_each(|(weight, slope)| *weight = *weight * pull - step * value * slope);
            }
        }
    }
    for (weights, inverse) in weight.chunks_mut(labels).zip(inverse) {
        weights.iter_mut().for_each(|weight| *weight *= inverse);
    }
    LexicalHead { weight, bias }
}

/// Gives a trained model a lexical part, as strong for each task as makes the labels of unseen examples most likely.
///
/// `validation` and `held_out` are examples that nothing was learnt from. A task that gains nothing gets none.
///
/// # Errors
/// When a tensor operation fails.
pub(crate) fn add(
    model: &mut MultiTaskModel,
    settings: &ModelSettings,
    config: &FitConfig,
    [train, validation, held_out]: [&[Example]; 3],
) -> Result<(), TrainError> {
    let labels = &settings.labels;
    let Some(lexical) = learn(train, labels, config)? else { return Ok(()) };
    let unseen: Vec<&Example> = validation.iter().chain(held_out).collect();
    let (mut intent_rows, mut sentiment_rows) = (Vec::new(), Vec::new());
    for (example, output) in unseen.iter().zip(eval::outputs(model, &unseen)?) {
        let mut parts = [vec![0f32; labels.intents.len()], vec![0f32; labels.sentiments.len()]];
        let [intent_part, sentiment_part] = &mut parts;
        lexical.add(own(example), intent_part, sentiment_part);
        let [intent_part, sentiment_part] = parts;
        if let Some(gold) = example.intent {
            intent_rows.push(Blended { encoder: output.intent_logits, lexical: intent_part, gold: gold as usize });
        }
        if let Some(gold) = example.sentiment {
            let rows = &mut sentiment_rows;
            rows.push(Blended { encoder: output.sentiment_logits, lexical: sentiment_part, gold: gold as usize });
        }
    }
    let strengths = [strength(&intent_rows), strength(&sentiment_rows)];
    let grams = lexical.keys().len();
    model.set_lexical(lexical.scaled(strengths));
    let scores = eval::score_examples(model, settings, validation)?.scores(labels);
    let figure = |task: &Option<TaskScores>| task.as_ref().map_or("-".into(), |task| format!("{:.4}", task.macro_f1));
    output::line(&format!(
        "lexical part: {grams} n-grams, strength {:.2} for the intent and {:.2} for the sentiment; with it validation intent \
         macro-F1 {}, sentiment macro-F1 {}",
        strengths[0],
        strengths[1],
        figure(&scores.intent),
        figure(&scores.sentiment)
    ));
    Ok(())
}

/// Logits of both parts for an example, and its label.
struct Blended {
    encoder: Vec<f32>,
    lexical: Vec<f32>,
    gold: usize,
}

/// How much the lexical logits count: what makes the labels most likely, each temperature being the best for it; 0 without rows.
fn strength(rows: &[Blended]) -> f32 {
    let loss = |strength: f32| -> f64 {
        let rows: Vec<(Vec<f32>, usize)> = rows
            .iter()
            .map(|row| (row.encoder.iter().zip(&row.lexical).map(|(a, b)| a + strength * b).collect(), row.gold))
            .collect();
        let temperature = calibrate::likeliest_temperature(&rows);
        rows.iter()
            .map(|(logits, gold)| {
                let probability = f64::from(calibrate::softmax(logits, temperature)[*gold]);
                -probability.max(1e-12).ln()
            })
            .sum()
    };
    let mut best = (0.0, loss(0.0));
    for half_octave in -8..=8 {
        let strength = 2f32.powf(half_octave as f32 / 2.0);
        let loss = loss(strength);
        if loss < best.1 {
            best = (strength, loss);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(grams: &[u32], label: usize) -> Row {
        Row { grams: grams.to_vec(), label }
    }

    #[test]
    fn what_decides_alone_gets_the_weight() {
        // N-gram 0 says nothing, 1 says the first label, 2 the second.
        let rows: Vec<Row> = (0..40).map(|index| row(&[0, 1 + index % 2], index as usize % 2)).collect();
        let head = regress(&rows, &[40, 20, 20], rows.len(), &[1.0, 1.0], 1);
        let difference = |gram: usize| head.weight[2 * gram] - head.weight[2 * gram + 1];
        assert!(difference(1) > 1.0 && difference(2) < -1.0 && difference(0).abs() < 0.2, "{:?}", head.weight);
        assert_eq!(head, regress(&rows, &[40, 20, 20], rows.len(), &[1.0, 1.0], 1));
        assert_ne!(head, regress(&rows, &[40, 20, 20], rows.len(), &[1.0, 1.0], 2));
    }

    #[test]
    fn a_class_of_more_weight_is_said_sooner() {
        // Both labels stand on the same n-gram, the second one time in four.
        let rows: Vec<Row> = (0..80).map(|index| row(&[0], usize::from(index % 4 == 0))).collect();
        let said = |weights: &[f32]| {
            let head = regress(&rows, &[80], rows.len(), weights, 1);
            head.weight[1] + head.bias[1] > head.weight[0] + head.bias[0]
        };
        assert!(!said(&[1.0, 1.0]));
        assert!(said(&[0.2, 1.8]));
    }

    #[test]
    fn the_lexical_part_counts_as_much_as_it_is_worth() {
        let rows = |encoder_right: usize, lexical_right: usize| -> Vec<Blended> {
            (0..100)
                .map(|index| {
                    let gold = index % 2;
                    let logits = |right: bool| if right == (gold == 1) { vec![0.0, 2.0] } else { vec![2.0, 0.0] };
                    // Whether one errs says nothing of the other.
                    let (encoder, lexical) = (index % 10 < encoder_right, index / 10 < lexical_right);
                    Blended { encoder: logits(encoder), lexical: logits(lexical), gold }
                })
                .collect()
        };
        assert_eq!(strength(&rows(9, 5)), 0.0);
        let (equal, better) = (strength(&rows(8, 8)), strength(&rows(7, 9)));
        assert!((0.7..1.5).contains(&equal) && better > equal, "{equal} {better}");
        assert_eq!(strength(&[]), 0.0);
    }
}
