// How the pages talk to the API: with the session's cookie, which no script can read, and the token that guards changes (CSRF).
"use strict";

class Refused extends Error {}

let csrfToken = null; // of the session; kept in memory only, the server tells it again

async function call(path, options = {}) {
  const guard = csrfToken && options.method && options.method !== "GET" ? { "X-CSRF-Token": csrfToken } : {};
  const response = await fetch(path, { ...options, headers: { ...guard, ...options.headers } });
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    const message = body?.error?.message ?? `The server answered ${response.status}.`;
    throw response.status === 401 ? new Refused(message) : new Error(message);
  }
  return response;
}

// Who is logged in here, with what they may do; null when nobody is.
async function currentSession() {
  try {
    const who = await getJson("/v1/sessions/current");
    csrfToken = who.csrf_token;
    return who;
  } catch (problem) {
    if (problem instanceof Refused) return null;
    throw problem;
  }
}

// Logs in with { key } or { user, password }.
async function logIn(credentials) {
  const body = JSON.stringify(credentials);
  const who = await (await call("/v1/sessions", { method: "POST", body, headers: { "Content-Type": "application/json" } })).json();
  csrfToken = who.csrf_token;
  return who;
}

async function logOut() {
  await call("/v1/sessions/current", { method: "DELETE" });
  csrfToken = null;
}

async function getJson(path) {
  return (await call(path)).json();
}

// Reads server-sent events over fetch, because EventSource does not say why it was refused.
async function readEvents(path, { lastId, onEvent, onOpen, signal }) {
  const response = await call(path, { headers: lastId ? { "Last-Event-ID": lastId } : {}, signal });
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event) onEvent(event);
    }
  }
}

function parseEvent(block) {
  const event = { id: null, kind: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = line.match(/^(\w+): ?(.*)$/) ?? [];
    if (name === "id") event.id = value;
    if (name === "event") event.kind = value;
    if (name === "data") event.data += value;
  }
  return event.data ? event : null;
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
