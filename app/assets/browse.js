// Everything in the library by date, or what filters let through: months under headings, in a list
// of which only what is near the screen is in the document. Heights are known beforehand, from the
// number of files of each month and the width of the page, so that nothing ever moves. A list that is
// taller than browsers let an element be is scrolled in a shorter one: far jumps are in proportion,
// while whatever is near on the screen moves pixel by pixel, as its element is shifted below it.
import { withOpen } from "./address.js";
import { element, fetchRoute, find, get, onPanel } from "./dom.js";
import { moveThumb, showScrubber, startScrubber } from "./scrubber.js";
import { monthName, t, tn } from "./texts.js";

/**
 * @typedef {object} Unit What is shown or left out as one: a heading, or a few rows of cards.
 * @property {string} key
 * @property {string} month Such as 2023-07.
 * @property {number} top Pixels from the top of the list.
 * @property {number} height
 * @property {number} offset Position of its first card within the month; -1 for a heading.
 * @property {number} limit How many cards.
 * @property {number} before How many files come before it in the list.
 */

/** @typedef {{ month: string, files: number }} Month */

/**
 * @typedef {object} Place Where the list is scrolled to.
 * @property {string} month
 * @property {number} index The card's position within the month.
 * @property {boolean} [heading] Whether it is the month's heading.
 * @property {number} rest Pixels beyond its top.
 */

const ROWS = 3; // Of cards, in a unit.
const HEADER = 64;
const HEADING = 54; // Pixels, as all below; those of cards are as in browse.css.
const MIN_CARD = 216;
const PHONE = 640;
const CAPTION = 54;
const NEAR = 0.6; // Screens above and below the visible one that are in the document.
const MAX_KEPT = 40; // Units that were shown and may be again.
const SETTLE_MS = 120;
const MAX_HEIGHT = 15_000_000; // Firefox ends at 17.9 million, and floats are exact up to 16.7.
const EDGE = 200_000; // Pixels at both ends of a taller list that nothing is left out of.
const FAR = 10; // Screens that only the scrollbar, or Home and End, move at once.

const USES = ["pointermove", "touchstart", "keydown", "scroll", "resize"]; // Events of a person.
const FILTERS = ["kinds", "folder", "album", "after", "before", "has_text", "sort"];

/** @type {string | null} */
let asked = null; // The parameters of what is shown.
let held = ""; // The first segment of the file that had the focus.
/** @type {AbortController | null} */
let requested = null; // AbortController of the latest request for months.
/** @type {Month[]} */
let months = []; // In the order in which they are shown.
/** @type {Record<string, number> | null} */
let kinds = null; // The files of each kind among them.
/** @type {Unit[]} */
let units = []; // All of them, by their tops.
let columns = 1;
let rowHeight = 1;
/** @type {Map<string, HTMLElement>} */
let shown = new Map(); // Elements in the document, by key.
/** @type {Map<string, HTMLElement>} */
let kept = new Map(); // Elements that are out of it, the latest last.
let width = 0;
let lastTop = 0;
let isUsed = false; // Whether any of `USES` has happened.
let shift = 0; // Pixels of the list that its element leaves out above what is on the screen.
let lastScrolled = 0; // Pixels of the element.
/** @type {ReturnType<typeof setTimeout>} */
let settling;
/** @type {ReturnType<typeof setTimeout>} */
let remembering;
let drawing = 0;
/** @type {(kinds: Record<string, number> | null) => void} */
let showKinds = () => {};

/** @param {(kinds: Record<string, number> | null) => void} update Called with the files of each kind. */
export function startBrowse(update) {
  showKinds = update;
  startScrubber({ toPart, toMonth, nameAt });
  addEventListener("scroll", draw, { passive: true });
  addEventListener("resize", draw, { passive: true });
  for (const name of USES) addEventListener(name, showPutOff, { passive: true, once: true });
  addEventListener("focusin", onFocus);
  onPanel("rz-home", (panel) => {
    if (panel.dataset.watched) return;
    panel.dataset.watched = "yes";
    new ResizeObserver(fit).observe(timeline());
  });
  addEventListener("rz-removed", refreshBrowse);
  document.addEventListener("rz-file-changed", () => kept.clear()); // They say what was true.
  /** @type {string | null} */
  let version = null;
  onPanel("rz-state", (panel) => {
    const known = panel.querySelector("[data-known]")?.dataset.known;
    if (version !== null && known !== version) refreshBrowse();
    version = known ?? version;
  });
}

