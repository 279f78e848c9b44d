// The search bar: words, files, filters; and the address that says the same.
import { addressOf, follow, readAddress, showTitle, writeSearch, writeTab } from "./address.js";
import { attach, attachments, startAttaching } from "./attached.js";
import { border, keepBorder, keptBorder, showBorder } from "./border.js";
import { refreshBrowse, showBrowse, startBrowse } from "./browse.js";
import { showCounts } from "./counts.js";
import { showDetail } from "./detail.js";
import { closest, find, get, onPanel, selectTab, showTab, toast } from "./dom.js";
import { showFolder, startFolderTree } from "./foldertree.js";
import { clearResults, countAgain, showResults } from "./results.js";
import { closeSuggestions, rememberSearch, startSuggestions } from "./suggestions.js";
import { t } from "./texts.js";

/** The fields of the search form that filter, by their names on the server. */
const FILTERS = {
  folder: "#rz-folder",
  album: "#rz-album",
  after: "#rz-after",
  before: "#rz-before",
  has_text: "#rz-has-text",
  not_like: "#rz-not-like",
  instruction: "#rz-instruction",
  sort: "#rz-sort",
};
const FAVOURITES = "1"; // The album that each library has.
const UNNAMED = t("A file of the library");
/** @typedef {import("./address.js").Search} Search */
/** @typedef {import("./attached.js").Attachment} Attachment */
/** @typedef {import("./results.js").Period} Period */

/** @type {string | null} */
let shown = null; // The search whose results are shown.
let literal = ""; // What is no date in the words, though it looks like one.
let refined = ""; // The field that was changed last.

export function startSearch() {
  document.addEventListener("submit", (event) => {
    if (!closest(event, "#rz-form")) return;
    event.preventDefault();
    search();
  });
  document.addEventListener("click", onClick);
  document.addEventListener("change", onChange);
  document.addEventListener("input", (event) => {
    if (closest(event, "#rz-text")) showState();
  });
  document.addEventListener("keydown", onKey);
  startAttaching(() => search());
  startSuggestions(choose);
  document.addEventListener("rz-period", ({ detail }) => {
    showPeriod(detail);
    if (detail && !detail.text && !attachments().length) list({ ...form(), ...detail });
  });
  startBrowse(showCounts);
  startFolderTree(form);
  onPanel("rz-head", showInstruction);
  window.addEventListener("popstate", restore);
  onPanel("rz-search", () => shown === null && find("#rz-answer") && restore());
  onPanel("rz-results", () => shown === null && find("#rz-form") && restore());
  onPanel("rz-home", () => shown === null && find("#rz-form") && restore());
}

const chips = () => [...document.querySelectorAll("#rz-form .rz-chip[data-kind]")];
const box = () => get("#rz-text", HTMLInputElement);
/** The field of a filter. @param {keyof typeof FILTERS} filter */
const fieldOf = (filter) => {
  const field = get(FILTERS[filter]);
  if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) return field;
  throw new Error(`${FILTERS[filter]} is no field`);
};
const FILTER_NAMES = /** @type {(keyof typeof FILTERS)[]} */ (Object.keys(FILTERS));
/** @param {Search} state @param {Attachment[]} files */
const identity = (state, files) => JSON.stringify([Object.entries(state).sort(), sentIds(files)]);
/** @param {Attachment[]} files */
const sentIds = (files) => files.map(({ id }) => id).filter(Boolean);
/** @param {HTMLElement} chip */
const isPressed = (chip) => chip.getAttribute("aria-pressed") === "true";
const words = () => box().value.trim();
/** @param {string} phrase */
const says = (phrase) => words().split(/\s+/).join(" ").includes(phrase);

/** What the form says, as the address holds it. @returns {Search} */
function form() {
  const filter = (/** @type {keyof typeof FILTERS} */ name) => fieldOf(name).value.trim();
  return {
    text: words(),
    literal: says(literal) ? literal : "",
    kinds: chips().filter(isPressed).map((chip) => chip.dataset.kind).join(","),
    similar: attachments().map(({ similar }) => similar).filter(Boolean).join(","),
    border: border(),
    folder: filter("folder"),
    album: filter("album"),
    after: filter("after"),
    before: filter("before"),
    has_text: filter("has_text"),
    not_like: filter("not_like"),
    instruction: filter("instruction"),
    sort: filter("sort"),
  };
}

/** @param {Search} state @param {Attachment[]} files */
function fill(state, files) {
  box().value = state.text;
  literal = state.literal;
  const kinds = state.kinds.split(",");
  chips().forEach((chip) => chip.setAttribute("aria-pressed", kinds.includes(chip.dataset.kind ?? "")));
  for (const name of FILTER_NAMES) fieldOf(name).value = state[name];
  /** @param {number} id */
  const known = (id) => files.find(({ similar }) => similar === id);
  const similar = state.similar.split(",").map(Number).filter(Boolean);
  attach([
    ...similar.map((id) => known(id) ?? { similar: id, name: UNNAMED }),
    ...files.filter(({ id }) => id),
  ]);
  showState();
}

