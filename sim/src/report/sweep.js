// The page about a sweep.

const FIELDS = ['scenario', 'seed', 'verdict', 'group', 'mutant', 'wall', 'simulated', 'events', 'height', 'faults', 'hasPage', 'stack'];
const runs = data.runs.map((row, at) => ({ ...Object.fromEntries(FIELDS.map((field, place) => [field, row[place]])), at }));
const VERDICTS = ['passed', 'failed', 'timeout'];
const sum = (list, value) => list.reduce((total, one) => total + value(one), 0);
const count = (verdict) => runs.filter((run) => run.verdict === verdict).length;
const [passed, failed, timeouts] = [0, 1, 2].map(count);
const scenarioOf = (run) => data.scenarios[run.scenario];
const mutantOf = (run) => (run.mutant === null ? '' : `-${data.mutants[run.mutant]}`);
const pageOf = (run) => `${scenarioOf(run)}-${run.seed}${mutantOf(run)}.html`;
const replayOf = (run) => `cargo sim run ${scenarioOf(run)} --seed ${run.seed} --stack ${run.stack}${run.mutant === null ? '' : ` --mutant ${data.mutants[run.mutant]}`}`;
/** Distinguishable colours of the palette. */
const SERIES = ['proposal', 'c-disk', 'final', 'confirmation', 'actor', 'approval', 'clock', 'byzantine', 'note', 'buggify'];

const minutes = (ms) => (ms < 120_000 ? `${(ms / 1000).toFixed(1)} s` : ms < 7_200_000 ? `${(ms / 60_000).toFixed(1)} min` : `${(ms / 3_600_000).toFixed(1)} h`);

function drawHead() {
  const verdict = failed ? 'failed' : timeouts ? 'timeout' : 'passed';
  $('verdict').textContent = failed ? `${failed} failed` : timeouts ? `${timeouts} timed out` : 'all passed';
  $('verdict').classList.add(verdict);
  const builds = data.builds.map(([hash, commit]) => (commit ? `${commit} (build ${hash.slice(0, 8)})` : `build ${hash.slice(0, 8)}`));
  const torn = data.torn ? ` · ${data.torn} torn lines of the ledger left out` : '';
  $('facts').textContent = `${builds.join(', ')}${torn}`;
  const [wall, simulated] = [sum(runs, (run) => run.wall), sum(runs, (run) => run.simulated)];
  const tiles = [
    [thousands(runs.length), 'runs'], [thousands(passed), 'passed'], [thousands(failed), 'failed'], [thousands(timeouts), 'timed out'],
    [thousands(data.groups.filter((group) => group.invariant).length), 'kinds of failures'], [minutes(simulated), 'simulated'], [minutes(wall), 'CPU time'],
    [`${(simulated / Math.max(1, wall)).toFixed(1)} : 1`, 'simulated to real'], [thousands(runs.length / Math.max(1, wall) * 3_600_000), 'runs per CPU hour'],
    [thousands(sum(runs, (run) => run.height)), 'final blocks'], [thousands(sum(runs, (run) => run.faults)), 'faults'], [thousands(data.counters.length), 'different counters seen'],
  ];
  $('tiles').replaceChildren(...tiles.map(([value, label]) => el('div', {}, el('b', {}, value), el('span', {}, label))));
}

// ---- Outcome by seed: a square for each run, a block of rows for each scenario (and planted bug).

const CELL = 11;
const GAP = 2;
const LABEL = 210;
const rowsOf = new Map();
for (const run of runs) {
  const name = `${scenarioOf(run)}${run.mutant === null ? '' : `, ${data.mutants[run.mutant]}`}`;
  if (!rowsOf.has(name)) rowsOf.set(name, []);
  rowsOf.get(name).push(run);
}
for (const those of rowsOf.values()) those.sort((a, b) => a.seed - b.seed);
const blocks = [...rowsOf].sort(([a], [b]) => (a < b ? -1 : 1));
let cells = [];
let cursor = -1;

