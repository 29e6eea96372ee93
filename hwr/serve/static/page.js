// A page: the photo, the current line, the list of lines; corrections are saved in order, and undone.

import { api } from "./api.js";
import { ask, fill, h, toast } from "./dom.js";
import { editor } from "./editor.js";
import { isActive, onJobs } from "./jobs.js";
import { box, viewer } from "./viewer.js";

export async function showPage(bar, main, id) {
  const [first, model] = await Promise.all([api.page(id), api.model()]);
  const limit = model.uncertain_below;
  const state = { page: mark(first), current: null, undo: [], saving: 0, ended: false };
  let chain = Promise.resolve(); // corrections are sent one after the other

  function mark(page) {
    for (const line of page.lines) line.uncertain = line.state !== "checked" && (line.confidence === null || line.confidence < limit);
    return page;
  }

  const photo = h("div", { class: "photo", tabindex: "0", role: "group", "aria-label": "Photo of the page. Arrow keys move it, plus and minus zoom." });
  const list = h("ol", { class: "lines" });
  const saved = h("span", { class: "saved", role: "status" });
  const pill = h("span", { class: "pill" });
  const undoButton = h("button", { title: "Undo (Ctrl Z)", disabled: true, onclick: () => undo() }, "Undo");
  const edit = editor(state.page, model.alphabet, {
    accept: (text) => accept(text), previous: () => step(-1), next: () => step(1), uncertain, undo: () => undo(),
    leave: () => photo.focus(), changed: () => {},
  });
  const seen = viewer(photo, state.page, api.picture(id, window.innerWidth * devicePixelRatio > 1700 ? 3200 : 1600), {
    choose: (line) => choose(line, true),
    drawn: ([x0, y0, x1, y1]) => addLine([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),
    reshaped: (line, polygon) => reshape(line, polygon),
  });

  const tool = (label, title, action, pressed) => h("button", { class: "small", type: "button", title, onclick: action, "aria-pressed": pressed }, label);
  const drawTool = tool("Add", "Draw a new line on the photo", () => mode(drawTool, "draw"), "false");
  const shapeTool = tool("Shape", "Drag the corners of the current line", () => mode(shapeTool, "shape"), "false");
  const tools = h("div", { class: "toolbar", role: "toolbar", "aria-label": "Lines" },
    drawTool, shapeTool,
    tool("Split", "Split the current line at the cursor", split), tool("Merge", "Merge the current line with the next", merge),
    tool("↑", "Move the current line up in the reading order", () => move(-1)), tool("↓", "Move the current line down in the reading order", () => move(1)),
    tool("Reread", "Read the current line again", reread), tool("Delete", "Delete the current line", remove),
    h("span", { class: "grow" }),
    tool("−", "Zoom out", () => seen.zoom(0.8)), tool("Fit", "Show the whole page", () => seen.fit()), tool("+", "Zoom in", () => seen.zoom(1.25)));

  fill(bar, h("a", { class: "button", href: "#/" }, "← Pages"), h("h1", { class: "name", title: first.name }, first.name), pill,
    h("span", { class: "grow" }), saved, undoButton,
    h("button", { onclick: acceptAll, title: "Accept the texts of all lines as they are" }, "Accept all"),
    h("button", { onclick: readPage, title: "Read all lines that are not checked" }, "Read"),
    h("button", { onclick: showVersions }, "Versions"));
  fill(main, h("div", { class: "desk" }, h("div", { class: "left" }, tools, photo), h("nav", { class: "side", "aria-label": "Lines" }, list), edit.element));

  const at = () => state.page.lines.findIndex((line) => line.id === state.current);
  const current = () => state.page.lines[at()] ?? null;

  function draw() {
    const { page } = state;
    pill.className = `pill ${page.state.replace(" ", "-")}`;
    pill.textContent = page.state;
    fill(list, page.lines.map((line) => h("li", {}, h("button", {
      class: `entry ${line.state}${line.uncertain ? " uncertain" : ""}`, "aria-current": line.id === state.current ? "true" : null,
      "data-line": line.id, onclick: () => choose(line.id, true),
    }, line.text || h("span", { class: "quiet" }, line.fault || "not read yet")))));
    if (!page.lines.length) {
      fill(list, h("li", { class: "empty" }, h("p", {}, page.error || "No lines yet. Read the page, or draw a line on the photo."),
        page.error ? null : h("button", { class: "primary", onclick: readPage }, "Read this page")));
    }
    seen.update(page.lines, state.current);
    undoButton.disabled = !state.undo.length;
    edit.show(current(), at() + 1, page.lines.length);
  }

  /** Take a page from the server, without touching what is being typed. */
  function take(page) {
    if (state.ended || page.id !== id) return;
    state.page = mark(page);
    if (at() < 0) state.current = page.lines[0]?.id ?? null;
    draw();
  }

  function choose(line, focus = false) {
    if (edit.dirty() && line !== state.current) save(current(), edit.input.value, current().state === "checked");
    state.current = line;
    draw();
    const entry = list.querySelector("[aria-current]");
    entry?.scrollIntoView({ block: "nearest" });
    if (current()) seen.show(current());
    if (focus) {
      edit.focus();
      edit.input.setSelectionRange(0, 0);
      edit.input.scrollLeft = 0;
    }
  }

  function step(by) {
    const next = state.page.lines[at() + by];
    if (next) choose(next.id, true);
  }

  /** Jump to the next uncertain line; false if there is none, so that Tab moves on as usual. */
  function uncertain(by) {
    const { lines } = state.page;
    const order = by > 0 ? [...lines.slice(at() + 1), ...lines.slice(0, Math.max(0, at()))] : [...lines.slice(0, Math.max(0, at())).reverse(), ...lines.slice(at() + 1).reverse()];
    const found = order.find((line) => line.uncertain);
    if (found) choose(found.id, true);
    return Boolean(found);
  }

  function accept(text) {
    const line = current();
    if (!line) return;
    save(line, text, true);
    const next = state.page.lines[at() + 1];
    if (next) choose(next.id, true);
    else {
      draw();
      toast(state.page.lines.every((one) => one.state === "checked") ? "All lines of this page are checked" : "This was the last line");
    }
  }

  /** Show a correction at once, and send it. */
  function save(line, text, checked) {
    const before = { text: line.text, state: line.state, confidence: line.confidence };
    const tidy = text.normalize("NFC").trim();
    if (tidy === line.text && checked === (line.state === "checked")) return;
    Object.assign(line, { text: tidy, state: checked ? "checked" : tidy ? "given" : "empty", confidence: null, uncertain: false, characters: [] });
    edit.input.value = tidy;
    const send = (revision) => api.setLine(id, line.id, { text: tidy, checked }, revision);
    queue(async () => {
      const known = state.page.lines.find((one) => one.id === line.id);
      const done = await send(known?.revision ?? line.revision).catch((error) => conflict(error, line.id, tidy, send));
      if (!done) return;
      state.undo.push({ line: line.id, restore: before });
      merged(done);
    });
  }

  /** Take what the server says, but keep what has been accepted here and not been sent yet. */
  function merged(page) {
    const mine = new Map(state.page.lines.map((line) => [line.id, line]));
    if (state.saving > 1) {
      for (const line of page.lines) {
        const own = mine.get(line.id);
        if (own && own.state === "checked" && line.state !== "checked") Object.assign(line, { ...own, revision: line.revision });
      }
    }
    take(page);
  }

  async function conflict(error, line, text, send) {
    if (error.status !== 409) throw error;
    const page = await api.page(id);
    const theirs = page.lines.find((one) => one.id === line);
    if (!theirs) {
      take(page);
      throw new Error("This line was deleted in another window.");
    }
    if (theirs.text === text && theirs.state === "checked") return page;
    const content = h("div", {}, h("p", {}, "This line was changed in another window or by another program."),
      h("dl", {}, h("dt", {}, "There"), h("dd", {}, theirs.text || "(empty)"), h("dt", {}, "Here"), h("dd", {}, text || "(empty)")));
    const mine = await ask("Which text is right?", content, [["Keep the other", false], ["Use mine", true, "primary"]]);
    if (mine) return send(theirs.revision);
    take(page);
    return null;
  }

  function queue(action) {
    state.saving += 1;
    saved.textContent = "Saving …";
    chain = chain.then(action).catch(async (error) => {
      toast(error.message, "error");
      if (error.status) take(await api.page(id).catch(() => state.page));
    }).finally(() => {
      state.saving -= 1;
      saved.textContent = state.saving ? "Saving …" : "Saved";
    });
    return chain;
  }

  /** Change the structure of the page; `then` gets the page, and the lines that it did not have before. */
  function change(what, then = () => {}) {
    return queue(async () => {
      const before = new Set(state.page.lines.map((line) => line.id));
      const page = await api.edit(id, what, state.page.revision).catch(async (error) => {
        if (error.status !== 409) throw error;
        take(await api.page(id));
        throw new Error("The page was changed in another window; look at it and try again.");
      });
      const { versions } = await api.versions(id);
      if (versions.length) state.undo.push({ version: versions[0] });
      take(page);
      await then(page, page.lines.filter((line) => !before.has(line.id)));
    });
  }

  async function readLines(lines) {
    if (!lines.length) return;
    for (const line of lines) edit.forget(line);
    take(await api.edit(id, { read: lines }, state.page.revision));
  }

  const addLine = (polygon) => {
    mode(drawTool, "draw");
    const [, top] = box(polygon);
    const above = state.page.lines.filter((line) => line.polygon.length && box(line.polygon)[1] <= top);
    change({ add: { polygon, after: above.length ? above[above.length - 1].id : null } }, async (page, added) => {
      if (added.length) choose(added[0].id, true);
      await readLines(added.map((line) => line.id));
    });
  };

  function reshape(line, polygon) {
    const own = state.page.lines.find((one) => one.id === line);
    queue(async () => {
      const done = await api.setLine(id, line, { polygon, baseline: own.baseline }, own.revision);
      const { versions } = await api.versions(id);
      if (versions.length) state.undo.push({ version: versions[0] });
      take(done);
      if (own.state !== "checked") await readLines([line]);
    });
  }

  function split() {
    const line = current();
    if (!line) return;
    const place = edit.input.selectionStart || Math.round(line.text.length / 2);
    const [left, , right] = box(line.polygon);
    const here = line.characters?.[[...edit.input.value.slice(0, place)].length];
    const x = here ? left + here[1] : left + ((right - left) * place) / Math.max(1, line.text.length);
    change({ split: { line: line.id, x: Math.round(x), at: place } }, (page, added) => {
      if (line.state !== "checked") return readLines([line.id, ...added.map((one) => one.id)]);
    });
  }

  function merge() {
    const line = current();
    const next = state.page.lines[at() + 1];
    if (!line || !next) return toast("There is no next line to merge with");
    change({ merge: [line.id, next.id] }, (page) => {
      const now = page.lines.find((one) => one.id === line.id);
      if (now && now.state !== "checked") return readLines([line.id]);
    });
  }

  function move(by) {
    const here = at();
    const { lines } = state.page;
    if (here < 0 || here + by < 0 || here + by >= lines.length) return;
    const after = by > 0 ? lines[here + 1].id : lines[here - 2]?.id ?? null;
    change({ move: { line: lines[here].id, after } });
  }

  function remove() {
    const line = current();
    if (!line) return;
    const next = state.page.lines[at() + 1] ?? state.page.lines[at() - 1];
    change({ delete: [line.id] }, () => {
      if (next) choose(next.id);
      toast("Line deleted; Undo brings it back");
    });
  }

  function reread() {
    const line = current();
    if (!line) return;
    if (line.state === "checked") return toast("Checked lines stay as they are");
    queue(() => readLines([line.id]));
  }

  function acceptAll() {
    change({ check_all: true });
  }

  async function readPage() {
    try {
      await api.start({ kind: "read", pages: [id] });
      toast("Reading this page …");
    } catch (error) {
      toast(error.message, "error");
    }
  }

  function mode(button, name) {
    const on = button.getAttribute("aria-pressed") !== "true";
    for (const one of [drawTool, shapeTool]) one.setAttribute("aria-pressed", String(one === button && on));
    seen.mode(on ? name : "look");
  }

  function undo() {
    const last = state.undo.pop();
    if (!last) return toast("Nothing to undo");
    queue(async () => {
      if (last.version) take(await api.edit(id, { restore: last.version }, state.page.revision));
      else {
        const line = state.page.lines.find((one) => one.id === last.line);
        if (!line) throw new Error("The line is gone.");
        take(await api.setLine(id, last.line, { restore: last.restore }, line.revision));
        choose(last.line, true);
      }
    });
  }

  async function showVersions() {
    const { versions } = await api.versions(id);
    if (!versions.length) return toast("This page has no earlier version");
    const field = h("select", { "aria-label": "Version", size: "8" }, versions.map((time) => h("option", { value: time }, new Date(time).toLocaleString())));
    field.value = versions[0];
    const chosen = await ask("Earlier versions", h("div", {}, h("p", {}, "The page as it was until:"), field),
      [["Cancel", null], ["Restore", "restore", "primary"]]);
    if (chosen) change({ restore: Number(field.value) });
  }

  const keys = (event) => {
    if (event.target === edit.input || event.target.closest("dialog")) return;
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      event.preventDefault();
      undo();
    }
  };
  document.addEventListener("keydown", keys);
  const warn = (event) => {
    if (state.saving || edit.dirty()) event.preventDefault();
  };
  window.addEventListener("beforeunload", warn);
  let reading = false;
  const stop = onJobs(async (jobs) => {
    const active = jobs.some((job) => job.kind === "read" && isActive(job));
    if (active || reading) {
      const page = await api.page(id).catch(() => null);
      if (page && page.revision !== state.page.revision && !state.saving) take(page);
    }
    reading = active;
  });

  document.title = `${first.name} - hwr`;
  const wanted = location.hash.split("/")[3];
  const start = state.page.lines.find((line) => line.id === (wanted && decodeURIComponent(wanted)))
    ?? state.page.lines.find((line) => line.uncertain) ?? state.page.lines[0];
  draw();
  if (start) choose(start.id, window.innerWidth > 700);

  return () => {
    if (edit.dirty()) save(current(), edit.input.value, current().state === "checked");
    state.ended = true;
    stop();
    seen.end();
    document.removeEventListener("keydown", keys);
    window.removeEventListener("beforeunload", warn);
  };
}
