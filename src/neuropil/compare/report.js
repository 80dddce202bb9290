"use strict";
// Filters, sorting and highlights of the report. Text of recipes and runs is only ever set as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const form = document.getElementById("filters");
const tables = [...document.querySelectorAll("table.results")];
const homes = tables.map((table) =>
  [...table.tBodies].map((body) => ({ body, rows: [...body.rows].filter((row) => !row.matches(".group")) })));

// What the reader has chosen. It is kept in the fragment of the address, so that a link keeps it:
// #section&arms=…&controls=…&runs=…&candidates=…&apart=no&hidden=label|label&sort=table.column.direction,…
const state = {};
const FIELDS = ["arms", "controls", "runs", "candidates"];

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  state.at = [...given].find(([key, value]) => !value && document.getElementById(key))?.[0] ?? "";
  for (const key of [...FIELDS, "apart"]) state[key] = given.get(key) ?? "";
  state.hidden = new Set((given.get("hidden") ?? "").split("|").filter(Boolean));
  state.sort = new Map();
  for (const [table, column, direction] of (given.get("sort") ?? "").split(",").map((part) => part.split("."))) {
    if (tables[table]?.tHead.rows[0].cells[column] && ["ascending", "descending"].includes(direction)) {
      state.sort.set(Number(table), { column: Number(column), direction });
    }
  }
  for (const name of FIELDS) {
    const field = form.elements[name];
    if (!field) continue;
    field.value = state[name];
    if (field.value !== state[name]) field.value = state[name] = ""; // none of its options
  }
  if (form.elements.apart) form.elements.apart.checked = state.apart !== "no";
}

function fragment() {
  const given = new URLSearchParams();
  for (const key of [...FIELDS, "apart"]) if (state[key]) given.set(key, state[key]);
  if (state.hidden.size) given.set("hidden", [...state.hidden].join("|"));
  if (state.sort.size) {
    given.set("sort", [...state.sort].map(([i, { column, direction }]) => `${i}.${column}.${direction}`).join());
  }
  return "#" + [state.at, given.toString()].filter(Boolean).join("&");
}

function keep() {
  history.replaceState(null, "", fragment());
  show();
}

// ---- filters: everything that names arms in data-arm is shown if one of them is

function isShown(arm) {
  const known = data.arms[arm] ?? { control: false, done: true, chosen: true };
  if (state.runs && known.done !== (state.runs === "done")) return false;
  if (state.candidates && !known.chosen) return false;
  if (known.control && state.controls) return state.controls === "always";
  const wanted = state.arms.toLowerCase().split(/[\s,]+/).filter(Boolean);
  return !wanted.length || wanted.some((part) => arm.includes(part));
}

const armsOf = (element) => element.dataset.arm.split(", ");

function show() {
  tables.forEach((table, i) => sortTable(table, homes[i], state.sort.get(i)));
  for (const element of document.querySelectorAll("[data-arm]")) {
    const isOff = element.matches(".line") && state.hidden.has(element.dataset.label);
    element.toggleAttribute("hidden", isOff || !armsOf(element).some(isShown));
  }
  for (const button of document.querySelectorAll("button[data-label]")) {
    button.setAttribute("aria-pressed", !state.hidden.has(button.dataset.label));
  }
  for (const group of document.querySelectorAll("tr.group")) {
    const rows = [...group.parentElement.rows].filter((row) => row !== group);
    group.hidden = group.dataset.mixed === "yes" || rows.every((row) => row.hidden);
  }
  const names = Object.keys(data.arms);
  const n = names.filter(isShown).length;
  form.querySelector("output").value =
    n === names.length ? "" : `${n} of ${names.length} arms shown; pictures of all arms together stay whole.`;
}

form.addEventListener("input", () => {
  for (const name of FIELDS) state[name] = form.elements[name]?.value.trim() ?? "";
  state.apart = form.elements.apart?.checked === false ? "no" : "";
  keep();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => {
  for (const key of [...FIELDS, "apart"]) state[key] = "";
  state.hidden.clear();
  state.sort.clear();
  keep();
});

// ---- sorting

// the first line of a cell counts: "97.53 ± 0.12" as 97.53, "1,234" as 1234, "−0.3" as -0.3, "–" as nothing known
function valueOf(row, column) {
  const text = row.cells[column].firstChild?.textContent.trim() ?? "";
  const number = /^[+−-]?\d[\d,]*(\.\d+)?(?![\w.])/.exec(text)?.[0];
  return { text, number: number === undefined ? NaN : Number(number.replaceAll(",", "").replace("−", "-")) };
}

function sorted(rows, { column, direction }) {
  const values = new Map(rows.map((row) => [row, valueOf(row, column)]));
  const known = rows.filter((row) => values.get(row).text !== "–");
  const numeric = column > 0 && known.every((row) => !Number.isNaN(values.get(row).number));
  const compare = numeric
    ? (a, b) => values.get(a).number - values.get(b).number
    : (a, b) => values.get(a).text.localeCompare(values.get(b).text, "en", { numeric: true });
  known.sort((a, b) => (direction === "ascending" ? compare(a, b) : compare(b, a))); // sort is stable
  return [...known, ...rows.filter((row) => !known.includes(row))];
}

function sortTable(table, home, sort) {
  const mixed = sort !== undefined && state.apart === "no";
  const groups = mixed ? [{ body: home.at(-1).body, rows: home.flatMap(({ rows }) => rows) }] : home;
  for (const { body, rows } of groups) body.append(...(sort ? sorted(rows, sort) : rows));
  for (const { body } of home) if (body.rows[0]?.matches(".group")) body.rows[0].dataset.mixed = mixed ? "yes" : "no";
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (sort?.column === column) head.setAttribute("aria-sort", sort.direction);
    else head.removeAttribute("aria-sort");
  });
}

function makeSortable(table, i) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "sort: ascending, descending, as it was";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = state.sort.get(i)?.column === column ? state.sort.get(i).direction : undefined;
      const next = { undefined: "ascending", ascending: "descending" }[now];
      if (next) state.sort.set(i, { column, direction: next });
      else state.sort.delete(i);
      keep();
    });
  });
}

// ---- highlights: an arm under the pointer stands out wherever it is

function light(arms) {
  document.body.classList.toggle("lighting", arms.length > 0);
  for (const element of document.querySelectorAll("[data-arm]")) {
    element.classList.toggle("lit", armsOf(element).some((arm) => arms.includes(arm)));
  }
}

document.querySelector("main").addEventListener("pointerover", (event) => {
  if (event.target.closest(".panel")) return; // there, the nearest curve counts
  const named = event.target.closest("[data-arm]");
  light(named ? armsOf(named) : []);
});

// ---- contents, and the beginning

function goTo(id) {
  if (id) document.getElementById(id).scrollIntoView();
}

document.querySelector("nav").addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  state.at = link.hash.slice(1);
  history.pushState(null, "", fragment());
  goTo(state.at);
});

function begin() {
  readState();
  show();
  goTo(state.at);
}

tables.forEach(makeSortable);
const folded = matchMedia("(max-width: 50rem)"); // on a phone, filters stay out of the way until they are asked for
const fold = () => (form.parentElement.open = !folded.matches);
folded.addEventListener("change", fold);
fold();
form.parentElement.hidden = false;
addEventListener("popstate", begin); // also when the reader edits the fragment
