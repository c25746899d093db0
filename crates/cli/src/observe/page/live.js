"use strict";
// The live page: asks for what is known, a second after the last answer, and shows it. Whatever comes is text, never markup, but the drawings that the
// server makes, in which it has escaped all words.

const PARTS = ["useful", "blocked", "slowed", "lost", "detecting", "restarting", "waiting"];
// Colour-blind safe (Okabe and Ito), the same in light and dark.
const KINDS = [
  ["computing, with the furthest", "#009e73"],
  ["behind by a few steps", "#e69f00"],
  ["far behind", "#d55e00"],
  ["silent, stuck or ended", "#8b1a1a"],
  ["starting", "#56b4e9"],
  ["left in order", "#8c8c8c"],
];
// Without a sign of life for longer than this a rank is shown as silent: well above its beat of a tenth of a second, and below what alerts wait for.
const SILENT = 1.5;

const at = (id) => document.getElementById(id);

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = String(text);
  if (className) element.className = className;
  return element;
}

function three(number) {
  return number < 9.995 ? number.toFixed(2) : number < 99.95 ? number.toFixed(1) : number.toFixed(0);
}

function span(seconds) {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "–";
  if (seconds < 5e-7) return "0 s";
  if (seconds < 0.9995) return three(seconds * 1000) + " ms";
  if (seconds < 600) return three(seconds) + " s";
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (hours < 1) return minutes + " min";
  if (days < 1) return hours + " h " + (minutes % 60) + " min";
  return days + " d " + (hours % 24) + " h";
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (bytes >= 999.5 && unit + 1 < units.length) { bytes /= 1024; unit += 1; }
  return (unit ? three(bytes) : String(bytes)) + " " + units[unit];
}

function moment(text) {
  const element = make("time");
  element.dateTime = text;
  const when = new Date(text);
  const two = (number) => String(number).padStart(2, "0");
  element.textContent = isNaN(when) ? text : [when.getFullYear(), two(when.getMonth() + 1), two(when.getDate())].join("-") + " " +
    [two(when.getHours()), two(when.getMinutes()), two(when.getSeconds())].join(":");
  element.title = text;
  return element;
}

function count(number, what) {
  return number + " " + what + (number === 1 ? "" : "s");
}

// Replaces the rows of a table; a row is a list of texts or elements, `numbers` the columns that hold numbers.
function rows(id, list, numbers) {
  const body = at(id);
  body.replaceChildren(...list.map((cells) => {
    const row = make("tr");
    cells.forEach((cell, column) => {
      const place = make("td", undefined, numbers.includes(column) ? "n" : "");
      if (cell instanceof Node) place.append(cell); else place.textContent = cell === null || cell === undefined ? "–" : String(cell);
      row.append(place);
    });
    return row;
  }));
}

function items(id, list) {
  at(id).replaceChildren(...list);
}

let view = null;
let chosen = -1;
let grid = { columns: 1, cell: 12 };

function kindOf(heat, place, blamed) {
  const presence = heat.presence[place];
  if (presence === "l") return 5;
  if (presence === "S" || presence === "e" || blamed.has(rankAt(heat, place))) return 3;
  if (presence === "s") return 4;
  if (heat.silent[place] > SILENT) return 3;
  const behind = heat.behind[place];
  return behind <= 1 ? 0 : behind <= 10 ? 1 : 2;
}

function rankAt(heat, place) {
  return heat.ranks.length ? heat.ranks[place] : place;
}

function blamedRanks() {
  return new Set(view.now.alerts.filter((alert) => alert.severity === "critical" && alert.labels.rank !== undefined).map((alert) => Number(alert.labels.rank)));
}

