// Whom the server takes this page for, so that it offers only what will be allowed.
import { resource } from "./resources.js";

const EVERY_MS = 15_000;
const ROLES = ["viewer", "operator", "admin"];

const caller = resource("/api/v1/caller", { everyMs: EVERY_MS });

export const onCaller = (listener) => caller.subscribe(listener);

/** Why the access token in use may not do what needs `role`; null where it may, or where the server does not say. */
export function hindrance(role) {
  const own = caller.state.data?.role;
  if (!ROLES.includes(own) || ROLES.indexOf(own) >= ROLES.indexOf(role)) return null;
  return `This needs an access token with the role ${role}; the one in use has ${own}.`;
}
