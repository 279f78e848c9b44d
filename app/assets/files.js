// The table of files in the library tab: asked for, narrowed, sorted, and what is done with files.
import { askToRemove, toastRemoved } from "./actions.js";
import { all, closest, fetchRoute, find, get, onPanel, post, toast, toastError } from "./dom.js";
import { number, t, tn } from "./texts.js";

const FIRST = { status: "indexed", kind: "", folder: "", name: "", order: "path", descending: false };
const TYPING_MS = 250;

/** The fields of `app.files.FileQuery`. */
let asked = { ...FIRST, offset: 0 };
/** @type {AbortController | null} */
let running = null; // Of the latest request: an answer to an earlier one is too late.
let total = 0;
/** @type {Set<number>} */
let chosen = new Set(); // Ids of files, also of those on other pages.
let isEveryFileChosen = false; // All that the filters let through, also those that were never shown.
let refresh = () => {};
/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing; // The timer that runs while a name is typed.

/** @param {() => void} update Called when files have left the library, or a job was started. */
export function startFiles(update) {
  refresh = update;
  document.addEventListener("click", onClick);
  document.addEventListener("change", onChange);
  document.addEventListener("input", (event) => {
    if (!closest(event, "#rz-file-name")) return;
    clearTimeout(typing);
    typing = setTimeout(() => narrow({}), TYPING_MS);
  });
  onPanel("rz-state", (panel) => {
    showFolders(panel);
    showFiles();
  });
  onPanel("rz-file-filter", (panel) => { // Gradio makes a tab when it is first opened.
    if (panel.querySelector("#rz-file-form") && !find("#rz-listed [data-listed]")) showFiles();
    const state = find("#rz-state");
    if (state) showFolders(state);
  });
}

/** Shows the files that were added last. */
export function showAdded() {
  for (const select of all("#rz-file-form select", HTMLSelectElement)) select.value = "";
  get("#rz-file-name", HTMLInputElement).value = "";
  narrow({ ...FIRST, order: "added", descending: true });
  get("#rz-file-form").scrollIntoView({ block: "start" });
}

const boxes = () => all("#rz-listed input[data-item]", HTMLInputElement);

/**
 * Shows other files, of the name that is typed: what was chosen before is forgotten.
 * @param {Partial<typeof asked>} changes
 */
function narrow(changes) {
  clearTimeout(typing);
  chosen.clear();
  isEveryFileChosen = false;
  showFiles({ offset: 0, name: get("#rz-file-name", HTMLInputElement).value, ...changes });
}

/** @param {Partial<typeof asked>} changes */
async function showFiles(changes = {}) {
  asked = { ...asked, ...changes };
  const place = find("#rz-listed");
  if (!place) return;
  running?.abort();
  const { signal } = (running = new AbortController());
  place.setAttribute("aria-busy", "true");
  try {
    const parameters = Object.entries(asked).map(([name, value]) => [name, String(value)]);
    const response = await fetchRoute(`files?${new URLSearchParams(parameters)}`, { signal });
    const shown = await response.text();
    if (signal.aborted) return;
    place.innerHTML = shown;
    showListed(place);
  } catch {
    if (!signal.aborted) toast(t("The server did not answer. Try again."));
  }
  if (!signal.aborted) place.removeAttribute("aria-busy");
}

/** @param {HTMLElement} place */
function showListed(place) {
  const answer = place.querySelector("[data-listed]");
  if (!answer) return;
  /** @type {{ counts: Record<string, number>, shown: number, total: number }} */
  const { counts, shown, total: found } = JSON.parse(answer.dataset.listed ?? "{}");
  total = found;
  if (!shown && total) showFiles({ offset: 0 }); // The page that was shown is not there any more.
  for (const chip of document.querySelectorAll("#rz-file-form [data-status]")) {
    chip.setAttribute("aria-pressed", chip.dataset.status === asked.status);
    get("span", null, chip).textContent = number(counts[chip.dataset.status ?? ""]);
  }
  get("#rz-retry").hidden = asked.status !== "failed" || !total;
  for (const box of boxes()) box.checked = isEveryFileChosen || chosen.has(Number(box.dataset.item));
  showChosen();
}

