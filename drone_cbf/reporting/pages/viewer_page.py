"""The page of the interactive viewer: HTML, CSS and JavaScript. ``viewer`` fills in @TITLE@, @PLOTLY@ and @DATA@.

Kept as text in a module, so that it is installed with the package without further settings.
"""
# ruff: noqa: E501

PAGE = r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
  * { box-sizing: border-box; }
  html, body { margin: 0; height: 100%; font: 14px/1.4 system-ui, "DejaVu Sans", sans-serif; color: #1F2933; background: #fff; }
  body { display: flex; flex-direction: column; padding: 12px 18px; gap: 8px; }
  header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 24px; }
  h1 { font-size: 19px; margin: 0; }
  #facts { color: #52606D; } #facts b { color: #1F2933; } #facts b.bad { color: #C1121F; }
  #controls { display: flex; flex-wrap: wrap; align-items: center; gap: 10px; }
  #controls select, #controls button { font: inherit; padding: 4px 10px; border: 1px solid #B8C0C9; border-radius: 5px; background: #fff; }
  #controls button { min-width: 92px; background: #0072B2; border-color: #0072B2; color: #fff; cursor: pointer; }
  #slider { flex: 1; min-width: 160px; accent-color: #0072B2; }
  #now { min-width: 15ch; text-align: right; font-variant-numeric: tabular-nums; }
  main { flex: 1; min-height: 560px; display: grid; gap: 6px; grid-template: "space clearance" 1fr "space barrier" 1fr / 1.55fr 1fr; }
  #space { grid-area: space; } #clearance { grid-area: clearance; } #barrier { grid-area: barrier; }
  main > div { min-width: 0; min-height: 0; }
  @media (max-width: 900px) { main { grid-template: "space" 440px "clearance" 230px "barrier" 230px / 1fr; flex: none; } }
</style>
</head>
<body>
<header><h1>@TITLE@</h1><div id="facts"></div></header>
<div id="controls">
  <label>Flight <select id="flight"></select></label>
  <button id="play" type="button">&#9654; Play</button>
  <label>Speed <select id="rate"><option value="0.25">&frac14;&times;</option><option value="0.5">&frac12;&times;</option>
    <option value="1" selected>1&times;</option><option value="2">2&times;</option><option value="4">4&times;</option></select></label>
  <input id="slider" type="range" min="0" value="0" step="1" aria-label="time">
  <span id="now"></span>
</div>
<main><div id="space"></div><div id="clearance"></div><div id="barrier"></div></main>
<script>@PLOTLY@</script>
<script id="data" type="application/json">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const el = id => document.getElementById(id), C = data.colours;
const settings = { responsive: true, displaylogo: false }, plain = { responsive: true, displayModeBar: false };
const fastest = Math.max(0.1, ...data.flights.map(f => Math.max(...f.speed)));
const SIDES = 22, DRONE = 1;             // sides of a solid; index of the drone's trace in the 3-D plot
let flight = null, frame = 0, playing = false, clock = 0;

const show = (x, digits, unit) => x === null ? "\u2013" : x.toFixed(digits) + unit;

function hoverText(f, k) {
  const acts = f.acted[k] ? "filter acts: " + show(f.correction[k], 2, " m/s\u00b2") : f.filtered ? "filter silent" : "no filter";
  const slack = f.slack[k] > 1e-4 ? "<br>slack " + f.slack[k].toPrecision(2) : "";
  return `t = ${show(f.time[k], 2, " s")}<br>speed ${show(f.speed[k], 2, " m/s")}<br>clearance ${show(f.clearance[k], 3, " m")}`
    + `<br>h flown ${show(f.barrier[k], 3, " m")}<br>h true ${show(f.analytic[k], 3, " m")}<br>${acts}${slack}<br>status ${f.status[k]}`;
}

// One mesh for all obstacles of a scene: each outline is turned about its vertical axis.
function solids(scene) {
  const x = [], y = [], z = [], i = [], j = [], k = [];
  for (const [cx, cy, outline] of scene.obstacles) {
    const first = x.length;
    for (const [height, distance] of outline)
      for (let s = 0; s < SIDES; s++) {
        const turn = 2 * Math.PI * s / SIDES;
        x.push(cx + distance * Math.cos(turn)); y.push(cy + distance * Math.sin(turn)); z.push(height);
      }
    for (let row = 0; row + 1 < outline.length; row++)
      for (let s = 0; s < SIDES; s++) {
        const a = first + row * SIDES + s, b = first + row * SIDES + (s + 1) % SIDES;
        i.push(a, b); j.push(b, b + SIDES); k.push(a + SIDES, a + SIDES);
      }
  }
  return { type: "mesh3d", x, y, z, i, j, k, color: C.obstacle, flatshading: false, hoverinfo: "skip", name: "obstacles",
    lighting: { ambient: 0.62, diffuse: 0.6, specular: 0.08, roughness: 0.9 }, lightposition: { x: -2000, y: -3000, z: 6000 } };
}

