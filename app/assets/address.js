// The address is the state of the search: what is searched for, and which result is open.

import { showTab } from "./dom.js";

const MAX_LENGTH = 8000; // Characters: servers refuse longer addresses when a page is loaded again.
const TITLE = "RzenEmbed Search";

/** @typedef {import("./attached.js").Attachment} Attachment */

/** The parameters of the address, by the fields of the search form. */
const PARAMETERS = {
  text: "q",
  literal: "literal",
  kinds: "kind",
  folder: "folder",
  album: "album",
  after: "after",
  before: "before",
  has_text: "text",
  not_like: "not",
  instruction: "instruction",
  sort: "sort",
  border: "border",
  similar: "like",
};

/** @typedef {Record<keyof typeof PARAMETERS, string>} Search The fields of the search form, as texts. */

const FIELDS = /** @type {(keyof typeof PARAMETERS)[]} */ (Object.keys(PARAMETERS));

/**
 * What the address says.
 * @returns {{form: Search, files: Attachment[], open: string | null, tab: string}}
 *   The form's fields, kinds and segments joined by commas; the sent files and the names of the
 *   segments, which only this browser knows; the segment whose detail is open; and the tab.
 */
export function readAddress() {
  const parameters = new URLSearchParams(location.search);
  const form = /** @type {Search} */ ({});
  for (const field of FIELDS) form[field] = parameters.get(PARAMETERS[field]) ?? "";
  const tab = parameters.get("tab") ?? "search";
  return { form, files: history.state?.files ?? [], open: parameters.get("open"), tab };
}

/**
 * Writes the state of the search into the address, and what it is about into the title.
 * @param {Search} form
 * @param {Attachment[]} files
 * @param {{replace?: boolean}} how Whether to refine the latest entry of the history.
 */
export function writeSearch(form, files, { replace = false } = {}) {
  const parameters = new URLSearchParams();
  for (const field of FIELDS) {
    if (form[field]) parameters.set(PARAMETERS[field], form[field]);
  }
  if (parameters.toString().length > MAX_LENGTH) parameters.delete(PARAMETERS.text);
  write(parameters, { files }, replace);
  showTitle(form.text || files[0]?.name);
}

/**
 * The address of a search whose fields are as the server keeps them, lists among them.
 * @param {{ [field: string]: string | number | (string | number)[] | undefined }} search
 */
export function addressOf(search) {
  const parameters = new URLSearchParams();
  for (const field of FIELDS) {
    const value = [search[field] ?? ""].flat().join(",");
    if (value) parameters.set(PARAMETERS[field], value);
  }
  return target(parameters);
}

/** Notes that another tab is shown; the search stays behind it. @param {string} tab */
export function writeTab(tab) {
  const parameters = new URLSearchParams(location.search);
  if (tab === "search") parameters.delete("tab");
  else parameters.set("tab", tab);
  write(parameters, { ...history.state, opened: false }, false);
}

/** Goes to another address of this page, which is not loaded again. @param {string} address */
export function follow(address) {
  history.pushState(null, "", address);
  showTab("search");
  window.dispatchEvent(new PopStateEvent("popstate"));
}

/** Names what is searched for in the document's title. @param {string} [about] */
export function showTitle(about) {
  document.title = about ? `${about} – ${TITLE}` : TITLE;
}

/** The address with another result open, or none. @param {string | null} [segment] */
export function withOpen(segment) {
  const parameters = new URLSearchParams(location.search);
  if (segment) parameters.set("open", segment);
  else parameters.delete("open");
  return target(parameters);
}

/**
 * Notes that a result has been opened, another one shown in its place, or the last one closed.
 * @param {string | null} segment
 * @param {{push?: boolean}} how Whether Back leads to the one before, as after following a link.
 */
export function writeOpen(segment, { push = false } = {}) {
  const before = new URLSearchParams(location.search).get("open");
  if (before === segment) return;
  const { opened = 0, ...state } = history.state ?? {}; // Entries since the list; 0 without one.
  if (!segment && opened) {
    history.go(-opened); // To where it was opened.
    return;
  }
  const isNew = Boolean(segment) && (push || !before);
  // Closing leaves the list where it is by then: at the result shown last.
  if (!before) history.scrollRestoration = "manual";
  const entries = isNew && (opened || !before) ? opened + 1 : opened;
  history[isNew ? "pushState" : "replaceState"]({ ...state, opened: entries }, "", withOpen(segment));
}

/**
 * @param {URLSearchParams} parameters
 * @param {{ files?: Attachment[] }} state
 * @param {boolean} replace
 */
function write(parameters, state, replace) {
  const address = target(parameters);
  const same = address === target(new URLSearchParams(location.search));
  /** @param {{ files?: Attachment[] }} state */
  const sent = ({ files = [] } = {}) => files.map(({ id }) => id).join();
  if (same && sent(history.state ?? {}) === sent(state)) return;
  history[replace ? "replaceState" : "pushState"](state, "", address);
}

/**
 * Relative, for pages that are served below a path. Commas separate kinds and segments, and stay readable.
 * @param {URLSearchParams} parameters
 */
function target(parameters) {
  const query = parameters.toString().replaceAll("%2C", ",");
  return query ? `?${query}` : location.pathname;
}
