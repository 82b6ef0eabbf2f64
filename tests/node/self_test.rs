//! `helm test`, as the chart's notes ask for it.

use anyhow::{Result, ensure};

use crate::support::{NAMESPACE, world};

#[tokio::test]
async fn helm_test_shows_that_every_read_is_refused() -> Result<()> {
    let cluster = world().await?.cluster;
    let helm = move || cluster.helm(&["test", "daypass", "--namespace", NAMESPACE, "--logs"]);
    let output = tokio::task::spawn_blocking(helm).await??;
    let text = String::from_utf8(output.stdout)?;
    let rows: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("READ ")).skip(1).collect();
    let (refused, open): (Vec<&str>, Vec<&str>) =
        rows.into_iter().filter(|row| !row.is_empty()).partition(|row| row.contains("  yes  "));
    ensure!(!refused.is_empty() && open.is_empty(), "{text}");
    Ok(())
}