function drawGrid() {
  const canvas = $('grid');
  const width = canvas.parentElement.clientWidth;
  const columns = Math.max(1, Math.floor((width - LABEL - 4) / (CELL + GAP)));
  const height = sum(blocks, ([, those]) => Math.ceil(those.length / columns) * (CELL + GAP) + 6);
  const { context } = fit(canvas, Math.max(20, height));
  const colours = [palette.good, palette.bad, palette.warn];
  cells = [];
  let y = 0;
  for (const [name, those] of blocks) {
    context.font = '12px system-ui, "DejaVu Sans", sans-serif';
    context.textBaseline = 'middle';
    context.fillStyle = palette.ink;
    let label = `${name} (${those.length})`;
    while (label.length > 4 && context.measureText(label).width > LABEL - 12) label = `${label.slice(0, -3)}…`;
    context.fillText(label, 0, y + CELL / 2 + 1);
    those.forEach((run, at) => {
      const cell = { run, x: LABEL + (at % columns) * (CELL + GAP), y: y + Math.floor(at / columns) * (CELL + GAP) };
      context.fillStyle = run.verdict === 0 ? faded(colours[0], 0.55) : colours[run.verdict];
      context.fillRect(cell.x, cell.y, CELL, CELL);
      if (run.verdict === 1) {
        // A cross, so that failures do not depend on colour vision.
        context.strokeStyle = palette.panel;
        context.lineWidth = 1.5;
        context.beginPath();
        context.moveTo(cell.x + 3, cell.y + 3); context.lineTo(cell.x + CELL - 3, cell.y + CELL - 3);
        context.moveTo(cell.x + CELL - 3, cell.y + 3); context.lineTo(cell.x + 3, cell.y + CELL - 3);
        context.stroke();
      }
      if (run.hasPage) {
        context.strokeStyle = palette.ink;
        context.lineWidth = 1.5;
        context.strokeRect(cell.x + 0.75, cell.y + 0.75, CELL - 1.5, CELL - 1.5);
      }
      if (cells.length === cursor) {
        context.strokeStyle = palette.accent;
        context.lineWidth = 2.5;
        context.strokeRect(cell.x - 1, cell.y - 1, CELL + 2, CELL + 2);
      }
      cells.push(cell);
    });
    y += Math.ceil(those.length / columns) * (CELL + GAP) + 6;
  }
}

function startGrid() {
  const canvas = $('grid');
  canvas.setAttribute('aria-label', `Outcomes of ${runs.length} runs: ${passed} passed, ${failed} failed, ${timeouts} timed out. Arrow keys select a run, Enter opens its page.`);
  $('grid-note').textContent = runs.some((run) => run.hasPage) ? 'Click a framed square to open the page of its run, another one to copy its replay command.'
    : 'Click a square to copy its replay command.';
  const lines = (run) => [
    `${scenarioOf(run)} seed ${run.seed} (${run.stack}): ${VERDICTS[run.verdict]}`,
    ...(run.group === null ? [] : [data.groups[run.group].name]),
    `${run.height} final blocks, ${run.faults} faults, ${(run.simulated / 1000).toFixed(1)} s simulated in ${(run.wall / 1000).toFixed(1)} s`,
    run.hasPage ? 'click: its page' : replayOf(run),
  ];
  const at = (event) => cells.findIndex((cell) => event.offsetX >= cell.x && event.offsetX < cell.x + CELL + GAP && event.offsetY >= cell.y && event.offsetY < cell.y + CELL + GAP);
  const open = (run) => {
    if (run.hasPage) location.href = pageOf(run);
    else navigator.clipboard?.writeText(replayOf(run)).catch(() => window.prompt('Copy the command:', replayOf(run)));
  };
  canvas.addEventListener('pointermove', (event) => {
    const cell = cells[at(event)];
    canvas.style.cursor = cell ? 'pointer' : '';
    if (cell) showTip(event.clientX, event.clientY, lines(cell.run)); else hideTip();
  });
  canvas.addEventListener('pointerleave', hideTip);
  canvas.addEventListener('click', (event) => { const cell = cells[at(event)]; if (cell) open(cell.run); });
  canvas.addEventListener('keydown', (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10 }[event.key];
    if (event.key === 'Enter' && cells[cursor]) open(cells[cursor].run);
    if (by === undefined) return;
    event.preventDefault();
    cursor = clamp(cursor + by, 0, cells.length - 1);
    drawGrid();
    const box = canvas.getBoundingClientRect();
    showTip(box.left + cells[cursor].x, box.top + cells[cursor].y, lines(cells[cursor].run));
  });
  const legend = [['passed', 'good'], ['failed', 'bad'], ['timed out', 'warn']];
  $('grid-legend').replaceChildren(...legend.map(([label, colour]) => el('span', {}, el('i', { style: `background:var(--${colour})` }), label)));
}

