// The dashboard in a real browser, in front of a proxy under load.
//
//   node dashboard.mjs CHROMIUM http://ADDRESS FOLDER OPERATOR VIEWER TENANT-TOKEN TENANT
//
// Writes a picture of each page in both themes and two widths into the folder. Any complaint of the browser, a page that
// lacks what it promises, or an action that is open to whom it should not be ends it with a failure.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Chromium } from "./chromium.mjs";

const [program, base, folder, operator, viewer, tenantToken, tenant] = process.argv.slice(2);
assert(tenant, "seven arguments, please");
mkdirSync(folder, { recursive: true });

const WIDTHS = [1280, 390];
const THEMES = ["light", "dark"];

// Asks as a program would.
const ask = (path, token, options = {}) =>
  fetch(base + path, { redirect: "manual", ...options, headers: { Authorization: `Bearer ${token}`, ...options.headers } });

const json = async (path) => {
  const answer = await ask(path, operator);
  assert.equal(answer.status, 200, `${path}: ${answer.status}`);
  return answer.json();
};

async function step(name, work) {
  const start = Date.now();
  try {
    await work();
  } catch (error) {
    error.message = `${name}: ${error.message}`;
    throw error;
  }
  console.log(`${name}: ${Date.now() - start} ms`);
}

async function logIn(tab, token) {
  await tab.open(`${base}/`);
  assert.equal(await tab.run("location.pathname"), "/login", "who is not known is asked for a token");
  await tab.run(`document.querySelector("input[name=token]").focus()`);
  await tab.type(token);
  await tab.during(() => tab.press("Enter", "\r"));
  assert.equal(await tab.run("location.pathname"), "/");
  // That a page was refused before is what it is for.
  tab.complained();
}

// What holds for every page, whatever it shows.
const SOUND = `(() => {
  const wrong = [];
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => wrong.push("twice: #" + id));
  if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) wrong.push("heading out of order: " + heading.textContent);
    level = own;
  }
  for (const table of document.querySelectorAll("table:not(.u-legend)")) {
    if (!table.caption) wrong.push("a table without a caption");
    if ([...table.querySelectorAll("th")].some((head) => !head.scope)) wrong.push("a head without a scope");
  }
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    if (!field.labels.length && !field.ariaLabel) wrong.push("a field without a label: " + field.name);
  }
  for (const one of document.querySelectorAll("a[href], button, summary")) {
    if (!one.textContent.trim() && !one.ariaLabel) wrong.push("nothing to call it by: " + one.outerHTML.slice(0, 80));
  }
  for (const name of ["header.top", "main", "nav", "footer"]) {
    if (document.querySelectorAll("body > " + name + ", header > " + name).length !== 1) wrong.push("not one " + name);
  }
  for (const part of document.querySelectorAll("nav, section, [role=region]")) {
    if (!part.ariaLabel && !document.getElementById(part.getAttribute("aria-labelledby"))?.textContent.trim()) wrong.push("a part without a name: " + part.outerHTML.slice(0, 80));
  }
  for (const one of document.body.children) {
    if (!one.matches("header, main, footer, script, .skip, [role=status]")) wrong.push("outside of every landmark: " + one.outerHTML.slice(0, 80));
  }
  if (!document.documentElement.lang) wrong.push("no language");
  if (!document.title.startsWith(document.querySelector("h1")?.textContent)) wrong.push("another title than the heading's: " + document.title);
  if (document.querySelector("[style]:not(.uplot, .uplot *)")) wrong.push("a style in the markup");
  if (document.documentElement.scrollWidth > innerWidth + 1) {
    const wide = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1);
    wrong.push("wider than the window: " + wide.slice(0, 3).map((one) => one.tagName + "." + one.className).join(", "));
  }
  return wrong;
})()`;

