// Types for the checker (`make lint`), of what the scripts do not define themselves.

/** The texts in the user's language, which the server makes (`app/texts.py`). */
declare module "*/messages.js" {
  export const language: string;
  export const locale: string;
  /** By English text; those that depend on a number by their singular, in forms as of CLDR. */
  export const messages: Record<string, string | PluralForms>;
}

type PluralForms = { other: string } & { [form in Intl.LDMLPluralRule]?: string };

/** What the parts of the page tell each other. */
interface DocumentEventMap {
  "rz-searched": CustomEvent<import("./address.js").Search>;
  "rz-period": CustomEvent<import("./results.js").Period | null>;
  "rz-file-changed": CustomEvent<null>;
  "rz-close-detail": CustomEvent<null>;
}

interface WindowEventMap {
  "rz-removed": CustomEvent<null>;
}

// Scripts look for elements of HTML only, never for those of SVG.
interface ParentNode {
  querySelector<Tag extends keyof HTMLElementTagNameMap>(selectors: Tag): HTMLElementTagNameMap[Tag] | null;
  querySelector(selectors: string): HTMLElement | null;
  querySelectorAll<Tag extends keyof HTMLElementTagNameMap>(selectors: Tag): NodeListOf<HTMLElementTagNameMap[Tag]>;
  querySelectorAll(selectors: string): NodeListOf<HTMLElement>;
}

interface Element {
  setAttribute(name: string, value: string | number | boolean): void; // Browsers write it as text.
  closest<Tag extends keyof HTMLElementTagNameMap>(selectors: Tag): HTMLElementTagNameMap[Tag] | null;
  closest(selectors: string): HTMLElement | null;
}