// ---- Groups of failures.

function drawFailures() {
  const groups = [...data.groups].sort((a, b) => b.count - a.count);
  if (groups.length === 0) $('failures').append(el('p', { class: 'soft' }, 'None.'));
  const pages = new Set(runs.filter((run) => run.hasPage).map(pageOf));
  for (const group of groups) {
    const seeds = group.seeds.map(([scenario, seed, page]) => (pages.has(page)
      ? el('a', { href: page }, `${scenario} ${seed}`) : el('span', {}, `${scenario} ${seed}`)));
    if (group.count > seeds.length) seeds.push(el('span', { class: 'soft' }, `and ${group.count - seeds.length} more`));
    const copy = el('button', { type: 'button' }, 'Copy');
    copyButton(copy, group.replay);
    $('failures').append(el('div', { class: 'group' },
      el('div', { style: 'display:flex;gap:10px;align-items:baseline' }, el('b', {}, group.title),
        el('span', { class: `badge ${group.invariant ? 'failed' : 'timeout'}` }, `${thousands(group.count)} ×`), el('span', { class: 'mono soft' }, group.name)),
      el('p', { class: 'soft' }, group.explanation),
      el('div', { class: 'seeds' }, ...seeds),
      el('div', { style: 'margin-top:4px;display:flex;gap:10px;align-items:center' }, el('code', {}, group.replay ?? ''), copy)));
  }
}

// ---- Plots.

/** Draws the axes of a plot. Returns its scales. */
function axes(id, height, { xMost, yMost, xLabel, yLabel, xText = thousands, yText = thousands, yLeast = 0, xLeastStep = 0 }) {
  const { context, width } = fit($(id), height);
  const [left, right, top, bottom] = [52, 14, 8, 34];
  const x = (value) => left + (value / xMost) * (width - left - right);
  const y = (value) => height - bottom - ((value - yLeast) / (yMost - yLeast)) * (height - top - bottom);
  context.font = '11px system-ui, "DejaVu Sans", sans-serif';
  context.textBaseline = 'middle';
  const yStep = roundStep((yMost - yLeast) / 5);
  for (let value = Math.ceil(yLeast / yStep) * yStep; value <= yMost * 1.0001; value += yStep) {
    context.fillStyle = palette.grid;
    context.fillRect(left, Math.round(y(value)), width - left - right, 1);
    context.fillStyle = palette.soft;
    context.textAlign = 'right';
    context.fillText(yText(value), left - 6, y(value));
  }
  const xStep = Math.max(xLeastStep, roundStep(xMost / 8));
  context.textAlign = 'center';
  for (let value = 0; value <= xMost * 1.0001; value += xStep) {
    context.fillStyle = palette.soft;
    context.fillText(xText(value), x(value), height - bottom + 10);
  }
  context.fillText(xLabel, left + (width - left - right) / 2, height - 7);
  context.save();
  context.translate(8, top + (height - top - bottom) / 2);
  context.rotate(-Math.PI / 2);
  context.fillText(yLabel, 0, 0);
  context.restore();
  context.textAlign = 'left';
  return { context, x, y, width, height, left, right, top, bottom };
}

