// The page: loads pictures, and shows the current one everywhere.

import * as api from "./api.js";
import * as ask from "./ask.js";
import * as edit from "./edit.js";
import * as table from "./table.js";
import { Grids } from "./grids.js";

const byId = (id) => document.getElementById(id);
const grids = new Grids();
let about = null;
let shown = null; // {view, decoded, original}: the answer, and addresses of its pictures
let past = []; // before edits, the last one at the end
let future = []; // undone
let loading = null; // AbortControllers
let comparing = null;

function say(text) {
  byId("status").textContent = text;
}

function fail(error) {
  if (error.name === "AbortError") return;
  byId("error").textContent = error.message;
}

// Runs a request that ends with a picture; the one before it is called off.
async function load(text, path, options = {}) {
  loading?.abort();
  const own = new AbortController();
  loading = own;
  byId("error").textContent = "";
  document.body.classList.add("busy");
  say(text);
  try {
    let view = null;
    for await (const event of api.events(path, { ...options, signal: own.signal })) {
      if (event.type === "waiting") {
        say(event.ahead === 1 ? "One request is ahead of yours …" : `${event.ahead} requests are ahead of yours …`);
      }
      if (event.type === "working") say(text);
      if (event.type === "picture") view = event;
    }
    const decoded = URL.createObjectURL(await api.blob(`/api/pictures/${view.picture}/decoded.png`));
    return own.signal.aborted ? null : { view, decoded, original: null };
  } catch (error) {
    if (loading === own) fail(error);
    return null;
  } finally {
    if (loading === own) {
      loading = null;
      document.body.classList.remove("busy");
      say("");
    }
  }
}

const withModel = (path, more = {}) => `${path}?${new URLSearchParams({ model: byId("model").value, ...more })}`;

function requestFor(file) {
  if (file.size > about.limits.bytes) {
    throw new Error(
      `${file.name}: this file has ${megabytes(file.size)}; at most ${megabytes(about.limits.bytes)} are taken.`,
    );
  }
  return [`Encoding ${file.name} …`, withModel("/api/pictures", { name: file.name }), { body: file }];
}

async function loadFile(file) {
  let request;
  try {
    request = requestFor(file);
  } catch (error) {
    loading?.abort();
    byId("error").textContent = "";
    return fail(error);
  }
  await begin(await load(...request));
}

async function loadSample(name) {
  await begin(await load(`Encoding ${name} …`, withModel(`/api/samples/${encodeURIComponent(name)}`)));
}

