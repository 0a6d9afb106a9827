// The live page: what was seen, newest first, kept up to date by the event stream.
"use strict";

const PAGE = 50;
const KEPT = 500; // rows in the table; older ones are a click away
const RETRY_MS = [500, 1000, 2000, 5000];
const LIVE_S = 15; // an open track that nobody has told of for longer is over, whatever happened to its camera
const REASONS = {
  empty_gallery: "nobody is enrolled", below_threshold: "matches nobody enrolled", ambiguous: "could be two people",
  erased: "erased on request", too_small: "face too small", blurred: "blurred", too_dark: "too dark", too_bright: "too bright",
  low_contrast: "too little contrast", extreme_pose: "turned away", occluded: "covered", cut_off: "cut off by the frame",
  low_detector_score: "hardly visible", shards_missing: "part of the gallery did not answer yet",
};

const $ = (id) => document.getElementById(id);
const state = { sightings: new Map(), rows: new Map(), cameras: new Set(), cursor: null, lastId: null, pictures: new Map() };
const filter = () => ({ camera: $("camera").value, outcome: document.querySelector("[name=outcome]:checked").value });

function wanted(sighting) {
  const { camera, outcome } = filter();
  return (!camera || sighting.camera === camera) && (!outcome || sighting.outcome === outcome);
}

// --- one row -------------------------------------------------------------------------------------------------------------------

function title(sighting) {
  if (sighting.outcome === "subject") return sighting.subject;
  return sighting.outcome === "stranger" ? "unknown" : "too poor to tell";
}

function fill(row, sighting) {
  const part = (selector) => row.querySelector(selector);
  row.dataset.outcome = sighting.outcome;
  row.dataset.live = String(!sighting.closed && Date.now() / 1000 - Date.parse(sighting.last_at) / 1000 < LIVE_S);
  part(".name").textContent = title(sighting);
  part(".why").textContent = sighting.outcome === "subject" ? "" : REASONS[sighting.reason] ?? sighting.reason.replaceAll("_", " ");
  part(".figures").textContent = sighting.score === null ? "–" : sighting.score.toFixed(2);
  part(".limit").textContent = sighting.score === null ? "nothing to compare with" : `needs ${sighting.threshold.toFixed(2)}`;
  const meter = part("meter");
  meter.hidden = sighting.score === null;
  meter.value = Math.max(0, sighting.score ?? 0);
  meter.low = meter.high = meter.optimum = Math.max(0, Math.min(1, sighting.threshold));
  meter.optimum = 1;
  meter.setAttribute("aria-label", `score ${part(".figures").textContent}, ${part(".limit").textContent}`);
  part(".camera").textContent = sighting.camera;
  const first = new Date(sighting.first_at);
  part("time").dateTime = sighting.first_at;
  part("time").textContent = clock(first);
  const lasted = (new Date(sighting.last_at) - first) / 1000;
  part(".span").textContent = row.dataset.live === "true" ? "in view" : `for ${lasted < 60 ? `${Math.max(1, Math.round(lasted))} s` : `${Math.round(lasted / 60)} min`}`;
  part("img").alt = sighting.thumbnail ? `Face of ${title(sighting)}` : "";
  show(part("img"), sighting);
}

function clock(time) {
  const now = new Date();
  const hours = time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  if (time.toDateString() === now.toDateString()) return hours;
  const year = time.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  return `${time.toLocaleDateString([], { day: "numeric", month: "short", ...year })}, ${hours}`;
}

async function show(image, sighting) {
  if (!sighting.thumbnail) return forget(image, sighting.sighting_id);
  const known = state.pictures.get(sighting.sighting_id);
  if (known?.revision === sighting.revision) return;
  state.pictures.set(sighting.sighting_id, { revision: sighting.revision, url: known?.url });
  try {
    const url = URL.createObjectURL(await (await call(sighting.thumbnail)).blob());
    if (known?.url) URL.revokeObjectURL(known.url);
    state.pictures.set(sighting.sighting_id, { revision: sighting.revision, url });
    image.src = url;
  } catch {
    forget(image, sighting.sighting_id); // erased meanwhile
  }
}

function forget(image, id) {
  const url = state.pictures.get(id)?.url;
  if (url) URL.revokeObjectURL(url);
  state.pictures.delete(id);
  image.removeAttribute("src");
}

// --- the table -----------------------------------------------------------------------------------------------------------------

function put(sighting, { fresh = false } = {}) {
  const before = state.sightings.get(sighting.sighting_id);
  if (before && before.revision > sighting.revision) return;
  state.sightings.set(sighting.sighting_id, sighting);
  know(sighting.camera);
  let row = state.rows.get(sighting.sighting_id);
  if (!wanted(sighting)) {
    row?.remove();
    state.rows.delete(sighting.sighting_id);
    return;
  }
  if (!row) {
    row = $("row").content.firstElementChild.cloneNode(true);
    row.dataset.id = sighting.sighting_id;
    row.dataset.at = sighting.first_at;
    state.rows.set(sighting.sighting_id, row);
    place(row);
    if (fresh) row.classList.add("fresh");
  }
  fill(row, sighting);
  if (fresh && before?.outcome !== sighting.outcome) $("news").textContent = `${title(sighting)} at ${sighting.camera}`;
}

