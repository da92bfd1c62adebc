// The drone as a drone: four arms with rotors, turned as it flies, and a camera that goes with it.
const ROTOR = 0.42;                      // radius of a rotor over that of the drone
const LEAST_SIZE = 0.025;                // of the drawn radius over the longest side of the box, where all of it is shown
const FOLLOWED = 9;                      // radii between the drone and the camera that follows
let free = null;                         // the camera before it followed

// Outline in body axes, x ahead: arms across, a circle for each rotor, a line to the front; null lifts the pen.
const OUTLINE = (() => {
  const corners = [[1, 1], [-1, 1], [-1, -1], [1, -1]].map(([x, y]) => [0.7 * x, 0.7 * y, 0]), lines = [];
  lines.push(corners[0], corners[2], null, corners[1], corners[3], null, [0, 0, 0], [0.95, 0, 0], null);
  for (const [x, y] of corners) {
    for (let n = 0; n <= 12; n++) lines.push([x + ROTOR * Math.cos(n * Math.PI / 6), y + ROTOR * Math.sin(n * Math.PI / 6), 0.16]);
    lines.push(null);
  }
  return lines;
})();

function turnedBy([w, x, y, z], [a, b, c]) {
  const tx = 2 * (y * c - z * b), ty = 2 * (z * a - x * c), tz = 2 * (x * b - y * a);
  return [a + w * tx + y * tz - z * ty, b + w * ty + z * tx - x * tz, c + w * tz + x * ty - y * tx];
}

const drawnRadius = f => el("follow").checked ? f.radius : Math.max(f.radius, LEAST_SIZE * Math.max(...entry.box.map(span)));

// Columns x, y, z of the lines of a drone at a frame.
function bodyAt(f, k) {
  const size = drawnRadius(f), columns = [[], [], []];
  for (const p of OUTLINE) {
    const q = p && turnedBy(f.attitude[k], p);
    columns.forEach((column, c) => column.push(q ? f.position[c][k] + size * q[c] : null));
  }
  return columns;
}

const bodyTraces = flights => flights.map((f, n) => points(n ? "body without filter" : "body", bodyAt(f, 0),
  { mode: "lines", showlegend: false, hoverinfo: "skip", line: { width: 4, color: n ? C.off : C.ink } }));

function moveBodies(flights, k) {
  const found = flights.map(f => bodyAt(f, k)), column = c => found.map(columns => columns[c]);
  Plotly.restyle("space", { x: column(0), y: column(1), z: column(2) }, flights.map((_, n) => flights.length + n));
}

const bodyTexts = (f, k) => [`tilt ${show(f.tilt[k], 0, "\u00b0")}`,
  ...(f.rates ? [`rates ${f.rates[k].map(v => show(v, 1, "")).join(", ")} rad/s`] : [])];

// Places in units of plotly's camera: the middle of the box is zero, its longest side one.
function cameraPlace(f, k) {
  const longest = Math.max(...entry.box.map(span));
  return entry.box.map(([low, high], c) => (f.position[c][k] - (low + high) / 2) / longest);
}

function follow(f, k) {
  if (!el("follow").checked) return;
  const now = el("space").layout.scene.camera, centre = now.center || { x: 0, y: 0, z: 0 };
  let offset = ["x", "y", "z"].map(c => now.eye[c] - centre[c]);
  if (!free) {  // from here on at a few radii, from the side it was seen from; how people turn and zoom it stays
    free = now;
    const near = FOLLOWED * drawnRadius(f) / Math.max(...entry.box.map(span)), length = Math.hypot(...offset);
    offset = offset.map(v => v * near / length);
  }
  const at = cameraPlace(f, k), named = values => ({ x: values[0], y: values[1], z: values[2] });
  Plotly.relayout("space", { "scene.camera": { up: { x: 0, y: 0, z: 1 }, center: named(at), eye: named(at.map((v, c) => v + offset[c])) } });
}

function stopFollowing() {
  if (free) Plotly.relayout("space", { "scene.camera": free });
  free = null; move(frame);
}
