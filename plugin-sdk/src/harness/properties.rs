//! What holds for every plugin, whatever it does: checked on the messages of a test, and on what is made of them.
//!
//! - *It never breaks*: no payload makes it trap, run over a limit, or answer what the contract does not allow.
//! - *It is the same in any batch*: a message's outcome does not hang on its neighbours, but by what they left in `kv`.
//! - *It is the same on any instance*: two new instances say the same, byte by byte.
//! - *It is the same natively*, for a component whose function is there to compare.

use crate::harness::outcome::Result as Verdict;
use crate::harness::written::{differences, written_with_kv};
use crate::harness::{Input, Outcome, Setup, Subject, Trouble, memory};

/// How many payloads are made of each of the test's messages.
const MADE_OF_EACH: usize = 24;

/// How many messages are run at most.
const INPUTS_MAX: usize = 1024;

/// How many messages go into a batch.
const BATCH: usize = 32;

/// How much of a payload a report shows.
const SHOWN_BYTES_MAX: usize = 200;

/// Runs `inputs`, and payloads made of theirs, through `subject`, and through `other`, which is to say the same.
/// Returns how many messages were run.
///
/// # Errors
/// The property that does not hold, and the message that shows it.
pub fn check_properties(
    subject: &mut dyn Subject,
    other: Option<&mut dyn Subject>,
    setup: &Setup,
    inputs: &[Input],
) -> Result<usize, String> {
    let inputs = all_of(inputs);
    let said = |error: Trouble| error.to_string();
    let outcomes = in_batches(subject, setup, &inputs).map_err(said)?;
    for (input, outcome) in inputs.iter().zip(&outcomes) {
        if let Verdict::Fault(problem) = &outcome.result {
            return Err(format!("the plugin breaks: {problem}\n  on {}", shown(input)));
        }
    }
    let mut remembering = setup.clone();
    for (at, (input, outcome)) in inputs.iter().zip(&outcomes).enumerate() {
        if at % BATCH == 0 {
            remembering.kv.clone_from(&setup.kv);
        }
        let alone = subject.run(&remembering, std::slice::from_ref(input)).map_err(said)?;
        same("alone, a message becomes something else than in a batch", input, outcome, alone.first())?;
        memory::apply(&mut remembering.kv, &outcome.changes);
    }
    subject.renew();
    let again = in_batches(subject, setup, &inputs).map_err(said)?;
    for ((input, outcome), again) in inputs.iter().zip(&outcomes).zip(&again) {
        same("another instance says something else", input, outcome, Some(again))?;
    }
    if let Some(other) = other {
        let others = in_batches(other, setup, &inputs).map_err(said)?;
        for ((input, outcome), native) in inputs.iter().zip(&outcomes).zip(&others) {
            same("natively it says something else", input, outcome, Some(native))?;
        }
    }
    Ok(inputs.len())
}

fn in_batches(subject: &mut dyn Subject, setup: &Setup, inputs: &[Input]) -> Result<Vec<Outcome>, Trouble> {
    let mut outcomes = Vec::with_capacity(inputs.len());
    for batch in inputs.chunks(BATCH) {
        outcomes.extend(subject.run(setup, batch)?);
    }
    Ok(outcomes)
}

fn same(property: &str, input: &Input, first: &Outcome, second: Option<&Outcome>) -> Result<(), String> {
    let Some(second) = second else { return Err(format!("there is no outcome for {}", shown(input))) };
    if first.result.is_as(&second.result) && first.changes == second.changes {
        return Ok(());
    }
    let lines = differences(&written_with_kv(first), &written_with_kv(second));
    let lines = if lines.is_empty() { vec!["the bytes of a payload or header".to_owned()] } else { lines };
    Err(format!("{property}\n  on {}\n  {}", shown(input), lines.join("\n  ")))
}

fn shown(input: &Input) -> String {
    let payload = &input.payload[..input.payload.len().min(SHOWN_BYTES_MAX)];
    let more = if payload.len() < input.payload.len() { "…" } else { "" };
    format!(
        "topic {}, a payload of {} bytes: \"{}{more}\"",
        input.topic,
        input.payload.len(),
        payload.escape_ascii()
    )
}

/// The inputs, what is made of them, and what has broken many a parser.
fn all_of(inputs: &[Input]) -> Vec<Input> {
    let mut all: Vec<Input> = inputs.to_vec();
    let mut bits = Bits(0x5eed);
    for input in inputs {
        for _ in 0..MADE_OF_EACH {
            all.push(Input { payload: bits.change(&input.payload), ..input.clone() });
        }
    }
    let plain = inputs.first().cloned().unwrap_or_else(|| Input::new(""));
    let awkward: [&[u8]; 10] = [
        b"",
        b"\0",
        b"\xff\xfe",
        b"\xf0\x9f\x98",
        b"null",
        b"-0",
        b"1e999",
        b"\"\\ud800\"",
        b"{\"a\":1,\"a\":2}",
        b"<a xmlns:b=\"c\"><b:d/>]]></a>",
    ];
    all.extend(awkward.iter().map(|payload| Input { payload: payload.to_vec(), ..plain.clone() }));
    for nest in ["[", "{\"a\":", "<a>", "("] {
        all.push(Input { payload: nest.repeat(4096).into_bytes(), ..plain.clone() });
    }
    // Headers and keys that are not there, and not text.
    all.push(Input { headers: Vec::new(), key: None, message_id: None, ..plain.clone() });
    let odd = plain.headers.iter().map(|(name, _)| (name.clone(), vec![0xff, 0]));
    all.push(Input { headers: odd.collect(), ..plain });
    all.truncate(INPUTS_MAX);
    all
}

