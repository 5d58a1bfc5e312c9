/** Paints a mask over a picture: by mouse, pen, touch or keyboard. Needs nothing but the browser. */
import { blurred } from "./mask_blur.js";
import { MaskView } from "./mask_view.js";
import { Mask } from "./mask.js";

/** What a step of zoom multiplies by. */
const ZOOM = 1.25;
/** Opacity of what is masked. */
const TINT = 0.6;

/**
 * An editor in `surface`, an element with a size of its own.
 *
 * `picture` is what a canvas draws; `mask`, white on black, is begun with. `onChange` is told after each change of
 * mask, tool, size or zoom; `onCursor` where the keyboard has moved to, in pixels.
 */
export class MaskEditor {
  constructor(surface, picture, { mask, onChange = () => {}, onCursor = () => {} } = {}) {
    this.mask = new Mask(picture.width, picture.height);
    if (mask) this.mask.load(mask);
    this.tool = "brush";
    this.size = Math.max(4, Math.round(Math.max(picture.width, picture.height) / 12));
    this.blur = { x: 0, y: 0 };
    this.view = new MaskView(picture);
    this.cursor = { x: picture.width / 2, y: picture.height / 2 };
    this._surface = surface;
    this._picture = picture;
    this._onChange = onChange;
    this._onCursor = onCursor;
    this._pointers = new Map();
    this._gesture = null;
    this._build();
    this._listen();
    this.fit();
  }

  /** Leave the surface as it was. */
  close() {
    this._listeners.abort();
    this._sizes.disconnect();
    cancelAnimationFrame(this._frame);
    this._surface.replaceChildren();
  }

  /** "brush", "eraser" or "pan" */
  setTool(tool) {
    this.tool = tool;
    this._surface.dataset.tool = tool;
    this._changed();
  }

  /** The brush's, across, in pixels of the picture. */
  setSize(size) {
    this.size = Math.min(Math.max(this._picture.width, this._picture.height), Math.max(1, Math.round(size)));
    this._changed();
  }

  /** Show the edges as blurs of these sigmas make them, in pixels of the picture. */
  setBlur(x, y) {
    this.blur = { x, y };
    this._repaint();
  }

  undo() {
    this._edit(() => this.mask.undo());
  }

  redo() {
    this._edit(() => this.mask.redo());
  }

  invert() {
    this._edit(() => this.mask.invert());
  }

  clear() {
    this._edit(() => this.mask.clear());
  }

  load(picture) {
    this._edit(() => this.mask.load(picture));
  }

  fit() {
    this.view.fit(this._surface.clientWidth, this._surface.clientHeight);
    this._changed();
  }

  zoom(factor, at = this.view.middle) {
    this.view.zoom(factor, at);
    this._changed();
  }

  zoomIn() {
    this.zoom(ZOOM);
  }

  zoomOut() {
    this.zoom(1 / ZOOM);
  }

  _build() {
    const make = (name, className) => Object.assign(document.createElement(name), { className });
    this._shown = make("canvas", "mask-picture");
    this._overlay = make("canvas", "mask-overlay");
    this._ring = make("div", "mask-ring");
    this._ring.hidden = true;
    this._surface.replaceChildren(this._shown, this._overlay, this._ring);
    this._shown.width = this._picture.width;
    this._shown.height = this._picture.height;
    this._shown.getContext("2d").drawImage(this._picture, 0, 0);
    this._surface.dataset.tool = this.tool;
  }

  _listen() {
    this._listeners = new AbortController();
    const on = (name, listener, options) =>
      this._surface.addEventListener(name, listener, { signal: this._listeners.signal, ...options });
    on("pointerdown", (event) => this._pressed(event));
    on("pointermove", (event) => this._moved(event));
    on("pointerup", (event) => this._released(event));
    on("pointercancel", (event) => this._released(event));
    on("pointerleave", () => (this._ring.hidden = true));
    on("wheel", (event) => this._wheeled(event), { passive: false });
    on("keydown", (event) => this._keyed(event));
    on("keyup", (event) => (this._space &&= event.key !== " "));
    on("blur", () => (this._space = false));
    on("contextmenu", (event) => event.preventDefault());
    this._sizes = new ResizeObserver(() => this.fit());
    this._sizes.observe(this._surface);
  }

  _pressed(event) {
    event.preventDefault();
    this._surface.focus({ preventScroll: true });
    this._surface.setPointerCapture(event.pointerId);
    const at = this._at(event);
    this._pointers.set(event.pointerId, at);
    if (this._pointers.size === 2) {
      if (this._gesture?.kind === "stroke") this.mask.cancel();
      this._gesture = { kind: "pinch", ends: [...this._pointers.values()] };
    } else if (this._pointers.size > 2 || event.button === 2) {
      return;
    } else if (this.tool === "pan" || this._space || event.button === 1) {
      this._gesture = { kind: "pan", at };
    } else {
      this._gesture = { kind: "stroke" };
      const { x, y } = this.view.toPicture(at);
      const isPensEnd = event.buttons === 32; // an eraser
      this.mask.begin(x, y, this.size, { erase: this.tool === "eraser" || isPensEnd });
    }
    this._repaint();
  }

