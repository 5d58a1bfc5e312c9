/** Units of control: what holds a render to a picture's edges, depth or poses. */
import { Button } from "../components/button.js";
import { Thumbnail } from "../components/thumbnail.js";
import { html, useRef } from "../html.js";
import { studio as text } from "../strings.js";
import { filesOf, pictureOf, picturesIn } from "./files.js";
import { Parameter } from "./parameter.js";
import { withValue } from "./form.js";

/** Fields that are shown at first, in this order. */
const FIRST = ["module", "model", "weight", "guidance_start", "guidance_end", "control_mode", "resize_mode"];

/** `fields`: those of a unit; `most`: units of a job. `errors` are by "control.0.model". */
export function ControlUnits({ fields, most, units, errors, onChange }) {
  const put = (index, unit) => onChange(units.map((each, at) => (at === index ? unit : each)));
  return html`<div class="units">
    ${units.map((unit, index) => html`<${Unit} key=${index} ...${{ fields, unit, index }} errors=${errorsOf(errors, index)}
      onChange=${(next) => put(index, next)} onRemove=${() => onChange(units.filter((_, at) => at !== index))} />`)}
    ${errors.control && html`<p class="error" role="alert">${errors.control}</p>`}
    <${Button} icon="plus" disabled=${units.length >= most} onClick=${() => onChange([...units, {}])}>${text.addUnit}<//>
  </div>`;
}

const errorsOf = (errors, index) =>
  Object.fromEntries(
    Object.entries(errors).flatMap(([name, message]) => {
      const found = new RegExp(`^control[./]${index}[./]?(.*)$`).exec(name);
      return found ? [[found[1] || "picture", message]] : [];
    }),
  );

function Unit({ fields, unit, index, errors, onChange, onRemove }) {
  const file = useRef();
  const { picture, ...values } = unit;
  const take = async (found) => {
    const [first] = picturesIn(await found);
    if (first) onChange({ ...unit, picture: pictureOf(first) });
  };
  const shown = (parameter) => html`<${Parameter} key=${parameter.name} parameter=${parameter} value=${values[parameter.name]}
    error=${errors[parameter.name]} onChange=${(value) => onChange({ ...withValue(values, parameter, value), picture })} />`;
  const byName = new Map(fields.map((each) => [each.name, each]));
  const rest = fields.filter((each) => !FIRST.includes(each.name) && each.type !== "array");
  return html`<fieldset class="unit" onDragOver=${(event) => event.preventDefault()}
    onDrop=${(event) => { event.preventDefault(); event.stopPropagation(); take(filesOf(event.dataTransfer)); }}>
    <legend>${text.unit(index + 1)}</legend>
    <div class="row">
      ${picture ? html`<span class="thumb"><${Thumbnail} src=${picture.url} alt=${picture.path} /></span>` : html`<p class="muted">${text.ownPicture}</p>`}
      <${Button} onClick=${() => file.current.click()}>${text.controlPicture}<//>
      ${picture && html`<${Button} kind="quiet" onClick=${() => onChange({ ...values, picture: null })}>${text.withoutPicture}<//>`}
      <${Button} kind="quiet" icon="trash" label=${text.removeUnit(index + 1)} onClick=${onRemove} />
      <input hidden type="file" accept="image/*" ref=${file}
        onChange=${(event) => take([...event.target.files].map((each) => ({ file: each, path: each.name })))} />
    </div>
    ${errors.picture && html`<p class="error" role="alert">${errors.picture}</p>`}
    <div class="parameters">${FIRST.map((name) => shown(byName.get(name)))}</div>
    <details><summary>${text.moreFields}</summary><div class="parameters">${rest.map(shown)}</div></details>
  </fieldset>`;
}
