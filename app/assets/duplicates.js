// The section of duplicates: groups of files that hold the same thing, and what becomes of copies.
import { askToRemove, counted, dropCards, toastRemoved } from "./actions.js";
import { ask, closest, element, fetchRoute, get, post, size, toast, toastError } from "./dom.js";
import { t, tn } from "./texts.js";

const MAX_NAMED = 5; // Files that a question names.

let shown = ""; // "exact" or "near".
/** @type {AbortController | null} */
let running = null; // AbortController of the latest request.

export function startDuplicates() {
  document.addEventListener("click", onClick);
  document.addEventListener("change", onChange);
}

const place = () => get("#rz-duplicate-groups");
const groupsShown = () => [...place().querySelectorAll("[data-group]")];
/** @param {HTMLElement} group */
const cardsOf = (group) => [...group.querySelectorAll(".rz-card[data-item]")];
/** @param {HTMLElement} card */
const isKept = (card) => get("[data-keep]", HTMLInputElement, card).checked;

/** @param {MouseEvent} event */
function onClick(event) {
  const kind = closest(event, "[data-duplicates]");
  if (kind) load(kind.dataset.duplicates ?? "");
  const group = closest(event, "[data-group]");
  if (group && closest(event, "[data-dismiss-group]")) dismiss(group);
  const drop = closest(event, "[data-drop]");
  if (!drop) return;
  const groups = group && !("every" in drop.dataset) ? [group] : groupsShown();
  dropCopies(drop.dataset.drop ?? "", groups);
}

/** One file of each group stays marked, or the last copy could go. @param {Event} event */
function onChange(event) {
  const keep = closest(event, "[data-keep]", HTMLInputElement);
  if (!keep) return;
  const group = keep.closest("[data-group]");
  if (group && !cardsOf(group).some(isKept)) {
    keep.checked = true;
    toast(t("One file of each group is kept: mark another one first."));
  }
  showCopies();
}

// ---- loading

/** @param {string} kind */
async function load(kind) {
  running?.abort();
  const { signal } = (running = new AbortController());
  shown = kind;
  document.querySelectorAll("[data-duplicates]").forEach((chip) => {
    chip.setAttribute("aria-pressed", chip.dataset.duplicates === kind);
  });
  const waiting = setTimeout(() => {
    place().replaceChildren(element("p", { class: "rz-empty" }, t("Comparing the files…")));
  }, 300);
  try {
    const response = await fetchRoute(`duplicates?kind=${kind}`, { signal });
    const html = await response.text();
    if (!signal.aborted) place().innerHTML = html;
  } catch {
    if (!signal.aborted) toast(t("The server does not answer. Try again."));
  } finally {
    clearTimeout(waiting);
  }
  showCopies();
}

/** Offers to do all at once while there are several groups. */
function showCopies() {
  const several = groupsShown().length > 1;
  document.querySelectorAll("[data-every]").forEach((button) => (button.hidden = !several));
}

// ---- what becomes of groups

/** @param {HTMLElement} group */
async function dismiss(group) {
  try {
    await post("duplicates/dismiss", { group: group.dataset.group });
  } catch (error) {
    toastError(error);
    return;
  }
  const { nextSibling, parentNode } = group;
  group.remove();
  showCopies();
  const undo = async () => {
    try {
      await post("duplicates/dismiss", { group: group.dataset.group, undo: true });
    } catch (error) {
      toastError(error);
      return;
    }
    parentNode?.insertBefore(group, nextSibling?.isConnected ? nextSibling : null);
    showCopies();
  };
  toast(t("The group is not shown any more."), { label: t("Undo"), run: undo });
}

/** @param {string} where "trash" or "library". @param {HTMLElement[]} groups */
async function dropCopies(where, groups) {
  const copies = groups.flatMap((group) => cardsOf(group).filter((card) => !isKept(card)));
  if (!copies.length) {
    toast(t("All files are marked to be kept."));
    return;
  }
  const ids = copies.map((card) => Number(card.dataset.item));
  if (where === "trash") await trash(ids, copies);
  else await removeCopies(ids);
}

/** @param {HTMLElement[]} cards */
const bytesOf = (cards) => cards.reduce((sum, card) => sum + Number(card.dataset.bytes), 0);

/** The first names of some files. @param {HTMLElement[]} cards */
function named(cards) {
  const names = cards.slice(0, MAX_NAMED).map((card) => get(".rz-title b", null, card).textContent);
  const more = cards.length - names.length;
  return more ? t("{names} and {more} more", { names: names.join(", "), more }) : names.join(", ");
}

/** @param {number[]} ids @param {HTMLElement[]} copies */
async function trash(ids, copies) {
  const question = t(
    "Move {files} ({size}) to the trash of this machine? {names}. They leave the library, too.",
    { files: counted(ids.length), size: size(bytesOf(copies)), names: named(copies) },
  );
  if (!(await ask(question, t("Move to the trash")))) return;
  try {
    /** @type {{ item_ids: number[], problems: Problem[] }} */
    const { item_ids: moved, problems } = await post("duplicates/trash", { item_ids: ids });
    leave(moved);
    if (moved.length) toast(t("{files} moved to the trash.", { files: counted(moved.length) }));
    showProblems(problems);
  } catch (error) {
    toastError(error);
  }
}

/** @param {number[]} ids */
async function removeCopies(ids) {
  if (!(await askToRemove(ids.length))) return;
  try {
    /** @type {import("./actions.js").Removal} */
    const removal = await post("items/remove", { item_ids: ids });
    leave(ids);
    toastRemoved(removal, () => load(shown));
  } catch (error) {
    toastError(error);
  }
}

/**
 * Takes files out of their groups, and groups away that are none any more.
 * @param {number[]} ids
 */
function leave(ids) {
  dropCards(ids);
  for (const group of groupsShown()) {
    if (cardsOf(group).length < 2) group.remove();
  }
  if (!groupsShown().length) load(shown);
  else showCopies();
}

/** @typedef {{ name: string, reason: string }} Problem A file that stays where it is. */

/** @param {Problem[]} problems */
function showProblems(problems) {
  if (!problems.length) return;
  const lines = problems.map(({ name, reason }) =>
    element("li", {}, element("b", {}, name), ` – ${reason}`),
  );
  place().prepend(
    element(
      "div",
      { class: "rz-notice", "data-tone": "error", role: "alert" },
      element("h2", {}, tn("{n} file stays where it is", "{n} files stay where they are", lines.length)),
      element("ul", {}, ...lines),
    ),
  );
}
