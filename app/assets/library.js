// The library tab: sending files, following what runs, changing the model, the table of files.
import { element, find, onPanel, sentence, toast } from "./dom.js";

const MAX_UPLOADS = 3;
let send = () => {};
let stopped = null; // AbortController of the running upload
let moving = false;
let listed = { status: "indexed", name: "", offset: 0 };

export function startLibrary(sender) {
  send = sender;
  document.addEventListener("change", onChange);
  document.addEventListener("click", onClick);
  document.addEventListener("submit", (event) => {
    const { id } = event.target;
    if (id !== "rz-name-folder" && id !== "rz-reembed") return;
    event.preventDefault();
    if (id === "rz-name-folder") send("add_folder", { folder: find("#rz-path").value });
    else change(find("[name=rz-offer]:checked"));
  });
  let waiting = null;
  document.addEventListener("input", (event) => {
    if (event.target.id !== "rz-file-name") return;
    clearTimeout(waiting);
    waiting = setTimeout(() => list({ name: event.target.value, offset: 0 }), 250);
  });
  document.addEventListener("drop", onDrop);
  onPanel("rz-ingest", moveOn);
  onPanel("rz-files", () => showChecked());
  onPanel("rz-state", () => {
    showCounts();
    if (find("#rz-known")) list({});
  });
  onPanel("rz-file-filter", showCounts); // Gradio makes a tab when it is first opened.
  onPanel("rz-model", forgetChoice);
  if (dismissed()) document.body.dataset.rzDismissed = "yes";
}

// ---- sending

async function onDrop(event) {
  if (!find("#rz-drop")?.offsetParent || !event.dataTransfer?.items) return;
  event.preventDefault();
  const entries = [...event.dataTransfer.items]
    .map((item) => item.webkitGetAsEntry?.())
    .filter(Boolean);
  const files = [];
  for (const entry of entries) await collect(entry, files);
  sendAll(files);
}

/** All files in a dropped folder, with their paths inside it. */
async function collect(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    files.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    for (const child of some) await collect(child, files);
  }
}

/** Sends files one by one, a few at a time, and then has the server add them. */
async function sendAll(files) {
  const wanted = files.filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")));
  if (!wanted.length) return toast("There are no files to add.");
  if (stopped) return toast("Files are being sent already. Wait for that to end.");
  stopped = new AbortController();
  const total = wanted.reduce((sum, { file }) => sum + file.size, 0);
  const state = { sent: 0, bytes: 0, total, count: wanted.length, problems: [] };
  const queue = [...wanted];
  showSending(state);
  const worker = async () => {
    for (let next = queue.shift(); next && !stopped.signal.aborted; next = queue.shift()) {
      await sendOne(next, state);
      showSending(state);
    }
  };
  await Promise.all(Array.from({ length: MAX_UPLOADS }, worker));
  const cancelled = stopped.signal.aborted;
  stopped = null;
  showProblems(state.problems, cancelled);
  if (state.sent) send("add_uploads");
  return undefined;
}

async function sendOne({ file, path }, state) {
  try {
    const address = new URL(`uploads?path=${encodeURIComponent(path)}`, document.baseURI);
    const options = { method: "POST", body: file, signal: stopped.signal };
    const response = await fetch(address, options);
    if (!response.ok) {
      const answer = await response.json().catch(() => ({}));
      throw new Error(answer.error ?? "the server did not take it");
    }
    state.sent += 1;
  } catch (error) {
    if (error.name !== "AbortError") state.problems.push({ path, reason: error.message });
  }
  state.bytes += file.size;
}

function showSending(state) {
  const share = state.total ? (100 * state.bytes) / state.total : 0;
  const done = state.sent + state.problems.length;
  find("#rz-sending").replaceChildren(
    element(
      "section",
      { class: "rz-progress" },
      element(
        "header",
        {},
        element("h3", {}, "Sending files"),
        element("button", { type: "button", class: "rz-button", "data-cancel": "sending" }, "Cancel"),
      ),
      element(
        "div",
        { class: "rz-bar", role: "progressbar", "aria-valuenow": Math.round(share) },
        element("i", { style: `width:${share}%` }),
      ),
      element("p", { class: "rz-fine" }, `${done} of ${state.count} files`),
    ),
  );
}

function showProblems(problems, cancelled) {
  const lines = problems.slice(0, 20).map(({ path, reason }) =>
    element("li", {}, element("b", {}, path), ` – ${sentence(reason)}`),
  );
  const heading = cancelled ? "Sending was cancelled" : "Some files could not be sent";
  const shown = problems.length || cancelled;
  find("#rz-sending").replaceChildren(
    ...(shown
      ? [
          element(
            "div",
            { class: "rz-notice", "data-tone": "error", role: "status" },
            element("h2", {}, heading),
            element("ul", {}, ...lines),
          ),
        ]
      : []),
  );
}

// ---- events

