"use strict";
// Elements, numbers and two kinds of drawing. Text from runs goes into the page as text nodes only.

const SVG = "http://www.w3.org/2000/svg";

function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

function svg(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// ---- numbers

function short(x) {
  if (x === null || x === undefined || !isFinite(x)) return "–";
  const a = Math.abs(x);
  for (const [unit, suffix] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e4, "k"]]) {
    if (a >= unit) return trim((x / (unit === 1e4 ? 1e3 : unit)).toPrecision(3)) + suffix;
  }
  if (a >= 1000) return String(Math.round(x));
  if (a === 0) return "0";
  if (a < 1e-3) return x.toExponential(1).replace("e-", "e−").replace(".0e", "e");
  return trim(x.toPrecision(4));
}

function trim(text) {
  return text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
}

function fixed(digits) {
  return (x) => (x === null || x === undefined || !isFinite(x) ? "–" : x.toFixed(digits));
}

function percent(x) {
  if (x === null || x === undefined || !isFinite(x)) return "–";
  return (100 * x).toFixed(x !== 0 && x < 0.0995 ? 1 : 0) + "%";
}

function bytes(x) {
  if (!x) return "–";
  return x >= 1e9 ? (x / 1e9).toFixed(2) + " GB" : (x / 1e6).toFixed(0) + " MB";
}

function duration(s) {
  if (s === null || s === undefined || !isFinite(s)) return "–";
  const t = Math.round(s), h = Math.floor(t / 3600), m = Math.floor(t / 60) % 60;
  const two = (n) => String(n).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(t % 60)}` : `${m}:${two(t % 60)}`;
}

function median(values) {
  const sorted = values.filter((v) => v !== null && isFinite(v)).sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}

function last(values) {
  for (let i = (values || []).length - 1; i >= 0; --i) if (values[i] !== null) return values[i];
  return null;
}

// Exponential mean over about this share of the values, or null where that is less than two of
// them. Its start is not pulled towards zero.
function smoothed(values, share) {
  const weight = 1 - 2 / (share * values.length);
  if (weight <= 0) return null;
  let sum = 0, total = 0;
  return values.map((v) => {
    if (v === null) return null;
    sum = weight * sum + (1 - weight) * v;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

// Round numbers between two ends: 1, 2 or 5 times a power of ten apart.
function ticks(low, high, count) {
  const raw = (high - low) / count, power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) {
    out.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  }
  return out;
}

function logTicks(low, high) {
  const all = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); ++p) {
    for (const m of [1, 2, 5]) all.push(m * Math.pow(10, p));
  }
  const inside = all.filter((v) => v >= low * 0.999 && v <= high * 1.001);
  const whole = inside.filter((v) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9);
  return inside.length <= 7 ? inside : whole;
}

// ---- a line chart
// spec: title, note, series [{name, color, x, y, smooth, points}], format, xFormat, log, zero,
// bands [{from, to, name}], legend. Drawn anew when its width changes.

function lineChart(spec) {
  const plot = el("div", {class: "plot"});
  const card = el("section", {class: "card"},
    el("header", {}, el("h3", {}, spec.title), el("span", {class: "small"}, spec.note || "")),
    spec.legend ? legendOf(spec.series) : null, plot);
  let drawn = 0;
  new ResizeObserver(() => {
    if (plot.clientWidth === drawn) return;
    drawn = plot.clientWidth;
    requestAnimationFrame(() => drawLines(plot, spec));
  }).observe(plot);
  return card;
}

function legendOf(series) {
  return el("div", {class: "legend"}, ...series.map((s) =>
    el("span", {}, el("i", {style: `background:${s.color}`}), s.name)));
}

// The range of what is drawn; single spikes do not squeeze all else.
function rangeOf(spec) {
  let xs = [], ys = [];
  for (const s of spec.series) {
    const shown = s.smooth || s.y;
    shown.forEach((y, i) => {
      if (y === null || (spec.log && y <= 0)) return;
      xs.push(s.x[i]);
      ys.push(y);
    });
  }
  if (!ys.length) return null;
  ys.sort((a, b) => a - b);
  const cut = ys.length > 100 ? Math.floor(ys.length * 0.004) : 0;
  let low = ys[0], high = ys[ys.length - 1 - cut];
  if (spec.zero) low = Math.min(0, low);
  if (spec.log) {
    low /= 1.04;
    high *= 1.04;
  } else {
    const room = (high - low || Math.abs(high) || 1) * 0.05;
    low -= low === 0 && spec.zero ? 0 : room;
    high += room;
  }
  const minOf = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);
  const maxOf = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);
  return {x0: minOf(xs), x1: maxOf(xs), y0: low, y1: high};
}

function pathOf(xs, ys, toX, toY, log) {
  let path = "", pen = false;
  ys.forEach((y, i) => {
    if (y === null || (log && y <= 0)) {
      pen = false;
      return;
    }
    path += `${pen ? "L" : "M"}${toX(xs[i]).toFixed(1)} ${toY(y).toFixed(1)}`;
    pen = true;
  });
  return path;
}

let charts = 0;

function drawLines(plot, spec) {
  plot.replaceChildren();
  const width = Math.max(220, plot.clientWidth), height = spec.height || 210;
  const range = rangeOf(spec);
  if (!range) {
    plot.append(el("p", {class: "small"}, "nothing to show"));
    return;
  }
  const format = spec.format || short, xFormat = spec.xFormat || short;
  const yTicks = spec.log ? logTicks(range.y0, range.y1) : ticks(range.y0, range.y1, 5);
  const widest = Math.max(...yTicks.map((t) => format(t).length), 3);
  const left = Math.min(66, 11 + 6.8 * widest);
  const box = {left, right: width - 10, top: 8, bottom: height - 22};
  const span = range.x1 - range.x0 || 1;
  const toX = (x) => box.left + ((x - range.x0) / span) * (box.right - box.left);
  const shape = spec.log ? Math.log : (y) => y;
  const toY = (y) => box.bottom -
    ((shape(y) - shape(range.y0)) / (shape(range.y1) - shape(range.y0))) * (box.bottom - box.top);

  const clip = `clip${++charts}`;
  const viewBox = `0 0 ${width} ${height}`;
  const root = svg("svg", {viewBox, role: "img", "aria-label": spec.title},
    svg("clipPath", {id: clip}, svg("rect", {x: box.left, y: box.top - 3,
      width: box.right - box.left + 4, height: box.bottom - box.top + 6})));
  drawBands(root, spec.bands || [], range, toX, box);
  for (const t of yTicks) {
    const y = toY(t);
    if (y < box.top - 1 || y > box.bottom + 1) continue;
    root.append(svg("line", {class: "grid-line", x1: box.left, x2: box.right, y1: y, y2: y}),
      svg("text", {x: box.left - 6, y: y + 3.5, "text-anchor": "end"}, format(t)));
  }
  root.append(svg("line",
    {class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom}));
  const xTicks = spec.xTicks ? spec.xTicks(range.x0, range.x1, Math.max(2, Math.floor(width / 90)))
    : ticks(range.x0, range.x1, Math.max(2, Math.floor(width / 90)));
  for (const t of xTicks) {
    const x = toX(t);
    const anchor = x > box.right - 14 ? "end" : x < box.left + 8 ? "start" : "middle";
    root.append(svg("text", {x, y: height - 6, "text-anchor": anchor}, xFormat(t)));
  }
  const lines = svg("g", {"clip-path": `url(#${clip})`});
  for (const s of spec.series) {
    if (s.smooth) lines.append(svg("path", {class: "raw", style: `stroke:${s.color}`,
      d: pathOf(s.x, s.y, toX, toY, spec.log)}));
  }
  for (const s of spec.series) {
    lines.append(svg("path", {class: "curve", style: `stroke:${s.color}`,
      d: pathOf(s.x, s.smooth || s.y, toX, toY, spec.log)}));
    if (!s.points) continue;
    s.y.forEach((y, i) => y === null || lines.append(svg("circle",
      {cx: toX(s.x[i]), cy: toY(y), r: s.y.length > 40 ? 1.6 : 2.8, style: `fill:${s.color}`})));
  }
  root.append(lines);
  plot.append(root);
  follow(plot, root, spec, {box, toX, toY, range, span, width, format, xFormat});
}

