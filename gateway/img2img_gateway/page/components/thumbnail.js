/** A picture in small; in its place a pictogram, as long as there is none. */
import { BACK } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { Icon } from "./icon.js";

export function Thumbnail({ src, alt = "", icon = "image" }) {
  const [missing, setMissing] = useState(false);
  const again = () => setMissing(false);
  useEffect(again, [src]);
  useEffect(() => {
    addEventListener(BACK, again);
    return () => removeEventListener(BACK, again);
  }, []);
  if (!src || missing) return html`<span class="thumbnail none" role=${alt ? "img" : undefined} aria-label=${alt || undefined}><${Icon} name=${icon} /></span>`;
  return html`<img class="thumbnail" src=${src} alt=${alt} loading="lazy" decoding="async" draggable=${false} onError=${() => setMissing(true)} />`;
}
