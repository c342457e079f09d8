// Sets the remembered theme before the first paint. A plain script, since modules run too late for that.
try {
  const theme = localStorage.getItem("streamward.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; the system's theme is used then.
}
