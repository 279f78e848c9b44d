// The slide show: one result after the other, until the last or until the user does something.

const SLIDE_MS = 5000;

let timer = null;
let button = null; // Pressed while the slide show runs.

export const areSlidesRunning = () => timer !== null;

/** Shows the next result again and again; `showNext` returns whether there was one. */
export function startSlides(pressed, showNext) {
  button = pressed;
  button.setAttribute("aria-pressed", true);
  timer = setInterval(() => showNext() || stopSlides(), SLIDE_MS);
}

export function stopSlides() {
  button?.setAttribute("aria-pressed", false);
  clearInterval(timer);
  timer = null;
}
