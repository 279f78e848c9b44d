// The slider for the border: how likely a result must be to be shown among the matches.
import { get } from "./dom.js";
import { t } from "./texts.js";

const DEFAULT = 50; // Percent, as are all numbers here.
const KEPT = "rz-border"; // The latest one, which this browser keeps.

const slider = () => get("#rz-border", HTMLInputElement);

/** The border, or nothing if it is the default one. @returns {string} A probability. */
export function border() {
  const percent = 100 - Number(slider().value); // To the right there are more results.
  return percent === DEFAULT ? "" : String(percent / 100);
}

/** @param {string} probability As in the address: empty for the default one. */
export function showBorder(probability) {
  const percent = probability ? Math.round(100 * Number(probability)) : DEFAULT;
  slider().value = String(100 - percent);
  const meaning = t("Matches are at least {percent}% sure", { percent });
  slider().setAttribute("aria-valuetext", meaning);
  get(".rz-border").title = meaning;
}

/** The border that was chosen here before. */
export function keptBorder() {
  return localStorage.getItem(KEPT) ?? "";
}

/** Keeps and explains the border that is chosen now. */
export function keepBorder() {
  localStorage.setItem(KEPT, border());
  showBorder(border());
}
