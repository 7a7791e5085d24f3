// The data of the page about a run: filters, texts, and the items of its table.

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
