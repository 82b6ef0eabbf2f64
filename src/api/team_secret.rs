//! `TeamSecret`: one secret of the sealed store. Holds ciphertext only.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// One secret of a team, sealed on the admin's machine.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "daypass.dev",
    version = "v1alpha1",
    kind = "TeamSecret",
    namespaced,
    plural = "teamsecrets",
    derive = "PartialEq",
    shortname = "tsec",
    category = "daypass",
    doc = "A TeamSecret is one secret of a team in the sealed store. It holds ciphertext only: nothing can show the value again. It has no status: what came of it stands in the runs that use it.",
    printcolumn(name = "Secret", type_ = "string", json_path = ".spec.name"),
    printcolumn(name = "Version", type_ = "integer", json_path = ".spec.versions[0].version"),
    printcolumn(name = "Key", type_ = "string", json_path = ".spec.versions[0].keyID"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.versions[0].by", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == self.spec.name.lowerAscii().replace('_', '-')").message("metadata.name must be spec.name in lower case with '-' for '_': `daypass secret set` does it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.name == oldSelf.name").message("name cannot change: delete the secret and set it anew").field_path(".name"))]
#[x_kube(validation = Rule::new("self.versions.all(v, v.version <= self.versions[0].version)").message("the newest version stands first").field_path(".versions"))]
#[x_kube(validation = Rule::new("self.versions.all(v, self.versions.exists_one(w, w.version == v.version))").message("every version stands once").field_path(".versions"))]
#[x_kube(validation = Rule::new("self.versions[0].version >= oldSelf.versions[0].version && self.versions.all(v, v.version > oldSelf.versions[0].version || oldSelf.versions.exists(o, o.version == v.version && o.keyID == v.keyID && o.enc == v.enc && o.ciphertext == v.ciphertext))").message("an older or changed version cannot come back: `daypass secret rotate` adds a newer one").field_path(".versions"))]
pub struct TeamSecretSpec {
    /// The secret's name, as grants and references use it: letters, digits and `_`, beginning and ending with a letter or digit.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9_]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// The sealed values, the newest first. A run gets the newest unless it pins one.
    #[schemars(length(min = 1, max = 8))]
    pub versions: Vec<SealedVersion>,
}

/// One sealed value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealedVersion {
    /// Counts up with every `set` and `rotate`.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991i64))]
    pub version: i64,
    /// The key that the value is sealed to, as the ConfigMap `daypass-public-keys` lists it.
    #[serde(rename = "keyID")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub key_id: String,
    /// The encapsulated key (HPKE, RFC 9180), base64.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9+/]+=*$"))]
    pub enc: String,
    /// The ciphertext, base64. Bound to group, namespace, name and version: it opens nowhere else.
    #[schemars(length(min = 1, max = 90_000), regex(pattern = r"^[A-Za-z0-9+/]+=*$"))]
    pub ciphertext: String,
    /// Who set it. Proven by admission policy; manifests for Git leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub by: Option<String>,
}