function drawGrowth() {
  const series = Object.entries(data.growth).sort(([, a], [, b]) => b.at(-1)[1] - a.at(-1)[1]).slice(0, SERIES.length);
  const most = Math.max(1, ...series.map(([, points]) => points.at(-1)[1]));
  const { context, x, y } = axes('growth', 250, { xMost: Math.max(1, runs.length), xLeastStep: 1, yMost: most * 1.05, xLabel: 'runs', yLabel: 'different counters' });
  series.forEach(([, points], at) => {
    context.strokeStyle = palette[SERIES[at]];
    context.lineWidth = 1.8;
    context.beginPath();
    context.moveTo(x(0), y(0));
    let last = 0;
    for (const [run, n] of points) {
      context.lineTo(x(run), y(last));
      context.lineTo(x(run), y(n));
      last = n;
    }
    context.lineTo(x(runs.length), y(last));
    context.stroke();
  });
  $('growth-legend').replaceChildren(...series.map(([name, points], at) => el('span', {}, el('i', { style: `background:var(--${SERIES[at]})` }), `${name} ${points.at(-1)[1]}`)));
}

/** The runs and the CPU time until each planted bug, or each kind of failure, was first found. */
function detections() {
  const out = [];
  const keyOf = (run) => (run.mutant === null ? null : data.mutants[run.mutant]);
  for (const mutant of new Set(runs.map(keyOf))) {
    const those = runs.filter((run) => keyOf(run) === mutant);
    const first = new Map();
    let wall = 0;
    those.forEach((run, at) => {
      wall += run.wall;
      const name = mutant ?? (run.group === null ? null : data.groups[run.group].name);
      if (run.verdict === 1 && !first.has(name)) first.set(name, { name, run, runs: at + 1, wall, by: data.groups[run.group].name, isMutant: mutant !== null });
    });
    if (mutant !== null && first.size === 0) first.set(mutant, { name: mutant, run: null, runs: those.length, wall, by: null, isMutant: true });
    out.push(...first.values());
  }
  return out.sort((a, b) => a.runs - b.runs);
}

function drawDetection() {
  const found = detections();
  const isMutants = found.some((one) => one.isMutant);
  $('detection-note').textContent = isMutants ? 'For each planted bug: runs until it was found, and by which invariant.' : 'For each kind of failure: runs until it was first found.';
  const hits = found.filter((one) => one.run);
  const xMost = Math.max(2, ...found.map((one) => one.runs)) * 1.05;
  const { context, x, y } = axes('detection', 150, {
    xMost, xLeastStep: 1, yMost: 100, xLabel: 'runs', yLabel: 'found', yText: (value) => `${value} %`,
  });
  context.strokeStyle = palette.accent;
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(x(0), y(0));
  hits.forEach((one, at) => {
    context.lineTo(x(one.runs), y((at / found.length) * 100));
    context.lineTo(x(one.runs), y(((at + 1) / found.length) * 100));
  });
  context.lineTo(x(xMost), y((hits.length / Math.max(1, found.length)) * 100));
  context.stroke();
  if (found.length === 0) {
    context.fillStyle = palette.soft;
    context.fillText('no failures', x(xMost * 0.4), y(50));
  }
  $('detection-table').replaceChildren(
    el('tr', {}, el('th', {}, isMutants ? 'planted bug' : 'failure'), el('th', { class: 'n' }, 'runs'), el('th', { class: 'n' }, 'time'), el('th', {}, 'seed'), el('th', {}, isMutants ? 'found by' : '')),
    ...found.map((one) => el('tr', {}, el('td', {}, one.name), el('td', { class: 'n' }, thousands(one.runs)), el('td', { class: 'n' }, minutes(one.wall)),
      el('td', {}, one.run ? `${scenarioOf(one.run)} ${one.run.seed}` : 'not found'), el('td', {}, one.isMutant ? one.by ?? '' : ''))));
}

