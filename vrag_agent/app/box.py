"""The picture on which a person draws a box: with the mouse, a finger, or by numbers."""

from __future__ import annotations

TEMPLATE = """
<div class="board">
  ${image ? `<img src="${image}" alt="The image that the agent saw last" draggable="false">
  <svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none">${(() => {
    const box = String(value || '').split(',').map(Number);
    const fits = box.length === 4 && box.every(Number.isFinite) && box[0] < box[2] && box[1] < box[3];
    const [x, y, w, h] = fits ? [box[0], box[1], box[2] - box[0], box[3] - box[1]] : [0, 0, 0, 0];
    return `<rect x="${x}" y="${y}" width="${w}" height="${h}"></rect>`;
  })()}</svg>`
  : '<p>Search first; the page appears here, and you can draw a box on it.</p>'}
</div>
"""

CSS = """
.board { position: relative; line-height: 0; touch-action: none; cursor: crosshair; user-select: none; }
.board p { line-height: 1.5; cursor: default; margin: 0; }
.board img { width: 100%; height: auto; border: 1px solid var(--border-color-primary); }
.board svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.board rect { fill: rgb(208 37 27 / 0.12); stroke: #d0251b; stroke-width: 3px; vector-effect: non-scaling-stroke; }
"""

SCRIPT = """
let start = null;
const at = event => {
  const frame = element.querySelector('svg').getBoundingClientRect();
  const clamp = value => Math.max(0, Math.min(1, value));
  return [clamp((event.clientX - frame.left) / frame.width) * props.width,
          clamp((event.clientY - frame.top) / frame.height) * props.height];
};
const draw = box => {
  const rect = element.querySelector('rect');
  rect.setAttribute('x', box[0]); rect.setAttribute('y', box[1]);
  rect.setAttribute('width', box[2] - box[0]); rect.setAttribute('height', box[3] - box[1]);
};
const between = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
element.addEventListener('pointerdown', event => {
  if (!element.querySelector('svg')) return;
  start = at(event);
  event.preventDefault();
});
window.addEventListener('pointermove', event => { if (start) draw(between(start, at(event))); });
window.addEventListener('pointerup', event => {
  if (!start) return;
  const box = between(start, at(event)).map(value => Math.round(value));
  start = null;
  props.value = box.join(', ');
  draw(box);
  trigger('change');
});
"""
"""Writes the box into the component's value, as ``x0, y0, x1, y1`` in pixels of the image."""


def parse_box(words: str) -> tuple[float, float, float, float]:
    """Read ``x0, y0, x1, y1``.

    Raises:
        VRAGError: If there are not four numbers.
    """
    from vrag_env.errors import VRAGError

    try:
        x0, y0, x1, y1 = (float(part) for part in words.strip().strip("[]").split(","))
    except ValueError as error:
        raise VRAGError("a box is four numbers, x0, y0, x1, y1: draw it on the image, or type it") from error
    return x0, y0, x1, y1
