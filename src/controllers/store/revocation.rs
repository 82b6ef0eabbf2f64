//! What became of a store's revocations.

use kube::ResourceExt;

use super::super::Context;
use super::super::watches::{evaluations_of_secret, users_of_secret};
use crate::api::{Phase, Reason, RevokedStatus, TeamSecretStore, TeamSecretStoreStatus};

/// How many runs a status shows at most.
const SHOWN: usize = 50;

/// What became of one revocation: runs that were ended for it, and runs that still have to end.
pub(super) fn revocation(
    team: &str,
    name: &str,
    store: &TeamSecretStore,
    ctx: &Context,
    old: &TeamSecretStoreStatus,
) -> RevokedStatus {
    let mut present = Vec::new();
    for sandbox in ctx.sandboxes.state() {
        let Some(status) = &sandbox.status else { continue };
        let namespace = sandbox.namespace().unwrap_or_default();
        let names_it = sandbox.spec.secrets.iter().any(|reference| {
            reference.team(&namespace) == team && reference.name == name && reference.store() == store.name_any()
        });
        if names_it && status.phase == Phase::Terminated && status.reason == Some(Reason::Revoked) {
            present.push((status.completion_time, format!("{namespace}/{}", sandbox.name_any())));
        }
    }
    for job in ctx.evaljobs.state() {
        let Some(status) = &job.status else { continue };
        let ended = status.benchmarks.iter().filter(|benchmark| {
            benchmark.reason == Some(Reason::Revoked)
                && benchmark
                    .secrets
                    .iter()
                    .any(|secret| secret.team == team && secret.name == name && secret.store == store.name_any())
        });
        let namespace = job.namespace().unwrap_or_default();
        present.extend(ended.map(|benchmark| {
            (benchmark.completion_time, format!("{namespace}/{}/{}", job.name_any(), benchmark.name))
        }));
    }
    present.sort();
    let present = present.into_iter().map(|(_, run)| run).collect();
    let (ended, runs) = tally(old.revoked.iter().find(|revoked| revoked.name == name), present);
    let live =
        users_of_secret(&ctx.sandboxes, team, name).len() + evaluations_of_secret(&ctx.evaljobs, team, name).len();
    RevokedStatus {
        name: name.to_owned(),
        runs_ended: ended,
        runs_ending: i64::try_from(live).unwrap_or(i64::MAX),
        runs,
    }
}

/// How many runs were ended, and the last of them: what was told before, and what is there now. The same again gives
/// the same again.
fn tally(before: Option<&RevokedStatus>, present: Vec<String>) -> (i64, Vec<String>) {
    let told = before.map_or(0, |before| before.runs_ended);
    let mut runs = before.map(|before| before.runs.clone()).unwrap_or_default();
    let count = |runs: &[String]| i64::try_from(runs.len()).unwrap_or(i64::MAX);
    let mut ended = told;
    if told == count(&runs) {
        // The list is whole: what is not in it is new.
        runs.extend(present.into_iter().filter(|run| !before.is_some_and(|before| before.runs.contains(run))));
        ended = count(&runs);
    } else if told <= count(&present) {
        ended = count(&present);
        runs = present;
    }
    runs.drain(..runs.len().saturating_sub(SHOWN));
    (ended, runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("team/run-{number}")).collect()
    }

    fn told((runs_ended, runs): (i64, Vec<String>)) -> RevokedStatus {
        RevokedStatus { name: "KEY".into(), runs_ended, runs_ending: 0, runs }
    }

    #[test]
    fn runs_are_counted_once() {
        let few = told(tally(None, runs(0..3)));
        assert_eq!(few.runs_ended, 3);
        // Two of them were deleted since, and one more has ended.
        let more = told(tally(Some(&few), runs(2..4)));
        assert_eq!((more.runs_ended, more.runs.clone()), (4, runs(0..4)));
        assert_eq!(told(tally(Some(&more), runs(2..4))), more);
    }

    #[test]
    fn more_runs_than_are_shown_are_counted_once() {
        let many = told(tally(None, runs(0..60)));
        assert_eq!((many.runs_ended, many.runs.clone()), (60, runs(10..60)));
        assert_eq!(told(tally(Some(&many), runs(0..60))), many, "a second look changes nothing");
        assert_eq!(told(tally(Some(&many), runs(0..61))).runs_ended, 61);
        assert_eq!(told(tally(Some(&many), runs(30..60))).runs_ended, 60, "deleted ones stay counted");
    }
}
