//! Whether the place for results takes them, asked before anything starts. The runner asks again before its run, so what
//! cannot be asked from here stands in nobody's way.

use crate::api::{Reason, WandbResults};
use crate::evaluation::{Bound, Problem};
use crate::secret::SecretValue;
use crate::stores::wandb::{Takes, takes_results};

/// What W&B has against the results of these benchmarks, if anything.
pub(super) async fn objection(
    endpoint: &str,
    wandb: &WandbResults,
    bound: &Bound,
    team: &str,
    key: &SecretValue,
    benchmarks: &[String],
) -> Option<Problem> {
    let (name, entity) = (&bound.reference.name, &wandb.entity);
    let why = match takes_results(endpoint, entity, key).await {
        Ok(Takes::Yes) => return None,
        Ok(Takes::NotTheKey) => {
            format!("W&B does not know the key {name} of team {team}; `daypass secret rotate {name} -n {team}`")
        }
        Ok(Takes::NotTheEntity) => format!(
            "the owner of the key {name} does not belong to W&B's entity {entity}; correct results.wandb.entity, or name \
             another key in results.wandb.apiKey"
        ),
        Err(error) => {
            tracing::info!(%error, "W&B could not be asked whether it takes results");
            return None;
        }
    };
    let message = format!("{}: results.wandb: {why}", benchmarks.join(", "));
    Some(Problem { benchmarks: benchmarks.to_vec(), reason: Reason::AccessDenied, message })
}
