// The parts of the page. `view` is what the reader has chosen: {smooth, axis, log, hidden, run,
// sample}.

const AXES = {
  step: {name: "step", label: "steps", format: short},
  tokens: {name: "tokens", label: "tokens", format: short},
  elapsed: {name: "time", label: "time", format: duration},
};

// Round times: ticks in seconds, minutes or hours.
function timeTicks(low, high, count) {
  const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800,
    86400];
  const step = steps.find((s) => s >= (high - low) / count) || 86400;
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) out.push(v);
  return out;
}

function column(run, name) {
  return run.steps[name] || [];
}

function hasNumbers(values) {
  return (values || []).some((v) => v !== null && v !== 0);
}

// Steps of a coarser list on the chosen axis.
function along(run, steps, axis) {
  if (axis === "step") return steps;
  const from = column(run, "step"), to = column(run, axis);
  let i = 0;
  return steps.map((s) => {
    while (i + 1 < from.length && from[i] < s) ++i;
    return to.length ? to[i] : s;
  });
}

function axisOf(view) {
  const axis = AXES[view.axis];
  const xTicks = view.axis === "elapsed" ? timeTicks : null;
  return {xName: axis.name, xFormat: axis.format, xTicks};
}

function shownRuns(data, view) {
  return data.runs.filter((r) => !view.hidden.has(r.index));
}

// One curve a run, of a column of its steps.
function stepSeries(data, view, name, smooth) {
  return shownRuns(data, view).filter((r) => hasNumbers(column(r, name))).map((r) => {
    const y = column(r, name);
    return {name: r.name, color: r.color, x: column(r, view.axis), y,
            smooth: smooth ? smoothed(y, view.smooth) : null};
  });
}

function evaluationSeries(data, view, name) {
  return shownRuns(data, view).filter((r) => hasNumbers(r.evaluations[name])).map((r) => ({
    name: r.name, color: r.color, y: r.evaluations[name], points: true,
    x: r.evaluations[view.axis] || r.evaluations.step}));
}

function chartIf(series, view, spec) {
  return series.length ? lineChart({...axisOf(view), ...spec, series}) : null;
}

function section(title, note, ...content) {
  const parts = content.filter((c) => c !== null);
  return parts.length ? el("section", {}, el("h2", {}, title),
    note ? el("p", {class: "note"}, note) : null, ...parts) : null;
}

function grid(...charts) {
  const there = charts.filter((c) => c !== null);
  return there.length ? el("div", {class: "grid"}, ...there) : null;
}

// ---- the figures of each run

const FIGURES = [
  ["held-out bits per byte", (r) => last(r.evaluations.bits_per_byte), fixed(4), Math.min],
  ["training loss", (r) => tail(column(r, "loss")), fixed(4), Math.min],
  ["held-out MaxVio", (r) => last(r.evaluations.max_vio), fixed(2), Math.min],
  ["MTP agreement", (r) => last(r.evaluations.acceptance), percent, Math.max],
  ["parameters", (r) => r.facts.parameters, short, null],
  ["active", (r) => r.facts.active_parameters, short, null],
  ["tokens", (r) => last(column(r, "tokens")), short, null],
  ["steps", (r) => last(column(r, "step")), short, null],
  ["tokens/s", (r) => median(column(r, "tokens_per_s")), short, Math.max],
  ["share of peak", (r) => median(column(r, "share_of_peak")) || null, percent, Math.max],
  ["time", (r) => last(column(r, "elapsed")), duration, null],
  ["peak memory", (r) => last(column(r, "peak_bytes")), bytes, Math.min],
  ["KV bytes per token", (r) => r.facts.kv_bytes_per_token, short, null],
  ["steps left out", (r) => r.not_applied || null, short, null],
];

function tail(values) {
  const part = values.slice(-Math.max(1, Math.round(values.length / 20))).filter((v) => v !== null);
  return part.length ? part.reduce((a, b) => a + b, 0) / part.length : null;
}

function summaryPanel(data) {
  const rows = FIGURES.map(([name, get, format, better]) => ({name, format, better,
    values: data.runs.map((r) => get(r) ?? null)})).filter((f) => hasNumbers(f.values));
  if (data.runs.length === 1) {
    return el("div", {class: "tiles", style: "margin-top:18px"}, ...rows.map((f) =>
      el("div", {class: "tile"}, el("b", {}, f.format(f.values[0])),
        el("span", {class: "what"}, f.name))));
  }
  const best = rows.map((f) => {
    const there = f.values.filter((v) => v !== null).map((v) => f.format(v) && v);
    return f.better && there.length > 1 ? f.format(f.better(...there)) : null;
  });
  const unlike = rows.map((f) => new Set(f.values.map(f.format)).size > 1);
  return el("div", {class: "wide cards", style: "margin-top:18px"}, el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, "run"), ...rows.map((f) => el("th", {}, f.name)))),
    el("tbody", {}, ...data.runs.map((r, i) => el("tr", {}, el("th", {}, runName(r)),
      ...rows.map((f, j) => {
        const text = f.format(f.values[i]);
        return el("td", {"data-label": f.name,
          class: !unlike[j] ? "same" : text === best[j] ? "best" : null}, text);
      }))))));
}

