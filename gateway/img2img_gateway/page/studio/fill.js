/** Fills the form from what says how a picture was made: its infotext, in its file or pasted; or a job. */
import { get, post } from "../api.js";
import { Button } from "../components/button.js";
import { Dialog } from "../components/dialog.js";
import { Field } from "../components/field.js";
import { html, useRef, useState } from "../html.js";
import { studio as text } from "../strings.js";
import { base64, filesOf, inputOf, picturesIn } from "./files.js";
import { fromJson } from "./values.js";

/** Whether a pasted text is an infotext, and no prompt alone. */
export const isInfotext = (pasted) => /(^|\n)Steps: \d+, /.test(pasted);

/** What an infotext or a picture's file says: {model, values, units, notes}; throws where it says nothing. */
export async function readInfotext({ infotext, file }) {
  const found = await post("/v1/infotext", file ? { image: await base64(file) } : { infotext }, { parse: fromJson });
  if (!isInfotext(found.infotext)) throw new Error(text.noInfotext);
  const { control = [], ...values } = found.params;
  const notes = [
    ...found.refused.map(({ field, allowed }) => `${field}: ${allowed}`),
    ...Object.entries(found.left_out).map(([name, value]) => text.leftOut(name, value)),
  ];
  return { model: found.model, values: asTyped(values), units: control.map(asTyped), notes };
}

/** The same of a job, and its pictures with their own parameters: {model, values, units, pictures, mask}. */
export async function readJob(job) {
  const [{ model }, params] = await Promise.all([exact(`/v1/jobs/${job}`), exact(`/v1/jobs/${job}/params`)]);
  const inputs = [];
  for (let start = 0; start !== null; ) {
    const page = await exact(`/v1/jobs/${job}/inputs?start=${start}&limit=1000`);
    inputs.push(...page.inputs);
    start = page.next;
  }
  const own = inputs.map((each) => ({ ...each, at: `/v1/jobs/${job}/inputs/${each.index}` }));
  return filling(model, params, own);
}

/** The same of one image, with the seed that it had. */
export async function readImage(job, index) {
  const [{ model }, { image, params, pictures }] = await Promise.all([
    exact(`/v1/jobs/${job}`),
    exact(`/v1/jobs/${job}/images/${index}/details`),
  ]);
  const { images_per_input: _, ...values } = params;
  return filling(model, values, [{ ...image, pictures, params: {}, at: `/v1/jobs/${job}/inputs/${image.input}` }]);
}

const exact = (path) => get(path, { parse: fromJson });

function filling(model, { control = [], ...values }, inputs) {
  const of = ({ pictures, at }, role, path) => (pictures[role] ? { key: pictures[role], path, url: `${at}/${role}` } : null);
  const pictures = inputs
    .filter((each) => each.pictures.image)
    .map((each, number) => {
      const path = each.path ?? `${each.name ?? "picture"}.png`;
      return inputOf(of(each, "image", path), of(each, "mask", `mask-${number}.png`), each.params);
    });
  const units = control.map((unit, number) => ({
    ...asTyped(unit),
    picture: inputs.length ? of(inputs[0], `control/${number}`, `control-${number}.png`) : null,
  }));
  return { model, values: asTyped(values), units, pictures, mask: null };
}

/** Numbers as somebody would have typed them. */
const asTyped = (values) =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, ["number", "bigint"].includes(typeof value) ? String(value) : value]));

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
