//! The known word that a misspelt one was most likely meant to be.

/// The longest word for which the nearest known one is sought.
const WORD_BYTES_MAX: usize = 64;

/// The word that `text` was most likely meant to be, if any is near.
pub(super) fn nearest_of<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if text.len() > WORD_BYTES_MAX {
        return None;
    }
    let near = words.filter(|word| word.len() <= WORD_BYTES_MAX).map(|word| (distance(text, word), word));
    let (distance, word) = near.min()?;
    (distance <= 1.max(word.chars().count() / 3)).then_some(word)
}

/// How many letters are to be added, left out, changed or swapped with their neighbour, case apart: the distance of
/// Damerau and Levenshtein, with neighbours swapped once.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| {
        let simple = |letter: char| if letter == '_' { '-' } else { letter.to_ascii_lowercase() };
        text.chars().map(simple).collect::<Vec<char>>()
    };
    let (a, b) = (letters(a), letters(b));
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_one_step() {
        for typed in ["max-depht", "max-dept", "max-deepth", "max-depty"] {
            assert_eq!(distance(typed, "max-depth"), 1, "{typed}");
        }
        assert_eq!(distance("MAX_depth", "max-depth"), 0);
        assert_eq!(distance("", "max"), 3);
    }

    #[test]
    fn what_is_far_from_every_word_is_near_to_none() {
        let near = |text: &str| nearest_of(text, ["routes", "otherwise"].into_iter());
        assert_eq!([near("ruotse"), near("colour"), near("")], [Some("routes"), None, None]);
        assert_eq!(near(&"routes".repeat(20)), None);
    }
}
