// The code grids: one canvas a head, and marks on the picture. A patch is pointed at or chosen by
// pointer, by arrow keys, or by the number fields; all three change one and the same choice.

import { colour } from "./colours.js";
import { Codes } from "./codes.js";

const byId = (id) => document.getElementById(id);
const FIELDS = ["row", "column", "height", "width"];
const KEYS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export class Grids {
  constructor() {
    this.codes = null;
    this.canvases = [];
    this.chosen = null; // {anchor: [row, column], end: [row, column]}
    this.pointed = null; // patch
    this.box = byId("grids");
    this.marks = byId("marks");
    this.colours = byId("colours");
    this.colours.addEventListener("change", () => this.paint());
    this.box.addEventListener("keydown", (event) => this.key(event));
    byId("all").addEventListener("click", () =>
      this.choose([0, 0], [this.codes.rows - 1, this.codes.columns - 1], true),
    );
    for (const id of FIELDS) byId(id).addEventListener("change", () => this.fromFields());
    const stage = byId("stage");
    stage.addEventListener("pointermove", (event) => this.point(this.onPicture(event)));
    stage.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Shows a picture's codes; an edit keeps what was chosen.
  show(view, keep) {
    this.view = view;
    this.codes = new Codes(view);
    if (!keep || !this.chosen) this.chosen = null;
    this.pointed = null;
    const { heads, rows, columns } = this.codes;
    this.canvases = Array.from({ length: heads }, (_, head) => {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      canvas.style.aspectRatio = `${columns} / ${rows}`;
      canvas.dataset.head = head;
      this.listen(canvas);
      return canvas;
    });
    this.box.replaceChildren(
      ...this.canvases.map((canvas, head) => {
        const figure = document.createElement("figure");
        const caption = document.createElement("figcaption");
        const count = this.codes.distinct(head).toLocaleString("en");
        const all = this.codes.patches.toLocaleString("en");
        caption.textContent = `Head ${head + 1}: ${count} codes in ${all} patches`;
        canvas.setAttribute("aria-label", `${caption.textContent}, as coloured squares`);
        figure.append(canvas, caption);
        return figure;
      }),
    );
    for (const [id, most] of [["row", rows], ["column", columns], ["height", rows], ["width", columns]]) {
      byId(id).max = most;
    }
    this.paint();
    this.tell();
  }

  listen(canvas) {
    const patchAt = (event) => {
      const area = canvas.getBoundingClientRect();
      const row = Math.floor(((event.clientY - area.top) / area.height) * this.codes.rows);
      const column = Math.floor(((event.clientX - area.left) / area.width) * this.codes.columns);
      return [clamp(row, 0, this.codes.rows - 1), clamp(column, 0, this.codes.columns - 1)];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      const place = patchAt(event);
      this.choose(event.shiftKey && this.chosen ? this.chosen.anchor : place, place);
    });
    canvas.addEventListener("pointermove", (event) => {
      const place = patchAt(event);
      if (canvas.hasPointerCapture(event.pointerId)) this.choose(this.chosen.anchor, place);
      else if (event.pointerType !== "touch") this.point(this.patch(place));
    });
    canvas.addEventListener("pointerleave", () => this.point(null));
  }

  patch([row, column]) {
    return row * this.codes.columns + column;
  }

  // The patch under the pointer on the picture; its last row and column may be cut by the edge.
  onPicture(event) {
    if (!this.codes) return null;
    const area = byId("stage").getBoundingClientRect();
    const [height, width] = this.view.encoded_size;
    const row = Math.floor((((event.clientY - area.top) / area.height) * height) / this.view.patch_size);
    const column = Math.floor((((event.clientX - area.left) / area.width) * width) / this.view.patch_size);
    const inside = row >= 0 && column >= 0 && row < this.codes.rows && column < this.codes.columns;
    return inside ? this.patch([row, column]) : null;
  }

  point(patch) {
    if (patch === this.pointed) return;
    this.pointed = patch;
    this.draw();
    this.tell();
  }

  choose(anchor, end, aloud = false) {
    this.chosen = anchor && { anchor, end };
    this.pointed = null;
    this.draw();
    this.tell();
    if (aloud) byId("spoken").textContent = this.spoken();
  }

  // {top, left, height, width}, or null
  get region() {
    if (!this.chosen) return null;
    const { anchor, end } = this.chosen;
    const top = Math.min(anchor[0], end[0]);
    const left = Math.min(anchor[1], end[1]);
    return {
      top,
      left,
      height: Math.max(anchor[0], end[0]) - top + 1,
      width: Math.max(anchor[1], end[1]) - left + 1,
    };
  }

  key(event) {
    if (!this.codes || event.ctrlKey || event.metaKey || event.altKey) return;
    const [row, column] = this.chosen?.end ?? [0, 0];
    let place = null;
    if (event.key in KEYS && !this.chosen) place = [0, 0];
    else if (event.key in KEYS) place = [row + KEYS[event.key][0], column + KEYS[event.key][1]];
    else if (event.key === "Home") place = [row, 0];
    else if (event.key === "End") place = [row, this.codes.columns - 1];
    else if (event.key === "Escape") this.choose(null, null, true);
    else return;
    event.preventDefault();
    if (!place) return;
    place = [clamp(place[0], 0, this.codes.rows - 1), clamp(place[1], 0, this.codes.columns - 1)];
    this.choose(event.shiftKey && this.chosen ? this.chosen.anchor : place, place, true);
  }

  fromFields() {
    if (!this.codes) return;
    const { rows, columns } = this.codes;
    const [row, column, height, width] = FIELDS.map((id) => Math.round(Number(byId(id).value)) || 1);
    const top = clamp(row, 1, rows) - 1;
    const left = clamp(column, 1, columns) - 1;
    const bottom = clamp(top + Math.max(1, height), 1, rows) - 1;
    const right = clamp(left + Math.max(1, width), 1, columns) - 1;
    this.choose([top, left], [bottom, right], true);
  }

  // The patch whose codes are shown: the one pointed at, else the chosen one.
  get shown() {
    return this.pointed ?? (this.chosen && this.patch(this.chosen.end));
  }

  tell() {
    const { codes, region, shown } = this;
    byId("patch-title").textContent =
      shown === null ? "No patch is chosen" : `Codes of the patch in ${codes.name(shown)}`;
    const rows = shown === null ? [] : this.canvases.map((_, head) => this.line(shown, head));
    byId("patch").replaceChildren(...rows);
    if (!region) return;
    byId("row").value = region.top + 1;
    byId("column").value = region.left + 1;
    byId("height").value = region.height;
    byId("width").value = region.width;
  }

  line(patch, head) {
    const { codes } = this;
    const code = codes.at(patch, head);
    const others = codes.same(patch, head).length - 1;
    const row = document.createElement("tr");
    const name = document.createElement("th");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.backgroundColor = `rgb(${colour(code, this.colours.value, codes.levels).join(" ")})`;
    name.scope = "row";
    name.append(swatch, String(head + 1));
    const texts = [
      code.toLocaleString("en"),
      codes.digits(code).join(" "),
      others === 0 ? "no other" : `${others.toLocaleString("en")} more`,
    ];
    row.append(name, ...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  }

  spoken() {
    const { region, shown, codes } = this;
    if (!region) return "No patch is chosen";
    const several = region.height * region.width > 1;
    const size = several ? `${region.height} by ${region.width} patches are chosen. ` : "";
    const texts = this.canvases.map((_, head) => {
      const others = codes.same(shown, head).length - 1;
      return `Head ${head + 1}: code ${codes.at(shown, head)}, ${others ? `in ${others} more` : "nowhere else"}`;
    });
    return `${size}Patch in ${codes.name(shown)}. ${texts.join(". ")}.`;
  }

  // Makes each head's picture, a pixel a patch; then draws.
  paint() {
    if (!this.codes) return;
    const { rows, columns, patches, levels } = this.codes;
    this.small = this.canvases.map((_, head) => {
      const small = document.createElement("canvas");
      small.width = columns;
      small.height = rows;
      const image = new ImageData(columns, rows);
      for (let patch = 0; patch < patches; patch += 1) {
        const rgb = colour(this.codes.at(patch, head), this.colours.value, levels);
        image.data.set([...rgb, 255], 4 * patch);
      }
      small.getContext("2d").putImageData(image, 0, 0);
      return small;
    });
    this.draw();
    this.tell();
  }

  draw() {
    if (!this.codes || this.waiting) return;
    this.waiting = true; // several changes before the next frame are drawn once
    requestAnimationFrame(() => {
      this.waiting = false;
      this.canvases.forEach((canvas, head) => this.drawHead(canvas, head));
      this.drawMarks();
    });
  }

  drawHead(canvas, head) {
    const { rows, columns } = this.codes;
    const context = fitted(canvas);
    const cell = [canvas.width / columns, canvas.height / rows];
    context.imageSmoothingEnabled = false;
    context.drawImage(this.small[head], 0, 0, canvas.width, canvas.height);
    if (this.shown !== null) {
      context.fillStyle = shade();
      context.fillRect(0, 0, canvas.width, canvas.height);
      const same = this.codes.same(this.shown, head);
      for (const patch of same) {
        const [x, y] = [patch % columns, Math.floor(patch / columns)];
        context.drawImage(this.small[head], x, y, 1, 1, x * cell[0], y * cell[1], ...cell);
      }
      border(context, new Set(same), columns, cell);
    }
    this.drawChoice(context, cell);
  }

  // On the picture the patches that share codes are light, and the lighter the more they share.
  drawMarks() {
    const context = fitted(this.marks);
    context.clearRect(0, 0, this.marks.width, this.marks.height);
    if (this.shown === null) return;
    const { columns, heads } = this.codes;
    const [height, width] = this.view.encoded_size;
    const cell = [
      (this.marks.width / width) * this.view.patch_size,
      (this.marks.height / height) * this.view.patch_size,
    ];
    const shared = new Map();
    for (let head = 0; head < heads; head += 1) {
      for (const patch of this.codes.same(this.shown, head)) {
        shared.set(patch, (shared.get(patch) ?? 0) + 1);
      }
    }
    for (const [patch, count] of shared) {
      const place = [(patch % columns) * cell[0], Math.floor(patch / columns) * cell[1]];
      context.fillStyle = `rgb(255 214 10 / ${(0.45 * count) / heads})`;
      context.fillRect(...place, ...cell);
    }
    border(context, shared, columns, cell);
    this.drawChoice(context, cell);
  }

  drawChoice(context, cell) {
    const { region, pointed } = this;
    const { columns } = this.codes;
    if (region) {
      outline(context, region.left * cell[0], region.top * cell[1], region.width * cell[0], region.height * cell[1], 3);
    }
    if (pointed !== null) {
      outline(context, (pointed % columns) * cell[0], Math.floor(pointed / columns) * cell[1], ...cell, 2);
    }
  }
}

// A canvas's context, its pixels those of the screen.
function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return canvas.getContext("2d");
}

