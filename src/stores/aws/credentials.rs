//! How the store gets credentials of AWS, and how they are kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_sts::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_sts::config::{BehaviorVersion, Region};
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::quietly;
use super::trouble::Trouble;
use super::wire::Wire;
use crate::api::{AwsBackend, Connection, SecretSource};
use crate::secret::SecretValue;
use crate::stores::http::Http;
use crate::stores::settings::StoreSettings;
use crate::stores::sign_in::{Issuer, Proof, Proofs, Token};
use crate::stores::{Stage, StoreError};

/// The audience of the token that is traded in, unless the store names another.
const AUDIENCE: &str = "sts.amazonaws.com";
/// How long a role's credentials live, in seconds: the shortest that STS gives, so that a right that was taken away is
/// soon gone.
const ROLE_SECONDS: i32 = 900;
/// The longest name of a session.
const LONGEST_SESSION: usize = 64;

/// Credentials, as they are kept: one value of which nothing can be printed.
#[derive(Serialize, Deserialize)]
struct Keys {
    id: String,
    secret: String,
    session: Option<String>,
}

/// The way back from what is kept.
pub(super) fn credentials(kept: &SecretValue) -> Result<Credentials, StoreError> {
    let keys: Keys = serde_json::from_slice(kept.expose())
        .map_err(|_| StoreError::unavailable(Stage::SignIn, "what was kept is no credential of AWS"))?;
    Ok(Credentials::new(keys.id, keys.secret, keys.session, None, "daypass"))
}

fn keep(credentials: &Credentials) -> Token {
    let keys = Keys {
        id: credentials.access_key_id().to_owned(),
        secret: credentials.secret_access_key().to_owned(),
        session: credentials.session_token().map(str::to_owned),
    };
    Token {
        // Our own type always serializes.
        value: SecretValue::new(serde_json::to_vec(&keys).unwrap_or_default()),
        lifetime: credentials.expiry().map(|end| end.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)),
    }
}

/// Trades the store's proof for credentials.
pub(super) struct Trade {
    sts: aws_sdk_sts::Client,
    role: Option<String>,
    session: String,
    proof: Proof,
    proofs: Arc<dyn Proofs>,
}

impl Trade {
    pub(super) fn new(
        team: &str,
        spec: &AwsBackend,
        settings: &StoreSettings,
        proof: Proof,
        proofs: Arc<dyn Proofs>,
    ) -> Result<Self, StoreError> {
        let wrong = |why: &str| StoreError::unavailable(Stage::SignIn, why);
        match &proof {
            Proof::Token(_) if spec.role_arn.is_none() => {
                return Err(wrong("aws.roleARN is not set: a ServiceAccount's token is traded for a role"));
            }
            Proof::Secrets(SecretSource { id: None, .. }) => {
                return Err(wrong("aws.signIn.secrets.id is not set: it names the team secret with the access key ID"));
            }
            _ => {}
        }
        let mut session = format!("daypass-{team}");
        session.truncate(LONGEST_SESSION);
        let sts = sts(spec, settings)?;
        Ok(Self { sts, role: spec.role_arn.clone(), session, proof, proofs })
    }

    async fn with_token(&self, role: &str, token: &SecretValue) -> Result<Token, StoreError> {
        let token = String::from_utf8_lossy(token.expose()).into_owned();
        let question = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name(&self.session)
            .duration_seconds(ROLE_SECONDS)
            .web_identity_token(token);
        let given = quietly(question.send()).await.map_err(|error| {
            refused(
                Trouble::of(&error),
                error_code(&error),
                role,
                "the role's trust policy must name the cluster's \
                OIDC provider, this ServiceAccount as `sub` and the audience as `aud`",
            )
        })?;
        given.credentials.as_ref().map(of_sts).ok_or_else(no_answer)?
    }

    async fn with_keys(&self, role: &str, keys: Credentials) -> Result<Token, StoreError> {
        let own = aws_sdk_sts::Config::builder().credentials_provider(SharedCredentialsProvider::new(keys));
        let question =
            self.sts.assume_role().role_arn(role).role_session_name(&self.session).duration_seconds(ROLE_SECONDS);
        let given = quietly(question.customize().config_override(own).send()).await.map_err(|error| {
            refused(
                Trouble::of(&error),
                error_code(&error),
                role,
                "the role's trust policy must name the user of the \
                access key, and the user's policy sts:AssumeRole",
            )
        })?;
        given.credentials.as_ref().map(of_sts).ok_or_else(no_answer)?
    }

    async fn team_keys(&self, source: &SecretSource) -> Result<Credentials, StoreError> {
        let text = |value: &SecretValue| String::from_utf8_lossy(value.expose()).trim().to_owned();
        // `new` has seen that the ID is named.
        let id = self.proofs.secret(source.id.as_deref().unwrap_or_default()).await?;
        let secret = self.proofs.secret(&source.secret).await?;
        Ok(Credentials::new(text(&id), text(&secret), None, None, "daypass"))
    }
}

impl Issuer for Trade {
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
        async {
            match (&self.proof, &self.role) {
                (Proof::Token(subject), Some(role)) => {
                    let token = self.proofs.token(subject, AUDIENCE).await?;
                    self.with_token(role, &token).await
                }
                (Proof::Secrets(source), None) => Ok(keep(&self.team_keys(source).await?)),
                (Proof::Secrets(source), Some(role)) => self.with_keys(role, self.team_keys(source).await?).await,
                // `new` refuses it.
                (Proof::Token(_), None) => Err(no_answer()),
            }
        }
        .boxed()
    }
}

