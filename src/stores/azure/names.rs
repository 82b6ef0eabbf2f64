//! How a team and a name are written for a vault that knows letters, digits and `-` only, and no difference between
//! capital and small letters.
//!
//! In a name `_` becomes `--` and a small letter `c` becomes `-c`; capital letters and digits stay, except that a digit
//! at the beginning is written `-d`. In a team `-` becomes `-0`. So every `-` in a name begins a pair, nothing in a name
//! depends on case, and the `-` between team and name is the first one that no `0` follows.

/// A team as a vault takes it.
pub(super) fn team(team: &str) -> String {
    team.replace('-', "-0")
}

/// A name as a vault takes it.
pub(super) fn name(name: &str) -> String {
    let mut written = String::with_capacity(name.len() * 2);
    for (index, letter) in name.chars().enumerate() {
        match letter {
            '_' => written.push_str("--"),
            'a'..='z' => written.extend(['-', letter]),
            '0'..='9' if index == 0 => written.extend(['-', letter]),
            // A template lets nothing else pass than capital letters and digits.
            _ => written.push(letter),
        }
    }
    written
}

/// The way back from [`name`]; none where nothing is written like this.
pub(super) fn name_of(written: &str) -> Option<String> {
    let mut name = String::with_capacity(written.len());
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        let first = name.is_empty();
        name.push(match letter {
            '-' => match letters.next()? {
                '-' => '_',
                digit @ '0'..='9' if first => digit,
                letter if letter.is_ascii_alphabetic() => letter.to_ascii_lowercase(),
                _ => return None,
            },
            '0'..='9' if !first => letter,
            letter if letter.is_ascii_alphabetic() => letter.to_ascii_uppercase(),
            _ => return None,
        });
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::stores::template::NameTemplate;

    /// All texts of up to `longest` letters.
    fn all(letters: &[char], longest: usize) -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut from = 0;
        for _ in 0..longest {
            let to = texts.len();
            for index in from..to {
                for letter in letters {
                    texts.push(format!("{}{letter}", texts[index]));
                }
            }
            from = to;
        }
        texts.split_off(1)
    }

    #[test]
    fn no_two_secrets_of_any_teams_share_a_name_and_each_is_found_again() {
        let template = NameTemplate::parse("daypass-{team}-{name}").unwrap().with_team(team);
        let is_team = |text: &String| !text.starts_with('-') && !text.ends_with('-');
        let teams: Vec<String> = all(&['a', 'b', '0', '-'], 4).into_iter().filter(is_team).collect();
        let names = all(&['A', 'a', 'b', '0', '1', '_'], 3);
        let mut seen: HashMap<String, (&str, &str)> = HashMap::new();
        for team in &teams {
            for secret in &names {
                let written = template.render(team, secret, name).unwrap().to_ascii_lowercase();
                assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{written}");
                assert_eq!(template.name_of(team, &written, name_of).as_deref(), Some(secret.as_str()));
                let other = seen.insert(written.clone(), (team, secret));
                assert_eq!(other, None, "{written} is {team}/{secret} too");
            }
        }
        assert!(seen.len() > 30_000, "{}", seen.len());
        // And no team lists what is another's.
        for (written, (owner, _)) in seen.iter().step_by(7) {
            for team in teams.iter().filter(|team| team != owner) {
                assert_eq!(template.name_of(team, written, name_of), None, "{team} has {written} of {owner}");
            }
        }
    }

    #[test]
    fn names_read_as_they_are_used() {
        assert_eq!(name("HF_TOKEN"), "HF--TOKEN");
        assert_eq!(name("2CAPTCHA_KEY"), "-2CAPTCHA--KEY");
        assert_eq!(name("wandb"), "-w-a-n-d-b");
        assert_eq!(team("ml-team"), "ml-0team");
    }

    #[test]
    fn what_is_written_otherwise_is_no_name() {
        for other in ["", "-", "A-", "0A", "A-0", "A_B", "A.B", "\u{410}", "-\u{430}"] {
            assert_eq!(name_of(other), None, "{other}");
        }
    }
}
