// The search bar: words, a file dropped or pasted, filters; and the results it leads to.
import { element, find, onPanel, sentence, showTab, toast, typing } from "./dom.js";

let send = () => {};
const FILTERS = ["#rz-folder", "#rz-after", "#rz-before", "#rz-not-like", "#rz-instruction"];
let attached = null; // {id, name} of a sent file, or {similar, name} of a segment

export function startSearch(sender) {
  send = sender;
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "rz-form") return;
    event.preventDefault();
    search();
  });
  document.addEventListener("click", onClick);
  document.addEventListener("change", onChange);
  document.addEventListener("input", (event) => {
    if (event.target.id === "rz-text") showState();
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("paste", onPaste);
  startDropping();
  onPanel("rz-results", settled);
  onPanel("rz-state", showFolders);
  onPanel("rz-head", showInstruction);
}

/** What the form says, as the server wants it. */
function form() {
  const kinds = [...document.querySelectorAll("#rz-form .rz-chip[data-kind][aria-pressed=true]")];
  return {
    text: find("#rz-text").value.trim(),
    file: attached?.id ?? null,
    similar: attached?.similar ?? null,
    balance: Number(find("#rz-weight").value),
    not_like: find("#rz-not-like").value.trim(),
    kinds: kinds.map((chip) => chip.dataset.kind),
    folder: find("#rz-folder").value,
    after: find("#rz-after").value,
    before: find("#rz-before").value,
    instruction: find("#rz-instruction").value.trim(),
    model: find("#rz-head [data-model]")?.dataset.model ?? null,
  };
}

function search() {
  const asked = form();
  if (!asked.text && !attached) {
    find("#rz-text").focus();
    return;
  }
  document.body.dataset.rzSearched = "yes";
  find("#rz-results")?.classList.add("rz-waiting");
  send("search", asked);
}

/** Searches again after a filter changed, if there is something to search for. */
function refine() {
  showState();
  if (document.body.dataset.rzSearched && (find("#rz-text").value.trim() || attached)) search();
}

function settled(panel) {
  if (panel.querySelector("[data-answer], .rz-notice")) panel.classList.remove("rz-waiting");
  watchMore(panel);
}

function showState() {
  const text = find("#rz-text");
  if (!text) return;
  find("[data-clear]").hidden = !text.value && !attached;
  find("#rz-balance").hidden = !(text.value.trim() && attached);
  const filtered = FILTERS.some((field) => find(field).value);
  find("[data-reset]").hidden = !filtered;
  find("#rz-more-filters").dataset.active = filtered ? "yes" : "";
}

function clear() {
  detach();
  find("#rz-text").value = "";
  delete document.body.dataset.rzSearched;
  showState();
  find("#rz-text").focus();
}

// ---- the attached file

async function attachFile(file) {
  showTab("search");
  const preview = file.type.startsWith("image/") ? URL.createObjectURL(file) : null;
  showAttached(file.name, preview, true);
  try {
    const address = new URL(`query-files?name=${encodeURIComponent(file.name)}`, document.baseURI);
    const response = await fetch(address, { method: "POST", body: file });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(answer.error ?? "the file could not be sent");
    attached = { id: answer.id, name: file.name };
    showAttached(file.name, preview, false);
    search();
  } catch (error) {
    detach();
    toast(sentence(error.message));
  }
}

function attachSegment(id, name) {
  attached = { similar: Number(id), name };
  find("#rz-text").value = "";
  showAttached(name, `thumbnail/${Number(id)}`, false);
  showTab("search");
  search();
}

function showAttached(name, preview, busy) {
  const chip = find("#rz-attached");
  chip.hidden = false;
  chip.dataset.busy = busy ? "yes" : "";
  chip.querySelector(".rz-attached-name").textContent = name;
  chip.querySelector(".rz-preview").replaceChildren(
    ...(preview ? [element("img", { src: preview, alt: "", onerror: "this.remove()" })] : []),
  );
  find("#rz-text").placeholder = "Add words to narrow it down";
  showState();
}

function detach() {
  attached = null;
  find("#rz-attached").hidden = true;
  find("#rz-file").value = "";
  find("#rz-text").placeholder = "Describe it, or drop a picture";
  showState();
}

// ---- events

function onClick(event) {
  const chip = event.target.closest("#rz-form .rz-chip[data-kind]");
  if (chip) {
    chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
    refine();
  }
  if (event.target.closest("[data-clear]")) clear();
  if (event.target.closest("[data-detach]")) {
    detach();
    find("#rz-text").value.trim() ? search() : clear();
  }
  if (event.target.closest("[data-reset]")) {
    for (const field of FILTERS) find(field).value = "";
    refine();
  }
  const toggle = event.target.closest("#rz-more-filters");
  if (toggle) {
    const open = toggle.getAttribute("aria-expanded") !== "true";
    toggle.setAttribute("aria-expanded", open);
    find("#rz-rest").classList.toggle("rz-shown", open);
  }
  const similar = event.target.closest("[data-similar]");
  if (similar) {
    const name = similar.closest("[data-name]")?.dataset.name ?? "this";
    document.dispatchEvent(new CustomEvent("rz-close-detail"));
    attachSegment(similar.dataset.similar, name);
  }
  const more = event.target.closest("[data-more]");
  if (more) loadMore(more);
}

function onChange(event) {
  const { id } = event.target;
  if (id === "rz-file" && event.target.files[0]) attachFile(event.target.files[0]);
  if (id === "rz-weight" || FILTERS.includes(`#${id}`)) refine();
}

function onKey(event) {
  if (event.key === "/" && !typing() && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    showTab("search");
    find("#rz-text").focus();
    find("#rz-text").select();
  }
  if (event.key === "Escape" && document.activeElement?.id === "rz-text") clear();
  const from = event.target.closest?.(".rz-open");
  if (from && event.key.startsWith("Arrow")) moveFocus(event, from);
}

/** Arrow keys walk over the cards as they lie on the screen. */
function moveFocus(event, from) {
  const cards = [...document.querySelectorAll("#rz-tab-search .rz-open")].filter(
    (card) => card.offsetParent,
  );
  const columns = cards.filter(
    (card) => card.getBoundingClientRect().top === cards[0].getBoundingClientRect().top,
  ).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  const target = cards[cards.indexOf(from) + step];
  if (!target) return;
  event.preventDefault();
  target.focus();
}

function onPaste(event) {
  const file = [...(event.clipboardData?.files ?? [])][0];
  if (!file) return;
  event.preventDefault();
  attachFile(file);
}

/** A file dropped anywhere on the search tab is searched with. */
function startDropping() {
  let depth = 0;
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const onLibrary = () => Boolean(find("#rz-drop")?.offsetParent);
  const mark = (on) => {
    if (on) document.body.dataset.rzDropping = onLibrary() ? "library" : "search";
    else delete document.body.dataset.rzDropping;
  };
  window.addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    depth += 1;
    mark(true);
  });
  window.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) mark(false);
  });
  window.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
  window.addEventListener("drop", (event) => {
    depth = 0;
    mark(false);
    if (!holdsFiles(event) || onLibrary()) return;
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) attachFile(file);
  });
}