function outline(context, x, y, width, height, strength) {
  const path = new Path2D();
  path.rect(x, y, width, height);
  stroke(context, path, strength);
}

// Around patches, but not between two of them.
function border(context, patches, columns, [width, height]) {
  const path = new Path2D();
  for (const patch of patches.keys()) {
    const column = patch % columns;
    const [x, y] = [column * width, Math.floor(patch / columns) * height];
    const edges = [
      [patches.has(patch - columns), x, y, x + width, y],
      [patches.has(patch + columns), x, y + height, x + width, y + height],
      [column > 0 && patches.has(patch - 1), x, y, x, y + height],
      [column < columns - 1 && patches.has(patch + 1), x + width, y, x + width, y + height],
    ];
    for (const [inside, x0, y0, x1, y1] of edges) {
      if (inside) continue;
      path.moveTo(x0, y0);
      path.lineTo(x1, y1);
    }
  }
  stroke(context, path, 1);
}

// Dark around light: seen on every colour.
function stroke(context, path, strength) {
  const ratio = window.devicePixelRatio || 1;
  context.lineCap = "square";
  for (const [style, wide] of [["#000", strength + 1.5], ["#fff", strength]]) {
    context.strokeStyle = style;
    context.lineWidth = wide * ratio;
    context.stroke(path);
  }
}

function shade() {
  return matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(18 20 24 / 0.5)" : "rgb(255 255 255 / 0.5)";
}
