//! Who may use what: the Roles and `RoleBindings` of a grant. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::api::ObjectMeta;
use sha2::{Digest, Sha256};

use super::args::GrantArgs;
use super::error::{CliError, Result};
use super::manifest::store_and_name;
use crate::api::GROUP;
use crate::api::names::access_name;

/// The label of every object that a grant makes.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "daypass");
const RBAC: &str = "rbac.authorization.k8s.io";
const ROLE_PREFIX: &str = "daypass:use:";

/// What is granted: one secret by its access name, or all of the team's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// One secret, all its fields and versions.
    One(String),
    /// Every secret of every store of the team, those to come too.
    All,
}

/// Whom it is granted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Every ServiceAccount of a namespace.
    Namespace(String),
    /// One ServiceAccount.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A user, as the API server knows them.
    User(String),
    /// A group, as the API server knows it.
    Group(String),
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(access) => write!(f, "secret {access}"),
            Self::All => f.write_str("all secrets"),
        }
    }
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Namespace(namespace) => write!(f, "every ServiceAccount of namespace {namespace}"),
            Self::ServiceAccount { namespace, name } => write!(f, "ServiceAccount {namespace}/{name}"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

impl What {
    /// What the flags name.
    pub fn from_args(args: &GrantArgs) -> Result<Self> {
        match &args.name {
            Some(name) => {
                let (store, name) = store_and_name(name, args.store.as_deref())?;
                Ok(Self::One(access_name(store, name)))
            }
            None => Ok(Self::All),
        }
    }

    /// The Role's name. Roles may bear any name that fits into a path, so the access name is told as it is.
    pub fn role_name(&self) -> String {
        match self {
            Self::One(access) => format!("{ROLE_PREFIX}{access}"),
            Self::All => format!("{ROLE_PREFIX}*"),
        }
    }

    /// The Role that lets its subjects use it.
    pub fn role(&self, namespace: &str) -> Role {
        let rule = PolicyRule {
            api_groups: Some(vec![GROUP.into()]),
            resources: Some(vec!["teamsecrets".into()]),
            resource_names: match self {
                Self::One(access) => Some(vec![access.clone()]),
                Self::All => None,
            },
            verbs: vec!["use".into()],
            ..PolicyRule::default()
        };
        Role { metadata: metadata(namespace, self.role_name()), rules: Some(vec![rule]) }
    }

    /// The `RoleBinding` that gives it to `whom`.
    pub fn binding(&self, namespace: &str, whom: &Whom) -> RoleBinding {
        RoleBinding {
            metadata: metadata(namespace, self.binding_name(whom)),
            role_ref: RoleRef { api_group: RBAC.into(), kind: "Role".into(), name: self.role_name() },
            subjects: Some(vec![whom.subject()]),
        }
    }

    /// The `RoleBinding`'s name.
    pub fn binding_name(&self, whom: &Whom) -> String {
        format!("{}:{}", self.role_name(), whom.key())
    }
}

impl Whom {
    /// Whom the flags name. A ServiceAccount without a namespace is one of the team's own.
    pub fn from_args(args: &GrantArgs, team: &str) -> Result<Self> {
        let (flag, name) = [
            ("--to-namespace", &args.to_namespace),
            ("--to-serviceaccount", &args.to_serviceaccount),
            ("--to-user", &args.to_user),
            ("--to-group", &args.to_group),
        ]
        .into_iter()
        .find_map(|(flag, name)| name.as_ref().map(|name| (flag, name)))
        .ok_or_else(|| CliError::usage("a grant needs somebody to grant to"))?;
        let unusable = || CliError::usage(format!("`{name}` is not usable with {flag}"));
        let object = |text: &str| {
            if is_object_name(text) { Ok(text.to_owned()) } else { Err(unusable()) }
        };
        match flag {
            "--to-namespace" => Ok(Self::Namespace(object(name)?)),
            "--to-serviceaccount" => {
                let (namespace, name) = name.split_once('/').unwrap_or((team, name));
                Ok(Self::ServiceAccount { namespace: object(namespace)?, name: object(name)? })
            }
            _ if name.is_empty() => Err(unusable()),
            "--to-user" => Ok(Self::User(name.clone())),
            _ => Ok(Self::Group(name.clone())),
        }
    }

    /// The subject as RBAC has it.
    pub fn subject(&self) -> Subject {
        let (kind, name, namespace) = match self {
            Self::Namespace(namespace) => ("Group", format!("system:serviceaccounts:{namespace}"), None),
            Self::ServiceAccount { namespace, name } => ("ServiceAccount", name.clone(), Some(namespace.clone())),
            Self::User(name) => ("User", name.clone(), None),
            Self::Group(name) => ("Group", name.clone(), None),
        };
        Subject {
            // RBAC wants no group for a ServiceAccount.
            api_group: (kind != "ServiceAccount").then(|| RBAC.into()),
            kind: kind.into(),
            name,
            namespace,
        }
    }

    /// What tells the grantee apart in a binding's name.
    fn key(&self) -> String {
        match self {
            Self::Namespace(namespace) => format!("namespace:{namespace}"),
            Self::ServiceAccount { namespace, name } => format!("serviceaccount:{namespace}:{name}"),
            Self::User(name) => format!("user:{}", path_safe(name)),
            Self::Group(name) => format!("group:{}", path_safe(name)),
        }
    }
}

fn metadata(namespace: &str, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())])),
        ..ObjectMeta::default()
    }
}

fn is_object_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

/// A user's name may hold what an object's name may not (`https://issuer#amy`): then a hash stands for it.
fn path_safe(name: &str) -> String {
    let plain = name.len() <= 100 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._@:+".contains(&b));
    if plain && !name.starts_with("sha256-") {
        return name.to_owned();
    }
    let hash = Sha256::digest(name.as_bytes());
    hash.iter().take(16).fold(String::from("sha256-"), |text, byte| format!("{text}{byte:02x}"))
}

