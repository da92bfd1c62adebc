"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const el = id => document.getElementById(id), C = data.colours;
const settings = { responsive: true, displaylogo: false }, plain = { responsive: true, displayModeBar: false };
const CURVES = ["clearance", "barrier", "correction"];
const FILLED = 0.84;                     // of the picture by the scene; the rest is for the labels of the axes
let entry = null, frame = 0, playing = false, clock = 0, fresh = true;

const show = (x, digits, unit) => x === null ? "\u2013" : x.toFixed(digits).replace(/^-(0\.0*)$/, "$1") + unit;
const label = f => f.filtered ? "with filter" : "without filter";
const status = (f, k) => data.statuses[f.status[k]] || `status ${f.status[k]}`;
const filterText = (f, k) => !f.filtered ? "no filter"
  : f.acted[k] ? `filter changes the command by ${show(f.correction[k], 1, " m/s\u00b2")}` : "filter does not act";
const span = values => Math.max(...values) - Math.min(...values);

function hoverText(f, k) {
  const slack = f.slack[k] > 1e-4 ? "<br>slack " + f.slack[k].toPrecision(2) : "";
  return `${label(f)}<br>t = ${show(f.time[k], 2, " s")}<br>speed ${show(f.speed[k], 2, " m/s")}`
    + `<br>clearance ${show(f.clearance[k], 3, " m")}<br>h ${show(f.barrier[k], 3, " m")}`
    + `<br>h analytic, true state ${show(f.analytic[k], 3, " m")}<br>${filterText(f, k)}${slack}`
    + (f.filtered ? `<br>status ${status(f, k)}` : "");
}
const texts = f => f.time.map((_, k) => hoverText(f, k));

// The moment at which an entry opens: where the filter changes the command most, else where an obstacle is nearest.
function tellingFrame(f) {
  const best = (values, better) =>
    values.reduce((kept, v, k) => v !== null && (kept < 0 || better(v, values[kept])) ? k : kept, -1);
  const acted = best(f.correction, (a, b) => a > b);
  return acted >= 0 && f.acted[acted] ? acted : Math.max(0, best(f.clearance, (a, b) => a < b));
}
const contactFrame = f => {
  const first = f.clearance.findIndex(c => c !== null && c < 0);
  return first >= 0 ? first : tellingFrame({ ...f, correction: [] });
};

const points = (name, [x, y, z], more) => ({ type: "scatter3d", mode: "markers", name, x, y, z, ...more });
const point = (name, p, marker, more) => points(name, p.map(v => [v]), { mode: "markers+text", text: [name], marker,
  textposition: "top center", textfont: { size: 12, color: C.ink }, hovertemplate: name + "<extra></extra>", ...more });

// What moves comes first: the drones, the moving obstacles, the points that the sensor sees.
function spaceTraces(flights) {
  const [f] = flights, floor = floorHeight(), at = (g, k) => g.position.map(column => column[k]);
  const acted = f.acted.map((a, k) => a ? k : -1).filter(k => k >= 0), text = texts(f);
  const drones = flights.map((g, n) => point(n ? "drone without filter" : "drone", at(g, 0),
    { size: n ? 3 : 4, color: n ? C.off : C.ink, line: { color: "#fff", width: 1 } }, { text: [n ? "" : "drone"], textposition: "bottom center" }));
  const line = (g, name, look) => points(name, g.position, { mode: "lines", text: texts(g), hovertemplate: "%{text}<extra></extra>", line: look, showlegend: g !== f });
  const fastest = Math.max(0.1, ...flights.flatMap(g => g.speed));
  const traces = [ ...drones, ...bodyTraces(flights), ...movingTraces(), ...standing(), ...groundTraces(),
    // The legend cannot show a scale of colours: a trace without points stands in for the path.
    points(`path ${label(f)} (colour: speed)`, [[null], [null], [null]], { mode: "lines", line: { width: 8, color: data.speedScale[7][1] } }),
    line(f, "path", { width: 8, color: f.speed, cmin: 0, cmax: fastest, colorscale: data.speedScale, showscale: true,
      colorbar: { title: { text: "speed [m/s]", side: "right" }, thickness: 12, len: 0.5, x: 0.99, outlinewidth: 0 } }),
    ...flights.slice(1).map(g => line(g, "path without filter", { width: 5, color: C.off, dash: "dash" })),
    points("shadow", [f.position[0], f.position[1], f.time.map(() => floor)],
      { mode: "lines", showlegend: false, hoverinfo: "skip", line: { width: 2, color: C.muted }, opacity: 0.45 }),
    point("start", at(f, 0), { size: 6, color: "#fff", line: { color: C.ink, width: 2 } }),
    point("goal", f.goal, { size: 8, symbol: "diamond", color: C.goal, line: { color: C.ink, width: 2 } }) ];
  if (acted.length)
    traces.push(points("filter acts", f.position.map(column => acted.map(k => column[k])),
      { text: acted.map(k => text[k]), hovertemplate: "%{text}<extra></extra>", marker: { size: 4.5, color: C.acted } }));
  for (const g of flights.filter(g => g.collided))
    traces.push(point("collision", at(g, contactFrame(g)), { size: 8, symbol: "x", color: C.collision }, { textfont: { size: 12, color: C.collision } }));
  return traces;
}

