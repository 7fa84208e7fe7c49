// All runs, the newest first, those at work with live progress.
import { follow, get, wait } from "../api.js";
import { h, link, renew, set } from "../dom.js";
import { duration, moment, whole } from "../format.js";
import { button, message, progressBar, state, table } from "../widgets.js";

const AT_WORK = ["running", "paused", "queued"];
/** Kinds that accept no instructions. */
const NOT_MAKING = ["training", "evaluation"];
/** A browser opens six connections to a host; the others are for everything else. */
const MOST_FOLLOWED = 3;
const EVERY_MS = 4000;

export async function showRuns(page, { signal }) {
  const list = h("div", {});
  const live = new Map(); // run id -> newest progress
  const followed = new Set();
  let shown = null;
  let limit = 50;
  const draw = () => { if (shown) renew(list, ...listOf(shown, live, more)); };
  const more = () => { limit = Math.min(200, limit + 50); refresh(); };
  const refresh = async () => {
    const answer = await get(`/v1/runs?limit=${limit}`, signal);
    if (answer === shown || signal.aborted) return;
    shown = answer;
    draw();
    for (const run of answer.items.filter((one) => AT_WORK.includes(one.state))) {
      if (followed.size >= MOST_FOLLOWED || followed.has(run.run_id)) continue;
      followed.add(run.run_id);
      follow(run.run_id, {
        progress: (value) => { live.set(run.run_id, value); draw(); },
        end: () => { live.delete(run.run_id); refresh().catch(() => {}); },
      }, signal).finally(() => followed.delete(run.run_id));
    }
  };
  await refresh();
  set(page, h("div", { class: "head" }, h("h1", {}, "Runs"),
    h("div", { class: "actions" }, link("Start a run", ["start"], {}, { class: "button" }))),
  h("p", { class: "quiet" }, "Everything that was ever written: generations, imports, dataset "
    + "versions, trainings and evaluations."), list);
  keepFresh(refresh, signal);
}

async function keepFresh(refresh, signal) {
  for (;;) {
    await wait(EVERY_MS, signal);
    if (signal.aborted) return;
    if (document.hidden) continue;
    try {
      await refresh();
    } catch (error) {
      if (error.status === 401) return;
    }
  }
}

function listOf({ items, next_cursor: isMore }, live, more) {
  if (!items.length) {
    return [message("There are no runs yet. Submit seed tasks and start one, or run evoloom import.")];
  }
  const rows = items.map((run) => {
    const now = live.get(run.run_id);
    return [
      link(run.run_id, ["runs", run.run_id]),
      run.kind,
      state(now?.state ?? run.state, now ? now.reason : run.reason),
      NOT_MAKING.includes(run.kind) ? null : progressBar(now?.accepted ?? run.accepted, now?.target ?? run.target, `Accepted by ${run.run_id}`),
      moment(run.created_at),
      duration(now?.elapsed_s ?? run.elapsed_s),
    ];
  });
  return [
    table(`${whole(items.length)} runs, the newest first`, [
      { title: "run", kind: "long" }, { title: "kind", kind: "roomy" }, { title: "state" }, { title: "accepted" },
      { title: "made", kind: "roomy" }, { title: "work", kind: "number roomy" },
    ], rows),
    isMore && items.length < 200 ? h("div", { class: "actions" }, button("Show more", more, "second")) : null,
    isMore && items.length >= 200 ? message("Older runs are not listed here; the API pages through all.") : null,
  ];
}
