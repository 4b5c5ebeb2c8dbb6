// What pages have beyond what they are without it: charts that can be pointed at, figures that change by themselves, a theme
// of one's own, a key for the filter. Everything is drawn on the server; this reads what is there.
"use strict";

const THEME = "pgweir-theme";
// The figures of a page are drawn anew at most so often, in ms.
const EVERY = 5000;
// Of a chart, in px.
const HEIGHT = 190;
const root = document.documentElement;
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

// ---- theme

function shownTheme() {
  return root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function setUpTheme() {
  const button = $("#theme-switch");
  const other = () => (shownTheme() === "dark" ? "light" : "dark");
  const label = () => (button.textContent = other() === "dark" ? "Dark" : "Light");
  if (!button) return;
  label();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = other();
    try {
      localStorage.setItem(THEME, root.dataset.theme);
    } catch {
      // It holds for this page then.
    }
    label();
    drawCharts();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    label();
    drawCharts();
  });
}

// ---- keys

function setUpKeys() {
  document.addEventListener("keydown", (event) => {
    const field = $("[data-filter]");
    const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || !field) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}

// ---- charts: the table below each picture has its figures

const charts = new Map();

// What a colour of the style sheet is now: it depends on the theme.
function colour(name) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function readTable(figure) {
  const table = $("table.series", figure);
  const heads = $$("thead th", table).slice(1);
  const rows = $$("tbody tr", table);
  const times = rows.map((row) => Date.parse($("time", row).dateTime) / 1000);
  const columns = heads.map((_, at) =>
    rows.map((row) => {
      const value = row.cells[at + 1]?.dataset.v;
      return value === undefined ? null : Number(value);
    }),
  );
  return { heads, data: [times, ...columns] };
}

function shown(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit !== "ms") return value >= 9999.5 ? `${(value / 1000).toPrecision(3)} k` : String(+value.toPrecision(4));
  if (value === 0) return "0 ms";
  if (value < 1) return `${+(value * 1000).toPrecision(3)} µs`;
  return value < 1000 ? `${+value.toPrecision(3)} ms` : `${+(value / 1000).toPrecision(3)} s`;
}

// Hours and minutes, and the seconds where minutes alone would all be the same.
function hours(times) {
  const end = times.at(-1) - times[0] < 300 ? 19 : 16;
  return times.map((time) => new Date(time * 1000).toISOString().slice(11, end));
}

function drawChart(figure) {
  const plot = $(".plot", figure);
  if (!plot || typeof uPlot === "undefined") return;
  const { heads, data } = readTable(figure);
  if (data[0].length < 2) return;
  charts.get(figure)?.destroy();
  const unit = heads[0]?.dataset.unit;
  const [muted, line] = [colour("muted"), colour("line")];
  const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const series = heads.map((head) => {
    const tone = head.dataset.tone;
    const stroke = colour(["one", "two", "three", "bad"].includes(tone) ? tone : "muted");
    return {
      label: head.textContent,
      stroke,
      width: 1.75,
      fill: tone === "one" ? stroke.replace("rgb(", "rgba(").replace(")", ", 0.12)") : undefined,
      value: (_, value) => shown(value, unit),
      points: { show: false },
    };
  });
  plot.replaceChildren();
  const chart = new uPlot(
    {
      width: plot.clientWidth,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      cursor: { sync: { key: "all" }, y: false, drag: { x: false, y: false } },
      legend: { live: true },
      // Half of the last hour's label stands beyond the last point.
      padding: [null, 34, null, null],
      scales: { y: { range: (_, low, high) => [Math.min(low, 0), high > 0 ? high * 1.08 : 1] } },
      axes: [
        { ...axis, size: 26, gap: 4, values: (_, times) => hours(times) },
        { ...axis, size: 62, values: (_, values) => values.map((value) => shown(value, unit)) },
      ],
      series: [{ label: "UTC", value: (_, time) => (time ? new Date(time * 1000).toISOString().slice(11, 19) : "–") }, ...series],
    },
    data,
    plot,
  );
  $("canvas", plot)?.setAttribute("aria-hidden", "true");
  figure.dataset.drawn = "true";
  charts.set(figure, chart);
}

function drawCharts() {
  for (const [figure, chart] of charts) {
    if (!figure.isConnected) {
      chart.destroy();
      charts.delete(figure);
    }
  }
  $$("[data-chart]").forEach(drawChart);
}

