// Zoom and pan in the stage of the detail dialog: wheel, double click, pinch and drag; and swipes.
import { closest, find } from "./dom.js";

const MAX_SCALE = 12;
const DOUBLE_CLICK_SCALE = 3;
const SHARPER_FROM = 1.4; // Above it a page is asked for in more pixels.
const SWIPE_PIXELS = 60;
const CONTROLS = "button, a, input, video, .rz-strip"; // They have clicks and drags of their own.
const MAX_ENLARGEMENT = 4; // Smaller pictures would be nothing but squares.

let view = { scale: 1, x: 0, y: 0 };
/** @type {Map<number, PointerEvent>} */
const pointers = new Map(); // Fingers and pressed mice on the stage, by id.
/** @type {PointerEvent | null} */
let start = null; // Where the only pointer was put down, if it may become a swipe.
/** @type {(by: number) => void} */
let onSwipe = () => {};

/**
 * @param {HTMLElement} area Holds the stage, whose content changes.
 * @param {(by: number) => void} swiped Called with 1 for a swipe to the left, with -1 to the right.
 */
export function startZoom(area, swiped) {
  onSwipe = swiped;
  area.addEventListener("wheel", onWheel, { passive: false });
  area.addEventListener("dblclick", onDoubleClick);
  area.addEventListener("pointerdown", onDown);
  area.addEventListener("pointermove", onMove);
  area.addEventListener("pointerup", onUp);
  area.addEventListener("pointercancel", onUp);
  area.addEventListener("dragstart", (event) => zoomable(event) && event.preventDefault());
}

/**
 * Shows the whole picture; small ones are enlarged, as far as that makes sense.
 * @param {HTMLElement} area
 */
export function resetZoom(area) {
  view = { scale: 1, x: 0, y: 0 };
  pointers.clear();
  const picture = target(area);
  if (!picture) return;
  apply(picture);
  const image = picture instanceof HTMLImageElement ? picture : find(".rz-marked > img", HTMLImageElement, area);
  if (!image || picture.closest(".rz-opening")) return;
  const fit = () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    image.style.background = ""; // The thumbnail.
    picture.style.maxWidth = `min(100%, ${MAX_ENLARGEMENT * width}px)`;
    picture.style.maxHeight = `min(100%, ${MAX_ENLARGEMENT * height}px)`;
    const marks = picture.querySelector("svg");
    marks?.setAttribute("viewBox", `0 0 ${width} ${height}`);
    marks?.firstElementChild?.setAttribute("transform", `scale(${width} ${height})`);
  };
  if (image.complete && image.naturalWidth) fit();
  else image.addEventListener("load", fit, { once: true });
}

/** Zooms about the middle of the stage. @param {HTMLElement} area @param {number} factor */
export function zoomBy(area, factor) {
  const stage = area.querySelector(".rz-stage");
  if (!stage) return;
  const { left, top, width, height } = stage.getBoundingClientRect();
  zoomAt(target(area), factor, left + width / 2, top + height / 2);
}

/** What zooms in the stage. @param {HTMLElement} area */
function target(area) {
  return area.querySelector(".rz-sheet, .rz-marked, .rz-stage > img.rz-full");
}

/**
 * The picture or page of the stage that the event is in, if there is one that zooms.
 * @param {Event} event
 */
function zoomable(event) {
  const stage = closest(event, ".rz-stage");
  if (!stage || closest(event, CONTROLS)) return null;
  return target(areaOf(event));
}

/** The area that listens. @param {Event} event */
const areaOf = (event) => /** @type {HTMLElement} */ (event.currentTarget);

/**
 * Zooms so that what is at a point of the window stays there.
 * @param {HTMLElement | null} shown
 * @param {number} factor
 * @param {number} clientX
 * @param {number} clientY
 */
function zoomAt(shown, factor, clientX, clientY) {
  if (!shown) return;
  const box = shown.getBoundingClientRect();
  const scale = Math.min(MAX_SCALE, Math.max(1, view.scale * factor));
  const by = scale / view.scale;
  // The box's middle is where the transform begins.
  view.x += (clientX - (box.left + box.width / 2)) * (1 - by);
  view.y += (clientY - (box.top + box.height / 2)) * (1 - by);
  view.scale = scale;
  apply(shown);
  if (scale > SHARPER_FROM) sharpen(shown);
}

