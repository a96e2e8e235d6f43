// What is asked about: a file that is dropped, pasted or chosen, or a text.

import { make } from "./make.js";

export class Input {
  constructor(limits, problem, changed) {
    this.file = null;
    this.url = null;
    this.limits = limits;
    this.problem = problem;
    this.changed = changed;
    this.drop = document.getElementById("drop");
    this.chooser = document.getElementById("file");
    this.text = document.getElementById("text");
    this.listen();
  }

  listen() {
    this.chooser.addEventListener("change", () => this.take(this.chooser.files[0]));
    document.getElementById("clear").addEventListener("click", () => { this.take(null); this.chooser.focus(); });
    this.text.addEventListener("input", () => this.changed());
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])][0];
      if (file) this.take(file);
    });
    for (const name of ["dragenter", "dragover"]) {
      this.drop.addEventListener(name, (event) => { event.preventDefault(); this.drop.classList.add("over"); });
    }
    for (const name of ["dragleave", "drop"]) {
      this.drop.addEventListener(name, (event) => { event.preventDefault(); this.drop.classList.remove("over"); });
    }
    this.drop.addEventListener("drop", (event) => this.take(event.dataTransfer.files[0]));
  }

  take(file) {
    if (file && file.size > this.limits.body_bytes - 10_000) {
      this.problem(`${file.name} has ${Math.ceil(file.size / 2 ** 20)} MiB; this server takes up to ${Math.floor(this.limits.body_bytes / 2 ** 20)}.`);
      return;
    }
    if (this.url) URL.revokeObjectURL(this.url);
    this.file = file ?? null;
    this.url = file ? URL.createObjectURL(file) : null;
    if (!file) this.chooser.value = "";
    const shown = document.getElementById("shown");
    shown.replaceChildren(...(file ? [this.picture("what you chose")] : []));
    shown.hidden = !file;
    document.getElementById("clear").hidden = !file;
    document.getElementById("drop-hint").hidden = Boolean(file);
    document.getElementById("file-name").textContent = file ? `${file.name}, ${size(file.size)}` : "";
    document.getElementById("text-label").textContent = file ? "A text beside it, for tasks that read both" : "A text instead";
    this.changed();
  }

  get isClip() {
    return Boolean(this.file?.type.startsWith("video/"));
  }

  // Some systems have no type for some files of sounds.
  get isSound() {
    return Boolean(this.file && (this.file.type.startsWith("audio/") || /\.(wav|flac|og[ga]|opus|mp3|m4a|aac|aiff?)$/i.test(this.file.name)));
  }

  picture(text) {
    if (this.isSound) return make("audio", { src: this.url, controls: true, "aria-label": text });
    return this.isClip
      ? make("video", { src: this.url, controls: true, muted: true, "aria-label": text })
      : make("img", { src: this.url, alt: text });
  }

  // The form that is sent; null, with a sentence, where there is nothing to ask about.
  form(readsBoth) {
    const form = new FormData();
    const text = this.text.value.trim();
    if (this.file) form.append("file", this.file, "file");
    else if (text) form.append("input", text);
    else return null;
    if (this.file && text && readsBoth) form.append("text", text);
    return form;
  }
}

function size(bytes) {
  return bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
