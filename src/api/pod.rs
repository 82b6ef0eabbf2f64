//! The parts of a Pod that people may shape, as closed types: what is not here cannot be asked for.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Quantity, text_map};

/// A plain variable. Not for secrets: it is stored and shown in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvVar {
    /// The variable's name.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// The variable's value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32768))]
    pub value: String,
}

/// A small literal file, shown read-only to the container. Not for secrets: it is stored and shown in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!self.path.matches('(^|/)\\\\.{1,2}(/|$)') && !self.path.contains('//') && !self.path.endsWith('/')").message("path must name a file, without '.', '..', '//' or a '/' at its end").field_path(".path"))]
#[x_kube(validation = Rule::new("!self.path.matches('^/(proc|sys|dev|run/daypass|var/run/secrets)(/|$)')").message("nothing may be placed under /proc, /sys, /dev, /run/daypass or /var/run/secrets: choose another path").field_path(".path"))]
pub struct File {
    /// Where the container sees the file: an absolute path.
    #[schemars(length(min = 2, max = 512), regex(pattern = r"^/"))]
    pub path: String,
    /// What the file holds. All files of a run together: at most 200 KiB.
    #[schemars(length(max = 204_800))]
    pub content: String,
    /// Permission bits, as a decimal number as in Pods (292 is 0444, 365 is 0555). Defaults to 292.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub mode: Option<i32>,
}

/// What the run may use of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// What the scheduler sets aside, by resource name: `cpu`, `memory`, `nvidia.com/gpu`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may use at most, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

/// Lets the Pod onto nodes with a matching taint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; empty with operator `Exists` means every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub key: Option<String>,
    /// `Equal` (default) or `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Equal|Exists)$"), length(max = 32))]
    pub operator: Option<String>,
    /// The taint's value, with `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; unset means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(NoSchedule|PreferNoSchedule|NoExecute)$"), length(max = 32))]
    pub effect: Option<String>,
    /// Seconds that a `NoExecute` taint is tolerated; unset means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// An object of the same namespace, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalObjectReference {
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// The run's security settings. What Pod Security "restricted" forbids to add is not here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// The user ID that the container runs as. Defaults to 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub run_as_user: Option<i64>,
    /// The group ID that the container runs as. Defaults to 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub run_as_group: Option<i64>,
    /// Whether the kubelet refuses to start a container as root. Defaults to true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// The group that owns the Pod's volumes. Defaults to 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub fs_group: Option<i64>,
    /// Further groups of the container's process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub supplemental_groups: Vec<i64>,
    /// Whether the container's root file system is read-only. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// Whether a process may gain rights that its parent has not. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    /// Capabilities to drop. Defaults to all; none can be added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// The system calls that are let through. Defaults to the runtime's own profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<SeccompProfile>,
}

/// Capabilities to drop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// Names of capabilities, `ALL` for all.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub drop: Vec<String>,
}

/// A seccomp profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'Localhost') == has(self.localhostProfile)").message("localhostProfile goes with type Localhost, and only with it").field_path(".localhostProfile"))]
pub struct SeccompProfile {
    /// `RuntimeDefault` or `Localhost`.
    #[serde(rename = "type")]
    #[schemars(regex(pattern = "^(RuntimeDefault|Localhost)$"), length(max = 32))]
    pub type_: String,
    /// A profile on the node, with type `Localhost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub localhost_profile: Option<String>,
}

/// Labels and annotations for the run's Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("(!has(self.labels) || self.labels.all(k, !k.matches('^([^/]*[.])?daypass[.]dev/'))) && (!has(self.annotations) || self.annotations.all(k, !k.matches('^([^/]*[.])?daypass[.]dev/')))").message("keys of daypass.dev are the operator's: choose another prefix"))]
pub struct PodMetadata {
    /// Labels for the Pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = text_map(32, 63))]
    pub labels: BTreeMap<String, String>,
    /// Annotations for the Pod; short ones, since the run's files share their room.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = text_map(32, 1024))]
    pub annotations: BTreeMap<String, String>,
}

/// What the run may reach and who may reach it; becomes a NetworkPolicy. The cluster's network plugin enforces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.egress) || self.egress.size() == 0 || (has(self.denyEgress) && self.denyEgress)").message("egress lists exceptions: it needs denyEgress: true").field_path(".egress"))]
pub struct Network {
    /// Refuses connections from the run, except those that `egress` lists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deny_egress: bool,
    /// Refuses connections to the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deny_ingress: bool,
    /// What the run may reach all the same. Name resolution is not included: allow the cluster's DNS if it is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub egress: Vec<EgressRule>,
}

/// One exception: a block of addresses or Pods, and their ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.cidr) != (has(self.namespaceLabels) || has(self.podLabels))").message("an egress rule has either a cidr or labels (namespaceLabels, podLabels)"))]
#[x_kube(validation = Rule::new("!has(self.except) || has(self.cidr)").message("except goes with cidr").field_path(".except"))]
pub struct EgressRule {
    /// A block of addresses: `203.0.113.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$"))]
    pub cidr: Option<String>,
    /// Blocks within `cidr` that stay refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub except: Vec<String>,
    /// Namespaces with these labels; an empty map means every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = text_map(16, 63))]
    pub namespace_labels: Option<BTreeMap<String, String>>,
    /// Pods with these labels, in those namespaces (or in the run's own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = text_map(16, 63))]
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// Ports; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ports: Vec<EgressPort>,
}

/// A port, or a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressPort {
    /// The port, or the first of a range.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The last port of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
    /// `TCP` (default), `UDP` or `SCTP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(TCP|UDP|SCTP)$"), length(max = 32))]
    pub protocol: Option<String>,
}