/// An admin's own credentials: the environment's, or a profile's.
pub(super) struct Own(pub(super) SharedCredentialsProvider);

impl Own {
    /// Never a metadata server's: what is asked for over the network is asked of STS, and of nobody else.
    pub(super) fn of_admin(spec: &AwsBackend, settings: &StoreSettings) -> Result<Self, StoreError> {
        let config = ProviderConfig::without_region()
            .with_region(Some(Region::new(spec.region.clone())))
            .with_http_client(Wire(sts_server(spec, settings)?.1))
            .with_retry_config(RetryConfig::disabled())
            .with_timeout_config(TimeoutConfig::disabled());
        let profile = ProfileFileCredentialsProvider::builder().configure(&config).build();
        let chain = CredentialsProviderChain::first_try("environment", EnvironmentVariableCredentialsProvider::new())
            .or_else("profile", profile);
        Ok(Self(SharedCredentialsProvider::new(chain)))
    }
}

impl Issuer for Own {
    fn issue(&self) -> BoxFuture<'_, Result<Token, StoreError>> {
        async {
            let found = quietly(self.0.provide_credentials()).await.map_err(|_| {
                StoreError::unavailable(
                    Stage::SignIn,
                    "no credentials of AWS are in the environment or in a profile's file: `eval \"$(aws configure \
                     export-credentials --format env)\"` puts those of any sign-in there",
                )
            })?;
            Ok(keep(&found))
        }
        .boxed()
    }
}

fn of_sts(given: &aws_sdk_sts::types::Credentials) -> Result<Token, StoreError> {
    let end = SystemTime::try_from(*given.expiration()).map_err(|_| no_answer())?;
    let session = Some(given.session_token().to_owned());
    Ok(keep(&Credentials::new(given.access_key_id(), given.secret_access_key(), session, Some(end), "daypass")))
}

fn error_code<E, R>(error: &aws_sdk_sts::error::SdkError<E, R>) -> Option<&str>
where
    E: aws_sdk_sts::error::ProvideErrorMetadata,
{
    use aws_sdk_sts::error::ProvideErrorMetadata as _;
    error.code()
}

/// A sign-in that fails is the store's trouble, whatever the reason.
fn refused(trouble: Trouble, code: Option<&str>, role: &str, mend: &str) -> StoreError {
    let why = match code {
        Some("InvalidIdentityToken" | "InvalidIdentityTokenException") => {
            format!("AWS STS does not take the ServiceAccount's token: {mend}")
        }
        Some("IDPRejectedClaim" | "IDPRejectedClaimException") => {
            format!("the cluster's OIDC provider rejects the ServiceAccount's token: {mend}")
        }
        Some("IDPCommunicationError" | "IDPCommunicationErrorException") => {
            "AWS STS does not reach the cluster's OIDC issuer: its discovery document must be public".into()
        }
        Some("RegionDisabledException") => "AWS STS is off in this region: an account's admin turns it on".into(),
        _ => match trouble {
            Trouble::Backend(error) => return error,
            Trouble::Denied | Trouble::Missing => format!("AWS STS does not give the role {role}: {mend}"),
            Trouble::SignIn => "AWS STS refuses the access key or token that the store signs in with".into(),
            Trouble::Invalid => format!("AWS STS does not understand the sign-in: is {role} a role's ARN?"),
            _ => return no_answer(),
        },
    };
    StoreError::unavailable(Stage::SignIn, why)
}

fn no_answer() -> StoreError {
    StoreError::unavailable(Stage::SignIn, "the answer to the sign-in is not one of AWS STS'")
}

/// Where STS is, and the way to it.
///
/// The cluster's own setting, else the region's server. That one is fixed by the region, so the list of allowed hosts
/// is not about it; the store's proxy leads to it, and the store's certificates are not for it.
fn sts_server(spec: &AwsBackend, settings: &StoreSettings) -> Result<(String, Http), StoreError> {
    let named = &settings.endpoints.aws_sts;
    if !named.is_empty() {
        let proxy = spec.connection.as_ref().and_then(|connection| connection.proxy.as_deref());
        return Ok((named.clone(), Http::of_cluster(named, proxy, settings)?));
    }
    let address = Params::builder()
        .region(spec.region.clone())
        .use_global_endpoint(false)
        .build()
        .ok()
        .and_then(|params| ResolveEndpoint::resolve_endpoint(&DefaultResolver::new(), &params).now_or_never()?.ok())
        .map(|endpoint| endpoint.url().to_owned())
        .ok_or_else(|| super::no_region(&spec.region))?;
    let proxy = spec.connection.as_ref().and_then(|connection| connection.proxy.clone());
    let way = Connection { proxy, ..Connection::default() };
    let bounds = StoreSettings { allow_local_addresses: settings.allow_local_addresses, ..StoreSettings::default() };
    let http = Http::of_store(&address, Some(&way), &bounds)?;
    Ok((address, http))
}

fn sts(spec: &AwsBackend, settings: &StoreSettings) -> Result<aws_sdk_sts::Client, StoreError> {
    let (address, http) = sts_server(spec, settings)?;
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(spec.region.clone()))
        .endpoint_url(address)
        .http_client(Wire(http))
        .identity_cache(aws_sdk_sts::config::IdentityCache::no_cache())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Ok(aws_sdk_sts::Client::from_conf(config))
}
