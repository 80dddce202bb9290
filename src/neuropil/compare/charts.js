"use strict";
// Draws the curves of the report: nearest point under pointer, finger or arrow keys is read out, its arm stands out.
// Lines carry the name of their arm and of their entry in the legend, so that report.js shows and hides them.

const SVG = document.createElement("template");
SVG.innerHTML = "<svg></svg>";
const NAMESPACE = SVG.content.firstChild.namespaceURI;
const SIZE = { width: 320, height: 214, left: 44, right: 12, top: 26, bottom: 38 };
const reading = document.getElementById("reading");

function draw(name, attributes, ...children) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// ---- axes

function ticks([low, high], n) {
  const rough = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

function logTicks([low, high]) {
  const powers = ticks([Math.ceil(Math.log10(low)), Math.floor(Math.log10(high)) + 1e-9], 4).map((power) => 10 ** power);
  return powers.length > 1 ? powers : ticks([low, high], 4).filter((tick) => tick > 0);
}

const format = (value) => {
  const size = Math.abs(value);
  const text = size >= 1e6 || (size < 1e-3 && size > 0) ? value.toExponential() : String(Number(value.toPrecision(5)));
  return text.replace("-", "−");
};

// four digits, as many as differences between arms need
const told = (value) => format(Number(value.toPrecision(4)));

function scales(panel) {
  const { width, height, left, right, top, bottom } = SIZE;
  const up = panel.logarithmic ? Math.log : (value) => value;
  const [low, high] = panel.y.map(up);
  return {
    x: (value) => left + ((value - panel.x[0]) / (panel.x[1] - panel.x[0])) * (width - left - right),
    y: (value) => height - bottom - ((up(value) - low) / (high - low)) * (height - top - bottom),
  };
}

// ---- panels

function drawPanel(chart, panel, number) {
  const { width, height, left, right, top, bottom } = SIZE;
  const { x, y } = scales(panel);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "panel", tabindex: 0, role: "img" });
  svg.setAttribute("aria-label", `${chart.name}, ${panel.title}: arrow keys read values`);
  if (panel.arm !== null) svg.dataset.arm = panel.arm;
  svg.append(draw("text", { x: 2, y: 14, class: "title" }, panel.title));
  for (const tick of panel.logarithmic ? logTicks(panel.y) : ticks(panel.y, 4)) {
    svg.append(draw("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }));
    svg.append(draw("text", { x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, format(tick)));
  }
  for (const tick of ticks(panel.x, 5).filter(Number.isInteger)) {
    svg.append(draw("line", { x1: x(tick), x2: x(tick), y1: height - bottom, y2: height - bottom + 4, class: "axis" }));
    svg.append(draw("text", { x: x(tick), y: height - bottom + 17, "text-anchor": "middle" }, format(tick)));
  }
  svg.append(draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, "epoch"));
  svg.append(draw("path", { d: `M${left} ${top}V${height - bottom}H${width - right}`, class: "axis" }));
  const clip = `clip-${number}`;
  const inside = { x: left, y: top - 4, width: width - left - right + 4, height: height - top - bottom + 4 };
  svg.append(draw("clipPath", { id: clip }, draw("rect", inside)));
  const lines = draw("g", { "clip-path": `url(#${clip})` });
  for (const line of panel.lines) lines.append(drawLine(chart, line, x, y));
  const mark = draw("circle", { r: 4.5, class: "mark", hidden: "" });
  svg.append(lines, mark);
  listen(svg, { panel, lines, mark, x, y });
  return svg;
}

function drawLine(chart, line, x, y) {
  const look = chart.looks[line.look];
  const path = (values) => values.map((value, i) => `${x(line.x[i])} ${y(value)}`);
  const group = draw("g", { class: "line", fill: look.colour, stroke: look.colour });
  Object.assign(group.dataset, { arm: line.arm, label: look.label });
  if (look.band) {
    const outline = [...path(line.high), ...path(line.low).reverse()].join("L");
    group.append(draw("path", { d: `M${outline}Z`, "fill-opacity": look.band, stroke: "none" }));
  }
  group.append(draw("path", { d: `M${path(line.mean).join("L")}`, ...stroke(look) }));
  if (line.x.length === 1) group.append(draw("circle", { cx: x(line.x[0]), cy: y(line.mean[0]), r: 3 }));
  return group;
}

const stroke = (look) => ({
  fill: "none",
  "stroke-width": look.width,
  "stroke-dasharray": look.dashes.map((length) => length * look.width).join(" "),
});

// ---- legend

function drawLegend(chart) {
  return chart.looks.map((look) => {
    const line = draw("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: look.colour, ...stroke(look) });
    const button = html("button", { type: "button", title: "show or hide" },
      draw("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" }, line), look.label);
    button.dataset.label = look.label;
    if (look.label in data.arms) button.dataset.arm = look.label;
    button.addEventListener("click", () => {
      if (!state.hidden.delete(look.label)) state.hidden.add(look.label);
      keep();
    });
    return button;
  });
}

// ---- readings

function listen(svg, drawn) {
  const { panel, lines } = drawn;
  let at = null; // number of the line, and of the place on it
  const visible = () => panel.lines.map((_, i) => i).filter((i) => !lines.children[i].hasAttribute("hidden"));
  const read = (next) => {
    at = next;
    tell(svg, drawn, at);
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const px = ((event.clientX - box.left) / box.width) * SIZE.width;
    const py = ((event.clientY - box.top) / box.height) * SIZE.height;
    let best = null;
    for (const i of visible()) {
      const line = panel.lines[i];
      const k = nearestPlace(line, (value) => Math.abs(drawn.x(value) - px));
      const distance = Math.hypot(drawn.x(line.x[k]) - px, drawn.y(line.mean[k]) - py);
      if (best === null || distance < best.distance) best = { line: i, place: k, distance };
    }
    read(best);
  };
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") read(null); // what a finger has tapped stays
  });
  svg.addEventListener("blur", () => read(null));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
    const shown = visible();
    if (event.key === "Escape") read(null);
    if (!step || !shown.length) return;
    event.preventDefault();
    if (at === null || !shown.includes(at.line)) {
      const line = shown.at(-1);
      read({ line, place: panel.lines[line].x.length - 1 });
      return;
    }
    const line = shown[(shown.indexOf(at.line) + step[0] + shown.length) % shown.length];
    const now = panel.lines[at.line].x[at.place];
    const there = nearestPlace(panel.lines[line], (value) => Math.abs(value - now));
    read({ line, place: Math.min(Math.max(there + step[1], 0), panel.lines[line].x.length - 1) });
  });
}

