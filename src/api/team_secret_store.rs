//! `TeamSecretStore`: where a team's values live. Address, path, role and sign-in stand only here.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Condition, ConditionStatus, Time};

/// Where a team's values live: exactly one backend, and how it is treated.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "daypass.dev",
    version = "v1alpha1",
    kind = "TeamSecretStore",
    namespaced,
    plural = "teamsecretstores",
    status = "TeamSecretStoreStatus",
    derive = "PartialEq",
    shortname = "tstore",
    category = "daypass",
    doc = "A TeamSecretStore says where a team's secrets live. Nothing that a run's author writes can point it anywhere else.",
    printcolumn(name = "Backend", type_ = "string", json_path = ".status.backend"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Secrets", type_ = "integer", json_path = ".status.secretCount"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must be at most 63 characters"),
    validation = Rule::new("!has(self.spec.sealed) || self.metadata.name == 'default'").message("a namespace has one sealed store, and its name is default: there is one set of TeamSecrets, and one list of what is revoked")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.sealed), has(self.aws), has(self.gcp), has(self.azure), has(self.vault), has(self.kubernetes), has(self.wandb)].filter(x, x).size() == 1").message("a store has exactly one backend: one of sealed, aws, gcp, azure, vault, kubernetes, wandb"))]
pub struct TeamSecretStoreSpec {
    /// The embedded store: `TeamSecret` objects of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedBackend>,
    /// AWS Secrets Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsBackend>,
    /// Google Secret Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpBackend>,
    /// Azure Key Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureBackend>,
    /// HashiCorp Vault or `OpenBao`, key-value engine version 1 or 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultBackend>,
    /// Secrets of this namespace that its admin grants the operator. Discouraged: the values stay in the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesBackend>,
    /// Names as W&B lists them, values from the manager behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wandb: Option<WandbBackend>,
    /// How long values are kept in the operator's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// How often the backend is asked at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Secrets that nobody may have any more: refused, live copies deleted, runs that name them ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub revoked: Vec<RevokedSecret>,
}

impl TeamSecretStoreSpec {
    /// Which backend the store has; none where the object breaks the rule of exactly one.
    pub fn backend(&self) -> Option<BackendKind> {
        [
            self.sealed.as_ref().map(|_| BackendKind::Sealed),
            self.aws.as_ref().map(|_| BackendKind::Aws),
            self.gcp.as_ref().map(|_| BackendKind::Gcp),
            self.azure.as_ref().map(|_| BackendKind::Azure),
            self.vault.as_ref().map(|_| BackendKind::Vault),
            self.kubernetes.as_ref().map(|_| BackendKind::Kubernetes),
            self.wandb.as_ref().map(|_| BackendKind::Wandb),
        ]
        .into_iter()
        .flatten()
        .next()
    }
}

/// The kinds of backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BackendKind {
    /// The embedded store.
    Sealed,
    /// AWS Secrets Manager.
    Aws,
    /// Google Secret Manager.
    Gcp,
    /// Azure Key Vault.
    Azure,
    /// HashiCorp Vault or `OpenBao`.
    Vault,
    /// Kubernetes Secrets.
    Kubernetes,
    /// W&B.
    Wandb,
}

impl BackendKind {
    /// The backend's name, as the spec's field for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Vault => "vault",
            Self::Kubernetes => "kubernetes",
            Self::Wandb => "wandb",
        }
    }
}

/// The embedded store has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealedBackend {}

/// How the operator signs in to a backend: exactly one way, never an SDK's default chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.serviceAccount), has(self.secrets), has(self.operator)].filter(x, x).size() == 1").message("exactly one of serviceAccount, secrets, operator"))]
pub struct SignIn {
    /// A token of a ServiceAccount of this namespace; the team grants the operator the right to mint it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSource>,
    /// Team secrets of this team's sealed store `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretSource>,
    /// The operator's own identity, where the cluster admin allows it for this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<SealedBackend>,
}

/// A ServiceAccount whose token is traded for the backend's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceAccountSource {
    /// The ServiceAccount's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The token's audience, where the backend's usual one does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub audience: Option<String>,
}

/// Names of sealed team secrets that hold the backend's own credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretSource {
    /// The access key ID, role ID or client ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub id: Option<String>,
    /// The secret key, secret ID, client secret, token or key file.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub secret: String,
}

