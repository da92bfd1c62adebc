// The chosen swarm, the frame shown, the chosen drone, and what a person does with them.
let swarm = null, frame = 0, chosen = 0, playing = false, clock = 0, places = null, drawn = [];

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const frameAt = time => { let k = 0; while (k + 1 < swarm.time.length && swarm.time[k + 1] <= time) k++; return k; };
const statusAt = n => swarm.codes[frame * swarm.drones + n];
const hasTouched = n => swarm.contact[n] >= 0 && swarm.contact[n] <= frame;
const isSettled = n => swarm.settled[n] >= 0 && swarm.settled[n] <= frame;
const colourOf = n => hasTouched(n) ? C.collision : isSettled(n) && statusAt(n) === 0 ? C.arrived : (data.statuses[statusAt(n)] || ["", C.muted])[1];

function choose(index) {
  swarm = data.swarms[index];
  if (!swarm.levels) {
    swarm.levels = new Uint16Array(bytes(swarm.position).buffer); swarm.codes = bytes(swarm.status);
    const ends = [swarm.low, along(swarm.low, swarm.size, 1), ...swarm.goal];
    const balls = swarm.balls.flatMap(([x, y, z, r]) => [[x - r, y - r, z - r], [x + r, y + r, z + r]]);
    const every = [...ends, ...balls];
    swarm.box = [Math.min, Math.max].map(best => [0, 1, 2].map(c => best(...every.map(p => p[c]))));
  }
  places = new Float32Array(3 * swarm.drones);
  const touched = swarm.contact.findIndex(at => at >= 0);
  chosen = touched >= 0 ? touched : 0;
  el("swarm").value = index; el("slider").max = swarm.time.length - 1;
  const count = swarm.contact.filter(at => at >= 0).length, stay = swarm.settled.filter(at => at >= 0).length;
  const least = swarm.gap.reduce((best, v) => v === null ? best : Math.min(best, v), Infinity);
  el("facts").innerHTML = `<b>${swarm.drones}</b> drones, <b>${stay}</b> arrived, <b class="${count ? "bad" : ""}">${count}</b> collided, least gap `
    + `<b>${Number.isFinite(least) ? show(least, 3, " m") : "\u2013"}</b> &nbsp;\u00b7&nbsp; ${swarm.filtered ? "with filter" : "without filter"}, observation noise ${swarm.noise} m`;
  home(); setPlaying(false); moveTo(touched >= 0 ? swarm.contact[touched] : 0);
}

// The whole box fits into the picture.
function home() {
  const [low, high] = swarm.box, size = minus(high, low);
  view.centre = along(low, size, 0.5); view.azimuth = -1.0; view.height = 0.55;
  const aspect = el("space").clientWidth / Math.max(1, el("space").clientHeight);
  view.away = 0.44 * Math.hypot(...size) * Math.max(1, 1.1 / aspect) * Math.sqrt(1 + LENS * LENS) / 1.05;
}

function things(project) {
  const found = obstacleThings(swarm, swarm.time[frame], project);
  drawn = [];
  for (let n = 0; n < swarm.drones; n++) {
    const [x, y, scale, depth] = project(placeOf(places, n)), r = Math.max(2, swarm.radius * scale);
    if (depth <= 0) continue;
    drawn.push([n, x, y, r]);
    found.push([depth, c => {
      if (n === chosen) { c.fillStyle = C.ink; c.beginPath(); c.arc(x, y, r + 2.5, 0, 2 * Math.PI); c.fill(); }
      c.drawImage(ball(colourOf(n)), x - r, y - r, 2 * r, 2 * r);
    }]);
  }
  return found.sort((a, b) => b[0] - a[0]);
}

