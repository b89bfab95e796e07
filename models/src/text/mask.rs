//! Masking of personal data, on the text as typed.
//!
//! Each kind proposes spans; where spans overlap, the longer one wins, then the kind that stands first in
//! [`PersonalData`]. The rest is as typed. Wrongly masking costs the model a word, wrongly not masking costs a customer
//! their privacy; still, what only looks like personal data (order numbers, prices, service lines) is left alone,
//! because the answer may depend on it.

mod address;
mod numbers;
mod person;
mod view;

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

use serde::{Deserialize, Serialize};

use view::View;

use super::MAX_ROUNDS;

/// The kinds of personal data, the more specific first: of two readings of the same span the first kind wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonalData {
    /// Citizen identity number: 18 characters with a check character by ISO 7064 MOD 11-2 (GB 11643-1999), or 15 digits
    /// of the older form (GB 11643-1989); with a plausible province and date of birth.
    IdentityCard,
    /// Bank card number: 16 to 19 digits, first digit 3 to 6, Luhn check digit (ISO/IEC 7812-1).
    BankCard,
    /// E-mail address (the everyday part of RFC 5321).
    Email,
    /// Mobile number of mainland China: 11 digits from 13 to 19, also with +86.
    Mobile,
    /// Landline number with its area code. 400 and 800 numbers belong to companies.
    Landline,
    /// Number plate of a vehicle (GA 36-2018), also new-energy ones.
    NumberPlate,
    /// Parcel number: a carrier's prefix, or 12 to 15 digits after a word such as 运单号.
    ParcelNumber,
    /// WeChat or QQ number, after a word that announces one.
    SocialAccount,
    /// Postal address, precise to a house, a flat or a village.
    Address,
    /// Name of a person, after a word that announces one.
    Name,
}

impl PersonalData {
    /// All kinds, in order.
    pub const ALL: [Self; 10] = [
        Self::IdentityCard,
        Self::BankCard,
        Self::Email,
        Self::Mobile,
        Self::Landline,
        Self::NumberPlate,
        Self::ParcelNumber,
        Self::SocialAccount,
        Self::Address,
        Self::Name,
    ];

    /// What a find of this kind is replaced by.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::IdentityCard => "[身份证]",
            Self::BankCard => "[银行卡]",
            Self::Email => "[邮箱]",
            Self::Mobile => "[手机号]",
            Self::Landline => "[座机]",
            Self::NumberPlate => "[车牌]",
            Self::ParcelNumber => "[快递单号]",
            Self::SocialAccount => "[社交号]",
            Self::Address => "[地址]",
            Self::Name => "[姓名]",
        }
    }
}

/// Which kinds are masked; all by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskOptions {
    /// [`PersonalData::IdentityCard`]
    pub identity_card: bool,
    /// [`PersonalData::BankCard`]
    pub bank_card: bool,
    /// [`PersonalData::Email`]
    pub email: bool,
    /// [`PersonalData::Mobile`]
    pub mobile: bool,
    /// [`PersonalData::Landline`]
    pub landline: bool,
    /// [`PersonalData::NumberPlate`]
    pub number_plate: bool,
    /// [`PersonalData::ParcelNumber`]
    pub parcel_number: bool,
    /// [`PersonalData::SocialAccount`]
    pub social_account: bool,
    /// [`PersonalData::Address`]
    pub address: bool,
    /// [`PersonalData::Name`]
    pub name: bool,
}

impl Default for MaskOptions {
    fn default() -> Self {
        Self {
            identity_card: true,
            bank_card: true,
            email: true,
            mobile: true,
            landline: true,
            number_plate: true,
            parcel_number: true,
            social_account: true,
            address: true,
            name: true,
        }
    }
}

impl MaskOptions {
    /// Nothing is masked: for data that was masked before.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            identity_card: false,
            bank_card: false,
            email: false,
            mobile: false,
            landline: false,
            number_plate: false,
            parcel_number: false,
            social_account: false,
            address: false,
            name: false,
        }
    }

    /// Whether a kind is masked.
    #[must_use]
    pub const fn has(&self, kind: PersonalData) -> bool {
        match kind {
            PersonalData::IdentityCard => self.identity_card,
            PersonalData::BankCard => self.bank_card,
            PersonalData::Email => self.email,
            PersonalData::Mobile => self.mobile,
            PersonalData::Landline => self.landline,
            PersonalData::NumberPlate => self.number_plate,
            PersonalData::ParcelNumber => self.parcel_number,
            PersonalData::SocialAccount => self.social_account,
            PersonalData::Address => self.address,
            PersonalData::Name => self.name,
        }
    }
}

