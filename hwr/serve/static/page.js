// A page: the photo, the current line, the list of lines; corrections are saved in order, and undone.

import { api } from "./api.js";
import { ask, fill, h, toast } from "./dom.js";
import { editor } from "./editor.js";
import { askNow, isActive, onJobs } from "./jobs.js";
import { box, viewer } from "./viewer.js";

let chain = Promise.resolve(); // corrections are sent one after the other

// The corrections that are on their way or could not be saved, by page and line. Another view loses none.
const corrections = new Map();
window.addEventListener("beforeunload", (event) => {
  if ([...corrections.values()].some((lines) => lines.size)) event.preventDefault();
});

const refused = (error) => error.status >= 400 && error.status < 500; // for good; other requests can be sent again
const written = (line) => line.state === "given" || line.state === "checked"; // not by the recognizer

/** Show a line as it was corrected. */
function correct(line, { text, checked, error }) {
  const state = error ? "unsaved" : checked ? "checked" : text ? "given" : "empty";
  Object.assign(line, { text, state, confidence: null, uncertain: false, characters: [] });
}

/** What `showPage` shows. */
export const loadPage = (id) => Promise.all([api.page(id), api.model()]);

export function showPage(bar, main, [first, model]) {
  const { id } = first;
  const limit = model.uncertain_below;
  const unsaved = corrections.get(id) ?? new Map();
  corrections.set(id, unsaved);
  const state = { page: mark(first), current: null, undo: [], saving: 0, ended: false };

  function mark(page) {
    for (const line of page.lines) {
      line.uncertain = line.state !== "checked" && (line.confidence === null || line.confidence < limit);
      // The revision that a correction of the line is made on.
      line.base = { revision: line.revision };
      if (unsaved.has(line.id)) {
        rebase(line, unsaved.get(line.id).base);
        correct(line, unsaved.get(line.id));
      }
    }
    return page;
  }

  /** What was typed on an older line stays so: the server is to notice if somebody, not the recognizer, wrote it since. */
  function rebase(line, base) {
    if (!written(line)) base.revision = line.revision;
    line.base = base;
  }

  const photo = h("div", { class: "photo", tabindex: "0", role: "group", "aria-label": "Photo of the page. Arrow keys move it, plus and minus zoom." });
  const list = h("ol", { class: "lines" });
  const saved = h("span", { class: "saved", role: "status" });
  const retryButton = h("button", { hidden: true, onclick: () => retry() }, "Retry");
  const pill = h("span", { class: "pill" });
  const undoButton = h("button", { title: "Undo (Ctrl Z)", disabled: true, onclick: () => undo() }, "Undo");
  const edit = editor(state.page, model.alphabet, {
    accept: (text) => accept(text), previous: () => step(-1), next: () => step(1), uncertain, undo: () => undo(),
    leave: () => photo.focus(),
  });
  const seen = viewer(photo, state.page, api.picture(id, window.innerWidth * devicePixelRatio > 1700 ? 3200 : 1600), {
    choose: (line) => choose(line, true),
    drawn: ([x0, y0, x1, y1]) => addLine([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),
    reshaped: (line, polygon) => reshape(line, polygon),
  });

  const tool = (label, title, action, pressed) => h("button", { class: "small", type: "button", title, onclick: action,
    "aria-pressed": pressed, "aria-label": /\w/.test(label) ? null : title }, label); // nobody can say an arrow
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
    h("span", { class: "grow" }), saved, retryButton, undoButton,
    h("button", { onclick: acceptAll, title: "Accept the texts of all lines as they are" }, "Accept all"),
    h("button", { onclick: readPage, title: "Read all lines that are not checked" }, "Read"),
    h("button", { onclick: showVersions }, "Versions"));
  fill(main, h("div", { class: "desk" }, h("div", { class: "left" }, tools, photo), h("nav", { class: "side", "aria-label": "Lines" }, list), edit.element));

  const at = () => state.page.lines.findIndex((line) => line.id === state.current);
  const current = () => state.page.lines[at()] ?? null;
  const find = (line, page = state.page) => page.lines.find((one) => one.id === line);
  const failed = () => [...unsaved.values()].filter((one) => one.error);

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

  /** Take a page from the server, without touching what is being typed or is not saved yet. */
  function take(page) {
    if (state.ended || page.id !== id) return;
    const old = current();
    state.page = mark(page);
    if (current() && !unsaved.has(state.current) && edit.dirty()) rebase(current(), old.base);
    if (at() < 0) {
      if (edit.dirty()) toast(`The line is gone. What you typed was: ${edit.input.value}`, "error");
      state.current = page.lines[0]?.id ?? null;
    }
    draw();
  }

  function choose(line, focus = false) {
    if (line !== state.current) keep();
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
      chain.then(() => toast(state.page.lines.every((one) => one.state === "checked") ? "All lines of this page are checked" : "This was the last line"));
    }
  }

  /** Show a correction at once, and send it. */
  function save(line, text, checked) {
    const older = unsaved.get(line.id);
    const before = older?.error ? older.before : { text: line.text, state: line.state, confidence: line.confidence };
    const tidy = text.normalize("NFC").replace(/\t/g, " ").trim(); // tabs come from the clipboard
    edit.input.value = tidy;
    if (tidy === line.text && checked === (line.state === "checked")) return;
    const one = { line: line.id, text: tidy, checked, base: line.base, before, error: null };
    unsaved.set(line.id, one);
    correct(line, one);
    queue(async () => {
      await send(one);
      retry(failed().filter(({ error }) => error.status !== 400)); // those that were not refused
    });
  }

  /** Send a correction; if that fails, it stays. */
  async function send(one) {
    const call = (revision) => api.setLine(id, one.line, { text: one.text, checked: one.checked }, revision);
    try {
      const done = await call(one.base.revision).catch((error) => conflict(error, one, call));
      if (!done) return;
      forget(one);
      one.base.revision = find(one.line, done)?.revision;
      own(done, [one.line]);
      undoableLine(done, one.line, one.before);
      take(done);
    } catch (error) {
      one.error = error;
      if (unsaved.get(one.line) === one && find(one.line)) correct(find(one.line), one);
      throw error;
    }
  }

  /** Keep a correction no longer, unless it has been corrected again. */
  function forget(one) {
    if (unsaved.get(one.line) === one) unsaved.delete(one.line);
  }

  /** Send corrections that could not be saved again. */
  function retry(chosen = failed()) {
    if (!chosen.length) return;
    queue(async () => {
      let fault = null;
      for (const one of chosen) {
        if (unsaved.get(one.line) === one) await send(one).catch((error) => (fault = error));
      }
      if (fault) throw fault;
    });
  }

  /** Save what is typed, without accepting it. */
  function keep() {
    if (edit.dirty()) save(current(), edit.input.value, unsaved.get(state.current)?.checked ?? current().state === "checked");
  }

  /**
   * Undo steps expect the line, or the whole page, as this window left it. Let them expect the answer to its latest change.
   * The answer to a change of lines may hold another window's changes, which steps of the page must not take back.
   */
  function own(page, changed = null) {
    const { lines, revision } = state.page;
    for (const step of state.undo) {
      const now = step.line && (changed ?? [step.line]).includes(step.line) ? find(step.line, page) : null;
      if (now && step.revision === find(step.line)?.revision) step.revision = now.revision;
    }
    const same = ({ id: line, revision: now }, index) =>
      line === lines[index].id && (changed.includes(line) || now === lines[index].revision);
    if (changed && !(page.lines.length === lines.length && page.lines.every(same))) return;
    for (const step of state.undo) if (step.version && step.revision === revision) step.revision = page.revision;
  }

  async function conflict(error, one, call) {
    if (error.status !== 409 && error.status !== 404) throw error;
    const page = await api.page(id);
    const theirs = find(one.line, page);
    if (!theirs) {
      forget(one);
      take(page);
      throw new Error(`This line was deleted in another window. Its text was: ${one.text}`);
    }
    if (theirs.text === one.text && (theirs.state === "checked" || !one.checked)) return page;
    // Somebody may be typing the next line: the focus is on no button, which Space or Enter would press.
    const content = h("div", { tabindex: "-1", autofocus: true }, h("p", {}, "This line was changed in another window or by another program."),
      h("dl", {}, h("dt", {}, "There"), h("dd", {}, theirs.text || "(empty)"), h("dt", {}, "Here"), h("dd", {}, one.text || "(empty)")));
    const mine = await ask("Which text is right?", content, [["Keep the other", false], ["Use mine", true, "primary"]]);
    if (mine === null) throw new Error("Not saved: it is open which text is right");
    one.base.revision = theirs.revision;
    if (mine) return call(theirs.revision);
    forget(one);
    take(page);
    return null;
  }

  function queue(action) {
    state.saving += 1;
    tell();
    chain = chain.then(action).catch(async (error) => {
      toast(error.message, "error");
      const page = error.status ? await api.page(id).catch(() => null) : null;
      if (page) take(page);
      else if (!state.ended) draw();
    }).catch((error) => console.error(error)).finally(() => { // the next corrections are sent, whatever fails here
      state.saving -= 1;
      tell();
    });
    return chain;
  }

  /** Say whether everything is saved. */
  function tell() {
    const count = failed().length;
    saved.textContent = state.saving ? "Saving …" : count ? `${count} not saved` : "Saved";
    retryButton.hidden = !count;
  }

  /** Do what needs all corrections to be saved, such as changing the lines. */
  function settled(action) {
    keep();
    retry();
    return queue(async () => {
      if (failed().length) throw new Error("Not done, because some corrections are not saved");
      await action();
    });
  }

  /** Change the structure of the page; `then` gets the page, and the lines that it did not have before. */
  function change(what, then = () => {}) {
    return settled(async () => {
      const before = new Set(state.page.lines.map((line) => line.id));
      const page = await api.edit(id, what, state.page.revision).catch(async (error) => {
        if (error.status !== 409) throw error;
        take(await api.page(id));
        throw new Error("The page was changed in another window; look at it and try again.");
      });
      if (page.revision !== state.page.revision) await undoable(page);
      take(page);
      await then(page, page.lines.filter((line) => !before.has(line.id)));
    });
  }

  /** Add the undo step of a change: the version that it has made, which is undone unless the page was changed since. */
  async function undoable(page, changed = null) {
    own(page, changed);
    const { versions } = await api.versions(id);
    if (versions.length) state.undo.push({ version: versions[0], revision: page.revision });
  }

  /** Add the undo step of a change of a line, which had this text and state before. */
  function undoableLine(page, line, restore) {
    state.undo.push({ line, restore, revision: find(line, page)?.revision });
  }

  async function readLines(lines) {
    if (!lines.length) return;
    for (const line of lines) edit.forget(line);
    const page = await api.edit(id, { read: lines }, state.page.revision);
    own(page, lines);
    take(page);
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
    settled(async () => {
      const before = find(line);
      if (!before) throw new Error("The line is gone.");
      const done = await api.setLine(id, line, { polygon, baseline: before.baseline }, before.revision);
      if (find(line, done).revision !== before.revision) await undoable(done, [line]);
      take(done);
      if (!written(before)) await readLines([line]);
    });
  }

  function split() {
    const line = current();
    if (!line) return;
    // The server counts code points of the text as it is saved.
    const place = [...edit.input.value.slice(0, edit.input.selectionStart).normalize("NFC").trimStart()].length;
    keep();
    const count = [...line.text].length;
    if (count && (place === 0 || place >= count)) return toast("Put the cursor where the line is to be split");
    const [left, , right] = box(line.polygon);
    const here = line.characters?.[place];
    const turned = line.baseline.length > 1 && line.baseline[0][0] > line.baseline.at(-1)[0]; // upside down: begins at the right
    // A line without a text is split in its middle.
    const part = (right - left) * (count ? place / count : 0.5);
    const x = here ? left + here[turned ? 2 : 1] : turned ? right - part : left + part;
    change({ split: { line: line.id, x: Math.round(x), at: place } }, (page, added) => {
      if (!written(line)) return readLines([line.id, ...added.map((one) => one.id)]);
    });
  }

  function merge() {
    const line = current();
    const next = state.page.lines[at() + 1];
    if (!line || !next) return toast("There is no next line to merge with");
    change({ merge: [line.id, next.id] }, () => {
      if (!written(line) && !written(next)) return readLines([line.id]);
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
    settled(async () => {
      const { text, state: status, confidence } = find(line.id) ?? line;
      await readLines([line.id]);
      const now = find(line.id);
      if (!now || (now.text === text && now.state === status)) return;
      undoableLine(state.page, line.id, { text, state: status, confidence });
      draw();
    });
  }

  function acceptAll() {
    change({ check_all: true });
  }

  async function readPage() {
    try {
      await api.start({ kind: "read", pages: [id] });
      toast("Reading this page …");
      reading = true; // it may have ended before the next turn
      await askNow();
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
    settled(async () => {
      const last = state.undo.pop(); // only now are the steps of what is on its way there
      if (!last) return toast("Nothing to undo");
      const failing = (error) => {
        if (!refused(error)) state.undo.push(last); // it can be tried again
        throw error;
      };
      if (last.version) {
        const page = await api.edit(id, { restore: last.version }, last.revision).catch(failing).catch(async (error) => {
          if (error.status !== 409) throw error;
          take(await api.page(id));
          throw new Error("The page was changed elsewhere since; Versions has its earlier states.");
        });
        own(page);
        take(page);
      } else {
        const line = find(last.line);
        if (!line) throw new Error("The line is gone.");
        // Somebody else may have written the line since; what the recognizer has read does not matter.
        const revision = written(line) ? last.revision : line.revision;
        const page = await api.setLine(id, last.line, { restore: last.restore }, revision).catch(failing);
        own(page, [last.line]);
        take(page);
        choose(last.line, true);
      }
    });
  }

  async function showVersions() {
    const { versions } = await api.versions(id).catch((error) => toast(error.message, "error")) ?? {};
    if (!versions) return;
    if (!versions.length) return toast("This page has no earlier version");
    const field = h("select", { "aria-label": "Version", size: "8" }, versions.map((time) => h("option", { value: time }, new Date(time).toLocaleString())));
    field.value = versions[0];
    const chosen = await ask("Earlier versions", h("div", {}, h("p", {}, "The page as it was until:"), field),
      [["Cancel", null], ["Restore", "restore", "primary"]]);
    if (chosen) change({ restore: Number(field.value) });
  }

  const keys = (event) => {
    if (event.target === edit.input || event.target.closest("dialog")) return;
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
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
    if (!state.saving) retry(failed().filter(({ error }) => error.status === 0)); // the server answers again
    const active = jobs.some((job) => job.kind === "read" && isActive(job));
    if (!active && !reading) return;
    const before = state.page;
    const page = await api.page(id).catch(() => null);
    const newest = page && before === state.page && !state.saving; // the answer to a correction may be newer
    if (newest && page.revision !== before.revision) take(page);
    reading = active || !newest;
  });

  document.title = `${first.name} - hwr`;
  const wanted = location.hash.split("/")[3];
  const start = state.page.lines.find((line) => line.id === (wanted && decodeURIComponent(wanted)))
    ?? state.page.lines.find((line) => line.uncertain) ?? state.page.lines[0];
  draw();
  if (start) choose(start.id, window.innerWidth > 700);
  retry();

  return () => {
    keep();
    if (failed().length) toast(`Not everything of ${first.name} is saved; open it again to retry`, "error");
    state.ended = true;
    stop();
    seen.end();
    document.removeEventListener("keydown", keys);
    window.removeEventListener("beforeunload", warn);
  };
}
