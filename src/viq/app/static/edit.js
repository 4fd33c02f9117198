// The form of edits: what to change, in which heads, with what.

const byId = (id) => document.getElementById(id);
const FILE = "file:";

// The form for a picture; what was typed stays while the kind of codes stays.
export function prepare(view, codes, others) {
  const heads = byId("heads");
  if (heads.querySelectorAll("input").length !== codes.heads) {
    heads.replaceChildren(
      heads.querySelector("legend"),
      ...numbers(codes.heads, (head) => {
        const input = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, value: head });
        return labelled(String(head + 1), input, false);
      }),
    );
    byId("own-codes").replaceChildren(
      ...numbers(codes.heads, (head) => {
        const input = Object.assign(document.createElement("input"), { type: "number", min: 0, value: 0, id: `own-${head}` });
        return labelled(`Head ${head + 1}`, input, true);
      }),
    );
  }
  for (const head of Array(codes.heads).keys()) byId(`own-${head}`).max = codes.size - 1;
  byId("from-row").max = codes.rows;
  byId("from-column").max = codes.columns;
  offer(others);
}

// The second pictures to choose from: [value, text] pairs.
export function offer(others) {
  const select = byId("other");
  const chosen = select.value;
  select.replaceChildren(...others.map(([value, text]) => new Option(text, value)), new Option("a file …", FILE));
  if ([...select.options].some((option) => option.value === chosen)) select.value = chosen;
}

export function listen(chooseFile) {
  const show = () => {
    for (const part of document.querySelectorAll(".options")) {
      part.hidden = part.dataset.for !== byId("operation").value;
    }
  };
  byId("operation").addEventListener("change", show);
  show();
  byId("share").addEventListener("input", () => {
    byId("share-out").textContent = `${byId("share").value} %`;
  });
  byId("other").addEventListener("change", () => byId("other").value === FILE && byId("other-file").click());
  byId("other-file").addEventListener("change", () => {
    const [file] = byId("other-file").files;
    byId("other-file").value = "";
    if (file) chooseFile(file);
  });
}

// What to send; `second` makes a picture's number of what was chosen to mix with.
export async function wish(region, second) {
  const { top, left, height, width } = region;
  const operation = byId("operation").value;
  const heads = [...byId("heads").querySelectorAll("input:checked")].map((input) => Number(input.value));
  const more = { region: [top, left, height, width], heads, operation };
  if (operation === "copy") more.patch = [value("from-row") - 1, value("from-column") - 1];
  if (operation === "fill") more.values = [...byId("own-codes").querySelectorAll("input")].map((input) => Number(input.value));
  if (operation === "random") more.seed = Math.floor(Math.random() * 2 ** 31);
  if (operation === "mix") {
    if (byId("other").value === FILE) {
      byId("other-file").click();
      return null;
    }
    more.other = await second(byId("other").value);
    more.share = value("share") / 100;
  }
  return more;
}

function value(id) {
  return Number(byId(id).value);
}

function numbers(count, make) {
  return Array.from({ length: count }, (_, number) => make(number));
}

function labelled(text, input, first) {
  const label = document.createElement("label");
  label.append(...(first ? [`${text} `, input] : [input, ` ${text}`]));
  return label;
}