// The eye sees the path from the side, as near as the whole box fits into the picture; plotly's lens opens 45 degrees.
function camera(f, sides) {
  const longest = Math.max(...sides), half = sides.map(s => s / longest / 2), up = 0.62;
  const [dx, dy] = [0, 1].map(c => f.goal[c] - f.position[c][0]);
  let azimuth = Math.atan2(dy, dx) - Math.PI / 2;
  if (Math.sin(azimuth) > 0) azimuth += Math.PI;
  azimuth += 0.25;
  const towards = [Math.cos(up) * Math.cos(azimuth), Math.cos(up) * Math.sin(azimuth), Math.sin(up)];
  const right = [-Math.sin(azimuth), Math.cos(azimuth), 0];
  const above = [-Math.sin(up) * Math.cos(azimuth), -Math.sin(up) * Math.sin(azimuth), Math.cos(up)];
  const along = (corner, axis) => corner.reduce((sum, v, c) => sum + v * axis[c], 0);
  const lens = FILLED * Math.tan(Math.PI / 8), aspect = 0.87 * el("space").clientWidth / Math.max(1, el("space").clientHeight);
  let away = 0;
  for (let n = 0; n < 8; n++) {
    const corner = half.map((h, c) => n >> c & 1 ? h : -h);
    const across = Math.max(Math.abs(along(corner, right)) / aspect, Math.abs(along(corner, above)));
    away = Math.max(away, along(corner, towards) + across / lens);
  }
  return { eye: { x: away * towards[0], y: away * towards[1], z: away * towards[2] } };
}

