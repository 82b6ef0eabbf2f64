//! The examples, word for word, but for the address of the server.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use daypass_testcluster::OpenBao;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::cluster::Team;
use crate::support::azure::CLIENT;
use crate::support::google::PROVIDER;
use crate::support::{clouds, operator};

/// Applies an example as the team's admin, with its team's name and the server's address put in, and gives the run's name.
async fn apply(team: &Team, example: &str, sandbox: &str, changes: &[(&str, &str)]) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stores").join(example);
    let mut text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    for (from, to) in changes {
        ensure!(text.contains(from), "{example} says {from} nowhere");
        text = text.replace(from, to);
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(example);
    std::fs::write(&file, text)?;
    let admin = format!("admin@{}", team.namespace);
    let output = team.cluster.kubectl(&[
        "apply".as_ref(),
        "-n".as_ref(),
        team.namespace.as_ref(),
        "--as".as_ref(),
        admin.as_ref(),
        "-f".as_ref(),
        file.as_os_str(),
    ])?;
    ensure!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
    let uid = team.sandboxes().get(sandbox).await?.metadata.uid.unwrap_or_default();
    Ok(daypass::api::names::run_name(sandbox, &uid, "", 1))
}

async fn gets(team: &Team, run: &str, value: &str) -> Result<()> {
    team.pod(run).await?;
    assert_eq!(team.copy(run).await?, [("HF_TOKEN".to_owned(), value.to_owned())].into());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed() -> Result<()> {
    let team = Team::new(operator().await?, "example-sealed").await?;
    team.set_secret("HF_TOKEN", b"sealed value").await?;
    let run = apply(&team, "sealed.yaml", "from-the-sealed-store", &[]).await?;
    gets(&team, &run, "sealed value").await
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes() -> Result<()> {
    let team = Team::new(operator().await?, "example-kube").await?;
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "hf-token"}, "stringData": {"value": "cluster's value"}}))?;
    Api::<Secret>::namespaced(team.root.clone(), &team.namespace).create(&PostParams::default(), &secret).await?;
    let run = apply(&team, "kubernetes.yaml", "from-the-cluster", &[]).await?;
    gets(&team, &run, "cluster's value").await
}

#[tokio::test(flavor = "multi_thread")]
async fn vault() -> Result<()> {
    let team = Team::new(operator().await?, "example-vault").await?;
    let server = OpenBao::start().await?;
    server.trust(team.cluster).await?;
    server.let_read(&team.namespace, "daypass-store", "5m").await?;
    let path = format!("secret/data/daypass/{}/HF_TOKEN", team.namespace);
    server.must("POST", &path, json!({"data": {"value": "vault's value"}})).await?;
    let address = format!("address: {}\n    connection:\n      insecure: true", server.address());
    let role = format!("role: {}", team.namespace);
    let changes = [("address: https://vault.example.com:8200", address.as_str()), ("role: ml-team", &role)];
    let run = apply(&team, "vault.yaml", "from-vault", &changes).await?;
    gets(&team, &run, "vault's value").await
}

#[tokio::test(flavor = "multi_thread")]
async fn wandb() -> Result<()> {
    let team = Team::new(operator().await?, "example-wandb").await?;
    team.set_secret("WANDB_API_KEY", b"wandb-key").await?;
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "hf-token"}, "stringData": {"value": "behind W&B"}}))?;
    Api::<Secret>::namespaced(team.root.clone(), &team.namespace).create(&PostParams::default(), &secret).await?;
    let server = crate::wandb::double(&["HF_TOKEN"]).await?;
    let address = format!("baseURL: {server}\n    connection:\n      insecure: true");
    let run = apply(&team, "wandb.yaml", "from-wandb", &[("baseURL: https://api.wandb.ai", &address)]).await?;
    gets(&team, &run, "behind W&B").await
}

/// What a store on plain HTTP has besides.
fn insecure(address: &str) -> String {
    format!("endpoint: {address}\n    connection:\n      insecure: true")
}

#[tokio::test(flavor = "multi_thread")]
async fn aws() -> Result<()> {
    let team = Team::new(operator().await?, "example-aws").await?;
    let aws = &clouds()?.aws;
    aws.secret(&format!("daypass/{}/HF_TOKEN", team.namespace), "value of AWS");
    let region = format!("region: eu-central-1\n    {}", insecure(aws.address()));
    let run = apply(&team, "aws.yaml", "from-aws", &[("region: eu-central-1", &region)]).await?;
    gets(&team, &run, "value of AWS").await
}

#[tokio::test(flavor = "multi_thread")]
async fn gcp() -> Result<()> {
    let team = Team::new(operator().await?, "example-gcp").await?;
    let google = &clouds()?.google;
    google.add(&format!("daypass-{}_HF_TOKEN", team.namespace), "value of Google");
    let project = format!("project: ml-project\n    {}", insecure(&google.address));
    let provider = "projects/123456789012/locations/global/workloadIdentityPools/kubernetes/providers/ml-cluster";
    let changes = [("project: ml-project", project.as_str()), (provider, PROVIDER)];
    let run = apply(&team, "gcp.yaml", "from-gcp", &changes).await?;
    gets(&team, &run, "value of Google").await
}

#[tokio::test(flavor = "multi_thread")]
async fn azure() -> Result<()> {
    let team = Team::new(operator().await?, "example-azure").await?;
    let azure = &clouds()?.azure;
    let spelled = team.namespace.replace('-', "-0");
    azure.add(&format!("daypass-{spelled}-HF--TOKEN"), "value of Azure", None, json!({}));
    let bundle = azure.ca.trim_end().replace('\n', "\n        ");
    let vault = format!("vaultURL: {}\n    connection:\n      caBundle: |\n        {bundle}", azure.vault);
    let changes = [("vaultURL: https://ml-team.vault.azure.net", vault.as_str()), (CLIENT, CLIENT)];
    let run = apply(&team, "azure.yaml", "from-azure", &changes).await?;
    gets(&team, &run, "value of Azure").await
}