function nearestPlace(line, distance) {
  let best = 0;
  line.x.forEach((value, k) => {
    if (distance(value) < distance(line.x[best])) best = k;
  });
  return best;
}

function tell(svg, { panel, mark, x, y }, at) {
  reading.hidden = at === null;
  mark.toggleAttribute("hidden", at === null);
  light(at === null ? [] : [panel.lines[at.line].arm]);
  if (at === null) return;
  const line = panel.lines[at.line];
  const [px, py] = [x(line.x[at.place]), y(line.mean[at.place])];
  mark.setAttribute("cx", px);
  mark.setAttribute("cy", py);
  const n = line.n[at.place];
  const ends = line.ends[at.place];
  const span = ([low, high]) => `${told(low)} to ${told(high)}`;
  reading.replaceChildren(
    html("b", {}, line.arm), html("span", {}, `epoch ${format(line.x[at.place])}`),
    html("span", {}, `mean ${told(line.mean[at.place])}, ${n} ${n === 1 ? "run" : "runs"}`),
    ...(ends ? [html("span", {}, `95 % t interval ${span(ends)}`)] : []),
    ...(n > 1 ? [html("span", {}, `lowest to highest ${span([line.low[at.place], line.high[at.place]])}`)] : []),
  );
  const box = svg.getBoundingClientRect();
  const scale = box.width / SIZE.width;
  const room = document.documentElement.clientWidth - reading.offsetWidth - 8;
  const above = box.top + py * scale - reading.offsetHeight - 14;
  reading.style.left = `${Math.max(8, Math.min(box.left + px * scale + 12, room)) + scrollX}px`;
  reading.style.top = `${(above > 0 ? above : box.top + py * scale + 14) + scrollY}px`;
}

// ---- each chart takes the place of its picture

let number = 0;
for (const place of document.querySelectorAll("[data-chart]")) {
  const chart = data.charts.find(({ name }) => name === place.dataset.chart);
  if (!chart) continue;
  const legend = chart.looks.length > 1 ? [html("div", { className: "legend" }, ...drawLegend(chart))] : [];
  const panels = chart.panels.map((panel) => drawPanel(chart, panel, number++));
  place.append(...legend, html("div", { className: "panels" }, ...panels));
  place.hidden = false;
  place.nextElementSibling.hidden = true;
}
begin();
