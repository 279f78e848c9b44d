// Reading the words in pictures: how far it is, and stopping it.
import { closest, fetchRoute, find, post, toastError } from "./dom.js";

const LOOK_MS = 2_000;

export function startReading() {
  document.addEventListener("click", async (event) => {
    const button = closest(event, "[data-reading]");
    if (!button) return;
    try {
      await post("reading", { on: button.dataset.reading === "on" });
    } catch (error) {
      toastError(error);
    }
    showReading();
  });
  setInterval(() => {
    const place = find("#rz-reading-state");
    // An empty element has no box, but its tab has one.
    if (document.visibilityState === "visible" && place?.closest("#rz-tab-library")?.checkVisibility()) {
      showReading();
    }
  }, LOOK_MS);
}

async function showReading() {
  const place = find("#rz-reading-state");
  try {
    const response = await fetchRoute("reading");
    if (!place || !response.ok) return;
    const html = await response.text();
    if (html === place.dataset.shown) return;
    const focused = place.contains(document.activeElement);
    place.dataset.shown = html;
    place.innerHTML = html;
    if (focused) find("[data-reading]")?.focus();
  } catch {
    // The next look may be answered.
  }
}
