//! What a classifier is worth: per-class precision, recall and F1, macro-F1, accuracy, calibration error.

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use yingda_models::selective::RiskCoverage;

use crate::{
    calibrate,
    statistics::{self, Interval, Tally},
};

/// Scores of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// The class.
    pub label: String,
    /// Right among those said to be of the class; 0 when none was.
    pub precision: f64,
    /// Found among those of the class; 0 when there is none.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Rows of the class.
    pub support: usize,
}

/// Scores of one task over the rows that have its label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScores {
    /// Mean F1 over the classes that have rows.
    pub macro_f1: f64,
    /// Share of right rows.
    pub accuracy: f64,
    /// Expected calibration error over 15 bins of equal width (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>).
    pub expected_calibration_error: f64,
    /// Rows that were scored.
    pub rows: usize,
    /// In head order.
    pub classes: Vec<ClassScores>,
    /// `confusion[gold][predicted]`, in head order.
    pub confusion: Vec<Vec<usize>>,
    /// How far the scores and the probabilities can be trusted; only in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reliability: Option<Reliability>,
}

/// How well probabilities fit what happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error over 15 bins.
    pub expected_calibration_error: f64,
    /// Mean negative log-likelihood of the labels, in nats; 0 is best.
    pub negative_log_likelihood: f64,
}

/// How far the scores of a task and its probabilities can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// 95 % interval of macro-F1, by resampling whole sessions.
    pub macro_f1: Interval,
    /// 95 % interval of accuracy, by resampling whole sessions.
    pub accuracy: Interval,
    /// The temperature that the model folder names.
    pub temperature: f32,
    /// Calibration at temperature 1.
    pub before: Calibration,
    /// Calibration at the folder's temperature.
    pub after: Calibration,
    /// What confidence is worth for choosing whom to answer; its curve is in `risk_coverage.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_coverage: Option<RiskCoverage>,
}

impl Calibration {
    /// Of logits with the gold index, at a temperature.
    pub fn new(rows: &[(Vec<f32>, usize)], temperature: f32) -> Self {
        let mut loss = 0.0;
        let mut said = Vec::with_capacity(rows.len());
        for (logits, gold) in rows {
            let top = logits.iter().copied().fold(f32::MIN, f32::max);
            let scaled = |logit: f32| f64::from(logit - top) / f64::from(temperature);
            loss += logits.iter().map(|&logit| scaled(logit).exp()).sum::<f64>().ln() - scaled(logits[*gold]);
            let (predicted, confidence) = best(&calibrate::softmax(logits, temperature));
            said.push((confidence, predicted == *gold));
        }
        Self {
            expected_calibration_error: calibration_error(said),
            negative_log_likelihood: loss / rows.len().max(1) as f64,
        }
    }
}

impl Reliability {
    /// Of logits with the gold index, and the rows of each session.
    pub fn new(rows: &[(Vec<f32>, usize)], sessions: &[Vec<usize>], classes: usize, temperature: f32) -> Self {
        let pairs: Vec<(usize, usize)> = rows.iter().map(|(logits, gold)| (*gold, best(logits).0)).collect();
        let [macro_f1, accuracy] = statistics::bootstrap(sessions.len(), |drawn| {
            let tally = Tally::of(classes, drawn.iter().flat_map(|&session| &sessions[session]).map(|&row| pairs[row]));
            [tally.macro_f1(), tally.accuracy()]
        });
        let (before, after) = (Calibration::new(rows, 1.0), Calibration::new(rows, temperature));
        Self { macro_f1, accuracy, temperature, before, after, risk_coverage: None }
    }
}

