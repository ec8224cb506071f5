// Puts the page together, and again when the reader chooses something else.

const data = JSON.parse(document.getElementById("data").textContent);
data.runs.forEach((run, i) => {
  run.index = i;
  run.color = `var(--s${i % 8})`;
});
const view = {smooth: 0.05, axis: "step", log: false, hidden: new Set(), run: 0, sample: null};

const panels = [
  () => learningPanel(data, view),
  () => schedulePanel(data, view),
  (redraw) => layersPanel(data, view, redraw),
  (redraw) => loadPanel(data, view, redraw),
  () => samplesPanel(data, view),
  () => speedPanel(data, view),
];
const places = panels.map(() => el("div"));

function redraw() {
  panels.forEach((panel, i) => places[i].replaceChildren(panel(redraw) || ""));
}

function segments(names, chosen, choose) {
  const buttons = Object.entries(names).map(([key, label]) => el("button", {type: "button",
    "aria-pressed": key === chosen, onclick: (e) => {
      for (const b of buttons) b.setAttribute("aria-pressed", b === e.currentTarget);
      choose(key);
      redraw();
    }}, label));
  return el("span", {class: "segments"}, ...buttons);
}

function chip(run) {
  return el("button", {class: "chip", type: "button", "aria-pressed": true, onclick: (e) => {
    const hidden = view.hidden.has(run.index);
    if (!hidden && view.hidden.size === data.runs.length - 1) return;  // one stays
    view.hidden[hidden ? "delete" : "add"](run.index);
    e.currentTarget.setAttribute("aria-pressed", hidden);
    redraw();
  }}, el("span", {class: "dot", style: `color:${run.color};background:${run.color}`}), run.name);
}

function controls() {
  const value = el("output", {class: "num"}, percent(view.smooth));
  const slider = el("input", {type: "range", min: 0, max: 0.2, step: 0.005, value: view.smooth,
    oninput: (e) => {
      view.smooth = Number(e.target.value);
      value.textContent = percent(view.smooth);
      redraw();
    }});
  return el("div", {class: "bar"},
    data.runs.length > 1 ? el("div", {class: "chips"}, ...data.runs.map(chip)) : null,
    el("label", {class: "control"}, "smoothing", slider, value),
    segments(Object.fromEntries(Object.entries(AXES).map(([k, a]) => [k, a.label])), view.axis,
      (axis) => { view.axis = axis; }),
    segments({no: "linear", yes: "log"}, "no", (log) => { view.log = log === "yes"; }));
}

function lastStep() {
  const times = data.runs.map((r) => last(r.steps.time || [])).filter((t) => t !== null);
  if (!times.length) return null;
  const when = new Date(1000 * Math.max(...times)).toISOString();
  return `last step ${when.slice(0, 16).replace("T", " ")} UTC`;
}

document.getElementById("report").replaceChildren(
  el("h1", {}, data.title),
  el("div", {class: "soft"}, [
    data.runs.length === 1 ? data.runs[0].name : `${data.runs.length} runs`, lastStep(),
  ].filter(Boolean).join(" · ")),
  summaryPanel(data), controls(), ...places, settingsPanel(data) || "",
  el("footer", {},
    `Written by hadal ${data.version}. This page is one file and asks nothing of the network.`));
redraw();
