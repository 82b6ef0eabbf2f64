//! Values as files, and small files of the author's own.

use anyhow::{Result, ensure};
use daypass::api::Phase;
use serde_json::json;

use crate::support::Team;

#[tokio::test]
async fn a_value_as_a_file_can_be_read_by_the_run_alone() -> Result<()> {
    let team = Team::new("files").await?;
    // No variable could hold these bytes.
    team.set_secret("KEY_FILE", b"\x00\xff binary").await?;
    let script = "cd /run/daypass; id -u; stat -L -c '%a %g' KEY_FILE; od -An -tx1 KEY_FILE; \
                  stat -f -c %T .; (echo x > KEY_FILE) 2>/dev/null || echo read-only; env | grep -c KEY_FILE; \
                  while [ ! -e /workspace/go ]; do sleep 0.1; done; od -An -tx1 KEY_FILE";
    let spec = json!({
        "command": ["sh", "-c", script], "delivery": "File", "secrets": [{"name": "KEY_FILE"}],
    });
    let run = team.submit("files", spec).await?;
    let log = team.wait_log(&run, "read-only\n0\n").await?;
    let bytes = " 00 ff 20 62 69 6e 61 72 79\n";
    assert_eq!(log, format!("65532\n440 65532\n{bytes}tmpfs\nread-only\n0\n"));

    // The kubelet needs the Secret as long as the Pod has it as a volume.
    team.wait(&run, "it runs", |status| status.phase == Phase::Running).await?;
    ensure!(team.secrets().get_metadata_opt(&run.name).await?.is_some(), "it is kept until the run is over");
    team.exec(&run, &["touch", "/workspace/go"])?;
    let status = team.wait_finished(&run).await?;
    ensure!(status.phase == Phase::Completed && status.secret_removed_at.is_some(), "{status:?}");
    ensure!(team.log(&run).await?.ends_with(bytes), "the file stays");
    team.assert_no_copy(&run).await
}

#[tokio::test]
async fn small_files_are_where_and_what_the_author_said() -> Result<()> {
    let team = Team::new("literal").await?;
    let content = "echo \"$(id -u) \u{e4} $1\"\n";
    let spec = json!({
        "command": ["/opt/task/main.sh", "done"],
        "files": [
            {"path": "/opt/task/main.sh", "content": format!("#!/bin/sh\n{content}cat /etc/task.conf\n"), "mode": 0o555},
            {"path": "/etc/task.conf", "content": "a=$(NOT_REPLACED)\n"},
        ],
    });
    let run = team.submit("literal", spec).await?;
    let status = team.wait_finished(&run).await?;
    ensure!(status.phase == Phase::Completed, "{status:?}");
    assert_eq!(team.log(&run).await?, "65532 \u{e4} done\na=$(NOT_REPLACED)\n");
    Ok(())
}