/**
 * Whether there is something to look for: without words or files, everything is listed.
 * @param {Search} search
 * @param {Attachment[]} files
 */
const asksFor = ({ text, similar }, files) => Boolean(text || files.length || similar);

/** Searches for what the form says, and writes it into the address. */
function search({ replace = false } = {}) {
  const state = form();
  const files = attachments();
  closeSuggestions();
  showState();
  if (state.not_like && !asksFor(state, files)) {
    toast(t("Say what to look for first: “Not like” only takes away from it."));
  }
  rememberSearch(state.text);
  if (identity(state, files) !== shown) writeSearch(state, files, { replace });
  window.scrollTo({ top: 0 }); // Where the best ones are.
  run(state, files);
}

/** @param {import("./suggestions.js").Suggestion} chosen */
function choose({ text, folder, search: saved }) {
  if (saved) {
    follow(addressOf(saved));
    return;
  }
  box().value = text;
  if (folder) fieldOf("folder").value = folder;
  search();
}

/**
 * Shows which date the words say, or none, with a button to take it for words.
 * @param {Period | null} period
 */
function showPeriod(period) {
  const chip = get("#rz-period");
  chip.hidden = !period;
  if (!period) return;
  chip.dataset.phrase = period.phrase;
  get("span", null, chip).textContent = period.label;
  chip.title = t("“{phrase}” is a date here.", { phrase: period.phrase });
}

/** @param {Search} state @param {Attachment[]} files */
function run(state, files) {
  shown = identity(state, files);
  announce(state);
  if (!asksFor(state, files)) {
    showPeriod(null);
    list(state);
    return;
  }
  document.body.dataset.rzSearched = "yes";
  showResults(asked(state, files));
}

/** Lists what filters let through. @param {Search} filters */
function list(filters) {
  delete document.body.dataset.rzSearched;
  clearResults();
  showBrowse(filters, history.state?.at);
}

/**
 * The fields of `app.search.SearchForm`.
 * @param {Search} state
 * @param {Attachment[]} files
 */
const asked = (state, files) => ({
  ...state,
  kinds: state.kinds ? state.kinds.split(",") : [],
  similar: state.similar ? state.similar.split(",") : [],
  files: sentIds(files),
  balance: Number(get("#rz-weight", HTMLInputElement).value),
  border: Number(border() || 0.5),
});

/** The search that the form says. */
export const currentSearch = () => asked(form(), attachments());

/** Searches again, since the library may have changed. */
export function searchAgain() {
  refreshBrowse();
  run(form(), attachments());
}

/** Counts the matches again, of which some have been removed. */
export function countMatches() {
  if (document.body.dataset.rzSearched) countAgain(currentSearch());
}

/** Says what is searched for, or that nothing is. @param {Search} state */
const announce = (state) =>
  document.dispatchEvent(new CustomEvent("rz-searched", { detail: state }));

/**
 * Searches again after a filter was changed; one field that is changed again makes one entry.
 * @param {string} field
 */
function refine(field) {
  search({ replace: Boolean(field) && field === refined });
  refined = field;
}

/** Shows what the address says, after it was loaded or the history was walked through. */
function restore() {
  const { form: state, files, open, tab } = readAddress();
  refined = "";
  if (identity(state, files) !== shown) {
    const isFirst = shown === null;
    if (isFirst || asksFor(state, files)) showBorder(state.border || (isFirst ? keptBorder() : ""));
    fill(state, files);
    run(state, attachments());
  }
  showTitle(state.text || files[0]?.name);
  selectTab(tab);
  showDetail(open);
}

function showState() {
  if (!find("#rz-text")) return;
  showFolder();
  if (!says(get("#rz-period").dataset.phrase ?? "")) showPeriod(null);
  get("[data-clear]").hidden = !box().value && !attachments().length;
  get("#rz-balance").hidden = !(words() && attachments().length);
  const filtered = FILTER_NAMES.some((name) => fieldOf(name).value);
  get("#rz-form [data-all]").setAttribute("aria-pressed", !chips().some(isPressed));
  get("[data-reset]").hidden = !filtered && !chips().some(isPressed);
  get("#rz-more-filters").dataset.active = filtered ? "yes" : "";
  get("#rz-favourites").setAttribute("aria-pressed", fieldOf("album").value === FAVOURITES);
}

function resetFilters() {
  const period = get("#rz-period");
  if (!period.hidden) literal = period.dataset.phrase ?? "";
  for (const name of FILTER_NAMES) fieldOf(name).value = "";
  chips().forEach((chip) => chip.setAttribute("aria-pressed", "false"));
}

/** Takes the words, the files and the filters away. */
function clear() {
  attach([]);
  box().value = "";
  resetFilters();
  search();
  box().focus();
}

// ---- events

