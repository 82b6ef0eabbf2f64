//! How a run names a team secret. The same type everywhere.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::names;

/// A team secret by name, and the variable that gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.envVar) || self.name.matches('^[A-Za-z_]')").message("no variable can have this name: set envVar").field_path(".envVar"))]
#[x_kube(validation = Rule::new(format!("!(has(self.envVar) ? self.envVar : self.name).matches('^({})$')", names::LOADER_VARIABLES)).message("this variable steers a loader, a shell or an interpreter and may not be set from a secret: set envVar to another name").field_path(".envVar"))]
pub struct SecretReference {
    /// The team that owns the secret: a namespace. Defaults to the object's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub team: Option<String>,
    /// The secret's name in the team's store, as `daypass secret list` shows it.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub name: String,
    /// The variable (or, with `delivery: File`, the file) that gets the value. Defaults to `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub env_var: Option<String>,
    /// One key of a secret that holds a JSON object; the variable gets that key's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub field: Option<String>,
    /// Pins one version, where the store has versions. Defaults to the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub version: Option<String>,
    /// Starts the run without the variable when the secret does not exist. A denied secret is refused all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// The team's store that holds the secret. Defaults to `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub store: Option<String>,
}

impl SecretReference {
    /// The variable that gets the value.
    pub fn variable(&self) -> &str {
        self.env_var.as_deref().unwrap_or(&self.name)
    }

    /// The store's name.
    pub fn store(&self) -> &str {
        self.store.as_deref().unwrap_or(names::DEFAULT_STORE)
    }

    /// The team, given the namespace of the object that bears the reference.
    pub fn team<'a>(&'a self, namespace: &'a str) -> &'a str {
        self.team.as_deref().unwrap_or(namespace)
    }

    /// What grants call it.
    pub fn access_name(&self) -> String {
        names::access_name(self.store(), &self.name)
    }
}