function drawHeat() {
  const canvas = at("heat"), heat = view.heat, total = heat.presence.length;
  const width = canvas.clientWidth || 300, scale = window.devicePixelRatio || 1;
  const cell = total <= 64 ? 28 : total <= 512 ? 18 : total <= 4096 ? 10 : 6;
  const columns = Math.max(1, Math.floor(width / cell)), lines = Math.max(1, Math.ceil(total / columns));
  grid = { columns, cell };
  canvas.style.height = lines * cell + "px";
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(lines * cell * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const ink = getComputedStyle(document.body).color, blamed = blamedRanks(), gap = cell > 8 ? 2 : 1;
  for (let place = 0; place < total; place += 1) {
    const x = (place % columns) * cell, y = Math.floor(place / columns) * cell, kind = kindOf(heat, place, blamed);
    pen.fillStyle = KINDS[kind][1];
    pen.fillRect(x, y, cell - gap, cell - gap);
    // Not by colour alone.
    if (kind === 3 && cell > 8) {
      pen.strokeStyle = "#ffffff";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.moveTo(x + 3, y + 3); pen.lineTo(x + cell - gap - 3, y + cell - gap - 3);
      pen.moveTo(x + cell - gap - 3, y + 3); pen.lineTo(x + 3, y + cell - gap - 3);
      pen.stroke();
    }
    if (place === chosen) {
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.strokeRect(x + 1, y + 1, cell - gap - 2, cell - gap - 2);
    }
  }
  canvas.dataset.kinds = Array.from({ length: Math.min(total, 4096) }, (_, place) => kindOf(heat, place, blamed)).join("");
  describe();
}

function describe() {
  const heat = view.heat, total = heat.presence.length;
  if (!total) {
    at("rank").textContent = "The ranks are not seen from here: they run on other nodes, or none runs.";
    return;
  }
  if (chosen < 0 || chosen >= total) {
    at("rank").textContent = count(total, "rank") + (view.now.world > total ? " of " + view.now.world + " are seen from here" : "") + ". Point at a square, or use the arrow keys, to see one.";
    return;
  }
  const names = { c: "computing", s: "starting", S: "stuck", e: "ended", l: "left" };
  at("rank").textContent = "Rank " + rankAt(heat, chosen) + (heat.nodes.length ? " on " + heat.nodes[heat.node[chosen]] : "") + ": " +
    (names[heat.presence[chosen]] || "unknown") + ", step " + (heat.furthest - heat.behind[chosen]) +
    (heat.behind[chosen] ? " (" + heat.behind[chosen] + " behind)" : "") + ", last sign of life " + span(heat.silent[chosen]) + " ago";
}

function choose(place) {
  const total = view ? view.heat.presence.length : 0;
  if (!total) return;
  chosen = Math.min(Math.max(place, 0), total - 1);
  drawHeat();
}

function placeOf(event) {
  const box = at("heat").getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / grid.cell), line = Math.floor((event.clientY - box.top) / grid.cell);
  const place = line * grid.columns + column;
  return column >= 0 && column < grid.columns && view && place < view.heat.presence.length ? place : -1;
}

function figures() {
  const now = view.now, parts = view.parts, list = [];
  const figure = (value, what) => {
    const item = make("li");
    item.append(make("b", value), what);
    list.push(item);
  };
  figure(now.step === null ? "–" : now.step.toLocaleString(), "the step that all ranks have reached");
  if (now.checkpoint) figure(span(now.checkpoint.age_seconds), "since the newest checkpoint, of step " + now.checkpoint.step + " (" + now.checkpoints + " kept)");
  else figure("none", "no checkpoint yet");
  if (parts.all > 0) figure((100 * parts.useful / parts.all).toFixed(1) + " %", "of the nodes' time was useful");
  const mtbf = view.mtbf;
  if (mtbf) figure(count(view.failures, "failure"), mtbf.seconds === null ? "in " + span(mtbf.observed_seconds) : "one every " + span(mtbf.seconds) + " (95 %: " + span(mtbf.low_seconds) + " to " + (mtbf.high_seconds === null ? "unknown" : span(mtbf.high_seconds)) + ")");
  items("figures", list);
}

function alerts() {
  const list = view.now.alerts.map((alert) => {
    const item = make("li", undefined, alert.severity);
    item.append(make("b", alert.severity + " " + alert.rule), alert.summary + " ", make("span", "since ", "faint"), moment(alert.since));
    return item;
  });
  items("alert-list", list.length ? list : [make("li", "Nothing is known to be wrong.")]);
}

function nodes() {
  const known = new Map(view.nodes.map((node) => [node.name, node]));
  const list = view.now.nodes.map((node) => {
    const past = known.get(node.name);
    known.delete(node.name);
    const state = make("span", node.state, node.state === "lost" || node.state === "silent" ? "bad" : "");
    return [node.name, state, node.ranks, node.heard_seconds === null ? null : span(node.heard_seconds) + " ago", past ? past.failures : 0, past ? past.alerts : 0,
      [node.reason, ...(past ? past.reasons : [])].filter((reason) => reason).join(", ")];
  });
  for (const node of known.values()) list.push([node.name, null, null, null, node.failures, node.alerts, node.reasons.join(", ")]);
  list.sort((a, b) => b[4] - a[4] || b[5] - a[5]);
  rows("nodes", list, [2, 3, 4, 5]);
  const hidden = view.nodes_in_all - view.nodes.length;
  at("nodes-caption").textContent = "Those first that something speaks against" + (hidden > 0 ? "; " + hidden + " more are in the report" : "");
}