function place(row) {
  const at = Date.parse(row.dataset.at);
  const next = [...$("rows").children].find((other) => Date.parse(other.dataset.at) <= at);
  $("rows").insertBefore(row, next ?? null);
}

function trim() {
  while ($("rows").childElementCount > KEPT) drop($("rows").lastElementChild.dataset.id);
}

function drop(id) {
  const row = state.rows.get(id);
  if (row) forget(row.querySelector("img"), id);
  row?.remove();
  state.rows.delete(id);
  state.sightings.delete(id);
}

function know(camera) {
  if (state.cameras.has(camera)) return;
  state.cameras.add(camera);
  const options = [...state.cameras].sort().map((name) => new Option(name, name, false, name === $("camera").value));
  $("camera").replaceChildren(new Option("All cameras", ""), ...options);
}

function tell() {
  const shown = $("rows").childElementCount;
  $("count").textContent = shown === 1 ? "1 sighting" : `${shown} sightings`;
  $("empty").hidden = shown > 0;
  const { camera, outcome } = filter();
  $("empty").textContent = camera || outcome ? "Nobody like that so far." : "Nobody has been seen yet. Faces appear here the moment a camera sees them.";
  $("more").hidden = !state.cursor;
}

async function load({ older = false } = {}) {
  const { camera, outcome } = filter();
  const query = new URLSearchParams({ limit: PAGE });
  if (camera) query.set("camera", camera);
  if (outcome) query.set("outcome", outcome);
  if (older && state.cursor) query.set("cursor", state.cursor);
  const page = await getJson(`/v1/sightings?${query}`);
  if (!older) [...state.sightings.keys()].forEach(drop);
  page.sightings.forEach((sighting) => put(sighting));
  state.cursor = page.next_cursor;
  tell();
}

// --- the stream ----------------------------------------------------------------------------------------------------------------

function link(name, text) {
  $("link").dataset.state = name;
  if ($("link").textContent !== text) $("link").textContent = text;
}

function onEvent({ id, kind, data }) {
  if (id) state.lastId = id;
  if (kind === "reset") load();
  if (kind === "camera") know(JSON.parse(data).name);
  if (kind === "sighting") {
    put(JSON.parse(data), { fresh: true });
    trim();
    tell();
  }
}

async function follow() {
  for (let failures = 0; ; failures += 1) {
    try {
      await readEvents("/v1/events", {
        lastId: state.lastId, onEvent,
        onOpen: () => { failures = 0; link("live", "live"); load(); },
      });
    } catch (problem) {
      if (problem instanceof Refused) return askForLogin();
    }
    link("lost", "reconnecting");
    await wait(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]);
  }
}

function askForLogin() {
  link("lost", "logged out");
  $("who").hidden = true;
  $("login").hidden = false;
  choose();
}

function choose() {
  const chosen = document.querySelector("[name=with]:checked").value;
  for (const field of document.querySelectorAll("[data-with]")) {
    field.hidden = field.dataset.with !== chosen;
    for (const input of field.querySelectorAll("input")) input.required = !field.hidden;
  }
  $(chosen === "key" ? "key" : "user").focus();
}

async function submitLogin(event) {
  event.preventDefault();
  const chosen = document.querySelector("[name=with]:checked").value;
  const credentials = chosen === "key" ? { key: $("key").value.trim() } : { user: $("user").value.trim(), password: $("password").value };
  $("login-problem").textContent = "";
  try {
    await logIn(credentials);
    location.reload(); // nothing of whoever was here before stays on the page
  } catch (problem) {
    $("login-problem").textContent = problem.message;
  }
}

async function submitLogout() {
  try {
    await logOut();
  } catch (problem) {
    if (!(problem instanceof Refused)) return link("lost", problem.message);
  }
  location.reload();
}

async function start() {
  try {
    const who = await currentSession();
    if (!who) return askForLogin();
    $("who-name").textContent = `${who.name} · ${who.role}`;
    $("who").hidden = false;
    if (who.permissions.includes("cameras.read")) (await getJson("/v1/cameras")).cameras.forEach((camera) => know(camera.name));
    if (!who.permissions.includes("sightings.read")) return link("lost", "you may not see sightings");
  } catch (problem) {
    if (problem instanceof Refused) return askForLogin();
    link("lost", problem.message);
    return setTimeout(start, RETRY_MS.at(-1));
  }
  follow();
}

$("login").addEventListener("submit", submitLogin);
$("login").addEventListener("change", choose);
$("logout").addEventListener("click", submitLogout);
document.querySelector(".filters").addEventListener("change", () => load());
$("more").addEventListener("click", () => load({ older: true }));
setInterval(() => {
  for (const [id, row] of state.rows) if (row.dataset.live === "true") fill(row, state.sightings.get(id));
}, 5000);
start();
