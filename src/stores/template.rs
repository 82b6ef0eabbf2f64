//! From a team and a secret's name to what a backend calls it.
//!
//! Both come from the API server's checked fields (a namespace's name; letters, digits and `_`), and they are checked
//! again here, so that no name can steer a path. Each backend escapes what it does not allow, injectively: two
//! different names never become one.

use super::StoreError;

/// How a backend writes one part of a name.
pub type Escape = fn(&str) -> String;

/// A template with the places `{team}` and `{name}`.
#[derive(Clone, Debug)]
pub struct NameTemplate {
    parts: Vec<Part>,
    team: Escape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Team,
    Name,
}

/// The longest team: a namespace's name.
const LONGEST_TEAM: usize = 63;
/// The longest name of a secret.
const LONGEST_NAME: usize = 128;

impl NameTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// It has no `{name}`, has it twice, or has another place than the two: the text says which.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            if open > 0 {
                parts.push(Part::Text(rest[..open].into()));
            }
            let place = ["{team}", "{name}"].into_iter().find(|place| rest[open..].starts_with(place));
            parts.push(match place {
                Some("{team}") => Part::Team,
                Some(_) => Part::Name,
                None => return Err(format!("nameTemplate {text:?} may hold the places {{team}} and {{name}} only")),
            });
            rest = &rest[open + "{team}".len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        match parts.iter().filter(|part| **part == Part::Name).count() {
            1 => Ok(Self { parts, team: unchanged }),
            _ => Err(format!("nameTemplate {text:?} must hold {{name}} exactly once, or names would meet")),
        }
    }

    /// The same for a backend that does not take every team as it is.
    #[must_use]
    pub fn with_team(mut self, escape: Escape) -> Self {
        self.team = escape;
        self
    }

    /// Whether nothing follows the name.
    pub fn ends_with_name(&self) -> bool {
        self.parts.last() == Some(&Part::Name)
    }

    /// The backend's name for a secret of a team.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the name is none that a team secret can have: nothing was asked.
    pub fn render(&self, team: &str, name: &str, escape: Escape) -> Result<String, StoreError> {
        let is_team = (1..=LONGEST_TEAM).contains(&team.len())
            && team.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !is_name(name) || !is_team {
            return Err(StoreError::NotFound("a name is 1 to 128 letters, digits and `_`".into()));
        }
        Ok(self.fill(team, &escape(name)))
    }

    /// What all names of a team begin with, as the backend writes them, for a list.
    pub fn prefix(&self, team: &str) -> String {
        let team = (self.team)(team);
        let before = self.parts.iter().take_while(|part| **part != Part::Name);
        before.map(|part| part.text(&team, "")).collect()
    }

    /// The secret's name behind a name that the backend lists; none where it is no name of this team.
    pub fn name_of(&self, team: &str, listed: &str, unescape: fn(&str) -> Option<String>) -> Option<String> {
        let prefix = self.prefix(team);
        let team = (self.team)(team);
        let after = self.parts.iter().skip_while(|part| **part != Part::Name).skip(1);
        let suffix: String = after.map(|part| part.text(&team, "")).collect();
        let name = unescape(listed.strip_prefix(&prefix)?.strip_suffix(&suffix)?)?;
        is_name(&name).then_some(name)
    }

    fn fill(&self, team: &str, name: &str) -> String {
        let team = (self.team)(team);
        self.parts.iter().map(|part| part.text(&team, name)).collect()
    }
}

/// Whether a team secret can have this name.
pub fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Part {
    fn text(&self, team: &str, name: &str) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Team => team.to_owned(),
            Self::Name => name.to_owned(),
        }
    }
}

/// For backends that take a name as it is.
pub fn unchanged(name: &str) -> String {
    name.to_owned()
}

/// The way back from [`unchanged`].
pub fn as_listed(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_needs_its_name_once_and_no_other_place() {
        for (text, wrong) in [("fixed", "exactly once"), ("{name}{name}", "exactly once"), ("{team}/{nam}", "only")] {
            assert!(NameTemplate::parse(text).unwrap_err().contains(wrong), "{text}");
        }
        assert!(NameTemplate::parse("a}{name}").is_err());
    }

    #[test]
    fn names_are_filled_in_and_found_again() {
        let template = NameTemplate::parse("kv/{team}/{name}-x").unwrap();
        assert_eq!(template.render("ml-team", "HF_TOKEN", unchanged).unwrap(), "kv/ml-team/HF_TOKEN-x");
        assert_eq!(template.prefix("ml-team"), "kv/ml-team/");
        assert_eq!(template.name_of("ml-team", "kv/ml-team/HF_TOKEN-x", as_listed).as_deref(), Some("HF_TOKEN"));
        for other in ["kv/ml-team/a/b-x", "kv/other/HF_TOKEN-x", "kv/ml-team/-x", "kv/ml-team/HF_TOKEN"] {
            assert_eq!(template.name_of("ml-team", other, as_listed), None, "{other}");
        }
    }

    #[test]
    fn nothing_but_a_name_passes() {
        let template = NameTemplate::parse("{team}/{name}").unwrap();
        let long = "A".repeat(300);
        for name in ["", "../x", "%2e%2e", "a/b", "a?b", "a#b", "a\0b", "a\nb", "a b", "\u{0410}PI", &long] {
            assert!(matches!(template.render("team", name, unchanged), Err(StoreError::NotFound(_))), "{name:?}");
        }
        for team in ["", "..", "a/b", "A", "a%2f"] {
            assert!(template.render(team, "KEY", unchanged).is_err(), "{team:?}");
        }
    }
}
