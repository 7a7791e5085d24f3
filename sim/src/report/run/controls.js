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
  const keys = data.categories.filter((category) => used.has(category))
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