function onChange(event) {
  const { id } = event.target;
  if (id === "rz-pick-folder" || id === "rz-pick-files") {
    const files = [...event.target.files];
    sendAll(files.map((file) => ({ file, path: file.webkitRelativePath || file.name })));
    event.target.value = "";
  }
  if (event.target.dataset?.check === "all") {
    document.querySelectorAll("[data-item]").forEach((box) => {
      box.checked = event.target.checked;
    });
  }
  showChecked();
}

function onClick(event) {
  const cancel = event.target.closest("[data-cancel]");
  if (cancel?.dataset.cancel === "sending") stopped?.abort();
  if (cancel?.dataset.cancel === "ingest") send("cancel");
  if (event.target.closest("[data-retry]")) send("retry");
  const again = event.target.closest("[data-reembed]");
  if (again) reembed({ model: again.dataset.reembed, leave_out: again.dataset.leaveOut === "yes" });
  const suggested = event.target.closest("[data-suggested]");
  if (suggested) choose(suggested.dataset.suggested);
  if (event.target.closest("[data-dismiss]")) dismiss();
  const status = event.target.closest("[data-status]");
  if (status) list({ status: status.dataset.status, offset: 0 });
  const page = event.target.closest("[data-files]");
  if (page) list({ offset: Number(page.dataset.files) });
  if (event.target.closest("#rz-remove")) remove();
}

/** Changes the model to the one of a radio button; what has to be downloaded is asked first. */
async function change(offer) {
  const { question } = offer.dataset;
  if (question && !(await ask(question, "Download and re-embed"))) return;
  reembed({ model: offer.value, download: Boolean(question) });
}

/** Starts to re-embed the library, and shows the progress above the button. */
function reembed(choice) {
  moving = Boolean(document.activeElement?.matches(":focus-visible"));
  send("reembed", choice);
  find("#rz-ingest")?.scrollIntoView({ block: "nearest" });
}

/** Asks a question; resolves to whether it was answered with the button `yes`. */
function ask(question, yes) {
  const cancel = element("button", { class: "rz-button", autofocus: true }, "Cancel");
  const agree = element("button", { class: "rz-button rz-primary", value: "yes" }, yes);
  const dialog = element(
    "dialog",
    { class: "rz-question", "aria-labelledby": "rz-question" },
    element("p", { id: "rz-question" }, question),
    element("form", { method: "dialog", class: "rz-inline" }, agree, cancel),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((answer) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      answer(dialog.returnValue === "yes");
    });
  });
}

/** Does what a person does who chooses a model from the list. */
function choose(model) {
  find(`[name=rz-offer][value="${model}"]`).checked = true;
  find("#rz-reembed").requestSubmit();
}

// That a suggestion was dismissed is a fact about a person, not about the library, which may be
// read-only and shared: it is kept in the browser.
const DISMISSED = "rz-suggestion-dismissed";

function dismissed() {
  try {
    return localStorage.getItem(DISMISSED);
  } catch {
    return "yes"; // Nothing can be kept here: the suggestion would come back each time.
  }
}

function dismiss() {
  document.body.dataset.rzDismissed = "yes";
  find("[name=rz-offer]:enabled")?.focus();
  localStorage.setItem(DISMISSED, "yes");
}

/** Takes the choice back: Gradio changes the list in place, and it would be of another model. */
function forgetChoice(panel) {
  const choice = panel.querySelector("[name=rz-offer]:checked");
  if (choice) choice.checked = false;
}

/** Moves the keyboard's focus to Cancel, since the pressed button is disabled meanwhile. */
function moveOn(panel) {
  const cancel = moving && panel.querySelector("[data-cancel]");
  if (!cancel) return;
  moving = false;
  cancel.focus({ preventScroll: true });
}

function list(changes) {
  listed = { ...listed, ...changes };
  document.querySelectorAll("[data-status]").forEach((chip) => {
    chip.setAttribute("aria-pressed", chip.dataset.status === listed.status);
  });
  const retry = find("#rz-retry");
  if (retry) retry.hidden = listed.status !== "failed";
  send("files", listed);
}

function checked() {
  return [...document.querySelectorAll("[data-item]:checked")].map((box) => Number(box.dataset.item));
}

function showChecked() {
  const button = find("#rz-remove");
  if (!button) return;
  const count = checked().length;
  button.disabled = !count;
  button.textContent = count ? `Remove ${count}` : "Remove";
}

function remove() {
  const items = checked();
  const what = items.length === 1 ? "1 file" : `${items.length} files`;
  const question =
    `Remove ${what} from the library? Files in your own folders stay where they are; ` +
    "copies that were uploaded are deleted.";
  if (!window.confirm(question)) return;
  document.querySelectorAll("[data-item], [data-check]").forEach((box) => {
    box.checked = false;
  });
  showChecked();
  send("remove", { item_ids: items });
}

function showCounts() {
  const known = find("#rz-known");
  const chip = find('[data-status="failed"]');
  if (!known || !chip) return;
  const { failed } = JSON.parse(known.dataset.known);
  const label = failed ? `Failed (${failed.toLocaleString()})` : "Failed";
  if (chip.textContent !== label) chip.textContent = label;
}
