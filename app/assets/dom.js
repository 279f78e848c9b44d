// What the page's parts share: elements, panels, tabs and short messages.

/** The first element that matches. */
export const find = (selector) => document.querySelector(selector);

/** Shows "search" or "library". */
export function showTab(name) {
  const tabs = document.querySelectorAll("#rz-tabs [role=tab]");
  const wanted = [...tabs].find((tab) => tab.textContent.trim().toLowerCase() === name);
  wanted?.click();
  window.scrollTo({ top: 0 });
}

/** Whether the keyboard is in a field, so that letters belong to it. */
export function typing() {
  const active = document.activeElement;
  return Boolean(active?.closest("input:not([type=checkbox]):not([type=range]), textarea, select"));
}

/** An element with its attributes and children; texts are never parsed as HTML. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Calls back whenever the content of a panel that Gradio fills has changed. */
export function onPanel(id, callback) {
  let panel = null;
  const attach = () => {
    const found = document.getElementById(id);
    if (!found || found === panel) return;
    panel = found;
    new MutationObserver(() => callback(panel)).observe(panel, {
      attributes: true,
      attributeFilter: ["data-answer", "data-known", "data-ingest", "data-model", "data-instruction"],
      childList: true,
      subtree: true,
    });
    callback(panel);
  };
  attach();
  new MutationObserver(attach).observe(document.body, { childList: true, subtree: true });
}

/** A short message at the bottom, for half a moment. */
export function toast(message) {
  document.querySelector(".rz-toast")?.remove();
  const shown = element("div", { class: "rz-toast", role: "status" }, message);
  document.body.append(shown);
  setTimeout(() => shown.remove(), 3500);
}

/** A message with a capital, unless it begins with a file's name, and a full stop. */
export function sentence(message) {
  const text = String(message);
  const first = /^\S*[./\\]\w/.test(text) ? text.charAt(0) : text.charAt(0).toUpperCase();
  return first + text.slice(1) + (text.endsWith(".") ? "" : ".");
}
