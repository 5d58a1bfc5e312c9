/** The prompts, what can be put into them, and the bar that sends the job. */
import { Button } from "../components/button.js";
import { Field } from "../components/field.js";
import { html } from "../html.js";
import { studio as text } from "../strings.js";
import { filesOf, picturesIn } from "./files.js";
import { isInfotext } from "./fill.js";

/**
 * `onChange` gets a parameter and its value; `onFill` an infotext or a picture that was pasted or dropped here;
 * `onOpen` which dialog is wanted. `children` stand below.
 */
export function Prompts({ known, values, errors, onChange, onFocus, onFill, onOpen, onReset, children }) {
  const dropped = async (event) => {
    event.preventDefault();
    const [first] = picturesIn(await filesOf(event.dataTransfer));
    if (first) onFill({ file: first.file });
  };
  return html`<section class="card prompts" aria-label=${text.prompts} onDrop=${dropped}>
    ${errors[""] && html`<p class="warning" role="alert" tabindex="-1">${errors[""]}</p>`}
    ${["prompt", "negative_prompt"].map((name) => html`<${Prompt} key=${name} parameter=${known.get(name)} value=${values[name]}
      error=${errors[name]} onChange=${(value) => onChange(known.get(name), value)} onFocus=${() => onFocus(name)} onFill=${onFill} />`)}
    <div class="row">
      <${Button} icon="plus" onClick=${() => onOpen("insert")}>${text.insert}<//>
      <${Button} onClick=${() => onOpen("presets")}>${text.presets}<//>
      <${Button} onClick=${() => onOpen("fill")}>${text.fillFrom}<//>
      <${Button} kind="quiet" onClick=${onReset}>${text.resetAll}<//>
    </div>
    ${children}
  </section>`;
}

function Prompt({ parameter, value, error, onChange, onFocus, onFill }) {
  const { name, title, description } = parameter;
  const pasted = (event) => {
    const infotext = event.clipboardData.getData("text/plain");
    if (!isInfotext(infotext)) return;
    event.preventDefault();
    onFill({ infotext });
  };
  return html`<div class="field"><label for=${name}>${title}</label>
    <textarea id=${name} dir="auto" rows=${name === "prompt" ? 3 : 2} value=${value ?? ""} placeholder=${description}
      aria-invalid=${error ? "true" : undefined} aria-describedby=${error ? `${name}-error` : undefined} onFocus=${onFocus}
      onPaste=${pasted} onInput=${(event) => onChange(event.target.value)} />
    ${error && html`<p class="error" id="${name}-error">${error}</p>`}</div>`;
}

/** `n`: images of the job; `progress`: [sent, of so many] pictures, null: nothing is being sent. */
export function SendBar({ form, models, errors, n, progress, onChange, onSend }) {
  const named = [...new Set([form.model, ...models])].filter(Boolean);
  return html`
    <div class="row send">
      <${Field} label=${text.model} error=${errors.model}>${(given) => html`<select ...${given} value=${form.model}
        onChange=${(event) => onChange({ model: event.target.value })}><option value="">${text.anyModel}</option>
        ${named.map((name) => html`<option key=${name}>${name}</option>`)}</select>`}<//>
      <${Field} label=${text.name} error=${errors.name}>${(given) => html`<input type="text" ...${given} maxlength="255" value=${form.name}
        placeholder=${text.nameHelp} onInput=${(event) => onChange({ name: event.target.value })} />`}<//>
      <${Button} kind="primary" icon="play" disabled=${!n} busy=${progress !== null} onClick=${onSend}
        aria-keyshortcuts="Control+Enter" title=${text.renderKeys}>${text.render(n)}<//>
    </div>
    ${progress && html`<p role="status">${text.uploading(...progress)}</p>`}
    ${!n && html`<p class="muted">${text.nothingYet}</p>`}`;
}