/** @param {HTMLElement} panel */
function showFolders(panel) {
  const known = panel.querySelector("[data-known]");
  const select = find('#rz-file-form [data-narrow="folder"]', HTMLSelectElement);
  if (!known || !select) return;
  /** @type {{ folders: { id: string, name: string }[] }} */
  const { folders } = JSON.parse(known.dataset.known ?? "{}");
  const [any, ...listed] = select.options;
  if (folders.map(({ id }) => id).join() === listed.map(({ value }) => value).join()) return;
  select.replaceChildren(any, ...folders.map(({ id, name }) => new Option(name, id)));
  select.value = folders.some(({ id }) => id === asked.folder) ? asked.folder : "";
}

// ---- choosing files

const chosenCount = () => (isEveryFileChosen ? total : chosen.size);

function showChosen() {
  const bar = get("#rz-file-form .rz-chosen");
  const count = chosenCount();
  bar.hidden = !count;
  get("[data-chosen]", null, bar).textContent = tn("{n} file selected", "{n} files selected", count);
  const every = get("[data-choose-all]", null, bar);
  every.hidden = isEveryFileChosen || !count || !boxes().every((box) => box.checked) || count >= total;
  every.textContent = t("Select all {total}", { total });
  const head = find('#rz-listed [data-check="all"]', HTMLInputElement);
  if (head) head.checked = boxes().every((box) => box.checked);
}

/** @param {HTMLInputElement} box */
function choose(box) {
  if (isEveryFileChosen) {
    isEveryFileChosen = false; // All but one cannot be said to the server: those on this page stay.
    chosen = new Set(boxes().filter((one) => one.checked).map((one) => Number(one.dataset.item)));
  }
  chosen[box.checked ? "add" : "delete"](Number(box.dataset.item));
}

async function remove() {
  const count = chosenCount();
  // What is removed is what was asked about, even if the table has changed beneath the question.
  const [route, values] = isEveryFileChosen
    ? ["files/remove", { ...asked, files: count }]
    : ["items/remove", { item_ids: [...chosen] }];
  if (!(await askToRemove(count))) return;
  try {
    /** @type {import("./actions.js").Removal} */
    const removal = await post(route, values);
    narrow({});
    refresh();
    toastRemoved(removal, refresh);
  } catch (error) {
    toastError(error);
  }
}

/** @param {HTMLButtonElement} button */
async function retry(button) {
  button.disabled = true;
  try {
    await post("files/retry", { item_id: Number(button.dataset.retryItem) });
    refresh();
  } catch (error) {
    button.disabled = false;
    toastError(error);
  }
}

// ---- events

/** @param {MouseEvent} event */
function onClick(event) {
  /** @param {string} selector */
  const hit = (selector) => closest(event, selector);
  const status = hit("#rz-file-form [data-status]");
  if (status) narrow({ status: status.dataset.status });
  const order = hit("#rz-listed [data-order]");
  if (order) sort(order.dataset.order ?? "", order.dataset.descending === "true");
  const page = hit("#rz-listed [data-offset]");
  if (page) showFiles({ offset: Number(page.dataset.offset) });
  const again = closest(event, "[data-retry-item]", HTMLButtonElement);
  if (again) retry(again);
  if (hit("[data-choose-all]")) {
    isEveryFileChosen = true;
    showChosen();
  }
  if (hit("#rz-remove")) remove();
}

/** @param {string} order @param {boolean} descending */
async function sort(order, descending) {
  await showFiles({ order, descending, offset: 0 });
  find(`#rz-listed [data-order="${order}"]`)?.focus(); // The pressed button is another one now.
}

/** @param {Event} event */
function onChange(event) {
  const select = closest(event, "#rz-file-form select", HTMLSelectElement);
  if (select) narrow({ [select.dataset.narrow ?? ""]: select.value });
  const every = closest(event, '#rz-listed [data-check="all"]', HTMLInputElement);
  if (every) {
    boxes().forEach((box) => {
      box.checked = every.checked;
      choose(box);
    });
  }
  const box = closest(event, "#rz-listed input[data-item]", HTMLInputElement);
  if (box) choose(box);
  if (closest(event, "#rz-listed")) showChosen();
}