// A chart that is there already takes the new figures without blinking.
function refreshCharts(fresh) {
  for (const figure of $$("[data-chart]")) {
    const other = fresh.getElementById(figure.id);
    const [table, newer] = [$("table.series", figure), other && $("table.series", other)];
    if (!table || !newer) continue;
    // There was nothing to draw a line of when the page was made, and now there is.
    if (!$(".plot", figure) && $(".plot", other)) {
      const open = $("details", figure).open;
      figure.replaceWith(document.adoptNode(other));
      $("details", other).open = open;
      drawChart(other);
      continue;
    }
    table.replaceWith(document.adoptNode(newer));
    const chart = charts.get(figure);
    if (chart) chart.setData(readTable(figure).data);
  }
}

function setUpCharts() {
  drawCharts();
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const [figure, chart] of charts) chart.setSize({ width: $(".plot", figure).clientWidth, height: HEIGHT });
    }, 100);
  });
}

// ---- copying

function setUpCopying() {
  for (const button of $$("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const was = button.textContent;
      try {
        await navigator.clipboard.writeText($("code", document.getElementById(button.dataset.copy)).textContent);
        say("Copied.");
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => (button.textContent = was), 1500);
    });
  }
}

// ---- live figures: the server says that something has changed, and the page is asked for anew

function say(words) {
  const place = $("#announce");
  if (place) place.textContent = words;
}

// A region that somebody is using stays as it is: with the focus in it, something folded out, or a text selected.
function isUsed(region) {
  const selection = getSelection();
  return (
    region.contains(document.activeElement) ||
    $("details[open]:not(.plan)", region) !== null ||
    (selection && !selection.isCollapsed && region.contains(selection.anchorNode))
  );
}

const live = { state: "none", source: null, timer: null, last: 0, busy: false, missed: 0 };

function show(state) {
  const words = { live: "live", paused: "paused", disconnected: "disconnected", none: "not live" };
  const place = $("#live-state");
  if (!place || live.state === state) return;
  if (live.state !== "none" && (state === "disconnected" || live.state === "disconnected")) {
    say(state === "disconnected" ? "The proxy does not answer; figures stand still." : "Figures are live again.");
  }
  live.state = state;
  place.dataset.state = state;
  $(".words", place).textContent = words[state];
}

async function refresh() {
  if (live.busy || live.state === "paused" || document.hidden) return;
  live.busy = true;
  live.last = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "error", credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (live.state === "paused") return;
    refreshCharts(fresh);
    for (const region of $$("[data-live]")) {
      const newer = fresh.getElementById(region.id);
      if (newer && !isUsed(region)) region.replaceChildren(...[...newer.childNodes].map((node) => document.adoptNode(node)));
    }
    live.missed = 0;
    show("live");
  } catch {
    live.missed += 1;
    if (live.missed > 1) show("disconnected");
  } finally {
    live.busy = false;
  }
}

// Soon, but not more often than every few seconds.
function refreshSoon() {
  if (live.timer || live.state === "paused") return;
  live.timer = setTimeout(() => {
    live.timer = null;
    refresh();
  }, Math.max(0, live.last + EVERY - Date.now()));
}

function listen() {
  live.source?.close();
  live.source = new EventSource("/api/v1/events");
  for (const event of ["message", "tick", "finding", "reload", "pool", "drain", "memory"]) {
    live.source.addEventListener(event, () => {
      if (live.state !== "paused") show("live");
      refreshSoon();
    });
  }
}

function setUpLive() {
  const button = $("#live-switch");
  if (!$("[data-live]") || !button) return;
  button.hidden = false;
  live.last = Date.now();
  show("live");
  listen();
  // Without events, as when a proxy between keeps them back, time alone has to do.
  setInterval(() => {
    if (Date.now() - live.last >= EVERY * 2) refreshSoon();
  }, EVERY);
  button.addEventListener("click", () => {
    const pause = live.state !== "paused";
    show(pause ? "paused" : "live");
    button.textContent = pause ? "Resume" : "Pause";
    if (pause) {
      live.source?.close();
    } else {
      listen();
      refresh();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refreshSoon();
  });
}

setUpTheme();
setUpKeys();
setUpCharts();
setUpCopying();
setUpLive();