function runName(run) {
  return el("span", {class: "run-name"},
    el("span", {class: "dot", style: `color:${run.color};background:${run.color}`}), run.name);
}

// ---- curves

function learningPanel(data, view) {
  const of = (name, title, spec) => chartIf(stepSeries(data, view, name, true), view,
    {title, log: view.log, ...spec});
  return section("Learning", null, grid(
    of("loss", "Training loss", {note: "nats per token"}),
    chartIf(evaluationSeries(data, view, "bits_per_byte"), view,
      {title: "Held-out text", note: "bits per byte", log: view.log}),
    of("mtp_loss", "MTP loss", {note: "nats per token, mean of the modules"}),
    chartIf(evaluationSeries(data, view, "acceptance"), view,
      {title: "MTP agreement on held-out text", note: "share of tokens", format: percent}),
    of("gradient_norm", "Gradient norm", {note: "L2, before clipping"})));
}

// Where a schedule rises, rests and falls.
function phasesOf(xs, ys) {
  const names = {1: "warm-up", 0: "constant", "-1": "decay"};
  const bands = [];
  for (let i = 0; i + 1 < ys.length; ++i) {
    const change = ys[i + 1] - ys[i];
    const sign = Math.abs(change) <= 1e-4 * Math.abs(ys[i]) ? 0 : Math.sign(change);
    const open = bands[bands.length - 1];
    if (open && open.sign === sign) open.to = xs[i + 1];
    else bands.push({from: xs[i], to: xs[i + 1], sign, name: names[sign]});
  }
  // A cosine begins so slowly that it looks constant for a few steps; such slivers join the next.
  const width = (xs[xs.length - 1] - xs[0]) * 0.015;
  const wide = bands.filter((b) => b.to - b.from >= width);
  for (let i = 0; i < wide.length; ++i) if (i > 0) wide[i].from = wide[i - 1].to;
  const joined = [];
  for (const b of wide) {
    const before = joined[joined.length - 1];
    if (before && before.sign === b.sign) before.to = b.to;
    else joined.push(b);
  }
  return joined.length <= 8 ? joined : [];
}

function schedulePanel(data, view) {
  const shown = shownRuns(data, view);
  const bands = (name) => {
    const first = shown.find((r) => hasNumbers(column(r, name)));
    const same = first && shown.every((r) => !hasNumbers(column(r, name)) ||
      JSON.stringify(column(r, name)) === JSON.stringify(column(first, name)));
    return same ? phasesOf(column(first, view.axis), column(first, name)) : [];
  };
  const of = (name, title, note) => chartIf(stepSeries(data, view, name, false), view,
    {title, note, zero: true, bands: bands(name)});
  const moves = (name) => shown.some((r) => new Set(column(r, name)).size > 1);
  return section("Schedules", null, grid(
    of("lr", "Learning rate", shown.length > 1 ? "phases where the runs agree" : "and its phases"),
    of("gamma", "Bias speed γ", "balancing without auxiliary loss"),
    moves("sequence_alpha")
      ? of("sequence_alpha", "Sequence loss α", "balance within a sequence") : null,
    moves("mtp_lambda") ? of("mtp_lambda", "MTP weight λ", "") : null));
}

function speedPanel(data, view) {
  const of = (name, title, note, format) => chartIf(stepSeries(data, view, name, false), view,
    {title, note, format, zero: true});
  return section("Speed and memory", null, grid(
    of("tokens_per_s", "Tokens per second", "recent mean", short),
    of("share_of_peak", "Share of the machine's peak", "model operations, measured roof", percent),
    of("resident_bytes", "Memory of the process", "resident", bytes)));
}

// ---- layers and experts

function layerName(run, layer) {
  const layers = run.recipe["model.num_hidden_layers"];
  if (layer < 0) return "embedding and head";
  return layers !== undefined && layer >= layers ? `MTP ${layer - layers + 1}` : `layer ${layer}`;
}

function runSelect(data, view, redraw) {
  if (data.runs.length < 2) return null;
  const select = el("select", {"aria-label": "run", onchange: (e) => {
    view.run = Number(e.target.value);
    redraw();
  }}, ...data.runs.map((r) => el("option", {value: r.index}, r.name)));
  select.value = view.run;
  return el("label", {class: "control"}, "run", select);
}

// From the first layer to the last, from one colour to another.
function rampColor(i, n) {
  const t = n < 2 ? 0 : i / (n - 1);
  return `color-mix(in oklch, var(--s5) ${Math.round(100 * (1 - t))}%, var(--s3))`;
}

