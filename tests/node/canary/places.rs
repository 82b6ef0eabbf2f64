//! Where a value could have come to.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use daypass_testcluster::{Cluster, python};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::discovery::{Discovery, verbs};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::forms::Canary;
use crate::support::NAMESPACE;

/// A form of the value at a place.
#[derive(Debug)]
pub struct Finding {
    /// Where.
    pub place: String,
    /// Which form. Only shown.
    #[expect(dead_code, reason = "read by people, in a failure")]
    pub form: &'static str,
}

impl Finding {
    /// What is to be found in a content.
    pub fn all(canary: &Canary, place: &str, content: &[u8]) -> Vec<Self> {
        canary.find(content).into_iter().map(|form| Self { place: place.to_owned(), form }).collect()
    }
}

/// Every object of every kind in every namespace; events are objects too.
pub async fn objects(client: &Client, canary: &Canary) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut kinds = 0;
    for group in Discovery::new(client.clone()).run().await?.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            kinds += 1;
            let all = Api::<DynamicObject>::all_with(client.clone(), &resource);
            let list = all.list(&ListParams::default()).await.with_context(|| format!("list {}", resource.plural))?;
            for object in list {
                let place =
                    format!("{} {}/{}", resource.plural, object.namespace().unwrap_or_default(), object.name_any());
                found.extend(Finding::all(canary, &place, &content(&serde_json::to_value(&object)?)));
            }
        }
    }
    ensure!(kinds > 40, "only {kinds} kinds were looked at");
    Ok(found)
}

/// An object as it is written, and all its texts by themselves: an escape within a text is escaped again in the whole.
fn content(object: &Value) -> Vec<u8> {
    fn texts(value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::String(text) => {
                out.push(b'\n');
                out.extend(text.as_bytes());
            }
            Value::Array(items) => items.iter().for_each(|item| texts(item, out)),
            Value::Object(fields) => fields.iter().for_each(|(name, field)| {
                out.push(b'\n');
                out.extend(name.as_bytes());
                texts(field, out);
            }),
            _ => {}
        }
    }
    let mut content = object.to_string().into_bytes();
    texts(object, &mut content);
    content
}

/// Every key of etcd.
pub async fn stored(cluster: &Cluster, canary: &Canary) -> Result<Vec<Finding>> {
    let entries = cluster.etcd_dump().await?;
    ensure!(entries.len() > 100, "etcd has only {} keys", entries.len());
    let place = |key: &[u8]| format!("etcd {}", String::from_utf8_lossy(key));
    Ok(entries.iter().flat_map(|entry| Finding::all(canary, &place(&entry.key.0), &entry.value.0)).collect())
}

/// What every container has printed (the operator at level trace), what every part of the cluster has, and the audit
/// log.
pub async fn logs(cluster: &Cluster, canary: &Canary) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let client = cluster.admin()?;
    let mut of_operator = 0;
    for pod in Api::<Pod>::all(client.clone()).list(&ListParams::default()).await? {
        let namespace = pod.namespace().unwrap_or_default();
        let place = format!("log of {namespace}/{}", pod.name_any());
        let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
        // Pods of other tests come and go.
        if let Ok(text) = pods.logs(&pod.name_any(), &LogParams::default()).await {
            of_operator += usize::from(namespace == NAMESPACE && text.contains("\"TRACE\""));
            found.extend(Finding::all(canary, &place, text.as_bytes()));
        }
    }
    ensure!(of_operator > 0, "the operator has logged nothing at level trace");
    for file in std::fs::read_dir(cluster.state().join("logs"))? {
        found.extend(in_file(canary, &file?.path())?);
    }
    found.extend(in_file(canary, &cluster.state().join("audit.log"))?);
    Ok(found)
}

fn in_file(canary: &Canary, path: &Path) -> Result<Vec<Finding>> {
    let content = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(Finding::all(canary, &format!("file {}", path.display()), &content))
}

/// Everything on a results volume, with what is inside Inspect's logs: they are archives, in which a plain search sees
/// nothing.
pub fn volume(folder: &Path, canary: &Canary) -> Result<Vec<Finding>> {
    let unpack = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/runner/tests/unpack.py");
    let output =
        Command::new(python::environment_of_runner()?.join("bin/python")).arg("-B").arg(unpack).arg(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Stands in every log, compressed.
    let is_there = output.stdout.windows(18).any(|window| window == b"openai-api/target/");
    ensure!(is_there, "no log of Inspect was unpacked in {}", folder.display());
    Ok(Finding::all(canary, &folder.display().to_string(), &output.stdout))
}

/// What every replica of the operator tells monitoring.
pub async fn metrics(client: &Client, canary: &Canary) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    for pod in pods.list(&ListParams::default().labels("app.kubernetes.io/component=operator")).await? {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:8080/proxy/metrics", pod.name_any());
        let text = client.request_text(http::Request::get(path).body(Vec::new())?).await?;
        ensure!(text.contains("daypass_build_info"), "these are no metrics: {text}");
        found.extend(Finding::all(canary, &format!("metrics of {}", pod.name_any()), text.as_bytes()));
    }
    Ok(found)
}

/// Command lines and environments of all processes of the operator, as the node's root sees them.
pub fn processes(canary: &Canary) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    for process in std::fs::read_dir("/proc")? {
        let process = process?.path();
        let Ok(line) = std::fs::read(process.join("cmdline")) else { continue };
        if !line.starts_with(b"/usr/local/bin/daypass\0operator\0") {
            continue;
        }
        looked_at += 1;
        let environment = std::fs::read(process.join("environ"))?;
        for (file, content) in [("cmdline", line), ("environ", environment)] {
            found.extend(Finding::all(canary, &process.join(file).display().to_string(), &content));
        }
    }
    ensure!(looked_at >= 2, "only {looked_at} processes of the operator were found");
    Ok(found)
}
