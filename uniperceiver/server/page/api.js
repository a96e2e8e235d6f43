// Lists what openapi.json describes.

import { request } from "./parts/api.js";
import { make } from "./parts/make.js";

try {
  const described = await request("/openapi.json");
  const groups = new Map();
  for (const [path, methods] of Object.entries(described.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const group = route.tags?.[0] ?? "other";
      groups.set(group, [...(groups.get(group) ?? []), { path, method, route }]);
    }
  }
  for (const [group, routes] of groups) {
    document.getElementById("routes").append(make("section", { class: "card" }, make("h2", {}, group), ...routes.map(({ path, method, route }) =>
      make("div", { class: "route" }, make("code", {}, `${method.toUpperCase()} ${path}`), make("p", { class: "soft" }, route.description ?? "")))));
  }
} catch (error) {
  const place = document.getElementById("problem");
  place.textContent = `${error.message} Open the page first, where a token can be given.`;
  place.hidden = false;
}
