//! The end of a run: temperatures and thresholds.

use yingda_models::{Encoded, Labels, ModelSettings, MultiTaskModel, Temperatures};

use crate::{
    TrainError, calibrate, eval,
    examples::Example,
    fit::FitConfig,
    metrics::best,
    output,
    retrieval::{self, KnowledgePairs, RetrievalScores},
};

/// What temperatures and thresholds are chosen for, and on what.
pub(crate) struct Thresholding<'a> {
    pub(crate) config: &'a FitConfig,
    pub(crate) model: &'a MultiTaskModel,
    pub(crate) labels: &'a Labels,
    pub(crate) validation: &'a [Example],
    /// Held-out wordings of the knowledge, with the intent of their entry.
    pub(crate) held_out: &'a [Example],
    pub(crate) pairs: Option<&'a KnowledgePairs>,
    /// The intent of every knowledge entry.
    pub(crate) entry_intents: &'a [Option<String>],
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
        let Some(pairs) = self.pairs else {
            let (confidence, share) = calibrate::confidence_threshold(&intents, self.config.precision);
            settings.thresholds.intent_confidence = confidence;
            output::line(&format!(
                "intents are trusted from {confidence:.3}, which {:.0} % of validation messages reach",
                share * 100.0
            ));
            return Ok((settings, None));
        };
        let (scores, index) = retrieval::held_out(self.model, pairs)?;
        let texts: Vec<&Encoded> = unseen.iter().map(|example| &example.encoded).collect();
        let embeddings = eval::embed(self.model, &texts)?;
        let (mut rows, mut hits) = (Vec::new(), Vec::new());
        for ((probabilities, gold), embedding) in intents.iter().zip(&embeddings) {
            let ranked = retrieval::rank(embedding, &index);
            let (predicted, confidence) = best(probabilities);
            let label = &self.labels.intents[predicted];
            let nothing = self.config.out_of_scope.as_str();
            if label != nothing {
                // As the reply decision does: the best reply of the intent; an entry without an intent fits every one.
                let fits = |entry: usize| self.entry_intents[entry].as_ref().is_none_or(|intent| intent == label);
                let score = ranked.iter().find(|(entry, _)| fits(*entry)).map_or(-1.0, |hit| hit.1);
                rows.push((confidence, score, predicted == *gold));
            }
            // Alone, a reply is judged by its own intent; what nothing answers has none.
            hits.extend(ranked.first().map(|(entry, cosine)| {
                (*cosine, self.entry_intents[*entry].as_deref() == Some(self.labels.intents[*gold].as_str()))
            }));
        }
        let (confidence, score, share) = calibrate::reply_thresholds(&rows, self.config.precision);
        settings.thresholds.intent_confidence = confidence;
        settings.thresholds.reply_score = score;
        settings.thresholds.sure_score = calibrate::precise_threshold(hits, self.config.precision).0.max(score);
        output::line(&format!(
            "retrieval of {} held-out wordings: recall@1 {:.4}, recall@5 {:.4}, MRR@10 {:.4}",
            scores.queries, scores.recall_at_1, scores.recall_at_5, scores.mrr_at_10
        ));
        output::line(&format!(
            "replies are trusted from intent probability {confidence:.2} and cosine {score:.2}, which {:.0} % of unseen messages \
             reach, and from cosine {:.3} alone",
            share * 100.0,
            settings.thresholds.sure_score
        ));
        Ok((settings, Some(scores)))
    }
}
