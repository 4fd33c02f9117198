// The page is whole without this: it lets tables be sorted and pictures be seen at full size.
"use strict";

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const first = head.dataset.better === "higher" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = before === first ? other : first;
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].map((row) => [row, row.cells[column]]);
      rows.sort(([, a], [, b]) => sign * compare(a, b) || 0);
      rows.sort(([, a], [, b]) => ("none" in a.dataset) - ("none" in b.dataset));
      body.append(...rows.map(([row]) => row));
    });
  });
}

function compare(a, b) {
  if ("value" in a.dataset && "value" in b.dataset) {
    const [x, y] = [Number(a.dataset.value), Number(b.dataset.value)];
    return x < y ? -1 : x > y ? 1 : 0;
  }
  return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
}

for (const image of document.querySelectorAll(".frame img")) {
  const frame = image.parentElement;
  const button = document.createElement("button");
  button.type = "button";
  button.className = frame.className;
  button.setAttribute("aria-pressed", "false");
  button.title = "Full size";
  frame.replaceWith(button);
  button.append(image);
  button.addEventListener("click", () => {
    const full = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!full));
  });
}
