/*
 * The map of a catalog: points on a canvas to pan, zoom, hover and choose. It needs nothing but map.css and the colours
 * of look.css; `createCatalogMap` is its only global.
 *
 *   <div class="catalog-map"><canvas></canvas></div>      the caller gives the div a height
 *
 *   const map = createCatalogMap(canvas, {
 *     x, y,                   where the points lie, 0..65535 (Uint16Array or plain arrays), y downwards
 *     colours,                number of each point's colour, --c0..--c7; points of one colour are a group
 *     label,                  index => {title, detail}, shown beside the point under the pointer
 *     name,                   what a screen reader says of the canvas
 *     onHover, onChoose,      called with an index; onHover also with null
 *     pageScrolls,            true on a long page: the wheel zooms with Ctrl, or once the map has the focus
 *   });
 *   map.setHidden(group, hidden)      a colour's points are not there
 *   map.setDimmed(mask)               points whose mask is not 0 turn grey and do not answer; null: none
 *   map.setHighlighted(indices)       these are drawn large and last; the others step back. []: none
 *   map.setChosen(index)              ringed; null: none
 *   map.point(index)                  shows a point as the pointer would; null: none
 *   map.reveal(index)                 moves there, if the point is out of sight
 *   map.reset()                       shows all points
 *   map.at(index)                     {x, y} of a point in CSS pixels of the canvas
 *
 * Keys on the canvas: arrows move, + and - zoom, 0 shows all, Enter chooses the point nearest the middle.
 */
