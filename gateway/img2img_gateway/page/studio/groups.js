/** All parameters in their groups, which can be searched. */
import { Icon } from "../components/icon.js";
import { html, useState } from "../html.js";
import { studio as text } from "../strings.js";
import { FIRST, SIZES } from "./form.js";
import { Parameter } from "./parameter.js";

/** What has a place of its own above the groups. */
const ELSEWHERE = ["prompt", "negative_prompt"];
/** What most jobs set: together, and open, before the groups that they belong to. */
const COMMON = [
  "denoising_strength",
  "seed",
  "steps",
  "sampler_name",
  "cfg_scale",
  "scheduler",
  "fit",
  "images_per_input",
  "width",
  "height",
  "txt2img",
];

/** `control`: the editor of the parameter of that name, which has one of its own; `units`: how many it has. */
export function Groups({ groups, values, errors, onChange, control, units }) {
  const [wanted, setWanted] = useState("");
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const isWanted = ({ name, title, description }) =>
    words.every((word) => `${name} ${title} ${description}`.toLowerCase().includes(word));
  const isShown = (parameter) =>
    !ELSEWHERE.includes(parameter.name) &&
    (words.length ? isWanted(parameter) : !parameter.switch || isOn(values[parameter.switch]) || parameter.name in values);
  const shown = withCommon(groups)
    .map((group) => ({ ...group, parameters: group.parameters.filter(isShown) }))
    .filter((group) => group.parameters.length);
  return html`<section class="groups" aria-label=${text.parameters}>
    <label class="search"><span class="unseen">${text.search}</span><${Icon} name="search" />
      <input type="search" value=${wanted} placeholder=${text.search} onInput=${(event) => setWanted(event.target.value)} /></label>
    ${shown.map((group) => html`<${Group} key=${group.title} ...${{ group, values, errors, onChange, control, units }}
      isFound=${words.length > 0} />`)}
    ${!shown.length && html`<p class="muted" role="status">${text.noneFound(wanted)}</p>`}
  </section>`;
}

/** `groups`, of which the first is what is set most often; the others are without it. */
function withCommon(groups) {
  const all = new Map(groups.flatMap((group) => group.parameters).map((each) => [each.name, each]));
  const common = { title: text.common, description: text.commonHelp, isOpen: true, parameters: COMMON.map((name) => all.get(name)) };
  const rest = groups.map((group) => ({ ...group, parameters: group.parameters.filter(({ name }) => !COMMON.includes(name)) }));
  return [common, ...rest];
}

/** Whether somebody has set it. */
const isChanged = (values, name) => name in values && String(values[name]) !== FIRST.values[name];

const isOn = (value) => value !== undefined && value !== false && value !== "" && value !== "None";

function Group({ group, values, errors, onChange, control, units, isFound }) {
  const [isOpen, setOpen] = useState(Boolean(group.isOpen));
  const names = group.parameters.map((each) => each.name);
  const hasUnits = names.includes("control");
  const changed = names.filter((name) => isChanged(values, name)).length + (hasUnits ? units : 0);
  const isWrong = Object.keys(errors).some((name) => names.includes(name.replace(/[/.].*/, "")));
  return html`<details class="card group" open=${isOpen || isFound || isWrong}
    onToggle=${(event) => !isFound && !isWrong && setOpen(event.target.open)}>
    <summary><h3>${group.title}</h3><span class="muted cut">${group.description}</span>
      ${changed > 0 && html`<span class="badge">${text.changed(changed)}</span>`}</summary>
    ${hasUnits && control}
    <div class="parameters">${group.parameters.filter(({ type }) => type !== "array").map((parameter) => html`<${Parameter} key=${parameter.name}
      parameter=${parameter} value=${values[parameter.name]} isChanged=${isChanged(values, parameter.name)} error=${errors[parameter.name]}
      idle=${SIZES.includes(parameter.name) && "fit" in values ? text.byFit : ""} onChange=${(value) => onChange(parameter, value)} />`)}</div>
  </details>`;
}
