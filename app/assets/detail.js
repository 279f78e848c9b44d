// The detail dialog: one result, large, with keyboard navigation.
import { element, toast, typing } from "./dom.js";

let dialog = null;
let order = []; // segment ids as they lay on the page when the dialog opened
let position = -1;
let opener = null;

export function startDetail() {
  dialog = element(
    "dialog",
    { id: "rz-detail", "aria-labelledby": "rz-detail-title" },
    element("div", { class: "rz-detail-body", "aria-live": "polite" }),
    icon("rz-close", "Close", "m6 6 12 12M18 6 6 18"),
    icon("rz-before", "Previous result", "m15 5-7 7 7 7"),
    icon("rz-after", "Next result", "m9 5 7 7-7 7"),
  );
  document.body.append(dialog);
  document.addEventListener("click", onClick);
  document.addEventListener("rz-close-detail", close);
  dialog.addEventListener("keydown", onKey);
  dialog.addEventListener("close", leave);
}

function icon(name, label, path) {
  const button = element("button", { type: "button", class: `rz-icon ${name}`, "aria-label": label });
  button.innerHTML =
    '<svg width="22" height="22" viewBox="0 0 24 24" fill="none" stroke="currentColor" ' +
    `stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"><path d="${path}"/></svg>`;
  return button;
}

function onClick(event) {
  const card = event.target.closest(".rz-open");
  if (card) return open(card);
  if (!dialog.open) return undefined;
  if (event.target === dialog || event.target.closest(".rz-close")) return close();
  if (event.target.closest(".rz-before")) return step(-1);
  if (event.target.closest(".rz-after")) return step(1);
  const turn = event.target.closest("[data-turn]");
  if (turn) return load(turn.dataset.turn);
  const copy = event.target.closest("[data-copy]");
  if (copy) return copyText(copy.dataset.copy);
  return undefined;
}

function open(card) {
  opener = card;
  const cards = [...document.querySelectorAll("#rz-tab-search .rz-open")].filter(
    (each) => each.offsetParent,
  );
  order = cards.map((each) => each.dataset.segment);
  position = cards.indexOf(card);
  if (!dialog.open) dialog.showModal();
  document.documentElement.classList.add("rz-locked");
  load(card.dataset.segment);
}

function close() {
  if (dialog.open) dialog.close();
}

function leave() {
  document.documentElement.classList.remove("rz-locked");
  show("");
  const current = document.querySelector(`.rz-open[data-segment="${order[position]}"]`);
  (current ?? opener)?.focus();
}

function step(by) {
  const next = position + by;
  if (next < 0 || next >= order.length) return;
  position = next;
  load(order[position]);
}

async function load(segment) {
  const search = document.querySelector("#rz-results [data-answer]")?.dataset.answer;
  const marks = document.body.dataset.rzSearched && search ? `?search=${search}` : "";
  const body = dialog.querySelector(".rz-detail-body");
  body.dataset.busy = "yes";
  let content;
  try {
    const response = await fetch(new URL(`detail/${Number(segment)}${marks}`, document.baseURI));
    content = await response.text();
  } catch {
    toast("The server did not answer. Try again.");
    return;
  } finally {
    delete body.dataset.busy;
  }
  show(content);
  dialog.querySelector(".rz-before").disabled = position <= 0;
  dialog.querySelector(".rz-after").disabled = position < 0 || position >= order.length - 1;
  prepare(body);
}

/** Replaces the content; a video is stopped first, or it would go on loading unseen. */
function show(content) {
  const body = dialog.querySelector(".rz-detail-body");
  const video = body.querySelector("video");
  if (video) {
    video.pause();
    video.removeAttribute("src");
    video.load();
  }
  body.innerHTML = content;
}

/** Starts a video where the clip begins; shows a passage, not the file's first line. */
function prepare(body) {
  const video = body.querySelector("video");
  if (video) {
    const start = Number(video.dataset.start);
    video.addEventListener(
      "loadedmetadata",
      () => {
        if (Math.abs(video.currentTime - start) > 0.25) video.currentTime = start;
      },
      { once: true },
    );
    video.addEventListener("error", () => {
      if (!video.hasAttribute("src")) return; // Stopped by us.
      video.hidden = true;
      body.querySelector(".rz-missing").hidden = false;
    });
    video.play().catch(() => {});
  }
  const passage = body.querySelector(".rz-passage");
  const text = body.querySelector(".rz-text");
  if (passage && text) text.scrollTop = passage.offsetTop - text.offsetTop - 80;
}

function onKey(event) {
  if (typing() || event.target.closest("video")) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "PageUp") turn(0);
  else if (event.key === "PageDown") turn(1);
  else return;
  event.preventDefault();
}

function turn(which) {
  const buttons = dialog.querySelectorAll(".rz-turn button");
  if (buttons[which] && !buttons[which].disabled) buttons[which].click();
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Path copied.");
  } catch {
    const field = element("textarea", { class: "rz-hidden" }, text);
    dialog.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    toast(done ? "Path copied." : "The browser did not let the path be copied.");
  }
}
