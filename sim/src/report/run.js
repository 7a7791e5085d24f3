// The page about a run.

// ---- The data: columns as arrays, times in milliseconds.

const sums = (steps) => {
  const out = new Float64Array(steps.length);
  let last = 0;
  for (let i = 0; i < steps.length; i += 1) { last += steps[i]; out[i] = last / 1000; }
  return out;
};
const { lanes, kinds, texts, hashes } = data;
const T = sums(data.marks.t);
const { l: L, k: K, h: H, s: S, x: X, d: D } = data.marks;
const bursts = { ...data.bursts, t: sums(data.bursts.t) };
const messages = { ...data.messages, t: sums(data.messages.t) };
const kindNumber = Object.fromEntries(kinds.map((kind, at) => [kind.name, at]));
const violationMs = data.found ? data.found.at_ms : null;
const healed = K.indexOf(kindNumber.Heal);
const healMs = healed < 0 ? null : T[healed];
const endMs = Math.max(data.simulated_ms, T.length ? T[T.length - 1] : 0, 1);
const spans = data.spans.map((span, at) => ({
  ...span, at, from: span.a / 1000, to: span.b === null ? endMs : span.b / 1000, open: span.b === null,
}));
const slotAt = (ms) => Math.floor((ms - data.slot_1_ms) / data.slot_ms) + 1;
const slotStart = (slot) => data.slot_1_ms + (slot - 1) * data.slot_ms;

// A fault has a span on each lane that it affects and is one item.
const faults = new Map();
for (const span of spans) {
  if (span.kind !== 'fault') continue;
  if (!faults.has(span.fault)) faults.set(span.fault, { ...span, lanes: [] });
  faults.get(span.fault).lanes.push(span.l);
}

// Overlapping spans of a lane get levels, so that their names do not cover each other.
const MAX_LEVELS = 3;
{
  const free = lanes.map(() => []);
  for (const span of [...spans].sort((a, b) => a.from - b.from || b.to - a.to)) {
    const ends = free[span.l];
    let level = ends.findIndex((end) => end <= span.from);
    if (level < 0) level = ends.length < MAX_LEVELS ? ends.length : MAX_LEVELS - 1;
    ends[level] = Math.max(ends[level] ?? 0, span.to);
    span.level = level;
  }
}

// The lanes that the violation names.
const accused = new Set();
for (const [field, value] of data.found?.fields ?? []) {
  lanes.forEach((lane, at) => {
    const isNode = lane.kind === 'node' && typeof value === 'number' && /(^| )node$/.test(field) && lane.node === value;
    if (isNode || lane.name === value) accused.add(at);
  });
}

// ---- Filters and selection.

const GROUPS = [
  ['proposals', 'Proposals'], ['approvals', 'Approvals'], ['confirmations', 'Confirmations'], ['certificates', 'Certificates'],
  ['finality', 'Finality'], ['heads', 'Heads'], ['faults', 'Faults'], ['processes', 'Processes'], ['actors', 'Actors'],
  ['clocks', 'Clocks'], ['disks', 'Disk faults'], ['activity', 'Disk writes'], ['links', 'Links'], ['notices', 'Notices'],
  ['peers', 'Peers'], ['buggify', 'Buggify'], ['messages', 'Messages'],
];
const OFF_AT_FIRST = new Set(['heads', 'peers', 'activity', 'messages', 'buggify']);
const groupOf = kinds.map((kind) => kind.group);
const counts = Object.fromEntries(GROUPS.map(([group]) => [group, 0]));
for (const kind of K) counts[groupOf[kind]] += 1;
counts.faults += faults.size;
counts.activity = bursts.t.length;
counts.messages = messages.t.length;
const shown = new Set(GROUPS.map(([group]) => group).filter((group) => counts[group] > 0 && !OFF_AT_FIRST.has(group)));
/** Selected lanes; empty: all. */
const chosen = new Set();
let query = '';
let view = [0, endMs];
/** The selected item: { type, at }. */
let selected = null;
let hover = null;

const isLaneOn = (lane) => chosen.size === 0 || chosen.has(lane);
let kindOn = kinds.map(() => true);
const readKinds = () => { kindOn = kinds.map((kind) => shown.has(kind.group)); };
readKinds();

// ---- Texts.

const laneName = (lane) => lanes[lane].name;
const textOf = (mark) => (D[mark] ? texts[D[mark] - 1] : '');
const hashOf = (mark) => (X[mark] ? hashes[X[mark] - 1] : '');
const blockOf = (mark) => (X[mark] ? `height ${H[mark]}, slot ${S[mark]}, ${hashOf(mark)}` : '');

function markDetail(mark) {
  return [blockOf(mark), textOf(mark)].filter(Boolean).join(' · ');
}

function spanDetail(span) {
  const lasts = span.open ? 'to the end of the run' : `for ${seconds(span.to - span.from)}`;
  return [span.words, span.to > span.from ? lasts : ''].filter(Boolean).join(' · ');
}

const bytes = (n) => (n < 10_000 ? `${thousands(n)} bytes` : `${(n / 1000).toFixed(0)} kB`);

/** The texts of an item, for the table and the tooltip. */
function words(item) {
  const { type, at } = item;
  if (type === 'mark') {
    const kind = kinds[K[at]];
    return { ms: T[at], where: laneName(L[at]), what: kind.label, detail: markDetail(at), kind: kind.name };
  }
  if (type === 'fault' || type === 'fault-end') {
    const fault = faults.get(at);
    const where = [...new Set(fault.lanes)].map(laneName).join(', ');
    const isEnd = type === 'fault-end';
    const what = isEnd ? `end of ${fault.name}` : fault.name;
    return { ms: isEnd ? fault.to : fault.from, where, what, detail: isEnd ? fault.words : spanDetail(fault), kind: 'Fault', category: fault.category };
  }
  if (type === 'span') {
    const span = spans[at];
    const what = { down: 'down', paused: 'paused', actor_down: `${span.name} is down`, fault: span.name }[span.kind];
    return { ms: span.from, where: laneName(span.l), what, detail: spanDetail(span), kind: 'Fault' };
  }
  if (type === 'message') {
    const { f, o, d, b } = messages;
    const read = d[at] < 0 ? 'never read' : `read after ${(d[at] / 1000).toFixed(1)} ms`;
    return { ms: messages.t[at], where: `${laneName(f[at])} → ${laneName(o[at])}`, what: 'message', detail: `${bytes(b[at])}, ${read}` };
  }
  if (type === 'burst') {
    const { w, s, b } = bursts;
    return { ms: bursts.t[at], where: laneName(bursts.l[at]), what: 'disk', detail: `${w[at]} operations, ${s[at]} syncs, ${bytes(b[at])} written` };
  }
  return { ms: violationMs, where: [...accused].map(laneName).join(', '), what: data.found.name, detail: data.found.title, kind: 'Violation' };
}

