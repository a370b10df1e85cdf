"use strict";
const node = (name, text, ...children) => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};
fetch("/openapi.json").then((response) => response.json()).then((document_) => {
  const routes = Object.entries(document_.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => {
      const head = node("summary", "", node("code", `${method.toUpperCase()} ${path}`));
      head.append(` ${route.description ?? route.summary}`);
      const parameters = (route.parameters ?? []).map((parameter) =>
        node("li", `${parameter.name} (${parameter.in}${parameter.required ? ", required" : ""})`));
      const bodies = { requestBody: route.requestBody, responses: route.responses };
      const details = node("pre", JSON.stringify(bodies, null, 2));
      return node("details", "", head, node("ul", "", ...parameters), details);
    }));
  const schemas = node("pre", JSON.stringify(document_.components.schemas, null, 2));
  const models = node("details", "", node("summary", "Schemas"), schemas);
  document.getElementById("routes").replaceChildren(...routes, models);
}).catch(() => {
  document.getElementById("routes").textContent = "The routes cannot be loaded. Check your connection, then reload this page.";
});
