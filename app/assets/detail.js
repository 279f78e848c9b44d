// The detail dialog: one result, large, with keyboard navigation through all results.
import { follow, writeOpen } from "./address.js";
import { positionInList } from "./browse.js";
import { copyText } from "./clipboard.js";
import { contentAddress, fetchContent, forgetContents, keepContents, pageDrawn } from "./contents.js";
import {
  all, closest, element, fetchRoute, get, sentence, toast, typing, unanswered,
} from "./dom.js";
import { areSlidesRunning, startSlides, stopSlides } from "./slides.js";
import { number, t } from "./texts.js";
import { isPlaying, startVideo, stopVideo } from "./video.js";
import { resetZoom, startZoom, zoomBy } from "./zoom.js";

const LOAD_AHEAD = 3; // Further results are loaded when this many are left.
const ZOOM_STEP = 1.5;
const REST_MS = 300; // Who steps on sooner does not look at what is related.

/** @type {HTMLDialogElement} */
let dialog;
/** @type {HTMLElement} */
let viewer; // All that is in the dialog: a dialog itself cannot fill the screen.
/** @type {string | null} */
let result = null; // The segment of the result that is shown, or whose file is being leafed through.
/** @type {HTMLElement | null} */
let card = null; // Its card; null while the results are not there, as after the page was loaded.
/** @type {string | null} */
let wanted = null; // The address of the content to show: an answer to another one is too late.
let sought = ""; // What is looked for in the document that is shown.
let steppingOn = false; // Whether Next waits for further results.

export function startDetail() {
  viewer = element(
    "div",
    { class: "rz-viewer", tabindex: -1, autofocus: true },
    element("div", { class: "rz-detail-body", "aria-live": "polite" }),
    element("span", { class: "rz-position" }),
    icon("rz-close", t("Close"), "m6 6 12 12M18 6 6 18"),
    icon("rz-fill", t("Full screen (Shift+F)"), "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5"),
    icon("rz-info", t("Details (I)"), "M12 11v6M12 7v.5M21 12a9 9 0 1 1-18 0 9 9 0 0 1 18 0"),
    icon("rz-slides", t("Slide show (space)"), "M8 5.5v13l11-6.5z"),
    icon("rz-before", t("Previous result"), "m15 5-7 7 7 7"),
    icon("rz-after", t("Next result"), "m9 5 7 7-7 7"),
  );
  viewer.dataset.info = matchMedia("(min-width: 861px)").matches ? "yes" : "no";
  dialog = element("dialog", { id: "rz-detail", "aria-labelledby": "rz-detail-title" }, viewer);
  document.body.append(dialog);
  document.addEventListener("click", onClick);
  document.addEventListener("rz-close-detail", close);
  document.addEventListener("rz-file-changed", forgetContents); // They say what was true.
  dialog.addEventListener("keydown", onKey);
  dialog.addEventListener("close", leave);
  dialog.addEventListener("change", (event) => {
    const page = closest(event, "[data-document]", HTMLInputElement);
    if (page) load(page.dataset.document ?? "", page.value);
  });
  viewer.addEventListener("wheel", stopSlides, { passive: true });
  startZoom(viewer, (by) => {
    stopSlides();
    step(by);
  });
}

/** @param {string} name @param {string} label @param {string} path The "d" of an SVG path. */
function icon(name, label, path) {
  const button = element("button", {
    type: "button", class: `rz-icon ${name}`, "aria-label": label, title: label,
  });
  button.innerHTML =
    '<svg width="22" height="22" viewBox="0 0 24 24" fill="none" stroke="currentColor" ' +
    `stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"><path d="${path}"/></svg>`;
  return button;
}

/** @param {MouseEvent} event */
function onClick(event) {
  const opener = closest(event, ".rz-open");
  if (opener) {
    if (opensElsewhere(event)) return undefined;
    event.preventDefault();
    return open(opener.dataset.segment ?? "", opener);
  }
  if (!dialog.open) return undefined;
  if (event.target === dialog || closest(event, ".rz-close")) return close();
  const running = areSlidesRunning();
  stopSlides();
  if (closest(event, ".rz-slides")) return running ? undefined : showSlides();
  if (closest(event, ".rz-fill")) return fillScreen();
  if (closest(event, ".rz-info")) return toggleInfo();
  if (closest(event, ".rz-before")) return step(-1);
  if (closest(event, ".rz-after")) return step(1);
  const turn = closest(event, "[data-turn]");
  if (turn) return load(turn.dataset.turn ?? "");
  const other = closest(event, "[data-goto]");
  if (other && !opensElsewhere(event)) {
    event.preventDefault();
    return goTo(other.dataset.goto ?? "", null, { push: true });
  }
  const copy = closest(event, "[data-copy]");
  if (copy) return copyText(copy.dataset.copy ?? "");
  const desktop = closest(event, "[data-desktop]");
  if (desktop) return showOnDesktop(desktop.dataset.desktop ?? "");
  const link = closest(event, "a[data-search]");
  if (!link || opensElsewhere(event)) return undefined;
  event.preventDefault();
  return follow(link.getAttribute("href") ?? "");
}

