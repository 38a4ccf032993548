// Comes into the console as people do, in both widths and languages: the first set-up by the printed link,
// login, wrong login, one-time codes, the password again, logout; and posts each form from a page of another
// origin with the cookies of whoever is signed in. In the environment: ADMIN (its address, of a shop without
// people), FIRST (the link that serve printed), TOKEN (the bootstrap token), UNPROVE (a program that has
// somebody asked for the password again, with DSN), CHROMIUM; SHOTS, a folder for pictures, is optional.
import { execFileSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { forms as routes } from "./routes.mjs";

const { ADMIN, FIRST, TOKEN, UNPROVE, DSN, CHROMIUM, SHOTS } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const wrong = [];
const check = (ok, ...what) => { if (!ok) wrong.push(what.join(" ")); };
const password = "correct horse battery";

// What a telephone shows (RFC 6238).
const codeOf = (secret, at) => {
  let bits = "";
  for (const c of secret) bits += "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0");
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const sum = createHmac("sha1", key).update(step).digest();
  return String((sum.readUInt32BE(sum[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
};

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
let read = 0;

// visitor is a browser of its own. Its look reads the page that is shown: heading, language, width, sizes, axe; act is
// what somebody does, after which a document comes.
const visitor = async (width, height, locale, colorScheme) => {
  const context = await browser.newContext({ viewport: { width, height }, locale, colorScheme });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  let name = "", refused = false;
  await page.exposeFunction("violated", (what) => check(false, name, "policy:", what));
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation",
    (e) => window.violated(e.violatedDirective + " " + e.blockedURI)));
  page.on("console", (m) => { if (m.type() === "error" && !m.text().includes("Failed to load resource")) check(false, name, "console:", m.text()); });
  page.on("pageerror", (e) => check(false, name, "script:", e.message));
  page.on("request", (r) => {
    check(r.url().startsWith(ADMIN) || r.url().startsWith("data:"), name, "asks", r.url());
    check(!["fetch", "xhr", "eventsource", "websocket", "ping"].includes(r.resourceType()) || !/\/(login|setup|ui\/me)/.test(page.url()),
      name, "a script sends", r.url());
  });
  const look = async (what, status, answer) => {
    name = `${width} ${locale} login ${what}`;
    read++;
    check(answer.status() === status, name, "status", answer.status(), "for", status);
    check((await page.locator("main h1").count()) === 1, name, "has no heading, or two");
    check((await page.locator("html").getAttribute("lang")) === locale.replace("-US", ""), name, "is in another language");
    check(answer.headers()["cache-control"] === "no-store", name, "may be kept:", answer.headers()["cache-control"]);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    check(wide <= 0, name, `scrolls sideways by ${wide} px`);
    const kept = await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length);
    check(kept === 0, name, "a script keeps something");
    const small = await page.evaluate(() => Array.from(document.querySelectorAll("nav a, button:not(.copy), .button, input:not([type=hidden]):not([type=checkbox]), select"))
      .filter((e) => e.offsetParent && e.getBoundingClientRect().height < 43.5).map((e) => e.outerHTML.slice(0, 80)));
    check(small.length === 0, name, "less than 44 px:", small[0]);
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
    for (const v of found.violations.filter((v) => ["serious", "critical"].includes(v.impact))) {
      check(false, name, "axe:", v.id, v.nodes.slice(0, 2).map((n) => n.html.slice(0, 120)).join(" | "));
    }
    if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name.replace(/[^a-z0-9]+/gi, "_")}.png`, fullPage: true });
  };
  const go = async (path, what, status = 200) => look(what, status, await page.goto(ADMIN + path));
  // press sends the form around a button, and reads the document that comes, after however many redirects.
  const press = async (selector, what, status = 200) => {
    const came = page.waitForResponse((r) => r.request().isNavigationRequest() && (r.status() < 300 || r.status() >= 400));
    await page.locator(selector).first().click();
    const answer = await came;
    await page.waitForLoadState();
    await look(what, status, answer);
  };
  const fill = async (form, values) => {
    for (const [field, value] of Object.entries(values)) await page.locator(`${form} [name=${field}]`).fill(value);
  };
  return { context, page, go, press, fill };
};

const login = 'main form[action="/login"]', setup = 'main form[action="/setup"]';
const enter = async (v, name, code, status, what) => {
  await v.fill(login, { name, password: status === 200 ? password : "wrong horse battery", code });
  await v.press(login + " button", what, status);
};
const shown = (v) => v.page.locator("main p.why code, main dd code").first().textContent();

// What the service has of people, tokens and keys.
const state = async () => JSON.stringify(await Promise.all(["operators", "tokens", "webhooks"].map(async (what) =>
  (await fetch(`${ADMIN}/admin/v1/${what}`, { headers: { Authorization: "Bearer " + TOKEN } })).json())));

// A page of another origin posts every form that the pages of an admin have, in the admin's browser. Another port is the
// same site: SameSite=Strict does not hold the cookie back. And it cannot show the console in a frame.
const foreign = async (v, who) => {
  const forms = new Map();
  for (const path of ["/", "/ui/people", "/ui/people/" + who, "/ui/me", "/ui/me/password", "/ui/me/totp", "/ui/refunds", "/ui/orders",
    "/ui/tasks", "/ui/webhooks", "/ui/held", "/ui/gates"]) {
    await v.page.goto(ADMIN + path);
    for (const form of await v.page.evaluate(() => Array.from(document.forms).filter((f) => f.method === "post").map((f) =>
      [f.getAttribute("action"), Array.from(f.elements).filter((e) => e.name).map((e) => [e.name, e.value])]))) forms.set(form[0], form[1]);
  }
  for (const [path, ...fields] of [["/login", "name", "password"], ["/setup", "t", "password", "again"], ["/ui/me/totp/off"]]) {
    forms.set(path, fields.map((f) => [f, ""]));
  }
  const value = (name, text) => text || { name: who, password, old: password, again: password }[name] || "1";
  const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const evil = createServer((request, response) => {
    const path = new URL(request.url, "http://evil").searchParams.get("post");
    response.setHeader("Content-Type", "text/html");
    response.end(path === null ? `<iframe src="${ADMIN}/ui/people"></iframe>` : `<form method="post" action="${ADMIN}${path}">` +
      forms.get(path).map(([n, t]) => `<input name="${escape(n)}" value="${escape(value(n, t))}">`).join("") + "<button>win</button></form>");
  });
  await new Promise((done) => evil.listen(0, "127.0.0.1", done));
  const at = `http://127.0.0.1:${evil.address().port}/`;
  const page = await v.context.newPage();
  const before = await state();
  for (const path of forms.keys()) {
    await page.goto(at + "?post=" + encodeURIComponent(path));
    const came = page.waitForResponse((r) => r.request().method() === "POST");
    await page.locator("button").click();
    const answer = await came;
    await page.waitForLoadState();
    check(answer.status() === 403, "another origin's form of", path, "is answered", answer.status());
    const headers = await answer.request().allHeaders();
    if (path !== "/login") check(/orderd_session=/.test(headers.cookie), "the cookie does not come along, so that nothing is shown by", path);
  }
  // And whatever else the table of routes has to be sent, such as each act, by a script of that page.
  const answers = new Map();
  page.on("response", (r) => { if (r.request().method() === "POST") answers.set(new URL(r.url()).pathname, r.status()); });
  const all = routes.map((r) => r.replace(/:[a-z]+/g, "1"));
  await page.goto(at + "?post=/login");
  await page.evaluate(([to, paths]) => Promise.all(paths.map((path) => fetch(to + path, { method: "POST", mode: "no-cors",
    credentials: "include", body: new URLSearchParams({ reason: "1" }) }))), [ADMIN, all]);
  for (const path of all) check(answers.get(path) === 403, "another origin's request of", path, "is answered", answers.get(path));
  check(all.length > 60, "only", all.length, "routes to send to");
  check((await state()) === before, "another origin's form changed something");
  check(forms.size >= 15, "only", forms.size, "forms");
  await page.goto(at);
  await page.waitForTimeout(300);
  const inside = await Promise.all(page.frames().slice(1).map((f) => f.locator("main#main").count().catch(() => 0)));
  check(inside.length === 1 && inside[0] === 0, "the console is shown in another page's frame");
  await page.close();
  evil.close();
  await v.page.goto(ADMIN + "/ui/me");
  check(v.page.url() === ADMIN + "/ui/me", "another origin ended the session");
  console.log(`browser, login: ${forms.size} forms posted from another origin`);
};

// The first person, by the link that was printed; then one for each width and language, by a link that the first makes.
const faces = [[1440, 900, "zh-CN", "light"], [390, 844, "zh-CN", "dark"], [1440, 900, "en-US", "dark"], [390, 844, "en-US", "light"]];
const first = await visitor(...faces[0]);
await first.go(new URL(FIRST).pathname + new URL(FIRST).search, "first setup");
check((await first.page.locator("nav").count()) === 0, "somebody who is not signed in has a menu");
await first.page.locator("form.lang button").click();
await first.page.waitForURL(/\/setup\?t=/).catch(() => check(false, "the language of the set-up leads to", first.page.url()));
check((await first.page.locator("html").getAttribute("lang")) === "en", "the set-up is not in the other language");
await first.page.locator("form.lang button").click();
await first.fill(setup, { name: "anna", password, again: password + "x" });
await first.press(setup + " button", "setup not the same twice", 422);
await first.fill(setup, { name: "anna", password, again: password });
await first.press(setup + " button", "first page");
check(first.page.url() === ADMIN + "/", "the set-up leads to", first.page.url());
await first.go(new URL(FIRST).pathname + new URL(FIRST).search, "link used", 404);

for (const [i, face] of faces.entries()) {
  const who = "person" + i;
  await first.go("/ui/people", "people");
  const add = 'main form[action="/ui/people"]';
  await first.fill(add, { name: who, reason: "new" });
  await first.page.locator(add + " [name=role]").selectOption("admin");
  await first.press(add + " button", "link");
  const link = new URL(await shown(first));
  const v = await visitor(...face);
  await v.go("/login", "login");
  await v.go(link.pathname + link.search, "setup");
  await v.fill(setup, { password, again: password });
  await v.press(setup + " button", "overview");
  await v.go("/ui/me", "me");
  await v.press('main form[action="/logout"] button', "logged out");
  check(new URL(v.page.url()).pathname === "/login", "the logout leads to", v.page.url());
  // Back in the history is not back in the console.
  await v.page.goBack();
  check((await v.page.locator("main table").count()) === 0, "after the logout the page of before is shown");
  await v.page.reload();
  check(new URL(v.page.url()).pathname === "/login", "after the logout the way back leads to", v.page.url());
  await v.go("/ui/refunds", "login for a page");
  await enter(v, who, "", 403, "login wrong");
  await enter(v, who, "", 200, "page after login");
  check(v.page.url() === ADMIN + "/ui/refunds", "the login leads to", v.page.url());
  await v.go("/ui/me/password", "password");
  await v.go("/ui/me/totp", "totp");
  await v.press('main form[action="/ui/me/totp"] button', "totp begun");
  const secret = await v.page.locator("main dd code").first().textContent();
  await v.fill('main form[action="/ui/me/totp/confirm"]', { code: "000000" });
  await v.press('main form[action="/ui/me/totp/confirm"] button', "totp wrong", 403);
  const used = Date.now();
  await v.fill('main form[action="/ui/me/totp/confirm"]', { code: codeOf(secret, used) });
  await v.press('main form[action="/ui/me/totp/confirm"] button', "me with totp");
  await v.press('main form[action="/logout"] button', "logged out again");
  await v.fill(login, { name: who, password });
  await v.press(login + " button", "login without its code", 403);
  await v.fill(login, { name: who, password, code: codeOf(secret, used + 30_000) }); // that of before is used
  await v.press(login + " button", "overview with a code");
  check(v.page.url() === ADMIN + "/", "the login with a code leads to", v.page.url());
  await v.go("/ui/people", "people of " + who);
  await v.go("/ui/people/" + who, "person");
  const token = `main form[action="/ui/people/${who}/tokens"]`;
  await v.fill(token, { label: "laptop", reason: "scripts" });
  await v.press(token + " button", "secret of a token");
  check((await shown(v)).length > 40, "no secret of a token is shown");
  const key = 'main form[action="/ui/shop-keys"]';
  await v.go("/ui/people", "people again");
  await v.fill(key, { shop: "web" + i, reason: "back end" });
  await v.press(key + " button", "secret of a key");
  await v.go("/ui/people", "people with a key");
  // The password again: a wrong one, then what was asked for is done.
  execFileSync(UNPROVE, [DSN, who]);
  await v.go("/ui/people/" + who, "person again");
  const end = `main form[action="/ui/people/${who}/tokens/revoke"]`;
  await v.fill(end, { reason: "lost \"it\" <b>" });
  await v.press(end + " button", "prove", 403);
  const again = `main form[action="/ui/people/${who}/tokens/revoke"]`;
  await v.fill(again, { prove_password: "wrong horse battery" });
  await v.press(again + " button", "prove wrong", 403);
  await v.fill(again, { prove_password: password });
  await v.press(again + " button", "person with a revoked token");
  check(v.page.url().endsWith("/ui/people/" + who) && (await v.page.locator(end).count()) === 0, "the token is not revoked");
  if (i === 0) await foreign(v, who);
  await v.context.close();
}
await first.context.close();
await browser.close();
for (const w of new Set(wrong)) console.error("WRONG:", w);
console.log(`browser, login: ${read} pages read, ${wrong.length} wrong`);
process.exit(wrong.length ? 1 : 0);
