//! Fitting the second stage on labelled questions.

use std::collections::HashSet;

use super::Engine;
use crate::{
    EngineError,
    ranking::{
        LabelledQuestion, Seen, TuneOptions, TuneReport, Tuning,
        features::{Features, Question},
        tune,
    },
    store::{Candidate, Method, ReplyStore},
};

impl Engine {
    /// Fits the second stage on labelled questions and, unless `dry_run`, keeps it with the store. A question that is a wording of
    /// the knowledge is judged as if that wording were not there. From `only_judged` nothing is learnt; they are in the report's
    /// figures. `progress(done, all)` counts questions.
    ///
    /// # Errors
    /// When there are too few questions, or the model or the store fails. Nothing is kept then.
    pub async fn tune(
        &self,
        questions: &[LabelledQuestion],
        only_judged: &[LabelledQuestion],
        options: TuneOptions,
        dry_run: bool,
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<(Tuning, TuneReport), EngineError> {
        let all = questions.len() + only_judged.len();
        let mut seen = Vec::with_capacity(all);
        for (done, question) in questions.iter().chain(only_judged).enumerate() {
            progress(done, all);
            seen.push(self.see(question).await?);
        }
        progress(all, all);
        let judged = seen.split_off(questions.len());
        let (tuning, report) = tokio::task::spawn_blocking(move || tune(&seen, &judged, options))
            .await
            .map_err(|_| EngineError::WorkerStopped)??;
        if !dry_run {
            self.0.store.keep_tuning(tuning.clone()).await?;
            self.set_tuning(tuning.clone());
        }
        Ok((tuning, report))
    }

    async fn see(&self, question: &LabelledQuestion) -> Result<Seen, EngineError> {
        /// As many as the figures look at.
        const ENTRIES: usize = 10;
        let serving = self.serving();
        let conversation = question.conversation();
        let (understanding, _) = self.understand_one(&serving, question.text.clone(), &conversation.turns).await?;
        let model_text = serving.folder.tokenizer.contract().model_text(&question.text);
        let mut asked = self.asked(&serving, &understanding, &model_text, &conversation).await?;
        let mut orders: [(Vec<String>, f32); 3] = Default::default();
        let mut candidates: Vec<Candidate> = Vec::new();
        for (order, method) in orders.iter_mut().zip([Method::Dense, Method::Sparse, Method::Fused]) {
            asked.query.method = method;
            candidates = self.candidates(&asked.query, ENTRIES).await?;
            // Who asks in the very words of the knowledge is no test of it.
            for candidate in &mut candidates {
                candidate.wordings.retain(|wording| wording.text != question.text);
            }
            candidates.retain(|candidate| !candidate.wordings.is_empty());
            let best = candidates.first().map_or(0.0, Candidate::score);
            *order = (candidates.iter().map(|candidate| candidate.knowledge_id.clone()).collect(), best);
        }
        let policy = &self.0.config.policy;
        let features = Features::new(&asked.question(policy), &candidates);
        let ids = candidates.iter().map(|candidate| candidate.knowledge_id.clone()).collect();
        let right: HashSet<String> = question.knowledge.iter().cloned().collect();
        let without = (!right.is_empty()).then(|| {
            let (gone, left): (Vec<Candidate>, Vec<Candidate>) =
                candidates.into_iter().partition(|candidate| right.contains(&candidate.knowledge_id));
            // An intent that only they had would tell that they are gone.
            let has = |candidates: &[Candidate], label: &String| {
                candidates.iter().any(|candidate| candidate.intent.as_ref() == Some(label))
            };
            let mut intents = asked.intents.clone();
            intents.retain(|intent| has(&left, &intent.label) || !has(&gone, &intent.label));
            let all: f32 = intents.iter().map(|intent| intent.probability).sum();
            intents.iter_mut().for_each(|intent| intent.probability /= all.max(1e-6));
            Features::new(&Question { intents: &intents, ..asked.question(policy) }, &left)
        });
        Ok(Seen { text: question.text.clone(), features, without, ids, right, orders })
    }
}
