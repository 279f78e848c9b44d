// The selection: cards that are marked together, on whichever grid, and what can be done with them.
import {
  closest, element, fetchRoute, get, icon, reasonOf, sentence, toast, typing,
} from "./dom.js";
import { t } from "./texts.js";

const CARDS = ".rz-card[data-item]";
const LONG_PRESS_MS = 500;
const MAX_FINGER_PX = 10; // A finger that moves further scrolls.

/** @typedef {import("./attached.js").Attachment} Attachment */

/**
 * The examples of the selected files for a search, by the files' ids, in the order of selecting.
 * @type {Map<number, Attachment | null>}
 */
const selected = new Map();
/** @type {[number, Attachment | null][]} */
let before = []; // What was selected when the anchor was set: a range is added to that.
/** @type {number | null} */
let anchor = null; // The id that a range begins at.
/** @type {HTMLElement | null} */
let scope = null; // The element whose cards can be selected together with the anchor's.
/** @type {HTMLElement | null} */
let pressed = null; // The card under a finger that has not moved: its click is no click.
/** @type {HTMLElement | null} */
let bar = null;
/** @type {Action[]} */
const actions = [];

/**
 * @typedef {object} Action
 * @property {string} label
 * @property {string} icon The "d" of an SVG path, 24 by 24.
 * @property {(itemIds: number[]) => void} run Is given the files in the order of selecting.
 * @property {string} [style] A class.
 */

/** Adds a button to the bar that appears when something is selected. @param {Action} action */
export function addAction(action) {
  actions.push(action);
  showActions();
}

/** What to search with for more like the selected files, as far as their cards have been seen. */
export const selectedExamples = () => [...selected.values()].filter((one) => one !== null);

export function startSelection() {
  const end = element("button", {
    type: "button", class: "rz-icon rz-end", hidden: true, "aria-label": t("End the selection"),
  });
  end.append(icon("m6 6 12 12M18 6 6 18"));
  end.addEventListener("click", clearSelection);
  bar = element(
    "section",
    { id: "rz-selection", "aria-label": t("Selection"), "data-empty": true },
    end,
    element("span", { class: "rz-selected-count", role: "status" }),
    element("div", { class: "rz-selection-actions", hidden: true }),
  );
  document.body.append(bar);
  showActions();
  document.addEventListener("click", onClick, { capture: true });
  document.addEventListener("keydown", onKey);
  startLongPress();
  prepare(document.body);
  new MutationObserver((changes) => {
    for (const { addedNodes } of changes) addedNodes.forEach(prepare);
  }).observe(document.body, { childList: true, subtree: true });
}

/** Ends the selection. */
export function clearSelection() {
  if (!selected.size) return;
  selected.clear();
  anchor = null;
  show();
}

// ---- cards

/** @param {HTMLElement} card */
const idOf = (card) => Number(card.dataset.item);
/** @param {HTMLElement} card */
const scopeOf = (card) => card.closest("[data-all]") ?? card.closest(".rz-grid") ?? card.parentElement;
/** @param {HTMLElement} place */
const cardsIn = (place) => [...place.querySelectorAll(CARDS)].filter((card) => card.checkVisibility());

/**
 * Gives the cards in an element their check, and marks those that are selected.
 * @param {Node} node
 */
function prepare(node) {
  if (!(node instanceof HTMLElement)) return;
  const cards = node.matches(CARDS) ? [node] : node.querySelectorAll(CARDS);
  for (const card of cards) {
    if (!card.querySelector(".rz-select")) {
      const name = card.querySelector(".rz-title b")?.textContent ?? t("the file");
      card.append(
        element("button", {
          type: "button", class: "rz-select", tabindex: -1, "aria-label": t("Select {name}", { name }),
        }),
      );
    }
    mark(card);
  }
}

/** @param {HTMLElement} card */
function mark(card) {
  const isSelected = selected.has(idOf(card));
  card.toggleAttribute("data-selected", isSelected);
  card.querySelector(".rz-select")?.setAttribute("aria-pressed", isSelected);
}

/** @param {HTMLElement} card */
function setAnchor(card) {
  anchor = idOf(card);
  scope = scopeOf(card);
  before = [...selected];
}

/** @param {HTMLElement} card */
function toggle(card) {
  if (!selected.delete(idOf(card))) add(card);
  setAnchor(card);
  show();
}

/** @param {HTMLElement} card */
function add(card) {
  const segment = card.querySelector("[data-segment]")?.dataset.segment;
  const name = card.querySelector(".rz-title b")?.textContent ?? "";
  selected.set(idOf(card), segment ? { similar: Number(segment), name } : null);
}

/**
 * Selects from the anchor up to a card, in place of an earlier range from the same anchor.
 * @param {HTMLElement} card
 */
async function extendTo(card) {
  if (anchor === null || !scope || scope !== scopeOf(card)) {
    if (!selected.has(idOf(card))) toggle(card);
    return;
  }
  const cards = cardsIn(scope);
  let ids = cards.map(idOf);
  // A long list holds only the cards that are near.
  if (!ids.includes(anchor)) ids = (await everyItem(scope)) ?? ids;
  const [first, last] = [ids.indexOf(anchor), ids.indexOf(idOf(card))].sort((a, b) => a - b);
  if (first < 0) {
    toggle(card); // What lies between them is not known.
    return;
  }
  selected.clear();
  before.forEach(([item, example]) => selected.set(item, example));
  select(ids.slice(first, last + 1), cards);
}

