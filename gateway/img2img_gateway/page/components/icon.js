/** Pictograms, each a path in a square of 24. Beside a text, or in a button that has a label. */
import { html } from "../html.js";

const paths = {
  back: "M15 5l-7 7 7 7",
  brush: "M4 20c3 1 6-1 6-4l9-11-2-2-10 10c-3 0-4 3-3 7z",
  cancel: "M6 6l12 12M18 6L6 18",
  check: "M5 12l5 5 9-10",
  chevron: "M9 5l7 7-7 7",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  down: "M12 5v14m-6-6l6 6 6-6",
  download: "M12 4v11m-5-5l5 5 5-5M5 20h14",
  eraser: "M8 20l-5-5L14 4l6 6L10 20zM9 9l6 6M8 20h12",
  fit: "M4 9V4h5m6 0h5v5m0 6v5h-5m-6 0H4v-5",
  hand: "M12 3v18M3 12h18M12 3L9 6m3-3l3 3m-3 15l-3-3m3 3l3-3M3 12l3-3m-3 3l3 3m15-3l-3-3m3 3l-3 3",
  grip: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  invert: "M12 3a9 9 0 000 18zM12 3a9 9 0 010 18",
  minus: "M5 12h14",
  moon: "M20 14A8 8 0 0110 4a8 8 0 1010 10z",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
  plus: "M12 5v14M5 12h14",
  queue: "M4 6h16M4 12h16M4 18h10",
  redo: "M15 5l5 5-5 5M20 10H10a6 6 0 000 12h2",
  repeat: "M4 11V9a3 3 0 013-3h12m-3-3l3 3-3 3M20 13v2a3 3 0 01-3 3H5m3 3l-3-3 3-3",
  reset: "M4 4v6h6M4.5 10A8 8 0 1112 20a8 8 0 01-7-4",
  search: "M11 4a7 7 0 100 14 7 7 0 000-14zM16 16l5 5",
  signOut: "M14 4h5v16h-5M3 12h11m-4-4l4 4-4 4",
  studio: "M4 20l1-5L16 4l4 4L9 19zM14 6l4 4",
  sun: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v2m0 16v2M2 12h2m16 0h2M5 5l1.5 1.5m11 11L19 19M5 19l1.5-1.5m11-11L19 5",
  trash: "M4 7h16M10 4h4M6 7l1 13h10l1-13M10 11v5m4-5v5",
  undo: "M9 5l-5 5 5 5M4 10h10a6 6 0 010 12h-2",
  up: "M12 19V5m-6 6l6-6 6 6",
  warning: "M12 3L2 20h20zM12 10v4m0 3h.01",
  worker: "M4 5h16v6H4zM4 13h16v6H4zM8 8h.01M8 16h.01",
};

export function Icon({ name }) {
  return html`<svg class="icon icon-${name}" viewBox="0 0 24 24" aria-hidden="true"><path d=${paths[name]} /></svg>`;
}