// ---- results

async function loadMore(button) {
  const place = button.closest(".rz-more");
  if (place.dataset.busy) return;
  place.dataset.busy = "yes";
  button.disabled = true;
  try {
    const response = await fetch(new URL(button.dataset.more, document.baseURI));
    const page = document.createRange().createContextualFragment(await response.text());
    place.replaceWith(page);
    watchMore(document);
  } catch {
    delete place.dataset.busy;
    button.disabled = false;
    toast("The server did not answer. Try again.");
  }
}

const nearing = new IntersectionObserver(
  (entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    nearing.unobserve(entry.target);
    loadMore(entry.target.querySelector("button"));
  }),
  { rootMargin: "400px" },
);

/** Further cards come by themselves when the end of the grid is near. */
function watchMore(root) {
  root.querySelectorAll(".rz-more:not([data-watched])").forEach((place) => {
    place.dataset.watched = "yes";
    nearing.observe(place);
  });
}

function showFolders(panel) {
  const known = panel.querySelector("[data-known]");
  const select = find("#rz-folder");
  if (!known || !select) return;
  const { folders } = JSON.parse(known.dataset.known);
  const chosen = select.value;
  select.replaceChildren(
    element("option", { value: "" }, "Any folder"),
    ...folders.map(({ id, name, files }) =>
      element("option", { value: id }, `${name} (${files.toLocaleString()})`),
    ),
  );
  select.value = folders.some(({ id }) => id === chosen) ? chosen : "";
}

/** Shows the field for an instruction only if the model takes one. */
function showInstruction(panel) {
  const model = panel.querySelector("[data-model]");
  const field = find("#rz-instruction-field");
  if (!model || !field) return;
  const { instruction } = model.dataset;
  const input = find("#rz-instruction");
  field.hidden = instruction === undefined;
  if (field.hidden) input.value = "";
  input.placeholder = instruction || "what the model should do";
  showState();
}
