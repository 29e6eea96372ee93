// The pages of the project: their state, upload, search, reading, export.

import { api } from "./api.js";
import { sent } from "./corrections.js";
import { ask, fill, h, percent, plural, released, toast } from "./dom.js";
import { act, isActive, onJobs } from "./jobs.js";

const ORDERS = {
  benefit: ["Where correcting helps most", (a, b) => b.expected_errors - a.expected_errors || b.left - a.left],
  name: ["Name", (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true })],
  left: ["Lines left to check", (a, b) => b.left - a.left],
  confidence: ["Lowest confidence", (a, b) => (a.confidence ?? 2) - (b.confidence ?? 2)],
  state: ["State", (a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state)],
};
const STATES = ["broken", "new", "read", "in progress", "done"];
const FORMATS = [
  ["Text", "txt"], ["PAGE XML", "page"], ["ALTO", "alto"], ["hOCR", "hocr"], ["Searchable PDF", "pdf"], ["Web page", "html"],
  ["Table (TSV)", "tsv"], ["Training table", "table"],
];

// An upload is sent in requests of this size, far below what a server takes, so that pages appear as they arrive.
const PART_FILES = 50;
const PART_BYTES = 50_000_000;

export function showProject(bar, main) {
  const view = { pages: [], corrected: 0, search: "", order: sessionStorage.getItem("order") ?? "benefit", chosen: new Set() };
  const grid = h("ul", { class: "grid" });
  const counts = h("p", { class: "counts", role: "status" });
  const progress = h("div", { class: "jobs" });
  const sending = h("div", { class: "jobs" });
  const input = h("input", { type: "file", multiple: true, class: "hidden", "aria-label": "Files to upload",
    accept: "image/*,.pdf,.xml,.zip,.tif,.tiff,.jp2", tabindex: "-1" });
  input.addEventListener("change", () => send([...input.files]).then(() => (input.value = "")));

  const search = h("input", { type: "search", placeholder: "Search texts and names", "aria-label": "Search texts and names" });
  let pending = null;
  search.addEventListener("input", () => {
    pending?.abort();
    pending = new AbortController();
    view.search = search.value;
    load(pending.signal);
  });
  const order = h("select", { onchange: () => {
    view.order = order.value;
    sessionStorage.setItem("order", order.value);
    draw();
  } }, Object.entries(ORDERS).map(([key, [label]]) => h("option", { value: key }, label)));
  order.value = view.order;

  const read = h("button", { onclick: () => act(() => api.start({ kind: "read", pages: some() })) }, "Read");
  const exporting = h("button", { onclick: () => exportPages(view) }, "Export");
  fill(bar, h("a", { class: "brand", href: "#/" }, h("img", { src: "/static/icon.svg", alt: "" }), "hwr"),
    h("span", { class: "grow" }),
    h("button", { onclick: () => input.click() }, "Upload"), read, exporting,
    h("a", { class: "button primary", href: "#/training" }, "Train"));
  fill(main, h("h1", { class: "visually-hidden" }, "Pages"), input,
    h("div", { class: "row tools" }, search, h("label", { class: "inline" }, h("span", {}, "Sort by"), order)),
    counts, sending, progress, grid);

  const some = () => (view.chosen.size ? [...view.chosen] : null);

  let asked = 0;
  let shown = 0;
  let failed = false;

  async function load(signal) {
    const turn = (asked += 1);
    try {
      await sent(); // the corrections of a page that has just been left count
      const found = await api.pages(view.search, signal);
      await released();
      if (turn < shown) return; // a later request, perhaps of another search, was answered already
      shown = turn;
      failed = false;
      Object.assign(view, { pages: found.pages, corrected: found.corrected });
      if (!view.search) for (const id of view.chosen) if (!found.pages.some((page) => page.id === id)) view.chosen.delete(id);
      draw();
    } catch (error) {
      if (error.name === "AbortError") return;
      failed = true;
      toast(error.message, "error");
    }
  }

  function draw() {
    const pages = [...view.pages].sort((a, b) => ORDERS[view.order][1](a, b) || ORDERS.name[1](a, b));
    const lines = pages.reduce((sum, page) => sum + page.count, 0);
    const left = pages.reduce((sum, page) => sum + page.left, 0);
    const found = pages.length
      ? `${plural(pages.length, "page")}, ${plural(lines, "line")}, ${(lines - left).toLocaleString("en")} checked`
      : "";
    if (found !== counts.textContent) counts.textContent = found; // a screen reader says it only when it changes
    read.textContent = view.chosen.size ? `Read ${view.chosen.size}` : "Read all";
    exporting.textContent = view.chosen.size ? `Export ${view.chosen.size}` : "Export";
    if (pages.length) fill(grid, pages.map((page) => card(page, view, draw)));
    else fill(grid, h("li", { class: "empty" }, view.search
      ? h("p", {}, "No page has this in its text or name.")
      : [h("h2", {}, "Drop page images here"),
        h("p", {}, "Photos, scans and PDFs. Add PAGE or ALTO files, or a .zip export, if you have them."),
        h("button", { class: "primary", onclick: () => input.click() }, "Choose files")]));
  }

  async function send(files) {
    if (!files.length) return;
    const note = h("p", { class: "job" });
    sending.append(note);
    let sent = 0;
    let good = 0;
    for (const part of parts(files)) {
      note.textContent = `Uploading ${plural(files.length, "file")} …${sent ? ` ${sent} done` : ""}`;
      try {
        const { files: stored } = await api.upload(part);
        for (const file of stored.filter((one) => one.error)) toast(file.error, "error");
        good += stored.filter((one) => !one.error).length;
      } catch (error) {
        toast(part.length > 1 ? error.message : `${part[0].name}: ${error.message}`, "error");
        if (!error.status) break; // no server
      }
      sent += part.length;
      await load();
    }
    if (good) toast(`Added ${plural(good, "file")}`);
    note.remove();
  }

  let depth = 0;
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    if (event.type === "dragenter") depth += 1;
    document.body.classList.add("dropping");
  };
  const out = () => {
    depth -= 1;
    if (depth <= 0) document.body.classList.remove("dropping");
  };
  const drop = (event) => {
    event.preventDefault();
    depth = 0;
    document.body.classList.remove("dropping");
    const folders = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry?.isDirectory);
    for (const { name } of folders) toast(`${name} is a folder: open it and drop the files in it`, "error");
    send([...event.dataTransfer.files].filter((file) => !folders.some((folder) => folder.name === file.name)));
  };
  const events = { dragenter: over, dragover: over, dragleave: out, drop };
  for (const [name, listener] of Object.entries(events)) window.addEventListener(name, listener);

  const stop = onJobs((jobs, ended) => {
    fill(progress, jobs.filter(isActive).map(jobRow));
    if (ended.length || failed || jobs.some((job) => job.kind === "read" && isActive(job))) load();
  });
  load();
  document.title = "hwr";
  return () => {
    stop();
    for (const [name, listener] of Object.entries(events)) window.removeEventListener(name, listener);
  };
}