function layersPanel(data, view, redraw) {
  const run = data.runs[view.run], by = run.by_layer;
  if (!by.step.length) return null;
  const x = along(run, by.step, view.axis);
  const chart = (key, title, note, scale, format) => {
    const of = by.layers.filter((l) => hasNumbers(l[key]));
    const series = of.map((l, i) => {
      const y = l[key].map((v) => (v === null ? null : v * (scale ? scale(l) : 1)));
      return {name: layerName(run, l.layer), color: rampColor(i, of.length), x, y,
              smooth: smoothed(y, view.smooth)};
    });
    return chartIf(series, view, {title, note, format, legend: series.length <= 12,
      zero: key === "max_vio", log: key === "gradient_norm" && view.log});
  };
  const widest = (l) => 1 / Math.log(Math.max(2, ...l.load.map((c) => c.length)));
  return section("Layers", null,
    el("div", {class: "row-of-controls"}, runSelect(data, view, redraw) || ""),
    grid(chart("gradient_norm", "Gradient norm by layer", "L2"),
      chart("max_vio", "MaxVio by layer", "busiest expert over the mean, less one"),
      chart("gate_entropy", "Gate entropy by layer", "of its largest, ln N", widest, percent)));
}

function loadPanel(data, view, redraw) {
  const run = data.runs[view.run], by = run.by_layer;
  const routed = by.layers.filter((l) => l.load);
  if (!routed.length) return null;
  const scale = el("span", {class: "scale"}, "¼ of the mean", el("i", {}), "4 times");
  return section("Expert load", "How many tokens each expert saw, beside the mean of its layer. " +
      "Grey is even; an expert that stays blue is starving, one that stays orange is overrun.",
    el("div", {class: "row-of-controls"}, runSelect(data, view, redraw) || "", scale),
    grid(...routed.map((l) => {
      const from = l.load.findIndex((c) => c.length);
      return heatMap({title: layerName(run, l.layer), load: l.load.slice(from),
        steps: by.step.slice(from), note: `MaxVio ${fixed(2)(last(l.max_vio))} at the end`});
    })));
}

// ---- texts

function samplesPanel(data, view) {
  const runs = shownRuns(data, view).filter((r) => r.samples.length);
  if (!runs.length) return null;
  const steps = [...new Set(runs.flatMap((r) => r.samples.map((s) => s.step)))];
  steps.sort((a, b) => a - b);
  let at = view.sample === null ? steps.length - 1 : Math.min(view.sample, steps.length - 1);
  const texts = el("div", {class: "grid"});
  const slider = el("input", {type: "range", min: 0, max: steps.length - 1, value: at,
    "aria-label": "step of the texts", style: "width:min(320px, 60vw)"});
  const shown = el("output", {class: "num"});
  const draw = () => {
    shown.textContent = `step ${steps[at]}`;
    texts.replaceChildren(...runs.map((r) => {
      // The newest there is at this step.
      const of = r.samples.filter((s) => s.step <= steps[at]);
      const step = of.length ? of[of.length - 1].step : null;
      return el("section", {class: "card"},
        el("header", {}, el("h3", {}, runName(r)),
          el("span", {class: "small"}, step === null ? "" : `step ${step}`)),
        ...of.filter((s) => s.step === step).map((s) => el("p", {class: "sample"},
          el("span", {class: "prompt"}, s.prompt), s.text)));
    }));
  };
  slider.addEventListener("input", () => {
    at = view.sample = Number(slider.value);
    draw();
  });
  draw();
  return section("Texts along the run", null,
    el("div", {class: "row-of-controls"},
      steps.length > 1 ? el("label", {class: "control"}, slider, shown) : shown),
    texts);
}

// ---- settings

function settingText(value) {
  if (value === undefined) return "not set";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function settingsTable(data, keys) {
  return el("div", {class: "wide settings"}, el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, "setting"),
      ...data.runs.map((r) => el("th", {}, runName(r))))),
    el("tbody", {}, ...keys.map((k) => el("tr", {}, el("th", {}, k),
      ...data.runs.map((r) => el("td", {class: r.recipe[k] === undefined ? "missing" : null},
        settingText(r.recipe[k]))))))));
}

function settingsPanel(data) {
  const keys = [...new Set(data.runs.flatMap((r) => Object.keys(r.recipe)))];
  if (!keys.length) return null;
  const differ = keys.filter((k) => k !== "run.out" &&
    new Set(data.runs.map((r) => JSON.stringify(r.recipe[k]))).size > 1);
  const all = el("details", {}, el("summary", {}, `all ${keys.length} settings`),
    settingsTable(data, keys));
  if (data.runs.length === 1) return section("Settings", null, all);
  return section("What the runs have set differently",
    differ.length ? null : "Nothing: they differ in their folders only.",
    differ.length ? settingsTable(data, differ) : null, all);
}
