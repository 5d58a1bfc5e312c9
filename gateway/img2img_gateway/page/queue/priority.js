/** The handle by which a job is dragged before or behind others; with the arrow keys, its priority goes up and down. */
import { Icon } from "../components/icon.js";
import { html, useLayoutEffect, useRef } from "../html.js";
import { queue as text } from "../strings.js";
import { nameOf } from "./actions.js";

const LOWEST = -100;
const KEYS = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
/** Pixels from the window's edges at which it scrolls, and by how much a frame. */
const EDGE = 90;
const SPEED = 14;

/**
 * The priority that `job` needs to stand at `place` among `others`, which are by priority; `most` is the highest.
 *
 * Jobs of one priority share the workers, so that there is no place between them: null.
 */
export function priorityAt(job, others, place, most) {
  const before = others[place - 1]?.priority;
  const behind = others[place]?.priority;
  if (before === undefined && behind === undefined) return null;
  if (before === undefined) return job.priority > behind ? null : Math.min(most, behind + 1);
  if (behind === undefined) return job.priority < before ? null : Math.max(LOWEST, before - 1);
  if (before === behind) return before === job.priority ? null : before;
  if (job.priority < before && job.priority > behind) return null;
  if (before - behind > 1) return Math.floor((before + behind) / 2);
  const wanted = job.priority >= before ? behind : before;
  return wanted === job.priority ? null : wanted;
}

/** `onDrag(y)` is told where the pointer is in the window, null at the end; `onDrop(y)` where it was let go. */
export function Handle({ job, most, onStep, onDrag, onDrop }) {
  const drag = useRef(null);
  const scroll = () => {
    const { y } = drag.current;
    const by = y < EDGE + 60 ? -SPEED : y > window.innerHeight - EDGE ? SPEED : 0;
    if (by) window.scrollBy(0, by);
    if (by) onDrag(y);
    drag.current.frame = requestAnimationFrame(scroll);
  };
  const end = (event) => {
    if (!drag.current) return;
    cancelAnimationFrame(drag.current.frame);
    const { y, moved } = drag.current;
    drag.current = null;
    onDrag(null);
    if (moved && event?.type === "pointerup") onDrop(y);
  };
  // a drag ends before its list is gone: useEffect would be cleaned up after it
  useLayoutEffect(() => () => end(), []);
  const begin = (event) => {
    if (event.button !== 0) return;
    event.target.setPointerCapture(event.pointerId);
    drag.current = { y: event.clientY, moved: false, frame: requestAnimationFrame(scroll) };
  };
  const move = (event) => {
    if (!drag.current) return;
    drag.current.moved = true;
    drag.current.y = event.clientY;
    onDrag(event.clientY);
  };
  const step = (event) => {
    if (event.key === "Escape" && drag.current) return end();
    const wanted = Math.max(LOWEST, Math.min(most, job.priority + (KEYS[event.key] ?? 0)));
    if (!(event.key in KEYS)) return undefined;
    event.preventDefault();
    return wanted === job.priority ? undefined : onStep(wanted);
  };
  return html`<div class="handle" role="spinbutton" tabindex="0" title=${text.priorityHelp} aria-label=${text.priorityOf(nameOf(job))}
    aria-valuenow=${job.priority} aria-valuemin=${LOWEST} aria-valuemax=${most}
    onPointerDown=${begin} onPointerMove=${move} onPointerUp=${end} onPointerCancel=${end} onKeyDown=${step}>
    <${Icon} name="grip" /><span class="numbers">${job.priority}</span>
  </div>`;
}