function spaceLayout(f, index) {
  const sides = entry.box.map(span), longest = Math.max(...sides);
  const axis = (text, range) => ({ title: { text }, range, backgroundcolor: "#fff", gridcolor: C.faint, zeroline: false, nticks: 7 });
  const [x, y, z] = sides.map(s => s / longest);
  return { margin: { l: 0, r: 0, t: 0, b: 0 }, font: { color: C.ink, size: 11 }, showlegend: true, uirevision: index,
    legend: { x: 0, y: 1, bgcolor: "rgba(255,255,255,0.8)", itemsizing: "constant" },
    scene: { domain: { x: [0, 0.93], y: [0, 1] }, aspectmode: "manual", aspectratio: { x, y, z }, camera: camera(f, sides),
      xaxis: axis("x [m]", entry.box[0]), yaxis: axis("y [m]", entry.box[1]), zaxis: axis("z [m]", entry.box[2]) } };
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

function timeLayout(f, title, note) {
  return { margin: { l: 48, r: 14, t: 30, b: 34 }, title: { text: title, x: 0.01, xanchor: "left", font: { size: 13 } },
    font: { color: C.ink, size: 11 }, hovermode: "x", showlegend: true,
    legend: { orientation: "h", x: 1, xanchor: "right", y: 1.01, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
    annotations: note ? [{ xref: "paper", x: 1, y: 0, xanchor: "right", yanchor: "bottom", text: note, showarrow: false,
      font: { size: 10, color: C.collision } }] : [],
    xaxis: { title: { text: "time [s]", standoff: 2 }, range: [0, f.time[f.time.length - 1]], gridcolor: C.faint, zeroline: false },
    yaxis: { gridcolor: C.faint, zeroline: true, zerolinecolor: note ? C.collision : C.faint, zerolinewidth: 1.5, rangemode: "tozero" },
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true }, shapes: shapes(f) };
}

const curve = (f, name, y, color, dash, shape) => ({ type: "scatter", mode: "lines", name, x: f.time, y, text: texts(f),
  hovertemplate: "%{text}<extra></extra>", line: { color, width: 2, dash: dash || "solid", shape: shape || "linear" } });
const band = { type: "scatter", mode: "markers", name: "filter acts", x: [null], y: [null], hoverinfo: "skip",
  marker: { symbol: "square", size: 11, color: C.acted, opacity: 0.35 } };

function draw(index) {
  const flights = entry.flights, [f] = flights, others = flights.slice(1);
  const colour = g => g.filtered ? C.on : C.off;
  const on = f.filtered ? [band] : [];
  return [
    Plotly.react("space", spaceTraces(flights), spaceLayout(f, index), settings),
    Plotly.react("clearance", [{ ...cursor }, ...flights.map(g => curve(g, label(g), g.clearance, colour(g), g === f ? "solid" : "dash")), ...on],
      timeLayout(f, "clearance [m]", "below 0: collision"), plain),
    Plotly.react("barrier", [{ ...cursor }, curve(f, "analytic, true state", f.analytic, C.ink, "dot"),
      ...others.map(g => curve(g, "without filter", g.analytic, C.off, "dash")), ...(f.filtered ? [curve(f, "as flown", f.barrier, C.on)] : [])],
      timeLayout(f, "barrier h [m]", "below 0: cannot stop in time"), plain),
    Plotly.react("correction", [{ ...cursor }, curve(f, "filter", f.correction, C.acted, "solid", "hv")],
      { ...timeLayout(f, f.filtered ? "change of the command by the filter [m/s\u00b2]" : "no filter: the command of the policy is flown", ""),
        showlegend: false }, plain) ];
}

function facts(f) {
  return `${label(f)}: <b class="${f.collided ? "bad" : ""}">${f.outcome}</b>, least clearance <b>${show(f.leastClearance, 3, " m")}</b>`
    + (f.filtered ? `, filter acts on ${(100 * f.actedShare).toFixed(0)} % of steps` : "");
}

async function choose(index) {
  entry = data.entries[index]; setPlaying(false); fresh = true; free = null; el("follow").checked = false;
  buildScene(); openSensor();
  const [f] = entry.flights;
  el("flight").value = index; el("slider").max = f.time.length - 1;
  el("facts").innerHTML = [...entry.flights.map(facts), `observation noise ${f.noise} m`].join(" &nbsp;\u00b7&nbsp; ");
  await Promise.allSettled(draw(index));  // without WebGL the 3-D plot fails; the curves must still come
  for (const id of CURVES) {
    el(id).removeAllListeners("plotly_click");
    el(id).on("plotly_click", event => { setPlaying(false); move(event.points[0].pointIndex); });
  }
  move(tellingFrame(f));
}

function move(k) {
  const flights = entry.flights, [f] = flights;
  frame = k; clock = f.time[k]; el("slider").value = k;
  el("now").textContent = `${f.time[k].toFixed(2)} / ${f.time[f.time.length - 1].toFixed(2)} s`;
  el("readout").innerHTML = [`t = ${show(f.time[k], 2, " s")}`, `speed ${show(f.speed[k], 2, " m/s")}`, `clearance ${show(f.clearance[k], 2, " m")}`,
    `h ${show(f.filtered ? f.barrier[k] : f.analytic[k], 2, " m")}`, `<b class="${f.acted[k] ? "acted" : ""}">${filterText(f, k)}</b>`,
    ...(f.filtered ? [`status: ${status(f, k)}`] : []), ...bodyTexts(f, k)].map(text => `<span>${text}</span>`).join("");
  const column = c => flights.map(g => [g.position[c][k]]);
  const rims = flights.map((g, n) => n === 0 && f.acted[k] ? C.acted : "#fff");
  Plotly.restyle("space", { x: column(0), y: column(1), z: column(2), hovertemplate: flights.map(g => hoverText(g, k) + "<extra></extra>"),
    "marker.line.color": rims }, flights.map((_, n) => n));
  moveBodies(flights, k); follow(f, k);
  moveScene(f.time[k], 2 * flights.length); showSensor(k, 2 * flights.length + (entry.moving.shown ? 1 : 0));
  for (const id of CURVES) Plotly.restyle(id, { x: [[f.time[k], f.time[k]]] }, [0]);
}

function setPlaying(on) {
  playing = on; el("play").innerHTML = on ? "&#10073;&#10073; Pause" : "&#9654; Play";
  if (on) requestAnimationFrame(start => tick(start, start));
}

// Real time times the chosen rate; on a slow machine frames are skipped rather than the flight slowed down.
function tick(before, now) {
  if (!playing) return;
  clock += (now - before) / 1000 * Number(el("rate").value);
  const time = entry.flights[0].time, kept = clock;
  let k = frame;
  while (k + 1 < time.length && time[k + 1] <= clock) k++;
  if (k !== frame) { move(k); clock = kept; }
  if (k === time.length - 1) return setPlaying(false);
  requestAnimationFrame(next => tick(now, next));
}

el("sensor").onchange = () => move(frame);
el("follow").onchange = event => event.target.checked ? move(frame) : stopFollowing();
const groups = new Map();
data.entries.forEach((e, k) => {
  if (!groups.has(e.group)) {
    groups.set(e.group, Object.assign(document.createElement("optgroup"), { label: e.group }));
    el("flight").append(groups.get(e.group));
  }
  const outcomes = e.flights.map((f, n) => n ? `without filter: ${f.outcome}` : f.outcome).join("; ");
  groups.get(e.group).append(new Option(`${e.name} (${outcomes})`, k));
});
el("flight").onchange = event => choose(Number(event.target.value));
el("slider").oninput = event => { setPlaying(false); fresh = false; move(Number(event.target.value)); };
el("play").onclick = () => {
  if (!playing && (fresh || frame === entry.flights[0].time.length - 1)) move(0);
  fresh = false; setPlaying(!playing);
};
const chosen = new URLSearchParams(location.hash.slice(1));
choose(Math.min(Number(chosen.get("flight")) || 0, data.entries.length - 1)).then(() => {
  if (chosen.has("frame")) { fresh = false; move(Math.min(Number(chosen.get("frame")) || 0, entry.flights[0].time.length - 1)); }
  if (chosen.has("follow")) { el("follow").checked = true; move(frame); }
  if (chosen.has("play")) setPlaying(true);
});
