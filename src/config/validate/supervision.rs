//! Section `supervision`: bounds of policies, and paths that lead to an actor.

use streamward_kit::PathPattern;

use super::{Check, limits::more_than_nothing};
use crate::config::{ActorPolicy, CHILDLESS, Config, HumanDuration, Intensity, actor_paths};

/// The watchdog looks that often at messages in hand.
const MIN_STUCK_AFTER: HumanDuration = HumanDuration::from_millis(50);
/// The watchdog looks twice in that time whether anything was done.
const MIN_NO_PROGRESS_AFTER: HumanDuration = HumanDuration::from_secs(2);

pub fn all(config: &Config, check: &mut Check<'_>) {
    let supervision = &config.supervision;
    policy("supervision.defaults", &supervision.defaults, check);
    intensity("supervision.root", &supervision.root, check);
    intensity("supervision.pipelines", &supervision.pipelines, check);
    let known = actor_paths(config);
    for (text, own) in &supervision.actors {
        let (path, pattern) = (format!("supervision.actors.{text}"), PathPattern::new(text));
        let there = || known.iter().filter(|known| pattern.depth() > 0 && pattern.covers(known.split('/')));
        if there().next().is_none() {
            let message = format!("no actor is there; there are {}, and supervisors above them", known.join(", "));
            check.fault(&path, message);
        }
        policy(&path, &own.over(&supervision.defaults), check);
        if let Some(own) = &own.intensity {
            intensity(&format!("{path}.intensity"), own, check);
        }
        let is_below = |known: &String| known.split('/').count() > pattern.depth();
        let has_supervisor = there().any(|known| is_below(known) || CHILDLESS.contains(&known.as_str()));
        let message = "strategy and intensity are for supervisors, and this is an actor without any below it";
        check.require(has_supervisor || (own.strategy.is_none() && own.intensity.is_none()), &path, message);
    }
}

fn policy(path: &str, policy: &ActorPolicy, check: &mut Check<'_>) {
    let backoff = &policy.backoff;
    more_than_nothing(&format!("{path}.shutdown"), policy.shutdown, check);
    more_than_nothing(&format!("{path}.backoff.min"), backoff.min, check);
    more_than_nothing(&format!("{path}.backoff.reset_after"), backoff.reset_after, check);
    check.require(backoff.min <= backoff.max, &format!("{path}.backoff.max"), "must not be less than min");
    check.range(&format!("{path}.backoff.factor"), backoff.factor, 1.0..=100.0);
    check.range(&format!("{path}.backoff.jitter"), backoff.jitter, 0.0..=1.0);
    let limits = [
        ("stuck_after", policy.stuck_after, MIN_STUCK_AFTER),
        ("no_progress_after", policy.no_progress_after, MIN_NO_PROGRESS_AFTER),
    ];
    for (key, limit, least) in limits {
        check.require(limit >= least, &format!("{path}.{key}"), &format!("must be at least {least}"));
    }
}

pub fn intensity(path: &str, intensity: &Intensity, check: &mut Check<'_>) {
    let restarts = format!("{path}.max_restarts");
    check.range(&restarts, intensity.max_restarts, 1..=10_000);
    more_than_nothing(&format!("{path}.within"), intensity.within, check);
}
