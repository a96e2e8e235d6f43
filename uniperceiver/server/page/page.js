// The page: a model's facts, one input, one question at a time, and its answer.

import { request } from "./parts/api.js";
import { Input } from "./parts/input.js";
import { make } from "./parts/make.js";
import { questions } from "./parts/questions.js";

const at = (id) => document.getElementById(id);

function problem(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

class Page {
  constructor(facts) {
    this.facts = facts;
    this.input = new Input(facts.limits, problem, () => problem(""));
    this.questions = questions(facts);
    this.kept = new Map(); // what was written into the fields of each tab
    const state = new URLSearchParams(location.hash.slice(1));
    for (const tab of this.questions) at("tabs").append(this.tab(tab));
    this.choose(this.questions.find(({ id }) => id === state.get("ask")) ?? this.questions[0], false);
    for (const [id, value] of state) if (at(id)?.form === at("form")) at(id).value = value;
    at("form").addEventListener("submit", (event) => { event.preventDefault(); this.ask(); });
    at("form").addEventListener("input", () => this.remember());
    at("tabs").addEventListener("keydown", (event) => this.move(event));
  }

  tab(question) {
    const tab = make("button", { type: "button", role: "tab", id: `tab-${question.id}`, "aria-controls": "panel" }, question.title);
    tab.addEventListener("click", () => this.choose(question));
    return tab;
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -this.questions.length, End: this.questions.length }[event.key];
    if (!step) return;
    event.preventDefault();
    const count = this.questions.length;
    const next = this.questions.indexOf(this.question) + step;
    this.choose(this.questions[Math.abs(step) === 1 ? (next + count) % count : Math.min(Math.max(next, 0), count - 1)]);
    at(`tab-${this.question.id}`).focus();
  }

  choose(question, clear = true) {
    this.question = question;
    for (const tab of at("tabs").children) {
      const chosen = tab.id === `tab-${question.id}`;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
    at("panel").setAttribute("aria-labelledby", `tab-${question.id}`);
    at("panel").replaceChildren(...question.fields());
    for (const [id, value] of this.kept.get(question.id) ?? []) if (at(id)) at(id).value = value;
    at("task")?.addEventListener("change", () => { if (at("task").value && at("labels")) at("labels").value = ""; });
    if (clear) { at("answer").replaceChildren(); problem(""); at("lines").hidden = true; this.remember(); }
  }

  fields() {
    return [...at("panel").querySelectorAll("input, textarea, select")].filter(({ id }) => id && id !== "gate").map(({ id, value }) => [id, value]);
  }

  // The question, never what it is about, stays in the address, so that it can be sent to others.
  remember() {
    this.kept.set(this.question.id, this.fields());
    const state = new URLSearchParams([["ask", this.question.id], ...this.fields().filter(([, value]) => value.length < 2000)]);
    history.replaceState(null, "", `#${state}`);
  }

  async ask() {
    problem("");
    const form = this.input.form(this.question.reads?.()?.inputs.length > 1);
    if (!form) return problem("Choose a picture, clip or sound first, or write a text.");
    const missing = this.question.fill(form);
    if (missing) return problem(missing);
    at("ask").disabled = true;
    at("answer").replaceChildren(make("p", { class: "soft" }, "asking ..."));
    try {
      const body = await request(this.question.path, { method: "POST", body: form });
      const notes = body.notes.map((note) => make("p", { class: "soft small" }, note));
      at("answer").replaceChildren(...this.question.show(body.results[0], this.input), ...notes,
        make("p", { class: "soft small note" }, `${Math.round(body.ms)} ms on the server`));
      this.lines(form);
    } catch (error) {
      at("answer").replaceChildren();
      problem(error.message);
    } finally {
      at("ask").disabled = false;
    }
  }

  lines(form) {
    const fields = [...form].map(([name, value]) => [name, value instanceof File ? null : value]);
    const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const token = sessionStorage.length ? " -H 'Authorization: Bearer TOKEN'" : "";
    at("curl").textContent = [`curl ${location.origin}${this.question.path}${token}`,
      ...fields.map(([name, value]) => `  -F ${value === null ? `${name}=@FILE` : quoted(`${name}=${value}`)}`)].join(" \\\n");
    const data = Object.fromEntries(fields.filter(([, value]) => value !== null));
    const file = fields.some(([, value]) => value === null) ? `, files={"file": open("FILE", "rb")}` : "";
    const header = token ? `, headers={"Authorization": "Bearer TOKEN"}` : "";
    at("python").textContent = `import httpx\nanswer = httpx.post("${location.origin}${this.question.path}", data=${JSON.stringify(data)}${file}${header})\nprint(answer.json())`;
    at("lines").hidden = false;
  }
}

async function begin() {
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(at(button.dataset.copies).textContent);
      at("copied").textContent = "copied";
    });
  }
  try {
    const facts = await request("/v1/model");
    document.title = `${facts.name} - uniperceiver`;
    at("name").textContent = facts.name;
    at("summary").textContent = facts.summary ?? "";
    at("state").textContent = "ready";
    at("state").classList.add("ready");
    new Page(facts);
  } catch (error) {
    at("state").textContent = "not ready";
    at("state").classList.add("away");
    problem(error.message);
  }
}

begin();
