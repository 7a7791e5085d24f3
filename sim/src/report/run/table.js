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
