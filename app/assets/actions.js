// What can be done with the selected files.
import { copyText } from "./clipboard.js";
import { ask, element, find, isTrusted, post, sentence, toast, toastError } from "./dom.js";
import { countMatches, searchAgain, searchWith } from "./search.js";
import { t, tn } from "./texts.js";
import { addAction, clearSelection, selectedExamples } from "./selection.js";

const MAX_EXAMPLES = 16; // As `app.search.SearchForm` takes.

export function startActions() {
  addAction({ label: t("Download"), icon: "M12 4v11M7 11l5 5 5-5M5 20h14", run: download });
  if (isTrusted()) {
    addAction({
      label: t("Copy paths"),
      icon: "M9 9h11v11H9zM5 15V6a2 2 0 0 1 2-2h8",
      run: copyPaths,
    });
  }
  addAction({
    label: t("More like these"),
    icon: "M3.5 12a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0M9.5 12a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0",
    run: searchLikeThese,
  });
  addAction({
    label: t("Remove"),
    icon: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5",
    run: remove,
  });
}

/** A number of files in words. @param {number} count */
export const counted = (count) => tn("{n} file", "{n} files", count);

/**
 * Has the browser save the files, several as one archive, which arrives while it is made.
 * @param {number[]} itemIds
 */
export function download(itemIds) {
  find("#rz-saving")?.remove();
  // What is not saved, such as a refusal, is loaded there and not in place of the page.
  const frame = element("iframe", { id: "rz-saving", name: "rz-saving", hidden: true });
  const form = element(
    "form",
    { method: "post", action: new URL("items/download", document.baseURI).href, target: "rz-saving", hidden: true },
    element("input", { name: "items", value: itemIds.join(",") }),
  );
  document.body.append(frame, form);
  frame.addEventListener("load", () => {
    const answer = frame.contentDocument; // None where the server did not answer.
    if (answer?.URL === "about:blank") return;
    toast(answer ? sentence(answer.body.textContent) : t("The server does not answer. Try again."));
  });
  form.submit();
  form.remove();
  toast(t("Downloading {files}.", { files: counted(itemIds.length) }));
}

/** @param {number[]} itemIds */
async function copyPaths(itemIds) {
  try {
    /** @type {{ paths: string[] }} */
    const { paths } = await post("items/paths", { item_ids: itemIds });
    copyText(paths.join("\n"));
  } catch (error) {
    toastError(error);
  }
}

/** @param {number[]} itemIds */
async function remove(itemIds) {
  if (!(await askToRemove(itemIds.length))) return;
  try {
    /** @type {Removal} */
    const removal = await post("items/remove", { item_ids: itemIds });
    clearSelection();
    dropCards(itemIds);
    countMatches();
    toastRemoved(removal);
  } catch (error) {
    toastError(error);
  }
}

/** Asks whether to remove files from the library. @param {number} count */
export function askToRemove(count) {
  const question = tn(
    "Remove {n} file from the library? If it is in a folder of yours it stays on the disk, and comes back when that folder is scanned again, unless you exclude it; a copy that was uploaded is deleted.",
    "Remove {n} files from the library? Those in folders of yours stay on the disk, and come back when these are scanned again, unless you exclude them; copies that were uploaded are deleted.",
    count,
  );
  return ask(question, t("Remove from the library"));
}

/**
 * @typedef {object} Removal What has left the library.
 * @property {number} removed How many files.
 * @property {string | null} [undo] What brings them back, if anything does.
 */

/**
 * Says how many files have left the library, and brings them back if that is undone.
 * @param {Removal} removal
 * @param {() => void} show Shows them again.
 */
export function toastRemoved({ removed, undo }, show = searchAgain) {
  const message = tn("{n} file removed from the library.", "{n} files removed from the library.", removed);
  const run = () => bringBack(undo ?? "", show);
  toast(message, undo ? { label: t("Undo"), run, focus: true } : null);
}

/** @param {string} undo @param {() => void} show */
async function bringBack(undo, show) {
  toast(t("Bringing files back …"));
  try {
    /** @type {{ restored: number | null }} */
    const { restored } = await post("items/restore", { undo });
    if (restored === null) toast(t("The files come back after what is running now: see Library."));
    else toast(tn("{n} file is back in the library.", "{n} files are back in the library.", restored));
  } catch (error) {
    toastError(error);
  }
  dispatchEvent(new CustomEvent("rz-removed"));
  show();
}

/** @param {number[]} itemIds */
function searchLikeThese(itemIds) {
  if (itemIds.length > MAX_EXAMPLES) {
    toast(t("A search takes at most {n} examples: select fewer files.", { n: MAX_EXAMPLES }));
    return;
  }
  searchWith(selectedExamples());
}

/**
 * Takes the cards of files away that have left the library; the keyboard goes to the card behind.
 * @param {number[]} itemIds
 */
export function dropCards(itemIds) {
  const cards = [...document.querySelectorAll(".rz-card[data-item]")];
  const gone = new Set(cards.filter((card) => itemIds.includes(Number(card.dataset.item))));
  const left = cards.filter((card) => !gone.has(card) && card.checkVisibility());
  const first = cards.findIndex((card) => gone.has(card) && card.checkVisibility());
  gone.forEach((card) => card.remove());
  const behind = left.find((card) => cards.indexOf(card) > first) ?? left.at(-1);
  if (!document.activeElement?.checkVisibility()) behind?.querySelector(".rz-open")?.focus({ preventScroll: true });
  dispatchEvent(new CustomEvent("rz-removed"));
}