// Every text that is seen stands out from what is behind it, and what is behind it is what the browser has made of the
// style sheet: grounds that shine through are laid over each other, opacities count.
const LEGIBLE = `(() => {
  const read = (colour) => {
    const [r, g, b, alpha = 1] = colour.match(/[\\d.]+/g).map(Number);
    return colour.startsWith("color(") ? [r * 255, g * 255, b * 255, alpha] : [r, g, b, alpha];
  };
  const over = ([r, g, b, alpha], under) => [r, g, b].map((one, at) => one * alpha + under[at] * (1 - alpha));
  const light = (colour) => {
    const [r, g, b] = colour.map((one) => (one /= 255) <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const grounds = new Map();
  const ground = (one) => {
    if (!one) return [255, 255, 255];
    if (!grounds.has(one)) grounds.set(one, over(read(getComputedStyle(one).backgroundColor), ground(one.parentElement)));
    return grounds.get(one);
  };
  const wrong = new Set();
  let seen = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !one.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (one.closest(".unseen, caption, script, .uplot") || one.disabled) continue;
    const style = getComputedStyle(one);
    let [r, g, b, alpha] = read(style.color);
    for (let up = one; up; up = up.parentElement) alpha *= Number(getComputedStyle(up).opacity);
    const behind = ground(one);
    const [high, low] = [light(over([r, g, b, alpha], behind)), light(behind)].sort((x, y) => y - x);
    const contrast = (high + 0.05) / (low + 0.05);
    seen += 1;
    if (contrast < 4.5) wrong.add(contrast.toFixed(2) + " " + one.tagName + "." + one.className + ": " + walk.currentNode.data.trim().slice(0, 30));
  }
  if (seen < 20) wrong.add("only " + seen + " texts were looked at");
  return [...wrong];
})()`;

// Whatever the Tab key reaches shows that it has the focus, and lies in the window then.
const FOCUSED = `(() => {
  const wrong = [];
  const all = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]")];
  const reached = all.filter((one) => one.tabIndex >= 0 && one.checkVisibility({ visibilityProperty: true }));
  for (const one of reached) {
    one.focus({ focusVisible: true });
    const style = getComputedStyle(one);
    if (document.activeElement !== one) wrong.push("not to be focused: " + one.outerHTML.slice(0, 80));
    else if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) wrong.push("its focus is not seen: " + one.outerHTML.slice(0, 80));
  }
  document.activeElement.blur();
  scrollTo(0, 0);
  if (reached.length < 10) wrong.push("only " + reached.length + " were reached");
  return wrong;
})()`;

// Paper: nothing that can be pressed, nothing that is cut off or stands in two places, a light ground whatever the theme.
const PRINTED = `(() => {
  const wrong = [];
  const seen = (one) => one.checkVisibility();
  for (const one of document.querySelectorAll("button, input, select, nav[aria-label=Pages], .skip")) if (seen(one)) wrong.push("on paper: " + one.outerHTML.slice(0, 80));
  for (const one of document.querySelectorAll(".scroll, pre")) if (seen(one) && getComputedStyle(one).overflow !== "visible") wrong.push("cut off: " + one.ariaLabel);
  for (const one of document.querySelectorAll("header.top, thead th")) if (getComputedStyle(one).position !== "static") wrong.push("not at its place: " + one.tagName);
  const [red] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
  if (red < 200) wrong.push("a dark ground");
  return wrong;
})()`;

const DARK = `Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]) < 128`;

// A canvas has something on it besides its ground, and all of it.
const DRAWN = `[...document.querySelectorAll("[data-chart]")].every((figure) => {
  const canvas = figure.querySelector("canvas");
  if (!canvas) return !figure.querySelector("tbody tr:nth-child(2)");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  // What touches the right edge goes on beyond it: a label that is cut off.
  for (let at = canvas.width * 4 - 1; at < pixels.length; at += canvas.width * 4) if (pixels[at] > 0) return false;
  const colours = new Set();
  for (let at = 0; at < pixels.length; at += 4) if (pixels[at + 3] > 128) colours.add(pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2]);
  return colours.size > 2;
})`;

async function everyPage(tab, pages) {
  for (const theme of THEMES) {
    for (const width of WIDTHS) {
      await tab.look(width, theme);
      for (const [name, path] of pages) {
        const status = await tab.open(base + path);
        assert.equal(status, 200, `${path} answers ${status}`);
        await tab.until(`${path}: charts are drawn`, DRAWN);
        assert.equal(await tab.run(DARK), theme === "dark", `${path} is in its ${theme} theme`);
        assert.deepEqual(await tab.run(SOUND), [], `${path} at ${width}`);
        assert.deepEqual(await tab.run(LEGIBLE), [], `${path} at ${width}, ${theme}`);
        writeFileSync(join(folder, `${name}-${width}-${theme}.png`), await tab.picture());
        assert.deepEqual(tab.complained(), [], `${path}: the browser complains`);
      }
    }
  }
  await tab.look(1280, "light");
}

