// Building and updating elements. Data only ever enters the page as text nodes and attributes, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (`onclick` and the like are listeners; null and false are left out) and children. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  setAttributes(element, attributes);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  setAttributes(element, attributes);
  element.append(...children);
  return element;
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
}

export const icon = (name) => svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `/console/img/icons.svg#${name}` }));

/** Changes a text only when it differs, so that selections and screen readers are left alone. */
export function setText(element, text) {
  const next = String(text);
  if (element.textContent !== next) element.textContent = next;
}

/**
 * Makes `parent`'s children mirror `items`, reusing the element of a known key: focus and scroll position survive an update.
 * `make(item)` returns an element; `update(element, item)` fills it, also right after it was made.
 * With `after`, the children up to and with that one are left alone.
 */
export function keyed(parent, items, { key, make, update, after = null }) {
  const known = parent.keyedChildren ?? new Map();
  const next = new Map();
  let cursor = after ? after.nextSibling : parent.firstChild;
  for (const item of items) {
    const id = key(item);
    const element = known.get(id) ?? make(item);
    update(element, item);
    next.set(id, element);
    if (element === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(element, cursor);
  }
  for (const [id, element] of known) if (next.get(id) !== element) element.remove();
  parent.keyedChildren = next;
}

/** A name that may break after its underscores, dots and slashes. */
export const breakable = (text) => String(text).split(/(?<=[_./])/).flatMap((part, index) => (index > 0 ? [document.createElement("wbr"), part] : [part]));

/** A badge: a tone (good, warn, bad, info, quiet) always comes with its word. */
export const badge = (text, tone = "quiet") => h("span", { class: `badge ${tone}` }, text);

export function setBadge(element, text, tone) {
  setText(element, text);
  const wanted = `badge ${tone}`;
  if (element.className !== wanted) element.className = wanted;
}

/** A titled region of a page; `aside` goes to the right of the title. */
export function panel(title, { aside = null, className = "" } = {}, ...children) {
  const heading = h("h2", {}, title);
  return h("section", { class: `panel ${className}`.trim() }, h("div", { class: "panel-head" }, heading, aside), ...children);
}

/** What a list shows instead of rows: what would be here, and how to make it appear. */
export const empty = (title, ...hint) => h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", {}, ...hint));

export const code = (text) => h("code", {}, text);

/** Replaces the children of `slot` by what `build` makes, but only when `state` changed since the last call. */
export function swap(slot, state, build) {
  if (slot.dataset.shown === state) return;
  slot.dataset.shown = state;
  const content = build();
  slot.replaceChildren(...[content].flat().filter((part) => part !== null && part !== undefined));
}

/** One-of-many buttons, as a labelled group of toggles. */
export function choice(label, options, onChoose) {
  const buttons = options.map(([value, text], index) =>
    h("button", { type: "button", "aria-pressed": String(index === 0), onclick: () => select(value) }, text),
  );
  const select = (value) => {
    options.forEach(([other], index) => buttons[index].setAttribute("aria-pressed", String(other === value)));
    onChoose(value);
  };
  return h("div", { class: "choice", role: "group", "aria-label": label }, ...buttons);
}
