// Obstacles of the chosen flight as meshes: those that stand still in one, those that move in another.
const SIDES = 22;                        // of a solid of revolution
const LOOK = { type: "mesh3d", flatshading: false, hoverinfo: "skip",
  lighting: { ambient: 0.62, diffuse: 0.6, specular: 0.08, roughness: 0.9 }, lightposition: { x: -2000, y: -3000, z: 6000 } };

const emptyMesh = () => ({ x: [], y: [], z: [], i: [], j: [], k: [], velocity: [], shown: false });

function addPoint(mesh, p, velocity) {
  mesh.shown = true; mesh.x.push(p[0]); mesh.y.push(p[1]); mesh.z.push(p[2]); mesh.velocity.push(velocity);
  return mesh.x.length - 1;
}
const addTriangle = (mesh, a, b, c) => { mesh.i.push(a); mesh.j.push(b); mesh.k.push(c); };

// A capsule: its outline turned about the vertical axis.
function addTurned(mesh, [cx, cy, outline, velocity]) {
  const first = mesh.x.length;
  for (const [height, distance] of outline)
    for (let s = 0; s < SIDES; s++) {
      const turn = 2 * Math.PI * s / SIDES;
      addPoint(mesh, [cx + distance * Math.cos(turn), cy + distance * Math.sin(turn), height], velocity);
    }
  for (let row = 0; row + 1 < outline.length; row++)
    for (let s = 0; s < SIDES; s++) {
      const a = first + row * SIDES + s, b = first + row * SIDES + (s + 1) % SIDES;
      addTriangle(mesh, a, b, a + SIDES); addTriangle(mesh, b, b + SIDES, a + SIDES);
    }
}

// Corners shared by two faces are shaded as round, others as an edge: flat faces get corners of their own.
function addFaces(mesh, { faces, round, velocity }) {
  const shared = new Map();
  for (const face of faces) {
    const corners = [];
    for (let n = 0; n < face.length; n += 3) {
      const p = face.slice(n, n + 3), key = p.join();
      const smooth = round && face.length <= 15;  // an end of a cylinder has more corners than a side, even a cut one
      if (!smooth) corners.push(addPoint(mesh, p, velocity));
      else { if (!shared.has(key)) shared.set(key, addPoint(mesh, p, velocity)); corners.push(shared.get(key)); }
    }
    for (let n = 1; n + 1 < corners.length; n++) addTriangle(mesh, corners[0], corners[n], corners[n + 1]);
  }
}

function buildScene() {
  entry.standing = emptyMesh(); entry.moving = emptyMesh();
  const mesh = velocity => velocity.some(v => v) ? entry.moving : entry.standing;
  for (const capsule of entry.obstacles) addTurned(mesh(capsule[3]), capsule);
  for (const solid of entry.polyhedra) addFaces(mesh(solid.velocity), solid);
}

const meshTrace = ({ x, y, z, i, j, k }, name, color) => ({ ...LOOK, x, y, z, i, j, k, color, name, showlegend: true });
const standing = () => entry.standing.shown ? [meshTrace(entry.standing, "obstacle", C.obstacle)] : [];
const movingTraces = () => [ ...(entry.moving.shown ? [meshTrace(entry.moving, "moving obstacle", C.moving)] : []), ...sensorTraces() ];

const floorHeight = () => entry.ground === null ? entry.box[2][0] : entry.ground + 0.01;  // above the ground, not in it
function groundTraces() {
  if (entry.ground === null) return [];
  const [[x0, x1], [y0, y1]] = entry.box, z = entry.ground;
  return [{ ...LOOK, x: [x0, x1, x1, x0], y: [y0, y0, y1, y1], z: [z, z, z, z], i: [0, 0], j: [1, 2], k: [2, 3], color: C.ground,
    name: "ground", lighting: { ambient: 1, diffuse: 0, specular: 0 } }];
}

// Every corner of a moving obstacle goes on with the obstacle's velocity [m/s].
function moveScene(time, index) {
  const mesh = entry.moving;
  if (!mesh.shown) return;
  const at = (values, c) => [values.map((v, n) => v + mesh.velocity[n][c] * time)];
  Plotly.restyle("space", { x: at(mesh.x, 0), y: at(mesh.y, 1), z: at(mesh.z, 2) }, [index]);
}
