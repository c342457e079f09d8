//! Changing how actors are looked after while they run.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use streamward_core::ports::OpsError;
use streamward_kit::{ActorPath, ChildPolicy, PolicyError, Runtime, SupervisorPolicy, TreeNode};

use super::operations::refusal;

/// Keys of a supervisor's policy for its children; all others are of its own.
const OF_SUPERVISORS: [&str; 3] = ["strategy", "intensity", "max_children"];

/// Puts new values of some keys into a node's policies.
///
/// # Errors
/// An unknown node or key, a value that is not what it may be, a key for supervisors at another node.
pub async fn change(runtime: &Runtime, path: &ActorPath, patch: Map<String, Value>) -> Result<(), OpsError> {
    let node = runtime.node(path).ok_or_else(|| OpsError::UnknownPath(path.to_string()))?;
    let patch = in_our_words(patch);
    let (own, others): (Map<_, _>, Map<_, _>) =
        patch.into_iter().partition(|(key, _)| !OF_SUPERVISORS.contains(&key.as_str()));
    let own = if own.is_empty() { None } else { Some(patched(&node.policy, own)?) };
    let others = if others.is_empty() { None } else { Some(patched(&supervision(&node)?, others)?) };
    // Both are checked before either is in force.
    own.as_ref().map_or(Ok(()), ChildPolicy::check).map_err(|error| invalid(&error))?;
    others.as_ref().map_or(Ok(()), SupervisorPolicy::check).map_err(|error| invalid(&error))?;
    if let Some(policy) = own {
        runtime.set_policy(path, policy).await.map_err(refusal)?;
    }
    if let Some(policy) = others {
        runtime.set_supervision(path, policy).await.map_err(refusal)?;
    }
    Ok(())
}

/// The key that the configuration has for a stop limit is taken, too.
fn in_our_words(mut patch: Map<String, Value>) -> Map<String, Value> {
    if let Some(limit) = patch.remove("shutdown") {
        patch.insert("stop_within".to_owned(), limit);
    }
    patch
}

fn supervision(node: &TreeNode) -> Result<SupervisorPolicy, OpsError> {
    match (node.strategy, node.intensity, node.max_children) {
        (Some(strategy), Some(intensity), Some(max_children)) => {
            Ok(SupervisorPolicy { strategy, intensity, max_children })
        }
        _ => Err(OpsError::Invalid {
            field: OF_SUPERVISORS.join(", "),
            reason: format!("{} is not a supervisor, which alone has these keys", node.path),
        }),
    }
}

fn patched<T: Serialize + DeserializeOwned>(policy: &T, patch: Map<String, Value>) -> Result<T, OpsError> {
    let mut value = serde_json::to_value(policy).map_err(|error| OpsError::Unavailable(error.to_string()))?;
    merge(&mut value, Value::Object(patch));
    serde_path_to_error::deserialize(value)
        .map_err(|error| OpsError::Invalid { field: error.path().to_string(), reason: error.into_inner().to_string() })
}

/// Objects are merged by key, anything else is replaced.
fn merge(value: &mut Value, patch: Value) {
    match (value, patch) {
        (Value::Object(known), Value::Object(patch)) => {
            for (key, new) in patch {
                merge(known.entry(key).or_insert(Value::Null), new);
            }
        }
        (value, patch) => *value = patch,
    }
}

fn invalid(error: &PolicyError) -> OpsError {
    OpsError::Invalid { field: error.field.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use streamward_kit::{ChildSpec, Strategy, SupervisorSpec};

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    /// Changes a tree of one group with one role; the node afterwards.
    fn changed(path: &str, patch: Value) -> Result<TreeNode, OpsError> {
        let path = ActorPath::parse(path).unwrap();
        actix_rt::System::new().block_on(async move {
            let role = ChildSpec::role("role", "role", |scope| async move {
                scope.stopping().await;
                Ok(())
            });
            let group = SupervisorSpec::new("group").child(role);
            let runtime = Runtime::start(SupervisorSpec::new("root").child(ChildSpec::supervisor(group))).unwrap();
            let outcome = change(&runtime, &path, object(&patch)).await;
            let node = runtime.node(&path);
            runtime.shutdown(Vec::new()).await;
            outcome.map(|()| node.unwrap())
        })
    }

    #[test]
    fn some_keys_change_and_the_others_stay() {
        let node = changed("group/role", json!({"restart": "transient", "backoff": {"max": "2s"}})).unwrap();
        let expected = ChildPolicy::transient();
        assert_eq!(node.policy.backoff.max, Duration::from_secs(2));
        assert_eq!(ChildPolicy { backoff: expected.backoff, ..node.policy }, expected);
    }

    #[test]
    fn a_supervisor_has_policies_of_both_kinds() {
        let patch = json!({"strategy": "one-for-all", "intensity": {"max_restarts": 2}, "stop_within": "9s"});
        let node = changed("group", patch).unwrap();
        assert_eq!((node.strategy, node.intensity.unwrap().max_restarts), (Some(Strategy::OneForAll), 2));
        assert_eq!(node.policy.stop_within, Duration::from_secs(9));
    }

    #[test]
    fn the_words_of_the_configuration_are_taken_too() {
        let node = changed("group", json!({"strategy": "rest_for_one", "shutdown": "9s"})).unwrap();
        assert_eq!((node.strategy, node.policy.stop_within), (Some(Strategy::RestForOne), Duration::from_secs(9)));
    }

    #[test]
    fn what_is_not_valid_is_named_and_changes_nothing() {
        let field = |path: &str, patch| match changed(path, patch) {
            Err(OpsError::Invalid { field, reason }) => format!("{field}: {reason}"),
            other => panic!("{other:?}"),
        };
        assert!(field("group/role", json!({"strategy": "one-for-all"})).contains("not a supervisor"));
        assert!(field("group/role", json!({"backoff": {"factor": 0}})).starts_with("backoff.factor: "));
        assert!(field("group/role", json!({"restarts": 3})).contains("unknown field `restarts`"));
        assert!(field("group/role", json!({"backoff": {"max": "soon"}})).starts_with("backoff.max: `soon` is not"));
        assert!(field("group", json!({"stop_within": "1s", "max_children": 0})).starts_with("max_children: "));
        assert!(matches!(changed("nobody", json!({})), Err(OpsError::UnknownPath(_))));
    }
}
