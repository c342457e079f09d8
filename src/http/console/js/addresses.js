// Addresses of things in the console.

/** The address of an actor. */
export const actorAddress = (path) => `#/supervision/${path.split("/").filter(Boolean).map(encodeURIComponent).join("/")}`;

/** The address of a record: its topic's page, from that record on. */
export const recordAddress = ({ topic, partition, offset }) => `#/topics/${encodeURIComponent(topic)}?${new URLSearchParams({ partition, offset })}`;