function drawTimes() {
  const rows = data.scenarios.map((name, at) => {
    const those = runs.filter((run) => run.scenario === at);
    const walls = those.map((run) => run.wall).sort((a, b) => a - b);
    return { name, runs: those.length, wall: sum(those, (run) => run.wall), simulated: sum(those, (run) => run.simulated), median: walls[walls.length >> 1] ?? 0, longest: walls.at(-1) ?? 0 };
  }).sort((a, b) => b.wall - a.wall);
  const most = Math.max(1, ...rows.map((row) => row.wall));
  $('times').replaceChildren(
    el('tr', {}, el('th', {}, 'scenario'), el('th', { class: 'n' }, 'runs'), el('th', {}, 'real time'), el('th', {}, ''), el('th', { class: 'n' }, 'simulated : real'), el('th', { class: 'n' }, 'median'), el('th', { class: 'n' }, 'longest')),
    ...rows.map((row) => el('tr', {}, el('td', {}, row.name), el('td', { class: 'n' }, thousands(row.runs)),
      el('td', {}, el('div', { class: 'bar', style: 'width:70px;margin-top:5px' }, el('i', { style: `width:${(row.wall / most) * 100}%` }))), el('td', { class: 'n' }, minutes(row.wall)),
      el('td', { class: 'n' }, (row.simulated / Math.max(1, row.wall)).toFixed(1)), el('td', { class: 'n' }, minutes(row.median)), el('td', { class: 'n' }, minutes(row.longest)))));
}

function drawSpeed() {
  const xMost = Math.max(1000, ...runs.map((run) => run.simulated)) * 1.05;
  const yMost = Math.max(1000, ...runs.map((run) => run.wall)) * 1.08;
  const inSeconds = (ms) => `${Math.round(ms / 100) / 10}`;
  const { context, x, y, width, right } = axes('speed', 260, { xMost, yMost, xLabel: 'simulated seconds', yLabel: 'real seconds', xText: inSeconds, yText: inSeconds });
  for (const speed of [1, 3, 10, 30, 100, 300, 1000]) {
    const end = Math.min(xMost, yMost * speed);
    if (y(end / speed) > y(yMost * 0.03)) continue;
    context.strokeStyle = palette.line;
    context.setLineDash([4, 4]);
    context.beginPath();
    context.moveTo(x(0), y(0));
    context.lineTo(x(end), y(end / speed));
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = palette.soft;
    context.fillText(`${speed}:1`, Math.min(x(end), width - right - 30), Math.max(12, y(end / speed) - 8));
  }
  const colours = [palette.good, palette.bad, palette.warn];
  for (const run of runs) {
    context.fillStyle = faded(colours[run.verdict], 0.6);
    context.beginPath();
    context.arc(x(run.simulated), y(run.wall), 3, 0, 7);
    context.fill();
  }
}

function drawCounters() {
  const head = ['counter', 'runs', 'total', 'first in run'];
  $('counters').replaceChildren(el('tr', {}, ...head.map((text, at) => el('th', { class: at ? 'n' : '' }, text))),
    ...data.counters.map(([name, inRuns, total, first]) => el('tr', {}, el('td', { class: 'mono' }, name),
      el('td', { class: 'n' }, `${thousands(inRuns)} (${((inRuns / runs.length) * 100).toFixed(0)} %)`), el('td', { class: 'n' }, thousands(total)), el('td', { class: 'n' }, thousands(first)))));
}

function drawAll() {
  drawGrid();
  drawGrowth();
  drawDetection();
  drawSpeed();
}

drawHead();
startGrid();
drawFailures();
drawTimes();
drawCounters();
startTheme(drawAll);
addEventListener('resize', drawAll);
requestAnimationFrame(() => { document.body.dataset.ready = 'yes'; });

/** For tests and the console. */
window.page = { cells: () => cells.map(({ run, x, y }) => ({ x, y, seed: run.seed, verdict: VERDICTS[run.verdict], hasPage: run.hasPage })) };
