//! The way to the API server: the user's own kubeconfig and rights, as kubectl takes them.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::args::Global;
use super::error::{CliError, Needs, Result, api_error};

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

    /// The name that the API server knows the caller by.
    pub async fn whoami(&self) -> Result<String> {
        let review = Api::<SelfSubjectReview>::all(self.client.clone())
            .create(&PostParams::default(), &SelfSubjectReview::default())
            .await
            .map_err(|error| api_error("ask the API server who you are", Needs::Nothing, &error))?;
        review
            .status
            .and_then(|status| status.user_info)
            .and_then(|user| user.username)
            .ok_or_else(|| CliError::failure("the API server does not say who you are"))
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

/// The client sends no impersonation headers by itself. A kubeconfig's `as` is obeyed too: to leave it out would act
/// with more rights than its owner has chosen.
fn impersonate(config: &mut Config, global: &Global) -> Result<()> {
    let info = config.auth_info.clone();
    let (user, groups) = match &global.as_user {
        Some(user) => (Some(user.clone()), global.as_group.clone()),
        None => (info.impersonate, [info.impersonate_groups.unwrap_or_default(), global.as_group.clone()].concat()),
    };
    let Some(user) = user else {
        return if groups.is_empty() { Ok(()) } else { Err(CliError::usage("--as-group needs --as")) };
    };
    let mut header = |name: HeaderName, value: &str| -> Result<()> {
        let value = HeaderValue::from_str(value)
            .map_err(|_| CliError::usage("a name given to --as or --as-group holds characters that cannot be sent"))?;
        config.headers.push((name, value));
        Ok(())
    };
    header(HeaderName::from_static("impersonate-user"), &user)?;
    for group in groups {
        header(HeaderName::from_static("impersonate-group"), &group)?;
    }
    if global.as_user.is_none() {
        if let Some(uid) = info.impersonate_uid {
            header(HeaderName::from_static("impersonate-uid"), &uid)?;
        }
        for (key, values) in info.impersonate_user_extra.unwrap_or_default() {
            let name = HeaderName::try_from(format!("impersonate-extra-{key}"))
                .map_err(|_| CliError::usage("the kubeconfig's as-user-extra has a key that cannot be sent"))?;
            for value in values {
                header(name.clone(), &value)?;
            }
        }
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

    fn headers(config: &Config) -> Vec<(&str, &str)> {
        config.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn acting_as_somebody_is_said_in_headers() {
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        impersonate(&mut config, &global(Some("amy"), &["a", "b"])).unwrap();
        let expected = [("impersonate-user", "amy"), ("impersonate-group", "a"), ("impersonate-group", "b")];
        assert_eq!(headers(&config), expected);
    }

    #[test]
    fn the_kubeconfigs_own_choice_is_obeyed_and_the_flag_is_stronger() {
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        config.auth_info.impersonate = Some("low".into());
        config.auth_info.impersonate_groups = Some(vec!["g".into()]);
        let mut other = config.clone();
        impersonate(&mut config, &global(None, &[])).unwrap();
        assert_eq!(headers(&config), [("impersonate-user", "low"), ("impersonate-group", "g")]);
        impersonate(&mut other, &global(Some("amy"), &[])).unwrap();
        assert_eq!(headers(&other), [("impersonate-user", "amy")]);
    }

    #[test]
    fn a_group_alone_is_refused() {
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        assert!(impersonate(&mut config, &global(None, &["g"])).is_err());
    }
}
