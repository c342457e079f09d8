// Topics: what the broker holds. Without a name in the address the list, with one that topic.
import { h } from "../dom.js";
import { TopicDetail } from "./topic-detail.js";
import { TopicList } from "./topic-list.js";
import { ProduceForm } from "./topic-produce.js";
import { RecordBrowser } from "./topic-records.js";

export const title = "Topics";

export const takesPath = true;

export const titleOf = (path) => path || title;

export function mount(slot, { path, query, isPaused, notFound }) {
  if (!path) {
    const list = new TopicList(query, (text) => remember("", text ? { filter: text } : {}));
    slot.append(...list.elements);
    const stop = list.start();
    return { unmount: stop };
  }
  const browser = new RecordBrowser(path, query, { isPaused, remember: (wanted) => remember(path, wanted) });
  const detail = new TopicDetail(path, {
    onPartitions: (partitions) => {
      browser.setPartitions(partitions);
      form.setPartitions(partitions);
    },
    onMissing: () => notFound(`There is no topic ${path}.`, { href: "#/topics", text: "All topics" }),
  });
  const form = new ProduceForm(path, () => browser.reload());
  slot.append(
    h("p", { class: "toolbar back" }, h("a", { href: "#/topics" }, "All topics"), detail.summary),
    h("div", { class: "columns wide-left" }, browser.element, h("div", { class: "stack" }, ...detail.elements, form.element)),
  );
  const stop = detail.start();
  browser.start();
  return {
    unmount: () => {
      stop();
      browser.stop();
    },
  };
}

/** Puts what is shown into the address, so that it can be kept and passed on. */
function remember(path, wanted) {
  const query = new URLSearchParams(wanted).toString();
  history.replaceState(null, "", `#/topics${path ? `/${encodeURIComponent(path)}` : ""}${query ? `?${query}` : ""}`);
}
