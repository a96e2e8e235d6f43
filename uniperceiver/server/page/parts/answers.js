// Shows answers: bars, a caption, cosines, things in boxes, experts.

import { TONES, draw, make, percent } from "./make.js";

const SHOWN = 20; // rows of bars

// A row may have `more`: a small number beside the first.
function bars(rows, share, number) {
  const body = make("tbody", {}, ...rows.slice(0, SHOWN).map((row) => make("tr", {},
    make("th", { scope: "row" }, row.name),
    make("td", {}, make("span", { class: "track" }, make("span", { class: "bar", "--share": Math.max(0, share(row.value)) }))),
    make("td", { class: "number" }, number(row.value)), ...(row.more ? [make("td", { class: "number soft small" }, row.more)] : []))));
  const more = rows.length > SHOWN ? make("p", { class: "soft small" }, `and ${rows.length - SHOWN} more`) : null;
  return [make("table", { class: "bars" }, body), more].filter(Boolean);
}

export function classified(result) {
  const rows = result.scores.map(({ label, probability, cosine }) => ({ name: label, value: probability, more: `cosine ${cosine.toFixed(3)}` }));
  return [
    make("p", { class: "verdict" }, `${rows[0].name}: ${percent(rows[0].value)}`),
    ...bars(rows, (value) => value, percent),
    make("p", { class: "soft small note" }, `The shares add up to 1 among these ${rows.length}: if none of them fits, one is the likeliest all the same. They are the softmax of cosine / ${result.temperature.toPrecision(2)}.`),
  ];
}

export function captioned(result) {
  return [make("p", { class: "verdict" }, result.caption || "(no word)")];
}

export function ranked(result) {
  const rows = result.scores.map(({ text, cosine }) => ({ name: text, value: cosine }));
  return [
    make("p", { class: "verdict" }, `nearest: ${rows[0].name}`),
    ...bars(rows, (value) => (value + 1) / 2, (value) => value.toFixed(3)),
    make("p", { class: "soft small note" }, "Cosines, from -1 to 1; a bar of full length is 1. They do not depend on the other texts."),
  ];
}

// COCO's run lengths as the path of a mask: differences of runs in 5 bits and a sign, column after column.
export function maskPath({ size: [height], counts }) {
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let value = 0;
    let shift = 0;
    for (let more = true; more; shift += 5) {
      const code = counts.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      more = Boolean(code & 32);
      if (!more && code & 16) value |= -1 << (shift + 5);
    }
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  const parts = [];
  let start = 0;
  runs.forEach((length, place) => {
    for (let at = start; place % 2 && at < start + length;) { // every second run is of the thing, and may go over columns
      const rows = Math.min(height - (at % height), start + length - at);
      parts.push(`M${Math.floor(at / height)} ${at % height}h1v${rows}h-1z`);
      at += rows;
    }
    start += length;
  });
  return parts.join("");
}

export function located(result, input) {
  const names = [...new Set(result.detections.map((thing) => thing.label))];
  const tone = (label) => TONES[names.indexOf(label) % TONES.length];
  const found = result.detections.length;
  const frame = draw("svg", { viewBox: `0 0 ${result.width} ${result.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...result.detections.filter((thing) => thing.segmentation).map(({ segmentation, label }) =>
      draw("path", { class: "mask", d: maskPath(segmentation), fill: tone(label) })),
    ...result.detections.map(({ box: [x0, y0, x1, y1], label }) =>
      draw("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, stroke: tone(label) })));
  const rows = result.detections.map(({ label, score, box }) => make("tr", {},
    make("th", { scope: "row" }, make("span", { class: "dot", "--dot": tone(label) }), label),
    make("td", { class: "number" }, percent(score)),
    make("td", { class: "number" }, box.map((side) => Math.round(side)).join(", "))));
  const head = make("tr", {}, make("th", { scope: "col" }, "thing"), make("th", { scope: "col", class: "number" }, "score"), make("th", { scope: "col", class: "number" }, "left, top, right, bottom"));
  return [
    make("p", { class: "verdict" }, found === 0 ? "nothing that is sure enough" : found === 1 ? "1 thing" : `${found} things`),
    make("div", { class: "boxes" }, input.picture("the picture with boxes around the things listed below"), frame),
    found ? make("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": "all things" }, make("table", { class: "things" }, make("thead", {}, head), make("tbody", {}, ...rows))) : null,
  ].filter(Boolean);
}

export function inside(result, input) {
  const { gates } = result;
  const experts = gates[0]?.shares.length ?? 0;
  const name = (gate) => `layer ${gate.layer + 1}, ${gate.part === "ffn" ? "feed-forward" : gate.part}${gate.gate ? `, gate ${gate.gate + 1}` : ""}`;
  const head = make("tr", {}, make("th", { scope: "col" }, "gate"),
    ...Array.from({ length: experts }, (_, expert) => make("th", { scope: "col" }, `${expert + 1}`)), make("th", { scope: "col" }, "sure"));
  const rows = gates.map((gate) => make("tr", {}, make("th", { scope: "row" }, name(gate)),
    ...gate.shares.map((share) => make("td", { "--share": share }, percent(share))),
    make("td", { "--share": 0 }, percent(gate.confidence))));
  const table = make("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": "shares of the experts" },
    make("table", { class: "heat" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  const parts = [
    make("p", { class: "verdict" }, `${experts} experts, ${gates.length} gates`),
    table,
    make("p", { class: "soft small note" }, "How much of what the tokens got came from each expert; sure: the mean probability of a gate's first choice."),
  ];
  if (input.file && !input.isClip && !input.isSound) parts.push(...patches(gates, input, name));
  return parts;
}

// The expert of each patch over the square that the model sees.
function patches(gates, input, name) {
  const side = (gate) => Math.sqrt(gate.visual - 1); // the first token is no patch
  const squares = gates.filter((gate) => gate.visual > 1 && Number.isInteger(side(gate)));
  if (!squares.length) return [];
  const choice = make("select", { id: "gate" }, ...squares.map((gate, place) => make("option", { value: place }, name(gate))));
  const seen = make("div", { class: "seen" }, input.picture("the square that the model sees, its patches coloured by expert"));
  const key = make("ul", { class: "key" });
  const show = () => {
    const gate = squares[Number(choice.value)];
    const count = side(gate);
    const tokens = gate.tokens.slice(1, gate.visual);
    seen.querySelector("svg")?.remove();
    seen.append(draw("svg", { viewBox: `0 0 ${count} ${count}`, "aria-hidden": "true" }, ...tokens.map((expert, place) =>
      draw("rect", { class: "patch", x: place % count, y: Math.floor(place / count), width: 1, height: 1, fill: TONES[expert % TONES.length] }))));
    const counts = new Map();
    for (const expert of tokens) counts.set(expert, (counts.get(expert) ?? 0) + 1);
    key.replaceChildren(...[...counts].sort((a, b) => b[1] - a[1]).map(([expert, number]) =>
      make("li", {}, make("span", { class: "dot", "--dot": TONES[expert % TONES.length] }), `expert ${expert + 1}: ${number} of ${tokens.length} patches`)));
  };
  choice.addEventListener("change", show);
  show();
  return [make("label", { for: "gate" }, "The first expert of each patch"), choice, seen, key];
}
