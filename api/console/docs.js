// Shows /openapi.json to people: every route with its parameters, bodies and answers.
"use strict";

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Writes a schema as the JSON it describes, with types in the place of values.
function sketch(schema, all, indent = "", seen = []) {
  if (!schema) return "";
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return seen.includes(name) ? name : sketch(all[name], all, indent, [...seen, name]);
  }
  if (schema.anyOf) return schema.anyOf.map((one) => sketch(one, all, indent, seen)).join(" | ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return schema.prefixItems ? `[${schema.prefixItems.map((one) => sketch(one, all, indent, seen)).join(", ")}]` : `[${sketch(schema.items, all, indent, seen)}, ...]`;
  if (schema.type === "object" && schema.properties) {
    const lines = Object.entries(schema.properties).map(([name, one]) => {
      const note = one.description ? `   // ${one.description}` : "";
      return `${indent}  ${name}: ${sketch(one, all, `${indent}  `, seen)}${note}`;
    });
    return `{\n${lines.join("\n")}\n${indent}}`;
  }
  if (schema.contentMediaType) return "file";
  return schema.format ?? schema.type ?? "anything";
}

function parameters(list, all) {
  const rows = list.map((one) => element("tr", {}, element("td", {}, element("code", { textContent: one.name })),
    element("td", { textContent: one.in }), element("td", { textContent: sketch(one.schema, all) }),
    element("td", { textContent: one.description ?? "" })));
  const head = element("tr", {}, ...["Parameter", "In", "Type", ""].map((text) => element("th", { textContent: text, scope: "col" })));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}

function contents(title, content, all) {
  return Object.entries(content ?? {}).flatMap(([type, { schema }]) => [
    element("h3", { textContent: `${title} · ${type}` }), ...(schema ? [element("pre", { textContent: sketch(schema, all) })] : []),
  ]);
}

function route(path, method, operation, all) {
  const line = element("summary", {}, element("span", { className: "method", textContent: method.toUpperCase() }),
    element("code", { textContent: path }), element("span", { className: "what", textContent: operation.summary }));
  line.firstChild.dataset.method = method;
  const inside = element("div", { className: "inside" });
  if (operation.description) inside.append(element("p", { textContent: operation.description }));
  if (operation.parameters.length) inside.append(parameters(operation.parameters, all));
  inside.append(...contents("Body", operation.requestBody?.content, all));
  const answers = Object.entries(operation.responses);
  for (const [status, answer] of answers.filter(([status]) => status < "300")) inside.append(...contents(`${status} ${answer.description}`, answer.content, all));
  const errors = answers.filter(([status]) => status >= "400").map(([status, answer]) => `${status} ${answer.description}`);
  inside.append(element("h3", { textContent: "Errors" }), element("p", { textContent: errors.join(" · ") }));
  return element("details", {}, line, inside);
}

async function start() {
  const api = await (await fetch("/openapi.json")).json();
  document.getElementById("about").replaceChildren(`${api.info.description} Version ${api.info.version}. The same for programs: `, element("a", { href: "/openapi.json", textContent: "/openapi.json" }));
  const groups = Map.groupBy(
    Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation }))),
    ({ operation }) => operation.tags[0],
  );
  groups.delete("pages");
  for (const [tag, rows] of groups) {
    document.getElementById("routes").append(element("h2", { textContent: tag }), ...rows.map(({ path, method, operation }) => route(path, method, operation, api.components.schemas)));
  }
}

start();