/** @param {MouseEvent} event */
function onClick(event) {
  const tab = closest(event, "#rz-tabs [role=tab]");
  if (tab) writeTab(tab.id.replace(/^rz-tab-|-button$/g, ""));
  const chip = closest(event, "#rz-form .rz-chip[data-kind]");
  if (chip) {
    chip.setAttribute("aria-pressed", !isPressed(chip));
    refine("");
  }
  if (closest(event, "#rz-form [data-all]")) {
    chips().forEach((one) => one.setAttribute("aria-pressed", "false"));
    refine("");
  }
  const favourites = closest(event, "#rz-favourites");
  if (favourites) {
    fieldOf("album").value = isPressed(favourites) ? "" : FAVOURITES;
    refine("");
  }
  if (closest(event, "[data-clear]")) clear();
  if (closest(event, "[data-as-words]")) {
    literal = get("#rz-period").dataset.phrase ?? "";
    search();
    box().focus(); // The button is hidden now.
  }
  if (closest(event, "[data-reset]")) {
    resetFilters();
    search();
    get("#rz-form [data-all]").focus(); // The button is hidden now; phones show no keyboard for this one.
  }
  const toggle = closest(event, "#rz-more-filters");
  if (toggle) {
    const open = toggle.getAttribute("aria-expanded") !== "true";
    toggle.setAttribute("aria-expanded", open);
    get("#rz-rest").classList.toggle("rz-shown", open);
  }
  const similar = closest(event, "[data-similar]");
  if (similar) searchLike(similar);
  if (closest(event, "[data-again]")) search({ replace: true });
  if (closest(event, "[data-skip]")) focusFirst(event);
}

/** @param {HTMLElement} button */
function searchLike(button) {
  const name = button.closest("[data-name]")?.dataset.name ?? UNNAMED;
  searchWith([{ similar: Number(button.dataset.similar), name }]);
}

/** Searches with examples alone. @param {Attachment[]} examples */
export function searchWith(examples) {
  attach(examples);
  box().value = "";
  search(); // Before the detail is closed, which would walk back in the history.
  showTab("search");
  document.dispatchEvent(new CustomEvent("rz-close-detail"));
}

/** @param {Event} event */
function onChange(event) {
  const id = event.target instanceof Element ? event.target.id : "";
  if (id === "rz-border") keepBorder();
  if (["rz-border", "rz-weight"].includes(id) || Object.values(FILTERS).includes(`#${id}`)) refine(id);
}

const cards = () =>
  [...document.querySelectorAll("#rz-tab-search .rz-open")].filter((card) => card.checkVisibility());

/** @param {Event} event */
function focusFirst(event) {
  event.preventDefault();
  cards()[0]?.focus();
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const inBox = document.activeElement?.id === "rz-text";
  if (event.key === "Escape" && inBox) clear();
  if (event.key === "ArrowDown" && inBox) focusFirst(event);
  const from = closest(event, ".rz-open");
  if (from && event.key.startsWith("Arrow")) moveFocus(event, from);
}

/** @type {Record<string, number | undefined>} How far keys go on in a row. */
const ACROSS = { ArrowLeft: -1, ArrowRight: 1 };

/**
 * Arrow keys walk over the cards as they lie on the screen.
 * @param {KeyboardEvent} event
 * @param {HTMLElement} from
 */
function moveFocus(event, from) {
  const all = cards();
  const down = event.key === "ArrowUp" ? -1 : 1;
  const step = ACROSS[event.key];
  const target = step ? all[all.indexOf(from) + step] : nearest(all, from, down);
  if (!target) return;
  event.preventDefault();
  target.focus();
}

/**
 * The card in the next row below, or with -1 above, that is most nearly in the same column.
 * @param {HTMLElement[]} all
 * @param {HTMLElement} from
 * @param {number} down
 */
function nearest(all, from, down) {
  const here = from.getBoundingClientRect();
  const others = all
    .map((card) => ({ card, top: card.getBoundingClientRect().top }))
    .filter(({ top }) => (top - here.top) * down > 1);
  const row = Math.min(...others.map(({ top }) => top * down)) * down;
  const inRow = others.filter(({ top }) => top === row).map(({ card }) => card);
  /** @param {HTMLElement} card */
  const distance = (card) => Math.abs(card.getBoundingClientRect().left - here.left);
  return inRow.sort((one, other) => distance(one) - distance(other))[0];
}

// ---- what the library tells the form

/** Shows the field for an instruction only if the model takes one. @param {HTMLElement} panel */
function showInstruction(panel) {
  const model = panel.querySelector("[data-model]");
  const field = find("#rz-instruction-field");
  if (!model || !field) return;
  const { instruction } = model.dataset;
  const input = get("#rz-instruction", HTMLInputElement);
  field.hidden = instruction === undefined;
  if (field.hidden) input.value = "";
  input.placeholder = instruction || t("what the model should do");
  showState();
}
