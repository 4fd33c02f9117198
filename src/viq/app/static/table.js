// The table of sizes and closeness: the codes, and JPEG and WebP in as many bytes.

const NAMES = { viq: "ViQ codes", jpeg: "JPEG", webp: "WebP" };
const body = document.getElementById("rows");
const note = document.getElementById("table-note");

export function start(view) {
  body.replaceChildren(line(view.row));
  if (view.has_original) {
    body.append(pending("jpeg"), pending("webp"));
    note.textContent = "JPEG and WebP are given the same bytes, and the size at which they do best.";
  } else {
    note.textContent = "These codes came without the original, so nothing can be compared with it.";
  }
}

export function add(row) {
  body.querySelector(`[data-method=${row.method}]`)?.replaceWith(line(row));
}

// Where the comparison was not finished.
export function stop(text) {
  for (const cell of body.querySelectorAll(".pending")) cell.textContent = text;
}

function pending(method) {
  return make(method, [cell("measuring …", { colSpan: 4, className: "pending" })]);
}

function line(row) {
  if (row.bytes === null) {
    return make(row.method, [cell("no file has so few bytes", { colSpan: 4, className: "none" })]);
  }
  const psnr = row.lossless ? "equal" : row.psnr === null ? "–" : row.psnr.toFixed(2);
  const small = row.reduction > 1 ? ` at 1/${row.reduction} size` : "";
  return make(
    row.method,
    [
      row.bytes.toLocaleString("en"),
      row.bpp.toFixed(3),
      psnr,
      row.ssim === null || row.ssim === undefined ? "–" : row.ssim.toFixed(3),
    ].map((text) => cell(text)),
    small,
  );
}

function make(method, cells, small = "") {
  const row = document.createElement("tr");
  const name = document.createElement("th");
  row.dataset.method = method;
  name.scope = "row";
  name.textContent = NAMES[method];
  if (small) name.append(Object.assign(document.createElement("small"), { textContent: small }));
  row.append(name, ...cells);
  return row;
}

function cell(text, more = {}) {
  return Object.assign(document.createElement("td"), { textContent: text, ...more });
}
