// The pill beside a page's title: green only while figures come in and the server finds nothing wrong with itself. Pure functions.

const FEED = { connecting: "Connecting", reconnecting: "Reconnecting", offline: "Offline" };

/**
 * `{state, text, title}`. `feed` is the state of the live feed, null where the server has none for this page; `isAway` says that the server
 * does not answer, and `health` is what it said last.
 */
export function pillOf({ isPaused, isAway, feed, health }) {
  if (isPaused) return { state: "paused", text: "Paused", title: "This page does not update" };
  if (isAway) return { state: "offline", text: "Offline", title: "The server does not answer; it is asked each second" };
  if (feed && feed.state !== "live") return { state: feed.state, text: FEED[feed.state], title: waiting(feed.retryAt) };
  if (!health.data) return { state: "connecting", text: "Connecting", title: "The server has not said yet how it is" };
  if (!health.data.ready) return { state: "not-ready", text: "Not ready", title: "The server is not ready; see above the page" };
  if (!health.data.isWhole) return { state: "degraded", text: "Degraded", title: "Something stands still; see above the page" };
  return { state: "live", text: "Live", title: feed ? "Readings are shown as they come" : "Figures are asked for every 2 seconds" };
}

function waiting(retryAt) {
  const seconds = retryAt ? Math.max(0, Math.ceil((retryAt - Date.now()) / 1000)) : 0;
  return seconds > 0 ? `The live feed is tried again in ${seconds} s` : "State of the live feed";
}
