// Draws data.json, once every two seconds while somebody looks. Text goes in as text, never as markup.
"use strict";

const EVERY_MS = 2000;
const OLD_S = 15;
const OLD_DECISION_S = 60;
const UNKNOWN = "–";

const open = new Map();
let page = null;
let fetchedAtMs = 0;
let failedSinceMs = null;

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}

const known = (value) => value !== null && value !== undefined;
const unknown = (why) => make("span", { class: "unknown", title: why || "unknown" }, UNKNOWN);

function number(value, digits) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const count = (value) => (known(value) ? number(value, 0) : unknown());
const seconds = (value) => (known(value) ? number(value, value < 10 ? 2 : value < 100 ? 1 : 0) : unknown());

function span(value) {
  if (value < 10) return `${number(value, 1)} s`;
  if (value < 120) return `${number(value, 0)} s`;
  if (value < 7200) return `${number(value / 60, 0)} min`;
  return value < 172800 ? `${number(value / 3600, 0)} h` : `${number(value / 86400, 0)} d`;
}

const duration = (value) => (known(value) ? span(value) : unknown());

// An age grows while the page is not refreshed.
function age(value, oldS) {
  if (!known(value)) return make("span", { class: "age" }, "age unknown");
  return make("span", { class: "age", "data-age": value, "data-old": oldS || OLD_S });
}

function tick() {
  const sinceS = (performance.now() - fetchedAtMs) / 1000;
  for (const node of document.querySelectorAll("[data-age]")) {
    const ageS = Number(node.dataset.age) + sinceS;
    node.textContent = `${span(Math.floor(ageS))} ago`.replace(".0 s", " s");
    node.classList.toggle("old", ageS > Number(node.dataset.old));
  }
  const state = document.getElementById("state");
  state.classList.toggle("bad", failedSinceMs !== null);
  if (failedSinceMs !== null) {
    const goneS = Math.round((performance.now() - failedSinceMs) / 1000);
    state.textContent = `the page's server has not answered for ${span(goneS)}: what is shown is old`;
  } else if (page !== null) {
    state.textContent = `${page.pools.length} pool${page.pools.length === 1 ? "" : "s"}, read ${span(Math.floor(sinceS))} ago`.replace(".0 s", " s");
  }
}

function tile(title, value, unit, more, ageNode) {
  const dd = make("dd", { class: "value" }, value, unit && known(value) && !(value instanceof Node) ? make("span", { class: "unit" }, ` ${unit}`) : null);
  return make("div", { class: "tile" }, make("dt", {}, title), dd, make("dd", { class: "more" }, more), ageNode ? make("dd", {}, ageNode) : null);
}

function tiles(pool) {
  const queue = pool.queue;
  const waits = queue === null ? "no gateway worker reports" : queue.requests === 0 ? "nothing waits" :
    `${number(queue.requests, 0)} request${queue.requests === 1 ? "" : "s"}` + (known(queue.waiting_s) ? `, for ${span(queue.waiting_s)}` : "");
  const gpus = pool.gpus_per_replica;
  const parts = known(pool.starting) ? `${pool.starting} starting, ${pool.draining} draining` :
    pool.replicas === null ? "no scaler publishes a list" : `${pool.replicas.length} configured, their state is not watched`;
  const mixed = pool.replicas !== null && pool.replicas.some((one) => one.gpu !== pool.gpu);
  const counted = mixed ? `, counted on ${pool.gpu}` : "";
  const load = known(pool.offered_load) ? `replicas kept busy by what arrives${counted}` : "not known yet";
  const bounds = known(pool.min_replicas) ? ` (${pool.min_replicas} to ${pool.max_replicas})` : "";
  return make("dl", { class: "tiles" },
    tile("Queue", queue === null ? unknown(waits) : seconds(queue.gpu_s), "GPU-s", waits, age(pool.work_age_s)),
    tile("Expected wait", duration(pool.expected_wait_s), null,
      gpus === 1 ? "the queue over the GPUs that serve" : `the queue over the replicas that serve, ${gpus} GPUs each`, age(pool.work_age_s)),
    tile("Offered load", seconds(pool.offered_load), null, load, age(pool.decision_age_s, OLD_DECISION_S)),
    tile("Ready", count(pool.ready), null, parts, age(pool.age_s)),
    tile("Desired", count(pool.desired), null, `by the autoscaler${bounds}${counted}`, age(pool.decision_age_s, OLD_DECISION_S)),
  );
}

function table(columns, rows) {
  const head = make("tr", {}, columns.map(([label, kind]) => make("th", { class: kind, scope: "col" }, label)));
  const body = rows.map((cells) => make("tr", {}, cells.map((cell, index) =>
    make("td", { class: columns[index][1], "data-label": columns[index][0] }, cell instanceof Node ? cell : make("span", {}, cell)))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, body));
}

