// Requests to this server, and to no other.

const KEPT = "speakervlad.token";

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEPT, given);
    history.replaceState(null, "", location.pathname);
  }
}

export const tokenOf = () => sessionStorage.getItem(KEPT) || "";
export const setToken = (token) => sessionStorage.setItem(KEPT, token);

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { authorization: `Bearer ${tokenOf()}` } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server did not answer. Is it still running in its terminal?");
  }
  if (response.ok) return response;
  let said = { error: `The server answered ${response.status}.` };
  try { said = await response.json(); } catch { /* not ours: the status says it */ }
  throw Object.assign(new Error(said.error), { status: response.status, doubts: said.doubts });
}

let mostBytes = Infinity;
export const setMostBytes = (bytes) => { mostBytes = bytes; };

export function form(fields) {
  const data = new FormData();
  const size = Object.values(fields).flat().reduce((sum, item) => sum + (item instanceof File ? item.size : 0), 0);
  if (size > mostBytes) {
    throw new Error(`${Math.ceil(size / 1e6)} MB are more than the ${Math.round(mostBytes / 1e6)} MB that this page takes. `
      + "Compress the recording to flac, mp3 or m4a, or use the command line.");
  }
  for (const [name, value] of Object.entries(fields)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item instanceof File) data.append(name, item, item.name);
      else if (item !== null && item !== undefined) data.append(name, String(item));
    }
  }
  return data;
}

export const get = async (path) => (await request(path)).json();
// A recording of the package as a file, to try the page with.
export async function example(name) {
  const suffix = { conversation: ".wav", scores: ".txt" }[name] ?? ".opus";
  const blob = await (await request(`/api/examples/${name}`)).blob();
  return new File([blob], `${name}${suffix}`, { type: blob.type });
}
export const post = async (path, fields) =>
  (await request(path, { method: "POST", body: form(fields) })).json();
export const postForFile = async (path, fields) =>
  (await request(path, { method: "POST", body: form(fields) })).blob();

// Lines of JSON as they come; stops when `signal` is aborted, which the server notices.
export async function postForLines(path, fields, signal, take) {
  const response = await request(path, { method: "POST", body: form(fields), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) take(JSON.parse(line));
  }
}
