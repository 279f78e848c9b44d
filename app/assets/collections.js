// Favourites, albums and saved searches: hearts, the Collections tab, and the head of an album.
import { addressOf, follow, showTitle } from "./address.js";
import { download, dropCards } from "./actions.js";
import {
  ask, closest, element, fetchRoute, find, get, onPanel, post, sentence, toast, toastError, typing,
} from "./dom.js";
import { currentSearch, searchAgain } from "./search.js";
import { addAction, clearSelection } from "./selection.js";
import { t, tn } from "./texts.js";

const FAVOURITES = "1"; // The album that each library has.
let album = ""; // The id of the album whose files are shown.

export function startCollections() {
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("change", (event) => {
    const slider = closest(event, "[data-album-border]", HTMLInputElement);
    if (slider) setBorder(1 - Number(slider.value));
  });
  document.addEventListener("rz-searched", ({ detail }) => showAlbum(detail));
  addAction({ label: t("Add to album"), icon: "M12 5v14M5 12h14", run: addToAlbum });
  addAction({
    label: t("Take out of album"), icon: "M5 12h14", run: takeOutOfAlbum, style: "rz-in-album",
  });
  addAction({
    label: t("Use as cover"), icon: "M4 5h16v14H4zM4 16l5-4 4 3 3-2 4 3", run: useAsCover, style: "rz-in-album",
  });
  onPanel("rz-collections", () => {
    const list = find("#rz-collections-list");
    if (list && !list.dataset.watched) {
      list.dataset.watched = "yes";
      appearing.observe(list);
    }
  });
}

/** @param {MouseEvent} event */
function onClick(event) {
  /** @param {string} selector */
  const on = (selector) => closest(event, selector);
  const link = on("[data-follow]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    follow(link.getAttribute("href") ?? "");
  }
  const heart = on("[data-favourite]");
  if (heart) toggleFavourite(heart);
  const adding = on("[data-add-to-album]");
  if (adding) addToAlbum([itemOf(adding)]);
  if (on("[data-new-album]")) newAlbum();
  if (on("[data-save-search]")) saveSearch();
  if (on("[data-download-album]")) downloadAlbum();
  if (on("[data-rename-album]")) renameAlbum();
  if (on("[data-delete-album]")) deleteAlbum();
  if (on("[data-leave-album]")) follow("?");
  const answer = on("[data-belongs]");
  if (answer) answerAbout(answer);
  if (on("[data-undo-answers]")) takeBack();
  const search = on("[data-delete-search]");
  if (search) deleteSearch(search);
}

/**
 * @typedef {object} Change What the server answers when something was changed.
 * @property {number} [id] Of a new album.
 * @property {number} [added] How many files.
 * @property {number} [removed] How many files.
 */

/**
 * Changes something on the server.
 * @param {string} route
 * @param {object} values
 * @returns {Promise<Change | null>} Its answer, or null after saying why not.
 */
async function change(route, values = {}) {
  try {
    return await post(route, values);
  } catch (error) {
    toastError(error);
    return null;
  }
}

/** The file that a button belongs to. @param {HTMLElement} button */
const itemOf = (button) => Number(button.closest("[data-item]")?.dataset.item);

// ---- favourites

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.key !== "f" || event.ctrlKey || event.metaKey || event.altKey || typing()) return;
  if (document.querySelector("dialog[open]")) return; // The viewer has keys of its own.
  closest(event, ".rz-card")?.querySelector("[data-favourite]")?.click();
}

/** @param {HTMLElement} heart */
async function toggleFavourite(heart) {
  const item = itemOf(heart);
  const liked = heart.getAttribute("aria-pressed") !== "true";
  showFavourite(item, liked);
  const route = `albums/${FAVOURITES}/items${liked ? "" : "/remove"}`;
  if (!(await change(route, { item_ids: [item] }))) showFavourite(item, !liked);
}

/** @param {number} item @param {boolean} liked */
function showFavourite(item, liked) {
  for (const heart of document.querySelectorAll(`[data-item="${item}"] [data-favourite]`)) {
    heart.setAttribute("aria-pressed", liked);
  }
  document.dispatchEvent(new CustomEvent("rz-file-changed"));
}

// ---- the tab

const appearing = new IntersectionObserver(
  (entries) => entries.some((entry) => entry.isIntersecting) && showCollections(),
);

async function showCollections() {
  const list = get("#rz-collections-list");
  const html = await load("collections");
  if (html === null) return;
  list.innerHTML = html;
  linkSearches(list);
}

