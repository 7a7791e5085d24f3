// ---- Layout.

// Lanes are lower in large networks, so that most of them are visible at once.
const crowd = lanes.filter((lane) => lane.kind === 'node').length;
const HEIGHTS = { chain: 42, world: 20, node: crowd > 5 ? 42 : 60, other: 15 };
const BESIDE_NODE = crowd > 5 ? 15 : 22;
const order = lanes.map((lane, at) => at).sort((a, b) => rank(a) - rank(b));
function rank(at) {
  const lane = lanes[at];
  const of = { chain: 0, world: 1, other: 900 }[lane.kind];
  return of ?? 10 + lane.node * data.roles.length + data.roles.indexOf(lane.kind);
}
const tops = [];
const heights = [];
let total = 0;
for (const at of order) {
  tops[at] = total;
  heights[at] = HEIGHTS[lanes[at].kind] ?? BESIDE_NODE;
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