/** Whether a click on a link opens another tab or window. @param {MouseEvent} event */
const opensElsewhere = (event) => event.ctrlKey || event.metaKey || event.shiftKey;

/** Shows the result that the address names, or none. @param {string | null} segment */
export function showDetail(segment) {
  if (!segment) close();
  else if (!dialog.open || segment !== result) open(segment);
}

/** @param {string} segment @param {HTMLElement | null} from */
function open(segment, from = null) {
  if (!dialog.open) dialog.showModal();
  document.documentElement.classList.add("rz-locked");
  further.observe(get("#rz-tabs"), { childList: true, subtree: true });
  goTo(segment, from);
}

/**
 * Shows a result; its card is given where copies of the file have cards, too.
 * @param {string} segment
 * @param {HTMLElement | null} from
 * @param {{ push?: boolean }} how
 */
function goTo(segment, from = null, how = {}) {
  result = segment;
  sought = "";
  if (from) card = from;
  else findCard();
  card?.scrollIntoView({ block: "nearest" }); // What comes next is loaded where the list is shown.
  writeOpen(segment, how);
  load(segment);
}

function findCard() {
  card = stops().find((stop) => stop.dataset.segment === result) ?? null;
}

function close() {
  if (dialog.open) dialog.close();
}

function leave() {
  if (dialog.open) return; // The event came late: it was opened again meanwhile.
  stopSlides();
  if (document.fullscreenElement) document.exitFullscreen();
  further.disconnect();
  wanted = null;
  steppingOn = false;
  forgetContents();
  document.documentElement.classList.remove("rz-locked");
  show("");
  writeOpen(null);
  card?.focus();
}

// ---- from one result to the next

/** The cards that can be seen and, where more can be loaded, the buttons for them, in order. */
function stops() {
  const all = document.querySelectorAll("#rz-tabs :is(.rz-open, [data-more])");
  return [...all].filter((stop) => stop.checkVisibility()); // Not what is folded.
}

/** @param {HTMLElement | null} stop @param {HTMLElement[]} order */
const positionOf = (stop, order) => (stop ? order.indexOf(stop) : -1);

/** @param {number} by */
function step(by) {
  const order = stops();
  const position = positionOf(card, order);
  let next = order[position + by];
  if (by < 0 && next?.dataset.more) next = order[position - 2];
  if (position < 0 || !next) {
    const listed = positionInList(card); // The next ones may be on their way.
    steppingOn = by > 0 && listed !== null && listed.position < listed.total;
    return;
  }
  if (next.dataset.more) {
    steppingOn = true;
    next.click();
  } else {
    goTo(next.dataset.segment ?? "", next);
  }
}

/** Shows where the result is among all, and loads further ones before the end is reached. */
function showPosition() {
  const order = stops();
  const cards = order.filter((stop) => stop.dataset.segment);
  const position = positionOf(card, order);
  const left = order.filter((stop) => stop.dataset.more).map((stop) => Number(stop.dataset.left));
  const known = number(cards.length + left.reduce((sum, count) => sum + (count || 0), 0));
  const total = left.some(isNaN) ? `${known}+` : known;
  const listed = positionInList(card);
  get(".rz-position", null, dialog).textContent =
    position < 0 ? "" : t("{position} of {total}", listed ?? { position: positionOf(card, cards) + 1, total });
  get(".rz-before", HTMLButtonElement, dialog).disabled = position <= 0;
  get(".rz-after", HTMLButtonElement, dialog).disabled =
    position < 0 || (position >= order.length - 1 && !(listed && listed.position < listed.total));
  order.slice(position + 1, position + 1 + LOAD_AHEAD).find((stop) => stop.dataset.more)?.click();
}

const further = new MutationObserver(() => {
  if (!card?.isConnected) findCard();
  showPosition();
  const order = stops();
  if (steppingOn && order[positionOf(card, order) + 1]?.dataset.segment) step(1);
});

// ---- the content

/** @param {string} segment @param {string} page */
async function load(segment, page = "") {
  const body = get(".rz-detail-body", null, dialog);
  const asked = contentAddress(segment, { find: sought, page });
  wanted = asked;
  steppingOn = false;
  body.dataset.busy = "yes";
  if (segment === card?.dataset.segment && !page) showThumbnail();
  showPosition();
  const content = await fetchContent(asked);
  await pageDrawn(content);
  if (wanted !== asked) return;
  delete body.dataset.busy;
  show(content ?? unanswered(t("It may have been stopped."), { "data-turn": segment }));
  prepare(body);
  keepNeighbours(asked);
}

/**
 * Loads what the next and the previous step will show, and forgets the rest.
 * @param {string} asked
 */
function keepNeighbours(asked) {
  const order = stops();
  const position = positionOf(card, order);
  const neighbours = [order[position + 1], order[position - 1]]
    .filter((stop) => position >= 0 && stop?.dataset.segment)
    .map((stop) => contentAddress(stop.dataset.segment ?? ""));
  const nextPage = viewer.querySelector(".rz-turn > [data-turn]:last-of-type");
  if (nextPage) neighbours.push(contentAddress(nextPage.dataset.turn ?? "", { find: sought }));
  keepContents(asked, neighbours);
}