/**
 * Shows the files that filters let through.
 * @param {Record<string, string>} filters Fields of the search form.
 * @param {Place | null} [at] Where to begin.
 */
export async function showBrowse(filters, at) {
  const set = Object.entries(filters).filter(([name, value]) => value && FILTERS.includes(name));
  const parameters = new URLSearchParams(set).toString();
  if (parameters === asked && units.length) {
    showKinds(kinds); // A search may have shown its own.
    scrollToPlace(at);
    draw();
    return;
  }
  asked = parameters;
  await request(at);
}

/** Counts again, since files may have been added or removed, and keeps its place. */
export function refreshBrowse() {
  kept.clear();
  if (asked !== null && !document.body.dataset.rzSearched) request(place());
  else asked = null;
}

/** @param {Place | null} [at] */
async function request(at) {
  requested?.abort();
  const { signal } = (requested = new AbortController());
  const panel = get("#rz-home");
  panel.classList.add("rz-waiting");
  /** @type {{ months: Month[], kinds: Record<string, number> | null, notice?: string }} */
  let answer = { months: [], kinds: null, notice: unanswered(t("The server does not answer.")) };
  try {
    const response = await fetchRoute(`timeline?${asked}`, { signal });
    if (response.ok) answer = await response.json();
    else answer.notice = unanswered(await response.text());
  } catch {
    // The server does not answer.
  }
  if (signal.aborted) return;
  panel.classList.remove("rz-waiting");
  months = new URLSearchParams(asked ?? "").get("sort") === "oldest" ? answer.months.reverse() : answer.months;
  kinds = answer.kinds;
  if (!document.body.dataset.rzSearched) showKinds(kinds);
  held = document.activeElement?.closest("#rz-timeline .rz-open")?.dataset.segment ?? held;
  forget();
  timeline().innerHTML = answer.notice ?? "";
  const total = months.reduce((sum, { files }) => sum + files, 0);
  get("#rz-timeline-count").textContent = tn("{n} file", "{n} files", total);
  get("#rz-timeline-count").hidden = !total;
  if (!at && place()) toTop(0);
  arrange(at);
}

function forget() {
  for (const one of shown.values()) one.remove();
  shown.clear();
  kept.clear();
}

/** @param {string} sentence */
function unanswered(sentence) {
  const again = element("button", { type: "button", class: "rz-button", "data-again": true }, t("Try again"));
  const notice = element(
    "div",
    { class: "rz-notice", "data-tone": "error", role: "alert" },
    element("h2", {}, t("That did not work")),
    element("p", {}, sentence),
    element("div", { class: "rz-inline" }, again),
  );
  return notice.outerHTML;
}

// ---- where everything is

const timeline = () => get("#rz-timeline");
const listTop = () => timeline().getBoundingClientRect().top + scrollY;
const barHeight = () => get("#rz-search").offsetHeight;
const room = () => innerHeight - barHeight();
const height = () => {
  const last = units.at(-1);
  return last ? last.top + last.height : 0;
};
const tall = () => Math.min(height(), MAX_HEIGHT); // The list's element.
const scrolled = () => scrollY - listTop(); // Pixels of the element above the screen.
const scrolledTo = () => scrolled() + barHeight() + shift; // Pixels of the list above what is seen.
const isShown = () => find("#rz-timeline")?.checkVisibility();

/** Follows the width of the page, and the tab that was hidden and is shown again. */
function fit() {
  const before = width;
  width = timeline().clientWidth;
  if (width && width !== before) arrange(before ? place() : history.state?.at);
}

/**
 * Gives each unit its place for the present width, and scrolls to where the list was.
 * @param {Place | null} [at]
 */
