// What is searched with beside words: files that were chosen, dropped or pasted, and segments of
// the library.
import { closest, element, fetchRoute, find, get, reasonOf, sentence, showTab, toast } from "./dom.js";
import { t } from "./texts.js";

/**
 * @typedef {object} Attachment A sent file, or a segment of the library.
 * @property {string} [id] Of the sent file; neither this nor `similar` while it is being sent.
 * @property {number} [similar] The segment.
 * @property {string} name
 */

const MAX_FILES = 8; // As `app.search.SearchForm` takes.
const NOT_HANDED_OVER = t(
  "The other page handed over only the picture's address. Save the picture and drop the file, or copy it and paste it here.",
);
const FOLDER_DROPPED = t("A folder is added to the library: drop it in the Library tab.");

/**
 * @typedef {{ name: string, file: File, preview: string | null, sending: AbortController }} Sending
 * A file that is being sent.
 */

/** @type {(Attachment & Partial<Sending>)[]} */
let attached = [];
let changed = () => {};
let shortPlaceholder = false;
/** @type {Map<string | undefined, string | null>} */
const previews = new Map(); // Addresses of the pictures that this page sent, by id.

/** What can be searched with: no file that is still being sent. @returns {Attachment[]} */
export const attachments = () =>
  attached
    .filter((one) => !one.sending)
    .map(({ id, similar, name }) => (id ? { id, name } : { similar, name }));

/** @param {() => void} search Called when there are files to search with. */
export function startAttaching(search) {
  changed = search;
  // Fingers drop nothing, and a phone has no room for more.
  shortPlaceholder = matchMedia("(hover: none) and (pointer: coarse)").matches;
  document.addEventListener("change", (event) => {
    const chosen = closest(event, "#rz-file", HTMLInputElement);
    if (!chosen) return;
    send([...(chosen.files ?? [])], attached);
    chosen.value = ""; // So that the same file can be chosen again.
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    send([...event.clipboardData.files]);
  });
  document.addEventListener("click", (event) => {
    const button = closest(event, "[data-detach]");
    if (!button) return;
    attach(attached.filter((_, number) => number !== Number(button.dataset.detach)));
    changed();
  });
  startDropping();
}

/**
 * Shows what an entry of the history was searched with.
 * @param {(Attachment & Partial<Sending>)[]} what
 */
export function attach(what) {
  for (const one of attached) if (!what.includes(one)) one.sending?.abort();
  attached = [...what];
  show();
}

/**
 * Sends files, and searches with them and what is kept when all have arrived.
 * @param {File[]} files
 * @param {Attachment[]} kept
 */
function send(files, kept = []) {
  if (!files.length) return;
  showTab("search");
  const room = MAX_FILES - kept.length;
  if (files.length > room) toast(t("A search takes at most {n} files: the others are left out.", { n: MAX_FILES }));
  const sent = files.slice(0, Math.max(room, 0)).map((file) => ({
    name: file.name,
    preview: file.type.startsWith("image/") ? URL.createObjectURL(file) : null,
    sending: new AbortController(),
    file,
  }));
  attach([...kept, ...sent]);
  sent.forEach(sendOne);
}

/** @param {Attachment & Sending} one */
async function sendOne(one) {
  const { signal } = one.sending;
  try {
    const route = `query-files?name=${encodeURIComponent(one.name)}`;
    const response = await fetchRoute(route, { method: "POST", body: one.file, signal });
    /** @type {{ id: string, error?: string }} */
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.error ?? t("the file could not be sent"));
    previews.set(answer.id, one.preview);
    attached = attached.map((other) => (other === one ? { id: answer.id, name: one.name } : other));
    show();
  } catch (error) {
    if (signal.aborted) return; // It was removed, or others were chosen meanwhile.
    attach(attached.filter((other) => other !== one));
    const unanswered = error instanceof TypeError; // What fetch throws.
    toast(unanswered ? t("The server does not answer: drop the file again later.") : sentence(reasonOf(error)));
  }
  if (attached.length && !attached.some(({ sending }) => sending)) changed();
}

