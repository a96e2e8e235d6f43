// Asks the server. What goes wrong is an Error whose message is a sentence for people.

const TOKEN = "uniperceiver-token";

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function askForToken() {
  const dialog = document.getElementById("token-dialog");
  if (!dialog) return Promise.resolve(false);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const token = document.getElementById("token").value.trim();
      if (token) sessionStorage.setItem(TOKEN, token);
      resolve(Boolean(token));
    }, { once: true });
    if (!dialog.open) dialog.showModal();
  });
}

export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers() });
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.status === 401) {
    sessionStorage.removeItem(TOKEN);
    if (await askForToken()) return request(path, options);
    throw new Error("This server answers only with its token.");
  }
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new Error(`The server answered something else than expected (${response.status}).`);
  }
  if (!response.ok) throw new Error(sentence(body.error ?? {}));
  const failed = (body.results ?? []).find((result) => result.error);
  if (failed) throw new Error(sentence(failed.error));
  return body;
}

function sentence({ message = "This cannot be answered", param = null }) {
  const names = { "inputs[0]": "What you gave", "file[0]": "What you gave", "input[0]": "Your text" };
  const text = param ? `${names[param] ?? param}: ${message}` : message;
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");
}