  _moved(event) {
    const at = this._at(event);
    this._showRing(at, event.pointerType);
    if (!this._pointers.has(event.pointerId)) return;
    this._pointers.set(event.pointerId, at);
    if (this._gesture?.kind === "stroke") {
      for (const each of [...(event.getCoalescedEvents?.() ?? []), event]) {
        const { x, y } = this.view.toPicture(this._at(each));
        this.mask.extend(x, y);
      }
      this._repaint();
    } else if (this._gesture?.kind === "pan") {
      this.view.move(at.x - this._gesture.at.x, at.y - this._gesture.at.y);
      this._gesture.at = at;
      this._changed();
    } else if (this._gesture?.kind === "pinch" && this._pointers.size === 2) {
      this._pinch([...this._pointers.values()]);
    }
  }

  _pinch(ends) {
    const apart = ([one, other]) => Math.hypot(one.x - other.x, one.y - other.y) || 1;
    const between = ([one, other]) => ({ x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 });
    const before = this._gesture.ends;
    const [from, to] = [between(before), between(ends)];
    this.view.move(to.x - from.x, to.y - from.y);
    this.zoom(apart(ends) / apart(before), to);
    this._gesture.ends = ends;
  }

  _released(event) {
    this._pointers.delete(event.pointerId);
    if (this._gesture?.kind === "stroke") {
      if (event.type === "pointercancel") this.mask.cancel();
      else this.mask.end();
    }
    // of a pinch, the finger that is left paints nothing
    if (this._pointers.size === 0 || this._gesture?.kind === "pinch") this._gesture = null;
    this._changed();
  }

  _wheeled(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), this._at(event));
  }

  _keyed(event) {
    const action = this._actionOf(event);
    if (!action) return;
    event.preventDefault();
    action();
  }

  _actionOf(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") return () => (event.shiftKey ? this.redo() : this.undo());
      return key === "y" ? () => this.redo() : null;
    }
    const step = event.altKey ? 1 : Math.max(1, Math.round(this.size / 2));
    return {
      b: () => this.setTool("brush"),
      e: () => this.setTool("eraser"),
      h: () => this.setTool("pan"),
      i: () => this.invert(),
      "[": () => this.setSize(this.size / 1.2 - 1),
      "]": () => this.setSize(this.size * 1.2 + 1),
      "+": () => this.zoomIn(),
      "=": () => this.zoomIn(),
      "-": () => this.zoomOut(),
      0: () => this.fit(),
      Delete: () => this.clear(),
      " ": () => (this._space = true),
      Enter: () => this._dab(this.cursor, this.cursor),
      ArrowLeft: () => this._go(-step, 0, event.shiftKey),
      ArrowRight: () => this._go(step, 0, event.shiftKey),
      ArrowUp: () => this._go(0, -step, event.shiftKey),
      ArrowDown: () => this._go(0, step, event.shiftKey),
    }[key];
  }

  /** Move the keyboard's cursor; `paint` on the way. */
  _go(x, y, paint) {
    const within = (value, most) => Math.min(most, Math.max(0, value));
    const from = this.cursor;
    this.cursor = { x: within(from.x + x, this._picture.width), y: within(from.y + y, this._picture.height) };
    if (paint) this._dab(from, this.cursor);
    this._showRing(this.view.toSurface(this.cursor), "keyboard");
    this._onCursor(Math.round(this.cursor.x), Math.round(this.cursor.y));
  }

  _dab(from, to) {
    if (this.tool === "pan") return;
    this._edit(() => {
      this.mask.begin(from.x, from.y, this.size, { erase: this.tool === "eraser" });
      this.mask.extend(to.x, to.y);
      this.mask.end();
    });
  }

  _edit(change) {
    if (this._gesture) return;
    change();
    this._changed();
  }

  _changed() {
    const { left, top, scale } = this.view;
    this._shown.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    this._shown.style.imageRendering = scale > 3 ? "pixelated" : "auto";
    this._repaint();
    this._onChange();
  }

  _repaint() {
    cancelAnimationFrame(this._frame);
    this._frame = requestAnimationFrame(() => this._paint());
  }

  /** The mask in one colour: as it will act, or, while a stroke is being painted, as it is. */
  _paint() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height, left, top, scale } = this.view;
    this._overlay.width = Math.max(1, Math.round(width * ratio));
    this._overlay.height = Math.max(1, Math.round(height * ratio));
    const { x, y } = this.blur;
    const acts = this._gesture?.kind !== "stroke" && (x > 0 || y > 0);
    const mask = acts ? blurred(this.mask, x, y, scale * ratio) : this.mask.canvas;
    const to = this._overlay.getContext("2d");
    to.imageSmoothingEnabled = acts || scale < 3;
    to.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * left, ratio * top);
    to.drawImage(mask, 0, 0, this._picture.width, this._picture.height);
    to.globalCompositeOperation = "source-in";
    to.globalAlpha = TINT;
    to.fillStyle = getComputedStyle(this._surface).getPropertyValue("--mask") || "#e5383b";
    to.fillRect(0, 0, this._picture.width, this._picture.height);
  }

  _showRing({ x, y }, kind) {
    const diameter = this.size * this.view.scale;
    this._ring.hidden = this.tool === "pan" || kind === "touch";
    Object.assign(this._ring.style, {
      width: `${diameter}px`,
      height: `${diameter}px`,
      transform: `translate(${x - diameter / 2}px, ${y - diameter / 2}px)`,
    });
  }

  _at(event) {
    const box = this._surface.getBoundingClientRect();
    return { x: event.clientX - box.left - this._surface.clientLeft, y: event.clientY - box.top - this._surface.clientTop };
  }
}
