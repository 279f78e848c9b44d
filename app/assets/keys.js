// The keys of the page: those that work everywhere, and a list of all of them.
import { closest, element, find, get, showTab, typing } from "./dom.js";
import { t } from "./texts.js";

/**
 * All keys by where they work, each group with its keys and what they do.
 * @type {[string, [string[], string][]][]}
 */
const KEYS = [
  [
    t("Everywhere"),
    [
      [["/"], t("Go to the search box")],
      [["?"], t("Show these keys")],
      [["Esc"], t("Close what is open, end a selection, clear the search")],
    ],
  ],
  [
    t("Search box"),
    [
      [["↓", "↑"], t("Go through the suggestions; without any, to the results")],
      [[t("Enter")], t("Search, or choose the suggestion")],
      [["Tab"], t("Take the suggestion over and go on typing")],
    ],
  ],
  [
    t("Results"),
    [
      [["←", "→", "↑", "↓"], t("Go from one to the next")],
      [[t("Enter")], t("Open")],
      [["f"], t("Add to the favourites, or remove")],
      [["x"], t("Select")],
      [[t("Shift + ←"), t("Shift + →")], t("Select several")],
      [[t("Ctrl + A")], t("Select all")],
    ],
  ],
  [
    t("Open file"),
    [
      [["←", "→"], t("Previous, next")],
      [[t("PageUp"), t("PageDown")], t("Turn the pages of a document")],
      [["+", "-", "0"], t("Zoom in, out, to fit")],
      [["F"], t("Fill the screen")],
      [[t("Space")], t("Start or stop the slide show")],
      [["i"], t("Show or hide the details")],
      [["f"], t("Add to the favourites, or remove")],
      [["r"], t("Repeat the clip")],
    ],
  ],
];

export function startKeys() {
  document.addEventListener("keydown", onKey);
  const watcher = new MutationObserver(() => focusBox() && watcher.disconnect());
  if (!focusBox()) watcher.observe(document.body, { childList: true, subtree: true });
}

/** Lets what is typed after the page was loaded go into the box; on touch it would open a keyboard. */
function focusBox() {
  const box = find("#rz-text");
  if (!box) return false;
  const isFree = document.activeElement === document.body && box.checkVisibility();
  const hasKeyboard = matchMedia("(hover: hover) and (pointer: fine)").matches;
  if (isFree && hasKeyboard && !new URLSearchParams(location.search).has("open")) {
    box.focus({ preventScroll: true });
  }
  return true;
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inEmptyBox = closest(event, "#rz-text", HTMLInputElement)?.value === ""; // No search begins with "?".
  if (event.key === "?" && (inEmptyBox || !typing())) {
    event.preventDefault();
    showKeys();
  }
  if (event.key === "/" && !typing() && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    showTab("search");
    requestAnimationFrame(() => { // Gradio shows a tab only after the click.
      const box = get("#rz-text", HTMLInputElement);
      box.focus();
      box.select();
    });
  }
}

function showKeys() {
  if (find("#rz-keys")) return;
  const dialog = element(
    "dialog",
    { id: "rz-keys", class: "rz-question", autofocus: true, "aria-labelledby": "rz-keys-title" },
    element("h2", { id: "rz-keys-title" }, t("Keys")),
    element("div", { class: "rz-key-groups" }, ...KEYS.map(([title, keys]) => group(title, keys))),
    element("form", { method: "dialog" }, element("button", { class: "rz-button" }, t("Close"))),
  );
  dialog.addEventListener("keydown", (event) => event.stopPropagation()); // Nothing beneath answers.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** @param {string} title @param {[string[], string][]} keys */
function group(title, keys) {
  const rows = keys.flatMap(([names, does]) => [
    element("dt", {}, ...names.map((name) => element("kbd", {}, name))),
    element("dd", {}, does),
  ]);
  return element("section", {}, element("h3", {}, title), element("dl", {}, ...rows));
}
