// Without a session: how to get one.

import { html, useState } from "../vendor/htm-preact.module.js";
import { request } from "./api.js";
import { start, state } from "./store.js";

export function SignIn() {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    try {
      await request("/sign-in", { method: "POST", body: { token: token.trim() } });
      await start();
    } catch (error) {
      setProblem(error.status === 401 ? "This token is unknown, revoked or expired." : error.message);
    }
  };
  return html`<main class="card">
    <h1>Sign in to vitalgate</h1>
    ${state.ended && html`<p role="status"><b>Your session has ended.</b> All data was removed from this screen. Sign in to continue.</p>`}
    <p>Open the <b>sign_in</b> link that <code>vitalgate up</code> printed. The link works once, for 15 minutes. Or create a token:</p>
    <pre><code>vitalgate token create --role clinician</code></pre>
    <form onSubmit=${submit}>
      <label for="token">Token</label>
      <input id="token" type="password" autocomplete="current-password" required maxlength="200"
        value=${token} onInput=${(event) => setToken(event.target.value)} />
      <button class="primary">Sign in</button>
      ${problem && html`<p role="alert"><b>Not signed in.</b> ${problem}</p>`}
    </form>
  </main>`;
}