// At twice the size, with the keyboard, and on paper. By then each page has been looked at as it is.
async function otherwise(tab, pages) {
  for (const [name, path] of pages) {
    await tab.look(640, "dark", 2);
    assert.equal(await tab.open(base + path), 200, path);
    assert.deepEqual(await tab.run(SOUND), [], `${path} at 200 %`);
    writeFileSync(join(folder, `${name}-200.png`), await tab.picture(900));
    // Small charts stand in tables by now, which are as wide as they get.
    for (const width of [1024, 1280]) {
      await tab.look(width, "dark");
      // Charts are drawn anew when the window has kept its size for a moment.
      await tab.until(`${path} fits at ${width}`, "document.documentElement.scrollWidth <= innerWidth + 1");
      assert.deepEqual(await tab.run(SOUND), [], `${path} at ${width}`);
    }
    assert.deepEqual(await tab.run(FOCUSED), [], `${path}: focus`);
    await tab.look(1000, "dark", 1, "print");
    assert.deepEqual(await tab.run(PRINTED), [], `${path} on paper`);
    tab.complained();
  }
  await tab.look(1280, "light");
}

async function loginPage(chromium) {
  const tab = await chromium.tab();
  for (const theme of THEMES) {
    for (const width of WIDTHS) {
      await tab.look(width, theme);
      assert.equal(await tab.open(`${base}/login`), 200);
      assert.equal(await tab.run(`document.querySelector("input[name=token]").labels.length`), 1);
      writeFileSync(join(folder, `login-${width}-${theme}.png`), await tab.picture(900));
      assert.deepEqual(tab.complained(), []);
    }
  }
  await tab.close();
}

async function filters(tab) {
  await tab.open(`${base}/queries`);
  const shown = `document.querySelectorAll("#list tbody tr").length`;
  const all = await tab.run(shown);
  assert(all > 5, `only ${all} statements`);
  await tab.press("/", "/");
  assert.equal(await tab.run("document.activeElement.name"), "text", "the key reaches the filter");
  await tab.type("from steps");
  await tab.during(() => tab.press("Enter", "\r"));
  assert.equal(await tab.run("new URLSearchParams(location.search).get('text')"), "from steps");
  const texts = await tab.run(`[...document.querySelectorAll("#list code.sql")].map((one) => one.textContent.toLowerCase())`);
  assert(texts.length > 0 && texts.length < all, `${texts.length} of ${all} match`);
  assert(texts.every((text) => text.includes("from steps")), texts.join("\n"));
  const link = `[...document.querySelectorAll("#list th a")].find((one) => one.textContent.startsWith("Calls"))`;
  await tab.during(() => tab.run(`${link}.click()`));
  assert.equal(await tab.run(`${link}.closest("th").ariaSort`), "descending");
  assert.equal(await tab.run("new URLSearchParams(location.search).get('text')"), "from steps", "sorting keeps the filter");
  assert.deepEqual(tab.complained(), []);
}

// With the keyboard alone: first the way past the menu, then everything in the order of reading, the filter among it.
async function tabOrder(tab) {
  await tab.open(`${base}/queries`);
  const focused = () => tab.run(`document.activeElement.name || document.activeElement.textContent.trim()`);
  await tab.press("Tab");
  assert.equal(await focused(), "Skip to content");
  assert(await tab.run(`document.activeElement.getBoundingClientRect().top >= 0`), "it is seen when it has the focus");
  await tab.press("Enter", "\r");
  for (let presses = 0; (await focused()) !== "text"; presses += 1) {
    assert(presses < 6, "the filter is not reached from the content's beginning");
    await tab.press("Tab");
  }
  const outline = await tab.run(`getComputedStyle(document.activeElement).outlineStyle`);
  assert.notEqual(outline, "none", "the focus is seen");
}

async function theme(tab) {
  await tab.look(1280, "light");
  await tab.open(`${base}/`);
  const ground = `getComputedStyle(document.body).backgroundColor`;
  const light = await tab.run(ground);
  await tab.run(`document.querySelector("#theme-switch").click()`);
  const dark = await tab.run(ground);
  assert.notEqual(dark, light);
  await tab.open(`${base}/queries`);
  assert.equal(await tab.run(ground), dark, "the choice is kept");
  await tab.run(`document.querySelector("#theme-switch").click()`);
  assert.equal(await tab.run(ground), light);
  // The system's theme again: a choice would be kept on every page that follows.
  await tab.run(`localStorage.clear()`);
}

