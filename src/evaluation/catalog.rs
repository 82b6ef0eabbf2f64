//! The catalog: which benchmarks there are and what each needs. Data with a version; a cluster admin overrides or adds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use crate::api::names;

/// What is built in.
const BUILT_IN: &str = include_str!("benchmarks.yaml");
/// No catalog is larger: a ConfigMap holds 1 MiB.
const LARGEST: usize = 1 << 20;

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CatalogError {
    /// It is too large.
    #[error("it is larger than {LARGEST} bytes")]
    TooLarge,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// An entry contradicts itself or another.
    #[error("{0}")]
    Wrong(String),
}

/// All benchmarks by their short names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// The version that status shows.
    pub version: String,
    entries: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    catalog_version: String,
    benchmarks: Vec<Entry>,
}

/// One benchmark of the catalog.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The short name.
    pub name: String,
    /// The name for people.
    #[serde(default)]
    pub title: String,
    /// What it is about.
    #[serde(default)]
    pub category: String,
    /// What it asks.
    #[serde(default)]
    pub description: String,
    /// The framework's full name.
    pub task: String,
    /// Whether the framework's package has it.
    #[serde(default = "yes")]
    pub exists: bool,
    /// What has taken its place.
    #[serde(default)]
    pub replaced_by: Option<String>,
    /// How many samples it has.
    #[serde(default)]
    pub samples: Option<i64>,
    /// Variables that it needs, besides the evaluated model's key.
    #[serde(default)]
    pub env: Vec<Need>,
    /// Whether it would have the evaluated model judge itself.
    #[serde(default)]
    pub self_grading: Option<SelfGrading>,
    /// Where its data come from.
    #[serde(default)]
    pub data: Vec<DataSource>,
    /// `ok` where the usual runner's image has all that it takes.
    #[serde(default = "ok")]
    pub runner: String,
    /// The arguments that its task takes; none where they are not known.
    #[serde(default)]
    pub arguments: Option<Vec<String>>,
    /// What else is to be known.
    #[serde(default)]
    pub notes: Option<String>,
}

/// A variable that a benchmark needs.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Need {
    /// The variable.
    pub name: String,
    /// What it is for.
    pub reason: NeedReason,
    /// The judge that asks for it.
    #[serde(default)]
    pub model: Option<String>,
    /// The data set that asks for it.
    #[serde(default)]
    pub dataset: Option<String>,
    /// How another judge takes its place.
    #[serde(default, rename = "override")]
    pub instead: Option<Override>,
    /// Other variables that the same value goes to.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// What a variable is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum NeedReason {
    /// A judge's key.
    Judge,
    /// A token for a data set that is not open.
    GatedDataset,
}

/// How a judge is replaced.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "RawOverride")]
pub enum Override {
    /// By a model role.
    Role(String),
    /// By an argument of the task.
    Arg(String),
    /// By several arguments of the task.
    Args(Vec<String>),
}

/// YAML has a tag of its own for an enum; what people write is a map of one entry.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOverride {
    role: Option<String>,
    arg: Option<String>,
    args: Option<Vec<String>>,
}

impl TryFrom<RawOverride> for Override {
    type Error = &'static str;

    fn try_from(raw: RawOverride) -> Result<Self, Self::Error> {
        match raw {
            RawOverride { role: Some(role), arg: None, args: None } => Ok(Self::Role(role)),
            RawOverride { role: None, arg: Some(arg), args: None } => Ok(Self::Arg(arg)),
            RawOverride { role: None, arg: None, args: Some(args) } => Ok(Self::Args(args)),
            _ => Err("an override has one of role, arg and args"),
        }
    }
}

impl Override {
    /// The roles or arguments by name.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Role(name) | Self::Arg(name) => std::slice::from_ref(name),
            Self::Args(names) => names,
        }
    }

    /// Whether they are arguments.
    pub const fn is_argument(&self) -> bool {
        !matches!(self, Self::Role(_))
    }
}

/// How a benchmark would have the evaluated model judge itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct SelfGrading {
    /// What mends it.
    pub by: SelfGradingBy,
    /// The role or the argument.
    #[serde(default)]
    pub name: Option<String>,
}

