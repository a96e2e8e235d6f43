// Makes elements; texts are always texts, never HTML.

const SVG = "http://www.w3.org/2000/svg";
export const TONES = ["#3186e9", "#fca000", "#0cd6ac", "#b95a93", "#e7e64b", "#9eedfc", "#a5a0ed", "#e66639"];

export function make(name, values = {}, ...children) {
  return fill(document.createElement(name), values, children);
}

export function draw(name, values = {}, ...children) {
  return fill(document.createElementNS(SVG, name), values, children);
}

function fill(element, values, children) {
  for (const [key, value] of Object.entries(values)) {
    if (key.startsWith("--")) element.style.setProperty(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.0995 || share === 0 ? 0 : 1)} %`;
