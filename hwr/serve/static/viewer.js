// The photo of a page with its lines: pan, zoom, choose, draw and reshape lines.

import { fill, svg } from "./dom.js";

const MOST_ZOOM = 12;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * @param element where the photo goes
 * @param page the page as the API gives it
 * @param on {choose(id), drawn(polygon), below(): add a line below the current one, reshaped(id, polygon, baseline)}
 */
export function viewer(element, page, source, on) {
  const image = new Image();
  image.alt = `Photo of ${page.name}`;
  image.draggable = false;
  image.decoding = "async";
  image.src = source;
  const shapes = svg("g");
  const extra = svg("g");
  const overlay = svg("svg", { viewBox: `0 0 ${page.width} ${page.height}`, "aria-hidden": "true" }, shapes, extra);
  const sheet = document.createElement("div");
  sheet.className = "sheet";
  sheet.append(image, overlay);
  fill(element, sheet);
  sheet.style.width = `${page.width}px`;
  sheet.style.height = `${page.height}px`;

  const view = { x: 0, y: 0, scale: 1 };
  const state = { given: page.lines, lines: page.lines, current: null, mode: "look" };
  const pointers = new Map();
  let begin = null;

  function apply(smooth = false) {
    sheet.classList.toggle("smooth", smooth);
    sheet.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    sheet.style.setProperty("--thin", `${1.5 / view.scale}`);
    drawExtra();
  }

  function fit() {
    const { clientWidth: w, clientHeight: hgt } = element;
    view.scale = Math.min(w / page.width, hgt / page.height) * 0.97;
    view.x = (w - page.width * view.scale) / 2;
    view.y = (hgt - page.height * view.scale) / 2;
    apply();
  }

  function zoom(factor, cx = element.clientWidth / 2, cy = element.clientHeight / 2) {
    const least = Math.min(element.clientWidth / page.width, element.clientHeight / page.height) * 0.5;
    const scale = Math.min(MOST_ZOOM, Math.max(least, view.scale * factor));
    view.x = cx - ((cx - view.x) * scale) / view.scale;
    view.y = cy - ((cy - view.y) * scale) / view.scale;
    view.scale = scale;
    apply();
  }

  /** Bring a line into sight; zoom in only if it would be too small to see. */
  function show(line) {
    if (!line.polygon.length) return;
    const [left, top, right, bottom] = box(line.polygon);
    const { clientWidth: w, clientHeight: hgt } = element;
    const fitting = (w * 0.94) / Math.max(1, right - left);
    if (view.scale * (bottom - top) < 14) view.scale = Math.min(fitting, 28 / Math.max(1, bottom - top));
    const at = (value, offset) => value * view.scale + offset;
    const room = 24;
    if (at(right, view.x) > w - room) view.x -= at(right, view.x) - (w - room);
    if (at(left, view.x) < room) view.x += room - at(left, view.x);
    if (at(top, view.y) < room || at(bottom, view.y) > hgt - room) view.y = hgt / 2 - ((top + bottom) / 2) * view.scale;
    apply(true);
  }

  const current = () => state.lines.find((one) => one.id === state.current);

  /** Move the current line by a step of the keyboard, or only its right and bottom edges. */
  function nudge([dx, dy], resize) {
    const line = current();
    if (!line?.polygon.length) return;
    const step = Math.max(1, Math.round(4 / view.scale));
    const [x0, y0, x1, y1] = box(line.polygon);
    const moved = (value, by, begin, end) => Math.round(value + by * step * (resize ? (value - begin) / Math.max(1, end - begin) : 1));
    const all = (points) => points.map(([x, y]) => [moved(x, dx, x0, x1), moved(y, dy, y0, y1)]);
    const polygon = all(line.polygon);
    const [left, top, right, bottom] = box(polygon);
    if (left < 0 || top < 0 || right > page.width || bottom > page.height || right - left < 4 || bottom - top < 4) return;
    reshape(line, polygon, all(line.baseline));
    show(current());
    clearTimeout(state.timer);
    state.timer = setTimeout(keep, 600); // one change, not one for each key
  }

  /** Show an outline that is being changed, until the answer to it is there: whatever else comes from the server. */
  function reshape(line, polygon, baseline) {
    state.shape = { id: line.id, polygon, baseline };
    update(state.given, state.current);
  }

  /** Send the outline that was changed. */
  async function keep() {
    clearTimeout(state.timer);
    const { shape } = state;
    if (!shape || shape.sent) return;
    shape.sent = true;
    await on.reshaped(shape.id, shape.polygon, shape.baseline);
    if (state.shape !== shape) return;
    state.shape = null;
    update(state.given, state.current);
  }

  function update(lines, current) {
    const shown = lines.map((line) => ({ ...line, ...(line.id === state.shape?.id ? state.shape : {}) }));
    Object.assign(state, { given: lines, lines: shown, current });
    draw();
  }

  function draw() {
    fill(shapes, state.lines.filter((line) => line.polygon.length > 2).map((line) => svg("polygon", {
      points: line.polygon.map((point) => point.join(",")).join(" "),
      class: `line ${line.state}${line.id === state.current ? " current" : ""}${line.uncertain ? " uncertain" : ""}`,
      "data-line": line.id,
    })));
    drawExtra();
  }

  function drawExtra() {
    const line = current();
    if (state.mode !== "shape" || !line) return fill(extra, ...(state.box ? [rectangle(state.box)] : []));
    fill(extra, line.polygon.map(([x, y], index) => svg("circle", { cx: x, cy: y, r: 6 / view.scale, class: "handle", "data-index": index })));
  }

  const rectangle = ([x0, y0, x1, y1]) => svg("rect", { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0), class: "drawing" });

  const toPage = (event) => {
    const frame = element.getBoundingClientRect();
    return [(event.clientX - frame.left - view.x) / view.scale, (event.clientY - frame.top - view.y) / view.scale];
  };

  element.onpointerdown = (event) => {
    if (event.button > 0) return;
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
    begin = { x: event.clientX, y: event.clientY, view: { ...view }, moved: false, target: event.target };
    const handle = event.target.dataset?.index;
    if (state.mode === "draw") state.box = [...toPage(event), ...toPage(event)];
    else if (handle !== undefined) {
      keep(); // what the keyboard has changed
      begin.handle = Number(handle);
    }
  };

  element.onpointermove = (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = pointers.get(event.pointerId);
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) {
      const [a, b] = [...pointers.values()];
      const other = a.pointerId === event.pointerId ? b : a;
      const distance = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY);
      const frame = element.getBoundingClientRect();
      zoom(distance(event) / Math.max(1, distance(before)), (a.clientX + b.clientX) / 2 - frame.left, (a.clientY + b.clientY) / 2 - frame.top);
      begin.moved = true;
      return;
    }
    if (Math.hypot(event.clientX - begin.x, event.clientY - begin.y) > 4) begin.moved = true;
    if (state.mode === "draw") {
      const [x, y] = toPage(event);
      state.box = [state.box[0], state.box[1], x, y];
      drawExtra();
    } else if (begin.handle !== undefined) {
      const line = current();
      const moved = line?.polygon.map((point, index) => (index === begin.handle ? toPage(event).map(Math.round) : point));
      if (moved && begin.moved) reshape(line, moved, line.baseline);
    } else if (begin.moved) {
      view.x = begin.view.x + event.clientX - begin.x;
      view.y = begin.view.y + event.clientY - begin.y;
      apply();
    }
  };

  const end = (event) => {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    if (state.mode === "draw" && state.box) {
      const [x0, y0, x1, y1] = state.box;
      state.box = null;
      drawExtra();
      if (Math.abs(x1 - x0) > 5 && Math.abs(y1 - y0) > 5) {
        const [left, top, right, bottom] = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)].map(Math.round);
        on.drawn([[left, top], [right, top], [right, bottom], [left, bottom]]);
      }
    } else if (begin.handle !== undefined) keep();
    else if (!begin.moved && begin.target.dataset?.line) on.choose(begin.target.dataset.line);
  };
  element.onpointerup = end;
  element.onpointercancel = end;

  element.onwheel = (event) => {
    event.preventDefault();
    const frame = element.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - frame.left, event.clientY - frame.top);
  };
  element.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own: its zoom, its history
    const arrow = ARROWS[event.key];
    if (arrow && state.mode === "shape") nudge(arrow, event.shiftKey);
    else if (arrow) {
      view.x -= 60 * arrow[0];
      view.y -= 60 * arrow[1];
      apply();
    } else if (event.key === "Enter" && state.mode === "draw") on.below();
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  };
  const resized = new ResizeObserver(() => {
    if (!state.seen && element.clientWidth) {
      state.seen = true;
      fit();
      if (current()) show(current());
    }
  });
  resized.observe(element);
  draw();

  return {
    fit, zoom, show, keep, update, end: () => resized.disconnect(),
    mode(name) {
      state.mode = name;
      element.dataset.mode = name;
      drawExtra();
    },
  };
}

export function box(polygon) {
  const xs = polygon.map((point) => point[0]);
  const ys = polygon.map((point) => point[1]);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}