function show() {
  const now = view.now;
  document.title = (now.alerts.some((alert) => alert.severity === "critical") ? "⚠ " : "") + now.job + ": " + now.state;
  at("job").textContent = now.job;
  const summary = [make("span", now.state, "state " + now.state), ", attempt " + now.epoch];
  if (now.world !== null) summary.push(", " + count(now.world, "rank"));
  if (now.host) summary.push(", first rank on " + now.host);
  if (now.started) summary.push(", since ", moment(now.started));
  at("summary").replaceChildren(...summary);
  figures();
  alerts();
  drawHeat();
  at("schedule").textContent = now.schedule || "";
  rows("taken", view.taken.slice().reverse().map((taken) => [taken.id, moment(taken.at), taken.step, span(taken.blocked), taken.latency === null ? "not yet, or never" : span(taken.latency), size(taken.bytes)]), [0, 2, 3, 4, 5]);
  at("taken-caption").textContent = view.taken.length ? "Taken lately, the newest first" : "None was taken yet";
  rows("chain", now.chain.map((kept) => {
    // One that is just being written is partial.
    const bad = ["damaged", "unreadable"].includes(kept.state) || (kept.detail && kept.state !== "partial");
    const notes = [kept.pinned ? "pinned" : "", kept.label || "", kept.detail || ""].filter((note) => note).join(", ");
    return [kept.epoch, kept.id, kept.step, kept.age_seconds === null ? null : span(kept.age_seconds), size(kept.bytes), make("span", kept.state, bad ? "bad" : ""), kept.builds_on.join(", ") || "nothing", kept.needed_by, notes];
  }), [0, 1, 2, 3, 4, 7]);
  nodes();
  rows("faults", view.faults.slice().reverse().map((fault) => [moment(fault.detected || fault.computed_until), fault.epoch, fault.class, fault.rank, fault.node, span(fault.detect_seconds), span(fault.recover_seconds), span(fault.lost_seconds), fault.summary]), [1, 3, 5, 6, 7]);
  at("faults-caption").textContent = view.failures ? "The newest first" + (view.failures > view.faults.length ? "; " + (view.failures - view.faults.length) + " earlier ones are in the report" : "") : "None";
  rows("attempts", view.attempts.slice().reverse().map((attempt) => [attempt.epoch, moment(attempt.started), span(attempt.seconds), attempt.last_step, attempt.checkpoints, attempt.ended]), [0, 2, 3, 4]);
  const doubts = at("doubts");
  doubts.hidden = !view.doubts.length;
  doubts.replaceChildren(make("p", "Not quite sure"), ...view.doubts.map((doubt) => make("p", doubt)));
}

async function ask(path) {
  const answer = await fetch(path, { credentials: "same-origin", cache: "no-store" });
  if (!answer.ok) throw new Error((await answer.text()).trim() || "the server answered " + answer.status);
  return answer;
}

let drawnAt = 0;

async function draw() {
  if (Date.now() - drawnAt < 4000) return;
  drawnAt = Date.now();
  for (const name of ["timeline", "progress"]) {
    const drawing = await (await ask("/live/" + name)).text();
    at(name).innerHTML = drawing;
  }
}

async function update() {
  try {
    const newest = await (await ask("/api/v1/view")).json();
    if (newest) {
      view = newest;
      show();
      await draw();
    } else if (view) {
      throw new Error("the job is gone");
    } else {
      at("summary").textContent = "No attempt of the job is known yet.";
    }
    at("stale").hidden = true;
    document.body.dataset.updates = String(Number(document.body.dataset.updates || 0) + 1);
  } catch (problem) {
    at("stale").hidden = false;
    at("stale").textContent = "Not up to date: " + problem.message + (view ? " (as of " + new Date(view.now.at).toLocaleTimeString() + ")" : "");
  }
  setTimeout(update, document.hidden ? 10000 : 1000);
}

items("legend", KINDS.map(([name, colour]) => {
  const item = make("li"), key = make("span", undefined, "key");
  key.style.background = colour;
  item.append(key, name);
  return item;
}));
items("parts", PARTS.map((name) => {
  const item = make("li");
  item.append(make("span", undefined, "key " + name), name);
  return item;
}));
at("heat").addEventListener("pointermove", (event) => { const place = placeOf(event); if (place >= 0) choose(place); });
at("heat").addEventListener("click", (event) => { const place = placeOf(event); if (place >= 0) choose(place); });
at("heat").addEventListener("keydown", (event) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: grid.columns, ArrowUp: -grid.columns };
  if (event.key in steps) { event.preventDefault(); choose(chosen < 0 ? 0 : chosen + steps[event.key]); }
  if (event.key === "Home") { event.preventDefault(); choose(0); }
  if (event.key === "End" && view) { event.preventDefault(); choose(view.heat.presence.length - 1); }
});
window.addEventListener("resize", () => { if (view) drawHeat(); });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (view) drawHeat(); });
update();
