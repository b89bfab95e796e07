//! What a classifier is worth: per-class precision, recall and F1, macro-F1, accuracy, calibration error.

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

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
}

impl TaskScores {
    /// Scores predictions `(gold, probabilities)`. `None` when there is no row.
    pub fn new<'a>(labels: &[String], rows: impl IntoIterator<Item = (usize, &'a [f32])>) -> Option<Self> {
        const BINS: usize = 15;
        let mut confusion = vec![vec![0usize; labels.len()]; labels.len()];
        let mut bins = [(0usize, 0usize, 0f64); BINS];
        for (gold, probabilities) in rows {
            let (predicted, confidence) = best(probabilities);
            confusion[gold][predicted] += 1;
            let bin = &mut bins[((f64::from(confidence) * BINS as f64) as usize).min(BINS - 1)];
            bin.0 += 1;
            bin.1 += usize::from(gold == predicted);
            bin.2 += f64::from(confidence);
        }
        let rows: usize = bins.iter().map(|bin| bin.0).sum();
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
            expected_calibration_error: bins
                .iter()
                .filter(|bin| bin.0 > 0)
                .map(|&(count, right, confidence)| {
                    (right as f64 - confidence).abs() / count as f64 * ratio(count, rows)
                })
                .sum(),
            rows,
            classes,
            confusion,
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

    /// One line: macro-F1, accuracy, calibration error.
    pub fn line(&self) -> String {
        format!(
            "macro-F1 {:.4}, accuracy {:.4}, expected calibration error {:.4}, {} rows",
            self.macro_f1, self.accuracy, self.expected_calibration_error, self.rows
        )
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

    #[test]
    fn no_rows_no_scores() {
        assert!(TaskScores::new(&["a".to_owned()], []).is_none());
    }
}
