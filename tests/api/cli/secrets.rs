//! Secrets from `set` to `delete`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use daypass::api::TeamSecretStore;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;

use super::team::Team;

#[tokio::test]
async fn a_secret_lives_from_set_to_delete() -> Result<()> {
    let team = Team::new().await?;
    team.types("secret list", "")?.ok()?;
    team.types("secret rotate HF_TOKEN", "x")?.fails(3, "daypass secret set HF_TOKEN")?;

    let ran = team.types("secret set HF_TOKEN", "one")?;
    assert!(ran.err.contains("Made the store `default`") && ran.err.contains("as strong as"), "{ran:?}");
    assert!(ran.ok()?.contains("version 1"));
    assert_eq!(team.values("HF_TOKEN").await?, [(1, "one".into())]);
    let (account, groups) = Team::account(&team.namespace);
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    team.uses_soon(&account, &groups, "HF_TOKEN", true).await?;

    let again = team.types("secret set HF_TOKEN", "two")?;
    again.fails(5, "daypass secret rotate HF_TOKEN")?;
    team.types("secret set hf_token", "two")?.fails(5, "differs from hf_token in case only")?;
    team.types("secret rotate hf_token", "two")?.fails(3, "but HF_TOKEN")?;
    team.types("secret rotate HF_TOKEN", "two\n")?.fails(2, "--trim-newline")?;
    team.types("secret rotate HF_TOKEN", "")?.fails(2, "at least 1 byte")?;
    assert_eq!(team.values("HF_TOKEN").await?, [(1, "one".into())]);

    team.types("secret rotate HF_TOKEN --trim-newline", "two\n")?.ok()?;
    assert_eq!(team.values("HF_TOKEN").await?, [(2, "two".into())]);
    team.types("secret rotate HF_TOKEN --keep", "three")?.ok()?;
    assert_eq!(team.values("HF_TOKEN").await?, [(3, "three".into()), (2, "two".into())]);
    for number in 4..=11 {
        team.types("secret rotate HF_TOKEN --keep", &number.to_string())?.ok()?;
    }
    let versions: Vec<i64> = team.values("HF_TOKEN").await?.into_iter().map(|(version, _)| version).collect();
    assert_eq!(versions, [11, 10, 9, 8, 7, 6, 5, 4]);

    let table = team.types("secret list", "")?.ok()?;
    assert!(table.starts_with("NAME ") && table.contains(&team.admin) && !table.contains("(old)"), "{table}");
    let list: Value = serde_json::from_str(&team.types("secret list -o json", "")?.ok()?)?;
    let item = &list["items"][0];
    assert_eq!(item["name"], "HF_TOKEN");
    assert_eq!((item["version"].as_i64(), item["versions"].as_i64()), (Some(11), Some(8)));
    assert_eq!((item["by"].as_str(), item["oldKey"].as_bool()), (Some(team.admin.as_str()), Some(false)));
    assert_eq!(item["keyID"], team.key_id.as_str());

    team.types("secret delete HF_TOKEN", "")?.fails(2, "--yes")?;
    team.types("secret delete HF_TOKEN", "y\n")?.fails(2, "--yes")?;
    team.types("secret delete HF_TOKEN --yes", "")?.ok()?;
    team.types("secret delete HF_TOKEN --yes", "")?.fails(3, "no secret HF_TOKEN")?;
    assert!(team.secrets()?.list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_rotation_that_was_overtaken_counts_on() -> Result<()> {
    let team = Team::new().await?;
    team.types("secret set A", "one")?.ok()?;
    let mut slow = Command::new(env!("CARGO_BIN_EXE_daypass"))
        .args(["secret", "rotate", "A", "--keep", "-n", &team.namespace, "--system-namespace", &team.system])
        .env("KUBECONFIG", &team.kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // It shows the holders after it has read the secret, and then waits for the value.
    let mut remarks = BufReader::new(slow.stderr.take().context("standard error")?);
    let mut line = String::new();
    remarks.read_line(&mut line)?;
    assert!(line.contains("No live run"), "{line}");
    team.types("secret rotate A --keep", "two")?.ok()?;
    slow.stdin.take().context("standard input")?.write_all(b"three")?;
    let output = slow.wait_with_output()?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(team.values("A").await?, [(3, "three".into()), (2, "two".into()), (1, "one".into())]);
    Ok(())
}

#[tokio::test]
async fn a_manifest_goes_to_git_and_an_old_one_does_not_come_back() -> Result<()> {
    let team = Team::new().await?;
    let first = team.types("secret set API_KEY -o yaml", "one")?.ok()?;
    assert!(!first.contains("by:"), "{first}");
    assert!(team.secrets()?.list(&ListParams::default()).await?.items.is_empty(), "something was applied");
    assert!(
        Api::<TeamSecretStore>::namespaced(team.cluster.admin()?, &team.namespace).get_opt("default").await?.is_none()
    );

    let apply = |manifest: &str| -> Result<(bool, String)> {
        let mut child = team
            .cluster
            .kubectl_command()
            .args(["apply", "-f", "-"])
            .env("KUBECONFIG", &team.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("standard input")?.write_all(manifest.as_bytes())?;
        let output = child.wait_with_output()?;
        Ok((output.status.success(), String::from_utf8(output.stderr)?))
    };
    assert!(apply(&first)?.0);
    assert_eq!(team.values("API_KEY").await?, [(1, "one".into())]);
    let second = team.types("secret rotate API_KEY -o yaml", "two")?.ok()?;
    assert_eq!(team.values("API_KEY").await?, [(1, "one".into())]);
    assert!(apply(&second)?.0);
    assert_eq!(team.values("API_KEY").await?, [(2, "two".into())]);
    let (applied, told) = apply(&first)?;
    assert!(!applied && told.contains("cannot come back"), "{told}");
    // What was set directly bears a name, and a manifest that keeps it has to leave it as it stands.
    team.types("secret rotate API_KEY", "three")?.ok()?;
    assert!(apply(&team.types("secret rotate API_KEY --keep -o yaml", "four")?.ok()?)?.0);
    assert_eq!(team.values("API_KEY").await?, [(4, "four".into()), (3, "three".into())]);
    Ok(())
}

#[tokio::test]
async fn an_env_file_is_set_as_a_whole_or_not_at_all() -> Result<()> {
    let team = Team::new().await?;
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().to_str().context("a path")?;
    std::fs::write(file.path(), "A=1\nB='2'\nC=$HOME\n_D=4\n")?;
    team.types(&format!("secret set --from-env-file {path}"), "")?.fails(2, "line 3")?;
    assert!(team.secrets()?.list(&ListParams::default()).await?.items.is_empty());

    std::fs::write(file.path(), "# a team's\nA=1\nexport B='2'\n")?;
    team.types(&format!("secret set --from-env-file {path}"), "")?.ok()?;
    assert_eq!((team.values("A").await?, team.values("B").await?), (vec![(1, "1".into())], vec![(1, "2".into())]));

    std::fs::write(file.path(), "C=3\nA=1\nB=2\n")?;
    team.types(&format!("secret set --from-env-file {path}"), "")?.fails(5, "already: A, B")?;
    assert_eq!(team.secrets()?.list(&ListParams::default()).await?.items.len(), 2);
    Ok(())
}

#[tokio::test]
async fn sizes_are_as_promised() -> Result<()> {
    let team = Team::new().await?;
    let file = tempfile::NamedTempFile::new()?;
    let line = format!("secret set BIG --from-file {}", file.path().display());
    std::fs::write(file.path(), "x".repeat(64 * 1024 + 1))?;
    team.types(&line, "")?.fails(2, "64 KiB")?;
    let most = "x".repeat(64 * 1024);
    std::fs::write(file.path(), &most)?;
    team.types(&line, "")?.ok()?;
    assert_eq!(team.values("BIG").await?, [(1, most)]);
    Ok(())
}