function show() {
  const place = get("#rz-attached");
  place.hidden = !attached.length;
  place.dataset.many = attached.length > 1 ? "yes" : "";
  place.replaceChildren(...attached.map(chip));
  const empty = shortPlaceholder ? t("Describe it") : t("Describe it, or drop a picture");
  get("#rz-text", HTMLInputElement).placeholder = attached.length ? t("Add words to narrow it down") : empty;
  if (attached.length) get("[data-clear]").hidden = false;
}

/** @param {Attachment & Partial<Sending>} attachment @param {number} number */
function chip({ id, similar, name, preview, sending }, number) {
  const picture = similar ? `thumbnail/${similar}` : (preview ?? previews.get(id));
  return element(
    "span",
    { class: "rz-attached", title: name, "data-busy": Boolean(sending) },
    element("span", { class: "rz-preview" }, ...(picture ? [thumbnail(picture)] : [])),
    element("span", { class: "rz-attached-name" }, name),
    element(
      "button",
      { type: "button", class: "rz-icon", "data-detach": String(number), "aria-label": t("Remove {name}", { name }) },
      get("[data-clear] svg", SVGElement).cloneNode(true),
    ),
  );
}

/** @param {string} address */
function thumbnail(address) {
  const shown = element("img", { src: address, alt: "" });
  shown.addEventListener("error", () => shown.remove()); // A form that browsers cannot show.
  return shown;
}

/** Files dropped anywhere on the search tab are searched with. */
function startDropping() {
  let depth = 0;
  let ours = false; // Whether something of this page is dragged.
  const onLibrary = () => Boolean(find("#rz-drop")?.offsetParent);
  /** @param {DragEvent} event */
  const takes = ({ dataTransfer }) =>
    !ours && ["Files", "text/uri-list", "text/html"].some((type) => dataTransfer?.types.includes(type));
  /** @param {boolean} on */
  const mark = (on) => {
    if (on) document.body.dataset.rzDropping = onLibrary() ? "library" : "search";
    else delete document.body.dataset.rzDropping;
  };
  window.addEventListener("dragstart", () => (ours = true));
  window.addEventListener("dragend", () => (ours = false));
  window.addEventListener("dragenter", (event) => {
    if (!takes(event)) return;
    depth += 1;
    mark(true);
  });
  window.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) mark(false);
  });
  window.addEventListener("dragover", (event) => takes(event) && event.preventDefault());
  window.addEventListener("drop", (event) => {
    depth = 0;
    mark(false);
    const { dataTransfer: dropped } = event;
    if (!dropped || !takes(event) || (onLibrary() && dropped.files.length)) return;
    event.preventDefault();
    if (dropped.files.length) sendDropped(dropped);
    else attachAddress(addressOf(dropped));
  });
}

/**
 * Sends the files among what was dropped; the browser hands over folders as files, too.
 * @param {DataTransfer} transfer
 */
function sendDropped({ files, items }) {
  const folders = [...items].map((item) => Boolean(item.webkitGetAsEntry?.()?.isDirectory));
  if (folders.some(Boolean)) toast(FOLDER_DROPPED);
  send([...files].filter((_, number) => !folders[number]));
}

/**
 * The address of a picture that was dragged from another page, or of its link.
 * @param {DataTransfer} transfer
 */
function addressOf(transfer) {
  const html = new DOMParser().parseFromString(transfer.getData("text/html"), "text/html");
  const picture = html.querySelector("img")?.getAttribute("src") ?? "";
  return /^(data|blob):/.test(picture) ? picture : transfer.getData("text/uri-list");
}

/**
 * Searches with a picture of another page, if its address holds it and not only says where it is.
 * @param {string} address
 */
async function attachAddress(address) {
  const holdsIt = /^(data:image\/|blob:)/.test(address);
  const blob = holdsIt && (await fetch(address).then((found) => found.blob(), () => null));
  if (!blob || !blob.type.startsWith("image/")) {
    toast(NOT_HANDED_OVER);
    return;
  }
  const suffix = blob.type.slice("image/".length).replace("svg+xml", "svg");
  send([new File([blob], `picture.${suffix}`, { type: blob.type })]);
}
