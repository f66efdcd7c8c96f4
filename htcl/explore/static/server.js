// Requests to the server; whatever goes wrong becomes a sentence to show.

export class Refused extends Error {}

const SILENT = "The server does not answer; is htcl explore still running?";

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(SILENT);
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(body?.error ?? `The server answered with an error (${response.status}).`);
  return { body, status: response.status };
}

export async function search(question, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await ask("/api/search", { method: "POST", headers, body: JSON.stringify(question), signal })).body;
}

export async function suggest(text, signal) {
  return (await ask(`/api/suggest?text=${encodeURIComponent(text)}`, { signal })).body;
}

/** One song, as a hit without cosines. */
export async function song(track) {
  return (await ask(`/api/song/${encodeURIComponent(track)}`)).body;
}

export async function sendSound(file) {
  return (await ask("/api/sound", { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: file })).body;
}

/** The map, as soon as there is one. */
export async function waitForMap() {
  for (;;) {
    const { body, status } = await ask("/api/map");
    if (status !== 202) return body;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

export const audioOf = (track) => `/audio/${encodeURIComponent(track)}`;

/** Why a song does not sound: the server's sentence, or that the browser cannot play it. */
export async function whySilent(url) {
  try {
    await ask(url, { headers: { Range: "bytes=0-0" } });
  } catch (error) {
    return error.message;
  }
  return "This browser cannot play it.";
}