/// Whether a Role or binding is one that a grant made.
pub fn is_ours(metadata: &ObjectMeta) -> bool {
    metadata.labels.as_ref().is_some_and(|labels| labels.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1))
}

/// The namespaces whose service accounts the bindings let use the secret (or any secret, with none given).
pub fn granted_namespaces(bindings: &[RoleBinding], access: Option<&str>) -> Vec<String> {
    let mut namespaces: Vec<String> = bindings
        .iter()
        .filter(|binding| is_ours(&binding.metadata))
        .filter(|binding| match (binding.role_ref.name.strip_prefix(ROLE_PREFIX), access) {
            (None, _) => false,
            (Some(granted), Some(access)) => granted == "*" || granted == access,
            (Some(_), None) => true,
        })
        .flat_map(|binding| binding.subjects.iter().flatten())
        .filter_map(|subject| match subject.kind.as_str() {
            "ServiceAccount" => subject.namespace.clone(),
            "Group" => subject.name.strip_prefix("system:serviceaccounts:").map(Into::into),
            _ => None,
        })
        .collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: Option<&str>, store: Option<&str>, set: impl FnOnce(&mut GrantArgs)) -> GrantArgs {
        let mut args = GrantArgs {
            name: name.map(Into::into),
            all: name.is_none(),
            to_namespace: None,
            to_serviceaccount: None,
            to_user: None,
            to_group: None,
            store: store.map(Into::into),
        };
        set(&mut args);
        args
    }

    #[test]
    fn a_grant_covers_exactly_the_access_name() {
        for (name, store, role, names) in [
            (Some("HF_TOKEN"), None, "daypass:use:HF_TOKEN", Some(vec!["HF_TOKEN".to_owned()])),
            (Some("HF_TOKEN"), Some("vault"), "daypass:use:vault.HF_TOKEN", Some(vec!["vault.HF_TOKEN".to_owned()])),
            (None, None, "daypass:use:*", None),
        ] {
            let made = What::from_args(&args(name, store, |_| ())).unwrap().role("ml");
            assert_eq!(made.metadata.name.as_deref(), Some(role));
            assert!(is_ours(&made.metadata));
            let rules = made.rules.unwrap();
            assert_eq!(rules.len(), 1);
            assert_eq!(rules[0].resource_names, names);
            assert_eq!(rules[0].verbs, ["use"]);
            assert_eq!(rules[0].resources, Some(vec!["teamsecrets".to_owned()]));
            assert_eq!(rules[0].api_groups, Some(vec!["daypass.dev".to_owned()]));
        }
        for name in ["", "*", "a b"] {
            assert!(What::from_args(&args(Some(name), None, |_| ())).is_err(), "{name}");
        }
    }

    #[test]
    fn each_grantee_has_a_binding_of_its_own() {
        let what = What::One("X".into());
        let whom = |set: fn(&mut GrantArgs)| Whom::from_args(&args(Some("X"), None, set), "ml").unwrap();
        let cases = [
            (whom(|a| a.to_namespace = Some("eval".into())), "Group", "system:serviceaccounts:eval", None),
            (whom(|a| a.to_serviceaccount = Some("eval/ci".into())), "ServiceAccount", "ci", Some("eval")),
            (whom(|a| a.to_serviceaccount = Some("ci".into())), "ServiceAccount", "ci", Some("ml")),
            (whom(|a| a.to_user = Some("https://id.example/#amy".into())), "User", "https://id.example/#amy", None),
            (whom(|a| a.to_user = Some("amy".into())), "User", "amy", None),
            (whom(|a| a.to_group = Some("amy".into())), "Group", "amy", None),
        ];
        let mut names = std::collections::BTreeSet::new();
        for (whom, kind, name, namespace) in cases {
            let binding = what.binding("ml", &whom);
            let subject = &binding.subjects.unwrap()[0];
            assert_eq!((subject.kind.as_str(), subject.name.as_str()), (kind, name));
            assert_eq!(subject.namespace.as_deref(), namespace);
            assert_eq!(binding.role_ref.name, "daypass:use:X");
            let object = binding.metadata.name.unwrap();
            assert!(!object.contains(['/', '%']), "{object}");
            assert!(names.insert(object.clone()), "{object} is not its own");
        }
    }

    #[test]
    fn unusable_grantees_are_refused() {
        for set in [
            (|a: &mut GrantArgs| a.to_namespace = Some("A B".into())) as fn(&mut GrantArgs),
            |a| a.to_namespace = Some(String::new()),
            |a| a.to_serviceaccount = Some("/x".into()),
            |a| a.to_serviceaccount = Some("a/b/c".into()),
            |a| a.to_user = Some(String::new()),
        ] {
            assert!(Whom::from_args(&args(Some("X"), None, set), "ml").is_err());
        }
    }

    #[test]
    fn granted_namespaces_are_read_from_our_bindings_only() {
        let eval = What::One("X".into()).binding("ml", &Whom::Namespace("eval".into()));
        let ci = What::All.binding("ml", &Whom::ServiceAccount { namespace: "ci".into(), name: "bot".into() });
        let other = What::One("Y".into()).binding("ml", &Whom::Namespace("other".into()));
        let mut foreign = What::One("X".into()).binding("ml", &Whom::Namespace("foreign".into()));
        foreign.metadata.labels = None;
        let bindings = [eval, ci, other, foreign];
        assert_eq!(granted_namespaces(&bindings, Some("X")), ["ci", "eval"]);
        assert_eq!(granted_namespaces(&bindings, None), ["ci", "eval", "other"]);
    }
}
