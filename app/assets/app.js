// The entry point: connects the page's parts to Gradio's events.
import { startDetail } from "./detail.js";
import { showTab } from "./dom.js";
import { startLibrary } from "./library.js";
import { startSearch } from "./search.js";

let send = null; // Gradio's latest trigger: it connects again when it renders the bridge again.

/** Called by the page's bridge component; `trigger` calls the Python handler of an event. */
export function connect(trigger) {
  send = trigger;
  if (document.documentElement.dataset.rzReady) return;
  const relay = (name, data = {}) => send(name, data);
  startSearch(relay);
  startDetail();
  startLibrary(relay);
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-tab]");
    if (opener) showTab(opener.dataset.tab);
  });
  document.documentElement.dataset.rzReady = "yes";
}
