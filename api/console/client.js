// How the pages talk to the API: with the token where one is needed, and with a stream that resumes by itself.
"use strict";

const TOKEN_KEY = "sightline.token";

class Refused extends Error {}

function headers() {
  const token = sessionStorage.getItem(TOKEN_KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function call(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (response.status === 401) throw new Refused("The token is not right.");
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `The server answered ${response.status}.`);
  }
  return response;
}

async function getJson(path) {
  return (await call(path)).json();
}

// Reads server-sent events over fetch, because EventSource can send no token.
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