/// How the backend's server is reached and proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Certificates (PEM) that alone are trusted for this backend. Defaults to the operator's own roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65_536))]
    pub ca_bundle: Option<String>,
    /// The name that the server's certificate must bear, where it is not the address's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$"))]
    pub server_name: Option<String>,
    /// A proxy that the backend is reached by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://[^@/?#\\]+/?$"))]
    pub proxy: Option<String>,
    /// Lets an `http://` address pass. Values and tokens then travel in clear.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// AWS Secrets Manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsBackend {
    /// The region: `eu-central-1`.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"))]
    pub region: String,
    /// The role that is assumed.
    #[serde(default, rename = "roleARN", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^arn:[^\s]+$"))]
    pub role_arn: Option<String>,
    /// The backend's name of a secret. Defaults to `daypass/{team}/{name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9/_+=.@{}-]+$"))]
    pub name_template: Option<String>,
    /// Another address than the region's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://[^@?#\\]+$"))]
    pub endpoint: Option<String>,
    /// How the server is reached and proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// How the operator signs in.
    pub sign_in: SignIn,
}

/// Google Secret Manager.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpBackend {
    /// The project's ID.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9:.-]+$"))]
    pub project: String,
    /// The workload identity provider: `projects/N/locations/global/workloadIdentityPools/P/providers/X`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[A-Za-z0-9/_-]+$"))]
    pub workload_identity_provider: Option<String>,
    /// A Google service account that is impersonated after the sign-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9.@-]+$"))]
    pub impersonate: Option<String>,
    /// The backend's name of a secret. Defaults to `daypass-{team}-{name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9_{}-]+$"))]
    pub name_template: Option<String>,
    /// Another address than Google's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://[^@?#\\]+$"))]
    pub endpoint: Option<String>,
    /// How the server is reached and proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// How the operator signs in.
    pub sign_in: SignIn,
}

/// Azure Key Vault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureBackend {
    /// The vault's address: `https://NAME.vault.azure.net`.
    #[serde(rename = "vaultURL")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^https?://[^@/?#\\]+/?$"))]
    pub vault_url: String,
    /// The tenant's ID.
    #[serde(default, rename = "tenantID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9.-]+$"))]
    pub tenant_id: Option<String>,
    /// The application's (client's) ID.
    #[serde(default, rename = "clientID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub client_id: Option<String>,
    /// The backend's name of a secret. Defaults to `daypass-{team}-{name}`, escaped for what Azure allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9{}-]+$"))]
    pub name_template: Option<String>,
    /// How the server is reached and proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// How the operator signs in.
    pub sign_in: SignIn,
}

/// HashiCorp Vault or `OpenBao`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultBackend {
    /// The server's address.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://[^@?#\\]+$"))]
    pub address: String,
    /// The Vault namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9_/-]+$"))]
    pub namespace: Option<String>,
    /// Where the key-value engine is mounted. Defaults to `secret`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9_/-]+$"))]
    pub mount: Option<String>,
    /// The engine's version. Defaults to `V2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<VaultEngine>,
    /// The backend's path of a secret below the mount. Defaults to `daypass/{team}/{name}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[A-Za-z0-9_/{}-]+$"))]
    pub name_template: Option<String>,
    /// The key of the entry that holds the value. Defaults to `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub key: Option<String>,
    /// The role that the operator signs in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub role: Option<String>,
    /// Where the sign-in method is mounted. Defaults to `kubernetes`, or `approle` with `signIn.secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_/-]+$"))]
    pub auth_mount: Option<String>,
    /// How the server is reached and proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// How the operator signs in.
    pub sign_in: SignIn,
}

/// The version of a key-value engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VaultEngine {
    /// Without versions.
    V1,
    /// With versions.
    #[default]
    V2,
}

/// Kubernetes Secrets of the store's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesBackend {
    /// The Secret's name for a team secret. Defaults to the name in lower case with `-` for `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9.{}-]+$"))]
    pub name_template: Option<String>,
    /// The key within the Secret. Defaults to `value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9._-]+$"))]
    pub key: Option<String>,
}

