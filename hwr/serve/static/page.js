// A page: the photo, the current line, the list of lines.

import { api } from "./api.js";
import { correctionsOf, sent } from "./corrections.js";
import { ask, fill, h, released, toast } from "./dom.js";
import { editor } from "./editor.js";
import { act, isActive, onJobs } from "./jobs.js";
import { lineTools, tool } from "./lines.js";
import { viewer } from "./viewer.js";

/** What `showPage` shows. */
export async function loadPage(id) {
  await sent();
  return Promise.all([api.page(id), api.model()]);
}

export function showPage(bar, main, [first, model]) {
  const { id } = first;
  let chosen = null; // the id of the current line
  const corrections = correctionsOf(first, model.uncertain_below, {
    draw, keep, choose: (line) => choose(line, true), typed: () => (edit.dirty() ? current() : null),
  });
  const photo = h("div", { class: "photo", tabindex: "0", role: "group", "aria-label": "Photo of the page. Arrow keys move it, plus and minus zoom." });
  const list = h("ol", { class: "lines" });
  const side = h("nav", { class: "side", "aria-label": "Lines" }, list);
  const pill = h("span", { class: "pill" });
  const edit = editor(first, model.alphabet, {
    accept, uncertain, previous: () => step(-1), next: () => step(1), undo: corrections.undo, leave: () => photo.focus(),
  });
  const seen = viewer(photo, first, api.picture(id, window.innerWidth * devicePixelRatio > 1700 ? 3200 : 1600), {
    choose: (line) => choose(line, true), drawn: (polygon) => tools.add(polygon), below: () => tools.addBelow(),
    reshaped: (...shape) => tools.reshape(...shape),
  });
  const tools = lineTools(corrections, edit, { current, choose, keep, mode });

  fill(bar, h("a", { class: "button", href: "#/" }, "← Pages"), h("h1", { class: "name", title: first.name }, first.name), pill,
    h("span", { class: "grow" }), corrections.status,
    h("button", { onclick: () => corrections.change({ check_all: true }), title: "Accept the texts of all lines as they are" }, "Accept all"),
    h("button", { onclick: readPage, title: "Read all lines that are not checked" }, "Read"),
    h("button", { onclick: showVersions }, "Versions"));
  const toolbar = h("div", { class: "toolbar", role: "toolbar", "aria-label": "Lines" }, tools.buttons, h("span", { class: "grow" }),
    tool("−", "Zoom out", () => seen.zoom(0.8)), tool("Fit", "Show the whole page", () => seen.fit()), tool("+", "Zoom in", () => seen.zoom(1.25)));
  fill(main, h("div", { class: "desk" }, h("div", { class: "left" }, toolbar, photo), side, edit.element));

  const at = () => corrections.page.lines.findIndex((line) => line.id === chosen);

  function current() {
    return corrections.page.lines[at()] ?? null;
  }

  function draw() {
    const { page } = corrections;
    if (at() < 0) {
      if (edit.dirty()) toast(`The line is gone. What you typed was: ${edit.input.value}`, "error");
      chosen = page.lines[0]?.id ?? null;
    }
    pill.className = `pill ${page.state.replace(" ", "-")}`;
    pill.textContent = page.state;
    fill(list, page.lines.map((line) => h("li", {}, h("button", {
      class: `entry ${line.state}${line.uncertain ? " uncertain" : ""}`, "aria-current": line.id === chosen ? "true" : null,
      "data-line": line.id, onclick: () => choose(line.id, true),
    }, line.text || h("span", { class: "quiet" }, line.fault || "not read yet")))));
    if (!page.lines.length) {
      fill(list, h("li", { class: "empty" }, h("p", {}, page.error || "No lines yet. Read the page, or draw a line on the photo."),
        page.error ? null : h("button", { class: "primary", onclick: readPage }, "Read this page")));
    }
    seen.update(page.lines, chosen);
    edit.show(current(), at() + 1, page.lines.length);
  }

  function choose(line, focus = false) {
    if (line !== chosen) keep();
    chosen = line;
    draw();
    reveal(list.querySelector("[aria-current]"));
    if (current()) seen.show(current());
    if (focus) {
      edit.focus();
      edit.input.setSelectionRange(0, 0);
      edit.input.scrollLeft = 0;
    }
  }

  /** Show an entry of the list. Below the photo, the list does not scroll, and the window is to stay. */
  function reveal(entry) {
    if (!entry) return;
    const [own, frame] = [entry, side].map((one) => one.getBoundingClientRect());
    side.scrollTop += Math.min(0, own.top - frame.top) + Math.max(0, own.bottom - frame.bottom);
  }

  function step(by) {
    const next = corrections.page.lines[at() + by];
    if (next) choose(next.id, true);
  }

  /** Jump to the next uncertain line; false if there is none, so that Tab moves on as usual. */
  function uncertain(by) {
    const { lines } = corrections.page;
    const order = [...lines.slice(at() + 1), ...lines.slice(0, Math.max(0, at()))];
    const found = by > 0 ? order.find((line) => line.uncertain) : order.findLast((line) => line.uncertain);
    if (found) choose(found.id, true);
    return Boolean(found);
  }

  function accept() {
    const line = current();
    if (!line) return;
    corrections.save(line, edit.tidy(), true);
    const next = corrections.page.lines[at() + 1];
    if (next) choose(next.id, true);
    else {
      draw();
      sent().then(() => toast(corrections.page.lines.every((one) => one.state === "checked") ? "All lines of this page are checked" : "This was the last line"));
    }
  }

  /** The photo looks, draws or shapes; the keys for that are its own. */
  function mode(name) {
    seen.mode(name);
    if (name !== "look") photo.focus();
  }

  /** Save what is typed, without accepting it, and what the keyboard has reshaped. */
  function keep() {
    seen.keep();
    if (edit.dirty()) corrections.save(current(), edit.tidy());
  }

  function readPage() {
    act(async () => {
      await api.start({ kind: "read", pages: [id] });
      toast("Reading this page …");
      reading = true; // it may have ended before the next turn
    });
  }

  async function showVersions() {
    const { versions } = await api.versions(id).catch((error) => toast(error.message, "error")) ?? {};
    if (!versions) return;
    if (!versions.length) return toast("This page has no earlier version");
    const field = h("select", { "aria-label": "Version", size: "8" }, versions.map((time) => h("option", { value: time }, new Date(time).toLocaleString())));
    field.value = versions[0];
    const answer = await ask("Earlier versions", h("div", {}, h("p", {}, "The page as it was until:"), field),
      [["Cancel", null], ["Restore", "restore", "primary"]]);
    if (answer) corrections.change({ restore: Number(field.value) });
  }

  const keys = (event) => {
    if (event.target === edit.input || event.target.closest("dialog")) return;
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
      event.preventDefault();
      corrections.undo();
    }
  };
  document.addEventListener("keydown", keys);
  const warn = (event) => {
    seen.keep();
    if (corrections.saving || edit.dirty()) event.preventDefault();
  };
  window.addEventListener("beforeunload", warn);
  let reading = false;
  const stop = onJobs(async (jobs, ended) => {
    corrections.online();
    if (ended.length) edit.renew();
    const active = jobs.some((job) => job.kind === "read" && isActive(job));
    if (!active && !reading) return;
    const before = corrections.page;
    const page = await api.page(id).catch(() => null);
    await released();
    const newest = page && before === corrections.page && !corrections.saving; // the answer to a correction may be newer
    if (newest && page.revision !== before.revision) corrections.take(page);
    reading = active || !newest;
  });

  document.title = `${first.name} - hwr`;
  const wanted = location.hash.split("/")[3];
  const { lines } = corrections.page;
  const start = lines.find((line) => line.id === (wanted && decodeURIComponent(wanted))) ?? lines.find((line) => line.uncertain) ?? lines[0];
  if (start) choose(start.id, window.innerWidth > 700);
  else draw();
  corrections.retry();

  return () => {
    keep();
    if (corrections.failed) toast(`Not everything of ${first.name} is saved; open it again to retry`, "error");
    corrections.end();
    stop();
    seen.end();
    document.removeEventListener("keydown", keys);
    window.removeEventListener("beforeunload", warn);
  };
}
