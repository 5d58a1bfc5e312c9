/** One parameter as a control, made from what the gateway says of it. */
import { Button } from "../components/button.js";
import { Field } from "../components/field.js";
import { html } from "../html.js";
import { studio as text } from "../strings.js";

/** Characters from which on a text has several lines. */
const LONG = 2000;
/** Values between the ends of a range up to which it is a slider, too. */
const SLIDES = 2100;

/**
 * `value` undefined: the default. `onChange` gets texts as they are typed, true or false, or a choice.
 * `idle`: what stands in place of the value of a parameter that has no effect as things are.
 */
export function Parameter({ parameter, value, isChanged = value !== undefined, error, onChange, idle = "" }) {
  const { title, name, description } = parameter;
  const shown = idle ? null : value ?? parameter.default;
  const help = html`${marked(description)} <span class="about">${text.facts(span(parameter), usual(parameter))} <code>${name}</code></span>`;
  const kind = isSwitch(parameter) ? Switch : Control;
  return html`<div class="parameter ${isChanged ? "changed" : ""} ${kind === Switch ? "switch" : ""}">
    <${Field} label=${title} help=${help} error=${error}>${(given) => html`<div class="controls">
      <${kind} given=${given} value=${shown} placeholder=${idle} parameter=${parameter} onChange=${onChange} />
      ${isChanged && kind === Control && html`<${Button} kind="quiet" icon="reset" label=${text.reset(title)}
        onClick=${() => onChange(parameter.default)} />`}
    </div>`}<//>
  </div>`;
}

/** A description, with names as code. */
const marked = (description) =>
  description.split("`").map((part, at) => (at % 2 ? html`<code>${part}</code>` : part));

/** Whether it is on or off. */
export const isSwitch = ({ type, minimum, maximum, choices }) =>
  type === "boolean" || (type === "integer" && minimum === 0 && maximum === 1 && !choices);

function Switch({ given, value, parameter, onChange }) {
  const of = (on) => (parameter.type === "boolean" ? on : Number(on));
  return html`<input type="checkbox" ...${given} checked=${Boolean(Number(value))}
    onChange=${(event) => onChange(of(event.target.checked))} />`;
}

function Control({ given, value, placeholder, parameter, onChange }) {
  const { type, choices, nullable, max_length: length } = parameter;
  const typed = (event) => onChange(event.target.value);
  if (choices) return html`<${Choice} ...${{ given, value, choices, nullable, onChange }} />`;
  if (type === "string" && length >= LONG) return html`<textarea rows="3" ...${given} value=${value ?? ""} onInput=${typed} />`;
  if (type === "string") return html`<input type="text" ...${given} value=${value ?? ""} maxlength=${length} onInput=${typed} />`;
  return html`<${Digits} ...${{ given, value, placeholder, parameter, typed }} />`;
}

function Choice({ given, value, choices, nullable, onChange }) {
  const known = choices.map((each) => String(each.value));
  const others = value !== null && !known.includes(String(value)) ? [{ value, title: String(value) }] : [];
  return html`<select ...${given} value=${value === null ? "" : String(value)} onChange=${(event) => onChange(event.target.value)}>
    ${nullable && html`<option value="">${text.without}</option>`}
    ${[...others, ...choices].map((each) => html`<option key=${each.value} value=${String(each.value)}>${each.title}</option>`)}
  </select>`;
}

function Digits({ given, value, placeholder, parameter, typed }) {
  const { minimum, maximum, type } = parameter;
  const step = stepOf(parameter);
  const slides = minimum !== null && maximum !== null && (maximum - minimum) / step <= SLIDES;
  // what is typed stays as it is: a seed may have 64 bits, and what is no number is told by name
  return html`
    ${slides && html`<input type="range" min=${minimum} max=${maximum} step=${step} value=${value ?? minimum} tabindex="-1"
      aria-hidden="true" onInput=${typed} />`}
    <input type="text" inputmode=${type === "integer" ? "numeric" : "decimal"} class="numbers" size="6" autocomplete="off" ...${given}
      value=${value === null ? "" : String(value)} placeholder=${placeholder || (parameter.nullable ? text.without : undefined)} onInput=${typed}
      onKeyDown=${(event) => stepped(event, parameter, value, typed)} />`;
}

/** Arrow keys count up and down, as in a field of numbers. */
function stepped(event, parameter, value, typed) {
  const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  const number = Number(value ?? parameter.minimum ?? 0);
  if (!direction || !Number.isSafeInteger(Math.round(number))) return;
  event.preventDefault();
  const { minimum, maximum } = parameter;
  const next = number + direction * stepOf(parameter) * (event.shiftKey ? 10 : 1);
  const within = Math.min(maximum ?? Infinity, Math.max(minimum ?? -Infinity, next));
  typed({ target: { value: String(Number(within.toFixed(6))) } });
}

function stepOf({ type, minimum, maximum, multiple_of: multiple }) {
  if (type === "integer") return multiple ?? 1;
  const wide = (maximum ?? 1) - (minimum ?? 0);
  return wide <= 2 ? 0.01 : wide <= 20 ? 0.05 : wide <= 100 ? 0.5 : 1;
}

/** "1 to 150, a multiple of 8" */
function span({ minimum, maximum, multiple_of: multiple, choices }) {
  if (choices || (minimum === null && maximum === null)) return "";
  return text.span(minimum, maximum, multiple);
}

function usual(parameter) {
  const { default: value, choices } = parameter;
  if (value === null || value === "") return "";
  if (isSwitch(parameter)) return value ? text.on : text.off;
  return choices?.find((each) => each.value === value)?.title ?? String(value);
}
