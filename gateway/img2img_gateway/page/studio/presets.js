/** Presets: parameters under a name, kept by the browser; exported and imported as a file of JSON. */
import { Button } from "../components/button.js";
import { Dialog } from "../components/dialog.js";
import { Field } from "../components/field.js";
import { toast } from "../components/toast.js";
import { html, useRef, useState } from "../html.js";
import { studio as text } from "../strings.js";
import { keptName, useSession } from "../view.js";
import { plain } from "./form.js";
import { fromJson, toJson } from "./values.js";

const read = (kept) => {
  try {
    return fromJson(localStorage.getItem(kept) ?? "{}");
  } catch {
    return {};
  }
};

/** `onUse` gets a preset: {model, values, units}. */
export function Presets({ form, onUse, onClose }) {
  const kept = keptName("studio.presets", useSession());
  const [presets, setPresets] = useState(() => read(kept));
  const [name, setName] = useState("");
  const file = useRef();
  const keep = (next) => {
    setPresets(next);
    localStorage.setItem(kept, toJson(next));
  };
  const save = (event) => {
    event.preventDefault();
    if (!name.trim()) return;
    keep({ ...presets, [name.trim()]: plain(form) });
    toast(text.presetSaved(name.trim()));
    setName("");
  };
  const remove = (gone) => keep(Object.fromEntries(Object.entries(presets).filter(([each]) => each !== gone)));
  const exported = () => {
    const url = URL.createObjectURL(new Blob([toJson(presets)], { type: "application/json" }));
    Object.assign(document.createElement("a"), { href: url, download: "presets.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  };
  const imported = async (event) => {
    const [chosen] = event.target.files;
    event.target.value = "";
    try {
      const found = checked(fromJson(await chosen.text()));
      keep({ ...presets, ...found });
      toast(text.presetsRead(Object.keys(found).length));
    } catch {
      toast(text.noPresets(chosen.name), "error");
    }
  };
  const names = Object.keys(presets).sort((one, other) => one.localeCompare(other));
  return html`<${Dialog} title=${text.presets} onClose=${onClose} actions=${html`
      <${Button} onClick=${() => file.current.click()}>${text.import}<//>
      <${Button} icon="download" disabled=${!names.length} onClick=${exported}>${text.export}<//>`}>
    <form class="row" onSubmit=${save}>
      <${Field} label=${text.presetName}>${(given) => html`<input type="text" maxlength="100" ...${given} value=${name}
        onInput=${(event) => setName(event.target.value)} />`}<//>
      <button class="button primary" type="submit">${text.save}</button>
    </form>
    ${!names.length && html`<p class="muted">${text.nonePreset}</p>`}
    <ul class="presets">${names.map((each) => html`<li key=${each} class="row">
      <button type="button" class="pick" onClick=${() => onUse(presets[each])}><b>${each}</b></button>
      <${Button} kind="quiet" icon="trash" label=${text.removePreset(each)} onClick=${() => remove(each)} /></li>`)}</ul>
    <input hidden type="file" accept=".json,application/json" ref=${file} onChange=${imported} />
  <//>`;
}

/** What a file holds, if these are presets. */
function checked(found) {
  const isMap = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!isMap(found) || !Object.values(found).every((each) => isMap(each) && isMap(each.values))) throw new TypeError();
  return Object.fromEntries(
    Object.entries(found).map(([name, { model = "", values, units = [] }]) => [name, { model: String(model), values, units: [...units] }]),
  );
}
