//! What the API server really stores, for tests that look for traces of a value.

use anyhow::Result;
use k8s_openapi::ByteString;
use kube::{Client, Config};
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;

/// Keys a request. etcd answers in one message, which must stay far below its limit.
const PAGE: u32 = 200;

#[derive(Serialize)]
struct Query<'a> {
    key: &'a ByteString,
    /// A zero byte stands for the end of all keys.
    range_end: ByteString,
    limit: u32,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    kvs: Vec<Entry>,
}

/// A key of etcd and its present value.
#[derive(Deserialize)]
pub struct Entry {
    /// Such as `/registry/secrets/NAMESPACE/NAME`.
    pub key: ByteString,
    /// The object, for built-in kinds as protobuf, for custom ones as JSON.
    #[serde(default)]
    pub value: ByteString,
}

impl Cluster {
    /// Every key of etcd with its present value. Older revisions are not among them.
    pub async fn etcd_dump(&self) -> Result<Vec<Entry>> {
        // etcd has a JSON door beside gRPC; kube's client is an HTTP client like any other.
        let client = Client::try_from(Config::new(self.etcd_url().parse()?))?;
        let mut all = Vec::new();
        let mut from = ByteString(vec![0]);
        loop {
            let query = Query { key: &from, range_end: ByteString(vec![0]), limit: PAGE };
            let request = http::Request::post("/v3/kv/range").body(serde_json::to_vec(&query)?)?;
            let page: Page = client.request(request).await?;
            let Some(last) = page.kvs.last() else { return Ok(all) };
            // The next key in order.
            from = last.key.clone();
            from.0.push(0);
            all.extend(page.kvs);
        }
    }
}
