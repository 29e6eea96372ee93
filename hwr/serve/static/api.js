// The server's REST API.

class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const asJson = (response) => response.json();

/** Send a request and read its answer. One that is cut off is none, whatever its status. */
async function call(method, path, { json, body, revision, signal, read = asJson } = {}) {
  const headers = {};
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (revision !== undefined) headers["If-Match"] = `"${revision}"`;
  let response;
  let found;
  try {
    response = await fetch(path, { method, headers, signal, body: json === undefined ? body : JSON.stringify(json) });
    found = await (response.ok ? read(response) : response.text());
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The server does not answer. Is hwr serve still running?");
  }
  if (response.ok) return found;
  throw new ApiError(response.status, reason(found) ?? `The server answered ${response.status}.`);
}

/** What the server says about an error; undefined if the answer comes from something else, such as a proxy. */
function reason(answer) {
  try {
    return JSON.parse(answer).error;
  } catch {
    return undefined;
  }
}

const enc = encodeURIComponent;

export const api = {
  session: (token) => call("POST", "/api/session", { json: { token } }),
  model: () => call("GET", "/api/model"),
  useModel: (name) => call("POST", "/api/model", { json: { name } }),
  pages: (search, signal) => call("GET", `/api/pages${search ? `?search=${enc(search)}` : ""}`, { signal }),
  page: (id) => call("GET", `/api/pages/${enc(id)}`),
  upload: (files) => {
    const form = new FormData();
    for (const file of files) form.append("file", file, file.name);
    return call("POST", "/api/pages", { body: form });
  },
  setLine: (page, line, change, revision) =>
    call("PATCH", `/api/pages/${enc(page)}/lines/${enc(line)}`, { json: change, revision }),
  edit: (page, change, revision) => call("POST", `/api/pages/${enc(page)}`, { json: change, revision }),
  versions: (page) => call("GET", `/api/pages/${enc(page)}/versions`),
  alternatives: (page, line, signal) =>
    call("GET", `/api/pages/${enc(page)}/lines/${enc(line)}/alternatives`, { signal }),
  export: (query) => call("GET", `/api/export?${query}`, {
    read: async (response) => ({ headers: response.headers, content: await response.blob() }),
  }),
  jobs: () => call("GET", "/api/jobs"),
  start: (job) => call("POST", "/api/jobs", { json: job }),
  stop: (id) => call("POST", `/api/jobs/${id}/stop`),
  resume: (id) => call("POST", `/api/jobs/${id}/resume`),
  picture: (page, width) => `/api/pages/${enc(page)}/picture?width=${width}`,
  linePicture: (page, line) => `/api/pages/${enc(page)}/lines/${enc(line.id)}/picture?of=${line.revision}`,
};
