/** Fills the form from what says how a picture was made: its infotext, in its file or pasted; or a job. */
import { get, post } from "../api.js";
import { Button } from "../components/button.js";
import { Dialog } from "../components/dialog.js";
import { Field } from "../components/field.js";
import { html, useRef, useState } from "../html.js";
import { studio as text } from "../strings.js";
import { base64, filesOf, inputOf, picturesIn } from "./files.js";

/** Whether a pasted text is an infotext, and no prompt alone. */
export const isInfotext = (pasted) => /(^|\n)Steps: \d+, /.test(pasted);

/** What a text or a picture's file says: {filled, note}; throws where it says nothing. */
export async function readInfotext({ infotext, file }) {
  const found = await post("/v1/infotext", file ? { image: await base64(file) } : { infotext });
  if (!isInfotext(found.infotext)) throw new Error(text.noInfotext);
  const { control = [], ...values } = found.params;
  const notes = [
    ...found.refused.map(({ field, allowed }) => `${field}: ${allowed}`),
    ...Object.entries(found.left_out).map(([name, value]) => text.leftOut(name, value)),
  ];
  return { model: found.model, values: asTyped(values), units: control.map(asTyped), notes };
}

/** The same of a job; of one of its images, what that was made from. */
export async function readJob(job, image) {
  const [status, params] = await Promise.all([get(`/v1/jobs/${job}`), get(`/v1/jobs/${job}/params`)]);
  const index = image === null ? 0 : (await get(`/v1/jobs/${job}/images/${image}`)).input;
  const { inputs } = await get(`/v1/jobs/${job}/inputs?start=${index ?? 0}&limit=${image === null ? 1000 : 1}`);
  const own = image === null || !inputs.length ? {} : inputs[0].params;
  const { control = [], ...values } = { ...params, ...own };
  const at = (number, role, path) => ({ key: inputs[number].pictures[role], path, url: `/v1/jobs/${job}/inputs/${inputs[number].index}/${role}` });
  const pictures = inputs.flatMap((each, number) => {
    const path = each.path ?? `${each.name ?? "picture"}.png`;
    if (!each.pictures.image) return [];
    return [inputOf(at(number, "image", path), each.pictures.mask ? at(number, "mask", `mask-${number}.png`) : null)];
  });
  const units = control.map((unit, number) => {
    const has = inputs[0]?.pictures[`control/${number}`];
    return { ...asTyped(unit), picture: has ? at(0, `control/${number}`, `control-${number}.png`) : null };
  });
  return { model: status.model, values: asTyped(values), units, pictures };
}

/** Numbers as somebody would have typed them. */
const asTyped = (values) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, typeof value === "number" ? String(value) : value]));

/** A dialog that takes either. `onFill` gets {infotext} or {file}. */
export function FillDialog({ onFill, onClose }) {
  const [infotext, setInfotext] = useState("");
  const file = useRef();
  const take = async (found) => {
    const [first] = picturesIn(await found);
    if (first) onFill({ file: first.file });
  };
  return html`<${Dialog} title=${text.fillFrom} onClose=${onClose} actions=${html`
      <${Button} onClick=${() => file.current.click()}>${text.choosePicture}<//>
      <${Button} kind="primary" disabled=${!infotext.trim()} onClick=${() => onFill({ infotext })}>${text.fill}<//>`}>
    <div onDragOver=${(event) => event.preventDefault()} onDrop=${(event) => { event.preventDefault(); take(filesOf(event.dataTransfer)); }}>
      <${Field} label=${text.infotext} help=${text.infotextHelp}>${(given) => html`<textarea rows="8" ...${given} value=${infotext}
        onInput=${(event) => setInfotext(event.target.value)} />`}<//>
      <input hidden type="file" accept="image/*" ref=${file}
        onChange=${(event) => take([...event.target.files].map((each) => ({ file: each, path: each.name })))} />
    </div>
  <//>`;
}
