//! Who may use which secret: asked of the API server at every run, failing closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use kube::{Client, api::ObjectMeta};

use crate::api::GROUP;
use crate::kube_ext::{CallError, must};
use crate::metrics::Metrics;

/// How long a yes may be kept. A no is never kept.
const KEPT: Duration = Duration::from_secs(10);
/// How many answers are kept at most.
const MOST: usize = 10_000;

/// Identity (namespace, ServiceAccount), team, access name.
type Question = (String, String, String, String);

/// Asks whether a run's ServiceAccount may use a secret.
pub struct Authorizer {
    reviews: Api<SubjectAccessReview>,
    allowed: Mutex<HashMap<Question, Instant>>,
    metrics: Arc<Metrics>,
}

impl Authorizer {
    /// An authorizer that asks with this client.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self { reviews: Api::all(client), allowed: Mutex::default(), metrics }
    }

    /// Whether the ServiceAccount holds `use` on the access name in the team's namespace.
    ///
    /// # Errors
    /// No answer: nothing is allowed then.
    pub async fn may_use(
        &self,
        namespace: &str,
        service_account: &str,
        team: &str,
        access_name: &str,
    ) -> Result<bool, CallError> {
        let question: Question = (namespace.into(), service_account.into(), team.into(), access_name.into());
        let asked = Instant::now();
        {
            let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
            if allowed.get(&question).is_some_and(|since| asked.duration_since(*since) < KEPT) {
                return Ok(true);
            }
            if allowed.len() >= MOST {
                allowed.retain(|_, since| asked.duration_since(*since) < KEPT);
            }
        }
        let review = review(&question);
        let answer =
            must("ask for the right to use a secret", self.reviews.create(&PostParams::default(), &review)).await?;
        let yes = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        self.metrics.authorized(yes);
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if yes && allowed.len() < MOST {
            allowed.insert(question, asked);
        } else {
            allowed.remove(&question);
        }
        Ok(yes)
    }
}

fn review((namespace, service_account, team, access_name): &Question) -> SubjectAccessReview {
    SubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{service_account}")),
            // A review takes the groups at its word, so they must be the very ones that the API server would give.
            groups: Some(vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".into(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.into()),
                version: Some("*".into()),
                resource: Some("teamsecrets".into()),
                verb: Some("use".into()),
                namespace: Some(team.clone()),
                name: Some(access_name.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        status: None,
    }
}
