// Whether the server answers. Once a request or a live feed gets no answer, the server is asked each second until it does; then
// everything that waits tries again at once.

const EVERY_MS = 1000;
/** Longer than an answer takes, and short, since a connection that hangs may hang on when the server is back. */
const WITHIN_MS = 1500;

const awayListeners = new Set();
const backListeners = new Set();
let isAsking = false;
let isGone = false;

/** Whether the server did not answer when it was asked last. */
export const isAway = () => isGone;

/** Calls `listener` each time the server has gone, until the returned function is called. */
export const onAway = (listener) => listen(awayListeners, listener);

/** Calls `listener` each time the server is back, until the returned function is called. */
export const onBack = (listener) => listen(backListeners, listener);

function listen(listeners, listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Somebody got no answer. */
export async function noteSilence() {
  if (isAsking) return;
  isAsking = true;
  while (!(await answers())) {
    if (!isGone) {
      isGone = true;
      for (const listener of awayListeners) listener();
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
  isAsking = false;
  if (!isGone) return;
  isGone = false;
  for (const listener of backListeners) listener();
}

async function answers() {
  try {
    return (await fetch("/health/live", { cache: "no-store", signal: AbortSignal.timeout(WITHIN_MS) })).ok;
  } catch {
    return false;
  }
}