/// Bits that are the same in each run (SplitMix64).
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Less than `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("less than a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// `payload`, cut, with a byte changed, taken out or put in, with a part repeated, or another altogether.
    fn change(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut changed = payload.to_vec();
        if changed.is_empty() {
            return (0..self.below(64)).map(|_| self.byte()).collect();
        }
        let at = self.below(changed.len());
        match self.below(6) {
            0 => changed.truncate(at),
            1 => changed[at] = self.byte(),
            2 => drop(changed.remove(at)),
            3 => changed.insert(at, self.byte()),
            4 => {
                let part = changed[at..].to_vec();
                changed.extend(part);
            }
            _ => changed.iter_mut().for_each(|byte| *byte = self.byte()),
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Changes, Remembered, Usage};

    /// Says of each message what its function says, given how many came before it on this instance.
    struct Fake(fn(&[u8], usize, usize) -> Verdict, usize);

    impl Subject for Fake {
        fn run(&mut self, _: &Setup, inputs: &[Input]) -> Result<Vec<Outcome>, Trouble> {
            let outcomes = inputs.iter().map(|input| {
                self.1 += 1;
                let result = (self.0)(&input.payload, inputs.len(), self.1);
                Outcome {
                    result,
                    changes: Changes::new(),
                    log: Vec::new(),
                    usage: Usage::default(),
                    given_bytes: 0,
                }
            });
            Ok(outcomes.collect())
        }

        fn renew(&mut self) {}
    }

    fn checked(says: fn(&[u8], usize, usize) -> Verdict) -> Result<usize, String> {
        check_properties(&mut Fake(says, 0), None, &Setup::default(), &[Input::new("{\"a\": [1, 2, 3]}")])
    }

    #[test]
    fn what_says_the_same_of_everything_passes() {
        assert!(checked(|_, _, _| Verdict::Dropped).is_ok_and(|inputs| inputs > 30));
    }

    #[test]
    fn each_property_is_missed_where_it_does_not_hold() {
        let trapped = checked(|payload, _, _| match payload.ends_with(b"[[") {
            true => Verdict::Fault(crate::Problem::new("plugin-trap", "it trapped")),
            false => Verdict::Dropped,
        });
        assert!(trapped.is_err_and(|error| error.contains("breaks")));
        let neighbours =
            checked(|_, batch, _| if batch == 1 { Verdict::Dropped } else { Verdict::Passed(Vec::new()) });
        assert!(neighbours.is_err_and(|error| error.contains("alone")));
        let memory =
            checked(|_, _, count| if count > 100 { Verdict::Passed(Vec::new()) } else { Verdict::Dropped });
        assert!(memory.is_err_and(|error| error.contains("another instance")));
        let mut one = Fake(|_, _, _| Verdict::Dropped, 0);
        let mut other = Fake(|_, _, _| Verdict::Passed(Vec::new()), 0);
        let compared = check_properties(&mut one, Some(&mut other), &Setup::default(), &[Input::new("x")]);
        assert!(compared.is_err_and(|error| error.contains("natively")));
    }

    /// Counts its messages in `kv`; forgetful, it does so only within a batch.
    struct Counting {
        forgetful: bool,
    }

    impl Subject for Counting {
        fn run(&mut self, setup: &Setup, inputs: &[Input]) -> Result<Vec<Outcome>, Trouble> {
            let kept = setup.kv.get("count").filter(|_| !self.forgetful);
            let before = kept.map_or(0, |kept| kept.value[0]);
            let outcomes = (before + 1..).zip(inputs).map(|(count, _)| Outcome {
                result: Verdict::Rejected(crate::Problem::new("counted", count.to_string())),
                changes: Changes::from([("count".into(), Some(Remembered::new([count])))]),
                log: Vec::new(),
                usage: Usage::default(),
                given_bytes: 0,
            });
            Ok(outcomes.collect())
        }

        fn renew(&mut self) {}
    }

    #[test]
    fn alone_a_message_finds_what_those_before_it_left_in_kv() {
        let checked = |forgetful| {
            check_properties(&mut Counting { forgetful }, None, &Setup::default(), &[Input::new("an order")])
        };
        assert!(checked(false).is_ok_and(|inputs| inputs > 30));
        assert!(checked(true).is_err_and(|error| error.contains("alone")));
    }
}
