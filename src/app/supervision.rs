//! Policies of the configuration in the supervisors' words.

use std::time::Duration;

use streamward_kit::{
    ActorPath, Backoff, ChildPolicy, ChildSpec, Intensity, PathPattern, Restart, Strategy, SupervisorPolicy,
};

use super::AppError;
use crate::config::{self, SupervisionConfig};

/// The intensity of a supervisor.
pub fn intensity(config: &config::Intensity) -> Intensity {
    Intensity { max_restarts: config.max_restarts, within: config.within.into() }
}

/// The policy of an actor.
pub fn child_policy(config: &config::ActorPolicy) -> ChildPolicy {
    ChildPolicy {
        restart: match config.restart {
            config::Restart::Permanent => Restart::Permanent,
            config::Restart::Transient => Restart::Transient,
            config::Restart::Temporary => Restart::Temporary,
        },
        backoff: Backoff {
            first: Duration::ZERO,
            min: config.backoff.min.into(),
            max: config.backoff.max.into(),
            factor: config.backoff.factor,
            jitter: config.backoff.jitter,
            reset_after: config.backoff.reset_after.into(),
        },
        stop_within: config.shutdown.into(),
        stuck_after: Some(config.stuck_after.into()),
        no_progress_after: Some(config.no_progress_after.into()),
        ..ChildPolicy::default()
    }
}

fn strategy(config: config::Strategy) -> Strategy {
    match config {
        config::Strategy::OneForOne => Strategy::OneForOne,
        config::Strategy::OneForAll => Strategy::OneForAll,
        config::Strategy::RestForOne => Strategy::RestForOne,
    }
}

/// A child below `above`, with what `supervision.actors` says of it and of all below it.
///
/// # Errors
/// If an id of the tree is not valid.
pub fn adjusted(config: &SupervisionConfig, above: &ActorPath, mut child: ChildSpec) -> Result<ChildSpec, AppError> {
    let overrides = by_weight(config);
    child
        .adjust(above, &mut |path, policy, supervision| {
            let matching = overrides.iter().filter(|(pattern, _)| pattern.matches(path));
            let (mut own, mut differs) = (config.defaults.clone(), false);
            let mut supervision = supervision;
            for (pattern, each) in matching {
                (own, differs) = (each.over(&own), true);
                if pattern.depth() == path.segments().count()
                    && let Some(supervision) = supervision.as_deref_mut()
                {
                    of_supervisor(each, supervision);
                }
            }
            if differs {
                *policy = child_policy(&own);
            }
        })
        .map_err(|error| AppError::open("the supervision tree", error))?;
    Ok(child)
}

fn of_supervisor(config: &config::ActorOverride, policy: &mut SupervisorPolicy) {
    if let Some(own) = config.strategy {
        policy.strategy = strategy(own);
    }
    if let Some(own) = &config.intensity {
        policy.intensity = intensity(own);
    }
}

/// The longer a pattern and the fewer of its segments are `*`, the later it comes, and so the more it counts.
fn by_weight(config: &SupervisionConfig) -> Vec<(PathPattern, &config::ActorOverride)> {
    let mut overrides: Vec<_> = config.actors.iter().map(|(text, own)| (PathPattern::new(text), own)).collect();
    overrides.sort_by_key(|(pattern, _)| (pattern.depth(), pattern.named()));
    overrides
}

#[cfg(test)]
mod tests {
    use streamward_kit::{Runtime, SupervisorSpec, TreeNode};

    use super::*;
    use crate::config::ActorOverride;

    fn tree(yaml: &[(&str, &str)]) -> TreeNode {
        let parse = |text: &str| serde_saphyr::from_str::<ActorOverride>(text).unwrap();
        let actors = yaml.iter().map(|(path, text)| ((*path).to_owned(), parse(text))).collect();
        let config = SupervisionConfig { actors, ..SupervisionConfig::default() };
        let role = |id: &str| {
            ChildSpec::role(id, id, |scope| async move {
                scope.stopping().await;
                Ok(())
            })
        };
        let pipeline =
            |id: &str| ChildSpec::supervisor(SupervisorSpec::new(id).child(role("sink")).child(role("lane")));
        let group = SupervisorSpec::new("pipelines").child(pipeline("a")).child(pipeline("b"));
        let child = adjusted(&config, &ActorPath::root(), ChildSpec::supervisor(group)).unwrap();
        actix_rt::System::new().block_on(async move {
            let runtime = Runtime::start(SupervisorSpec::new("root").child(child)).unwrap();
            let tree = runtime.snapshot();
            runtime.shutdown(Vec::new()).await;
            tree
        })
    }

    #[test]
    fn the_most_particular_pattern_counts_and_others_fill_in() {
        let tree = tree(&[
            ("pipelines/a/sink", "{ stuck_after: 1s }"),
            ("pipelines/*/sink", "{ stuck_after: 2s, backoff: { max: 3s } }"),
            ("pipelines/a", "{ shutdown: 4s }"),
        ]);
        let policy = |path: &str| tree.find(path).unwrap().policy;
        let limit = |path: &str| policy(path).stuck_after.unwrap().as_secs();
        assert_eq!((limit("pipelines/a/sink"), limit("pipelines/b/sink")), (1, 2));
        assert_eq!(policy("pipelines/a/sink").backoff.max.as_secs(), 3);
        assert_eq!(policy("pipelines/a/lane").stop_within.as_secs(), 4);
        assert_eq!(policy("pipelines/b/lane"), ChildPolicy::default());
    }

    #[test]
    fn strategy_and_intensity_are_of_the_supervisor_named_alone() {
        let text = "{ strategy: rest_for_one, intensity: { max_restarts: 2, within: 5s } }";
        let tree = tree(&[("pipelines/a", text)]);
        let strategy = |path: &str| tree.find(path).unwrap().strategy.unwrap();
        assert_eq!(strategy("pipelines/a"), Strategy::RestForOne);
        assert_eq!(tree.find("pipelines/a").unwrap().intensity.unwrap().max_restarts, 2);
        assert_eq!((strategy("pipelines"), strategy("pipelines/b")), (Strategy::OneForOne, Strategy::OneForOne));
    }
}
