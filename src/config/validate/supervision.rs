//! Section `supervision`: waits that fit each other, and paths that lead to an actor.

use streamward_kit::PathPattern;

use super::Check;
use crate::config::{ActorPolicy, CHILDLESS, Config, actor_paths};

pub fn all(config: &Config, check: &mut Check<'_>) {
    let supervision = &config.supervision;
    policy("supervision.defaults", &supervision.defaults, check);
    let known = actor_paths(config);
    for (text, own) in &supervision.actors {
        let (path, pattern) = (format!("supervision.actors.{text}"), PathPattern::new(text));
        let there = || known.iter().filter(|known| pattern.depth() > 0 && pattern.covers(known.split('/')));
        if there().next().is_none() {
            let message = format!("no actor is there; there are {}, and supervisors above them", known.join(", "));
            check.fault(&path, message);
        }
        policy(&path, &own.over(&supervision.defaults), check);
        let is_below = |known: &String| known.split('/').count() > pattern.depth();
        let has_supervisor = there().any(|known| is_below(known) || CHILDLESS.contains(&known.as_str()));
        let message = "strategy and intensity are for supervisors, and this is an actor without any below it";
        check.require(has_supervisor || (own.strategy.is_none() && own.intensity.is_none()), &path, message);
    }
}

fn policy(path: &str, policy: &ActorPolicy, check: &mut Check<'_>) {
    let backoff = &policy.backoff;
    check.require(backoff.min <= backoff.max, &format!("{path}.backoff.max"), "must not be less than min");
}