/**
 * Adds files, given the cards that are there.
 * @param {number[]} ids @param {HTMLElement[]} cards
 */
function select(ids, cards) {
  const shown = new Map(cards.map((card) => [idOf(card), card]));
  for (const id of ids) {
    if (selected.has(id)) continue;
    const card = shown.get(id);
    if (card) add(card);
    else selected.set(id, null);
  }
  show();
}

/**
 * Selects all files of the search or list that a card belongs to, also those not loaded yet.
 * @param {HTMLElement} place
 */
async function selectAll(place) {
  const cards = cardsIn(place);
  select((await everyItem(place)) ?? cards.map(idOf), cards);
  scope = place;
}

/**
 * The files of a list in order, by its attribute data-all; null where only its cards are known.
 * @param {HTMLElement} place
 */
async function everyItem(place) {
  if (!place.dataset.all) return null;
  try {
    const response = await fetchRoute(place.dataset.all);
    if (!response.ok) throw new Error(await response.text());
    /** @type {{ item_ids: number[], is_all: boolean }} */
    const { item_ids: ids, is_all: isAll } = await response.json();
    if (!isAll) toast(t("Selected the first {n}: no more can be selected at once.", { n: ids.length }));
    return ids;
  } catch (error) {
    const unanswered = error instanceof TypeError; // What fetch throws.
    toast(unanswered ? t("The server did not answer: only what is shown was selected.") : sentence(reasonOf(error)));
    return null;
  }
}

// ---- the bar

function showActions() {
  if (!bar) return; // Not yet made.
  /**
   * @param {string} label
   * @param {string} path
   * @param {() => void} run
   */
  const button = (label, path, run, style = "") => {
    const made = element("button", {
      type: "button", class: `rz-button ${style}`, title: label, "aria-label": label,
    });
    made.append(icon(path), element("span", {}, label));
    made.addEventListener("click", run);
    return made;
  };
  get(".rz-selection-actions", null, bar).replaceChildren(
    button(t("Select all"), "M4 12l4 4L16 7M12 15l1 1 8-9", () => scope && selectAll(scope)),
    ...actions.map(({ label, icon: path, run, style }) =>
      button(label, path, () => run([...selected.keys()]), style),
    ),
  );
}

function show() {
  document.querySelectorAll(CARDS).forEach(mark);
  const count = selected.size;
  document.body.toggleAttribute("data-rz-selecting", count > 0);
  if (!bar) return;
  bar.toggleAttribute("data-empty", !count);
  get(".rz-end", null, bar).hidden = get(".rz-selection-actions", null, bar).hidden = !count;
  get(".rz-selected-count", null, bar).textContent = count ? t("{n} selected", { n: count }) : "";
}

// ---- events

/** @param {MouseEvent} event */
function onClick(event) {
  if (pressed) {
    pressed = null;
    event.preventDefault();
    event.stopPropagation();
    return;
  }
  if (closest(event, "[role=tab]")) clearSelection();
  const card = closest(event, CARDS);
  const check = closest(event, ".rz-select");
  const opener = closest(event, ".rz-open");
  if (!card || !(check || opener) || event.ctrlKey || event.metaKey) return;
  const byKey = event.detail === 0 && !check; // Enter opens what has the focus.
  if (byKey || !(check || event.shiftKey || selected.size)) return;
  event.preventDefault();
  event.stopPropagation(); // Not opened.
  if (event.shiftKey) extendTo(card);
  else toggle(card);
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (document.querySelector("dialog:modal") || typing()) return;
  if (event.key === "Escape") clearSelection();
  const card = closest(event, CARDS);
  if (!card || event.altKey) return;
  const command = event.ctrlKey || event.metaKey;
  if (event.key === "x" && !command) toggle(card);
  if (event.key === "a" && command) {
    event.preventDefault();
    const around = scopeOf(card);
    if (around) selectAll(around);
  }
  // By now the arrow has moved the focus.
  const reached = document.activeElement?.closest(CARDS);
  if (event.shiftKey && event.key.startsWith("Arrow") && reached && reached !== card) {
    if (anchor === null) toggle(card);
    extendTo(reached);
  }
}

/** Fingers begin a selection by a long press. */
function startLongPress() {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  /** @type {PointerEvent | null} */
  let start = null;
  const stop = () => clearTimeout(waiting);
  document.addEventListener("pointerdown", (event) => {
    const card = closest(event, CARDS);
    pressed = null;
    stop();
    if (event.pointerType !== "touch" || !card || !closest(event, ".rz-open")) return;
    start = event;
    waiting = setTimeout(() => {
      pressed = card;
      toggle(card);
    }, LONG_PRESS_MS);
  });
  document.addEventListener("pointermove", (event) => {
    if (start && Math.hypot(event.x - start.x, event.y - start.y) > MAX_FINGER_PX) stop();
  });
  document.addEventListener("pointerup", stop);
  document.addEventListener("pointercancel", stop);
  // The system's menu for links would cover the cards.
  document.addEventListener("contextmenu", (event) => {
    const touched = event instanceof PointerEvent && event.pointerType === "touch";
    if (touched && closest(event, CARDS)) event.preventDefault();
  });
}
