// Talks to the server. The session's token lives here, in the page's memory, and nowhere else.

let token = "";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, {
      ...options,
      headers: { ...options.headers, "X-ViQ-Session": token },
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached; is viq app still running?", 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new ApiError(body.error ?? `The server answered ${response.status}.`, response.status);
}

export async function open() {
  const about = await (await request("/api/session", { method: "POST" })).json();
  token = about.session;
  return about;
}

// Tells the server that the page goes, so that it forgets the pictures.
export function close() {
  if (!token) return;
  fetch("/api/session", {
    method: "DELETE",
    headers: { "X-ViQ-Session": token },
    keepalive: true,
  }).catch(() => {});
}

export async function blob(path) {
  return (await request(path)).blob();
}

// Posts, and yields the events of the answer; an event "error" is thrown.
export async function* events(path, { body, json, signal } = {}) {
  const response = await request(path, {
    method: "POST",
    signal,
    body: json === undefined ? body : JSON.stringify(json),
    headers: json === undefined ? {} : { "Content-Type": "application/json" },
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let ended = false;
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const event = JSON.parse(line);
        if (event.type === "error") throw new ApiError(event.message, 200);
        if (event.type === "done") ended = true;
        yield event;
      }
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("The connection to the server was lost.", 0);
  } finally {
    reader.cancel().catch(() => {});
  }
  if (!ended) throw new ApiError("The connection to the server was lost.", 0);
}
