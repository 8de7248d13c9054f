//! What a message may cost, as an assertion.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::harness::Outcome;

/// What a message may cost at most. Fuel is exact: the same for the same message on every machine, so that a test
/// that holds today holds tomorrow, and says by how much a change made the plugin dearer.
///
/// ```
/// use wharf_plugin::harness::Budget;
///
/// let budget = Budget::new().fuel("2_000 + 40/byte").memory("2 MiB").output("1 KiB + 3/byte");
/// # drop(budget);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    fuel: Option<Amount>,
    memory: Option<Amount>,
    output: Option<Amount>,
}

/// `base + n/byte` of the payload that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Amount {
    base: u64,
    each_byte: u64,
}

impl Budget {
    /// Without any bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// Instructions, about. Only a component has them.
    ///
    /// # Panics
    /// If `amount` is no amount: `2_000`, `40/byte`, `2_000 + 40/byte`.
    #[must_use]
    #[track_caller]
    pub fn fuel(mut self, amount: &str) -> Self {
        self.fuel = Some(parsed(amount));
        self
    }

    /// Linear memory of the instance. Only a component has it.
    ///
    /// # Panics
    /// If `amount` is no amount: `2 MiB`, `1 MiB + 8/byte`.
    #[must_use]
    #[track_caller]
    pub fn memory(mut self, amount: &str) -> Self {
        self.memory = Some(parsed(amount));
        self
    }

    /// Payloads and headers of what goes on, together.
    ///
    /// # Panics
    /// If `amount` is no amount: `64 KiB`, `2/byte`.
    #[must_use]
    #[track_caller]
    pub fn output(mut self, amount: &str) -> Self {
        self.output = Some(parsed(amount));
        self
    }

    /// What `outcome` cost over the budget, a sentence each.
    pub fn excess(&self, outcome: &Outcome) -> Vec<String> {
        let taken = [
            ("fuel", self.fuel, outcome.usage.fuel),
            ("memory", self.memory, outcome.usage.memory_bytes),
            ("output", self.output, Some(outcome.output_bytes())),
        ];
        let over = taken.into_iter().filter_map(|(what, budget, taken)| {
            let (budget, taken) = (budget?, taken?);
            let allowed = budget.for_bytes(outcome.given_bytes);
            (taken > allowed).then(|| {
                let bytes = outcome.given_bytes;
                format!(
                    "{what}: {taken}, and {allowed} for a payload of {bytes} bytes ({budget}) were allowed"
                )
            })
        });
        over.collect()
    }
}

impl Outcome {
    /// Asserts that the message cost no more than `budget`. What is not counted natively is not asserted there.
    ///
    /// # Panics
    /// If it cost more.
    #[track_caller]
    pub fn assert_within(&self, budget: &Budget) -> &Self {
        let excess = budget.excess(self);
        assert!(excess.is_empty(), "over the budget: {}", excess.join("; "));
        self
    }
}

#[track_caller]
fn parsed(amount: &str) -> Amount {
    match amount.parse() {
        Ok(amount) => amount,
        Err(error) => panic!("{error}"),
    }
}

impl Amount {
    fn for_bytes(self, bytes: u64) -> u64 {
        self.base.saturating_add(self.each_byte.saturating_mul(bytes))
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut amount = Self { base: 0, each_byte: 0 };
        for part in text.split('+') {
            let part = part.trim();
            let (number, sum) = match part.strip_suffix("/byte") {
                Some(number) => (number, &mut amount.each_byte),
                None => (part, &mut amount.base),
            };
            let number = number.trim();
            let unit = number.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(number.len());
            let (digits, unit) = number.split_at(unit);
            let factor = match unit {
                "" => Some(1),
                "KiB" => Some(1024),
                "MiB" => Some(1024 * 1024),
                _ => None,
            };
            let digits = digits.trim().replace('_', "").parse::<u64>().ok();
            let value = digits.zip(factor).and_then(|(digits, factor)| digits.checked_mul(factor));
            let value = value.ok_or_else(|| {
                format!("{text:?} is no amount, as \"2_000 + 40/byte\" and \"2 MiB\" are: {part:?} is not understood")
            })?;
            *sum = sum.saturating_add(value);
        }
        Ok(amount)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {}/byte", self.base, self.each_byte)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        let amount = |text: &str| text.parse::<Amount>().map(|amount| (amount.base, amount.each_byte));
        assert_eq!(amount("2_000 + 40/byte"), Ok((2000, 40)));
        assert_eq!(amount("40/byte+1"), Ok((1, 40)));
        assert_eq!(amount("2 MiB"), Ok((2 * 1024 * 1024, 0)));
        for wrong in ["", "many", "2 GB", "1 + ", "-1", "99999999999999999999", "99999999999999 MiB"] {
            assert!(amount(wrong).is_err_and(|error| error.contains("no amount")), "{wrong}");
        }
    }
}
