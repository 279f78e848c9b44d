// The slide show: one result after the other, until the last or until the user does something.

const SLIDE_MS = 5000;

/** @type {ReturnType<typeof setInterval> | undefined} */
let timer;
/** @type {HTMLElement | undefined} */
let button; // Pressed while the slide show runs.

export const areSlidesRunning = () => timer !== undefined;

/**
 * Shows the next result again and again.
 * @param {HTMLElement} pressed The button.
 * @param {() => boolean} showNext Returns whether there was one.
 */
export function startSlides(pressed, showNext) {
  button = pressed;
  pressed.setAttribute("aria-pressed", true);
  timer = setInterval(() => showNext() || stopSlides(), SLIDE_MS);
}

export function stopSlides() {
  button?.setAttribute("aria-pressed", false);
  clearInterval(timer);
  timer = undefined;
}
