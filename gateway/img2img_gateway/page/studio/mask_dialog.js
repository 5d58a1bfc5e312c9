/** A dialog around the mask editor: its tools, their keys, and for which pictures the mask is. */
import { Button } from "../components/button.js";
import { Dialog } from "../components/dialog.js";
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../html.js";
import { app, studio as text } from "../strings.js";
import { MaskEditor } from "./mask_editor.js";

const TOOLS = [["brush", "brush", "B"], ["eraser", "eraser", "E"], ["pan", "hand", "H"]];

/** `blur`: sigmas across and down. `onDone` gets a Blob, null for an empty mask, and whether it is for all pictures. */
export function MaskDialog({ picture, mask, blur, canBeForAll, isForAll, onDone, onClose }) {
  const surface = useRef();
  const editor = useRef(null);
  const [, setChanges] = useState(0);
  const [failed, setFailed] = useState(null);
  const [where, setWhere] = useState("");
  const [forAll, setForAll] = useState(isForAll);
  const [showsBlur, setShowsBlur] = useState(true);
  const [leaves, setLeaves] = useState(false);
  const help = useId();

  // cleaned up before the elements are gone, as useEffect is not
  useLayoutEffect(() => {
    let isGone = false;
    const open = async () => {
      const [image, before] = await Promise.all([decoded(picture.url), mask && decoded(mask.url)]);
      if (isGone) return;
      editor.current = new MaskEditor(surface.current, image, {
        mask: before,
        onChange: () => setChanges((count) => count + 1),
        onCursor: (x, y) => setWhere(text.cursor(x, y)),
      });
      editor.current.setBlur(blur.x, blur.y);
      surface.current.focus();
    };
    open().catch(() => setFailed(text.noPicture(picture.path)));
    return () => {
      isGone = true;
      editor.current?.close();
    };
  }, []);
  useEffect(() => {
    editor.current?.setBlur(showsBlur ? blur.x : 0, showsBlur ? blur.y : 0);
  }, [showsBlur]);

  const now = editor.current;
  const leave = () => (now?.mask.canUndo ? setLeaves(true) : onClose());
  const done = async () => onDone(now.mask.isEmpty ? null : await now.mask.png(), forAll);
  const tool = ([name, icon, key]) => html`<${Button} kind=${now?.tool === name ? "primary" : "plain"} icon=${icon}
    label=${text.withKey(text[name], key)} aria-pressed=${now?.tool === name} onClick=${() => now.setTool(name)} />`;
  const action = (icon, label, key, does, disabled = false) => html`<${Button} icon=${icon} label=${text.withKey(label, key)}
    disabled=${disabled} onClick=${does} />`;
  return html`<${Dialog} wide title=${text.maskOf(picture.path)} onClose=${leave} actions=${html`
      ${canBeForAll && html`<label class="row for-all"><input type="checkbox" checked=${forAll}
        onChange=${(event) => setForAll(event.target.checked)} /> ${text.forAll}</label>`}
      <${Button} onClick=${leave}>${app.cancel}<//>
      <${Button} kind="primary" disabled=${!now} onClick=${done}>${text.useMask}<//>`}>
    <div class="mask-editor">
      ${failed && html`<p class="error" role="alert">${failed}</p>`}
      ${now && html`<div class="row" role="toolbar" aria-label=${text.maskTools}>
        ${TOOLS.map(tool)}
        <label class="row">${text.brushSize} <input type="range" min="1" max=${Math.round(Math.max(picture.width ?? 0, now.mask.width, now.mask.height) / 2)}
          value=${now.size} onInput=${(event) => now.setSize(Number(event.target.value))} aria-valuetext=${text.pixels(now.size)} />
          <span class="numbers">${text.pixels(now.size)}</span></label>
        ${action("undo", text.undo, "Ctrl+Z", () => now.undo(), !now.mask.canUndo)}
        ${action("redo", text.redo, "Ctrl+Y", () => now.redo(), !now.mask.canRedo)}
        ${action("invert", text.invert, "I", () => now.invert())}
        ${action("trash", text.clear, "Del", () => now.clear())}
        ${action("minus", text.zoomOut, "−", () => now.zoomOut())}
        ${action("plus", text.zoomIn, "+", () => now.zoomIn())}
        ${action("fit", text.fit, "0", () => now.fit())}
        <span class="numbers muted">${text.percent(now.view.scale)}</span>
        <label class="row"><input type="checkbox" checked=${showsBlur} onChange=${(event) => setShowsBlur(event.target.checked)} />
          ${text.showBlur(blur.x, blur.y)}</label>
      </div>`}
      <div class="mask-surface" ref=${surface} tabindex="0" role="application" aria-label=${text.maskOf(picture.path)}
        aria-describedby=${help}></div>
      <p class="muted" id=${help}>${text.maskHelp}</p>
      <p class="unseen" role="status">${where}</p>
    </div>
    ${leaves && html`<${Dialog} title=${text.discardMask} onClose=${() => setLeaves(false)} actions=${[
      html`<${Button} onClick=${() => setLeaves(false)}>${text.keepPainting}<//>`,
      html`<${Button} kind="danger" icon="trash" onClick=${onClose}>${text.discard}<//>`,
    ]}><p>${text.discardMaskAsk}</p><//>`}
  <//>`;
}

async function decoded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return createImageBitmap(image);
}
