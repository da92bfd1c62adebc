"use strict";
// A camera that looks at a point, and drawing of the scene on a plain canvas: everything is sorted by depth, far first.
const data = JSON.parse(document.getElementById("data").textContent);
const el = id => document.getElementById(id), C = data.colours;
const LENS = 1.6;                        // focal length over half the height of the picture
const TRAIL = 1.2;                       // how far trails reach back [s]
const view = { centre: [0, 0, 0], azimuth: -1.0, height: 0.55, away: 5 };

const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const along = (a, b, s) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];

// Canvas with as many pixels as the screen shows of it.
function prepared(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function axes() {
  const { azimuth, height } = view;
  return { back: [Math.cos(height) * Math.cos(azimuth), Math.cos(height) * Math.sin(azimuth), Math.sin(height)],
    right: [-Math.sin(azimuth), Math.cos(azimuth), 0],
    up: [-Math.sin(height) * Math.cos(azimuth), -Math.sin(height) * Math.sin(azimuth), Math.cos(height)] };
}

// Function from a point [m] to [x, y, pixels per metre, depth]; depth at most 0 is behind the eye.
function projection({ width, height }) {
  const { back, right, up } = axes(), eye = along(view.centre, back, view.away), focal = LENS * height / 2;
  return p => {
    const q = minus(p, eye), depth = -dot(q, back), scale = focal / Math.max(depth, 1e-3);
    return [width / 2 + scale * dot(q, right), height / 2 - scale * dot(q, up), scale, depth];
  };
}

// Places of all drones at a frame, three numbers each [m].
function placesAt(swarm, frame, into) {
  const first = frame * swarm.drones * 3, { low, size, levels } = swarm;
  for (let n = 0; n < swarm.drones * 3; n++) into[n] = low[n % 3] + size[n % 3] * levels[first + n] / 65535;
  return into;
}
const placeOf = (places, n) => [places[3 * n], places[3 * n + 1], places[3 * n + 2]];

// The nearest others within the sensing radius, as the controller is given them.
function perceivedBy(swarm, places, chosen) {
  const own = placeOf(places, chosen), found = [];
  for (let n = 0; n < swarm.drones; n++) {
    if (n === chosen) continue;
    const apart = Math.hypot(...minus(placeOf(places, n), own));
    if (apart < swarm.sight) found.push([apart, n]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, swarm.perceived);
}

const shade = (colour, part) => {
  const parts = [1, 3, 5].map(at => Math.round(Math.min(255, part * parseInt(colour.slice(at, at + 2), 16))));
  return `rgb(${parts.join()})`;
};

// One disc for each shade, with the light from above left, painted once.
const sprites = new Map();
function ball(colour) {
  if (!sprites.has(colour)) {
    const canvas = document.createElement("canvas"), side = canvas.width = canvas.height = 96, context = canvas.getContext("2d");
    const light = context.createRadialGradient(side * 0.38, side * 0.34, side * 0.04, side / 2, side / 2, side / 2);
    light.addColorStop(0, shade(colour, 1.45)); light.addColorStop(0.55, colour); light.addColorStop(1, shade(colour, 0.72));
    context.fillStyle = light;
    context.beginPath(); context.arc(side / 2, side / 2, side / 2 - 0.5, 0, 2 * Math.PI); context.fill();
    sprites.set(colour, canvas);
  }
  return sprites.get(colour);
}

// What stands in the scene as things with a depth and a function that draws them.
function obstacleThings(swarm, time, project) {
  const things = [], moved = (p, velocity) => along(p, velocity, time);
  for (const [x, y, z, radius, velocity] of swarm.balls) {
    const [px, py, scale, depth] = project(moved([x, y, z], velocity)), r = radius * scale;
    if (depth > radius) things.push([depth, c => c.drawImage(ball(velocity.some(v => v) ? C.moving : C.obstacle), px - r, py - r, 2 * r, 2 * r)]);
  }
  for (const [x, y, low, high, radius] of swarm.trunks) {
    const [bottom, top] = [project([x, y, low]), project([x, y, high])];
    if (Math.min(bottom[3], top[3]) > radius) things.push([(bottom[3] + top[3]) / 2, c => trunk(c, bottom, top, radius)]);
  }
  for (const { faces, velocity } of swarm.solids)
    for (const face of faces) {
      const corners = [];
      for (let n = 0; n < face.length; n += 3) corners.push(moved(face.slice(n, n + 3), velocity));
      const seen = corners.map(project), depth = seen.reduce((sum, p) => sum + p[3], 0) / seen.length;
      if (seen.every(p => p[3] > 0)) things.push([depth, c => polygon(c, seen, faceColour(corners, velocity))]);
    }
  return things;
}

function faceColour(corners, velocity) {
  const [a, b] = [minus(corners[1], corners[0]), minus(corners[2], corners[0])];
  const normal = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const light = Math.abs(dot(normal, [-0.3, -0.5, 0.81])) / Math.max(Math.hypot(...normal), 1e-12);
  return shade(velocity.some(v => v) ? C.moving : C.obstacle, 0.8 + 0.35 * light);
}

function polygon(context, seen, fill) {
  context.beginPath();
  seen.forEach(([x, y], n) => n ? context.lineTo(x, y) : context.moveTo(x, y));
  context.closePath();
  context.globalAlpha = 0.78; context.fillStyle = fill; context.fill();
  context.globalAlpha = 0.5; context.strokeStyle = C.muted; context.lineWidth = 0.6; context.stroke();
  context.globalAlpha = 1;
}

function trunk(context, [x0, y0, s0], [x1, y1, s1], radius) {
  polygon(context, [[x0 - s0 * radius, y0], [x0 + s0 * radius, y0], [x1 + s1 * radius, y1], [x1 - s1 * radius, y1]], C.obstacle);
}

// The floor: a grid of round steps below everything, with its extent in metres.
function floor(context, swarm, project) {
  const [low, high] = swarm.box, level = swarm.ground === null ? low[2] : swarm.ground;
  const wide = Math.max(high[0] - low[0], high[1] - low[1]), power = 10 ** Math.floor(Math.log10(wide / 4));
  const step = [1, 2, 5, 10].map(s => s * power).find(s => wide / s <= 8);
  const from = low.map(v => step * Math.floor(v / step)), to = high.map(v => step * Math.ceil(v / step));
  context.strokeStyle = C.faint; context.lineWidth = 1;
  const line = (a, b) => {
    const [p, q] = [project(a), project(b)];
    if (p[3] <= 0 || q[3] <= 0) return;
    context.beginPath(); context.moveTo(p[0], p[1]); context.lineTo(q[0], q[1]); context.stroke();
  };
  for (let x = from[0]; x <= to[0] + step / 2; x += step) line([x, from[1], level], [x, to[1], level]);
  for (let y = from[1]; y <= to[1] + step / 2; y += step) line([from[0], y, level], [to[0], y, level]);
  context.fillStyle = C.muted; context.font = "11px system-ui, sans-serif"; context.textAlign = "center";
  const label = (text, p) => { const [x, y, , depth] = project(p); if (depth > 0) context.fillText(text, x, y + 12); };
  label(`x ${show(to[0], 1, " m")}`, [to[0], from[1], level]); label(`y ${show(to[1], 1, " m")}`, [from[0], to[1], level]);
  label(`${show(from[0], 1, "")}, ${show(from[1], 1, " m")}`, [from[0], from[1], level]);
}

const show = (x, digits, unit) => x === null ? "\u2013" : x.toFixed(digits).replace(/^-(0\.?0*)$/, "$1") + unit;