/// What mends self-grading.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum SelfGradingBy {
    /// A judge for a role.
    Role,
    /// A judge for an argument.
    Arg,
    /// Nothing.
    Always,
}

/// Where data come from.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct DataSource {
    /// The kind of place.
    #[serde(rename = "type")]
    pub kind: String,
    /// The place.
    pub source: String,
}

fn yes() -> bool {
    true
}

fn ok() -> String {
    "ok".into()
}

impl Entry {
    /// Whether the usual runner's image has all that it takes.
    pub fn runs_anywhere(&self) -> bool {
        self.runner == "ok"
    }
}

impl Catalog {
    /// The built-in catalog.
    pub fn built_in() -> Arc<Self> {
        static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| {
            // A test reads the same text: it cannot fail here.
            Arc::new(Catalog::parse(BUILT_IN).unwrap_or_default())
        });
        CATALOG.clone()
    }

    /// Reads a catalog.
    ///
    /// # Errors
    /// It is too large, no catalog, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        if text.len() > LARGEST {
            return Err(CatalogError::TooLarge);
        }
        let document: Document =
            serde_yaml::from_str(text).map_err(|error| CatalogError::Unreadable(error.to_string()))?;
        let mut entries = BTreeMap::new();
        // As in the rules of the API: a secret steers no loader, and takes no variable of the runner's own.
        let reserved = regex_lite::Regex::new(&format!("^({}|{})$", names::LOADER_VARIABLES, names::RUNNER_VARIABLES))
            .map_err(|error| CatalogError::Unreadable(error.to_string()))?;
        for entry in document.benchmarks {
            check(&entry, &reserved)?;
            let name = entry.name.clone();
            if entries.insert(name.clone(), entry).is_some() {
                return Err(CatalogError::Wrong(format!("{name} stands there twice")));
            }
        }
        Ok(Self { version: document.catalog_version.chars().take(100).collect(), entries })
    }

    /// This catalog with another one's entries over its own.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let mut entries = self.entries.clone();
        entries.extend(other.entries.clone());
        Self { version: format!("{} over {}", other.version, self.version).chars().take(128).collect(), entries }
    }

    /// A benchmark by its short name or its task's full one.
    pub fn find(&self, task: &str) -> Option<&Entry> {
        self.entries.get(task).or_else(|| self.entries.values().find(|entry| entry.task == task))
    }

    /// All entries, by their names.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The short names that look most like one that is not there.
    pub fn similar(&self, task: &str) -> Vec<&str> {
        let letters = |text: &str| text.to_ascii_lowercase().replace(['_', '-', '.'], "");
        let wanted = letters(task);
        let mut close: Vec<(usize, &str)> = self
            .entries
            .keys()
            .map(|name| (distance(&wanted, &letters(name)), name.as_str()))
            .filter(|(distance, name)| *distance <= 2 || !wanted.is_empty() && letters(name).starts_with(&wanted))
            .collect();
        close.sort_unstable();
        close.into_iter().map(|(_, name)| name).take(3).collect()
    }
}

fn check(entry: &Entry, reserved: &regex_lite::Regex) -> Result<(), CatalogError> {
    let wrong = |what: &str| Err(CatalogError::Wrong(format!("{}: {what}", entry.name)));
    let plain = |text: &str| {
        !text.is_empty()
            && text.len() <= 128
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-./".contains(letter))
    };
    if !plain(&entry.name) || !plain(&entry.task) {
        return wrong("name and task have letters, digits and _-./ only");
    }
    for need in &entry.env {
        let variables = std::iter::once(&need.name).chain(&need.aliases);
        for variable in variables {
            let valid = variable.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
                && variable.starts_with(|first: char| first.is_ascii_uppercase());
            if !valid || variable.len() > 128 {
                return wrong("env[].name and aliases are names of variables in capitals");
            }
            if reserved.is_match(variable) {
                return wrong(&format!(
                    "{variable} steers a loader or is the runner's own, and no secret may be in it"
                ));
            }
        }
    }
    if let Some(grading) = &entry.self_grading
        && grading.by != SelfGradingBy::Always
        && grading.name.is_none()
    {
        return wrong("selfGrading needs the name of its role or argument");
    }
    Ok(())
}

/// How many letters have to change.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (place, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[place + 1];
            row[place + 1] = changed.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[to.len()]
}
