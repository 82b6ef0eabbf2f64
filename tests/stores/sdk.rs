//! The vendors' own SDKs accept the doubles: what the stores are tested against is what Google's and Azure's clients
//! take for their servers.

use std::path::Path;

use daypass_testcluster::python::environment_of;

use crate::support::azure::Azure;
use crate::support::double::table_review;
use crate::support::google::{Google, PROJECT};

#[tokio::test]
async fn the_vendors_own_clients_accept_the_doubles() {
    let (google, azure) = (Google::start(table_review()).await, Azure::start(table_review()).await);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores");
    let requirements = here.join("requirements/sdk.txt");
    let making = move || environment_of(&[requirements], "the vendors' clients of secret managers");
    let environment = tokio::task::spawn_blocking(making).await.unwrap().unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), &azure.ca).unwrap();
    let output = tokio::process::Command::new(environment.join("bin/python"))
        .arg("-I")
        .arg(here.join("sdk/prove_doubles.py"))
        .args([&google.address, PROJECT, &azure.vault])
        .arg(ca.path())
        .args(["admins-own-token"])
        .env_clear()
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Google: as expected") && text.contains("Azure: as expected"), "{text}");
}
