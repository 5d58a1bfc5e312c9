/** What prompts can name: LoRAs, embeddings, hypernetworks, styles; picked from lists, and put where the cursor is. */
import { get } from "../api.js";
import { Dialog } from "../components/dialog.js";
import { html, useEffect, useState } from "../html.js";
import { studio as text } from "../strings.js";

const LISTS = {
  loras: { path: "/sdapi/v1/loras", read: (all) => all.map(({ name, alias }) => ({ name, title: alias, word: `<lora:${name}:1>` })) },
  embeddings: { path: "/sdapi/v1/embeddings", read: ({ loaded }) => Object.keys(loaded).map((name) => ({ name, word: name })) },
  hypernetworks: { path: "/sdapi/v1/hypernetworks", read: (all) => all.map(({ name }) => ({ name, word: `<hypernet:${name}:1>` })) },
  styles: { path: "/sdapi/v1/prompt-styles", read: (all) => all.map((style) => ({ name: style.name, title: style.prompt, style })) },
};

/** `onInsert` gets a word for the prompt; `onStyle` a style: {prompt, negative_prompt}. */
export function Insertions({ onInsert, onStyle, onClose }) {
  const [kind, setKind] = useState("loras");
  const [found, setFound] = useState({});
  const [wanted, setWanted] = useState("");
  const [failed, setFailed] = useState(null);
  const [used, setUsed] = useState(null);
  useEffect(() => {
    const { path, read } = LISTS[kind];
    get(path).then((all) => setFound((old) => ({ ...old, [kind]: read(all) })), (error) => setFailed(error.message));
  }, [kind]);
  const shown = (found[kind] ?? []).filter(({ name, title }) => `${name} ${title ?? ""}`.toLowerCase().includes(wanted.toLowerCase()));
  const use = ({ name, word, style }) => {
    if (style) onStyle(style);
    else onInsert(word);
    setUsed(text.inserted(word ?? name));
  };
  return html`<${Dialog} title=${text.insert} onClose=${onClose}>
    <div class="insertions">
      <div class="tabs" role="group" aria-label=${text.insert}>${Object.keys(LISTS).map((each) => html`<button type="button"
        key=${each} aria-pressed=${each === kind} onClick=${() => setKind(each)}>${text[each]}</button>`)}</div>
      <input type="search" aria-label=${text.searchIn(text[kind])} placeholder=${text.searchIn(text[kind])} value=${wanted}
        onInput=${(event) => setWanted(event.target.value)} />
      <p class="muted cut" role="status">${used}</p>
      ${failed && html`<p class="error" role="alert">${failed}</p>`}
      ${found[kind] && !shown.length && html`<p class="muted" role="status">${text.noneOf(text[kind])}</p>`}
      <ul>${shown.map((each) => html`<li key=${each.name}><button type="button" class="pick" onClick=${() => use(each)}>
        <b>${each.name}</b>${each.title && each.title !== each.name && html`<span class="muted cut">${each.title}</span>`}
      </button></li>`)}</ul>
    </div>
  <//>`;
}

/** `prompt` with a style's words: at "{prompt}", else behind, as A1111 puts them. */
export const styled = (words, prompt) =>
  words.includes("{prompt}")
    ? words.replaceAll("{prompt}", () => prompt)
    : [prompt.trim(), words.trim()].filter(Boolean).join(", ");
