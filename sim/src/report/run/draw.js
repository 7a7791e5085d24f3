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
  for (const fault of faults.values()) {
    context.fillStyle = faded(palette[`c-${fault.category}`], 0.85);
    context.fillRect(x(fault.from), 3 + data.categories.indexOf(fault.category) * 2, Math.max(1.5, x(fault.to) - x(fault.from)), 2);
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
