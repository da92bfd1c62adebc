// What the sensor saw at the current step: hits as points in space, the depth image as an inset.
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const NEAR_GREY = 40, FAR_GREY = 235, NOTHING = [222, 236, 247];

function openSensor() {
  const sensor = entry.sensor;
  el("sensorLabel").hidden = !sensor;
  el("depth").hidden = !sensor || !sensor.depth;
  if (!sensor) return;
  el("sensorText").textContent = sensor.stride > 1 ? `sensor (every ${sensor.stride} frames)` : "sensor";
  if (sensor.seen && !sensor.seen.begin) {
    sensor.seen.values = new Uint16Array(bytes(sensor.seen.data).buffer);
    sensor.seen.begin = [0];
    for (const count of sensor.seen.counts) sensor.seen.begin.push(sensor.seen.begin.at(-1) + count);
  }
  if (sensor.depth) sensor.depth.values = sensor.depth.values || bytes(sensor.depth.data);
}

const sensorTraces = () => !entry.sensor || !entry.sensor.seen ? [] :
  [points("sensor hits", [[null], [null], [null]], { hoverinfo: "skip", marker: { size: 3.2, color: C.seen } })];

function hits({ low, size, begin, values }, reading) {
  const columns = [[], [], []];
  for (let n = begin[reading]; n < begin[reading + 1]; n++)
    for (let c = 0; c < 3; c++) columns[c].push(low[c] + size[c] * values[3 * n + c] / 65535);
  return columns[0].length ? columns : [[null], [null], [null]];
}

function paintDepth({ width, height, far, values }, reading) {
  const canvas = el("image"), context = canvas.getContext("2d");
  canvas.width = width; canvas.height = height;
  const image = context.createImageData(width, height), first = reading * width * height;
  for (let n = 0; n < width * height; n++) {
    const level = values[first + n], grey = NEAR_GREY + (FAR_GREY - NEAR_GREY) * level / 254;
    image.data.set(level === 255 ? [...NOTHING, 255] : [grey, grey, grey, 255], 4 * n);
  }
  context.putImageData(image, 0, 0);
  el("depthText").textContent = `depth: dark 0 m, light ${far.toFixed(1)} m, blue nothing`;
}

function showSensor(k, index) {
  const sensor = entry.sensor, on = el("sensor").checked;
  if (!sensor) return;
  const reading = Math.floor(k / sensor.stride);
  if (sensor.seen) {
    const [x, y, z] = on ? hits(sensor.seen, reading) : [[null], [null], [null]];
    Plotly.restyle("space", { x: [x], y: [y], z: [z] }, [index]);
  }
  el("depth").hidden = !on || !sensor.depth;
  if (on && sensor.depth) paintDepth(sensor.depth, reading);
}
