//! The end of a run: temperatures and thresholds.

use yingda_models::{ModelSettings, MultiTaskModel, Temperatures};

use crate::{
    TrainError, calibrate, eval,
    examples::Example,
    fit::FitConfig,
    output,
    retrieval::{self, KnowledgePairs, RetrievalScores},
};

/// What temperatures and thresholds are chosen for, and on what.
pub(crate) struct Thresholding<'a> {
    pub(crate) config: &'a FitConfig,
    pub(crate) model: &'a MultiTaskModel,
    pub(crate) validation: &'a [Example],
    /// Held-out wordings of the knowledge, with the intent of their entry.
    pub(crate) held_out: &'a [Example],
    pub(crate) pairs: Option<&'a KnowledgePairs>,
}

impl Thresholding<'_> {
    /// Temperatures and thresholds from validation data and held-out wordings, which are as new to the model as tomorrow's
    /// customers.
    pub(crate) fn choose(
        &self,
        mut settings: ModelSettings,
    ) -> Result<(ModelSettings, Option<RetrievalScores>), TrainError> {
        let sentiments = eval::score_examples(self.model, &settings, self.validation)?.sentiment_rows();
        let unseen = self.validation.iter().chain(self.held_out).filter(|example| example.intent.is_some());
        let unseen: Vec<Example> = unseen.cloned().collect();
        let intents = eval::score_examples(self.model, &settings, &unseen)?.intent_rows();
        settings.temperatures =
            Temperatures { intent: calibrate::temperature(&intents), sentiment: calibrate::temperature(&sentiments) };
        let at = |rows: Vec<(Vec<f32>, usize)>, temperature: f32| -> Vec<(Vec<f32>, usize)> {
            rows.into_iter().map(|(logits, gold)| (calibrate::softmax(&logits, temperature), gold)).collect()
        };
        let intents = at(intents, settings.temperatures.intent);
        settings.thresholds.negative = calibrate::negative_threshold(&at(sentiments, settings.temperatures.sentiment));
        output::line(&format!(
            "calibrated: temperatures {:.3} and {:.3}; negative from {:.2}",
            settings.temperatures.intent, settings.temperatures.sentiment, settings.thresholds.negative
        ));
        let (confidence, share) = calibrate::confidence_threshold(&intents, self.config.precision);
        settings.thresholds.intent_confidence = confidence;
        output::line(&format!(
            "intents are trusted from {confidence:.3}, which {:.0} % of validation messages reach",
            share * 100.0
        ));
        let Some(pairs) = self.pairs else { return Ok((settings, None)) };
        let scores = retrieval::held_out(self.model, pairs)?;
        output::line(&format!(
            "retrieval of {} held-out wordings: recall@1 {:.4}, recall@5 {:.4}, MRR@10 {:.4}",
            scores.queries, scores.recall_at_1, scores.recall_at_5, scores.mrr_at_10
        ));
        Ok((settings, Some(scores)))
    }
}
