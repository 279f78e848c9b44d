// The folder to search in: a tree that opens below its button, with the files that the other
// filters let through.
import { closest, element, fetchRoute, get } from "./dom.js";
import { number, t } from "./texts.js";

const ANY = t("Any folder");
const names = new Map([["", ANY]]); // Of folders, by id.

/** @type {Record<string, number | undefined>} How far keys go on. */
const STEPS = { ArrowUp: -1, ArrowDown: 1 };

/** @type {Record<string, string | undefined>} Of folders that keys open or close: whether they are open. */
const TWISTED = { ArrowRight: "false", ArrowLeft: "true" };

/** @typedef {{ kinds: string, after: string, before: string, album: string }} Filters */

/** @type {() => Filters} */
let filters = () => ({ kinds: "", after: "", before: "", album: "" });

/**
 * @typedef {object} Folder
 * @property {string} id
 * @property {string} name
 * @property {number} [files] How many the filters let through.
 * @property {boolean} [is_parent] Whether there are folders in it.
 */

const field = () => get("#rz-folder", HTMLInputElement);

/** @param {() => Filters} form Called for the other filters. */
export function startFolderTree(form) {
  filters = form;
  document.addEventListener("beforetoggle", open, { capture: true });
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
}

/** Names the folder that is chosen. */
export async function showFolder() {
  const { value } = field();
  const name = get("#rz-folder-name");
  if (!names.has(value)) {
    name.textContent = "…";
    const answer = await request(value);
    if (answer?.name) names.set(value, answer.name);
  }
  if (field().value === value) name.textContent = names.get(value) ?? t("Unknown folder");
}

/** @param {string} within @returns {Promise<{ name?: string, folders: Folder[] } | null>} */
async function request(within) {
  const { kinds, after, before, album } = filters();
  const parameters = new URLSearchParams({ within, kinds, after, before, album });
  try {
    const response = await fetchRoute(`timeline/folders?${parameters}`);
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/** @param {Event} event */
async function open(event) {
  const tree = closest(event, "#rz-folders-popover");
  if (!tree || !(event instanceof ToggleEvent) || event.newState !== "open") return;
  const { left, bottom } = get("#rz-folder-button").getBoundingClientRect();
  tree.style.top = `${bottom + 8}px`;
  tree.style.left = `${Math.max(8, Math.min(left - 20, innerWidth - 348))}px`;
  tree.replaceChildren(list([{ id: "", name: ANY }]));
  const folders = await level("");
  if (folders) tree.append(folders);
  const twists = tree.querySelectorAll("[data-twist]");
  if (twists.length === 1) await twist(twists[0]);
  (tree.querySelector("[aria-current]") ?? tree.querySelector("[data-pick]"))?.focus();
}

/**
 * A list of the folders in another one; null if the server does not answer.
 * @param {string} within
 */
async function level(within) {
  const answer = await request(within);
  return answer && list(answer.folders);
}

/** @param {Folder[]} folders */
function list(folders) {
  const chosen = field().value;
  const rows = folders.map(({ id, name, files, is_parent: isParent }) => {
    names.set(id, name);
    const count = files === undefined ? [] : [element("span", {}, number(files))];
    const label = t("Folders in {name}", { name });
    const pick = { type: "button", "data-pick": id || true, "aria-current": id === chosen && "true" };
    return element(
      "li",
      {},
      isParent
        ? element("button", { type: "button", "data-twist": id, "aria-expanded": "false", "aria-label": label }, "›")
        : element("i"),
      element("button", pick, element("b", {}, name), ...count),
    );
  });
  return element("ul", {}, ...rows);
}

/** @param {MouseEvent} event */
function onClick(event) {
  const opener = closest(event, "[data-twist]");
  if (opener) twist(opener);
  const picked = closest(event, "[data-pick]");
  if (!picked) return;
  field().value = picked.dataset.pick ?? "";
  get("#rz-folders-popover").hidePopover();
  field().dispatchEvent(new Event("change", { bubbles: true }));
}

/** @param {HTMLElement} opener */
async function twist(opener) {
  const isOpen = opener.getAttribute("aria-expanded") === "true";
  opener.setAttribute("aria-expanded", !isOpen);
  if (isOpen) opener.parentElement?.querySelector("ul")?.remove();
  else opener.parentElement?.append((await level(opener.dataset.twist ?? "")) ?? "");
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const from = closest(event, "#rz-folders-popover [data-pick]");
  if (!from) return;
  const opener = from.parentElement?.querySelector(":scope > [data-twist]");
  const opens = TWISTED[event.key];
  if (opener && opener.getAttribute("aria-expanded") === opens) twist(opener);
  const all = [...document.querySelectorAll("#rz-folders-popover [data-pick]")];
  const step = STEPS[event.key];
  if (step) all[all.indexOf(from) + step]?.focus();
  if (step || opens) event.preventDefault();
}
