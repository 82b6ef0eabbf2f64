//! What the cluster admin decides about stores, in the operator's configuration file.

use serde::Deserialize;

use super::StoreError;
use crate::api::{BackendKind, Connection};

/// The section `stores`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StoreSettings {
    /// Hosts that backends may be at: exact names, or `*.example.com` for all names below. Empty: all.
    pub allowed_hosts: Vec<String>,
    /// Lets addresses on loopback and link-local networks pass. The operator's own node is there, and clouds serve the
    /// node's credentials there.
    pub allow_local_addresses: bool,
    /// Who may sign in with the operator's own identity.
    pub operator_identity: Vec<OperatorIdentity>,
    /// Where sign-ins are traded.
    pub endpoints: Endpoints,
}

/// One permission to use the operator's own identity. Without any nobody may.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorIdentity {
    /// The team.
    pub namespace: String,
    /// The backend.
    pub backend: BackendKind,
    /// What every name of the store must begin with there, as the backend writes it: `daypass/ml-team/`. One that ends
    /// with `/` covers all folders below. Any other must be the whole of what the store's template puts before `{name}`:
    /// `daypass-ml-` would else cover the team `ml-two` too.
    pub prefix: String,
    /// The backend's address, exactly as the store writes it: `https://vault.example.com:8200`. Only this server gets the
    /// operator's credentials. Left out where the store names none, which means the vendor's own.
    #[serde(default)]
    pub address: Option<String>,
}

/// Servers that sign-ins are traded at. Fixed for the cluster, never a field of a run or a store. A Pod's metadata server
/// is not among them: it would hand out the identity of the operator's node.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Endpoints {
    /// AWS STS; empty: the region's own.
    pub aws_sts: String,
    /// Google's token exchange.
    pub google_sts: String,
    /// Google's tokens for key files of service accounts.
    pub google_oauth: String,
    /// Google's service account impersonation.
    pub google_iam_credentials: String,
    /// Microsoft Entra.
    pub azure_authority: String,
    /// W&B.
    pub wandb: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            aws_sts: String::new(),
            google_sts: "https://sts.googleapis.com".into(),
            google_oauth: "https://oauth2.googleapis.com".into(),
            google_iam_credentials: "https://iamcredentials.googleapis.com".into(),
            azure_authority: "https://login.microsoftonline.com".into(),
            wandb: "https://api.wandb.ai".into(),
        }
    }
}

impl StoreSettings {
    /// Whether a host is on the list, where there is one.
    pub fn allows_host(&self, host: &str) -> bool {
        self.allowed_hosts.is_empty()
            || self.allowed_hosts.iter().any(|allowed| match allowed.strip_prefix("*.") {
                Some(domain) => host.strip_suffix(domain).is_some_and(|below| below.ends_with('.') && below.len() > 1),
                None => host.eq_ignore_ascii_case(allowed),
            })
    }

    /// Whether the store of a team may use the operator's own identity. `prefix` is what all its names begin with,
    /// `address` where it says that its backend is. A connection of the store's own would lead the operator's credentials
    /// past that server, so there must be none.
    ///
    /// # Errors
    /// It may not: the text says what the cluster admin would set.
    pub fn may_use_operator_identity(
        &self,
        team: &str,
        backend: BackendKind,
        prefix: &str,
        address: Option<&str>,
        connection: Option<&Connection>,
    ) -> Result<(), StoreError> {
        if connection.is_some_and(|connection| *connection != Connection::default()) {
            return Err(StoreError::unavailable(
                super::Stage::SignIn,
                "signIn.operator goes with no `connection`: it would decide who gets the operator's credentials",
            ));
        }
        let allowed = self.operator_identity.iter().any(|permission| {
            let covers = prefix == permission.prefix
                || (permission.prefix.ends_with('/') && prefix.starts_with(&permission.prefix));
            let there = permission.address.as_deref() == address;
            permission.namespace == team && permission.backend == backend && covers && there
        });
        if allowed {
            return Ok(());
        }
        Err(StoreError::unavailable(
            super::Stage::SignIn,
            format!(
                "signIn.operator is not allowed for team {team}, backend {}, names that begin with {prefix:?} and {}: the \
                 cluster admin allows it in the operator's configuration, stores.operatorIdentity",
                backend.as_str(),
                address.map_or_else(
                    || "the vendor's own address".to_owned(),
                    |address| format!("the address {address:?}")
                )
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_exact_or_below_a_domain() {
        let settings = StoreSettings {
            allowed_hosts: vec!["vault.example.com".into(), "*.vault.azure.net".into()],
            ..StoreSettings::default()
        };
        for host in ["vault.example.com", "VAULT.example.com", "a.vault.azure.net", "a.b.vault.azure.net"] {
            assert!(settings.allows_host(host), "{host}");
        }
        for host in ["evil-vault.azure.net", "vault.azure.net", "vault.example.com.evil.net", ".vault.azure.net"] {
            assert!(!settings.allows_host(host), "{host}");
        }
        assert!(StoreSettings::default().allows_host("anywhere"));
    }

    #[test]
    fn the_operators_identity_is_for_whom_it_is_allowed() {
        let permission = |backend, prefix: &str, address: Option<&str>| OperatorIdentity {
            namespace: "a".into(),
            backend,
            prefix: prefix.into(),
            address: address.map(str::to_owned),
        };
        let vault = Some("https://vault.example.com");
        let operator_identity = vec![
            permission(BackendKind::Aws, "daypass/a/", None),
            permission(BackendKind::Gcp, "daypass-a-", None),
            permission(BackendKind::Vault, "daypass/a/", vault),
        ];
        let settings = StoreSettings { operator_identity, ..StoreSettings::default() };
        let asks = |backend, address, connection: Option<&Connection>| {
            settings.may_use_operator_identity("a", backend, "daypass/a/", address, connection).is_ok()
        };
        assert!(asks(BackendKind::Vault, vault, None) && asks(BackendKind::Aws, None, None));
        // A server of the team's own would get what opens every other team's names.
        assert!(!asks(BackendKind::Aws, Some("https://evil.example"), None));
        assert!(!asks(BackendKind::Vault, Some("https://evil.example"), None) && !asks(BackendKind::Vault, None, None));
        let proxy = Connection { proxy: Some("https://evil.example".into()), ..Connection::default() };
        assert!(!asks(BackendKind::Vault, vault, Some(&proxy)));
        assert!(asks(BackendKind::Vault, vault, Some(&Connection::default())));
        let may = |team, backend, prefix| settings.may_use_operator_identity(team, backend, prefix, None, None).is_ok();
        assert!(may("a", BackendKind::Aws, "daypass/a/"));
        assert!(may("a", BackendKind::Aws, "daypass/a/keys/"));
        assert!(!may("b", BackendKind::Aws, "daypass/a/"));
        assert!(!may("a", BackendKind::Vault, "daypass/a/"));
        assert!(!may("a", BackendKind::Aws, "daypass/"));
        assert!(may("a", BackendKind::Gcp, "daypass-a-"));
        // What the team `a-b` has.
        assert!(!may("a", BackendKind::Gcp, "daypass-a-b-"));
    }
}
