// What the page's parts share: elements, panels, tabs and short messages.
import { number, t } from "./texts.js";

/**
 * The first element that matches, of a type if one is given; null if there is none.
 * @template {Element} [T=HTMLElement]
 * @param {string} selector
 * @param {(new () => T) | null} type Such as HTMLInputElement.
 * @param {ParentNode} within
 * @returns {T | null}
 */
export function find(selector, type = null, within = document) {
  const found = within.querySelector(selector);
  return !type || found instanceof type ? /** @type {T | null} */ (/** @type {unknown} */ (found)) : null;
}

/**
 * All elements that match and are of a type.
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} type
 * @param {ParentNode} within
 */
export function all(selector, type, within = document) {
  return [...within.querySelectorAll(selector)].flatMap((one) => (one instanceof type ? [one] : []));
}

/**
 * The first element that matches, which the page always has.
 * @template {Element} [T=HTMLElement]
 * @param {string} selector
 * @param {(new () => T) | null} type Such as HTMLInputElement.
 * @param {ParentNode} within
 * @returns {T}
 * @throws {Error} if there is none, or none of that type.
 */
export function get(selector, type = null, within = document) {
  const found = find(selector, type, within);
  if (!found) throw new Error(`The page has no ${type?.name ?? "element"} "${selector}"`);
  return found;
}

/**
 * The element that an event happened in and that matches; null if it happened elsewhere.
 * @template {Element} [T=HTMLElement]
 * @param {Event} event
 * @param {string} selector
 * @param {(new () => T) | null} type Such as HTMLInputElement.
 * @returns {T | null}
 */
export function closest(event, selector, type = null) {
  const found = event.target instanceof Element ? event.target.closest(selector) : null;
  return !type || found instanceof type ? /** @type {T | null} */ (/** @type {unknown} */ (found)) : null;
}

/**
 * Shows the top of a tab.
 * @param {string} name "search", "collections" or "library".
 */
export function showTab(name) {
  selectTab(name);
  window.scrollTo({ top: 0 });
}

/** Shows a tab where it was left. @param {string} name */
export function selectTab(name) {
  const button = find(`#rz-tab-${CSS.escape(name)}-button`);
  if (button?.ariaSelected === "false") button.click();
}

/** Whether the keyboard is in a field, so that letters belong to it. */
export function typing() {
  const active = document.activeElement;
  return Boolean(active?.closest("input:not([type=checkbox]):not([type=range]), textarea, select"));
}

/**
 * An element with its attributes and children; texts are never parsed as HTML.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | null | undefined>} attributes Left out where
 *   they are false or missing.
 * @param {...(string | Node)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/**
 * A drawing of lines, 24 by 24, as in icons.html.
 * @param {string} path The "d" of an SVG path.
 * @param {number} size Pixels.
 */
export function icon(path, size = 18) {
  const drawn = element("span", { class: "rz-drawn", "aria-hidden": "true" });
  drawn.innerHTML =
    `<svg width="${size}" height="${size}" viewBox="0 0 24 24" fill="none" stroke="currentColor" ` +
    `stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"><path d="${path}"/></svg>`;
  return drawn;
}

/** Whether users may see where files are on the machine, as the server says in the page's head. */
export const isTrusted = () => Boolean(document.querySelector("meta[name=rz-trusted]"));

/**
 * Does what `fetch` does; without a session any more, loads the page again, to log in.
 * @param {string} route
 * @param {RequestInit} [options]
 */
export async function fetchRoute(route, options) {
  const response = await fetch(new URL(route, document.baseURI), options);
  if (response.status === 401) location.reload();
  return response;
}

/**
 * Sends values to a route that changes something; resolves to its answer.
 * @template Answer
 * @param {string} route
 * @param {object} values
 * @returns {Promise<Answer>}
 * @throws {Error} with a sentence for users.
 */
export async function post(route, values) {
  let response;
  try {
    response = await fetchRoute(route, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(values),
    });
  } catch {
    throw new Error(t("The server does not answer. Try again."));
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(sentence(answer.error ?? t("The server refused it.")));
  return answer;
}

/**
 * Calls back whenever the content of a panel that Gradio fills has changed.
 * @param {string} id
 * @param {(panel: HTMLElement) => void} callback
 */
