// The library tab: following what runs and changing the model; files, folders, uploads beside it.
import { ask, find, onPanel } from "./dom.js";
import { showAdded, startFiles } from "./files.js";
import { startFolders } from "./folders.js";
import { t } from "./texts.js";
import { startUploads } from "./uploads.js";

let send = () => {};
let moving = false;

export function startLibrary(sender) {
  send = sender;
  document.addEventListener("click", onClick);
  document.addEventListener("submit", (event) => {
    const { id } = event.target;
    if (id !== "rz-name-folder" && id !== "rz-reembed") return;
    event.preventDefault();
    if (id === "rz-name-folder") send("add_folder", { folder: find("#rz-path").value });
    else change(find("[name=rz-offer]:checked"));
  });
  startUploads(() => send("add_uploads"));
  startFiles(() => send("refresh"));
  startFolders(() => send("refresh"));
  addEventListener("rz-removed", () => send("refresh"));
  onPanel("rz-ingest", moveOn);
  onPanel("rz-model", forgetChoice);
  if (dismissed()) document.body.dataset.rzDismissed = "yes";
}

// ---- events

function onClick(event) {
  if (event.target.closest("[data-cancel]")) send("cancel");
  if (event.target.closest("[data-resume]")) send("resume");
  if (event.target.closest("[data-show-added]")) showAdded();
  if (event.target.closest("[data-retry]")) send("retry");
  if (event.target.closest('[data-scan=""]')) send("scan");
  const again = event.target.closest("[data-reembed]");
  if (again) reembed({ model: again.dataset.reembed, leave_out: again.dataset.leaveOut === "yes" });
  const suggested = event.target.closest("[data-suggested]");
  if (suggested) choose(suggested.dataset.suggested);
  if (event.target.closest("[data-dismiss]")) dismiss();
}

/** Changes the model to the one of a radio button; what has to be downloaded is asked first. */
async function change(offer) {
  const { question } = offer.dataset;
  if (question && !(await ask(question, t("Download and re-embed")))) return;
  reembed({ model: offer.value, download: Boolean(question) });
}

/** Starts to re-embed the library, and shows the progress above the button. */
function reembed(choice) {
  moving = Boolean(document.activeElement?.matches(":focus-visible"));
  send("reembed", choice);
  find("#rz-ingest")?.scrollIntoView({ block: "nearest" });
}

/** Does what a person does who chooses a model from the list. */
function choose(model) {
  find(`[name=rz-offer][value="${model}"]`).checked = true;
  find("#rz-reembed").requestSubmit();
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

/** Takes the choice back: Gradio changes the list in place, and it would be of another model. */
function forgetChoice(panel) {
  const choice = panel.querySelector("[name=rz-offer]:checked");
  if (choice) choice.checked = false;
}

/** Moves the keyboard's focus to Cancel, since the pressed button is disabled meanwhile. */
function moveOn(panel) {
  const cancel = moving && panel.querySelector("[data-cancel]");
  if (!cancel) return;
  moving = false;
  cancel.focus({ preventScroll: true });
}