function drawBands(root, bands, range, toX, box) {
  bands.forEach((band, i) => {
    const from = toX(Math.max(band.from, range.x0)), to = toX(Math.min(band.to, range.x1));
    if (i % 2 === 0) root.append(svg("rect", {class: "band", x: from, y: box.top,
      width: Math.max(0, to - from), height: box.bottom - box.top}));
    if (to - from > 7 * band.name.length) root.append(svg("text",
      {class: "band-name", x: (from + to) / 2, y: box.bottom - 7, "text-anchor": "middle"},
      band.name));
  });
}

// What stands under the pointer.
function follow(plot, root, spec, at) {
  const cursor = svg("line",
    {class: "cursor", y1: at.box.top, y2: at.box.bottom, visibility: "hidden"});
  const marks = svg("g", {});
  root.append(cursor, marks);
  const tip = el("div", {class: "tip", hidden: ""});
  plot.append(tip);
  const hide = () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
    marks.replaceChildren();
  };
  const show = (event) => {
    const bounds = root.getBoundingClientRect();
    const scale = at.width / bounds.width, px = (event.clientX - bounds.left) * scale;
    if (px < at.box.left - 6 || px > at.box.right + 6) return hide();
    const x = at.range.x0 + ((px - at.box.left) / (at.box.right - at.box.left)) * at.span;
    const found = spec.series.map((s) => nearest(s, x)).filter((f) => f !== null);
    if (!found.length) return hide();
    const close = found.reduce((a, b) => (Math.abs(a.x - x) <= Math.abs(b.x - x) ? a : b));
    marks.replaceChildren(...found.map((f) => svg("circle",
      {cx: at.toX(f.x), cy: at.toY(f.y), r: 3.5, style: `fill:${f.series.color}`})));
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("x1", at.toX(close.x));
    cursor.setAttribute("x2", at.toX(close.x));
    tip.replaceChildren(el("div", {class: "small"}, `${spec.xName || ""} ${at.xFormat(close.x)}`),
      ...found.slice(0, 14).map((f) => el("div", {class: "row"},
        el("span", {class: "dot", style: `color:${f.series.color};background:${f.series.color}`}),
        el("span", {class: "name"}, f.series.name), el("b", {}, at.format(f.y)))));
    tip.hidden = false;
    const left = at.toX(close.x) / scale, half = bounds.width / 2;
    tip.style.left = left < half ? `${left + 12}px` : "auto";
    tip.style.right = left < half ? "auto" : `${bounds.width - left + 12}px`;
    tip.style.top = "6px";
  };
  root.addEventListener("pointermove", show);
  root.addEventListener("pointerdown", show);
  root.addEventListener("pointerleave", hide);
}

