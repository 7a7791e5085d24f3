'use strict';
// Shared by both pages.

const data = JSON.parse(document.getElementById('data').textContent);
const $ = (id) => document.getElementById(id);

/** Creates an element. Children of text are never parsed as markup. */
function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === 'class') node.className = value;
    else if (key === 'style') node.style.cssText = value;
    else if (key.startsWith('on')) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const clamp = (value, least, most) => Math.max(least, Math.min(most, value));
const thousands = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ',');
const seconds = (ms, digits = 3) => `${(ms / 1000).toFixed(digits)} s`;

/** Colours of the active theme by CSS custom property. */
let palette = {};

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const names = ['bg', 'panel', 'ink', 'soft', 'line', 'grid', 'stripe', 'accent', 'good', 'bad', 'warn', 'proposal',
    'approval', 'confirmation', 'final', 'head', 'process', 'actor', 'clock', 'disk', 'links', 'note', 'byzantine', 'buggify',
    'down', 'violation', 'c-network', 'c-time', 'c-process', 'c-disk', 'c-execution', 'c-actor'];
  palette = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** Adds an opacity to a colour #rrggbb. */
function faded(colour, opacity) {
  const part = (at) => parseInt(colour.slice(at, at + 2), 16);
  return `rgb(${part(1)} ${part(3)} ${part(5)} / ${opacity})`;
}

function setTheme(theme, redraw) {
  document.documentElement.dataset.theme = theme;
  readPalette();
  const button = $('theme');
  button.textContent = theme === 'dark' ? 'Light' : 'Dark';
  button.setAttribute('aria-label', `Switch to the ${theme === 'dark' ? 'light' : 'dark'} theme`);
  redraw();
}

function startTheme(redraw) {
  const wants = matchMedia('(prefers-color-scheme: dark)');
  setTheme(wants.matches ? 'dark' : 'light', redraw);
  wants.addEventListener('change', () => setTheme(wants.matches ? 'dark' : 'light', redraw));
  $('theme').addEventListener('click', () => {
    setTheme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark', redraw);
  });
}

/** Copies a text on click. Without access to the clipboard, as on pages opened from a file, a prompt shows the text. */
function copyButton(button, text) {
  button.addEventListener('click', async () => {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = 'Copied';
    } catch {
      window.prompt('Copy the command:', text);
    }
    setTimeout(() => { button.textContent = label; }, 1200);
  });
}

/** Resizes a canvas to its parent at the resolution of the screen. Returns its context and size in CSS pixels. */
function fit(canvas, height) {
  const width = canvas.parentElement.clientWidth;
  const ratio = Math.min(window.devicePixelRatio || 1, 3);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** The first index of a sorted array with an element of at least `value`. */
function lowerBound(array, value) {
  let [low, high] = [0, array.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

/** The smallest of 1, 2 and 5 times powers of ten that is at least `least`. */
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-9)));
  return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= least) ?? 10 * power;
}

const tip = $('tip');

/** Shows the tooltip beside a point, within the window. */
function showTip(x, y, lines) {
  tip.replaceChildren(...lines.map((line, at) => el(at === 0 ? 'b' : 'div', { class: at === 0 ? '' : 'soft' }, line)));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${clamp(x + 14, 4, innerWidth - width - 4)}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 12) : y + 18}px`;
}

function hideTip() {
  tip.hidden = true;
}
