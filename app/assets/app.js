// The entry point: connects the page's parts to Gradio's events.
import { startActions } from "./actions.js";
import { startCollections } from "./collections.js";
import { startDetail } from "./detail.js";
import { closest, showTab } from "./dom.js";
import { startDuplicates } from "./duplicates.js";
import { startKeys } from "./keys.js";
import { startLibrary } from "./library.js";
import { startPreviews } from "./preview.js";
import { startResults } from "./results.js";
import { startSearch } from "./search.js";
import { startSelection } from "./selection.js";
import { chooseLanguage, language } from "./texts.js";

/** @typedef {(name: string, data?: object) => void} Send Calls the Python handler of an event. */

/** @type {Send} */
let send = () => {}; // Gradio's latest trigger: it connects again when it renders the bridge again.

/** Called by the page's bridge component. @param {Send} trigger */
export function connect(trigger) {
  send = trigger;
  if (document.documentElement.dataset.rzReady) return;
  document.documentElement.lang = language; // Gradio names the browser's, whatever the texts are.
  /** @type {Send} */
  const relay = (name, data = {}) => send(name, data);
  startDetail();
  startPreviews();
  startResults(() => relay("show_model"));
  startCollections();
  startSearch();
  startLibrary(relay);
  startSelection();
  startActions();
  startDuplicates();
  startKeys();
  document.addEventListener("click", (event) => {
    const opener = closest(event, "[data-tab]");
    if (opener) showTab(opener.dataset.tab ?? "");
  });
  document.addEventListener("change", (event) => {
    const chosen = closest(event, "#rz-language", HTMLSelectElement);
    if (chosen) chooseLanguage(chosen.value);
  });
  document.documentElement.dataset.rzReady = "yes";
}
