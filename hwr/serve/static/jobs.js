// The jobs in the background: one loop asks for them, and tells the views.

import { api } from "./api.js";
import { released, toast } from "./dom.js";

const listeners = new Set();
let known = null; // the jobs by their ids, once they were asked for
let timer = 0;
let turns = 0;

/** Call a function with the jobs now and whenever they change; returns a function that ends this. */
export function onJobs(listener) {
  listeners.add(listener);
  if (known) listener([...known.values()], []);
  return () => listeners.delete(listener);
}

export const isActive = (job) => job.state === "waiting" || job.state === "running";

/** Ask now rather than at the next turn. */
function askNow() {
  clearTimeout(timer);
  return watchJobs();
}

/** Do something that changes the jobs, and ask for them then. */
export async function act(action) {
  try {
    await action();
    await askNow();
  } catch (error) {
    toast(error.message, "error");
  }
}

export async function watchJobs() {
  const turn = (turns += 1);
  let wait = 4000;
  try {
    const { jobs } = await api.jobs();
    await released();
    if (turn < turns) return; // the next answer is newer: this one may lack a job that was started since
    // Those, too, that began and ended since the last turn.
    const ended = known ? jobs.filter((job) => !isActive(job) && (!known.has(job.id) || isActive(known.get(job.id)))) : [];
    known = new Map(jobs.map((job) => [job.id, job]));
    for (const job of ended) tell(job);
    for (const listener of [...listeners]) listener(jobs, ended);
    if (jobs.some(isActive)) wait = 700;
  } catch {
    wait = 8000;
  }
  if (turn < turns) return;
  clearTimeout(timer);
  timer = setTimeout(watchJobs, wait);
}

function tell(job) {
  if (job.state === "failed") toast(job.error, "error");
  const faults = job.progress.faults ?? [];
  if (job.kind === "read" && job.state === "done") {
    if (faults.length) toast(`${faults.length} pages or lines could not be read: ${faults[0]}`, "error");
    else toast("Reading is done");
  }
  if (job.kind === "train" && job.state === "done") {
    const model = job.progress.model;
    toast(model.accepted ? "The new model reads better and is in use" : "The new model does not read better; the old one stays");
  }
}
