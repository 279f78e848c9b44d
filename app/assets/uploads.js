// Sending files to the library, a few at a time; it can be paused, and goes on where it was.
import { closest, element, find, get, reasonOf, sentence, toast } from "./dom.js";
import { number, t, tn } from "./texts.js";

const MAX_UPLOADS = 3;
const MAX_PROBLEMS = 20;
const SHOWN_EVERY_MS = 200;
const NO_ROOM = 507;

/** @typedef {{ file: File, path: string }} Upload */
/** @typedef {{ path: string, reason: string }} Problem */

const nothing = () => ({
  /** @type {Upload[]} */
  waiting: [],
  /** @type {Map<Upload, number>} The bytes of those that are being sent. */
  loaded: new Map(),
  sent: 0,
  bytes: 0,
  files: 0,
  total: 0, // Bytes.
  /** @type {Problem[]} */
  problems: [],
  milliseconds: 0,
  /** @type {AbortController | null} */
  stop: null,
  stopped: "", // Why no more are sent.
});

let state = nothing();
let added = () => {};

/** @param {() => void} onSent Called when files have arrived that the library does not have yet. */
export function startUploads(onSent) {
  added = onSent;
  document.addEventListener("change", (event) => {
    const chosen = closest(event, "#rz-pick-folder, #rz-pick-files", HTMLInputElement);
    if (!chosen) return;
    const files = [...(chosen.files ?? [])];
    add(files.map((file) => ({ file, path: file.webkitRelativePath || file.name })));
    chosen.value = "";
  });
  document.addEventListener("drop", onDrop);
  document.addEventListener("click", (event) => {
    /** @param {string} name */
    const hit = (name) => closest(event, `#rz-sending [data-${name}]`);
    if (hit("pause")) pause(t("Paused"));
    if (hit("go-on")) run();
    if (hit("leave")) leaveOut();
  });
}

/** @param {DragEvent} event */
async function onDrop(event) {
  if (!find("#rz-drop")?.offsetParent || !event.dataTransfer?.items) return;
  event.preventDefault();
  const entries = [...event.dataTransfer.items]
    .map((item) => item.webkitGetAsEntry?.())
    .filter((entry) => entry !== null);
  /** @type {Upload[]} */
  const files = [];
  for (const entry of entries) await collect(entry, files);
  add(files);
}

/**
 * All files in a dropped folder, with their paths inside it.
 * @param {FileSystemEntry} entry @param {Upload[]} files
 */
async function collect(entry, files) {
  if (entry instanceof FileSystemFileEntry) {
    /** @type {File} */
    const file = await new Promise((done, failed) => entry.file(done, failed));
    files.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  if (!(entry instanceof FileSystemDirectoryEntry)) return;
  const reader = entry.createReader();
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    for (const child of some) await collect(child, files);
  }
}

/** Sends files, after those that are being sent. @param {Upload[]} files */
function add(files) {
  const wanted = files.filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")));
  if (!wanted.length) {
    toast(t("There are no files to add."));
    return;
  }
  state.waiting.push(...wanted);
  state.files += wanted.length;
  state.total += wanted.reduce((sum, { file }) => sum + file.size, 0);
  if (!state.stop) run();
}

async function run() {
  const { signal } = (state.stop = new AbortController());
  const sentBefore = state.sent;
  const startedAt = Date.now() - state.milliseconds;
  state.stopped = "";
  const showing = setInterval(() => {
    state.milliseconds = Date.now() - startedAt;
    showProgress();
  }, SHOWN_EVERY_MS);
  showProgress();
  const worker = async () => {
    for (let next = state.waiting.shift(); next; next = state.waiting.shift()) {
      await send(next, signal);
      if (signal.aborted) return;
    }
  };
  await Promise.all(Array.from({ length: MAX_UPLOADS }, worker));
  clearInterval(showing);
  state.stop = null;
  if (state.sent > sentBefore) added();
  if (state.stopped) showStopped();
  else finish();
}

/** @param {Upload} upload @param {AbortSignal} signal */
async function send(upload, signal) {
  try {
    const { status, answer } = await post(upload, signal);
    if (status === NO_ROOM) {
      state.waiting.unshift(upload);
      pause(sentence(answer.error ?? t("there is no room for more files")));
    } else if (status !== 200) {
      throw new Error(answer.error ?? t("the server did not take it"));
    } else {
      state.sent += 1;
      state.bytes += upload.file.size;
    }
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") {
      state.waiting.unshift(upload);
    } else {
      state.problems.push({ path: upload.path, reason: reasonOf(error) });
      state.bytes += upload.file.size;
    }
  }
  state.loaded.delete(upload);
}

