/** Two pictures over each other, under one slider: before at its left, after at its right. */
import { html, useState } from "../html.js";
import { job as text } from "../strings.js";

/** How A1111 fits a picture into the result's size, by `resize_mode`. */
const FITS = ["fill", "cover", "contain", "fill"];

export function Compare({ before, onBeforeError, after, resizeMode, alt }) {
  const [at, setAt] = useState(50);
  const [ratio, setRatio] = useState(1);
  const loaded = ({ target }) => setRatio(target.naturalWidth / target.naturalHeight);
  return html`<div class="compare">
    <div class="pair" style=${{ "--ratio": ratio }}>
      <img onLoad=${loaded} src=${after} alt=${alt} draggable=${false} />
      <img class="before" src=${before} onError=${onBeforeError} alt=${text.beforeOf(alt)} draggable=${false}
        style=${{ objectFit: FITS[resizeMode] ?? "fill", clipPath: `inset(0 ${100 - at}% 0 0)` }} />
      <i style=${{ left: `${at}%` }} />
      <input type="range" min="0" max="100" step="0.5" value=${at} aria-label=${text.slider} aria-valuetext=${text.sliderAt(Math.round(at))}
        onInput=${(event) => setAt(Number(event.target.value))} />
    </div>
  </div>`;
}
