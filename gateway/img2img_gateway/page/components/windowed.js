/**
 * A list or a grid of any length, of which only what the window shows is there.
 *
 * It scrolls with the page. Cells are in rows of one height; how many fit beside each other says `width`.
 */
import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "../html.js";

/** Rows that are there above and below what is seen. */
const BEYOND = 4;
/** The highest that browsers make an element reliably; beyond it, scrolling goes by more than it shows. */
const HIGHEST = 15_000_000;
const STEPS = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: (columns) => -columns, ArrowDown: (columns) => columns };

/**
 * `count` cells, `height` px each row; `width`: the least px of a cell, none for a single column.
 * `render(index)` gives a cell's content; `onRange(first, end)` is told what is there. With `arrows`, the arrow keys
 * move the focus from the first link or button of a cell to that of its neighbours.
 */
export function Windowed({ count, height, width, label, render, onRange, arrows = false, keyOf = (index) => index }) {
  const element = useRef();
  const wanted = useRef(null);
  const [seen, setSeen] = useState({ first: 0, rows: 0, top: 0, columns: 1 });
  const rows = Math.ceil(count / seen.columns);
  const whole = rows * height;
  const shown = Math.min(whole, HIGHEST);

  const look = useCallback(() => {
    const box = element.current.getBoundingClientRect();
    const columns = width ? Math.max(1, Math.floor(box.width / width)) : 1;
    const all = Math.ceil(count / columns) * height;
    const high = Math.min(all, HIGHEST);
    const above = Math.min(Math.max(0, -box.top), Math.max(0, high - window.innerHeight));
    const scale = high > window.innerHeight ? (all - window.innerHeight) / (high - window.innerHeight) : 1;
    const first = Math.max(0, Math.floor((above * scale) / height) - BEYOND);
    const top = Math.round(above - (above * scale - first * height));
    const next = { first, rows: Math.ceil(window.innerHeight / height) + 2 * BEYOND, top, columns };
    setSeen((old) => (Object.keys(next).every((name) => old[name] === next[name]) ? old : next));
  }, [count, height, width]);

  useLayoutEffect(look, [look]);
  // not useEffect, which is cleaned up when the element is gone already: a frame between the two would look at it
  useLayoutEffect(() => {
    let frame = 0;
    const soon = () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(look);
    };
    window.addEventListener("scroll", soon, { passive: true });
    const sizes = new ResizeObserver(soon);
    sizes.observe(element.current);
    sizes.observe(document.documentElement);
    return () => {
      cancelAnimationFrame(frame);
      window.removeEventListener("scroll", soon);
      sizes.disconnect();
    };
  }, [look]);

  const first = Math.min(seen.first * seen.columns, Math.max(0, count - 1));
  const end = Math.min(count, (seen.first + seen.rows) * seen.columns);
  useEffect(() => onRange?.(first, end), [first, end, onRange]);
  useLayoutEffect(() => {
    const cell = wanted.current !== null && element.current.querySelector(`[data-at="${wanted.current}"]`);
    if (!cell) return;
    wanted.current = null;
    cell.querySelector("a, button")?.focus({ preventScroll: true });
    cell.scrollIntoView({ block: "nearest" });
  });

  const moved = (event) => {
    const at = Number(event.target.closest("[data-at]")?.dataset.at);
    if (!arrows || Number.isNaN(at)) return;
    const step = STEPS[event.key]?.(seen.columns);
    const to = event.key === "Home" ? 0 : event.key === "End" ? count - 1 : at + step;
    if (!(to >= 0 && to < count)) return;
    event.preventDefault();
    wanted.current = to;
    if (to < first || to >= end) {
      const top = element.current.getBoundingClientRect().top + window.scrollY;
      window.scrollTo(0, top + (Math.floor(to / seen.columns) * height * shown) / whole - window.innerHeight / 2);
    } else {
      setSeen({ ...seen });
    }
  };

  const cells = [];
  for (let index = first; index < end; index += 1) {
    cells.push(html`<div role="listitem" class="cell" key=${keyOf(index)} data-at=${index} aria-setsize=${count}
      aria-posinset=${index + 1}>${render(index)}</div>`);
  }
  return html`<div class="windowed" ref=${element} style=${{ height: `${shown}px` }}>
    <div role="list" aria-label=${label} class="cells" onKeyDown=${moved} style=${{
      transform: `translateY(${seen.top}px)`,
      gridTemplateColumns: `repeat(${seen.columns}, minmax(0, 1fr))`,
      gridAutoRows: `${height}px`,
    }}>${cells}</div>
  </div>`;
}
