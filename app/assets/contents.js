// The contents of the detail dialog: the one shown and its neighbours' are kept, the rest forgotten.
import { element, fetchRoute } from "./dom.js";

const MAX_WAIT = 3000; // Milliseconds.

/** @type {Map<string, Promise<string | null>>} By address. */
let kept = new Map();

/**
 * The address of a segment's content, with the marks of the search whose results are shown.
 * @param {string} segment
 * @param {{find?: string, page?: string}} [asked] Words to mark in place of the search's, and
 *   another page of the segment's document.
 */
export function contentAddress(segment, { find, page } = {}) {
  const parameters = new URLSearchParams();
  const search = document.querySelector("#rz-results [data-answer]")?.dataset.answer;
  if (document.body.dataset.rzSearched && search) parameters.set("search", search);
  if (find) parameters.set("find", find);
  if (page) parameters.set("page", page);
  return `detail/${Number(segment)}?${parameters}`;
}

/**
 * Returns a promise of the content, or of null if the server does not answer.
 * @param {string} address
 */
export function fetchContent(address) {
  const content = kept.get(address) ?? requestContent(address);
  kept.set(address, content);
  return content;
}

/** @param {string} address @returns {Promise<string | null>} */
async function requestContent(address) {
  try {
    const response = await fetchRoute(address);
    if (!response.ok) kept.delete(address); // The next time it may be better.
    return await response.text();
  } catch {
    kept.delete(address);
    return null;
  }
}

/**
 * Keeps the content shown, and loads those of its neighbours with their pictures.
 * @param {string} shown
 * @param {string[]} neighbours
 */
export function keepContents(shown, neighbours) {
  kept = new Map([...kept].filter(([key]) => key === shown || neighbours.includes(key)));
  neighbours.forEach((neighbour) => fetchContent(neighbour).then(preloadPictures));
}

export function forgetContents() {
  kept.clear();
}

/** @param {string | null} content @param {string} selector @returns {HTMLImageElement[]} */
function pictures(content, selector) {
  const template = element("template");
  template.innerHTML = content ?? "";
  return [...template.content.querySelectorAll(selector)].map((picture) => {
    const loaded = new Image();
    loaded.src = picture.getAttribute("src") ?? "";
    return loaded;
  });
}

/** @param {string | null} content */
const preloadPictures = (content) => pictures(content, ".rz-stage img:not([loading])");

/**
 * Waits until the page of a document is drawn, but not for long: what is shown before it stays so
 * long, for a page that is not there has no size.
 * @param {string | null} content
 */
export async function pageDrawn(content) {
  const drawn = pictures(content, ".rz-sheet img").map((page) => page.decode().catch(() => {}));
  const late = new Promise((resolve) => setTimeout(resolve, MAX_WAIT));
  if (drawn.length) await Promise.race([Promise.all(drawn), late]);
}
