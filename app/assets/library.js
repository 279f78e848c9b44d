// The library tab: following what runs and changing the model; files, folders, uploads beside it.
import { ask, closest, find, get, onPanel } from "./dom.js";
import { showAdded, startFiles } from "./files.js";
import { startFolders } from "./folders.js";
import { startReading } from "./reading.js";
import { t } from "./texts.js";
import { startUploads } from "./uploads.js";

/** @type {import("./app.js").Send} */
let send = () => {};
let moving = false;

/** @param {import("./app.js").Send} sender */
export function startLibrary(sender) {
  send = sender;
  document.addEventListener("click", onClick);
  document.addEventListener("submit", (event) => {
    const form = closest(event, "#rz-name-folder, #rz-reembed");
    if (!form) return;
    event.preventDefault();
    if (form.id === "rz-name-folder") send("add_folder", { folder: get("#rz-path", HTMLInputElement).value });
    else change(find("[name=rz-offer]:checked", HTMLInputElement));
  });
  startUploads(() => send("add_uploads"));
  startFiles(() => send("refresh"));
  startFolders(() => send("refresh"));
  startReading();
  addEventListener("rz-removed", () => send("refresh"));
  onPanel("rz-ingest", moveOn);
  onPanel("rz-model", forgetChoice);
  if (dismissed()) document.body.dataset.rzDismissed = "yes";
}

// ---- events

/** @param {MouseEvent} event */
function onClick(event) {
  if (closest(event, "[data-cancel]")) send("cancel");
  if (closest(event, "[data-resume]")) send("resume");
  if (closest(event, "[data-show-added]")) showAdded();
  if (closest(event, "[data-retry]")) send("retry");
  if (closest(event, '[data-scan=""]')) send("scan");
  const again = closest(event, "[data-reembed]");
  if (again) reembed({ model: again.dataset.reembed, leave_out: again.dataset.leaveOut === "yes" });
  const suggested = closest(event, "[data-suggested]");
  if (suggested) choose(suggested.dataset.suggested ?? "");
  if (closest(event, "[data-dismiss]")) dismiss();
}

/**
 * Changes the model to the one of a radio button; what has to be downloaded is asked first.
 * @param {HTMLInputElement | null} offer None where no model can be chosen.
 */
async function change(offer) {
  if (!offer) return;
  const { question } = offer.dataset;
  if (question && !(await ask(question, t("Download and re-embed")))) return;
  reembed({ model: offer.value, download: Boolean(question) });
}

/**
 * Starts to re-embed the library, and shows the progress above the button.
 * @param {{ model?: string, download?: boolean, leave_out?: boolean }} choice
 */
function reembed(choice) {
  moving = Boolean(document.activeElement?.matches(":focus-visible"));
  send("reembed", choice);
  find("#rz-ingest")?.scrollIntoView({ block: "nearest" });
}

/** Does what a person does who chooses a model from the list. @param {string} model */
function choose(model) {
  get(`[name=rz-offer][value="${model}"]`, HTMLInputElement).checked = true;
  get("#rz-reembed", HTMLFormElement).requestSubmit();
}

// That a suggestion was dismissed is a fact about a person, not about the library, which may be
// read-only and shared: it is kept in the browser.
const DISMISSED = "rz-suggestion-dismissed";

function dismissed() {
  try {
    return localStorage.getItem(DISMISSED);
  } catch {
    return "yes"; // Nothing can be kept here: the suggestion would come back each time.
  }
}

function dismiss() {
  document.body.dataset.rzDismissed = "yes";
  find("[name=rz-offer]:enabled")?.focus();
  localStorage.setItem(DISMISSED, "yes");
}

/**
 * Takes the choice back: Gradio changes the list in place, and it would be of another model.
 * @param {HTMLElement} panel
 */
function forgetChoice(panel) {
  const choice = find("[name=rz-offer]:checked", HTMLInputElement, panel);
  if (choice) choice.checked = false;
}

/**
 * Moves the keyboard's focus to Cancel, since the pressed button is disabled meanwhile.
 * @param {HTMLElement} panel
 */
function moveOn(panel) {
  const cancel = moving && panel.querySelector("[data-cancel]");
  if (!cancel) return;
  moving = false;
  cancel.focus({ preventScroll: true });
}