function trails(context, project) {
  let first = frame;
  while (first > 0 && swarm.time[frame] - swarm.time[first - 1] <= TRAIL) first--;
  const stride = Math.max(1, Math.ceil((frame - first) * swarm.drones / 6000)), at = new Float32Array(3 * swarm.drones), paths = [];
  for (let k = frame; k >= first; k -= stride) {
    placesAt(swarm, k, at);
    for (let n = 0; n < swarm.drones; n++) (paths[n] ||= []).push(project(placeOf(at, n)));
  }
  context.lineWidth = 1.2; context.globalAlpha = 0.4; context.strokeStyle = C.muted; context.beginPath();
  for (const path of paths || []) path.forEach(([x, y], k) => k ? context.lineTo(x, y) : context.moveTo(x, y));
  context.stroke(); context.globalAlpha = 1;
}

function goals(context, project, which) {
  context.strokeStyle = C.ink; context.fillStyle = C.goal; context.lineWidth = 0.8;
  for (const n of which) {
    const [x, y, , depth] = project(swarm.goal[n]);
    if (depth <= 0) continue;
    context.beginPath(); context.moveTo(x, y - 5); context.lineTo(x + 4, y); context.lineTo(x, y + 5); context.lineTo(x - 4, y); context.closePath();
    context.fill(); context.stroke();
  }
}

function around(context, project, others) {
  const own = placeOf(places, chosen), [x, y, scale, depth] = project(own);
  if (depth <= 0) return;
  context.fillStyle = C.seen; context.globalAlpha = 0.14;
  context.beginPath(); context.arc(x, y, swarm.sight * scale, 0, 2 * Math.PI); context.fill();
  context.globalAlpha = 1; context.strokeStyle = C.ink; context.lineWidth = 1.3;
  const line = p => { const [u, v, , away] = project(p); if (away > 0) { context.beginPath(); context.moveTo(x, y); context.lineTo(u, v); context.stroke(); } };
  others.forEach(([, n]) => line(placeOf(places, n)));
  context.setLineDash([5, 4]); context.strokeStyle = C.muted; line(swarm.goal[chosen]); context.setLineDash([]);
}

function draw() {
  placesAt(swarm, frame, places);
  if (el("follow").checked) view.centre = placeOf(places, chosen);
  const picture = prepared(el("space")), { context } = picture, project = projection(picture);
  const others = perceivedBy(swarm, places, chosen);
  floor(context, swarm, project);
  if (el("trails").checked) trails(context, project);
  around(context, project, others);
  for (const [, paint] of things(project)) paint(context);
  goals(context, project, el("goals").checked ? swarm.goal.keys() : [chosen]);
  drawCurves(swarm, frame); tell(others);
}

function tell(others) {
  const count = new Map();
  for (let n = 0; n < swarm.drones; n++) {
    const name = hasTouched(n) ? "collided" : isSettled(n) && statusAt(n) === 0 ? "at the goal" : (data.statuses[statusAt(n)] || ["unknown"])[0];
    count.set(name, [(count.get(name) || [0])[0] + 1, colourOf(n)]);
  }
  el("legend").innerHTML = [...count].map(([name, [many, colour]]) => `<span><i style="background:${colour}"></i>${name} ${many}</span>`).join("");
  el("now").textContent = `${swarm.time[frame].toFixed(2)} / ${swarm.time[swarm.time.length - 1].toFixed(2)} s`;
  el("slider").value = frame;
  const own = placeOf(places, chosen), next = Math.min(frame + 1, swarm.time.length - 1), before = Math.max(0, next - 1);
  const at = k => placeOf(placesAt(swarm, k, new Float32Array(3 * swarm.drones)), chosen);
  const speed = next > before ? Math.hypot(...minus(at(next), at(before))) / (swarm.time[next] - swarm.time[before]) : 0;
  const gap = others.length ? others[0][0] - 2 * swarm.radius : null;
  el("chosen").innerHTML = `<h2>Drone ${chosen + 1} of ${swarm.drones}</h2><p>status <b>${hasTouched(chosen) ? "collided" : (data.statuses[statusAt(chosen)] || ["unknown"])[0]}</b>, `
    + `speed <b>${show(speed, 2, " m/s")}</b></p><p>to the goal <b>${show(Math.hypot(...minus(swarm.goal[chosen], own)), 2, " m")}</b></p>`
    + `<p>perceives <b>${others.length}</b> others within ${show(swarm.sight, 2, " m")} (at most ${swarm.perceived})</p>`
    + `<p>gap to the nearest <b>${show(gap, 3, " m")}</b></p><p>at x, y, z <b>${own.map(v => v.toFixed(2)).join(", ")} m</b></p>`;
}

