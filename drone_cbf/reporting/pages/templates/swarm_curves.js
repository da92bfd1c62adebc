// The two curves over time, with a cursor at the frame shown.
const PAD = { left: 46, right: 12, top: 26, bottom: 30 };

function niceStep(range) {
  const power = 10 ** Math.floor(Math.log10(Math.max(range, 1e-9) / 4));
  return [1, 2, 5, 10].map(s => s * power).find(s => range / s <= 5);
}

function curveOf(canvas, { title, time, values, low, high, colour, mark, frame, format }) {
  const { context: c, width, height } = prepared(canvas), end = time[time.length - 1];
  const x = t => PAD.left + (width - PAD.left - PAD.right) * t / end;
  const y = v => height - PAD.bottom - (height - PAD.top - PAD.bottom) * (v - low) / (high - low);
  c.font = "11px system-ui, sans-serif"; c.lineWidth = 1; c.strokeStyle = C.faint; c.fillStyle = C.muted; c.textAlign = "right";
  const step = niceStep(high - low);
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) {
    c.beginPath(); c.moveTo(PAD.left, y(v)); c.lineTo(width - PAD.right, y(v)); c.stroke();
    c.fillText(format(v, step), PAD.left - 6, y(v) + 4);
  }
  c.textAlign = "center";
  for (let t = 0, every = niceStep(end); t <= end + 1e-9; t += every) c.fillText(show(t, every < 1 ? 1 : 0, ""), x(t), height - PAD.bottom + 14);
  c.fillText("time [s]", (PAD.left + width - PAD.right) / 2, height - 3);
  if (mark !== null) { c.strokeStyle = C.collision; c.beginPath(); c.moveTo(PAD.left, y(mark)); c.lineTo(width - PAD.right, y(mark)); c.stroke(); }
  c.strokeStyle = colour; c.lineWidth = 2; c.beginPath();
  let begun = false;
  values.forEach((v, n) => {
    if (v === null || v > high) { begun = false; return; }  // farther apart than the picture shows
    if (begun) c.lineTo(x(time[n]), y(v)); else c.moveTo(x(time[n]), y(v));
    begun = true;
  });
  c.stroke();
  c.strokeStyle = C.ink; c.lineWidth = 1.5; c.beginPath(); c.moveTo(x(time[frame]), PAD.top); c.lineTo(x(time[frame]), height - PAD.bottom); c.stroke();
  c.textAlign = "left"; c.font = "13px system-ui, sans-serif"; c.fillStyle = C.ink; c.fillText(title, 4, 15);
}

function drawCurves(swarm, frame) {
  const gaps = swarm.gap.filter(v => v !== null), least = Math.min(0, ...gaps);
  const highest = Math.max(swarm.radius, 1.15 * Math.max(...gaps.slice(1), 0));
  const far = gaps.length ? Math.min(highest, Math.max(6 * swarm.radius, 3 * Math.min(...gaps))) : 1;
  curveOf(el("gap"), { title: `least gap between two hulls [m]: ${show(swarm.gap[frame], 3, "")}`, time: swarm.time, values: swarm.gap, low: least, high: far,
    colour: C.gap, mark: 0, frame, format: (v, step) => show(v, step < 0.1 ? 2 : 1, "") });
  curveOf(el("arrived"), { title: `at their goals: ${show(100 * swarm.arrived[frame], 0, " %")}`, time: swarm.time, values: swarm.arrived, low: 0, high: 1,
    colour: C.arrived, mark: null, frame, format: v => show(100 * v, 0, " %") });
}

for (const id of ["gap", "arrived"])
  el(id).addEventListener("click", event => {
    const end = swarm.time[swarm.time.length - 1], room = el(id).clientWidth - PAD.left - PAD.right;
    setPlaying(false); moveTo(frameAt((event.offsetX - PAD.left) / room * end));
  });