// Figures change by themselves, stand still when they are told to, and the page says which.
async function live(tab) {
  await tab.open(`${base}/`);
  const state = `document.querySelector("#live-state").dataset.state`;
  const figures = `document.querySelector("#top").textContent + document.querySelector("#numbers").textContent`;
  const before = await tab.run(figures);
  await tab.until("figures change", `(${figures}) !== ${JSON.stringify(before)}`);
  assert.equal(await tab.run(state), "live");
  await tab.run(`document.querySelector("#live-switch").click()`);
  assert.equal(await tab.run(state), "paused");
  await tab.run(`new Promise((resolve) => setTimeout(resolve, 300))`);
  const paused = await tab.run(figures);
  await tab.run(`new Promise((resolve) => setTimeout(resolve, 6500))`);
  assert.equal(await tab.run(figures), paused, "paused figures stand still");
  await tab.run(`document.querySelector("#live-switch").click()`);
  await tab.until("figures change again", `(${figures}) !== ${JSON.stringify(paused)}`);
  assert.deepEqual(tab.complained(), []);
}

// A page that was opened when there was nothing to draw yet has a chart without a picture.
async function lateCharts(tab) {
  await tab.open(`${base}/?period=15m`);
  await tab.until("charts are drawn", DRAWN);
  await tab.run(`document.querySelectorAll("[data-chart]").forEach((figure) => {
    const empty = figure.cloneNode(true);
    empty.querySelector(".plot").remove();
    delete empty.dataset.drawn;
    figure.replaceWith(empty);
  })`);
  await tab.until("charts are drawn once there is something", `[...document.querySelectorAll("[data-chart]")].every((figure) => figure.querySelector(".plot canvas"))`);
  assert.deepEqual(tab.complained(), []);
}

async function withoutScript(tab, pages) {
  await tab.scripts(false);
  for (const [, path] of pages) {
    assert.equal(await tab.open(base + path), 200, path);
    assert.deepEqual(tab.complained(), [], path);
  }
  const count = async (selector) => {
    const { root } = await tab.send("DOM.getDocument");
    return (await tab.send("DOM.querySelectorAll", { nodeId: root.nodeId, selector })).nodeIds.length;
  };
  // A young process draws once it has two windows of ten seconds.
  for (const patience = Date.now() + 40_000; Date.now() < patience; ) {
    await tab.open(`${base}/?period=15m`);
    if ((await count(".plot > svg path")) > 0) break;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  assert((await count(".plot > svg path")) > 0, "a chart is a picture without a script");
  assert((await count("table.series tbody tr")) > 2, "and a table");
  assert.equal(await count("button[hidden]"), await count("button[id], button[data-copy]"), "no button that does nothing");
  await chooseByForm(tab);
  await tab.scripts(true);
}

// A period is chosen by the keyboard in a form that is plain HTML, and the page says which.
async function chooseByForm(tab) {
  const node = async (selector) => {
    const { root } = await tab.send("DOM.getDocument");
    return (await tab.send("DOM.querySelector", { nodeId: root.nodeId, selector })).nodeId;
  };
  const html = async (selector) => (await tab.send("DOM.getOuterHTML", { nodeId: await node(selector) })).outerHTML;
  const choose = async () => {
    await tab.send("DOM.focus", { nodeId: await node("select[name=period]") });
    await tab.press("l", "l");
    await tab.send("DOM.focus", { nodeId: await node(".filter button") });
    await tab.during(() => tab.press("Enter", "\r"));
    assert.match(await html("h1"), /in the last 15 minutes/);
  };
  await tab.open(`${base}/queries`);
  const statement = /href="([^"]*)"/.exec(await html("#list a.statement"))[1].replaceAll("&amp;", "&");
  await choose();
  await tab.open(base + statement);
  await choose();
  assert.match(await html("#figures"), /Sums from /);
  assert.match(await html("p.above a"), /period=15m/, "the way back is to the same period");
  assert.deepEqual(tab.complained(), []);
}

async function acting(tab, finding) {
  await tab.open(`${base}/findings/${finding.id}`);
  await tab.run(`[...document.querySelectorAll("details.action")].find((one) => one.textContent.includes("Acknowledge")).open = true`);
  await tab.run(`document.querySelector("form[action='/actions/acknowledge'] input[name=note]").value = "seen in a browser"`);
  await tab.during(() => tab.run(`document.querySelector("form[action='/actions/acknowledge'] button").click()`));
  assert.equal(await tab.run("location.pathname"), `/findings/${finding.id}`);
  assert.match(await tab.run(`document.querySelector("main").textContent`), /is acknowledged.*seen in a browser/s);
  const after = await json("/api/v1/findings?limit=1000");
  assert.equal(after.findings.find((one) => one.id === finding.id).state, "acknowledged");
  await tab.during(() => tab.run(`document.querySelector("form[action='/actions/withdraw'] button").click()`));
  assert.match(await tab.run(`document.querySelector("main").textContent`), /withdrawn/);
  assert.deepEqual(tab.complained(), []);
}