function nearest(series, x) {
  const shown = series.smooth || series.y;
  let best = null;
  for (let i = 0; i < shown.length; ++i) {
    if (shown[i] === null) continue;
    const away = Math.abs(series.x[i] - x);
    if (best === null || away < best.away) best = {away, x: series.x[i], y: shown[i], series};
  }
  return best;
}

// ---- a heat map: columns over time, a row each expert

function colorsOf(names) {
  const style = getComputedStyle(document.documentElement);
  return names.map((n) => style.getPropertyValue(n).match(/[0-9a-f]{2}/gi)
    .map((h) => parseInt(h, 16)));
}

// ratio 1 is even; 1/4 and 4 are the ends.
function heatColor(ratio, [cold, even, hot]) {
  const t = Math.max(-1, Math.min(1, Math.log2(Math.max(ratio, 1e-6)) / 2));
  const end = t < 0 ? cold : hot, weight = Math.pow(Math.abs(t), 0.8);
  return even.map((v, i) => Math.round(v + (end[i] - v) * weight));
}

function heatMap(spec) {
  const columns = spec.load.length;
  const experts = Math.max(1, ...spec.load.map((c) => c.length));
  const canvas = el("canvas", {role: "img", "aria-label": spec.title});
  canvas.width = columns;
  canvas.height = experts;
  canvas.style.height = `${Math.max(72, Math.min(experts * 6, 420))}px`;
  const plot = el("div", {class: "plot"}, canvas);
  const draw = () => {
    const colors = colorsOf(["--cold", "--even", "--hot"]);
    const context = canvas.getContext("2d"), image = context.createImageData(columns, experts);
    spec.load.forEach((counts, c) => {
      const mean = counts.reduce((a, b) => a + b, 0) / counts.length || 1;
      for (let e = 0; e < experts; ++e) {
        const at = 4 * (e * columns + c);
        if (e >= counts.length) continue;
        image.data.set([...heatColor(counts[e] / mean, colors), 255], at);
      }
    });
    context.putImageData(image, 0, 0);
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const tip = el("div", {class: "tip", hidden: ""});
  plot.append(tip);
  const show = (event) => {
    const bounds = canvas.getBoundingClientRect();
    const c = Math.floor(((event.clientX - bounds.left) / bounds.width) * columns);
    const e = Math.floor(((event.clientY - bounds.top) / bounds.height) * experts);
    const counts = spec.load[c];
    if (!counts || e < 0 || e >= counts.length) return;
    const mean = counts.reduce((a, b) => a + b, 0) / counts.length || 1;
    tip.replaceChildren(el("div", {class: "small"}, `step ${spec.steps[c]}, expert ${e}`),
      el("div", {}, `${(counts[e] / mean).toFixed(2)} × the mean load`));
    tip.hidden = false;
    const left = event.clientX - bounds.left, half = bounds.width / 2;
    tip.style.left = left < half ? `${left + 14}px` : "auto";
    tip.style.right = left < half ? "auto" : `${bounds.width - left + 14}px`;
    tip.style.top = `${Math.max(0, event.clientY - bounds.top - 20)}px`;
  };
  canvas.addEventListener("pointermove", show);
  canvas.addEventListener("pointerdown", show);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  return el("section", {class: "card heat"},
    el("header", {}, el("h3", {}, spec.title), el("span", {class: "small"}, spec.note || "")), plot,
    el("div", {class: "ends"}, el("span", {}, `step ${spec.steps[0]}`),
      el("span", {}, `${experts} experts, one a row`), el("span", {}, String(last(spec.steps)))));
}
