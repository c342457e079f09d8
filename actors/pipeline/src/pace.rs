//! How long what has come waits for more, so that what comes now and then is not kept waiting, and of what comes all the time
//! many go together.

use std::{ops::Add, time::Duration};

/// When something goes that came at `since`: once it has waited a `little`, but not within `delay` of the one that went
/// before at `last`; and when it has waited for `delay`, whatever went before.
pub fn due_at<I: Copy + Ord + Add<Duration, Output = I>>(
    since: I,
    last: Option<I>,
    little: Duration,
    delay: Duration,
) -> I {
    let latest = since + delay;
    last.map_or(latest, |last| (last + delay).max(since + little).min(latest))
}