/** @param {HTMLElement} place */
function linkSearches(place) {
  for (const link of place.querySelectorAll("[data-saved]")) {
    link.setAttribute("href", addressOf(JSON.parse(link.dataset.saved ?? "{}")));
  }
}

/** @param {HTMLElement} button Of the search. */
async function deleteSearch(button) {
  const row = button.closest("li");
  const { name = "" } = row?.dataset ?? {};
  const search = JSON.parse(row?.querySelector("[data-saved]")?.dataset.saved ?? "{}");
  const place = deleteButtons().indexOf(button);
  const answer = await change(`searches/${button.dataset.deleteSearch}/delete`);
  await showCollections();
  const left = deleteButtons();
  (left[place] ?? left.at(-1) ?? get("[data-new-album]")).focus();
  if (!answer) return;
  const run = () => saveAgain(name, search);
  toast(t("The search “{name}” is deleted.", { name }), { label: t("Undo"), run, focus: true });
}

const deleteButtons = () => [...document.querySelectorAll("[data-delete-search]")];

/** @param {string} name @param {object} search */
async function saveAgain(name, search) {
  const saved = await change("searches", { name, search });
  await showCollections();
  find(`[data-delete-search="${saved?.id}"]`)?.focus();
}

/** @param {string} route */
async function load(route) {
  try {
    return await (await fetchRoute(route)).text();
  } catch {
    toast(t("The server does not answer. Try again."));
    return null;
  }
}

async function newAlbum() {
  const name = await askName(t("Name of the new album"), t("Create"));
  if (name && (await change("albums", { name }))) showCollections();
}

async function saveSearch() {
  const search = currentSearch();
  const fills = element("input", { type: "checkbox" });
  const { button, text: name } = await question(
    t("Name of this search"),
    t("Save"),
    element("label", {}, t("Name of this search"), nameField(search.text)),
    element("label", { class: "rz-check-label" }, fills, t("As an album that fills itself: new files that match enter it, and you are asked about those that may.")),
  );
  if (!button || !name) return;
  const saved = await change(fills.checked ? "albums" : "searches", { name, search });
  if (!saved) return;
  toast(t("Saved in Collections: {name}.", { name }));
  if (fills.checked) follow(`?album=${saved.id}`);
}

// ---- an open album

/** @param {import("./address.js").Search} search */
async function showAlbum({ album: wanted, text, ...others }) {
  const onlyAlbum = Boolean(wanted) && !text && !Object.values(others).some((value) => value?.length);
  const head = find("#rz-album-head");
  if (!head) return;
  album = wanted;
  get(".rz-save").hidden = onlyAlbum;
  document.body.toggleAttribute("data-rz-album", Boolean(album));
  if (!album) head.replaceChildren();
  else if (head.querySelector("[data-album]")?.dataset.album !== album) {
    const html = await load(`albums/${Number(album)}`);
    if (album !== wanted || html === null) return; // Another one was opened meanwhile.
    head.innerHTML = html;
    linkSearches(head);
    if (head.querySelector("[data-changed]")) searchAgain();
  }
  const name = head.querySelector("[data-name]")?.dataset.name;
  if (name && !text) showTitle(name);
}

/** Shows again what is in the album and above it, which may have changed. */
function reloadAlbum() {
  const head = find("#rz-album-head [data-album]");
  if (head) head.dataset.album = "";
  searchAgain();
}

async function downloadAlbum() {
  const response = await fetchRoute(`timeline/ids?album=${album}`).catch(() => null);
  if (!response?.ok) {
    toast(response ? await response.text() : t("The server does not answer. Try again."));
    return;
  }
  /** @type {{ item_ids: number[], is_all: boolean }} */
  const { item_ids: ids, is_all: isAll } = await response.json();
  download(ids);
  if (!isAll) toast(t("The first {n} files are downloaded.", { n: ids.length }));
}

async function renameAlbum() {
  const { name: before } = get("[data-album]").dataset;
  const route = `albums/${album}`; // Another one may be open when the question is answered.
  const name = await askName(t("New name of the album"), t("Rename"), before);
  if (name && name !== before && (await change(route, { name }))) reloadAlbum();
}

async function deleteAlbum() {
  const { name = "" } = get("[data-album]").dataset;
  const question = t("Delete the album “{name}”? Its files stay in the library.", { name });
  const route = `albums/${album}/delete`;
  if (!(await ask(question, t("Delete")))) return;
  if (await change(route)) follow("?");
}