// A new picture, not an edit of the one before.
async function begin(one) {
  if (!one) return;
  try {
    if (one.view.has_original) {
      one.original = URL.createObjectURL(await api.blob(`/api/pictures/${one.view.picture}/original.png`));
    }
  } catch (error) {
    return fail(error);
  }
  for (const old of [...past, ...(shown ? [shown] : []), ...future]) {
    URL.revokeObjectURL(old.decoded);
    if (old.original) URL.revokeObjectURL(old.original);
  }
  past = [];
  future = [];
  byId("model").value = one.view.model;
  byId("left").value = "original";
  ask.clear();
  await show(one, false);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  byId("view").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

async function show(one, isEdit) {
  shown = one;
  const { view } = one;
  const [height, width] = view.size;
  const [rows, columns] = view.grid_size;
  byId("view").hidden = false;
  byId("intro").hidden = true;
  byId("name").textContent = view.name;
  const patches = `${width} × ${height} pixels, ${columns} × ${rows} patches, ${view.code_heads} codes each`;
  const [fileHeight, fileWidth] = view.file_size ?? view.size;
  const scaled = fileWidth !== width || fileHeight !== height;
  byId("summary").textContent = scaled
    ? `${patches}; scaled down from ${fileWidth} × ${fileHeight}, as this page works with at most ${about.limits.pixels.toLocaleString("en")} pixels`
    : patches;
  byId("decoded").src = one.decoded;
  byId("stage").style.setProperty("--ratio", width / height);
  showLeft();
  grids.show(view, isEdit);
  ask.offer(about.models.find((model) => model.name === view.model).why_not);
  edit.prepare(view, grids.codes, others());
  byId("undo").disabled = past.length === 0;
  byId("redo").disabled = future.length === 0;
  await compare(view);
}

// What is left of the slider: the original, or what was decoded before the edits.
function showLeft() {
  const first = past[0] ?? null;
  const hasOriginal = shown.original !== null;
  byId("left-choice").hidden = first === null || !hasOriginal;
  const before = first !== null && (byId("left").value === "before" || !hasOriginal);
  const left = before ? first.decoded : shown.original;
  byId("stage").classList.toggle("alone", left === null);
  byId("original").hidden = left === null;
  byId("original").alt = before ? "What was decoded before the edits" : "The original picture";
  if (left !== null) byId("original").src = left;
  byId("left-tag").textContent = before ? "before" : "original";
  byId("picture-title").textContent = left === null ? "Decoded" : before ? "Before and after" : "Original and decoded";
}

async function compare(view) {
  comparing?.abort();
  table.start(view);
  if (!view.has_original) return;
  const own = new AbortController();
  comparing = own;
  try {
    for await (const event of api.events(`/api/pictures/${view.picture}/compare`, { signal: own.signal })) {
      if (event.type === "row" && comparing === own) table.add(event);
    }
  } catch (error) {
    if (error.name !== "AbortError" && comparing === own) table.stop(error.message);
  }
}

// Pictures to mix with: the samples, and what was loaded for it.
const seconds = new Map(); // value -> {text, path, options}
function others() {
  return [...seconds].map(([value, { text }]) => [value, text]);
}

async function second(value) {
  const { path, options } = seconds.get(value);
  const one = await load("Encoding the second picture …", withModel(path), options);
  if (!one) return null;
  URL.revokeObjectURL(one.decoded);
  if (one.view.model !== shown.view.model) throw new Error("The two pictures' codes are of different checkpoints.");
  return one.view.picture;
}

async function applyEdit() {
  if (!grids.region) {
    byId("error").textContent = "Choose patches first: click or drag on the code grids, or press All.";
    return;
  }
  const before = shown;
  try {
    const json = await edit.wish(grids.region, second);
    if (json === null || json.other === null) return;
    const one = await load("Decoding …", `/api/pictures/${before.view.picture}/edit`, { json });
    if (!one || shown !== before) return;
    one.original = before.original;
    for (const old of future) URL.revokeObjectURL(old.decoded);
    past.push(before);
    future = [];
    await show(one, true);
  } catch (error) {
    fail(error);
  }
}

function step(from, to) {
  if (!from.length) return;
  byId("error").textContent = "";
  to.push(shown);
  show(from.pop(), true);
}

async function download() {
  try {
    const data = await api.blob(`/api/pictures/${shown.view.picture}/codes.viq`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(data);
    link.download = `${shown.view.name.replace(/\.[^.]*$/, "") || "codes"}.viq`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    fail(error);
  }
}

function megabytes(count) {
  return count >= 2 ** 18 ? `${Number((count / 2 ** 20).toPrecision(3))} MB` : `${count.toLocaleString("en")} bytes`;
}

function listen() {
  byId("file").addEventListener("change", () => {
    const [file] = byId("file").files;
    byId("file").value = ""; // the same file again is a change, too
    if (file) loadFile(file);
  });
  const drop = byId("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // a file beside the zone must not replace the page
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) loadFile(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) loadFile(event.clipboardData.files[0]);
  });
  byId("model").addEventListener("change", async () => {
    if (!shown) return;
    if (!shown.view.has_original) {
      byId("model").value = shown.view.model;
      byId("error").textContent = "These codes came without a picture; only their own checkpoint decodes them.";
      return;
    }
    const one = await load("Encoding …", withModel(`/api/pictures/${shown.view.picture}/recode`));
    if (one) await begin(one);
    else byId("model").value = shown.view.model;
  });
  const split = byId("split");
  const move = () => {
    byId("stage").style.setProperty("--split", `${split.value}%`);
    split.setAttribute("aria-valuetext", `${split.value} percent`);
  };
  split.addEventListener("input", move);
  move();
  byId("left").addEventListener("change", showLeft);
  byId("download").addEventListener("click", download);
  byId("undo").addEventListener("click", () => step(past, future));
  byId("redo").addEventListener("click", () => step(future, past));
  byId("edit-form").addEventListener("submit", (event) => {
    event.preventDefault();
    applyEdit();
  });
  edit.listen((file) => {
    try {
      const [, , options] = requestFor(file);
      const value = `own:${seconds.size}`;
      seconds.set(value, { text: file.name, path: "/api/pictures", options: { ...options, name: file.name } });
      edit.offer(others());
      byId("other").value = value;
    } catch (error) {
      fail(error);
    }
  });
  ask.listen(() => shown.view);
  window.addEventListener("pagehide", api.close);
  window.addEventListener("pageshow", (event) => event.persisted && location.reload());
}

async function main() {
  listen();
  try {
    about = await api.open();
  } catch (error) {
    return fail(error);
  }
  byId("version").textContent = `ViQ ${about.version}.`;
  byId("file-note").append(` At most ${megabytes(about.limits.bytes)}.`);
  byId("model").replaceChildren(...about.models.map(({ name }) => new Option(name, name)));
  byId("model").disabled = false;
  byId("question").maxLength = about.limits.question;
  byId("samples").replaceChildren(
    ...about.samples.map((name) => {
      const text = name.replace(/\.png$/, "").replaceAll("-", " ");
      seconds.set(`sample:${name}`, { text, path: `/api/samples/${encodeURIComponent(name)}`, options: {} });
      const item = document.createElement("li");
      const button = Object.assign(document.createElement("button"), { type: "button", className: "sample" });
      const image = Object.assign(document.createElement("img"), { src: `/samples/${name}`, alt: "", loading: "lazy" });
      button.append(image, Object.assign(document.createElement("span"), { textContent: text }));
      button.addEventListener("click", () => loadSample(name));
      item.append(button);
      return item;
    }),
  );
}

main();