/** Shows the card's thumbnail and name until the content is there. */
function showThumbnail() {
  const thumbnail = card?.querySelector(".rz-thumb img")?.getAttribute("src");
  const picture = thumbnail ? [element("img", { class: "rz-full", src: thumbnail, alt: "" })] : [];
  const name = card?.querySelector(".rz-title b")?.textContent ?? "";
  showElement(
    element(
      "div",
      { class: "rz-opening" },
      element("div", { class: "rz-stage" }, ...picture),
      element("aside", { class: "rz-side" }, element("h2", { id: "rz-detail-title" }, name)),
    ),
  );
}

/** @param {string} content */
function show(content) {
  const template = element("template");
  template.innerHTML = content;
  showElement(template.content);
}

/**
 * Replaces the content; a video is stopped first, or it would go on loading unseen.
 * @param {Node} content
 */
function showElement(content) {
  const body = get(".rz-detail-body", null, dialog);
  const video = body.querySelector("video");
  if (video) stopVideo(video);
  const hadFocus = body.contains(document.activeElement);
  body.replaceChildren(content);
  if (hadFocus) viewer.focus(); // Else the keyboard would leave the dialog with it.
  resetZoom(viewer);
}

/**
 * Starts a video at its clip; shows a passage, not the file's first line.
 * @param {HTMLElement} body
 */
function prepare(body) {
  const video = body.querySelector("video");
  if (video) startVideo(video);
  const passage = body.querySelector(".rz-passage");
  const text = body.querySelector(".rz-text");
  if (passage && text) text.scrollTop = passage.offsetTop - text.offsetTop - 80;
  const related = body.querySelector("[data-related]");
  if (related) setTimeout(() => showRelated(related), REST_MS);
}

/**
 * Fills the place for what is related, if it is still shown and the details are not folded.
 * @param {HTMLElement} place
 */
async function showRelated(place) {
  if (!place.checkVisibility()) return;
  try {
    const response = await fetchRoute(place.dataset.related ?? "");
    if (response.ok) place.innerHTML = await response.text();
  } catch {
    // The file itself is shown all the same.
  }
}

/** @type {Record<string, (running: boolean) => void>} What keys do; `running` is the slide show. */
const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  PageUp: () => turn(0),
  PageDown: () => turn(1),
  "+": () => zoomBy(viewer, ZOOM_STEP),
  "=": () => zoomBy(viewer, ZOOM_STEP),
  "-": () => zoomBy(viewer, 1 / ZOOM_STEP),
  0: () => zoomBy(viewer, 0),
  f: () => viewer.querySelector("[data-favourite]")?.click(),
  F: () => fillScreen(),
  i: () => toggleInfo(),
  r: () => viewer.querySelector(".rz-loop")?.click(),
  " ": (running) => running || showSlides(),
};

/** @param {KeyboardEvent} event */
function onKey(event) {
  const running = areSlidesRunning();
  stopSlides();
  const field = closest(event, "[data-find]", HTMLInputElement);
  if (field && event.key === "Enter") findInDocument(field);
  if (typing() || closest(event, "video, audio")) return;
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  if (event.key === " " && closest(event, "button, a, summary")) return; // It presses them.
  event.preventDefault();
  KEYS[event.key](running);
}

/** @param {number} which 0 for back, 1 for on. */
function turn(which) {
  const button = all(".rz-turn button", HTMLButtonElement, dialog)[which];
  if (button && !button.disabled) button.click();
}

function showSlides() {
  startSlides(get(".rz-slides", null, viewer), () => {
    if (isPlaying(viewer)) return true;
    const isLast = get(".rz-after", HTMLButtonElement, viewer).disabled;
    if (!isLast) step(1);
    return !isLast;
  });
}

function fillScreen() {
  const change = document.fullscreenElement ? document.exitFullscreen() : viewer.requestFullscreen?.();
  change?.catch(() => toast(t("The browser did not fill the screen.")));
}

/** Shows or folds what is known about the file, to leave more room for the picture. */
function toggleInfo() {
  viewer.dataset.info = viewer.dataset.info === "yes" ? "no" : "yes";
  const related = viewer.querySelector("[data-related]:empty");
  if (related) showRelated(related);
}

/**
 * Goes to the first page that has the words; asked again, to the next one.
 * @param {HTMLInputElement} field
 */
async function findInDocument(field) {
  const words = field.value.trim();
  const again = words === sought;
  sought = words;
  if (!again) await load(field.dataset.find ?? "");
  const pages = [...viewer.querySelectorAll(".rz-found button")];
  const at = pages.findIndex((page) => page.getAttribute("aria-current") === "true");
  if (pages.length && (again || at < 0)) await load((pages[at + 1] ?? pages[0]).dataset.turn ?? "");
  viewer.querySelector("[data-find]")?.focus();
}

/** Shows the file in another program of this machine. @param {string} address */
async function showOnDesktop(address) {
  try {
    const response = await fetchRoute(address, { method: "POST" });
    if (!response.ok) toast(sentence(await response.text()));
  } catch {
    toast(t("The server did not answer. Try again."));
  }
}