/**
 * Sends one file. Unlike fetch, XMLHttpRequest says how much has been sent.
 * @param {Upload} upload
 * @param {AbortSignal} signal
 * @returns {Promise<{ status: number, answer: { error?: string } }>}
 */
async function post(upload, signal) {
  const { file, path } = upload;
  await file.slice(0, 1).arrayBuffer(); // Fails if the file cannot be read, as after it was deleted.
  const query = new URLSearchParams({ path, modified: String(file.lastModified) });
  const request = new XMLHttpRequest();
  request.open("POST", new URL(`uploads?${query}`, document.baseURI));
  request.responseType = "json";
  request.upload.onprogress = ({ loaded }) => state.loaded.set(upload, loaded);
  return new Promise((resolve, reject) => {
    const abort = () => request.abort();
    signal.addEventListener("abort", abort);
    const aborted = () => reject(new DOMException("", "AbortError"));
    request.onabort = aborted;
    request.onload = () => resolve({ status: request.status, answer: request.response ?? {} });
    request.onerror = () => {
      pause(t("The server does not answer."));
      reject(new DOMException("", "AbortError"));
    };
    request.onloadend = () => signal.removeEventListener("abort", abort);
    if (signal.aborted) aborted();
    else request.send(file);
  });
}

/** Stops until the user goes on. What is being sent will be sent again. @param {string} why */
function pause(why) {
  if (!state.stop || state.stop.signal.aborted) return;
  state.stopped = why;
  state.stop.abort();
}

function leaveOut() {
  state.waiting = [];
  finish();
}

function finish() {
  const { problems } = state;
  state = nothing();
  const more = problems.length - MAX_PROBLEMS;
  const lines = problems.slice(0, MAX_PROBLEMS).map(({ path, reason }) =>
    element("li", {}, element("b", {}, path), ` – ${sentence(reason)}`),
  );
  if (more > 0) lines.push(element("li", {}, t("… and {n} more.", { n: more })));
  const heading = tn("{n} file could not be sent", "{n} files could not be sent", problems.length);
  show(...(problems.length ? [notice(heading, element("ul", {}, ...lines))] : []));
}

// ---- what is shown

/** @param {...(string | Node)} parts */
const show = (...parts) => get("#rz-sending").replaceChildren(...parts);
/** @param {string} name @param {string} label */
const button = (name, label) =>
  element("button", { type: "button", class: "rz-button", [`data-${name}`]: true }, label);

/** @param {string} heading @param {...(string | Node)} parts */
function notice(heading, ...parts) {
  const attributes = { class: "rz-notice", "data-tone": "error", role: "status" };
  return element("div", attributes, element("h2", {}, heading), ...parts);
}

function showStopped() {
  const left = tn("{n} file was not sent yet.", "{n} files were not sent yet.", state.waiting.length);
  const choices = [button("go-on", t("Go on")), button("leave", t("Leave them out"))];
  show(notice(state.stopped, element("p", {}, left), element("p", { class: "rz-inline" }, ...choices)));
  get("#rz-sending [data-go-on]").focus({ preventScroll: true });
}

function showProgress() {
  const bytes = state.bytes + [...state.loaded.values()].reduce((sum, loaded) => sum + loaded, 0);
  const share = state.total ? Math.min(100, (100 * bytes) / state.total) : 0;
  const text = progressText(bytes);
  const bar = find("#rz-sending [role=progressbar]");
  if (bar) {
    bar.setAttribute("aria-valuenow", Math.round(share));
    get("i", null, bar).style.width = `${share}%`;
    get("#rz-sending [data-numbers]").textContent = text;
    return;
  }
  const title = t("Sending files");
  const progress = { class: "rz-bar", role: "progressbar", "aria-label": title, "aria-valuenow": 0 };
  show(
    element(
      "section",
      { class: "rz-progress", "aria-label": title },
      element("header", {}, element("h3", {}, title), button("pause", t("Pause"))),
      element("div", progress, element("i", { style: "width:0" })),
      element("p", { class: "rz-fine", "data-numbers": true }, text),
    ),
  );
}

/** @param {number} bytes */
function progressText(bytes) {
  const done = state.sent + state.problems.length;
  const parts = [
    tn("{done} of {n} file", "{done} of {n} files", state.files, { done }),
    t("{sent} of {total} MB", { sent: megabytes(bytes), total: megabytes(state.total) }),
  ];
  const left = ((state.total - bytes) * state.milliseconds) / bytes / 60_000;
  if (state.milliseconds > 3_000 && bytes && left > 0.1) {
    parts.push(left < 1 ? t("less than a minute left") : t("about {n} min left", { n: Math.ceil(left) }));
  }
  return parts.join(" · ");
}

/** @param {number} bytes */
const megabytes = (bytes) => number(Math.round(bytes / 1e5) / 10);
