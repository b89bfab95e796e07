//! The text contract: what a text looks like to the model, said once for training and serving.
//!
//! Two things happen to a text, in this order:
//!
//! 1. [`Mask`] replaces personal data (phone numbers, identity cards, addresses ...) by tokens such as `[手机号]`. It
//!    works on the text as typed, because the masked raw text is also what is stored and logged.
//! 2. [`clean`] brings what is left to one form: entities, tags, width, script, blanks, repeats, emoticon codes.
//!
//! The options of both are part of a model: they are stored in its folder, and a text prepared with other options is a
//! text that the model has never seen.

mod clean;
mod codes;
mod han;
mod mask;

use serde::{Deserialize, Serialize};

pub use clean::{CleanOptions, clean};
pub use codes::CONTRACT_TOKENS;
pub use mask::{Mask, MaskCounts, MaskOptions, PersonalData};

/// No text that people write needs more than three rounds; the limit bounds the time that a contrived one can take.
const MAX_ROUNDS: usize = 24;

/// Options of the contract: what is masked and how the rest is cleaned. Everything is on by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextContract {
    /// Steps of [`clean`].
    pub clean: CleanOptions,
    /// Kinds of personal data that are masked.
    pub mask: MaskOptions,
}

impl TextContract {
    /// What the model sees: personal data masked, then the text cleaned.
    ///
    /// Idempotent: cleaning can bring personal data to light (`138&#48;0138000`), which is why both are repeated until
    /// nothing changes. A text that is clean already costs one round.
    #[must_use]
    pub fn model_text(&self, raw: &str) -> String {
        let masker = Mask::new(self.mask);
        let mut text = clean(&masker.apply(raw).0, &self.clean);
        for _ in 1..MAX_ROUNDS {
            // Both steps are idempotent by themselves, so there is news only if the masker finds some.
            let (masked, counts) = masker.apply(&text);
            if counts.total() == 0 {
                break;
            }
            text = clean(&masked, &self.clean);
        }
        text
    }

    /// What is stored and logged: the raw text with personal data masked, otherwise as typed; and the finds per kind.
    #[must_use]
    pub fn mask(&self, raw: &str) -> (String, MaskCounts) {
        Mask::new(self.mask).apply(raw)
    }
}

#[cfg(test)]
mod tests;
