/** What every view is written with: Preact's hooks, and `html`, which makes elements of template literals. */
import htm from "./vendor/htm.mjs";
import { h } from "./vendor/preact.mjs";

export { Fragment, createContext, render } from "./vendor/preact.mjs";
export * from "./vendor/hooks.mjs";
export const html = htm.bind(h);