/** Files in parts, one for each request. An image is sent with the XML of its name, other XML and archives after all. */
function parts(files) {
  const groups = new Map();
  for (const file of files) {
    const stem = file.name.replace(/\.[^.]*$/, "");
    groups.set(stem, [...(groups.get(stem) ?? []), file]);
  }
  const late = (group) => group.every((file) => /\.(xml|zip)$/i.test(file.name));
  const found = [[]];
  for (const group of [...groups.values()].sort((a, b) => late(a) - late(b))) {
    const size = [...found.at(-1), ...group].reduce((sum, file) => sum + file.size, 0);
    if (found.at(-1).length && (found.at(-1).length + group.length > PART_FILES || size > PART_BYTES)) found.push([]);
    found.at(-1).push(...group);
  }
  return found;
}

function card(page, view, draw) {
  const checked = page.count - page.left;
  const choose = h("input", { type: "checkbox", "aria-label": `Choose ${page.name}`, checked: view.chosen.has(page.id),
    onchange: (event) => {
      if (event.target.checked) view.chosen.add(page.id);
      else view.chosen.delete(page.id);
      draw();
    } });
  const facts = [];
  if (page.error) facts.push(page.error);
  else if (page.count) facts.push(page.left ? `${plural(page.left, "line")} left` : "all lines checked");
  if (page.confidence !== null) facts.push(`${percent(page.confidence)} confident`);
  const bar = page.count
    ? h("progress", { max: page.count, value: checked, "aria-label": `${checked} of ${page.count} lines checked` })
    : null;
  const thumb = page.state === "broken" && !page.count
    ? h("div", { class: "thumb" })
    : h("img", { class: "thumb", loading: "lazy", alt: "", src: api.picture(page.id, 320) });
  return h("li", { class: "card page" },
    h("a", { href: `#/page/${page.id}`, "aria-label": `Open ${page.name}` }, thumb),
    h("div", { class: "body" },
      h("div", { class: "row" }, choose, h("a", { class: "name", href: `#/page/${page.id}`, title: page.name }, page.name),
        h("span", { class: `pill ${page.state.replace(" ", "-")}` }, page.state)),
      bar, h("p", { class: page.error ? "error-text" : "facts" }, facts.join(" · ")),
      (page.hits ?? []).slice(0, 3).map((hit) => h("a", { class: "hit", href: `#/page/${page.id}/${encodeURIComponent(hit.id)}` }, hit.text))));
}

function jobRow(job) {
  const { done = 0, total = 0, stage, epochs = [] } = job.progress;
  const label = job.kind === "read"
    ? `Reading ${total ? `page ${Math.min(done + 1, total)} of ${total}` : "…"}`
    : job.kind === "files" ? "Reading sent files"
    : `Training${epochs.length ? `, epoch ${epochs.length}` : stage ? `: ${stage}` : ""}`;
  const stop = h("button", { class: "small", onclick: () => act(() => api.stop(job.id)) }, "Stop");
  const bar = total ? h("progress", { max: total, value: done, "aria-label": label }) : h("progress", { "aria-label": label });
  return h("div", { class: "job" }, h("span", {}, label), bar, stop);
}

async function exportPages(view) {
  const choice = h("select", { "aria-label": "Format" }, FORMATS.map(([label, value]) => h("option", { value }, label)));
  const what = view.chosen.size ? plural(view.chosen.size, "chosen page") : "all pages";
  const answer = await ask("Export", h("div", {}, h("p", {}, `Export ${what} as`), choice), [["Cancel", null], ["Export", "export", "primary"]]);
  if (!answer) return;
  const query = new URLSearchParams({ format: choice.value });
  for (const id of view.chosen) query.append("page", id);
  try {
    const { headers, content } = await api.export(query);
    const name = decodeURIComponent((headers.get("content-disposition") ?? "").split("''")[1] ?? "export");
    const address = URL.createObjectURL(content);
    const link = h("a", { href: address, download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    toast(`Exported ${name}`);
    const broken = Number(headers.get("x-broken-count"));
    if (!broken) return;
    const names = headers.get("x-broken-pages").split(",").map(decodeURIComponent);
    toast(`${plural(broken, "broken page")} not exported: ${names.join(", ")}${names.length < broken ? ", …" : ""}`, "error");
  } catch (error) {
    toast(error.message, "error");
  }
}
