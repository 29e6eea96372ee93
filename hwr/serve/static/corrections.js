// Corrections of a page: sent one after the other, kept until they are saved, undone.

import { api } from "./api.js";
import { ask, h, toast } from "./dom.js";

let chain = Promise.resolve(); // corrections are sent one after the other

/** What is on its way has arrived, or could not be saved. */
export const sent = () => chain;

// The corrections that are on their way or could not be saved, by page and line. Another view loses none.
const corrections = new Map();
window.addEventListener("beforeunload", (event) => {
  if ([...corrections.values()].some((lines) => lines.size)) event.preventDefault();
});

const refused = (error) => error.status >= 400 && error.status < 500; // for good; other requests can be sent again

/** Whether a line's text is not by the recognizer. */
export const written = (line) => line.state === "given" || line.state === "checked";

/** Show a line as it was corrected. */
function correct(line, { text, checked, error }) {
  const state = error ? "unsaved" : checked ? "checked" : text ? "given" : "empty";
  Object.assign(line, { text, state, confidence: null, uncertain: false, characters: [] });
}

/**
 * @param first the page as the API gives it
 * @param limit the confidence below which a line is uncertain
 * @param view what shows the page: {draw(), choose(id), typed(): the line whose text somebody is typing or null,
 *   keep(): save that text}
 */
export function correctionsOf(first, limit, view) {
  const { id } = first;
  const unsaved = corrections.get(id) ?? new Map();
  corrections.set(id, unsaved);
  const state = { page: mark(first), undo: [], saving: 0, ended: false };

  const saved = h("span", { class: "saved", role: "status" });
  const retryButton = h("button", { hidden: true, onclick: () => retry() }, "Retry");
  const undoButton = h("button", { title: "Undo (Ctrl Z)", disabled: true, onclick: () => undo() }, "Undo");

  const find = (line, page = state.page) => page.lines.find((one) => one.id === line);
  const failed = () => [...unsaved.values()].filter((one) => one.error);

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

  /** Take a page from the server, without touching what is being typed or is not saved yet. */
  function take(page) {
    if (page.id !== id) return;
    const typed = state.ended ? null : view.typed();
    state.page = mark(page);
    if (state.ended) return;
    const line = typed && !unsaved.has(typed.id) ? find(typed.id) : null;
    if (line) rebase(line, typed.base);
    view.draw();
  }

  // --- Texts ---

  /** Show a correction at once, and send it. */
  function save(line, text, checked = unsaved.get(line.id)?.checked ?? line.state === "checked") {
    const older = unsaved.get(line.id);
    const before = older?.error ? older.before : { text: line.text, state: line.state, confidence: line.confidence };
    if (text === line.text && checked === (line.state === "checked")) return;
    const one = { line: line.id, text, checked, base: line.base, before, error: null };
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

  // --- All changes ---

  function queue(action) {
    state.saving += 1;
    tell();
    chain = chain.then(action).catch(async (error) => {
      toast(error.message, "error");
      const page = error.status ? await api.page(id).catch(() => null) : null;
      if (page) take(page);
      else if (!state.ended) view.draw();
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
    undoButton.disabled = !state.undo.length;
  }

  /** Do what needs all corrections to be saved, such as changing the lines. */
  function settled(action) {
    view.keep();
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

  /** Change the outline and baseline of a line; `then` gets the line as it was. */
  function reshape(line, polygon, baseline, then) {
    return settled(async () => {
      const before = find(line);
      if (!before) throw new Error("The line is gone.");
      const done = await api.setLine(id, line, { polygon, baseline }, before.revision);
      if (find(line, done).revision !== before.revision) await undoable(done, [line]);
      take(done);
      await then(before);
    });
  }

  /** Have lines read; for use in `then`, when all corrections are saved. */
  async function read(lines) {
    if (!lines.length) return;
    const page = await api.edit(id, { read: lines }, state.page.revision);
    own(page, lines);
    take(page);
  }

  /** Have a line read again. */
  function reread(line) {
    settled(async () => {
      const { text, state: status, confidence } = find(line.id) ?? line;
      await read([line.id]);
      const now = find(line.id);
      if (now && (now.text !== text || now.state !== status)) undoableLine(state.page, line.id, { text, state: status, confidence });
    });
  }

  // --- Undo ---

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
        view.choose(last.line);
      }
    });
  }

  return {
    save, change, reshape, read, reread, undo, retry, take,
    status: [saved, retryButton, undoButton],
    get page() { return state.page; },
    get saving() { return state.saving > 0; },
    get failed() { return failed().length > 0; },
    /** The server answers again. */
    online() {
      if (!state.saving) retry(failed().filter(({ error }) => error.status === 0));
    },
    end() {
      state.ended = true;
    },
  };
}
