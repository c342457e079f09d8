// The light/dark switch. Choosing what the system already has forgets the choice, so that the page follows the system again.
import { h, icon } from "./dom.js";

const KEY = "streamward.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

export const onThemeChange = (listener) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

const systemTheme = () => (system.matches ? "dark" : "light");
const currentTheme = () => document.documentElement.dataset.theme ?? systemTheme();

function remember(theme) {
  try {
    if (theme === systemTheme()) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Without storage the choice holds until the page is closed.
  }
}

function choose(theme) {
  if (theme === systemTheme()) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  remember(theme);
}

export function startTheme(button) {
  const paint = () => {
    const next = currentTheme() === "dark" ? "light" : "dark";
    button.replaceChildren(icon(next === "dark" ? "moon" : "sun"), next === "dark" ? "Dark" : "Light", h("span", { class: "rest" }, " theme"));
    button.setAttribute("aria-label", `Switch to ${next} theme`);
    for (const listener of listeners) listener();
  };
  button.addEventListener("click", () => {
    choose(currentTheme() === "dark" ? "light" : "dark");
    paint();
  });
  system.addEventListener("change", paint);
  paint();
}
