// A headless Chromium, driven by its DevTools protocol over a pipe: nothing but Node.js and the distribution's package.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE = 30_000;

export class Chromium {
  static async start(program) {
    const folder = mkdtempSync(join(tmpdir(), "pgweir-chromium-"));
    const process = spawn(
      program,
      [
        "--headless=new",
        "--remote-debugging-pipe",
        `--user-data-dir=${folder}`,
        // A container's user is root and its /dev/shm small; what is loaded is our own.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--force-color-profile=srgb",
        "--hide-scrollbars",
        "--lang=en-US",
        "about:blank",
      ],
      { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] },
    );
    return new Chromium(process, folder);
  }

  constructor(process, folder) {
    Object.assign(this, { process, folder, next: 1, pending: new Map(), listeners: new Set(), errors: "" });
    process.stderr.on("data", (data) => (this.errors = (this.errors + data).slice(-4000)));
    process.on("exit", (code) => {
      for (const { reject } of this.pending.values()) reject(new Error(`Chromium ended (${code}): ${this.errors}`));
      this.pending.clear();
    });
    this.out = process.stdio[3];
    // A browser that is gone is told by its exit.
    this.out.on("error", () => {});
    let rest = Buffer.alloc(0);
    process.stdio[4].on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
        this.take(JSON.parse(rest.subarray(0, end).toString()));
        rest = rest.subarray(end + 1);
      }
    });
  }

  take(message) {
    const waiting = this.pending.get(message.id);
    if (waiting) {
      this.pending.delete(message.id);
      clearTimeout(waiting.timer);
      if (message.error) waiting.reject(new Error(`${waiting.method}: ${message.error.message}`));
      else waiting.resolve(message.result);
    } else if (message.method) {
      for (const listener of this.listeners) listener(message);
    }
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.pending.delete(id);
        reject(new Error(`${method} was not answered within ${PATIENCE / 1000} s: ${this.errors}`));
      }, PATIENCE);
      this.pending.set(id, { resolve, reject, method, timer });
      this.out.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    });
  }

  // A tab in a profile of its own: no cookie and no theme of another one.
  async tab() {
    const { browserContextId } = await this.send("Target.createBrowserContext");
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const tab = new Tab(this, sessionId, browserContextId);
    await tab.begin();
    return tab;
  }

  async end() {
    await this.send("Browser.close").catch(() => {});
    await new Promise((resolve) => {
      if (this.process.exitCode !== null) return resolve();
      const timer = setTimeout(() => this.process.kill("SIGKILL"), 5000);
      this.process.on("exit", () => (clearTimeout(timer), resolve()));
    });
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Tab {
  constructor(chromium, sessionId, context) {
    Object.assign(this, { chromium, sessionId, context, complaints: [], answers: new Map(), loaded: null });
    chromium.listeners.add((message) => message.sessionId === sessionId && this.take(message));
  }

  send(method, params) {
    return this.chromium.send(method, params, this.sessionId);
  }

  async begin() {
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await this.send(`${domain}.enable`);
  }

  take({ method, params }) {
    if (method === "Page.loadEventFired") this.loaded?.();
    if (method === "Runtime.exceptionThrown") {
      this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    }
    if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(params.type)) {
      this.complaints.push(params.args.map((one) => one.value ?? one.description).join(" "));
    }
    // What the browser itself complains of: a policy that was broken, a file that was not there.
    if (method === "Log.entryAdded" && ["error", "warning"].includes(params.entry.level)) {
      this.complaints.push(`${params.entry.text} ${params.entry.url ?? ""}`);
    }
    if (method === "Network.responseReceived" && params.type === "Document") {
      this.answers.set(new URL(params.response.url).pathname, params.response.status);
    }
  }

  // The complaints since the last look.
  complained() {
    return this.complaints.splice(0);
  }

  async open(url) {
    this.answers.clear();
    await this.during(() => this.send("Page.navigate", { url }));
    return this.answers.get(new URL(await this.run("location.href")).pathname);
  }

  // Does something that loads a page, and waits for the page.
  async during(action) {
    const loaded = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the page did not load")), PATIENCE);
      this.loaded = () => (clearTimeout(timer), resolve());
    });
    await action();
    await loaded;
    this.loaded = null;
  }

  async run(expression) {
    const answer = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (answer.exceptionDetails) {
      throw new Error(`${expression}: ${answer.exceptionDetails.exception?.description ?? answer.exceptionDetails.text}`);
    }
    return answer.result.value;
  }

  async until(what, expression) {
    const end = Date.now() + PATIENCE;
    while (!(await this.run(expression))) {
      if (Date.now() > end) throw new Error(`${what}: not within ${PATIENCE / 1000} s`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async press(key, text = undefined) {
    const codes = { Tab: 9, Enter: 13, "/": 191 };
    const event = { key, code: key, windowsVirtualKeyCode: codes[key] ?? key.charCodeAt(0), text };
    await this.send("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  async type(text) {
    await this.send("Input.insertText", { text });
  }

  // `scale`: what a browser does at 200 % is half the width at twice the size. `media`: `print`, or the screen.
  async look(width, theme, scale = 1, media = "") {
    await this.send("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: scale, mobile: false });
    const features = [
      { name: "prefers-color-scheme", value: theme },
      { name: "prefers-reduced-motion", value: "reduce" },
    ];
    await this.send("Emulation.setEmulatedMedia", { media, features });
  }

  async scripts(on) {
    await this.send("Emulation.setScriptExecutionDisabled", { value: !on });
  }

  // Of the whole page, or of so much of it.
  async picture(most = 4000) {
    const { cssContentSize, cssLayoutViewport } = await this.send("Page.getLayoutMetrics");
    const height = Math.min(cssContentSize.height, most);
    const clip = { x: 0, y: 0, width: cssLayoutViewport.clientWidth, height, scale: 1 };
    const { data } = await this.send("Page.captureScreenshot", { format: "png", clip, captureBeyondViewport: true });
    return Buffer.from(data, "base64");
  }

  async close() {
    await this.chromium.send("Target.disposeBrowserContext", { browserContextId: this.context });
  }
}
