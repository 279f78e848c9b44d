// The folders that the library remembers: their state, and keeping them up to date.
import { toastRemoved } from "./actions.js";
import { ask, closest, fetchRoute, find, get, isTrusted, onPanel, post, toastError } from "./dom.js";
import { t } from "./texts.js";

const LOOK_MS = 5_000;

let refresh = () => {};
let shown = ""; // The HTML of the list.
let seen = ""; // Version of the jobs that the rest of the page was refreshed for.

/** @param {() => void} update Called when something has changed that the rest of the page shows. */
export function startFolders(update) {
  refresh = update;
  if (!isTrusted()) return;
  document.addEventListener("click", onClick);
  document.addEventListener("change", (event) => {
    const watch = closest(event, "[data-watch]", HTMLInputElement);
    if (watch) change("watch", { on: watch.checked });
  });
  document.addEventListener("submit", (event) => {
    const form = closest(event, "form[data-exclude]");
    if (!form) return;
    event.preventDefault();
    exclude(form);
  });
  onPanel("rz-state", () => showFolders());
  onPanel("rz-folders", () => shown || showFolders()); // Gradio makes a tab when it is first opened.
  setInterval(() => {
    const isSeen = document.visibilityState === "visible" && find("#rz-folder-list")?.offsetParent;
    if (isSeen) showFolders();
  }, LOOK_MS);
}

/** Shows the folders as they are now, and has the page follow what was started elsewhere. */
async function showFolders() {
  const place = find("#rz-folder-list");
  if (!place) return;
  let html;
  try {
    const response = await fetchRoute("folders");
    if (!response.ok) return;
    html = await response.text();
  } catch {
    return; // The next look may be answered.
  }
  if (html !== shown && !place.querySelector("input[type=text]:focus")) {
    replace(place, html);
    shown = html;
  }
  const version = place.querySelector("[data-version]")?.dataset.version;
  const known = JSON.parse(find("#rz-known")?.dataset.known ?? "{}").version;
  const follows = Boolean(find('[data-ingest="running"]'));
  if (version && !follows && Number(version) !== known && version !== seen) {
    seen = version;
    refresh();
  }
}

/**
 * Replaces the list; what is unfolded and where the keyboard is stay.
 * @param {HTMLElement} place @param {string} html
 */
function replace(place, html) {
  const open = [...place.querySelectorAll("details[open]")].map((one) => one.dataset.exclusions);
  const focused = place.contains(document.activeElement)
    ? document.activeElement?.getAttribute("aria-label")
    : null;
  place.innerHTML = html;
  for (const id of open) place.querySelector(`[data-exclusions="${id}"]`)?.setAttribute("open", "");
  if (focused) place.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

/**
 * Has the server change something.
 * @param {string} route
 * @param {object} values
 * @returns {Promise<{ question?: string, removed?: number } | null>} Its answer, such as a question
 *   to ask first; null after saying why not.
 */
async function change(route, values) {
  try {
    /** @type {{ question?: string, removed?: number }} */
    const answer = await post(`folders/${route}`, values);
    if (!answer.question) refresh();
    return answer;
  } catch (error) {
    toastError(error);
    return null;
  } finally {
    shown = ""; // A switch that was moved may have to move back.
    await showFolders();
  }
}

/** @param {HTMLElement} form */
async function exclude(form) {
  const route = `${form.closest("[data-exclusions]")?.dataset.exclusions}/exclude`;
  const field = get("input", HTMLInputElement, form);
  const pattern = field.value.trim();
  field.blur();
  const answer = await change(route, { pattern });
  if (!answer?.question) return;
  if (await ask(answer.question, t("Exclude"))) change(route, { pattern, confirmed: true });
}

/** @param {string} folder @param {string} question */
async function forget(folder, question) {
  if (!(await ask(question, t("Remove from the library")))) return;
  const answer = await change(`${folder}/forget`, {});
  if (answer) toastRemoved({ removed: answer.removed ?? 0 });
}

/** @param {MouseEvent} event */
function onClick(event) {
  const button = closest(event, "#rz-folder-list button");
  if (!button) return;
  const { scan, include, forget: forgotten, question = "" } = button.dataset;
  if (scan) change(`${scan}/scan`, {}); // Without an id all are scanned, see library.js.
  if (forgotten) forget(forgotten, question);
  if (include) {
    const folder = button.closest("[data-exclusions]")?.dataset.exclusions;
    change(`${folder}/include`, { pattern: include });
  }
}
