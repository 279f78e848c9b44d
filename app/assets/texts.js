// The page's texts in the user's language; English is the key, as in app/texts.py.
import { language, locale, messages } from "../../messages.js";

export { language };

const plurals = new Intl.PluralRules(locale);
const numbers = new Intl.NumberFormat(locale);

/**
 * Translates a text, and inserts values by name: t("Remove {name}", { name }).
 * @param {string} message
 * @param {Record<string, string | number>} values Numbers are written as the language does.
 */
export function t(message, values = {}) {
  const translated = messages[message];
  return filled(typeof translated === "string" ? translated : message, values);
}

/**
 * Translates a text in the form that goes with the number n: tn("{n} file", "{n} files", n).
 * @param {string} singular
 * @param {string} plural
 * @param {number} n
 * @param {Record<string, string | number>} values As for `t`.
 */
export function tn(singular, plural, n, values = {}) {
  const translated = messages[singular];
  const forms = typeof translated === "object" ? translated : { one: singular, other: plural };
  return filled(forms[plurals.select(n)] ?? forms.other, { n, ...values });
}

/** @param {string} text @param {Record<string, string | number>} values */
function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (place, name) => {
    const value = values[name] ?? place;
    return typeof value === "number" ? number(value) : value;
  });
}

/** A number as the language writes it. @param {number} value */
export const number = (value) => numbers.format(value);

const months = new Intl.DateTimeFormat(locale, { month: "long", year: "numeric" });

/** A month, such as 2023-07, as the language writes it. @param {string} month */
export const monthName = (month) => months.format(new Date(`${month}-15T12:00`));

/** Translates the page from now on into another language. @param {string} code */
export function chooseLanguage(code) {
  const path = new URL(".", document.baseURI).pathname;
  document.cookie = `rzen-language=${code}; path=${path}; max-age=31536000; samesite=lax`;
  location.reload();
}