function spaceTraces(f) {
  const [x, y, z] = f.position, text = f.time.map((_, k) => hoverText(f, k)), last = x.length - 1;
  const floor = data.scenes[f.scene].heights[0], acted = f.acted.map((a, k) => a ? k : -1).filter(k => k >= 0);
  const pick = (column, ks) => ks.map(k => column[k]);
  const point = (name, p, marker) => ({ type: "scatter3d", mode: "markers", name, x: [p[0]], y: [p[1]], z: [p[2]], marker,
    hovertemplate: name + "<extra></extra>" });
  const worst = f.clearance.reduce((best, c, k) => c !== null && (best < 0 || c < f.clearance[best]) ? k : best, -1);
  const contact = f.clearance.findIndex(c => c !== null && c < 0);
  const traces = [
    solids(data.scenes[f.scene]),
    point("drone", [x[0], y[0], z[0]], { size: 9, color: C.ink, line: { color: "#fff", width: 2 } }),
    { type: "scatter3d", mode: "lines", name: "path", showlegend: false, x, y, z, text, hovertemplate: "%{text}<extra></extra>",
      line: { width: 7, color: f.speed, cmin: 0, cmax: fastest, colorscale: data.speedScale, showscale: true,
        colorbar: { title: { text: "speed [m/s]", side: "right" }, thickness: 12, len: 0.6, x: 0.99, outlinewidth: 0 } } },
    { type: "scatter3d", mode: "lines", name: "shadow", showlegend: false, x, y, z: z.map(() => floor), hoverinfo: "skip",
      line: { width: 2, color: C.muted }, opacity: 0.45 },
    { type: "scatter3d", mode: "markers", name: "filter acts", x: pick(x, acted), y: pick(y, acted), z: pick(z, acted),
      text: pick(text, acted), hovertemplate: "%{text}<extra></extra>", marker: { size: 3.2, color: C.acted } },
    point("start", [x[0], y[0], z[0]], { size: 6, color: "#fff", line: { color: C.ink, width: 2 } }),
    point("goal", f.goal, { size: 7, symbol: "diamond", color: C.goal, line: { color: C.ink, width: 2 } }),
  ];
  if (f.collided) {
    const k = contact >= 0 ? contact : Math.max(worst, 0);
    traces.push(point("collision", [x[k], y[k], z[k]], { size: 10, color: C.collision, line: { color: "#fff", width: 2 } }));
  }
  return traces;
}

// Bands over the runs of frames on which the filter acted.
function shapes(f) {
  const bands = [], n = f.time.length;
  for (let k = 0; k < n; k++) {
    if (!f.acted[k]) continue;
    const begin = k;
    while (k + 1 < n && f.acted[k + 1]) k++;
    bands.push({ type: "rect", xref: "x", yref: "paper", x0: f.time[begin], x1: f.time[Math.min(k + 1, n - 1)], y0: 0, y1: 1,
      fillcolor: C.acted, opacity: 0.16, line: { width: 0 }, layer: "below" });
  }
  return bands;
}
// The moving cursor is a trace on a hidden axis: redrawing a shape this often leaves copies of it behind.
const cursor = { type: "scatter", mode: "lines", x: [0, 0], y: [0, 1], yaxis: "y2", hoverinfo: "skip", showlegend: false,
  line: { color: C.ink, width: 1.5 } };

function timeLayout(f, title) {
  return { margin: { l: 52, r: 14, t: 34, b: 38 }, title: { text: title, x: 0.01, xanchor: "left", font: { size: 13 } },
    font: { color: C.ink, size: 11 }, hovermode: "x", showlegend: true,
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1.02, yanchor: "bottom" },
    xaxis: { title: { text: "time [s]", standoff: 4 }, range: [0, f.time[f.time.length - 1]], gridcolor: C.faint, zeroline: false },
    yaxis: { gridcolor: C.faint, zeroline: true, zerolinecolor: C.collision, zerolinewidth: 1.5, rangemode: "tozero" },
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true }, shapes: shapes(f) };
}

function curve(f, name, y, colour, dash) {
  return { type: "scatter", mode: "lines", name, x: f.time, y, line: { color: colour, width: 2, dash: dash || "solid" },
    text: f.time.map((_, k) => hoverText(f, k)), hovertemplate: "%{text}<extra></extra>" };
}

