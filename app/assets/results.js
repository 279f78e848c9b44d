// The results of a search: asked for, shown, and continued while the user scrolls.
import { withOpen } from "./address.js";
import { showCounts } from "./counts.js";
import { closest, element, fetchRoute, find, get, toast, unanswered } from "./dom.js";
import { clearSelection } from "./selection.js";
import { t } from "./texts.js";

const GHOSTS = 12;

/**
 * @typedef {object} Period A date that the words say.
 * @property {string} label
 * @property {string} phrase The words.
 * @property {string} text The other words.
 * @property {string} after
 * @property {string} before
 */

/** @type {AbortController | null} */
let running = null; // Of the latest search.
let showModel = () => {};

/** @param {() => void} update Called when the library has another model than the page describes. */
export function startResults(update) {
  showModel = update;
  document.addEventListener("click", (event) => {
    const more = closest(event, "[data-more]", HTMLButtonElement);
    if (more) loadMore(more);
    const alike = closest(event, "[data-alike]", HTMLButtonElement);
    if (alike) toggleAlike(alike);
  });
}

/**
 * Searches and shows the answer. The search before is cancelled: its answer never comes later.
 * @param {object} asked The fields of `app.search.SearchForm`.
 */
export async function showResults(asked) {
  running?.abort();
  const { signal } = (running = new AbortController());
  wait();
  let shown = unanswered(t("It may have been stopped. Your search is kept."), { "data-again": true });
  /** @type {Period | null} */
  let period = null;
  try {
    const response = await request(asked, signal);
    const text = await response.text();
    const isPage = response.headers.get("Content-Type")?.startsWith("text/html");
    if (isPage) shown = text;
    period = JSON.parse(response.headers.get("X-Period") ?? "null");
    const described = find("#rz-head [data-model]")?.dataset.model;
    if (isPage && response.headers.get("X-Library-Model") !== described) showModel();
  } catch {
    // The server does not answer.
  }
  if (signal.aborted) return;
  show(shown);
  document.dispatchEvent(new CustomEvent("rz-period", { detail: period }));
}

/** @param {object} asked @param {AbortSignal} [signal] */
const request = (asked, signal) =>
  fetchRoute("results", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(asked),
    signal,
  });

/**
 * Counts the matches that are left after some have been removed; those shown stay where they are.
 * @param {object} asked
 */
export async function countAgain(asked) {
  const answer = find("#rz-answer [data-answer]");
  const response = await request(asked).catch(() => null);
  if (!response?.ok || !answer?.isConnected) return;
  const template = element("template");
  template.innerHTML = await response.text();
  const { counts, uncounted } = template.content.querySelector("[data-answer]")?.dataset ?? {};
  const heading = template.content.querySelector("[data-heading]")?.textContent;
  const found = uncounted ? await countAll(uncounted) : { counts: JSON.parse(counts ?? "null"), heading };
  if (found?.heading && answer.isConnected) showCounted(answer, found);
}

/** Forgets the results and the search that may be running. */
export function clearResults() {
  running?.abort();
  show("");
}

/** @param {string} html */
function show(html) {
  clearSelection();
  get("#rz-answer").innerHTML = html;
  get("#rz-results").classList.remove("rz-waiting");
  get("#rz-answer").removeAttribute("aria-busy");
  const answer = find("#rz-answer [data-answer]");
  get(".rz-border").hidden = !answer?.dataset.answer; // Where no words were looked for.
  countKinds(answer);
  linkCards();
  watchMore();
}

/**
 * Shows how many files of each kind match; what the answer does not say is counted now.
 * @param {HTMLElement | null} answer
 */
async function countKinds(answer) {
  const { counts, uncounted } = answer?.dataset ?? {};
  showCounts(counts ? JSON.parse(counts) : null);
  if (!answer || !uncounted) return;
  const more = answer.querySelector("[data-more]");
  const found = await countAll(uncounted);
  if (!found || !answer.isConnected) return; // Another search was made meanwhile.
  showCounted(answer, found);
  if (more && found.left !== null) more.dataset.left = String(found.left);
}

/**
 * Asks how many files match.
 * @param {string} uncounted
 * @returns {Promise<{ counts: Record<string, number>, heading: string, left: number | null } | null>}
 */
async function countAll(uncounted) {
  const response = await fetchRoute(uncounted).catch(() => null);
  return response?.ok ? response.json() : null;
}

/** @param {HTMLElement} answer @param {{ counts: Record<string, number> | null, heading?: string }} found */
function showCounted(answer, { counts, heading = "" }) {
  showCounts(counts);
  const shown = answer.querySelector("[data-heading]");
  if (shown) shown.textContent = heading;
}

/** Cards lead to this search with the result open, also in another tab. */
function linkCards() {
  for (const card of document.querySelectorAll("#rz-answer .rz-open")) {
    card.setAttribute("href", withOpen(card.dataset.segment));
  }
}

/** Dims the results that are shown, or shows where the first ones will be. */
function wait() {
  const answer = get("#rz-answer");
  answer.setAttribute("aria-busy", "true");
  get("#rz-results").classList.add("rz-waiting");
  if (answer.querySelector(".rz-card")) return;
  const ghost = () =>
    element("div", { class: "rz-card rz-ghost" }, element("span", { class: "rz-thumb" }));
  answer.replaceChildren(
    element("div", { class: "rz-grid", "aria-hidden": "true" }, ...Array.from({ length: GHOSTS }, ghost)),
  );
}

// ---- further results

/** @param {HTMLButtonElement} button */
async function loadMore(button) {
  const place = button.closest(".rz-more");
  const page = await load(button, button.dataset.more ?? "");
  if (!page) return;
  place?.replaceWith(page);
  linkCards();
  watchMore();
}

/**
 * Loads cards for a button, which waits meanwhile; null if it waits already or they do not come.
 * @param {HTMLButtonElement} button
 * @param {string} address
 */
async function load(button, address) {
  if (button.disabled) return null;
  button.disabled = true;
  try {
    const response = await fetchRoute(address);
    return document.createRange().createContextualFragment(await response.text());
  } catch {
    toast(t("The server did not answer. Try again."));
    return null;
  } finally {
    button.disabled = false;
  }
}

/**
 * Shows the pictures that look nearly like a card's behind it, or hides them again.
 * @param {HTMLButtonElement} button
 */
async function toggleAlike(button) {
  const card = button.closest(".rz-card");
  if (!card) return;
  const { segment = "" } = card.dataset;
  const shown = document.querySelectorAll(`#rz-answer [data-alike-of="${segment}"]`);
  if (shown.length) {
    for (const one of shown) one.remove();
  } else {
    const page = await load(button, button.dataset.alike ?? "");
    if (!page) return;
    for (const one of page.children) one.setAttribute("data-alike-of", segment);
    card.after(page);
    linkCards();
  }
  button.setAttribute("aria-expanded", shown.length ? "false" : "true");
}

const nearing = new IntersectionObserver(
  (entries) =>
    entries.forEach((entry) => {
      if (!entry.isIntersecting) return;
      nearing.unobserve(entry.target);
      loadMore(get("button", HTMLButtonElement, entry.target));
    }),
  { rootMargin: "400px" },
);

/** Further cards come by themselves when the end of the grid is near. */
function watchMore() {
  document.querySelectorAll("#rz-answer .rz-more:not([data-watched])").forEach((place) => {
    place.dataset.watched = "yes";
    nearing.observe(place);
  });
}
