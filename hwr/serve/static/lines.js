// The lines of a page as the toolbar changes them: added, reshaped, split, merged, moved, read again, deleted.

import { h, toast } from "./dom.js";
import { written } from "./corrections.js";
import { box } from "./viewer.js";

/** A button of a toolbar. */
export const tool = (label, title, action, pressed) => h("button", { class: "small", type: "button", title, onclick: action,
  "aria-pressed": pressed, "aria-label": /\w/.test(label) ? null : title }, label); // an arrow has no name to be read aloud

/**
 * @param view {current(): the line that is chosen or null, choose(id, focus), keep(): save what is typed, mode(name): of the photo}
 */
export function lineTools(corrections, edit, view) {
  const drawTool = tool("Add", "Draw a new line on the photo. Enter adds one below the current line", () => mode(drawTool, "draw"), "false");
  const shapeTool = tool("Shape", "Drag the corners of the current line. Arrow keys move it; with Shift, they move its right and bottom edges", () => mode(shapeTool, "shape"), "false");

  /** Do something with the current line, if there is one. Its neighbours are those in the reading order. */
  const act = (action) => () => {
    const { lines } = corrections.page;
    const line = view.current();
    if (line) action(line, lines.indexOf(line), lines);
  };

  function mode(button, name) {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const one of [drawTool, shapeTool]) one.setAttribute("aria-pressed", String(one === button && on));
    view.mode(on ? name : "look");
    if (on) toast(button.title);
  }

  function add(polygon, after = before(polygon)) {
    mode(drawTool, "draw");
    corrections.change({ add: { polygon, after } }, async (page, added) => {
      if (added.length) view.choose(added[0].id, true);
      await corrections.read(added.map((line) => line.id));
    });
  }

  /**
   * The line after which a new one is read: the last above it in its column, or else the one before that column.
   * Short lines further down beside it, such as a signature, come before it, too.
   */
  function before(polygon) {
    const { lines } = corrections.page;
    const [left, top, right] = box(polygon);
    const places = lines.map((line) => (line.polygon.length ? box(line.polygon) : []));
    const within = (begin, end, from, to) => begin < (from + to) / 2 && (from + to) / 2 < end;
    const inColumn = ([begin, , end]) => within(begin, end, left, right) || within(left, right, begin, end);
    const column = [...lines.keys()].filter((index) => inColumn(places[index]));
    const above = (column.length ? column : [...lines.keys()]).filter((index) => places[index][1] <= top);
    let after = above.at(-1) ?? (column[0] ?? 0) - 1;
    while (after >= 0 && places[after + 1]?.[1] >= places[after][1] && places[after + 1][1] <= top) after += 1;
    return lines[after]?.id ?? null;
  }

  /** Add a line as large as the current one below it; to a page without lines, one that can be reshaped. */
  function addBelow() {
    const { width, height } = corrections.page;
    const line = view.current();
    if (!line?.polygon.length) {
      const [left, top, right, bottom] = [width / 10, height / 10, width * 0.9, height * 0.15].map(Math.round);
      return add([[left, top], [right, top], [right, bottom], [left, bottom]]);
    }
    const [, top, , bottom] = box(line.polygon);
    const by = Math.min(bottom - top, height - 1 - bottom);
    add(line.polygon.map(([x, y]) => [x, y + by]), line.id);
  }

  const reshape = (line, polygon, baseline) => corrections.reshape(line, polygon, baseline, (before) => {
    if (!written(before)) return corrections.read([line]);
  });

  function split(line) {
    // The server counts code points of the text as it is saved.
    const place = [...edit.input.value.slice(0, edit.input.selectionStart).normalize("NFC").trimStart()].length;
    view.keep();
    const count = [...line.text].length;
    if (count && (place === 0 || place >= count)) return toast("Put the cursor where the line is to be split");
    corrections.change({ split: { line: line.id, at: place } }, (page, added) => {
      if (!written(line)) return corrections.read([line.id, ...added.map((one) => one.id)]);
    });
  }

  function merge(line, at, lines) {
    const next = lines[at + 1];
    if (!next) return toast("There is no next line to merge with");
    corrections.change({ merge: [line.id, next.id] }, () => {
      if (!written(line) && !written(next)) return corrections.read([line.id]);
    });
  }

  const move = (by) => (line, at, lines) => {
    if (!lines[at + by]) return;
    const after = by > 0 ? lines[at + 1].id : lines[at - 2]?.id ?? null;
    corrections.change({ move: { line: line.id, after } });
  };

  function remove(line, at, lines) {
    const next = lines[at + 1] ?? lines[at - 1];
    corrections.change({ delete: [line.id] }, () => {
      if (next) view.choose(next.id);
      toast("Line deleted; Undo brings it back");
    });
  }

  function reread(line) {
    if (line.state === "checked") return toast("Checked lines stay as they are");
    corrections.reread(line);
  }

  return {
    add, addBelow, reshape,
    buttons: [drawTool, shapeTool,
      tool("Split", "Split the current line at the cursor", act(split)), tool("Merge", "Merge the current line with the next", act(merge)),
      tool("↑", "Move the current line up in the reading order", act(move(-1))),
      tool("↓", "Move the current line down in the reading order", act(move(1))),
      tool("Reread", "Read the current line again", act(reread)), tool("Delete", "Delete the current line", act(remove))],
  };
}
