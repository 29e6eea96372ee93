// Training: start, watch, stop, resume; the models, how they were judged, and which one reads.

import { api } from "./api.js";
import { sent } from "./corrections.js";
import { fill, h, percent, plural, svg, toast } from "./dom.js";
import { act, isActive, onJobs } from "./jobs.js";

export function showTraining(bar, main) {
  fill(bar, h("a", { class: "button", href: "#/" }, "← Pages"), h("h1", { class: "name" }, "Training"), h("span", { class: "grow" }));
  const start = h("section", { class: "card panel", "aria-label": "Start a training" });
  const runs = h("section", { class: "panel", "aria-label": "Trainings" });
  const models = h("section", { class: "card panel", "aria-label": "Models" });
  fill(main, h("div", { class: "column" }, start, runs, models));
  const minutes = h("select", { id: "minutes" }, [["", "until it no longer improves"], ["1", "1 minute"], ["3", "3 minutes"], ["10", "10 minutes"], ["30", "30 minutes"]]
    .map(([value, label]) => h("option", { value }, label)));
  minutes.value = "3";

  let failed = false;

  async function load() {
    let found;
    try {
      await sent();
      found = await Promise.all([api.pages(), api.model()]);
      failed = false;
    } catch (error) {
      failed = true;
      return toast(error.message, "error");
    }
    const [{ corrected }, about] = found;
    fill(start, h("h2", {}, "Teach the model this hand"),
      h("p", {}, "Training uses the lines that you have checked. A fifth of them is held back: the new model is used only if it reads these better than the present one. Checked lines are never changed."),
      h("div", { class: "row wrap" },
        h("button", { class: "primary", disabled: corrected < 5, onclick: begin }, `Train on my ${plural(corrected, "corrected line")}`),
        h("label", { class: "inline", for: "minutes" }, "for at most"), minutes),
      corrected < 5 ? h("p", { class: "quiet" }, "At least 5 corrected lines are needed; 50 and more help noticeably.") : null);
    drawModels(about);
  }

  const begin = () => act(() => api.start({ kind: "train", minutes: minutes.value ? Number(minutes.value) : null }));

  function drawModels(about) {
    const rows = [...about.trained.map((model) => ({ ...model, label: model.name.replace("model-", "Model ") })),
      { name: about.base_name, label: about.base, base: true }];
    fill(models, h("h2", {}, "Models"), h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table of models" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Model", "Lines", "Errors before", "Errors after", ""].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((model) => h("tr", {},
        h("th", { scope: "row" }, model.label),
        h("td", {}, model.base ? "" : `${model.lines} + ${model.held_back} held back`),
        h("td", {}, model.base ? "" : rate(model.before)), h("td", {}, model.base ? "the first model" : rate(model.after)),
        h("td", {}, model.name === about.current ? h("span", { class: "pill done" }, "in use")
          : h("button", { class: "small", onclick: () => use(model) }, "Use"))))))),
      h("p", { class: "quiet" }, "Errors: character error rate on the lines held back, with 95 % intervals."));
  }

  const use = (model) => act(async () => {
    await api.useModel(model.name);
    toast(`${model.label} is in use; lines that are not checked are read again`);
    load();
  });

  function drawRuns(jobs) {
    fill(runs, jobs.filter((job) => job.kind === "train").slice(0, 3).map((job) => {
      const { stage, epochs = [], model, train, message, step, unchecked } = job.progress;
      const now = epochs.at(-1);
      const facts = { waiting: "Waiting …", stopped: "Stopped; what it has reached is saved.", failed: job.error }[job.state]
        ?? (model ? verdict(model) : now ? `Epoch ${epochs.length}: ${percent(now.cer, 1)} errors on validation lines` : message ?? "Starting …");
      return h("div", { class: "card run", "data-state": job.state },
        h("div", { class: "row" }, h("h2", {}, `Training ${job.id}`), h("span", { class: `pill ${job.state}` }, stage === "judging" ? stage : job.state), h("span", { class: "grow" }),
          isActive(job) ? h("button", { class: "small", onclick: () => act(() => api.stop(job.id)) }, "Stop") : null,
          job.state === "stopped" || job.state === "failed" ? h("button", { class: "small", onclick: () => act(() => api.resume(job.id)) }, "Resume") : null),
        h("p", { class: job.state === "failed" ? "error-text" : "" }, facts),
        job.progress.skipped?.length ? h("p", { class: "quiet" }, `${plural(job.progress.skipped.length, "line")} left out: ${job.progress.skipped[0]}`) : null,
        epochs.length > 1 ? curve(epochs.map((epoch) => epoch.cer)) : null,
        step && isActive(job) ? h("p", { class: "quiet" }, step) : null,
        isActive(job) ? h("progress", { "aria-label": "Training runs" }) : null,
        train && isActive(job) ? h("p", { class: "quiet" }, `${plural(train, "training line")}, ${job.progress.val} for validation, ${job.progress.test} held back${unchecked ? `; ${plural(unchecked, "unchecked line")} for self-training` : ""}`) : null);
    }));
  }

  const stop = onJobs((jobs, ended) => {
    drawRuns(jobs);
    if (ended.length || failed) load();
  });
  load();
  document.title = "Training - hwr";
  return () => stop();
}

const rate = ([value, low, high]) => `${percent(value, 1)} (${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)})`;

function verdict(model) {
  const clear = model.gain[1] > 0;
  return model.accepted
    ? `From ${percent(model.before[0], 1)} to ${percent(model.after[0], 1)} errors on ${plural(model.held_back, "line")} held back${clear ? "" : "; with so few lines this may be chance"}. The new model is in use.`
    : `${percent(model.after[0], 1)} errors on the lines held back, ${percent(model.before[0], 1)} before: the present model stays.`;
}

function curve(values) {
  const most = Math.max(...values, 0.01);
  const points = values.map((value, index) => `${(index / Math.max(1, values.length - 1)) * 300},${60 - (value / most) * 55}`).join(" ");
  return svg("svg", { viewBox: "0 0 300 62", class: "curve", role: "img", "aria-label": `Errors on validation lines: from ${percent(values[0], 1)} to ${percent(values.at(-1), 1)}` },
    svg("line", { x1: 0, y1: 60, x2: 300, y2: 60, class: "axis" }), svg("polyline", { points }));
}