function arrange(at) {
  const list = timeline();
  width = list.clientWidth;
  if (!width) return;
  const phone = innerWidth <= PHONE;
  const [gapX, gapY] = phone ? [10, 14] : [18, 18];
  const wide = phone ? 2 : Math.max(1, Math.floor((width + gapX) / (MIN_CARD + gapX)));
  const cell = (width - gapX * (wide - 1)) / wide;
  const row = Math.round(cell * 0.75) + CAPTION + gapY;
  if (wide !== columns || row !== rowHeight) forget();
  [columns, rowHeight] = [wide, row];
  units = [...unitsOf(months)];
  list.dataset.all = `timeline/ids?${asked}`; // For selecting all of them.
  list.style.height = units.length ? `${tall()}px` : "";
  list.style.setProperty("--rz-columns", String(columns));
  list.style.setProperty("--rz-row", `${rowHeight - gapY}px`);
  get("#rz-scrubber").style.top = `${HEADER + barHeight() + 16}px`;
  showScrubber(height() > room() ? yearsOf() : []);
  lastScrolled = scrolled();
  shift = shiftAt(lastScrolled, tall());
  if (at) scrollToPlace(at);
  draw();
}

/**
 * How many pixels of the list its element leaves out above a position: none at first, all at last.
 * @param {number} top Pixels of the list or of the element.
 * @param {number} whole How many of them there are.
 */
function shiftAt(top, whole) {
  const left = height() - tall();
  const part = (top - EDGE) / (whole - room() - 2 * EDGE);
  return left && left * Math.min(1, Math.max(0, part));
}

/** Follows the user: in proportion if far, else pixel by pixel, unless the element ends. */
function follow() {
  const top = scrolled();
  const isFar = Math.abs(top - lastScrolled) > FAR * innerHeight;
  lastScrolled = top;
  if (isFar) shift = shiftAt(top, tall());
  const isEnding = top < EDGE / 2 || top > tall() - room() - EDGE / 2;
  if (isEnding && shift !== shiftAt(top + shift, height())) toTop(scrolledTo());
}

/**
 * Goes where a file is that gets the focus from far away, and whose element is elsewhere meanwhile.
 * @param {FocusEvent} event
 */
function onFocus({ target }) {
  if (!(target instanceof Element) || height() === tall()) return;
  const key = stripOf(target)?.dataset.key;
  const unit = key && units.find((one) => one.key === key);
  if (!unit || Math.abs(unit.top - scrolledTo()) < FAR * innerHeight) return;
  requestAnimationFrame(() => {
    toTop(unit.top); // After the browser, which goes to the element.
    drawNow();
    target.scrollIntoView({ block: "nearest" });
  });
}

/** @param {Month[]} listed @returns {Generator<Unit>} */
function* unitsOf(listed) {
  let [top, before] = [0, 0];
  for (const { month, files } of listed) {
    yield { key: month, month, top, height: HEADING, offset: -1, limit: files, before };
    top += HEADING;
    for (let offset = 0; offset < files; offset += ROWS * columns) {
      const limit = Math.min(ROWS * columns, files - offset);
      const tall = Math.ceil(limit / columns) * rowHeight;
      yield { key: `${month}/${offset}`, month, top, height: tall, offset, limit, before: before + offset };
      top += tall;
    }
    before += files;
  }
}

