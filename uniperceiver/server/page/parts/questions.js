// The tabs: what each asks for, and how its answer is shown.

import { captioned, classified, inside, located, ranked } from "./answers.js";
import { make } from "./make.js";

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

function area(id, label, value, hint) {
  return [make("label", { for: id }, label), make("textarea", { id, rows: 4, spellcheck: "false", "aria-describedby": `${id}-hint` }, value),
    make("p", { class: "soft small", id: `${id}-hint` }, hint)];
}

function tasks(facts, id, question, label, none) {
  const names = Object.entries(facts.tasks).filter(([, task]) => task.question === question).map(([name]) => name);
  if (!names.length) return [];
  return [make("label", { for: id }, label), make("select", { id }, ...(none ? [make("option", { value: "" }, none)] : []),
    ...names.map((name) => make("option", { value: name }, name)))];
}

function number(id, label, least, most, value) {
  return make("div", {}, make("label", { for: id }, label), make("input", { id, type: "number", min: least, max: most, step: most <= 1 ? "any" : 1, value }));
}

const value = (id) => document.getElementById(id)?.value ?? "";

function labelled(form) {
  const labels = lines(value("labels"));
  if (value("task")) form.append("task", value("task"));
  if (labels.length) form.append("labels", labels.join("\n"));
  return labels.length || value("task") ? "" : "Write two labels or more, or choose a task.";
}

export function questions(facts) {
  const all = [
    { id: "classify", title: "Classify", path: "/v1/classify", show: classified, fill: labelled, reads: () => facts.tasks[value("task")],
      fields: () => [...tasks(facts, "task", "classify", "Task of the model", "none: my labels below"),
        ...area("labels", "Labels", "a red circle\na blue square\na green cross", "One on each line. With a task and no labels, the task's own are used.")] },
    { id: "caption", title: "Caption", path: "/v1/caption", show: captioned,
      fields: () => [...tasks(facts, "task", "caption", "Task of the model", "the one that fits"),
        make("div", { class: "row" }, number("beam", "Beginnings followed", 1, facts.limits.beam, 2), number("words", "Words at most", 1, facts.limits.words, 21))],
      fill: (form) => { for (const id of ["task", "beam", "words"]) if (value(id)) form.append(id, value(id)); return ""; } },
    { id: "compare", title: "Compare", path: "/v1/rank", show: ranked,
      fields: () => area("texts", "Texts", "a large red circle\na small blue square", "One on each line."),
      fill: (form) => { form.append("texts", lines(value("texts")).join("\n")); return lines(value("texts")).length ? "" : "Write a text or more."; } },
    { id: "find", title: "Find", get path() { return facts.tasks[value("task")]?.masks ? "/v1/segment" : "/v1/detect"; }, show: located, needs: "boxes", fill: (form) => { form.append("least", value("least") || "0.3"); return labelled(form); },
      fields: () => [...tasks(facts, "task", "detect", "Task of the model", ""), ...area("labels", "Labels", "", "One on each line; without any, those of the task."),
        make("div", { class: "row" }, number("least", "Lowest score", 0, 1, 0.3))] },
    { id: "inside", title: "Inside", path: "/v1/experts", show: inside, needs: "routing", fill: () => "",
      fields: () => [make("p", { class: "note" }, "Which experts of the model compute what you give, layer by layer, and how sure its gates are.")] },
  ];
  return all.filter((question) => !question.needs || facts[question.needs]);
}