// The cache is switched by a form, which says what it will do, and the page tells what is so.
async function cache(tab) {
  await tab.open(`${base}/cache`);
  const mode = `document.querySelector("#mode").textContent`;
  assert.match(await tab.run(mode), /Nothing is kept/);
  const form = `document.querySelector("form[action='/actions/cache-mode']:has(input[value=observe])")`;
  await tab.run(`${form}.closest("details").open = true`);
  await tab.during(() => tab.run(`${form}.querySelector("button").click()`));
  assert.equal(await tab.run("location.pathname"), "/cache");
  assert.match(await tab.run(`document.querySelector("main").textContent`), /mode is set.*compared with the server's/s);
  assert.equal((await json("/api/v1/cache")).mode, "observe");
  await tab.open(`${base}/`);
  assert.match(await tab.run(`document.querySelector("#cache").textContent`), /observe/);
  assert.deepEqual(tab.complained(), []);
}

// Who may not act has no buttons, and the buttons are not what keeps it from acting.
async function roles(chromium, pages, finding) {
  for (const [token, open] of [[viewer, pages.filter(([, path]) => path !== "/audit")], [tenantToken, pages.filter(([, path]) => !/^\/(pools|cache|limits|config|audit|tenants)/.test(path))]]) {
    const tab = await chromium.tab();
    await logIn(tab, token);
    for (const [, path] of open) {
      if (token === tenantToken && path.startsWith("/findings/")) continue;
      assert.equal(await tab.open(base + path), 200, path);
      assert.equal(await tab.run(`document.querySelectorAll("form[action^='/actions/']").length`), 0, `${path} has buttons`);
      assert.deepEqual(tab.complained(), [], path);
    }
    if (token === tenantToken) {
      const menu = await tab.run(`[...document.querySelectorAll("nav[aria-label=Pages] a")].map((one) => one.pathname)`);
      assert.deepEqual(menu, ["/", "/queries", "/findings", `/tenants/${tenant}`, "/connections"].filter((path) => menu.includes(path)));
      for (const path of menu) assert.equal(await tab.open(base + path), 200, path);
      assert.equal(await tab.open(`${base}/config`), 403);
      tab.complained();
    }
    const form = { method: "POST", body: new URLSearchParams({ id: finding.id, by: "nobody" }) };
    assert.equal((await ask("/actions/acknowledge", token, form)).status, 403);
    await tab.close();
  }
}

async function main() {
  const chromium = await Chromium.start(program);
  try {
    const found = (await json("/api/v1/findings?limit=1000")).findings;
    const finding = found.find((one) => one.kind === "n_plus_one" && one.rewrite) ?? found[0];
    assert(finding, "the load has no finding");
    const query = finding.child.fingerprint;
    const pages = [
      ["overview", "/"],
      ["queries", "/queries"],
      ["query", `/queries/${query}?period=15m`],
      ["findings", "/findings"],
      ["finding", `/findings/${finding.id}`],
      ["tenants", "/tenants"],
      ["tenant", `/tenants/${tenant}?period=15m`],
      ["pools", "/pools"],
      ["connections", "/connections"],
      ["cache", "/cache"],
      ["limits", `/limits?tenant=${tenant}&user=app&application=web:${tenant}&sql=select%201`],
      ["config", "/config"],
      ["audit", "/audit"],
    ];
    const tab = await chromium.tab();
    await tab.look(1280, "light");
    await step("log in", () => logIn(tab, operator));
    await step("filters", () => filters(tab));
    await step("keyboard", () => tabOrder(tab));
    await step("theme", () => theme(tab));
    await step("live", () => live(tab));
    await step("actions", () => acting(tab, finding));
    await step("cache", () => cache(tab));
    await step("without script", () => withoutScript(tab, pages));
    // By now there is something to draw.
    await step("every page", () => everyPage(tab, pages));
    await step("otherwise", () => otherwise(tab, pages));
    await step("late charts", () => lateCharts(tab));
    await step("login", () => loginPage(chromium));
    await step("roles", () => roles(chromium, pages, finding));
    // What docs/dashboard.png shows.
    await tab.look(1280, "light");
    await tab.open(`${base}/`);
    await tab.until("charts are drawn", DRAWN);
    writeFileSync(join(folder, "cover.png"), await tab.picture(1180));
    await tab.close();
  } finally {
    await chromium.end();
  }
}

await main();