export function onPanel(id, callback) {
  /** @type {HTMLElement | null} */
  let panel = null;
  const attach = () => {
    const found = document.getElementById(id);
    if (!found || found === panel) return;
    panel = found;
    new MutationObserver(() => callback(found)).observe(found, {
      attributes: true,
      attributeFilter: ["data-answer", "data-known", "data-ingest", "data-model", "data-instruction"],
      childList: true,
      subtree: true,
    });
    callback(found);
  };
  attach();
  new MutationObserver(attach).observe(document.body, { childList: true, subtree: true });
}

/**
 * @typedef {object} ToastAction What can be done about a message.
 * @property {string} label
 * @property {() => void} run
 * @property {boolean} [focus] Whether the keyboard goes there, and back when the message goes.
 */

/**
 * A short message at the bottom, for half a moment; longer if it comes with something to do, and as
 * long as the pointer or the keyboard is there.
 * @param {string} message
 * @param {ToastAction | null} action
 */
export function toast(message, action = null) {
  document.querySelector(".rz-toast")?.remove();
  const shown = element("div", { class: "rz-toast", role: "status" }, message);
  // What lies outside an open dialog, or outside what fills the screen, is beneath it.
  const over = document.fullscreenElement ?? document.querySelector("dialog:modal");
  (over ?? document.body).append(shown);
  if (action) addToastAction(shown, action);
  const leave = () => {
    if (shown.matches(":hover, :has(:focus-visible)")) setTimeout(leave, 1000);
    else shown.remove();
  };
  setTimeout(leave, action ? 8000 : 3500);
}

/** @param {HTMLElement} shown @param {ToastAction} action */
function addToastAction(shown, { label, run, focus }) {
  const before = document.activeElement;
  const button = element("button", { type: "button", class: "rz-link" }, label);
  const leave = () => {
    button.blur();
    if (!(before instanceof HTMLElement)) return;
    const same = `.rz-open[data-segment="${before.dataset.segment}"]`; // Of a list that was read again.
    (before.isConnected ? before : find(same))?.focus();
  };
  const close = () => {
    leave();
    shown.remove();
  };
  button.addEventListener("click", () => {
    close();
    run();
  });
  button.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    event.preventDefault(); // A dialog below stays open.
    close();
  });
  shown.append(button);
  if (!focus) return;
  button.focus();
  if (!button.matches(":focus-visible")) leave(); // The pointer is used, and not the keyboard.
}

/** Says in a short message why something failed. @param {unknown} error */
export const toastError = (error) => toast(reasonOf(error));

/** What an error says. @param {unknown} error */
export const reasonOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * Says in the place of content that the server does not answer, with a button to ask again.
 * @param {string} text
 * @param {Record<string, string | boolean>} button Attributes of the button.
 */
export function unanswered(text, button) {
  const again = element("button", { type: "button", class: "rz-button", ...button }, t("Try again"));
  const notice = element(
    "div",
    { class: "rz-notice", "data-tone": "error", role: "alert" },
    element("h2", {}, t("The server does not answer")),
    element("p", {}, text),
    element("div", { class: "rz-inline" }, again),
  );
  return notice.outerHTML;
}

/** A message with a capital, unless it begins with a file's name, and a full stop. @param {unknown} message */
export function sentence(message) {
  const text = String(message);
  const first = /^\S*[./\\]\w/.test(text) ? text.charAt(0) : text.charAt(0).toUpperCase();
  return first + text.slice(1) + (text.endsWith(".") ? "" : ".");
}

/** Bytes in a unit that keeps the number short. @param {number} bytes */
export function size(bytes) {
  const unit = Math.max(0, Math.min(4, Math.floor(Math.log10(bytes || 1) / 3)));
  const value = bytes / 1000 ** unit;
  const shortened = unit && value < 10 ? Math.round(value * 10) / 10 : Math.round(value);
  return `${number(shortened)} ${["bytes", "kB", "MB", "GB", "TB"][unit]}`;
}

/**
 * Asks a question.
 * @param {string} question
 * @param {string} yes
 * @returns {Promise<boolean>} Whether it was answered with the button `yes`.
 */
export function ask(question, yes) {
  const cancel = element("button", { class: "rz-button", autofocus: true }, t("Cancel"));
  const agree = element("button", { class: "rz-button rz-primary", value: "yes" }, yes);
  const dialog = element(
    "dialog",
    { class: "rz-question", "aria-labelledby": "rz-question" },
    element("p", { id: "rz-question" }, question),
    element("form", { method: "dialog", class: "rz-inline" }, agree, cancel),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
  });
}