/// Expected calibration error of `(confidence, right)` over 15 bins of equal width (Guo et al. 2017,
/// <https://arxiv.org/abs/1706.04599>); 0 without rows.
pub fn calibration_error(rows: impl IntoIterator<Item = (f32, bool)>) -> f64 {
    const BINS: usize = 15;
    let mut bins = [(0usize, 0usize, 0f64); BINS];
    let mut count = 0usize;
    for (confidence, right) in rows {
        let bin = &mut bins[((f64::from(confidence) * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += 1;
        bin.1 += usize::from(right);
        bin.2 += f64::from(confidence);
        count += 1;
    }
    bins.iter().map(|&(_, right, confidence)| (right as f64 - confidence).abs()).sum::<f64>() / count.max(1) as f64
}

impl TaskScores {
    /// Scores predictions `(gold, probabilities)`. `None` when there is no row.
    pub fn new<'a>(labels: &[String], rows: impl IntoIterator<Item = (usize, &'a [f32])>) -> Option<Self> {
        let mut confusion = vec![vec![0usize; labels.len()]; labels.len()];
        let mut said = Vec::new();
        for (gold, probabilities) in rows {
            let (predicted, confidence) = best(probabilities);
            confusion[gold][predicted] += 1;
            said.push((confidence, gold == predicted));
        }
        let rows = said.len();
        if rows == 0 {
            return None;
        }
        let ratio = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let classes: Vec<ClassScores> = labels
            .iter()
            .enumerate()
            .map(|(class, label)| {
                let hits = confusion[class][class];
                let support: usize = confusion[class].iter().sum();
                let said: usize = confusion.iter().map(|row| row[class]).sum();
                let (precision, recall) = (ratio(hits, said), ratio(hits, support));
                let f1 = ratio(2 * hits, said + support);
                ClassScores { label: label.clone(), precision, recall, f1, support }
            })
            .collect();
        let present: Vec<f64> = classes.iter().filter(|class| class.support > 0).map(|class| class.f1).collect();
        let right: usize = (0..labels.len()).map(|class| confusion[class][class]).sum();
        Some(Self {
            macro_f1: present.iter().sum::<f64>() / present.len() as f64,
            accuracy: ratio(right, rows),
            expected_calibration_error: calibration_error(said),
            rows,
            classes,
            confusion,
            reliability: None,
        })
    }

    /// The per-class table for a terminal.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["class", "precision", "recall", "F1", "rows"]);
        for class in &self.classes {
            table.add_row([
                class.label.clone(),
                format!("{:.3}", class.precision),
                format!("{:.3}", class.recall),
                format!("{:.3}", class.f1),
                class.support.to_string(),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// The confusion matrix for a terminal: rows are what it was, columns (numbered alike) what was said.
    pub fn confusion_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut header = vec!["it was \\ we said".to_owned()];
        header.extend((1..=self.classes.len()).map(|number| number.to_string()));
        table.set_header(header);
        for (number, (class, row)) in self.classes.iter().zip(&self.confusion).enumerate() {
            let mut cells = vec![format!("{} {}", number + 1, class.label)];
            cells.extend(row.iter().map(|&count| if count == 0 { "·".to_owned() } else { count.to_string() }));
            table.add_row(cells);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_padding((0, 1));
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// One line: macro-F1 and accuracy, with their intervals where there are any, calibration error.
    pub fn line(&self) -> String {
        let interval = |pick: fn(&Reliability) -> Interval| {
            self.reliability.as_ref().map(pick).map_or(String::new(), |at| format!(" [{:.4}, {:.4}]", at.low, at.high))
        };
        format!(
            "macro-F1 {:.4}{}, accuracy {:.4}{}, expected calibration error {:.4}, {} rows",
            self.macro_f1,
            interval(|found| found.macro_f1),
            self.accuracy,
            interval(|found| found.accuracy),
            self.expected_calibration_error,
            self.rows
        )
    }

    /// Calibration before and after the temperature, and risk against coverage, a line each; empty without reliability.
    pub fn reliability_lines(&self) -> Vec<String> {
        let Some(found) = &self.reliability else { return Vec::new() };
        let (before, after) = (found.before, found.after);
        let mut lines = vec![format!(
            "temperature 1 → {:.3}: expected calibration error {:.4} → {:.4}, negative log-likelihood {:.4} → {:.4}",
            found.temperature,
            before.expected_calibration_error,
            after.expected_calibration_error,
            before.negative_log_likelihood,
            after.negative_log_likelihood
        )];
        if let Some(curve) = &found.risk_coverage {
            let within = |at: &yingda_models::selective::CoverageAt| {
                format!("{:.1} % within {:.0} % wrong", at.coverage * 100.0, at.risk * 100.0)
            };
            let within: Vec<String> = curve.coverage_at.iter().map(within).collect();
            lines.push(format!(
                "risk-coverage: area {:.4}; by confidence, as measured here, can be answered: {}",
                curve.area,
                within.join(", ")
            ));
        }
        lines
    }
}

/// Index and value of the largest number; the first of equals.
pub fn best(numbers: &[f32]) -> (usize, f32) {
    numbers.iter().copied().enumerate().fold((0, f32::MIN), |best, next| if next.1 > best.1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are scikit-learn's: `precision_recall_fscore_support([0,0,1,1,2], [0,1,1,1,0], zero_division=0)`.
    #[test]
    fn scores_agree_with_scikit_learn() {
        let labels: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
        let rows: [(usize, [f32; 3]); 5] = [
            (0, [0.9, 0.05, 0.05]),
            (0, [0.2, 0.7, 0.1]),
            (1, [0.1, 0.8, 0.1]),
            (1, [0.3, 0.6, 0.1]),
            (2, [0.5, 0.2, 0.3]),
        ];
        let scores = TaskScores::new(&labels, rows.iter().map(|(gold, p)| (*gold, &p[..]))).expect("five rows");
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(scores.classes[0].precision, 0.5) && close(scores.classes[0].recall, 0.5));
        assert!(close(scores.classes[1].precision, 2.0 / 3.0) && close(scores.classes[1].recall, 1.0));
        assert!(close(scores.classes[1].f1, 0.8) && close(scores.classes[2].f1, 0.0));
        assert!(close(scores.macro_f1, (0.5 + 0.8) / 3.0) && close(scores.accuracy, 0.6));
        // Bins of one row each: |0.9-1| + |0.7-0| + |0.8-1| + |0.6-1| + |0.5-0|, divided by 5.
        assert!((scores.expected_calibration_error - 1.9 / 5.0).abs() < 1e-6);
    }

    /// Mean of `-log_softmax(logits / T)[gold]` by numpy: with logits [[2,0],[0,1]], gold [0,0], T 1: (0.126928 + 1.313262) / 2;
    /// T 2: (0.313262 + 0.974077) / 2.
    #[test]
    fn likelihood_and_calibration_at_a_temperature() {
        let rows = [(vec![2.0, 0.0], 0), (vec![0.0, 1.0], 0)];
        let (before, after) = (Calibration::new(&rows, 1.0), Calibration::new(&rows, 2.0));
        assert!((before.negative_log_likelihood - 0.720_095).abs() < 1e-6, "{before:?}");
        assert!((after.negative_log_likelihood - 0.643_670).abs() < 1e-6, "{after:?}");
        // Confidences 0.880797 (right) and 0.731059 (wrong) lie in bins of their own.
        assert!((before.expected_calibration_error - (0.119_203 + 0.731_059) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn no_rows_no_scores() {
        assert!(TaskScores::new(&["a".to_owned()], []).is_none());
    }
}
