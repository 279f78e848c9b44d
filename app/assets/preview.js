// Cards of videos move while a mouse rests on them.
import { closest, get } from "./dom.js";
import { playFilm, prefersStillness } from "./film.js";

const REST_MS = 400;
const PREVIEW_SECONDS = 2; // The server decodes as much at once.
const SIDE = 384; // As thumbnails have.

let stop = () => {};

export function startPreviews() {
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse" || prefersStillness()) return;
    const thumb = closest(event, ".rz-card[data-kind=video] .rz-thumb");
    if (!thumb || thumb.contains(/** @type {Node | null} */ (event.relatedTarget)) || thumb.querySelector(".rz-absent")) return;
    stop();
    stop = preview(thumb);
  });
}

/** Returns what ends the preview and shows the thumbnail again. @param {HTMLElement} thumb */
function preview(thumb) {
  const picture = get("img", HTMLImageElement, thumb);
  const segment = thumb.closest(".rz-card")?.dataset.segment ?? "";
  const thumbnail = picture.src;
  let stopFilm = () => {};
  const play = () => {
    // A card that is replaced or covered is never left by the mouse.
    const onEnd = () => (thumb.matches(":hover") ? play() : end());
    stopFilm = playFilm(picture, { segment, seconds: PREVIEW_SECONDS, side: SIDE, onEnd });
  };
  const timer = setTimeout(play, REST_MS);
  const end = () => {
    clearTimeout(timer);
    stopFilm();
    picture.src = thumbnail;
  };
  for (const name of ["pointerleave", "click"]) thumb.addEventListener(name, end, { once: true });
  return end;
}
