/** The two axes of a grid: which parameters, and their values. */
import { html } from "../html.js";
import { Field } from "../components/field.js";
import { studio as text } from "../strings.js";
import { REPLACE, axes, isGrid } from "./grid.js";

/** `known`: parameters by name. */
export function Axes({ grid, known, error, onChange }) {
  const { x, y } = axes(grid, known);
  const isOn = isGrid(grid);
  const put = (axis, patch) => onChange({ ...grid, [axis]: { ...grid[axis], ...patch } });
  const names = [...known.values()].filter((each) => each.is_own && each.type !== "array");
  return html`<details class="card group axes" open=${isOn}>
    <summary><h3>${text.grid}</h3><span class="muted cut">${text.gridHelp}</span>
      ${isOn && html`<span class="badge">${text.gridSize(x.length || 1, y.length || 1)}</span>`}</summary>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${["x", "y"].map((axis) => html`<${Axis} key=${axis} axis=${axis} chosen=${grid[axis]} names=${names} known=${known}
      values=${{ x, y }[axis]} onChange=${(patch) => put(axis, patch)} />`)}
  </details>`;
}

function Axis({ axis, chosen, names, known, values, onChange }) {
  const choices = known.get(chosen.name)?.choices;
  const all = choices?.map(({ value }) => (/[,"]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value)).join(", ");
  return html`<div class="axis">
    <${Field} label=${text.axis(axis.toUpperCase())}>${(given) => html`<select ...${given} value=${chosen.name}
      onChange=${(event) => onChange({ name: event.target.value })}>
      <option value="">${text.nothing}</option>
      <option value=${REPLACE}>${text.replace}</option>
      ${names.map(({ name, title }) => html`<option key=${name} value=${name}>${title}</option>`)}</select>`}<//>
    <${Field} label=${text.valuesOf(axis.toUpperCase())} help=${chosen.name === REPLACE ? text.replaceHelp : text.valuesHelp}>${(given) => html`
      <input type="text" ...${given} value=${chosen.text} disabled=${!chosen.name} onInput=${(event) => onChange({ text: event.target.value })} />`}<//>
    ${all && html`<button type="button" class="button" onClick=${() => onChange({ text: all })}>${text.allValues}</button>`}
    ${chosen.name && html`<p class="muted cut" role="status">${values.map(String).join(" · ") || text.noValues}</p>`}
  </div>`;
}