/**
 * Moves and scales what is shown; its edges stay outside of where it lies unscaled.
 * @param {HTMLElement} shown
 */
function apply(shown) {
  const { scale } = view;
  /** @param {number} length */
  const reach = (length) => (length * (scale - 1)) / 2;
  view.x = Math.max(-reach(shown.offsetWidth), Math.min(reach(shown.offsetWidth), view.x));
  view.y = Math.max(-reach(shown.offsetHeight), Math.min(reach(shown.offsetHeight), view.y));
  shown.style.transform =
    scale === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${scale})`;
  shown.closest(".rz-stage")?.setAttribute("data-zoomed", scale === 1 ? "" : "yes");
}

/** Asks for a page in as many pixels as the server draws. @param {HTMLElement} shown */
function sharpen(shown) {
  const picture = shown instanceof HTMLImageElement ? shown : shown.querySelector("img");
  const sharper = picture?.dataset.sharper;
  if (!picture || !sharper) return;
  delete picture.dataset.sharper;
  picture.src = sharper; // The one before is shown until this is there.
}

// ---- mouse and fingers

/** @param {WheelEvent} event */
function onWheel(event) {
  const shown = zoomable(event);
  if (!shown) return;
  event.preventDefault();
  zoomAt(shown, Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), event.clientX, event.clientY);
}

/** @param {MouseEvent} event */
function onDoubleClick(event) {
  const shown = zoomable(event);
  if (!shown) return;
  const factor = view.scale > 1 ? 1 / view.scale : DOUBLE_CLICK_SCALE;
  zoomAt(shown, factor, event.clientX, event.clientY);
}

/** @param {PointerEvent} event */
function onDown(event) {
  const stage = closest(event, ".rz-stage");
  if (!stage || closest(event, CONTROLS)) return;
  if (event.pointerType === "mouse" && (event.button !== 0 || !zoomable(event))) return;
  pointers.set(event.pointerId, event);
  start = pointers.size === 1 ? event : null;
  if (view.scale > 1 || pointers.size > 1) stage.setPointerCapture(event.pointerId);
}

/** @param {PointerEvent} event */
function onMove(event) {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const [other] = [...pointers.values()].filter((each) => each.pointerId !== event.pointerId);
  pointers.set(event.pointerId, event);
  const shown = target(areaOf(event));
  if (!shown) return;
  if (other) pinch(shown, before, event, other);
  else if (view.scale > 1) move(shown, before, event);
}

/** @param {HTMLElement} shown @param {PointerEvent} before @param {PointerEvent} event */
function move(shown, before, event) {
  view.x += event.clientX - before.clientX;
  view.y += event.clientY - before.clientY;
  apply(shown);
}

/**
 * @param {HTMLElement} shown
 * @param {PointerEvent} before
 * @param {PointerEvent} event
 * @param {PointerEvent} other The other finger.
 */
function pinch(shown, before, event, other) {
  /** @param {PointerEvent} one */
  const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  /** @param {PointerEvent} one @param {"clientX" | "clientY"} axis */
  const middle = (one, axis) => (one[axis] + other[axis]) / 2;
  view.x += middle(event, "clientX") - middle(before, "clientX");
  view.y += middle(event, "clientY") - middle(before, "clientY");
  apply(shown);
  const factor = apart(event) / Math.max(1, apart(before));
  zoomAt(shown, factor, middle(event, "clientX"), middle(event, "clientY"));
}

/** @param {PointerEvent} event */
function onUp(event) {
  if (!pointers.delete(event.pointerId) || !start) return;
  const across = event.clientX - start.clientX;
  const along = Math.abs(event.clientY - start.clientY);
  const touched = event.type === "pointerup" && event.pointerType !== "mouse";
  start = null;
  if (touched && view.scale === 1 && Math.abs(across) > Math.max(SWIPE_PIXELS, 2 * along)) {
    onSwipe(across < 0 ? 1 : -1);
  }
}