function replicas(pool) {
  if (pool.replicas === null) return make("p", { class: "note" }, "Unknown: no scaler has published a list in the last minute.");
  if (pool.replicas.length === 0) return make("p", { class: "note" }, "None.");
  const columns = [["Replica", "text"], ["State", ""], ["GPU", ""], ["Requests", "number"], ["Work, GPU-s", "number"],
    ["Prefill, s", "number"], ["KV cache", "number"], ["Created", "number"]];
  return table(columns, pool.replicas.map((one) => [
    one.name,
    make("span", { class: `kind ${one.state}` }, one.state),
    one.gpu,
    count(one.requests), seconds(one.gpu_s), seconds(one.prefill_s),
    known(one.kv_ratio) ? make("span", {}, `${number(one.kv_ratio * 100, 0)} % `,
      make("meter", { min: 0, max: 1, high: 0.9, value: Math.min(one.kv_ratio, 1), "aria-label": "KV cache" })) : unknown(),
    known(one.age_s) ? make("span", {}, `${span(one.age_s)} ago`) : unknown(),
  ]));
}

function decisions(pool) {
  if (pool.headline === null) return make("p", { class: "note" }, "Unknown: no decision has been published in the last hour.");
  const parts = [make("p", { class: "headline" }, make("strong", {}, `${pool.desired} replica${pool.desired === 1 ? "" : "s"}`), `: ${pool.headline} `, age(pool.decision_age_s, OLD_DECISION_S))];
  const steps = table([["Step", ""], ["Replicas", "number"], ["Reason", "text"]], pool.steps.map((step) => [
    step.name, step.before === step.after ? `${step.after}` : `${step.before} → ${step.after}`, step.reason]));
  parts.push(folded(pool, "steps", pool.steps.length === 1 ? "Its step" : `Its ${pool.steps.length} steps`, steps));
  if (pool.decisions !== null && pool.decisions.length > 0) {
    const history = table([["Replicas", "number"], ["Since", "number"], ["Reason", "text"]], pool.decisions.map((one) => [
      one.desired === one.recommended ? `${one.desired}` : `${one.desired} (wanted ${one.recommended})`,
      `${span(one.first_age_s)} ago`, one.count > 1 ? `${one.headline} (${one.count} times)` : one.headline]));
    parts.push(folded(pool, "history", "The last decisions", history));
  }
  return parts;
}

function folded(pool, name, title, content) {
  const key = `${pool.name} ${name}`;
  const node = make("details", {}, make("summary", {}, title), content);
  node.open = open.get(key) || false;
  node.addEventListener("toggle", () => open.set(key, node.open));
  return node;
}

function tenants(pool) {
  if (pool.tenants === null) return make("p", { class: "note" }, "Unknown: usage has not been read.");
  if (pool.tenants.length === 0) return make("p", { class: "note" }, "Nothing was booked today.");
  const columns = [["Tenant", "text"], ["Requests", "number"], ["Tokens", "number"], ["GPU-seconds", "number"], ["Money", "number"]];
  return table(columns, pool.tenants.map((one) => [
    one.tenant, count(one.requests), count(one.tokens), seconds(one.gpu_s),
    known(one.money) ? make("span", {}, number(one.money, 4)) : unknown("GPU-hours have no price in the configuration")]));
}

function waiting(pool) {
  if (pool.queue === null || pool.queue.lines.length === 0) return [];
  const rows = pool.queue.lines.map((line) => [line.tenant, count(line.priority), count(line.requests), seconds(line.gpu_s)]);
  return [make("h3", {}, "Waiting"), table([["Tenant", "text"], ["Priority", "number"], ["Requests", "number"], ["GPU-seconds", "number"]], rows)];
}

function draw() {
  const sections = page.pools.map((pool, index) => make("section", { id: `pool-${index}` },
    make("h2", {}, pool.name),
    make("p", { class: "facts" }, `${pool.models.join(", ")} on ${pool.gpus_per_replica === 1 ? "" : `${pool.gpus_per_replica} × `}${pool.gpu}` +
      (known(pool.workers) ? `, ${pool.workers} gateway worker${pool.workers === 1 ? "" : "s"}` : "")),
    pool.error === null ? null : make("p", { class: "error", role: "alert" }, `Redis cannot be read: ${pool.error.replace(/\.$/, "")}. What is shown was read `, age(pool.age_s)),
    tiles(pool),
    make("h3", {}, "Decision"), decisions(pool),
    make("h3", {}, "Replicas ", age(pool.work_age_s)), replicas(pool),
    waiting(pool),
    make("h3", {}, known(page.usage_day) ? `Tenants on ${page.usage_day} (UTC) ` : "Tenants ", age(page.usage_age_s, 60)), tenants(pool),
  ));
  document.getElementById("page").replaceChildren(...sections);
  document.getElementById("pools").replaceChildren(...(page.pools.length > 1 ? page.pools.map((pool, index) => make("a", { href: `#pool-${index}` }, pool.name)) : []));
}

async function refresh() {
  try {
    const answer = await fetch("data.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(String(answer.status));
    page = await answer.json();
    fetchedAtMs = performance.now();
    failedSinceMs = null;
    // Not while text is selected: it would be lost.
    if (String(getSelection()) === "") draw();
  } catch {
    if (failedSinceMs === null) failedSinceMs = performance.now();
  }
  tick();
}

async function run() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

setInterval(tick, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
run();
