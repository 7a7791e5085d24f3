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