function moveTo(k) { frame = k; clock = swarm.time[k]; draw(); }

function setPlaying(on) {
  playing = on; el("play").innerHTML = on ? "&#10073;&#10073; Pause" : "&#9654; Play";
  if (on) requestAnimationFrame(start => tick(start, start));
}

// Real time times the chosen rate; on a slow machine frames are skipped rather than the flight slowed down.
function tick(before, now) {
  if (!playing) return;
  clock += (now - before) / 1000 * Number(el("rate").value);
  const kept = clock, k = frameAt(clock);
  if (k !== frame) { moveTo(k); clock = kept; }
  if (k === swarm.time.length - 1) return setPlaying(false);
  requestAnimationFrame(next => tick(now, next));
}

let drag = null;
el("space").addEventListener("contextmenu", event => event.preventDefault());
el("space").addEventListener("pointerdown", event => {
  drag = { x: event.offsetX, y: event.offsetY, shifts: event.button === 2 || event.shiftKey, moved: false };
  el("space").setPointerCapture(event.pointerId);
});
el("space").addEventListener("pointermove", event => {
  if (!drag) return;
  const dx = event.offsetX - drag.x, dy = event.offsetY - drag.y, { right, up } = axes();
  if (Math.hypot(dx, dy) < 3 && !drag.moved) return;
  if (drag.shifts) {
    const metres = view.away / (LENS * el("space").clientHeight / 2);
    view.centre = along(along(view.centre, right, -dx * metres), up, dy * metres); el("follow").checked = false;
  } else {
    view.azimuth -= 0.008 * dx; view.height = Math.min(1.5, Math.max(-0.4, view.height + 0.008 * dy));
  }
  drag = { ...drag, x: event.offsetX, y: event.offsetY, moved: true }; draw();
});
el("space").addEventListener("pointerup", event => {
  if (drag && !drag.moved) {
    const near = drawn.map(([n, x, y, r]) => [Math.hypot(x - event.offsetX, y - event.offsetY) - r, n]).sort((a, b) => a[0] - b[0])[0];
    if (near && near[0] < 8) { chosen = near[1]; draw(); }
  }
  drag = null;
});
el("space").addEventListener("wheel", event => { event.preventDefault(); view.away *= Math.exp(0.0012 * event.deltaY); draw(); }, { passive: false });
el("space").addEventListener("dblclick", () => { home(); draw(); });
for (const id of ["trails", "goals"]) el(id).onchange = draw;
el("follow").onchange = event => {
  if (event.target.checked) view.away = Math.min(view.away, 5 * swarm.sight); else home();
  draw();
};
data.swarms.forEach((s, k) => el("swarm").append(new Option(`${s.name}: ${s.drones} drones${s.cell ? `, ${s.cell}` : ""}`, k)));
el("swarm").onchange = event => choose(Number(event.target.value));
el("slider").oninput = event => { setPlaying(false); moveTo(Number(event.target.value)); };
el("play").onclick = () => { if (!playing && frame === swarm.time.length - 1) moveTo(0); setPlaying(!playing); };
addEventListener("resize", () => draw());
const asked = new URLSearchParams(location.hash.slice(1));
choose(Math.min(Number(asked.get("swarm")) || 0, data.swarms.length - 1));
if (asked.has("drone")) chosen = Math.min(Number(asked.get("drone")) || 0, swarm.drones - 1);
if (asked.has("follow")) { el("follow").checked = true; view.away = Math.min(view.away, 5 * swarm.sight); }
if (asked.has("frame")) moveTo(Math.min(Number(asked.get("frame")) || 0, swarm.time.length - 1));
if (asked.has("play")) setPlaying(true);
draw();
