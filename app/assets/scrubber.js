// The scrubber: years along the right edge, and a thumb that leads to any month.
import { closest, element, get } from "./dom.js";

const LABEL = 18; // Pixels that a year needs.

/**
 * What the keys do: how many months or years they go on.
 * @type {Record<string, [number, "month" | "year"]>}
 */
const KEYS = {
  ArrowUp: [-1, "month"],
  ArrowDown: [1, "month"],
  PageUp: [-1, "year"],
  PageDown: [1, "year"],
  Home: [-Infinity, "month"],
  End: [Infinity, "month"],
};

/**
 * @typedef {object} List What is scrolled; its parts are numbers from 0 to 1.
 * @property {(part: number) => void} toPart
 * @property {(by: number, unit: "month" | "year") => void} toMonth
 * @property {(part: number) => string} nameAt The month there.
 */

/** @type {List} */
let list;
let at = 0; // The part that is shown.

/** @param {List} scrolled */
export function startScrubber(scrolled) {
  list = scrolled;
  document.addEventListener("pointerdown", drag);
  document.addEventListener("keydown", onKey);
}

/** @param {[string, number][]} years With the part at which they begin. */
export function showScrubber(years) {
  const scrubber = get("#rz-scrubber");
  scrubber.hidden = !years.length;
  let last = -Infinity;
  const labels = years.map(([year, part]) => {
    const style = `top:${100 * part}%`;
    const top = part * scrubber.clientHeight;
    if (top - last < LABEL) return element("i", { style }); // A dot: there is no room.
    last = top;
    return element("span", { style }, year);
  });
  scrubber.replaceChildren(...labels, element("b", {}, element("em", {})));
  moveThumb(at);
}

/** Shows where the list is. @param {number} part */
export function moveThumb(part) {
  at = part;
  const scrubber = get("#rz-scrubber");
  const thumb = scrubber.querySelector("b");
  if (!thumb) return;
  const name = list.nameAt(part);
  thumb.style.transform = `translateY(${part * scrubber.clientHeight}px)`;
  get("em", HTMLElement, thumb).textContent = name;
  scrubber.setAttribute("aria-valuenow", Math.round(100 * part));
  scrubber.setAttribute("aria-valuetext", name);
}

/** @param {PointerEvent} event */
function drag(event) {
  const scrubber = closest(event, "#rz-scrubber");
  if (!scrubber || event.button) return;
  event.preventDefault();
  scrubber.setPointerCapture(event.pointerId);
  scrubber.dataset.dragging = "yes";
  /** @param {PointerEvent} event */
  const move = ({ clientY }) => {
    const { top, height } = scrubber.getBoundingClientRect();
    list.toPart(Math.min(1, Math.max(0, (clientY - top) / height)));
  };
  const end = () => {
    scrubber.removeEventListener("pointermove", move);
    delete scrubber.dataset.dragging;
  };
  move(event);
  scrubber.addEventListener("pointermove", move);
  scrubber.addEventListener("lostpointercapture", end, { once: true });
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (!closest(event, "#rz-scrubber") || !(event.key in KEYS)) return;
  event.preventDefault();
  list.toMonth(...KEYS[event.key]);
}
