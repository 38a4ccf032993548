// What the scripts of this folder share: a Chromium whose every page is watched, calls of the service, people who are
// signed in, and the list of what is wrong, by which a script ends.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const { ADMIN, API, SIM, TOKEN, CUSTOMER, ORDERD, CHROMIUM, SHOTS } = process.env;
export const password = "correct horse battery";

const wrong = [];
export const check = (ok, ...what) => { if (!ok) wrong.push(what.join(" ")); };
// finish ends the script with what it found.
export const finish = async (summary) => {
  await (await browser).close();
  for (const w of new Set(wrong)) console.error("WRONG:", w);
  console.log(`${summary}, ${wrong.length} wrong`);
  process.exit(wrong.length ? 1 : 0);
};

const run = (...args) => execFileSync(ORDERD, args, { stdio: ["ignore", "pipe", "ignore"] }).toString().trim();
export const api = async (path, body) => {
  const r = await fetch(API + path, { method: "POST", body: JSON.stringify(body), headers: {
    Authorization: "Bearer " + CUSTOMER, "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID().slice(0, 30) } });
  const answer = await r.json();
  if (!r.ok) throw new Error(`${path}: ${r.status} ${JSON.stringify(answer)}`);
  return answer;
};
export const admin = async (path, body, headers) => {
  const r = await fetch(ADMIN + "/admin/v1/" + path, { method: body ? "POST" : "GET", body: body && JSON.stringify(body),
    headers: { Authorization: "Bearer " + TOKEN, "Content-Type": "application/json", ...headers } });
  if (!r.ok) throw new Error(`${path}: ${r.status} ${await r.text()}`);
  return r.json();
};
const simulator = async (path, body) => {
  const r = await fetch(SIM + "/control/" + path, { method: body ? "POST" : "DELETE", body: body && JSON.stringify(body),
    headers: { "Content-Type": "application/json" } });
  if (!r.ok) throw new Error(`${path}: ${r.status} ${await r.text()}`);
};
// misbehave has the simulator do something wrong until it shall behave.
export const misbehave = (endpoint, kind) => simulator("faults", { endpoint, kind });
export const behave = () => simulator("faults");
// pay pays an order that was prepaid once, and returns when it is paid.
export const pay = async (no, at) => {
  await simulator(`trades/${no}-01/pay`, { notify: true, at });
  await until(async () => (await admin("orders/" + no)).payment);
};
// payLate pays an order that was closed.
export const payLate = (no) => simulator(`trades/${no}-01/pay`, { notify: true, force: true });
// payWrong pays another amount than the order's, so that the money fits no order.
export const payWrong = (no) => simulator(`trades/${no}-01/notify`, { mode: "wrong_amount" });
// until asks again until there is an answer that counts; after 15 seconds that of then is taken.
export const until = async (ask) => {
  for (let end = Date.now() + 15_000; ; await new Promise((done) => setTimeout(done, 50))) {
    const answer = await ask();
    if (answer || Date.now() > end) return answer;
  }
};

const browser = chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"] });

// context is a browser of its own.
export const context = async (options) => {
  const one = await (await browser).newContext(options);
  one.setDefaultTimeout(10_000);
  return one;
};

// watch has everything noted that a page must not do; where says which page it is, and whether it may be refused.
export const watch = async (page, origin, where) => {
  await page.exposeFunction("violated", (what) => check(false, where().name, "policy:", what));
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation",
    (e) => window.violated(e.violatedDirective + " " + e.blockedURI)));
  page.on("console", (m) => {
    const refused = m.text().includes("Failed to load resource");
    if (m.type() === "error" && !(refused && where().mayFail)) check(false, where().name, "console:", m.text());
  });
  page.on("pageerror", (e) => check(false, where().name, "script:", e.message));
  page.on("request", (r) => check(r.url().startsWith(origin) || /^(data|blob):/.test(r.url()), where().name, "asks", r.url()));
};

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const touched = "nav a, button:not(.copy), .button, .brand, input:not([type=hidden]):not([type=checkbox]), select";
// sound reads the page that is shown as its users do: its width, the size of what is touched, and axe.
export const sound = async (page, name) => {
  await page.evaluate(axe);
  const [wide, small, found] = await page.evaluate(async (touched) => [
    document.documentElement.scrollWidth - document.documentElement.clientWidth,
    Array.from(document.querySelectorAll(touched)).filter((e) => e.offsetParent && e.getBoundingClientRect().height < 43.5)
      .map((e) => e.outerHTML.slice(0, 80)),
    (await window.axe.run({ resultTypes: ["violations"] })).violations.filter((v) => ["serious", "critical"].includes(v.impact))
      .map((v) => v.id + " " + v.nodes.slice(0, 2).map((n) => n.html.slice(0, 120)).join(" | ")),
  ], touched);
  const slip = (await page.locator("body").textContent()).match(/0x[0-9a-f]{6,}|<nil>|%!.|\[object |NaN|undefined/);
  check(!slip, name, "shows what no person reads:", slip);
  check(wide <= 0, name, `scrolls sideways by ${wide} px`);
  check(small.length === 0, name, "less than 44 px:", small[0]);
  for (const v of found) check(false, name, "axe:", v);
};
export const shot = async (page, name) => {
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name.replace(/[^a-z0-9]+/gi, "_")}.png`, fullPage: true });
};

const known = new Set();
// somebody is a person of a role at a browser, signed in, whose clicks are counted.
export const somebody = async (name, role, width, script = true) => {
  const who = `${name}-${process.pid}`, fresh = !known.has(who);
  const c = await context({ viewport: { width, height: width > 800 ? 900 : 844 }, locale: "zh-CN", javaScriptEnabled: script,
    acceptDownloads: true });
  const page = await c.newPage();
  const says = `${width} ${script ? "" : "without scripts "}${name}:`;
  if (script) await watch(page, ADMIN, () => ({ name: says, mayFail: true }));
  if (fresh) {
    await admin("operators", { name: who, role, reason: "works here" });
    await page.goto(run("operator", "link", who, "--url", ADMIN));
    await page.fill("main [name=again]", password);
    known.add(who);
  } else {
    await page.goto(ADMIN + "/login");
    await page.fill("main [name=name]", who);
  }
  await page.fill("main [name=password]", password);
  await page.click("main form button");
  await page.waitForURL(ADMIN + "/");
  let clicks = 0;
  const one = {
    page, context: c, who, says, clicks: () => clicks,
    shot: (what) => shot(page, `act_${what}_${width}`),
    click: async (selector) => { clicks++; await page.locator(selector).first().click(); },
    go: (path) => page.goto(ADMIN + path),
    // send presses the button of an act that can be done, and gives what the next page says of it.
    send: async () => {
      const next = page.waitForEvent("load");
      await one.click(`${one.form} button.do`);
      await next;
      return page.locator("main p[role=status]").first().textContent({ timeout: 2000 }).catch(async () =>
        "nothing, but: " + await page.locator("dialog.sheet, main").first().textContent());
    },
    // form is where an act is asked: its dialog, or its page without scripts.
    form: script ? "dialog.sheet" : "main form.act",
    // refusal is what an act says that cannot be done.
    refusal: () => page.locator((script ? "dialog.sheet" : "main") + " [role=alert]").first().textContent(),
    fill: (field, text) => page.locator(`${one.form} [name=${field}]`).fill(text),
    // job does what a person is asked to do, and says how many clicks it took.
    job: async (what, most, work) => {
      const began = performance.now();
      clicks = 0;
      await work();
      jobs.push({ what, width, script, clicks, most, ms: Math.round(performance.now() - began) });
      check(clicks <= most, says, what, "takes", clicks, "clicks of at most", most);
    },
  };
  return one;
};
export const jobs = [];
