/** What is shown where a key is wanted and none is known. */
import { signIn } from "./api.js";
import { Button } from "./components/button.js";
import { Field } from "./components/field.js";
import { html, useState } from "./html.js";
import { app, signIn as text } from "./strings.js";

export function SignIn({ onDone }) {
  const [secret, setSecret] = useState("");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      onDone(await signIn(secret.trim()));
    } catch (problem) {
      setError(problem.status === 401 ? text.unknown : problem.message);
    } finally {
      setBusy(false);
    }
  };
  return html`<main class="notice"><form onSubmit=${submit}>
    <h1>${app.name}</h1>
    <p>${text.help}</p>
    <${Field} label=${text.key} help=${text.keyHelp} error=${error}>${(given) => html`<input type="password" ...${given}
      name="key" autocomplete="current-password" autofocus required value=${secret}
      onInput=${(event) => setSecret(event.target.value)} />`}<//>
    <${Button} kind="primary" type="submit" busy=${busy}>${text.submit}<//>
  </form></main>`;
}