// plotly scales a scene by the geometric mean of its sides: a long flat one needs a more distant eye.
function eye(f) {
  const scene = data.scenes[f.scene], span = (values, pad) => Math.max(...values) - Math.min(...values) + pad;
  const sides = [0, 1].map(c => span([...f.position[c], f.goal[c], ...scene.obstacles.map(o => o[c])], 0.5));
  sides.push(scene.heights[1] - scene.heights[0]);
  const away = 1.22 * Math.max(...sides) / Math.cbrt(sides[0] * sides[1] * sides[2]);
  return { x: -0.35 * away, y: -0.79 * away, z: 0.5 * away };
}

async function choose(index) {
  flight = data.flights[index]; frame = 0; clock = 0; setPlaying(false);
  const f = flight, axis = text => ({ title: { text }, backgroundcolor: "#fff", gridcolor: C.faint, zeroline: false, nticks: 7 });
  el("flight").value = index; el("slider").max = f.time.length - 1;
  el("facts").innerHTML = `<b class="${f.collided ? "bad" : ""}">${f.outcome}</b> &nbsp;\u00b7&nbsp; filter ${f.filtered ? "on" : "off"}`
    + ` &nbsp;\u00b7&nbsp; noise ${f.noise} m &nbsp;\u00b7&nbsp; least clearance <b>${show(f.leastClearance, 2, " m")}</b>`
    + ` &nbsp;\u00b7&nbsp; filter acts on ${(100 * f.actedShare).toFixed(0)} % of steps`;
  const inSpace = { margin: { l: 0, r: 0, t: 0, b: 0 }, font: { color: C.ink, size: 11 }, showlegend: true, uirevision: f.scene,
    legend: { x: 0, y: 1, bgcolor: "rgba(255,255,255,0.7)", itemsizing: "constant" },
    scene: { aspectmode: "data", xaxis: axis("x [m]"), yaxis: axis("y [m]"), zaxis: axis("z [m]"),
      camera: { eye: eye(f) } } };
  // Without WebGL the 3-D plot fails; the curves must still come.
  const tasks = [
    Plotly.react("space", spaceTraces(f), inSpace, settings),
    Plotly.react("clearance", [{ ...cursor }, curve(f, "clearance", f.clearance, C.clearance)], timeLayout(f, "clearance [m]"), plain),
    Plotly.react("barrier",
      [{ ...cursor }, curve(f, "h true (analytic)", f.analytic, C.truth, "dash"), curve(f, "h flown", f.barrier, C.barrier)],
      timeLayout(f, "barrier h [m]"), plain) ];
  await Promise.allSettled(tasks);
  for (const id of ["clearance", "barrier"]) {
    el(id).removeAllListeners("plotly_click");
    el(id).on("plotly_click", event => { setPlaying(false); move(event.points[0].pointIndex); });
  }
  move(0);
}

function move(k) {
  frame = k; clock = flight.time[k]; el("slider").value = k;
  el("now").textContent = `${flight.time[k].toFixed(2)} / ${flight.time[flight.time.length - 1].toFixed(2)} s`;
  const [x, y, z] = flight.position;
  Plotly.restyle("space", { x: [[x[k]]], y: [[y[k]]], z: [[z[k]]], hovertemplate: [hoverText(flight, k) + "<extra></extra>"],
    "marker.color": flight.acted[k] ? C.acted : C.ink }, [DRONE]);
  for (const id of ["clearance", "barrier"]) Plotly.restyle(id, { x: [[flight.time[k], flight.time[k]]] }, [0]);
}

function setPlaying(on) {
  playing = on; el("play").innerHTML = on ? "&#10073;&#10073; Pause" : "&#9654; Play";
  if (on) requestAnimationFrame(start => tick(start, start));
}

// Real time times the chosen rate; on a slow machine frames are skipped rather than the flight slowed down.
function tick(before, now) {
  if (!playing) return;
  clock += (now - before) / 1000 * Number(el("rate").value);
  let k = frame;
  while (k + 1 < flight.time.length && flight.time[k + 1] <= clock) k++;
  const kept = clock;
  if (k !== frame) { move(k); clock = kept; }
  if (k === flight.time.length - 1) return setPlaying(false);
  requestAnimationFrame(next => tick(now, next));
}

data.flights.forEach((f, k) => el("flight").add(new Option(`${f.name} (${f.outcome})`, k)));
el("flight").onchange = event => choose(Number(event.target.value));
el("slider").oninput = event => { setPlaying(false); move(Number(event.target.value)); };
el("play").onclick = () => { if (!playing && frame === flight.time.length - 1) move(0); setPlaying(!playing); };
const chosen = new URLSearchParams(location.hash.slice(1));
choose(Math.min(Number(chosen.get("flight")) || 0, data.flights.length - 1)).then(() => {
  if (chosen.has("frame")) move(Math.min(Number(chosen.get("frame")) || 0, flight.time.length - 1));
  if (chosen.has("play")) setPlaying(true);
});
</script>
</body>
</html>
"""
