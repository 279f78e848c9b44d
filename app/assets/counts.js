// The numbers on the kind chips: files of each kind in the answer, or in the library without words.
import { number } from "./texts.js";

/**
 * Shows how many files of each kind there are.
 * @param {Record<string, number> | null} counts By kind; a kind that is left out has none. Null
 *   where the numbers are not known.
 */
export function showCounts(counts) {
  let all = 0;
  for (const chip of document.querySelectorAll("#rz-form .rz-chip[data-kind]")) {
    const count = counts?.[chip.dataset.kind ?? ""] ?? 0;
    all += count;
    show(chip, counts && count);
  }
  show(document.querySelector("#rz-form [data-all]"), counts && all);
}

/** @param {HTMLElement | null} chip @param {number | null} count */
function show(chip, count) {
  if (!chip) return;
  if (count === null) delete chip.dataset.count;
  else chip.dataset.count = number(count);
}
