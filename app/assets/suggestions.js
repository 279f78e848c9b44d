// Suggestions below the search box while words are typed, and the latest searches of this browser.
import { closest, element, fetchRoute, find, get } from "./dom.js";
import { t, tn } from "./texts.js";

/**
 * @typedef {object} Suggestion See `app.suggestions.Suggestion`.
 * @property {string} kind "recent" for an earlier search.
 * @property {string} label
 * @property {string} text
 * @property {string} [folder]
 * @property {number} [files]
 * @property {number} [segment]
 * @property {{ [field: string]: string | number | (string | number)[] }} [search] Saved.
 */

const DELAY = 80; // Milliseconds without another letter, before the server is asked.
const RECENT = "rz-recent-searches";
const MAX_RECENT = 20;
const SHOWN_RECENT = { empty: 8, typing: 2 };
/** @type {Record<string, string>} By kind. */
const NOTES = {
  spelling: t("Did you mean"),
  people: t("Person"),
  keywords: t("Keyword"),
  place: t("Place"),
  file: t("File"),
  recent: t("Searched before"),
  saved: t("Saved search"),
};

/** @type {Record<string, string>} By kind. */
const ICONS = { folder: "folder", recent: "recent", saved: "saved" };

/** @type {(chosen: Suggestion) => void} */
let choose = () => {};
/** @type {AbortController | null} */
let asked = null; // Of the latest request.
/** @type {ReturnType<typeof setTimeout>} */
let timer;
/** @type {Suggestion[]} */
let shown = [];
let active = -1;

const box = () => get("#rz-text", HTMLInputElement);

/** @param {(chosen: Suggestion) => void} chosen Called with what the user has chosen. */
export function startSuggestions(chosen) {
  choose = chosen;
  document.addEventListener("input", (event) => {
    if (event.target === box()) ask();
  });
  document.addEventListener("keydown", onKey, { capture: true });
  document.addEventListener("click", onClick);
  document.addEventListener("pointerdown", (event) => {
    if (closest(event, "#rz-suggestions")) event.preventDefault(); // The box stays focused.
    else if (event.target !== box()) closeSuggestions();
  });
  document.addEventListener("focusout", (event) => event.target === box() && closeSuggestions());
}

/** Hides the suggestions; none that are on their way come. */
export function closeSuggestions() {
  clearTimeout(timer);
  asked?.abort();
  show([]);
}

/** Notes what was searched for; only this browser knows. @param {string} text */
export function rememberSearch(text) {
  if (!text) return;
  const others = recent().filter((one) => one !== text);
  store([text, ...others].slice(0, MAX_RECENT));
}

/** @returns {string[]} */
function recent() {
  try {
    return JSON.parse(localStorage.getItem(RECENT) ?? "null") ?? [];
  } catch {
    return []; // The browser keeps nothing, or what it kept is damaged.
  }
}

/** @param {string[]} texts */
function store(texts) {
  try {
    localStorage.setItem(RECENT, JSON.stringify(texts));
  } catch {
    // The browser keeps nothing.
  }
}

/** @param {string} text */
function recentLike(text) {
  const begins = text.trim().toLowerCase();
  return recent()
    .filter((one) => one.toLowerCase().startsWith(begins) && one.toLowerCase() !== begins)
    .slice(0, begins ? SHOWN_RECENT.typing : SHOWN_RECENT.empty)
    .map((one) => ({ kind: "recent", label: one, text: one }));
}

function ask() {
  clearTimeout(timer);
  asked?.abort();
  const text = box().value;
  if (!text.trim()) show([]);
  else timer = setTimeout(() => request(text), DELAY);
}

/** @param {string} text */
async function request(text) {
  const { signal } = (asked = new AbortController());
  /** @type {Suggestion[]} */
  let found = [];
  try {
    const response = await fetchRoute(`suggestions?q=${encodeURIComponent(text)}`, { signal });
    if (response.ok) found = await response.json();
  } catch {
    // The server does not answer, which the search will say.
  }
  if (!signal.aborted) show([...recentLike(text), ...found]);
}

