// Questions about the codes; the answer is written while it comes.

import * as api from "./api.js";

const byId = (id) => document.getElementById(id);
const log = byId("answers");
let control = null;

// Shows the form, or why there is none; what is a command in the reason looks like one.
export function offer(whyNot) {
  byId("asking").hidden = whyNot !== null;
  byId("why-not").hidden = whyNot === null;
  const [text, command] = (whyNot ?? "").split(/: (?=pip |viq )/);
  byId("why-not").replaceChildren(text);
  if (command) byId("why-not").append(": ", Object.assign(document.createElement("code"), { textContent: command }));
}

export function clear() {
  stop();
  log.replaceChildren();
}

export function stop() {
  control?.abort();
  control = null;
}

export function listen(getPicture) {
  byId("stop").addEventListener("click", stop);
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask(getPicture(), byId("question").value.trim());
  });
}

async function ask(view, question) {
  stop();
  const own = new AbortController();
  control = own;
  const entry = document.createElement("article");
  const asked = Object.assign(document.createElement("h4"), { textContent: question || "(no question)" });
  const answer = Object.assign(document.createElement("p"), { className: "waiting" });
  entry.append(asked, answer);
  entry.setAttribute("aria-busy", "true"); // read aloud when it is whole
  log.prepend(entry);
  byId("stop").hidden = false;
  const text = document.createTextNode("");
  try {
    answer.textContent = "…";
    const path = `/api/pictures/${view.picture}/ask`;
    for await (const event of api.events(path, { json: { question }, signal: own.signal })) {
      if (event.type === "waiting") answer.textContent = `${event.ahead} ahead of you …`;
      if (event.type === "loading") answer.textContent = "loading the language model …";
      if (event.type === "reading") answer.textContent = "reading the codes …";
      if (event.type === "text") {
        if (!text.data) answer.replaceChildren(text);
        answer.classList.remove("waiting");
        text.data += event.text;
      }
      if (event.type === "answered") {
        answer.classList.remove("waiting");
        if (!text.data.trim()) answer.textContent = "(no words)";
        if (event.cut) answer.append(" … (cut here)");
      }
    }
  } catch (error) {
    const stopped = error.name === "AbortError";
    const last = Object.assign(document.createElement("p"), {
      className: stopped ? "note" : "error",
      textContent: stopped ? "Stopped." : error.message,
    });
    if (!text.data) answer.remove();
    entry.append(last);
  } finally {
    entry.removeAttribute("aria-busy");
    if (control === own || control === null) byId("stop").hidden = true;
    if (control === own) control = null;
  }
}
