//! The way to the API server: the user's own kubeconfig and rights, as kubectl takes them.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::args::Global;
use super::error::{CliError, Result};

/// No answer takes longer than this; the longest is a list over all namespaces.
const ANSWER: Duration = Duration::from_secs(30);

/// A client, and the namespace that commands are about.
pub struct Cluster {
    /// Speaks to the API server with the user's rights.
    pub client: Client,
    /// The team.
    pub namespace: String,
    /// Where the operator runs.
    pub system_namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig and makes a client. Asks the API server nothing yet.
    pub async fn connect(global: &Global) -> Result<Self> {
        let mut config = config(global).await?;
        let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        // A person waits: say that the server is overloaded instead of trying again for minutes.
        config.default_retry = false;
        config.read_timeout = Some(ANSWER);
        config.reset_reader_on_write = true;
        impersonate(&mut config, global)?;
        let client = Client::try_from(config)
            .map_err(|error| CliError::usage(format!("the kubeconfig cannot be used: {error}")))?;
        Ok(Self { client, namespace, system_namespace: global.system_namespace.clone() })
    }

    /// The name that the API server knows the caller by. None where it does not say: a version may go without, and
    /// whatever else is wrong shows with the next call.
    pub async fn whoami(&self) -> Option<String> {
        let reviews = Api::<SelfSubjectReview>::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.ok()?;
        review.status?.user_info?.username
    }
}

async fn config(global: &Global) -> Result<Config> {
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    let unusable = |error: kube::config::KubeconfigError| {
        CliError::usage(format!("the kubeconfig cannot be used: {error}"))
            .hint("choose with --kubeconfig and --context")
    };
    match &global.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)
        }
        None => match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            // Within a Pod there is no kubeconfig; a context that was asked for is never replaced by another.
            Err(error) if global.context.is_none() => Config::incluster().map_err(|_| unusable(error)),
            Err(error) => Err(unusable(error)),
        },
    }
}

/// `--as` stands for all of what a kubeconfig says about acting as somebody, as in kubectl: its groups too.
fn impersonate(config: &mut Config, global: &Global) -> Result<()> {
    let identity = &mut config.auth_info;
    if let Some(user) = &global.as_user {
        identity.impersonate = Some(user.clone());
        identity.impersonate_groups = None;
        identity.impersonate_uid = None;
        identity.impersonate_user_extra = None;
    }
    if !global.as_group.is_empty() {
        if identity.impersonate.is_none() {
            return Err(CliError::usage("--as-group needs --as"));
        }
        identity.impersonate_groups = Some(global.as_group.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(user: Option<&str>, groups: &[&str]) -> Global {
        Global {
            namespace: None,
            context: None,
            kubeconfig: None,
            output: super::super::output::Format::Table,
            as_user: user.map(Into::into),
            as_group: groups.iter().map(|&group| group.into()).collect(),
            system_namespace: "daypass-system".into(),
        }
    }

    #[test]
    fn the_flags_stand_for_what_the_kubeconfig_says() {
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        config.auth_info.impersonate = Some("low".into());
        config.auth_info.impersonate_groups = Some(vec!["g".into()]);
        let acts_as = |user: Option<&str>, groups: &[&str]| {
            let mut config = config.clone();
            impersonate(&mut config, &global(user, groups)).unwrap();
            (config.auth_info.impersonate.unwrap(), config.auth_info.impersonate_groups.unwrap_or_default().join(","))
        };
        assert_eq!(acts_as(None, &[]), ("low".into(), "g".into()));
        assert_eq!(acts_as(None, &["h"]), ("low".into(), "h".into()));
        assert_eq!(acts_as(Some("amy"), &[]), ("amy".into(), String::new()));
        assert_eq!(acts_as(Some("amy"), &["a", "b"]), ("amy".into(), "a,b".into()));
    }

    #[test]
    fn a_group_alone_is_refused() {
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        assert!(impersonate(&mut config, &global(None, &["g"])).is_err());
    }
}
