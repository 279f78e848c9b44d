// The folder to search in: a tree that opens below its button, with the files that the other
// filters let through.
import { element, fetchRoute, find } from "./dom.js";
import { number, t } from "./texts.js";

const ANY = t("Any folder");
const names = new Map([["", ANY]]); // Of folders, by id.
let filters = () => ({});

/** @param {() => Record<string, string>} form Called for the other filters. */
export function startFolderTree(form) {
  filters = form;
  document.addEventListener("beforetoggle", open, { capture: true });
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
}

/** Names the folder that is chosen. */
export async function showFolder() {
  const { value } = find("#rz-folder");
  const name = find("#rz-folder-name");
  if (!names.has(value)) {
    name.textContent = "…";
    const answer = await request(value);
    if (answer?.name) names.set(value, answer.name);
  }
  if (find("#rz-folder").value === value) name.textContent = names.get(value) ?? t("Unknown folder");
}

async function request(within) {
  const { kinds, after, before, album = "" } = filters();
  const parameters = new URLSearchParams({ within, kinds, after, before, album });
  try {
    const response = await fetchRoute(`timeline/folders?${parameters}`);
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

async function open(event) {
  const tree = event.target;
  if (tree.id !== "rz-folders-popover" || event.newState !== "open") return;
  const { left, bottom } = find("#rz-folder-button").getBoundingClientRect();
  tree.style.top = `${bottom + 8}px`;
  tree.style.left = `${Math.max(8, Math.min(left - 20, innerWidth - 348))}px`;
  tree.replaceChildren(list([{ id: "", name: ANY }]));
  const folders = await level("");
  if (folders) tree.append(folders);
  const twists = tree.querySelectorAll("[data-twist]");
  if (twists.length === 1) await twist(twists[0]);
  (tree.querySelector("[aria-current]") ?? tree.querySelector("[data-pick]")).focus();
}

/** A list of the folders in another one; null if the server does not answer. */
async function level(within) {
  const answer = await request(within);
  return answer && list(answer.folders);
}

function list(folders) {
  const chosen = find("#rz-folder").value;
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

function onClick(event) {
  const opener = event.target.closest("[data-twist]");
  if (opener) twist(opener);
  const picked = event.target.closest("[data-pick]");
  if (!picked) return;
  find("#rz-folder").value = picked.dataset.pick;
  find("#rz-folders-popover").hidePopover();
  find("#rz-folder").dispatchEvent(new Event("change", { bubbles: true }));
}

async function twist(opener) {
  const isOpen = opener.getAttribute("aria-expanded") === "true";
  opener.setAttribute("aria-expanded", !isOpen);
  if (isOpen) opener.parentElement.querySelector("ul")?.remove();
  else opener.parentElement.append((await level(opener.dataset.twist)) ?? "");
}

function onKey(event) {
  const from = event.target.closest?.("#rz-folders-popover [data-pick]");
  if (!from) return;
  const opener = from.parentElement.querySelector(":scope > [data-twist]");
  const opens = { ArrowRight: "false", ArrowLeft: "true" }[event.key];
  if (opener && opener.getAttribute("aria-expanded") === opens) twist(opener);
  const all = [...find("#rz-folders-popover").querySelectorAll("[data-pick]")];
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (step) all[all.indexOf(from) + step]?.focus();
  if (step || opens) event.preventDefault();
}