/** @param {HTMLElement} button */
async function answerAbout(button) {
  const item = itemOf(button);
  const belongs = button.dataset.belongs === "yes";
  if (!(await change(`albums/${album}/items${belongs ? "" : "/remove"}`, { item_ids: [item] }))) return;
  const message = belongs ? t("It belongs to the album.") : t("It does not belong to the album.");
  toast(message, { label: t("Undo"), run: () => takeBack([item]) });
  reloadAlbum();
}

/** Takes back what was answered about some files, or all of it. @param {number[] | null} itemIds */
async function takeBack(itemIds = null) {
  if (await change(`albums/${album}/answers/undo`, { item_ids: itemIds })) reloadAlbum();
}

/** @param {number} border */
async function setBorder(border) {
  if (await change(`albums/${album}`, { border })) reloadAlbum();
}

/** @param {number[]} itemIds */
async function takeOutOfAlbum(itemIds) {
  const answer = await change(`albums/${album}/items/remove`, { item_ids: itemIds });
  if (!answer) return;
  clearSelection();
  dropCards(itemIds);
  if (album === FAVOURITES) itemIds.forEach((id) => showFavourite(id, false));
  toast(tn("{n} file taken out of the album.", "{n} files taken out of the album.", answer.removed ?? 0));
  reloadAlbum();
}

/** @param {number[]} itemIds */
async function useAsCover([item]) {
  if (!(await change(`albums/${album}`, { cover: item }))) return;
  clearSelection();
  toast(t("The album has a new cover."));
}

/**
 * Lists the albums.
 * @returns {Promise<{ id: number, name: string }[] | null>} Null after saying why not.
 */
async function listAlbums() {
  const answer = JSON.parse((await load("albums")) ?? "null");
  if (answer?.error) toast(sentence(answer.error));
  return answer?.error ? null : answer;
}

/**
 * Puts files into an album that is chosen from a list, or into a new one.
 * @param {number[]} itemIds
 */
export async function addToAlbum(itemIds) {
  const found = await listAlbums();
  if (!found) return;
  const choices = found.map(({ id, name }) => {
    const choice = element("button", { type: "button", class: "rz-button" }, name); // Not Enter's.
    choice.addEventListener("click", () => choice.closest("dialog")?.close(String(id)));
    return choice;
  });
  const { button, text } = await question(
    t("Add to which album?"),
    t("Create"),
    element("div", { class: "rz-choices" }, ...choices),
    element("label", {}, t("New album"), nameField("")),
  );
  if (!button || (button === "yes" && !text)) return;
  const answer = button === "yes"
    ? await change("albums", { name: text, item_ids: itemIds })
    : await change(`albums/${button}/items`, { item_ids: itemIds });
  if (!answer) return;
  clearSelection();
  if (button === FAVOURITES) itemIds.forEach((id) => showFavourite(id, true));
  const into = found.find(({ id }) => String(id) === button)?.name ?? text;
  toast(tn("{n} file added to {album}.", "{n} files added to {album}.", answer.added ?? 0, { album: into }));
}

// ---- questions

/**
 * Asks for a name; resolves to it, or to an empty text.
 * @param {string} label
 * @param {string} yes
 * @param {string} before
 */
async function askName(label, yes, before = "") {
  const { button, text } = await question(label, yes, element("label", {}, label, nameField(before)));
  return button ? text : "";
}

/** @param {string} before */
const nameField = (before) =>
  element("input", {
    type: "text", maxlength: 200, required: true, value: before, autofocus: true,
  });

/**
 * Asks something in a dialog.
 * @param {string} about Names the dialog.
 * @param {string} yes The label of the button.
 * @param {...HTMLElement} parts What it shows.
 * @returns {Promise<{button: string, text: string}>} The value of the button that was pressed, empty
 *   for none, and what was written into the dialog's field.
 */
function question(about, yes, ...parts) {
  const dialog = element(
    "dialog",
    { class: "rz-question", "aria-label": about },
    element(
      "form",
      { method: "dialog" },
      ...parts,
      element(
        "div",
        { class: "rz-inline" },
        element("button", { class: "rz-button rz-primary", value: "yes" }, yes),
        element("button", { class: "rz-button", value: "", formnovalidate: true }, t("Cancel")),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer({
        button: dialog.returnValue,
        text: dialog.querySelector("input")?.value.trim() ?? "",
      });
    });
  });
}
