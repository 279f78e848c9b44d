// @ts-nocheck
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
 * @property {object} [search]
 */

const DELAY = 80; // Milliseconds without another letter, before the server is asked.
const RECENT = "rz-recent-searches";
const MAX_RECENT = 20;
const SHOWN_RECENT = { empty: 8, typing: 2 };
const NOTES = {
  spelling: t("Did you mean"),
  people: t("Person"),
  keywords: t("Keyword"),
  place: t("Place"),
  file: t("File"),
  recent: t("Searched before"),
  saved: t("Saved search"),
};

const ICONS = { folder: "folder", recent: "recent", saved: "saved" };

let choose = () => {};
let asked = null; // AbortController of the latest request.
let timer = 0;
let shown = []; // Suggestions.
let active = -1;

const box = () => find("#rz-text");

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

/** Notes what was searched for; only this browser knows. */
export function rememberSearch(text) {
  if (!text) return;
  const others = recent().filter((one) => one !== text);
  store([text, ...others].slice(0, MAX_RECENT));
}

function recent() {
  try {
    return JSON.parse(localStorage.getItem(RECENT)) ?? [];
  } catch {
    return []; // The browser keeps nothing, or what it kept is damaged.
  }
}

function store(texts) {
  try {
    localStorage.setItem(RECENT, JSON.stringify(texts));
  } catch {
    // The browser keeps nothing.
  }
}

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

async function request(text) {
  const { signal } = (asked = new AbortController());
  let found = [];
  try {
    const response = await fetchRoute(`suggestions?q=${encodeURIComponent(text)}`, { signal });
    if (response.ok) found = await response.json();
  } catch {
    // The server does not answer, which the search will say.
  }
  if (!signal.aborted) show([...recentLike(text), ...found]);
}

function show(suggestions) {
  const place = find("#rz-suggestions");
  if (!place) return;
  shown = suggestions;
  place.hidden = !shown.length;
  box().setAttribute("aria-expanded", String(Boolean(shown.length)));
  place.querySelector("[role=listbox]").replaceChildren(...shown.map(option));
  place.querySelector("[data-clear-recent]").hidden = !shown.some(({ kind }) => kind === "recent");
  activate(-1);
}

function option({ kind, label, files, segment }, number) {
  const note = kind === "folder" ? tn("{n} file", "{n} files", files) : (NOTES[kind] ?? "");
  const icon = segment
    ? element("img", { src: `thumbnail/${segment}`, alt: "" })
    : get(`#rz-suggestions [data-icon="${ICONS[kind] ?? "search"}"]`).cloneNode(true);
  icon.addEventListener("error", () => icon.remove()); // A text has no thumbnail.
  return element(
    "li",
    { role: "option", id: `rz-suggestion-${number}`, "data-suggestion": String(number), "aria-selected": "false" },
    icon,
    element("span", { class: "rz-suggested" }, label),
    element("span", { class: "rz-note" }, note),
  );
}

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

function accept(suggestion) {
  closeSuggestions();
  choose(suggestion);
}

function onClick(event) {
  const chosen = closest(event, "[data-suggestion]");
  if (chosen) accept(shown[Number(chosen.dataset.suggestion)]);
  if (closest(event, "[data-clear-recent]")) {
    store([]);
    show(shown.filter(({ kind }) => kind !== "recent"));
  }
  if (event.target === box() && !box().value) show(recentLike(""));
}

/** Keys in the box that have another meaning where there are no suggestions. */
function onKey(event) {
  if (event.target !== box() || event.isComposing) return;
  if (event.key === "ArrowDown" && !box().value && !shown.length) show(recentLike(""));
  const isOpen = shown.length > 0;
  const handle = {
    ArrowDown: isOpen && (() => move(1)),
    ArrowUp: isOpen && (() => move(-1)),
    Escape: isOpen && closeSuggestions,
    Enter: active >= 0 && (() => accept(shown[active])),
    Tab: active >= 0 && (() => complete(shown[active])),
  }[event.key];
  if (!handle) return;
  event.preventDefault();
  event.stopPropagation();
  handle();
}

/** Walks through the suggestions and, beyond either end, back to what was typed. */
function move(step) {
  const places = shown.length + 1;
  activate(((active + 1 + step + places) % places) - 1);
}

/** Takes a suggestion over without searching yet, so that further words can follow. */
function complete(suggestion) {
  if (suggestion.folder || suggestion.search) {
    accept(suggestion);
    return;
  }
  box().value = `${suggestion.text} `;
  box().dispatchEvent(new Event("input", { bubbles: true }));
  activate(-1);
}