// ---- Items of the table, sorted by time: marks, starts and ends of faults, the violation.

const items = [];
for (let at = 0; at < T.length; at += 1) items.push({ type: 'mark', at, ms: T[at] });
for (const [at, fault] of faults) {
  items.push({ type: 'fault', at, ms: fault.from });
  if (!fault.open && fault.to > fault.from) items.push({ type: 'fault-end', at, ms: fault.to });
}
if (data.found) items.push({ type: 'violation', at: 0, ms: violationMs });
items.sort((a, b) => a.ms - b.ms);
const itemTimes = Float64Array.from(items, (item) => item.ms);
/** For each item true if the search matches; null without a search. */
let hits = null;

function search() {
  const wanted = query.trim().toLowerCase().split(/\s+/).filter(Boolean);
  hits = wanted.length === 0 ? null : items.map((item) => {
    const { where, what, detail } = words(item);
    const text = `${where} ${what} ${detail}`.toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

function isOn(number) {
  const item = items[number];
  if (hits && !hits[number]) return false;
  if (item.type === 'violation') return true;
  if (item.type === 'mark') return kindOn[K[item.at]] && isLaneOn(L[item.at]);
  return shown.has('faults') && faults.get(item.at).lanes.some(isLaneOn);
}

/** Numbers of the items in view that pass the filters. */
let listed = [];

function list() {
  listed = [];
  const end = lowerBound(itemTimes, view[1] + 1e-9);
  for (let number = lowerBound(itemTimes, view[0]); number < end; number += 1) if (isOn(number)) listed.push(number);
}

const numberOf = (item) => items.findIndex((one) => one.type === item.type && one.at === item.at);

// ---- Layout.

// Lanes are lower in large networks, so that most of them are visible at once.
const crowd = lanes.filter((lane) => lane.kind === 'node').length;
const HEIGHTS = { chain: 42, world: 20, node: crowd > 5 ? 42 : 60, client: crowd > 5 ? 15 : 22, other: 15 };
const order = lanes.map((lane, at) => at).sort((a, b) => rank(a) - rank(b));
function rank(at) {
  const lane = lanes[at];
  const of = { chain: 0, world: 1, other: 900 }[lane.kind];
  return of ?? 10 + lane.node * 2 + (lane.kind === 'client' ? 1 : 0);
}
const tops = [];
const heights = [];
let total = 0;
for (const at of order) {
  tops[at] = total;
  heights[at] = HEIGHTS[lanes[at].kind];
  total += heights[at];
}
const laneAt = (y) => order.find((at) => y >= tops[at] && y < tops[at] + heights[at]);

/** The row of a mark within its lane, as a share of the height. Each kind of vote has its own row, so that gaps reveal a silent node in the overview. */
const ROWS = { Proposal: 0.42, Approval: 0.56, Confirmation: 0.7, Final: 0.86, Head: 0.86 };
const CHAIN_ROWS = { Proposal: 0.2, Certified: 0.42, Confirmed: 0.62, Final: 0.84 };
function rowOf(lane, kind) {
  const { kind: of } = lanes[lane];
  const name = kinds[kind].name;
  if (of === 'chain') return tops[lane] + heights[lane] * (CHAIN_ROWS[name] ?? 0.5);
  if (of === 'node') return tops[lane] + heights[lane] * (ROWS[name] ?? 0.2);
  return tops[lane] + heights[lane] * 0.5;
}

const lanesCanvas = $('lanes');
let [stageWidth, painter] = [0, null];
const toX = (ms) => ((ms - view[0]) / (view[1] - view[0])) * stageWidth;
const toMs = (x) => view[0] + (x / stageWidth) * (view[1] - view[0]);

const STYLE = {
  Proposal: ['triangle', 'proposal'], Approval: ['dot', 'approval'], Confirmation: ['dot', 'confirmation'],
  Certified: ['diamond', 'approval'], Confirmed: ['diamond', 'confirmation'], Final: ['square', 'final'], Head: ['ring', 'head'],
  Peers: ['tick', 'note'], Notice: ['ring', 'note'], Evidence: ['cross', 'byzantine'], Start: ['triangle', 'final'],
  Exit: ['cross', 'byzantine'], Death: ['cross', 'process'], Stop: ['down', 'process'], Pause: ['bars', 'process'],
  ActorDown: ['down', 'actor'], ActorUp: ['triangle', 'actor'], Strike: ['star', 'actor'], Fault: ['star', 'c-network'],
  Heal: ['plus', 'final'], Clock: ['clock', 'clock'], Disk: ['disk', 'disk'], Link: ['bars', 'links'], Connection: ['tick', 'links'],
  Buggify: ['dot', 'buggify'], Violation: ['cross', 'violation'],
};
const styles = kinds.map((kind) => STYLE[kind.name] ?? ['dot', 'note']);

const circle = (r) => `M${-r} 0A${r} ${r} 0 1 1 ${r} 0A${r} ${r} 0 1 1 ${-r} 0Z`;

/** Outlines as SVG paths of radius 1, for the canvas and for the icons of legends and tables. */
const SHAPES = {
  triangle: 'M-1 .85L0 -1L1 .85Z', down: 'M-1 -.85L0 1L1 -.85Z', diamond: 'M-1.15 0L0 -1.15L1.15 0L0 1.15Z', square: 'M-.9 -.9H.9V.9H-.9Z',
  star: 'M0 -1.2L.35 -.3L1.2 0L.35 .3L0 1.2L-.35 .3L-1.2 0L-.35 -.3Z', plus: 'M-.35 -1H.35V-.35H1V.35H.35V1H-.35V.35H-1V-.35H-.35Z',
  bars: 'M-.8 -1H-.25V1H-.8ZM.25 -1H.8V1H.25Z', tick: 'M-.25 -1H.25V1H-.25Z', disk: circle(1) + circle(0.4), dot: circle(1),
  cross: 'M-1 -1L1 1M1 -1L-1 1', ring: circle(1), clock: `${circle(1)}M0 -.6V0H.5`,
};
const STROKED = new Set(['cross', 'ring', 'clock']);
const outlines = Object.fromEntries(Object.entries(SHAPES).map(([shape, path]) => [shape, new Path2D(path)]));

function drawMark(context, shape, colour, x, y, r, isStroked = STROKED.has(shape)) {
  context.save();
  context.translate(x, y);
  context.scale(r, r);
  context.lineWidth = (shape === 'cross' ? Math.max(1.6, r * 0.5) : 1.4) / r;
  context.strokeStyle = colour;
  context.fillStyle = colour;
  if (isStroked) context.stroke(outlines[shape]); else context.fill(outlines[shape], 'evenodd');
  context.restore();
}

/** The icon of a mark for legends and tables. */
function icon(name) {
  const [shape, colour] = STYLE[name] ?? ['dot', 'note'];
  const svg = document.createElementNS('http' + '://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '-1.4 -1.4 2.8 2.8');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(svg.namespaceURI, 'path');
  path.setAttribute('d', SHAPES[shape]);
  const ink = `var(--${colour})`;
  path.setAttribute('style', STROKED.has(shape) ? `fill:none;stroke:${ink};stroke-width:.36` : `fill:${ink};fill-rule:evenodd`);
  svg.append(path);
  return svg;
}

// ---- Drawing.

let isDirty = false;
function redraw() {
  if (isDirty) return;
  isDirty = true;
  requestAnimationFrame(() => { isDirty = false; draw(); });
}

function draw() {
  const fitted = fit(lanesCanvas, total);
  [painter, stageWidth] = [fitted.context, fitted.width];
  drawGround();
  drawSpans();
  drawBursts();
  drawMessages();
  drawMarks();
  drawMoments();
  drawSelected();
  drawAxis();
  drawOverview();
  writeRange();
}

const font = (size, weight = '') => `${weight} ${size}px system-ui, "DejaVu Sans", sans-serif`;

function drawGround() {
  order.forEach((lane, at) => {
    painter.fillStyle = at % 2 ? palette.panel : palette.stripe;
    painter.fillRect(0, tops[lane], stageWidth, heights[lane]);
    if (lanes[lane].kind === 'node') {
      painter.fillStyle = palette.line;
      painter.fillRect(0, tops[lane], stageWidth, 1);
    }
  });
  // Times outside of the run are hatched.
  for (const [from, to] of [[view[0], 0], [endMs, view[1]]]) {
    if (to - from <= 0) continue;
    painter.fillStyle = palette.bg;
    painter.fillRect(toX(from), 0, toX(to) - toX(from), total);
    hatch(toX(from), 0, toX(to) - toX(from), total, palette.line, 9);
  }
  const slotWidth = (data.slot_ms / (view[1] - view[0])) * stageWidth;
  const every = roundStep(7 / slotWidth);
  painter.fillStyle = palette.grid;
  for (let slot = Math.ceil(slotAt(view[0]) / Math.max(1, every)) * Math.max(1, every); slotStart(slot) <= Math.min(view[1], endMs); slot += Math.max(1, every)) {
    painter.fillRect(Math.round(toX(slotStart(slot))), 0, 1, total);
  }
}

function hatch(x, y, width, height, colour, step) {
  painter.save();
  painter.beginPath();
  painter.rect(x, y, width, height);
  painter.clip();
  painter.strokeStyle = colour;
  painter.lineWidth = 1;
  painter.beginPath();
  for (let at = x - height - ((x - height) % step); at < x + width; at += step) {
    painter.moveTo(at, y + height);
    painter.lineTo(at + height, y);
  }
  painter.stroke();
  painter.restore();
}

function drawSpans() {
  const labels = [];
  for (const span of spans) {
    if (span.to < view[0] || span.from > view[1]) continue;
    const group = { fault: 'faults', down: 'processes', paused: 'processes', actor_down: 'actors' }[span.kind];
    if (!shown.has(group)) continue;
    const x = Math.max(-2, toX(span.from));
    const width = Math.max(2, Math.min(stageWidth + 2, toX(span.to)) - x);
    const [y, height] = [tops[span.l], heights[span.l]];
    painter.globalAlpha = isLaneOn(span.l) ? 1 : 0.3;
    if (span.kind === 'fault') {
      const colour = palette[`c-${span.category}`];
      painter.fillStyle = faded(colour, 0.15);
      painter.fillRect(x, y, width, height);
      painter.fillStyle = colour;
      painter.fillRect(x, y + span.level * 2, width, 2);
      labels.push({ span, x, width, colour, text: span.name });
    } else if (span.kind === 'actor_down') {
      painter.fillStyle = palette.actor;
      painter.fillRect(x, y + height - 3, width, 3);
    } else {
      painter.fillStyle = faded(palette.down, span.kind === 'down' ? 0.34 : 0.16);
      painter.fillRect(x, y, width, height);
      hatch(x, y, width, height, faded(palette.soft, 0.55), span.kind === 'down' ? 6 : 12);
      labels.push({ span, x, width, colour: palette.ink, text: span.kind === 'down' ? 'down' : 'paused' });
    }
  }
  painter.textBaseline = 'middle';
  for (const { span, x, width, colour, text } of labels) {
    const isLow = heights[span.l] < 30;
    painter.font = font(isLow ? 10 : 11, 600);
    const room = Math.min(width, stageWidth - x) - 6;
    if (room < painter.measureText(text).width) continue;
    painter.globalAlpha = isLaneOn(span.l) ? 1 : 0.3;
    const y = tops[span.l] + (isLow ? heights[span.l] / 2 + 1 : 11 + span.level * 11);
    painter.lineWidth = 3;
    painter.strokeStyle = faded(palette.panel, 0.85);
    painter.strokeText(text, Math.max(x, 0) + 4, y);
    painter.fillStyle = colour;
    painter.fillText(text, Math.max(x, 0) + 4, y);
  }
  painter.globalAlpha = 1;
}

function drawBursts() {
  if (!shown.has('activity')) return;
  const end = lowerBound(bursts.t, view[1]);
  for (let at = lowerBound(bursts.t, view[0] - 50); at < end; at += 1) {
    const lane = bursts.l[at];
    const x = toX(bursts.t[at]);
    painter.globalAlpha = isLaneOn(lane) ? 0.8 : 0.2;
    painter.fillStyle = palette.disk;
    const width = Math.max(1, toX(bursts.t[at] + bursts.for[at] / 1000) - x);
    const height = bursts.s[at] > 0 ? 3 : 1.5;
    painter.fillRect(x, tops[lane] + heights[lane] - height - 1, width, height);
  }
  painter.globalAlpha = 1;
}

/** Limit of drawn messages: more are unreadable and slow. */
const MAX_LINES = 4000;
let lines = [];
let drawnOneIn = 1;

function isMessageOn(at) {
  const [from, to] = [messages.f[at], messages.o[at]];
  if (chosen.size === 0) return true;
  return chosen.size === 1 ? chosen.has(from) || chosen.has(to) : chosen.has(from) && chosen.has(to);
}

/** The assumed longest delay of a message, which bounds the search for messages sent before the view; a few rare ones are slower and are not drawn. */
const LONGEST_MS = 5000;

function drawMessages() {
  lines = [];
  drawnOneIn = 1;
  if (!shown.has('messages')) return;
  const end = lowerBound(messages.t, view[1]);
  for (let at = lowerBound(messages.t, view[0] - LONGEST_MS); at < end; at += 1) {
    const arrives = messages.t[at] + Math.max(0, messages.d[at]) / 1000;
    if (arrives >= view[0] && isMessageOn(at)) lines.push(at);
  }
  drawnOneIn = Math.ceil(lines.length / MAX_LINES);
  if (drawnOneIn > 1) lines = lines.filter((_, place) => place % drawnOneIn === 0);
  const opacity = clamp(700 / (lines.length + 1), 0.18, 0.75);
  for (const lost of [false, true]) {
    painter.strokeStyle = lost ? faded(palette.violation, Math.max(opacity, 0.5)) : faded(palette.links, opacity);
    painter.lineWidth = 1;
    painter.setLineDash(lost ? [3, 3] : []);
    painter.beginPath();
    for (const at of lines) {
      if ((messages.d[at] < 0) !== lost) continue;
      const [x1, y1, x2, y2] = lineOf(at);
      painter.moveTo(x1, y1);
      painter.lineTo(x2, y2);
    }
    painter.stroke();
  }
  painter.setLineDash([]);
  // A dot marks the time of the read.
  painter.fillStyle = faded(palette.links, Math.min(1, opacity * 1.3));
  for (const at of lines) {
    if (messages.d[at] < 0) continue;
    const [, , x, y] = lineOf(at);
    painter.fillRect(x - 1.5, y - 1.5, 3, 3);
  }
}

function middleOf(lane) {
  return tops[lane] + heights[lane] * (lanes[lane].kind === 'node' ? 0.62 : 0.5);
}

function lineOf(at) {
  const [y1, y2] = [middleOf(messages.f[at]), middleOf(messages.o[at])];
  const x1 = toX(messages.t[at]);
  // The line of an unread message ends halfway.
  if (messages.d[at] < 0) return [x1, y1, x1 + 10, y1 + (y2 - y1) / 2];
  return [x1, y1, toX(messages.t[at] + messages.d[at] / 1000), y2];
}

function drawMarks() {
  const slotWidth = (data.slot_ms / (view[1] - view[0])) * stageWidth;
  const size = clamp(slotWidth / 11, 1.3, 5);
  const last = new Map();
  let lastLabel = -Infinity;
  const followed = selected?.type === 'mark' ? X[selected.at] : 0;
  const end = lowerBound(T, view[1] + 20);
  for (let at = lowerBound(T, view[0] - 20); at < end; at += 1) {
    const [kind, lane] = [K[at], L[at]];
    if (!kindOn[kind] || kinds[kind].name === 'Heal') continue;
    const isFollowed = followed !== 0 && X[at] === followed;
    const [x, row] = [toX(T[at]), rowOf(lane, kind)];
    const isVote = X[at] !== 0;
    const [shape, colour] = styles[kind];
    // At most one mark per pixel and row is drawn.
    const key = kind * 64 + lane;
    const pixel = Math.round(x);
    if (isVote && !isFollowed && last.get(key) === pixel) continue;
    last.set(key, pixel);
    const isRare = !isVote && !['tick', 'dot'].includes(shape);
    const r = isRare ? clamp(size + 1, 3.6, Math.min(5.5, heights[lane] / 3.4)) : Math.min(size + (isFollowed ? 1.5 : 0), heights[lane] / 5);
    painter.globalAlpha = isLaneOn(lane) ? 1 : 0.22;
    if (isVote && r < 2) {
      painter.fillStyle = palette[colour];
      painter.fillRect(x - r, row - 2.2, Math.max(1.2, 2 * r), 4.4);
    } else {
      drawMark(painter, shape, palette[colour], x, row, r);
    }
    if (isFollowed) drawMark(painter, shape === 'cross' ? 'dot' : shape, palette.ink, x, row, r + 1.5, true);
    if (lane === 0 && kinds[kind].name === 'Final' && slotWidth > 26 && x - lastLabel > 24) {
      lastLabel = x;
      painter.font = font(10, 600);
      painter.textBaseline = 'middle';
      painter.fillStyle = palette.final;
      painter.fillText(String(H[at]), x + r + 3, row);
    }
  }
  painter.globalAlpha = 1;
}

function drawMoments() {
  const line = (ms, colour, dash, width) => {
    if (ms === null || ms < view[0] || ms > view[1]) return;
    painter.strokeStyle = colour;
    painter.lineWidth = width;
    painter.setLineDash(dash);
    painter.beginPath();
    painter.moveTo(toX(ms), 0);
    painter.lineTo(toX(ms), total);
    painter.stroke();
    painter.setLineDash([]);
  };
  line(healMs, palette.final, [5, 4], 1.5);
  line(violationMs, palette.violation, [], 2);
  for (const lane of accused) {
    painter.strokeStyle = palette.violation;
    painter.lineWidth = 1.5;
    painter.strokeRect(0.75, tops[lane] + 0.75, stageWidth - 1.5, heights[lane] - 1.5);
    if (violationMs >= view[0] && violationMs <= view[1]) {
      drawMark(painter, 'cross', palette.violation, toX(violationMs), tops[lane] + heights[lane] * 0.5, 8);
    }
  }
}

/** The position of an item on the canvas. */
function placeOf(item) {
  if (item.type === 'mark') return [toX(T[item.at]), rowOf(L[item.at], K[item.at])];
  if (item.type === 'violation') return [toX(violationMs), accused.size ? tops[[...accused][0]] + heights[[...accused][0]] / 2 : total / 2];
  if (item.type === 'message') return lineOf(item.at).slice(0, 2);
  if (item.type === 'burst') return [toX(bursts.t[item.at]), tops[bursts.l[item.at]] + heights[bursts.l[item.at]] - 3];
  const span = item.type === 'span' ? spans[item.at] : faults.get(item.at);
  const lane = span.lanes?.[0] ?? span.l;
  return [toX(item.type === 'fault-end' ? span.to : span.from), tops[lane] + 6];
}

function drawSelected() {
  for (const [item, colour] of [[hover, palette.soft], [selected, palette.accent]]) {
    if (!item) continue;
    const [x, y] = placeOf(item);
    if (item.type === 'message') {
      const [x1, y1, x2, y2] = lineOf(item.at);
      painter.strokeStyle = colour;
      painter.lineWidth = 2.5;
      painter.beginPath();
      painter.moveTo(x1, y1);
      painter.lineTo(x2, y2);
      painter.stroke();
    }
    if (item.type === 'fault' || item.type === 'fault-end' || item.type === 'span') {
      const fault = item.type === 'span' ? { ...spans[item.at], lanes: [spans[item.at].l] } : faults.get(item.at);
      painter.strokeStyle = colour;
      painter.lineWidth = 2;
      for (const lane of fault.lanes) {
        painter.strokeRect(toX(fault.from), tops[lane] + 1, Math.max(2, toX(fault.to) - toX(fault.from)), heights[lane] - 2);
      }
      continue;
    }
    painter.strokeStyle = colour;
    painter.lineWidth = 2;
    painter.beginPath();
    painter.arc(x, y, 9, 0, 7);
    painter.stroke();
  }
}

function drawAxis() {
  const { context, width } = fit($('axis'), 20);
  context.textBaseline = 'middle';
  const perMs = width / (view[1] - view[0]);
  const slotWidth = data.slot_ms * perMs;
  const every = Math.max(1, roundStep(130 / slotWidth));
  const first = Math.ceil((slotAt(view[0]) - 0.999) / every) * every;
  for (let slot = first; slotStart(slot) <= view[1]; slot += every) {
    const x = toX(slotStart(slot));
    if (x < -2) continue;
    context.fillStyle = palette.line;
    context.fillRect(Math.round(x), 12, 1, 8);
    context.font = font(11, 600);
    context.fillStyle = palette.ink;
    const text = `slot ${slot}`;
    context.fillText(text, x + 3, 10);
    const used = context.measureText(text).width + 8;
    context.font = font(11);
    context.fillStyle = palette.soft;
    context.fillText(seconds(slotStart(slot), slotWidth > 400 ? 2 : 1), x + 3 + used, 10);
  }
  const moment = (ms, text, colour) => {
    if (ms === null || ms < view[0] || ms > view[1]) return;
    context.font = font(11, 700);
    const wide = context.measureText(text).width + 8;
    const x = clamp(toX(ms) - wide / 2, 0, width - wide);
    context.fillStyle = colour;
    context.fillRect(x, 1, wide, 18);
    context.fillStyle = palette.panel;
    context.fillText(text, x + 4, 10);
  };
  moment(healMs, 'recovery', palette.final);
  moment(violationMs, 'violation', palette.violation);
}

function drawOverview() {
  const { context, width, height } = fit($('overview'), 34);
  const x = (ms) => (ms / endMs) * width;
  const categories = ['network', 'time', 'process', 'disk', 'execution', 'actor'];
  for (const fault of faults.values()) {
    context.fillStyle = faded(palette[`c-${fault.category}`], 0.85);
    context.fillRect(x(fault.from), 3 + categories.indexOf(fault.category) * 2, Math.max(1.5, x(fault.to) - x(fault.from)), 2);
  }
  const bins = new Float64Array(Math.ceil(width / 3) + 1);
  for (let at = 0; at < T.length; at += 1) if (L[at] === 0 && kinds[K[at]].name === 'Final') bins[Math.floor(x(T[at]) / 3)] += 1;
  const most = Math.max(1, ...bins);
  context.fillStyle = palette.final;
  bins.forEach((n, at) => context.fillRect(at * 3, height - (n / most) * 12, 2, (n / most) * 12));
  const line = (ms, colour) => { if (ms !== null) { context.fillStyle = colour; context.fillRect(x(ms) - 1, 0, 2, height); } };
  line(healMs, palette.final);
  line(violationMs, palette.violation);
  context.fillStyle = faded(palette.bg, 0.62);
  context.fillRect(0, 0, x(view[0]), height);
  context.fillRect(x(view[1]), 0, width, height);
  context.strokeStyle = palette.accent;
  context.lineWidth = 2;
  context.strokeRect(x(view[0]) + 1, 1, Math.max(3, x(view[1]) - x(view[0]) - 2), height - 2);
}

function writeRange() {
  const [from, to] = view;
  const slots = data.slot_ms > 0 ? ` · slots ${Math.max(0, slotAt(from))} to ${Math.max(0, slotAt(to))}` : '';
  $('range').textContent = `${seconds(from)} – ${seconds(to)}${slots}`;
  $('note').textContent = messageNote();
}

function messageNote() {
  if (!shown.has('messages')) return '';
  const drawn = drawnOneIn > 1 ? ` One in ${drawnOneIn} is drawn: zoom in or select machines.` : '';
  if (data.messages_one_in <= 1 && messages.t.length >= data.messages_total) return `all ${thousands(data.messages_total)} messages.${drawn}`;
  const since = data.messages_complete_us < 1e15 ? `all messages since ${seconds(data.messages_complete_us / 1000, 1)}, ` : '';
  return `${since}one in ${data.messages_one_in} before.${drawn}`;
}

// ---- The table.

const ROW = 22;
const rows = $('rows');

function drawRows() {
  const spacer = el('div', { style: `height:${listed.length * ROW}px` });
  const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - 4);
  const some = listed.slice(first, first + Math.ceil(rows.clientHeight / ROW) + 8);
  const selectedNumber = selected ? numberOf(selected) : -1;
  rows.replaceChildren(spacer, ...some.map((number, at) => {
    const item = items[number];
    const { ms, where, what, detail, kind, category } = words(item);
    const isSelected = number === selectedNumber;
    const sign = category
      ? el('i', { style: `width:12px;height:10px;border-radius:2px;background:var(--c-${category})` })
      : icon(kind);
    const row = el('div', {
      class: `row${isSelected ? ' is-selected' : ''}${item.type === 'violation' ? ' is-violation' : ''}`,
      role: 'option', id: `row-${number}`, 'aria-selected': String(isSelected), style: `top:${(first + at) * ROW}px`,
      onclick: () => select(item, { keepRows: true }),
    }, el('span', { class: 'n mono' }, (ms / 1000).toFixed(3)), el('span', { class: 'n' }, String(Math.max(0, slotAt(ms)))),
    el('span', { title: where }, where), el('span', { class: 'what' }, sign, el('span', {}, what)), el('span', { title: detail }, detail));
    return row;
  }));
  if (selectedNumber >= 0) rows.setAttribute('aria-activedescendant', `row-${selectedNumber}`);
  else rows.removeAttribute('aria-activedescendant');
}

function showRow(number) {
  const place = lowerBound(listed, number);
  if (listed[place] !== number) return;
  const y = place * ROW;
  if (y < rows.scrollTop || y > rows.scrollTop + rows.clientHeight - ROW) rows.scrollTop = y - rows.clientHeight / 2;
}

let isListDirty = false;
function refresh() {
  redraw();
  if (isListDirty) return;
  isListDirty = true;
  requestAnimationFrame(() => {
    isListDirty = false;
    list();
    $('matches').textContent = hits ? `${thousands(hits.filter(Boolean).length)} found` : `${thousands(listed.length)} in view`;
    drawRows();
  });
}

rows.addEventListener('scroll', () => requestAnimationFrame(drawRows));

// ---- Navigation.

const LEAST_MS = 2;

function setView(from, to) {
  const most = endMs * 1.02;
  const width = clamp(to - from, LEAST_MS, most);
  const start = clamp(from + (to - from - width) / 2, -endMs * 0.01, endMs * 1.01 - width);
  view = [start, start + width];
  hideTip();
  hover = null;
  refresh();
}

function zoom(factor, aroundMs = (view[0] + view[1]) / 2) {
  const width = clamp((view[1] - view[0]) * factor, LEAST_MS, endMs * 1.02);
  const share = (aroundMs - view[0]) / (view[1] - view[0]);
  setView(aroundMs - width * share, aroundMs + width * (1 - share));
}

const pan = (share) => { const by = (view[1] - view[0]) * share; setView(view[0] + by, view[1] + by); };
const whole = () => setView(0, endMs);

function toViolation() {
  // Six slots around the violation, which is in the middle.
  const width = Math.min(endMs, Math.max(6 * data.slot_ms, 2000));
  view = [violationMs - width / 2, violationMs + width / 2];
  refresh();
  select({ type: 'violation', at: 0, ms: violationMs }, { keepView: true });
}

function select(item, { keepView = false, keepRows = false } = {}) {
  selected = item;
  const { ms, where, what, detail } = words(item);
  const width = view[1] - view[0];
  if (!keepView && (ms < view[0] + width * 0.02 || ms > view[1] - width * 0.02)) view = [ms - width / 2, ms + width / 2];
  $('status').textContent = `${seconds(ms)} ${where}: ${what}. ${detail}`;
  list();
  refresh();
  // The table scrolls only after the layout.
  if (!keepRows) requestAnimationFrame(() => { showRow(numberOf(item)); drawRows(); });
}

/** Selects the next item in time that passes the filters, also outside of the view. */
function step(by, isWanted = () => true) {
  let number = selected ? numberOf(selected) : lowerBound(itemTimes, (view[0] + view[1]) / 2) - (by > 0 ? 1 : 0);
  for (number += by; number >= 0 && number < items.length; number += by) {
    if (isOn(number) && isWanted(items[number])) { select(items[number]); return; }
  }
}

// ---- The pointer.

function itemAt(x, y) {
  const lane = laneAt(y);
  if (lane === undefined) return null;
  let [best, least] = [null, 9];
  const reach = ((view[1] - view[0]) / stageWidth) * 9;
  const middle = toMs(x);
  const end = lowerBound(T, middle + reach);
  for (let at = lowerBound(T, middle - reach); at < end; at += 1) {
    if (L[at] !== lane || !kindOn[K[at]]) continue;
    const distance = Math.hypot(toX(T[at]) - x, (rowOf(lane, K[at]) - y) * 0.8);
    if (distance < least) [best, least] = [{ type: 'mark', at, ms: T[at] }, distance];
  }
  if (best) return best;
  for (const at of lines) {
    const [x1, y1, x2, y2] = lineOf(at);
    const share = clamp(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / ((x2 - x1) ** 2 + (y2 - y1) ** 2 || 1), 0, 1);
    const distance = Math.hypot(x1 + share * (x2 - x1) - x, y1 + share * (y2 - y1) - y);
    if (distance < Math.min(4, least)) [best, least] = [{ type: 'message', at, ms: messages.t[at] }, distance];
  }
  if (best) return best;
  if (shown.has('activity') && y > tops[lane] + heights[lane] - 6) {
    const until = lowerBound(bursts.t, middle + reach);
    for (let at = lowerBound(bursts.t, middle - reach); at < until; at += 1) {
      if (bursts.l[at] === lane) return { type: 'burst', at, ms: bursts.t[at] };
    }
  }
  const under = spans.filter((span) => span.l === lane && span.from <= middle + reach / 3 && span.to >= middle - reach / 3);
  const visible = under.filter((span) => shown.has({ fault: 'faults', actor_down: 'actors' }[span.kind] ?? 'processes'));
  const span = visible.sort((a, b) => (a.to - a.from) - (b.to - b.from))[0];
  if (!span) return null;
  return span.kind === 'fault' ? { type: 'fault', at: span.fault, ms: span.from } : { type: 'span', at: span.at, ms: span.from };
}

function tipLines(item) {
  const { ms, where, what, detail } = words(item);
  const active = spans.filter((span) => span.kind === 'fault' && item.type === 'mark' && span.l === L[item.at] && span.from <= ms && span.to >= ms);
  const out = [`${where}: ${what}`, `${seconds(ms)}, slot ${Math.max(0, slotAt(ms))} + ${Math.round(ms - slotStart(slotAt(ms)))} ms`];
  if (detail) out.push(...detail.split(' · '));
  if (active.length) out.push(`during ${active.map((span) => span.name).join(', ')}`);
  return out;
}

let drag = null;
lanesCanvas.addEventListener('pointerdown', (event) => {
  drag = { x: event.offsetX, view: [...view], moved: false };
  lanesCanvas.setPointerCapture(event.pointerId);
});
lanesCanvas.addEventListener('pointermove', (event) => {
  const { offsetX: x, offsetY: y } = event;
  if (drag) {
    if (Math.abs(x - drag.x) > 3) drag.moved = true;
    if (drag.moved) {
      const by = ((drag.x - x) / stageWidth) * (drag.view[1] - drag.view[0]);
      setView(drag.view[0] + by, drag.view[1] + by);
    }
    return;
  }
  const item = itemAt(x, y);
  if (item) showTip(event.clientX, event.clientY, tipLines(item)); else hideTip();
  if (item?.type !== hover?.type || item?.at !== hover?.at) { hover = item; redraw(); }
});
lanesCanvas.addEventListener('pointerup', (event) => {
  const wasDrag = drag?.moved;
  drag = null;
  if (wasDrag) return;
  const item = itemAt(event.offsetX, event.offsetY);
  if (item) select(item, { keepView: true }); else { selected = null; refresh(); }
});
lanesCanvas.addEventListener('pointercancel', () => { drag = null; });
lanesCanvas.addEventListener('pointerleave', () => { hideTip(); if (hover) { hover = null; redraw(); } });
lanesCanvas.addEventListener('wheel', (event) => {
  event.preventDefault();
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) / 900);
  else zoom(Math.exp(clamp(event.deltaY, -300, 300) / 420), toMs(event.offsetX));
}, { passive: false });
lanesCanvas.addEventListener('dblclick', (event) => zoom(0.4, toMs(event.offsetX)));

const overview = $('overview');
function onOverview(event) {
  const ms = (event.offsetX / overview.clientWidth) * endMs;
  const width = view[1] - view[0];
  setView(ms - width / 2, ms + width / 2);
}
overview.addEventListener('pointerdown', (event) => {
  overview.setPointerCapture(event.pointerId);
  // With the whole run in view a drag selects a part instead of moving.
  const start = (event.offsetX / overview.clientWidth) * endMs;
  const isWhole = view[1] - view[0] > endMs * 0.95;
  const move = (next) => {
    const now = (next.offsetX / overview.clientWidth) * endMs;
    if (!isWhole) onOverview(next);
    else if (Math.abs(now - start) > endMs / 200) setView(Math.min(start, now), Math.max(start, now));
  };
  if (!isWhole) onOverview(event);
  overview.addEventListener('pointermove', move);
  overview.addEventListener('pointerup', () => overview.removeEventListener('pointermove', move), { once: true });
});

// ---- The keyboard.

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (!$('help').hidden) { if (event.key === 'Escape') help(false); return; }
  if (event.target === $('search')) {
    if (event.key === 'Escape') { $('search').value = ''; setQuery(''); lanesCanvas.focus(); }
    if (event.key === 'Enter') step(event.shiftKey ? -1 : 1);
    return;
  }
  if (event.target === rows && (event.key === 'ArrowDown' || event.key === 'ArrowUp')) {
    event.preventDefault();
    if (selected) step(event.key === 'ArrowDown' ? 1 : -1);
    else if (listed.length) select(items[listed[0]], { keepView: true });
    return;
  }
  const isFault = (item) => item.type === 'fault';
  const actions = {
    ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), '+': () => zoom(0.6), '=': () => zoom(0.6), '-': () => zoom(1 / 0.6),
    0: whole, Home: () => setView(0, view[1] - view[0]), End: () => setView(endMs - (view[1] - view[0]), endMs),
    n: () => step(1), p: () => step(-1), '.': () => step(1, isFault), ',': () => step(-1, isFault), m: () => toggle('messages'),
    v: () => data.found && toViolation(), '/': () => $('search').focus(), '?': () => help(true),
    Escape: () => { selected = null; chosen.clear(); drawGutter(); refresh(); },
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// ---- The controls.

function toggle(group) {
  if (counts[group] === 0) return;
  if (shown.has(group)) shown.delete(group); else shown.add(group);
  readKinds();
  drawKinds();
  refresh();
}

function drawKinds() {
  const focused = document.activeElement?.dataset?.group;
  const icons = {
    proposals: 'Proposal', approvals: 'Approval', confirmations: 'Confirmation', certificates: 'Certified', finality: 'Final', heads: 'Head',
    faults: 'Strike', processes: 'Death', actors: 'ActorDown', clocks: 'Clock', disks: 'Disk', activity: 'Peers', links: 'Link', notices: 'Notice',
    peers: 'Peers', buggify: 'Buggify', messages: 'Connection',
  };
  const chips = GROUPS.filter(([group]) => counts[group] > 0).map(([group, label]) => el('button', {
    type: 'button', class: 'chip', 'aria-pressed': String(shown.has(group)), 'data-group': group, onclick: () => toggle(group),
  }, icon(icons[group]), label, el('span', { class: 'count' }, thousands(counts[group]))));
  const used = new Set([...faults.values()].map((fault) => fault.category));
  const keys = ['network', 'time', 'process', 'disk', 'execution', 'actor'].filter((category) => used.has(category))
    .map((category) => el('span', { class: 'key' }, el('i', { style: `background:var(--c-${category})` }), category));
  if (spans.some((span) => span.kind === 'down')) {
    keys.push(el('span', { class: 'key' }, el('i', { style: 'background:repeating-linear-gradient(-45deg,var(--soft) 0 1px,transparent 1px 4px),var(--line)' }), 'down'));
  }
  $('kinds').replaceChildren(...chips);
  $('legend').replaceChildren(...keys);
  if (focused) $('kinds').querySelector(`[data-group="${focused}"]`)?.focus();
}

function drawGutter() {
  const gutter = $('gutter');
  gutter.style.height = `${total}px`;
  const focused = document.activeElement?.dataset?.lane;
  gutter.replaceChildren(...order.map((lane) => el('button', {
    type: 'button', 'data-lane': lane, 'aria-pressed': String(chosen.has(lane)),
    class: `${heights[lane] < 30 ? 'small' : ''}${accused.has(lane) ? ' accused' : ''}`,
    style: `top:${tops[lane] + 1}px;height:${heights[lane] - 2}px;line-height:${heights[lane] - 2}px`,
    onclick: () => {
      if (chosen.has(lane)) chosen.delete(lane); else chosen.add(lane);
      drawGutter();
      refresh();
    },
  }, laneName(lane))));
  if (focused) gutter.querySelector(`[data-lane="${focused}"]`)?.focus();
}

function setQuery(text) {
  query = text;
  search();
  refresh();
}

let waiting = 0;
$('search').addEventListener('input', (event) => {
  clearTimeout(waiting);
  waiting = setTimeout(() => setQuery(event.target.value), 120);
});
const on = (id, action) => $(id).addEventListener('click', action);
on('zoom-in', () => zoom(0.5));
on('zoom-out', () => zoom(2));
on('left', () => pan(-0.4));
on('right', () => pan(0.4));
on('whole', whole);
on('to-violation', toViolation);
on('previous', () => step(-1));
on('next', () => step(1));
on('helps', () => help(true));
on('about', () => {
  const isOpen = $('more').hidden;
  $('more').hidden = !isOpen;
  $('about').setAttribute('aria-expanded', String(isOpen));
  refresh();
});

let before = null;
function help(open) {
  $('help').hidden = !open;
  if (open) { before = document.activeElement; $('help').querySelector('button').focus(); } else before?.focus();
}

function drawHelp() {
  const keys = [
    ['wheel', 'zoom at the pointer; with shift, pan'], ['drag', 'pan'], ['← →', 'pan'], ['+ −', 'zoom'], ['0', 'whole run'],
    ['n p', 'next and previous event'], ['. ,', 'next and previous fault'], ['v', 'go to the violation'], ['m', 'messages'], ['/', 'search'],
    ['Esc', 'clear the selection'],
  ];
  $('help').append(el('div', {}, el('h2', {}, 'Keys'),
    el('table', {}, ...keys.map(([key, text]) => el('tr', {}, el('td', {}, el('kbd', {}, key)), el('td', {}, text)))),
    el('p', { style: 'margin-top:10px' }, 'Click a mark of a block to highlight that block on all lanes. Click the names of machines to show only these; with several selected, messages are those between them.'),
    el('p', {}, 'The chain’s lane shows the first proposal of a block, the votes that complete its quorums of approvals and of confirmations, and its first finality.'),
    el('button', { type: 'button', onclick: () => help(false) }, 'Close')));
  $('help').addEventListener('click', (event) => { if (event.target === $('help')) help(false); });
}

// ---- The header.

function drawHead() {
  $('name').textContent = `${data.scenario} · seed ${data.seed}`;
  $('verdict').textContent = data.verdict;
  $('verdict').classList.add(data.verdict);
  const size = `${data.stack} stack · ${data.nodes} nodes (quorum ${data.quorum}, slots of ${data.slot_ms} ms)`;
  const mutant = data.mutant ? `planted bug ${data.mutant} · ` : '';
  $('facts').textContent = `${mutant}${size} · ${data.final_height} final blocks · ${seconds(data.simulated_ms, 1)} simulated in ${seconds(data.wall_ms, 1)} · ${thousands(data.events)} events · ${data.why}`;
  $('facts').title = $('facts').textContent;
  copyButton($('copy'), data.replay);
  $('copy').title = data.replay;
  if (data.found) drawViolation();
  drawMore();
}

function drawViolation() {
  $('to-violation').hidden = false;
  const { name, title, explanation, fields } = data.found;
  const active = [...faults.values()].filter((fault) => fault.from <= violationMs && fault.to >= violationMs);
  const ongoing = active.map((fault) => `${fault.name} on ${[...new Set(fault.lanes)].map(laneName).join(', ')}`);
  const past = [...faults.values()].filter((fault) => fault.to < violationMs).sort((a, b) => b.to - a.to)[0];
  const around = ongoing.length ? `Active faults: ${ongoing.join('; ')}.`
    : past ? `No fault was active; the last one, ${past.name} on ${[...new Set(past.lanes)].map(laneName).join(', ')}, had ended ${seconds(violationMs - past.to, 1)} before.`
      : 'No fault had begun before.';
  const seek = (text) => { $('search').value = text; setQuery(text); };
  // Violations have the protocol's slots; the page counts slots from the start of the run.
  const slotted = (field, value) => (/slot|^before$|^approved$|^locked$/.test(field) && value >= data.first_slot ? `${value - data.first_slot} (${value})` : String(value));
  const values = fields.map(([field, value]) => el('span', {}, el('b', {}, `${field} `),
    typeof value === 'string' && /^[0-9a-f]{10}$/.test(value) ? el('button', { type: 'button', class: 'mono', title: 'Search for this hash', onclick: () => seek(value) }, value)
      : el('span', { class: 'mono' }, slotted(field, value))));
  $('violation').append(
    el('h2', {}, `${title} `, el('span', { class: 'mono soft' }, `${name} at ${seconds(violationMs)}, slot ${slotAt(violationMs)}`)),
    el('button', { type: 'button', onclick: toViolation, style: 'grid-row: span 2; align-self: start' }, 'Show'),
    el('div', { class: 'fields' }, ...values),
    el('p', { style: 'grid-column: 1 / -1' }, `${explanation} ${around}`));
  $('violation').hidden = false;
}

function drawMore() {
  const counters = Object.entries(data.counters).map(([name, n]) => el('div', {}, el('span', {}, name), el('span', { class: 'mono' }, thousands(n))));
  const left = Object.entries(data.left_out).map(([what, n]) => `${thousands(n)} ${what}`);
  $('more').append(el('div', { class: 'cols' },
    el('div', { style: 'max-width:620px' }, el('h2', {}, 'The run'), el('p', {}, data.why),
      el('p', {}, 'Replay: ', el('code', {}, data.replay)),
      el('p', { class: 'soft' }, `${data.nodes} nodes, ${data.fault_model} faults, quorum ${data.quorum}; faults until ${seconds(data.until_ms, 1)}; slot 0 is ${data.first_slot}; trace hash `, el('code', {}, data.trace_hash.slice(0, 16))),
      left.length ? el('p', { class: 'soft' }, `Left out because of the page's size limit: ${left.join(', ')}.`) : null,
      el('h3', {}, `The plan’s faults (${data.steps.length})`), el('ol', {}, ...data.steps.map((text) => el('li', {}, text)))),
    el('div', {}, el('h2', {}, 'Counters'), el('div', { class: 'counters' }, ...counters))));
}

// ---- Start.

drawHead();
drawHelp();
drawKinds();
drawGutter();
startTheme(refresh);
addEventListener('resize', refresh);
list();
if (data.found) toViolation(); else whole();
requestAnimationFrame(() => requestAnimationFrame(() => { document.body.dataset.ready = 'yes'; }));

/** For tests and the console. */
window.page = {
  view: () => [...view],
  listed: () => listed.length,
  place: (number) => placeOf(items[number]),
  inView: () => listed.map((number) => ({ number, ...words(items[number]) })),
  select: (number) => select(items[number]),
};
