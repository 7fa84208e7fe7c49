// One run: how it goes, and what it has made.
import { follow, get, post, save, wait } from "../api.js";
import { announce, h, link, renew, set } from "../dom.js";
import { duration, moment, whole } from "../format.js";
import { select } from "../forms.js";
import { facts, message, section, state, workButton } from "../widgets.js";
import { makings } from "./parts/makings.js";
import { progress } from "./parts/progress.js";
import { usage } from "./parts/usage.js";
import { funnel } from "../charts/funnel.js";

const AT_WORK = ["queued", "running", "paused"];
const EVERY_MS = 3000;
/** How long what is analysed after a run's end is waited for. */
const PATIENCE_MS = 180000;

export const FORMATS = ["alpaca", "sharegpt", "messages", "parquet", "hf", "llama-factory"];

export async function showRun(page, { signal, go }, runId) {
  const top = h("div", {});
  const doing = h("div", {});
  const live = h("div", {});
  const counted = h("div", {});
  const made = h("div", {});
  const parts = { run: null, page: null, verbs: null, can: null };
  let isFollowed = false;

  const refresh = async () => {
    const run = await get(`/v1/runs/${encodeURIComponent(runId)}`, signal);
    if (run !== parts.run) {
      parts.run = run;
      set(top, ...head(run));
      const can = `${run.state} ${Boolean(run.accepted)}`;
      if (can !== parts.can) renew(doing, ...actions(run, refresh, go));
      parts.can = can;
      if (!isFollowed) set(live, AT_WORK.includes(run.state) ? progress(run.progress, run) : null);
      renew(counted, ...counts(run));
    }
    if (AT_WORK.includes(run.state) && !isFollowed) begin();
    if (run.funnel.length) {
      const [shown, verbs] = await Promise.all([
        get(`/v1/dashboard/runs/${encodeURIComponent(runId)}`, signal),
        get(`/v1/statistics/verb-noun?run=${encodeURIComponent(runId)}`, signal),
      ]);
      if (shown !== parts.page || verbs !== parts.verbs) {
        Object.assign(parts, { page: shown, verbs });
        renew(made, ...makings(runId, shown, verbs, AT_WORK.includes(run.state)));
      }
    }
  };
  const begin = () => {
    isFollowed = true;
    set(live, progress(parts.run.progress, parts.run));
    follow(runId, {
      progress: (value) => set(live, progress(value, parts.run)),
      state: (value) => set(top.querySelector(".now"), state(value.state, value.reason)),
      end: (value) => { announce(`${runId} is ${value.state}`); refresh().catch(() => {}); },
    }, signal).finally(() => { isFollowed = false; set(live); });
  };
  await refresh();
  set(page, top, doing, live, counted, made);
  keepFresh(refresh, parts, signal);
}

async function keepFresh(refresh, parts, signal) {
  let waited = 0;
  while (!signal.aborted && waited < PATIENCE_MS) {
    await wait(EVERY_MS, signal);
    if (signal.aborted) return;
    if (document.hidden) continue;
    const isOver = !AT_WORK.includes(parts.run.state);
    if (isOver && parts.verbs?.top.length && parts.page?.novelty.some((bin) => bin.count)) return;
    waited = isOver ? waited + EVERY_MS : 0;
    try {
      await refresh();
    } catch (error) {
      if (error.status === 401) return;
    }
  }
}

function head(run) {
  // What changes by the second is shown by its progress.
  const isAtWork = AT_WORK.includes(run.state);
  return [
    h("h1", {}, run.run_id),
    facts([
      ["state", h("span", { class: "now" }, state(run.state, run.reason))],
      ["kind", run.kind],
      ["accepted", run.accepted == null || isAtWork ? null : whole(run.accepted)
        + (run.target ? ` of ${whole(run.target)}` : "") + (run.surplus ? `, ${whole(run.surplus)} surplus` : "")],
      ["teacher", run.model],
      ["seed set", run.seed_set],
      ["run seed", run.run_seed == null ? null : String(run.run_seed)],
      ["re-derived from", run.rederived_from],
      ["made", moment(run.created_at)],
      ["work", run.elapsed_s == null || isAtWork ? null : duration(run.elapsed_s)],
    ]),
    run.message && isAtWork && !run.progress ? message(run.message) : null,
    run.ingest_pending && !isAtWork ? message("The store was busy when it ended: what it made comes in with the next command that writes.") : null,
  ];
}

/** What can be done with it as it is; of the service's own runs it may be stopped and resumed. */
function actions(run, refresh, go) {
  const place = h("div", {});
  const isAtWork = AT_WORK.includes(run.state);
  const address = `/v1/runs/${encodeURIComponent(run.run_id)}`;
  const format = select(FORMATS.map((name) => [name, name]), "alpaca");
  format.setAttribute("aria-label", "Format of the download");
  const elsewhere = {
    dataset: ["datasets", "Its page as a dataset version"],
    evaluation: ["evaluations", "Base against tuned, sample by sample"],
  }[run.kind];
  return [
    h("div", { class: "actions" },
      run.requested_by && isAtWork ? workButton("Cancel", place, async () => {
        await post(`${address}/cancel`);
        set(place, message("It will stop when what is in flight has ended."));
      }) : null,
      run.requested_by && ["interrupted", "cancelled", "failed"].includes(run.state)
        ? workButton("Resume", place, async () => { await post(`${address}/resume`); await refresh(); }) : null,
      elsewhere ? link(elsewhere[1], [elsewhere[0], run.run_id]) : null,
      run.accepted ? [
        link("Browse its instructions", ["instructions"], { run: run.run_id }),
        isAtWork ? null : [
          workButton("Make a dataset version", place, async () => go(`#/datasets?of=${encodeURIComponent(run.run_id)}`)),
          h("span", {}, format, " ", workButton("Download", place, () =>
            save(`${address}/export?format=${format.value}&partial=true`, run.run_id))),
        ],
      ] : null),
    place,
  ];
}

function counts(run) {
  if (!run.funnel.length) {
    return AT_WORK.includes(run.state) ? [] : [section("What it has made", message(
      "Nothing of this run is in the published snapshot. Trainings and evaluations have no funnel; of "
      + "others it comes with the next ingest."))];
  }
  return [
    section("Funnel", h("p", { class: "quiet" }, "What came in, what became of it, and why, as the newest snapshot has it."),
      funnel(run.funnel)),
    section("Tokens and cost", usage(run.usage)),
  ];
}