function createCatalogMap(canvas, options) {
  "use strict";
  const { x, y, colours, label, name = "Map", onHover = () => {}, onChoose = () => {}, pageScrolls = false } = options;
  const SIZE = 65535, CELLS = 64, PADDING = 18, BUTTONS = 36, MOST = 60, REACH = 14, FINGER = 28;
  const count = x.length;
  const box = canvas.parentElement;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const view = { x: 0.5, y: 0.5, scale: 1 };
  const hidden = new Set();
  let dimmed = null, highlighted = new Set(), chosen = null, hovered = null;
  let width = 0, height = 0, ratio = 1, ink = "", sprites = [], drawing = 0, moving = 0;

  // ---- where things are

  const grid = indexPoints();
  // The buttons stand beside the points, not over them, as long as all are shown.
  const centre = () => (width - BUTTONS) / 2;
  const across = () => (width - BUTTONS - 2 * PADDING) * view.scale;
  const down = () => (height - 2 * PADDING) * view.scale;
  const at = (index) => ({
    x: centre() + (x[index] / SIZE - view.x) * across(),
    y: height / 2 + (y[index] / SIZE - view.y) * down(),
  });
  /** Of a dot: smaller where there are many on little room, larger from near. */
  const radius = () => {
    const crowd = Math.max(2.6, 6.5 - 1.1 * Math.log10(Math.max(count, 1) / 30));
    const room = Math.max(0.7, Math.min(1.1, Math.sqrt(width * height) / 600));
    return crowd * room * Math.min(view.scale, 12) ** 0.3;
  };
  const answers = (index) => !hidden.has(colours[index]) && !(dimmed && dimmed[index]);

  /** The points by cell of a grid, in two arrays, so that a look around the pointer costs a few points only. */
  function indexPoints() {
    const cellOf = (index) => cell(y[index] / SIZE) * CELLS + cell(x[index] / SIZE);
    const starts = new Uint32Array(CELLS * CELLS + 1), order = new Uint32Array(count);
    for (let index = 0; index < count; index++) starts[cellOf(index) + 1]++;
    for (let number = 0; number < CELLS * CELLS; number++) starts[number + 1] += starts[number];
    const next = starts.slice();
    for (let index = 0; index < count; index++) order[next[cellOf(index)]++] = index;
    return { starts, order };
  }

  function cell(share) {
    return Math.max(0, Math.min(CELLS - 1, Math.floor(share * CELLS)));
  }

  /** The nearest point that answers within some pixels of a place on the canvas; a highlighted one lies on top. */
  function nearest(px, py, reach) {
    const u = view.x + (px - centre()) / across(), v = view.y + (py - height / 2) / down();
    const du = reach / across(), dv = reach / down();
    let best = null, least = reach;
    for (let row = cell(v - dv); row <= cell(v + dv); row++) {
      const first = grid.starts[row * CELLS + cell(u - du)], last = grid.starts[row * CELLS + cell(u + du) + 1];
      for (let number = first; number < last; number++) {
        const index = grid.order[number];
        if (!answers(index)) continue;
        const place = at(index);
        const distance = Math.hypot(place.x - px, place.y - py) - (highlighted.has(index) ? radius() : 0);
        if (distance < least) [best, least] = [index, distance];
      }
    }
    return best;
  }

  // ---- drawing

  /** One picture of a dot for each colour: thousands of them are copied faster than drawn. */
  function paintSprites() {
    const style = getComputedStyle(canvas);
    const read = (variable) => style.getPropertyValue(variable).trim();
    ink = read("--ink");
    const dot = (size, fill, edge, line) => {
      const sprite = document.createElement("canvas");
      sprite.width = sprite.height = Math.ceil(2 * (size + line) * ratio) + 2;
      const brush = sprite.getContext("2d");
      brush.arc(sprite.width / 2, sprite.height / 2, size * ratio, 0, 2 * Math.PI);
      brush.fillStyle = fill;
      brush.fill();
      if (!line) return sprite;
      brush.lineWidth = line * ratio;
      brush.strokeStyle = edge;
      brush.stroke();
      return sprite;
    };
    const size = radius();
    sprites = Array.from({ length: 8 }, (_, group) => ({
      plain: dot(size, read(`--c${group}`), read("--edge"), 0.75),
      large: dot(size * 1.3 + 1, read(`--c${group}`), ink, 2),
    }));
    sprites.grey = dot(size * 0.75, read("--c7"), "", 0);
    sprites.size = size;
  }

  function draw() {
    drawing = 0;
    if (!width || !height) return;
    if (sprites.size !== radius()) paintSprites();
    const brush = canvas.getContext("2d");
    brush.setTransform(1, 0, 0, 1, 0, 0);
    brush.clearRect(0, 0, canvas.width, canvas.height);
    const stamp = (index, sprite) => {
      const place = at(index), half = sprite.width / 2;
      const px = place.x * ratio - half, py = place.y * ratio - half;
      if (px > -2 * half && py > -2 * half && px < canvas.width && py < canvas.height) brush.drawImage(sprite, px, py);
    };
    brush.globalAlpha = 0.3;
    if (dimmed) for (let i = 0; i < count; i++) if (dimmed[i] && !hidden.has(colours[i])) stamp(i, sprites.grey);
    brush.globalAlpha = highlighted.size ? 0.45 : 1;
    for (let i = 0; i < count; i++) if (answers(i) && !highlighted.has(i)) stamp(i, sprites[colours[i]].plain);
    brush.globalAlpha = 1;
    for (const index of highlighted) if (!hidden.has(colours[index])) stamp(index, sprites[colours[index]].large);
    for (const index of new Set([chosen, hovered])) {
      if (index === null || hidden.has(colours[index])) continue;
      stamp(index, sprites[colours[index]].large);
      ring(brush, index, index === chosen ? 3 : 1.5);
    }
    placeTip();
  }

  function ring(brush, index, line) {
    const place = at(index);
    brush.beginPath();
    brush.arc(place.x * ratio, place.y * ratio, (radius() * 1.3 + 5.5) * ratio, 0, 2 * Math.PI);
    brush.lineWidth = line * ratio;
    brush.strokeStyle = ink;
    brush.stroke();
  }

  const redraw = () => { drawing ||= requestAnimationFrame(draw); };

  function repaint() {
    sprites = [];
    redraw();
  }

  function resize() {
    [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    repaint();
  }

  // ---- moving

  function clamp() {
    view.scale = Math.max(1, Math.min(MOST, view.scale));
    const half = 0.5 / view.scale;
    view.x = Math.max(half, Math.min(1 - half, view.x));
    view.y = Math.max(half, Math.min(1 - half, view.y));
    // Where there is nothing to move, a finger scrolls the page.
    canvas.style.touchAction = view.scale > 1 ? "none" : "pan-y";
    zoomOut.disabled = all.disabled = view.scale === 1;
    zoomIn.disabled = view.scale === MOST;
    redraw();
  }

  function zoomAt(px, py, factor) {
    stop();
    const u = view.x + (px - centre()) / across(), v = view.y + (py - height / 2) / down();
    view.scale = Math.max(1, Math.min(MOST, view.scale * factor));
    view.x = u - (px - centre()) / across();
    view.y = v - (py - height / 2) / down();
    clamp();
  }

  function panBy(dx, dy) {
    stop();
    view.x -= dx / across();
    view.y -= dy / down();
    clamp();
  }

  function stop() {
    cancelAnimationFrame(moving);
  }

  function moveTo(target) {
    stop();
    const from = { ...view }, begun = performance.now();
    const step = (now) => {
      const share = still.matches ? 1 : Math.min(1, (now - begun) / 280), eased = 1 - (1 - share) ** 3;
      view.scale = from.scale * (target.scale / from.scale) ** eased;
      view.x = from.x + (target.x - from.x) * eased;
      view.y = from.y + (target.y - from.y) * eased;
      clamp();
      if (share < 1) moving = requestAnimationFrame(step);
    };
    step(begun);
  }

  const zoomBy = (factor) => moveTo({ ...view, scale: Math.max(1, Math.min(MOST, view.scale * factor)) });
  const reset = () => moveTo({ x: 0.5, y: 0.5, scale: 1 });

  function reveal(index) {
    const place = at(index), edge = PADDING / 2;
    if (place.x >= edge && place.y >= edge && place.x <= width - edge && place.y <= height - edge) return;
    moveTo({ ...view, x: x[index] / SIZE, y: y[index] / SIZE });
  }

  // ---- the label and the buttons

  const tip = box.appendChild(document.createElement("div"));
  tip.className = "catalog-map-tip";
  tip.hidden = true;
  tip.append(document.createElement("b"), document.createElement("span"));

  function placeTip() {
    tip.hidden = hovered === null;
    if (tip.hidden) return;
    const place = at(hovered), room = radius() + 10;
    const left = Math.max(4, Math.min(place.x + room, width - tip.offsetWidth - 4));
    const below = place.y + room + tip.offsetHeight < height - 4;
    const top = below ? place.y + room : Math.max(4, place.y - room - tip.offsetHeight);
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  function point(index) {
    if (index === hovered) return;
    hovered = index;
    if (index !== null) {
      const { title, detail = "" } = label(index);
      tip.firstChild.textContent = title;
      tip.lastChild.textContent = detail;
    }
    redraw();
  }

  const buttons = box.appendChild(document.createElement("div"));
  buttons.className = "catalog-map-buttons";
  const button = (sign, title, act) => {
    const made = buttons.appendChild(document.createElement("button"));
    made.type = "button";
    made.textContent = sign;
    made.title = title;
    made.setAttribute("aria-label", title);
    made.addEventListener("click", act);
    return made;
  };
  const zoomIn = button("+", "Zoom in", () => zoomBy(1.8));
  const zoomOut = button("−", "Zoom out", () => zoomBy(1 / 1.8));
  const all = button("⤢", "Show all", reset);

  // ---- pointers, wheel and keys

  const fingers = new Map();
  let travelled = 0;
  const inside = (event) => {
    const place = canvas.getBoundingClientRect();
    return { x: event.clientX - place.left, y: event.clientY - place.top };
  };
  const reachOf = (event) => (event.pointerType === "mouse" ? REACH : FINGER);

  function hover(index) {
    if (index === hovered) return;
    point(index);
    onHover(index);
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    fingers.set(event.pointerId, inside(event));
    travelled = fingers.size > 1 ? Infinity : 0; // two fingers never choose
    if (event.pointerType !== "mouse") hover(null);
    canvas.setPointerCapture(event.pointerId);
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = inside(event), before = fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") hover(nearest(now.x, now.y, REACH));
      canvas.style.cursor = hovered === null ? "" : "pointer";
      return;
    }
    travelled += Math.hypot(now.x - before.x, now.y - before.y);
    fingers.set(event.pointerId, now);
    if (fingers.size === 1 && travelled < (event.pointerType === "mouse" ? 4 : 10)) return;
    hover(null);
    canvas.style.cursor = "grabbing";
    if (fingers.size === 1) return panBy(now.x - before.x, now.y - before.y);
    const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const spread = Math.hypot(now.x - other.x, now.y - other.y) / Math.max(1, Math.hypot(before.x - other.x, before.y - other.y));
    panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
    zoomAt((now.x + other.x) / 2, (now.y + other.y) / 2, spread);
  });

  function choose(index) {
    chosen = index;
    point(index);
    redraw();
    onChoose(index);
  }

  const lift = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    canvas.style.cursor = "";
    const clicked = event.type === "pointerup" && travelled < (event.pointerType === "mouse" ? 4 : 10);
    if (!clicked) return;
    const place = inside(event), index = nearest(place.x, place.y, reachOf(event));
    if (index === null) return;
    choose(index);
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && !fingers.size) hover(null); });

  canvas.addEventListener("wheel", (event) => {
    if (pageScrolls && !event.ctrlKey && document.activeElement !== canvas) return;
    if (view.scale === 1 && event.deltaY > 0) return; // all is shown: the page may scroll on
    event.preventDefault();
    const place = inside(event), lines = event.deltaMode === 1 ? 16 : 1;
    zoomAt(place.x, place.y, Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)));
  }, { passive: false });

  const KEYS = {
    ArrowLeft: () => panBy(width / 8, 0), ArrowRight: () => panBy(-width / 8, 0),
    ArrowUp: () => panBy(0, height / 8), ArrowDown: () => panBy(0, -height / 8),
    Enter: () => {
      const index = nearest(centre(), height / 2, Math.max(width, height));
      if (index !== null) choose(index);
    },
    "+": () => zoomBy(1.4), "=": () => zoomBy(1.4), "-": () => zoomBy(1 / 1.4), 0: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    const act = KEYS[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });

  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "map");
  canvas.setAttribute("aria-label", name);
  dark.addEventListener("change", repaint);
  new ResizeObserver(resize).observe(canvas);
  resize();
  clamp();

  return {
    at, point, reset, reveal,
    setHidden(group, gone) {
      if (gone) hidden.add(group); else hidden.delete(group);
      if (hovered !== null && !answers(hovered)) point(null);
      redraw();
    },
    setDimmed(mask) { dimmed = mask; redraw(); },
    setHighlighted(indices) { highlighted = new Set(indices); redraw(); },
    setChosen(index) { chosen = index; redraw(); },
  };
}