/** @param {Suggestion[]} suggestions */
function show(suggestions) {
  const place = find("#rz-suggestions");
  if (!place) return;
  shown = suggestions;
  place.hidden = !shown.length;
  box().setAttribute("aria-expanded", String(Boolean(shown.length)));
  get("[role=listbox]", null, place).replaceChildren(...shown.map(option));
  get("[data-clear-recent]", null, place).hidden = !shown.some(({ kind }) => kind === "recent");
  activate(-1);
}

/** @param {Element} icon */
const copyOf = (icon) => /** @type {Element} */ (icon.cloneNode(true));

/** @param {Suggestion} suggestion @param {number} number */
function option({ kind, label, files, segment }, number) {
  const note = kind === "folder" ? tn("{n} file", "{n} files", files ?? 0) : (NOTES[kind] ?? "");
  const icon = segment
    ? element("img", { src: `thumbnail/${segment}`, alt: "" })
    : copyOf(get(`#rz-suggestions [data-icon="${ICONS[kind] ?? "search"}"]`, Element));
  icon.addEventListener("error", () => icon.remove()); // A text has no thumbnail.
  return element(
    "li",
    { role: "option", id: `rz-suggestion-${number}`, "data-suggestion": String(number), "aria-selected": "false" },
    icon,
    element("span", { class: "rz-suggested" }, label),
    element("span", { class: "rz-note" }, note),
  );
}

/** @param {number} number */
function activate(number) {
  active = number;
  for (const one of document.querySelectorAll("[data-suggestion]")) {
    const isActive = Number(one.dataset.suggestion) === number;
    one.setAttribute("aria-selected", String(isActive));
    if (isActive) one.scrollIntoView({ block: "nearest" });
  }
  if (number < 0) box().removeAttribute("aria-activedescendant");
  else box().setAttribute("aria-activedescendant", `rz-suggestion-${number}`);
}

/** @param {Suggestion} suggestion */
function accept(suggestion) {
  closeSuggestions();
  choose(suggestion);
}

/** @param {MouseEvent} event */
function onClick(event) {
  const chosen = closest(event, "[data-suggestion]");
  if (chosen) accept(shown[Number(chosen.dataset.suggestion)]);
  if (closest(event, "[data-clear-recent]")) {
    store([]);
    show(shown.filter(({ kind }) => kind !== "recent"));
  }
  if (event.target === box() && !box().value) show(recentLike(""));
}

/**
 * Keys in the box that have another meaning where there are no suggestions.
 * @param {KeyboardEvent} event
 */
function onKey(event) {
  if (event.target !== box() || event.isComposing) return;
  if (event.key === "ArrowDown" && !box().value && !shown.length) show(recentLike(""));
  const isOpen = shown.length > 0;
  /** @type {Record<string, false | (() => void)>} */
  const handlers = {
    ArrowDown: isOpen && (() => move(1)),
    ArrowUp: isOpen && (() => move(-1)),
    Escape: isOpen && closeSuggestions,
    Enter: active >= 0 && (() => accept(shown[active])),
    Tab: active >= 0 && (() => complete(shown[active])),
  };
  const handle = handlers[event.key];
  if (!handle) return;
  event.preventDefault();
  event.stopPropagation();
  handle();
}

/**
 * Walks through the suggestions and, beyond either end, back to what was typed.
 * @param {number} step
 */
function move(step) {
  const places = shown.length + 1;
  activate(((active + 1 + step + places) % places) - 1);
}

/**
 * Takes a suggestion over without searching yet, so that further words can follow.
 * @param {Suggestion} suggestion
 */
function complete(suggestion) {
  if (suggestion.folder || suggestion.search) {
    accept(suggestion);
    return;
  }
  box().value = `${suggestion.text} `;
  box().dispatchEvent(new Event("input", { bubbles: true }));
  activate(-1);
}
