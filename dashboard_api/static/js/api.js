// Requests. What a person does carries X-Vitalgate: it keeps the session open, and no other site can send it.

let onSignedOut = () => {};
export const clock = { offset: 0 };

export function whenSignedOut(call) {
  onSignedOut = call;
}

/** The server's time in milliseconds, as far as its Date header tells. */
export const now = () => Date.now() + clock.offset;

export async function request(path, { method = "GET", body, person = method !== "GET" } = {}) {
  const headers = {};
  if (person) headers["X-Vitalgate"] = "1";
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const asked = Date.now();
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const date = Date.parse(response.headers.get("Date") ?? "");
  // The header has whole seconds: believe it only when it differs by more than that and the way took.
  const offset = date + 500 - (asked + Date.now()) / 2;
  if (Number.isFinite(offset)) clock.offset = Math.abs(offset) > 2000 ? offset : 0;
  if (response.status === 401) onSignedOut();
  const content = response.headers.get("Content-Type")?.includes("json") ? await response.json() : null;
  if (!response.ok) {
    throw Object.assign(new Error(content?.detail ?? response.statusText), { status: response.status });
  }
  return content;
}

export const get = (path, options) => request(`/api/v1/${path}`, options);
export const post = (path, body) => request(`/api/v1/${path}`, { method: "POST", body });

/** Every item of a list route. */
export async function all(path, options) {
  const items = [];
  let cursor = "";
  do {
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=1000${cursor}`, options);
    items.push(...page.items);
    cursor = page.next && `&cursor=${encodeURIComponent(page.next)}`;
  } while (cursor);
  return items;
}