/// How many finds of each kind were masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MaskCounts {
    /// [`PersonalData::IdentityCard`]
    pub identity_card: usize,
    /// [`PersonalData::BankCard`]
    pub bank_card: usize,
    /// [`PersonalData::Email`]
    pub email: usize,
    /// [`PersonalData::Mobile`]
    pub mobile: usize,
    /// [`PersonalData::Landline`]
    pub landline: usize,
    /// [`PersonalData::NumberPlate`]
    pub number_plate: usize,
    /// [`PersonalData::ParcelNumber`]
    pub parcel_number: usize,
    /// [`PersonalData::SocialAccount`]
    pub social_account: usize,
    /// [`PersonalData::Address`]
    pub address: usize,
    /// [`PersonalData::Name`]
    pub name: usize,
}

impl MaskCounts {
    /// All finds together.
    #[must_use]
    pub fn total(&self) -> usize {
        PersonalData::ALL.iter().map(|kind| self.of(*kind)).sum()
    }

    /// The finds of one kind.
    #[must_use]
    pub fn of(&self, kind: PersonalData) -> usize {
        *self.clone().slot(kind)
    }

    fn slot(&mut self, kind: PersonalData) -> &mut usize {
        match kind {
            PersonalData::IdentityCard => &mut self.identity_card,
            PersonalData::BankCard => &mut self.bank_card,
            PersonalData::Email => &mut self.email,
            PersonalData::Mobile => &mut self.mobile,
            PersonalData::Landline => &mut self.landline,
            PersonalData::NumberPlate => &mut self.number_plate,
            PersonalData::ParcelNumber => &mut self.parcel_number,
            PersonalData::SocialAccount => &mut self.social_account,
            PersonalData::Address => &mut self.address,
            PersonalData::Name => &mut self.name,
        }
    }
}

impl AddAssign for MaskCounts {
    fn add_assign(&mut self, other: Self) {
        for kind in PersonalData::ALL {
            *self.slot(kind) += other.of(kind);
        }
    }
}

/// Finds and masks personal data.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mask {
    options: MaskOptions,
}

/// Where something was found, in bytes of the view.
type Found = (Range<usize>, PersonalData);

impl Mask {
    /// A masker of the kinds that `options` names.
    #[must_use]
    pub const fn new(options: MaskOptions) -> Self {
        Self { options }
    }

    /// The text with each find replaced by its token, and the finds per kind. Idempotent.
    #[must_use]
    pub fn apply(&self, text: &str) -> (String, MaskCounts) {
        let mut text = text.to_owned();
        let mut counts = MaskCounts::default();
        // Where spans overlapped, what the loser leaves uncovered may be personal data by itself: look again.
        for _ in 0..MAX_ROUNDS {
            let found = self.find(&text);
            if found.is_empty() {
                break;
            }
            let mut masked = String::with_capacity(text.len());
            let mut done = 0;
            for (span, kind) in found {
                masked.push_str(text.get(done..span.start).unwrap_or_default());
                masked.push_str(kind.token());
                *counts.slot(kind) += 1;
                done = span.end;
            }
            masked.push_str(text.get(done..).unwrap_or_default());
            text = masked;
        }
        (text, counts)
    }

    /// Where personal data stands in `text`: byte ranges on character boundaries, in order, without overlaps.
    #[must_use]
    pub fn find(&self, text: &str) -> Vec<(Range<usize>, PersonalData)> {
        let view = View::new(text);
        let mut found: Vec<Found> = Vec::new();
        numbers::find(&view, &mut found);
        address::find(&view, &mut found);
        person::find(&view, &mut found);
        found.retain(|(span, kind)| !span.is_empty() && self.options.has(*kind));

        found.sort_by_key(|(span, kind)| (std::cmp::Reverse(span.len()), *kind, span.start));
        let mut taken: BTreeMap<usize, (usize, PersonalData)> = BTreeMap::new();
        for (span, kind) in found {
            let before = taken.range(..span.end).next_back();
            if before.is_none_or(|(_, (end, _))| *end <= span.start) {
                taken.insert(span.start, (span.end, kind));
            }
        }
        taken.into_iter().map(|(start, (end, kind))| (view.in_text(start..end), kind)).collect()
    }
}

#[cfg(test)]
mod tests;