/** The position of the unit at some pixels from the top of the list. @param {number} top */
function unitAt(top) {
  let [low, high] = [0, units.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (units[middle].top <= top) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** What is at the top of the screen; null if that is the beginning. @returns {Place | null} */
function place() {
  const top = scrolledTo();
  if (!units.length || top <= 0 || !isShown()) return null;
  const unit = units[unitAt(top)];
  const row = unit.offset < 0 ? 0 : Math.floor((top - unit.top) / rowHeight);
  const index = Math.max(0, unit.offset) + row * columns;
  const heading = unit.offset < 0;
  return { month: unit.month, index, heading, rest: top - unit.top - row * rowHeight };
}

/** @param {Place | null} [at] */
function scrollToPlace(at) {
  if (!at) return;
  const unit = units.findLast(
    ({ month, offset }) => month === at.month && offset <= (at.heading ? -1 : at.index),
  );
  if (!unit) return;
  const row = unit.offset < 0 ? 0 : Math.floor((at.index - unit.offset) / columns);
  toTop(unit.top + row * rowHeight + at.rest);
}

/**
 * The position of a card in the list, from 1, and how many files it has; null for other cards.
 * @param {HTMLElement | null} card
 */
export function positionInList(card) {
  const strip = stripOf(card);
  const unit = units.find(({ key }) => key === strip?.dataset.key);
  const last = units.at(-1);
  if (!strip || !unit || !last) return null;
  const { before, limit } = last;
  const index = [...strip.children].findIndex((one) => one.contains(card));
  return { position: unit.before + index + 1, total: before + limit };
}

/** The element of the unit that something is in. @param {Element | null} [one] */
const stripOf = (one) => one?.closest("#rz-timeline > .rz-grid");

/** The years with the part of the list before them. */
function yearsOf() {
  /** @type {Map<string, number>} */
  const years = new Map();
  for (const { month, top, offset } of units) {
    const year = month.slice(0, 4);
    if (offset < 0 && !years.has(year)) years.set(year, top / height());
  }
  return [...years];
}

const travel = () => Math.max(1, height() - room());
/** @param {number} part */
const nameAt = (part) => (units.length ? monthName(units[unitAt(part * travel() + 1)].month) : "");
/** @param {number} part */
const toPart = (part) => toTop(part * travel());
/** Scrolls to a position in the list. @param {number} top */
function toTop(top) {
  shift = shiftAt(top, height());
  scrollTo({ top: listTop() - barHeight() + top - shift });
  lastScrolled = scrolled();
  draw(); // Even if the element is where it was.
}

/**
 * Goes to the next month or the one before; with "year", to the first month of another year.
 * @param {number} by
 * @param {"month" | "year"} unit
 */
function toMonth(by, unit) {
  const now = units[unitAt(scrolledTo() + 1)].month;
  const headings = units.filter(({ offset }) => offset < 0);
  let position = headings.findIndex(({ month }) => month === now);
  /** @param {string} month */
  const year = (month) => month.slice(0, 4);
  do position += by;
  while (unit === "year" && headings[position] && year(headings[position].month) === year(now));
  toTop(headings[Math.max(0, Math.min(position, headings.length - 1))].top);
}

// ---- what is in the document

function draw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    if (!document.body.dataset.rzSearched && isShown()) drawNow();
  });
}

function drawNow() {
  if (!units.length) return;
  const list = timeline();
  follow();
  const top = scrolled() + shift;
  const isJump = Math.abs(top - lastTop) > innerHeight;
  lastTop = top;
  const near = nearUnits(top - NEAR * innerHeight, top + (1 + NEAR) * innerHeight);
  const keys = new Set(near.map(({ key }) => key));
  for (const [key, one] of shown) {
    if (keys.has(key)) continue;
    shown.delete(key);
    one.remove();
    keep(key, one);
  }
  if (!shown.size) list.replaceChildren();
  /** @type {HTMLElement | null} */
  let next = null;
  for (const unit of near.reverse()) {
    const one = shown.get(unit.key) ?? bring(unit);
    one.style.top = `${elementTop(unit)}px`;
    if (!one.isConnected) list.insertBefore(one, next);
    next = one;
  }
  moveThumb(Math.min(1, Math.max(0, (top + barHeight()) / travel())));
  clearTimeout(settling);
  settling = setTimeout(loadShown, isJump ? SETTLE_MS : 0); // Not what is only scrolled past.
  clearTimeout(remembering);
  remembering = setTimeout(remember, SETTLE_MS);
}

/**
 * Units between two heights, and the one that has the focus or the opened file.
 * @param {number} from @param {number} to
 */
