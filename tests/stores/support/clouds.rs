//! Doubles of the clouds that live as long as the test program, and the shared operator, whose sign-ins are traded there.

use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use daypass_testcluster::Cluster;
use serde_json::Value;

use super::aws_faults::Faults;
use super::azure::Azure;
use super::double::api_review;
use super::google::Google;
use crate::cluster::{self, Operator};

/// Whom the tokens are for that AWS takes.
const AUDIENCE: &str = "sts.amazonaws.com";

/// One double of each cloud.
pub struct Clouds {
    /// AWS Secrets Manager and STS.
    pub aws: Faults,
    /// Google Secret Manager and token exchange.
    pub google: Google,
    /// Azure Key Vault and Entra.
    pub azure: Azure,
}

/// The doubles. They have a runtime of their own, as that of a test ends with it.
pub fn clouds() -> Result<&'static Clouds> {
    static CLOUDS: OnceLock<Clouds> = OnceLock::new();
    if let Some(clouds) = CLOUDS.get() {
        return Ok(clouds);
    }
    let (sender, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let cluster = Cluster::shared().await?;
            let aws = Faults::start().await;
            aws.review(move |token| is_of_a_store(token) && is_the_clusters(cluster, token));
            let google = Google::start(api_review(cluster.admin()?)).await;
            let azure = Azure::start(api_review(cluster.admin()?)).await;
            sender.send(Clouds { aws, google, azure })?;
            std::future::pending().await
        })
    });
    let clouds = started.recv().context("the doubles of the clouds did not start")?;
    Ok(CLOUDS.get_or_init(|| clouds))
}

/// The operator that all tests of this tier share.
pub async fn operator() -> Result<&'static Operator> {
    let clouds = tokio::task::spawn_blocking(clouds).await??;
    cluster::STORES.get_or_init(|| {
        let (aws, google, azure) = (clouds.aws.address(), &clouds.google.address, &clouds.azure.authority);
        format!("endpoints: {{awsSts: '{aws}', googleSts: '{google}', azureAuthority: '{azure}'}}")
    });
    cluster::operator().await
}

/// Whether the API server knows a token that is for STS. In a thread of its own, as the double answers from within one.
fn is_the_clusters(cluster: &Cluster, token: &str) -> bool {
    let review = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async { api_review(cluster.admin().ok()?)(token.to_owned(), AUDIENCE.to_owned()).await })
    };
    std::thread::scope(|scope| scope.spawn(review).join()).is_ok_and(|team| team.is_some())
}

/// Whether a token says that it is one of a ServiceAccount `daypass-store` for STS.
fn is_of_a_store(token: &str) -> bool {
    let claims = token.split('.').nth(1).and_then(|part| base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
    let subject = claims["sub"].as_str().unwrap_or_default();
    let account = subject.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    account.is_some_and(|(_, name)| name == "daypass-store") && claims["aud"] == serde_json::json!([AUDIENCE])
}
