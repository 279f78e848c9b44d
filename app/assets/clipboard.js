// Copying to the clipboard, also where the page is served without TLS.
import { element, toast } from "./dom.js";
import { t } from "./texts.js";

/** @param {string} text */
export async function copyText(text) {
  if (await copied(text)) toast(t("Copied."));
  else toast(t("The browser did not allow copying."));
}

/** @param {string} text */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // A dialog keeps the focus, so the field has to be in it.
    const field = element("textarea", { class: "rz-hidden" }, text);
    (document.querySelector("dialog:modal") ?? document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