function nearUnits(from, to) {
  const first = unitAt(from);
  let last = first;
  while (last < units.length - 1 && units[last + 1].top < to) last += 1;
  const near = units.slice(first, last + 1);
  const held = stripOf(document.activeElement)?.dataset.key;
  if (held && !near.some(({ key }) => key === held)) {
    near.push(...units.filter(({ key }) => key === held));
    near.sort((one, other) => one.top - other.top);
  }
  return near;
}

/** Where a unit is in the element; within it, also if it has the focus and is far away. @param {Unit} unit */
const elementTop = (unit) => Math.min(Math.max(0, unit.top - shift), tall() - unit.height);

/** @param {Unit} unit */
function bring(unit) {
  const one = kept.get(unit.key) ?? make(unit);
  kept.delete(unit.key);
  shown.set(unit.key, one);
  return one;
}

/** @param {Unit} unit */
function make({ key, month, offset, limit }) {
  if (offset < 0) {
    const files = element("span", {}, tn("{n} file", "{n} files", limit));
    return element("h2", { class: "rz-month" }, monthName(month), files);
  }
  const ghost = () => element("div", { class: "rz-ghost" }, element("span", { class: "rz-thumb" }));
  return element(
    "div",
    { class: "rz-grid", role: "list", "aria-label": monthName(month), "aria-busy": "true", "data-key": key },
    ...Array.from({ length: limit }, ghost),
  );
}

/** Gives the focus back to the file that had it when the list was read again. @param {HTMLElement} one */
function focusAgain(one) {
  const card = one.querySelector(`.rz-open[data-segment="${held}"]`);
  if (!card) return;
  held = "";
  if (document.activeElement === document.body) card.focus({ preventScroll: true });
}

/** @param {string} key @param {HTMLElement} one */
function keep(key, one) {
  if (!one.ariaBusy) kept.set(key, one);
  if (kept.size > MAX_KEPT) kept.delete([...kept.keys()][0]);
}

function loadShown() {
  for (const [key, one] of shown) if (one.ariaBusy && !one.dataset.loading) load(key, one);
}

/** @param {string} key @param {HTMLElement} one */
async function load(key, one) {
  const unit = units.find((each) => each.key === key);
  if (!unit) return;
  const { month, offset, limit } = unit;
  const parameters = new URLSearchParams(asked ?? "");
  for (const [name, value] of Object.entries({ month, offset, limit })) parameters.set(name, String(value));
  one.dataset.loading = "yes";
  try {
    const response = await fetchRoute(`timeline/items?${parameters}`);
    if (!response.ok) throw new Error(await response.text());
    one.innerHTML = await response.text();
    one.ariaBusy = null;
    for (const card of one.querySelectorAll(".rz-open")) {
      card.setAttribute("href", withOpen(card.dataset.segment));
    }
    focusAgain(one);
    if (!isUsed) putOff(unit, one);
    if (one.children.length < limit && one.isConnected) recount();
  } catch {
    setTimeout(draw, 2000); // The server may be back.
  }
  delete one.dataset.loading;
}

/**
 * Leaves out the pictures below the screen until the page is used: Chromium would fetch those of the next
 * 1,250 pixels, more than half of all that a first visit fetches.
 * @param {Unit} unit @param {HTMLElement} one
 */
function putOff(unit, one) {
  const end = scrollY - listTop() + innerHeight;
  for (const [index, card] of [...one.children].entries()) {
    const picture = find(".rz-thumb img", HTMLImageElement, card);
    if (picture) picture.hidden = unit.top + Math.floor(index / columns) * rowHeight > end;
  }
}

function showPutOff() {
  isUsed = true;
  for (const picture of timeline().querySelectorAll("img[hidden]")) picture.hidden = false;
}

/** @type {string | null} */
let recounted = null; // Once for each list: a file without content would ask for it for ever.
function recount() {
  if (recounted === asked) return;
  recounted = asked;
  request(place());
}

/** Notes in the history where the list is, for when the user comes back. */
function remember() {
  if (!isShown()) return;
  const at = place();
  if (JSON.stringify(at) === JSON.stringify(history.state?.at ?? null)) return;
  history.replaceState({ ...history.state, at }, "");
}
