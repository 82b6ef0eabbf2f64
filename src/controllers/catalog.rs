//! The catalog that benchmarks' needs are read from: the built-in one, and over it the cluster admin's, from a ConfigMap
//! in the operator's namespace. One that cannot be read leaves the last good one in force, and says so.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_stream};
use kube::{Client, Resource};
use tokio::sync::watch;

use super::Context;
use crate::api::Reason;
use crate::evaluation::{CATALOG_KEY, CATALOG_MAP, Catalog};

/// The catalog in force, and what is wrong with the ConfigMap if anything.
pub type Known = Arc<(Arc<Catalog>, Option<String>)>;

/// The built-in catalog, and nothing wrong.
pub fn built_in() -> Known {
    Arc::new((Catalog::built_in(), None))
}

/// Watches the ConfigMap, for as long as somebody listens.
pub async fn watch(client: Client, namespace: String, known: watch::Sender<Known>, ctx: Arc<Context>) {
    let maps = Api::<ConfigMap>::namespaced(client, &namespace);
    let only = watch_stream::Config::default().fields(&format!("metadata.name={CATALOG_MAP}"));
    let mut events = Box::pin(watcher::watcher(maps, only).default_backoff());
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = false,
            Ok(Event::InitApply(map)) => {
                listed = true;
                take(&map, &known, &ctx).await;
            }
            Ok(Event::Apply(map)) => take(&map, &known, &ctx).await,
            Ok(Event::InitDone) if listed => {}
            Ok(Event::Delete(_) | Event::InitDone) => {
                known.send_if_modified(|old| {
                    let built_in = built_in();
                    *old != built_in && {
                        *old = built_in;
                        true
                    }
                });
                ctx.metrics.catalog_broken(false);
            }
            Err(error) => tracing::warn!(%error, "the watch of the catalog failed; it is started again"),
        }
    }
}

async fn take(map: &ConfigMap, known: &watch::Sender<Known>, ctx: &Context) {
    let text = map.data.as_ref().and_then(|data| data.get(CATALOG_KEY));
    let read = text
        .ok_or_else(|| format!("it has no key {CATALOG_KEY}"))
        .and_then(|text| Catalog::parse(text).map_err(|error| error.to_string()));
    ctx.metrics.catalog_broken(read.is_err());
    match read {
        Ok(own) => {
            let both = Catalog::built_in().with(&own);
            tracing::info!(version = both.version, "catalog of benchmarks in force");
            known.send_replace(Arc::new((Arc::new(both), None)));
        }
        Err(error) => {
            tracing::error!(%error, "the catalog of benchmarks cannot be used: the last good one stays in force");
            let last = known.borrow().0.clone();
            let note =
                format!("The catalog cannot be used, the last good one ({}) stays in force: {error}", last.version);
            known.send_replace(Arc::new((last, Some(error))));
            ctx.event(&map.object_ref(&()), true, Reason::CatalogInvalid, &note).await;
        }
    }
}
