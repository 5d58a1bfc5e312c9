/** Copies a text that the page shows. */

/** Copy what `element` shows, which is `text`. Pages without TLS have no clipboard: there it is selected and copied. */
export async function copyText(text, element) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  getSelection().selectAllChildren(element);
  document.execCommand("copy");
  return undefined;
}