/// W&B team secrets: W&B lists the names, no public API returns a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WandbBackend {
    /// The W&B entity (team).
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub entity: String,
    /// Another address than W&B's own.
    #[serde(default, rename = "baseURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^https?://[^@?#\\]+$"))]
    pub base_url: Option<String>,
    /// The sealed team secret that holds the W&B API key.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub api_key: String,
    /// Where the values come from. Without it names are checked and no value can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WandbValues>,
    /// How the server is reached and proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
}

/// The manager behind W&B.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.aws), has(self.gcp), has(self.azure), has(self.kubernetes)].filter(x, x).size() == 1").message("exactly one of aws, gcp, azure, kubernetes"))]
pub struct WandbValues {
    /// AWS Secrets Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsBackend>,
    /// Google Secret Manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpBackend>,
    /// Azure Key Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureBackend>,
    /// Kubernetes Secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesBackend>,
}

/// How long values are kept in the operator's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Seconds that a value is used before the backend is asked again. Defaults to 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub ttl_seconds: Option<i64>,
    /// Seconds that an older value serves while the backend fails. Defaults to 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 600))]
    pub stale_if_error_seconds: Option<i64>,
}

/// How often the backend is asked at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Calls a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub per_second: Option<i64>,
    /// Calls that may come at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub burst: Option<i64>,
    /// Calls under way at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<i64>,
}

/// A secret that nobody may have any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokedSecret {
    /// The secret's name.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_]+$"))]
    pub name: String,
    /// Since when, in UTC.
    #[serde(deserialize_with = "time_or_epoch")]
    #[schemars(regex(pattern = r"^.{19}(\.[0-9]{1,9})?Z$"))]
    pub since: Time,
}

/// A moment that this program cannot read counts as one long ago. The API server's format lets more pass than it, and an
/// object that cannot be read would keep a whole watch from beginning.
fn time_or_epoch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(Time(text.parse().unwrap_or(jiff::Timestamp::UNIX_EPOCH)))
}

/// What became of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedStatus {
    /// The secret's name.
    #[schemars(length(max = 128))]
    pub name: String,
    /// How many runs were ended for it.
    pub runs_ended: i64,
    /// How many runs that name it are still being ended.
    pub runs_ending: i64,
    /// The runs that were ended, `NAMESPACE/NAME`, at most the last 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 256)))]
    pub runs: Vec<String>,
}

/// What is known of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TeamSecretStoreStatus {
    /// Statements about the store.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The backend's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendKind>,
    /// How many secrets the backend lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_count: Option<i64>,
    /// The first 100 names that the backend lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 128)))]
    pub names: Vec<String>,
    /// When the backend was last asked, at most 5 minutes behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check: Option<Time>,
    /// The request for a check that the last check answers: the value of the annotation `daypass.dev/check-requested`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub check_requested: Option<String>,
    /// Whether the backend is being asked, or left alone for a while because it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerState>,
    /// The way to a value, step by step, as it went at the last check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub checks: Vec<StoreCheck>,
    /// What became of the revocations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub revoked: Vec<RevokedStatus>,
    /// The generation of the object that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a backend is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BreakerState {
    /// Questions pass.
    Closed,
    /// The backend has failed, and is left alone for a while.
    Open,
    /// One question passes, to see whether it is well again.
    HalfOpen,
}

/// A step on the way to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum CheckStep {
    /// The server is found and takes connections.
    Address,
    /// It proves that it is the server.
    TLS,
    /// It lets the store sign in.
    SignIn,
    /// It lists the team's names.
    List,
    /// It gives a value.
    Read,
}

/// How one step went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreCheck {
    /// The step.
    pub step: CheckStep,
    /// Passed (`True`), failed (`False`), or not tried (`Unknown`).
    pub state: ConditionStatus,
    /// Why not, with what mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_keeps_a_store_from_being_read() {
        for since in ["2026-01-01T00:00:00+99:99", "2026-01-01T00:00:00.0123456789Z", "9999-99-99T99:99:99Z", ""] {
            let revoked: RevokedSecret =
                serde_json::from_value(serde_json::json!({"name": "A", "since": since})).unwrap();
            assert_eq!(revoked.since, Time(jiff::Timestamp::UNIX_EPOCH), "{since:?}");
        }
        let revoked = serde_json::json!({"name": "A", "since": "2026-01-01T00:00:00Z"});
        assert_eq!(
            serde_json::to_value(serde_json::from_value::<RevokedSecret>(revoked.clone()).unwrap()).unwrap(),
            revoked
        );
    }
}
