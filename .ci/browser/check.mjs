// Opens every page of the console in Chromium, in both widths and languages, and reads it as its users
// do. In the environment: ADMIN and API (addresses), TOKEN (an operator's), CUSTOMER (a customer's),
// ORDERD (the program), CHROMIUM; SHOTS, a folder for pictures, is optional.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const { ADMIN, API, TOKEN, CUSTOMER, ORDERD, CHROMIUM, SHOTS } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const wrong = [];
const check = (ok, ...what) => { if (!ok) wrong.push(what.join(" ")); };

// Something of each kind: an order that waits, money that is held, a refund to approve, one that was paid
// after its close.
const api = async (path, body) => {
  const r = await fetch(API + path, { method: "POST", body: JSON.stringify(body), headers: {
    Authorization: "Bearer " + CUSTOMER, "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID().slice(0, 30) } });
  const answer = await r.json();
  if (!r.ok) throw new Error(`${path}: ${r.status} ${JSON.stringify(answer)}`);
  return answer;
};
const admin = async (path) => (await fetch(ADMIN + path, { headers: { Authorization: "Bearer " + TOKEN } })).json();
const sku = (await admin("/admin/v1/skus")).data.find((s) => s.unlimited || s.available > 10).sku_id;
const place = async (prepay = true) => {
  const order = await api("/v1/orders", { items: [{ sku_id: sku, quantity: 1 }] });
  if (prepay) await api(`/v1/orders/${order.order_no}/prepay`, { trade_type: "NATIVE" });
  return order.order_no;
};
const trigger = (event, no) => execFileSync(ORDERD, ["trigger", event, no], { stdio: "ignore" });
const waiting = await place(), refunded = await place(), held = await place(), late = await place();
trigger("payment.success", refunded);
trigger("payment.wrong_amount", held);
await api(`/v1/orders/${refunded}/refunds`, { reason: "fits nobody" });
await api(`/v1/orders/${late}/cancel`, {});
trigger("payment.late", late);

const days = (await admin("/admin/v1/reconciliations")).data;
const transaction = (await admin("/admin/v1/orders/" + refunded)).payment.transaction_id;
const pages = ["/", "/ui/orders", "/ui/orders?state=paid&limit=5", "/ui/orders?stuck=1", ...[waiting, refunded, late, held].map((no) => "/ui/orders/" + no),
  "/ui/refunds", "/ui/held", "/ui/gates", "/ui/gates/" + sku, "/ui/stock", "/ui/stock/" + sku, "/ui/timeouts", "/ui/callbacks", "/ui/health", "/ui/tasks", "/ui/webhooks", "/ui/orders?hide=items,expire&limit=5", "/ui/search?q=nothing", "/ui/reconciliations",
  ...days.slice(0, 1).map((d) => "/ui/reconciliations/" + d.id)];
const errors = [["/ui/orders/01NONE", 404], ["/ui/orders?cursor=%20", 422], ["/none", 404]];

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
const open = async (options) => {
  const context = await browser.newContext({ extraHTTPHeaders: { Authorization: "Bearer " + TOKEN }, ...options });
  context.setDefaultTimeout(10_000);
  return context;
};
let tried = 0;

const read = async (page, path, status, name) => {
  const answer = await page.goto(ADMIN + path);
  tried++;
  check(answer.status() === status, name, "status", answer.status());
  check((await page.locator("main h1").count()) === 1, name, "has no heading, or two");
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(wide <= 0, name, `scrolls sideways by ${wide} px`);
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name.replace(/[^a-z0-9]+/gi, "_")}.png`, fullPage: true });
};

for (const [width, height] of [[1440, 900], [390, 844]]) {
  for (const [locale, colorScheme] of [["zh-CN", "light"], ["en-US", "dark"]]) {
    const context = await open({ viewport: { width, height }, locale, colorScheme });
    const page = await context.newPage();
    let name = "", mayFail = false;
    await page.exposeFunction("violated", (what) => check(false, name, "policy:", what));
    await page.addInitScript(() => document.addEventListener("securitypolicyviolation",
      (e) => window.violated(e.violatedDirective + " " + e.blockedURI)));
    page.on("console", (m) => { if (m.type() === "error" && !(mayFail && m.text().includes("Failed to load resource"))) check(false, name, "console:", m.text()); });
    page.on("pageerror", (e) => check(false, name, "script:", e.message));
    page.on("request", (r) => check(r.url().startsWith(ADMIN) || r.url().startsWith("data:"), name, "asks", r.url()));
    for (const [path, status] of [...pages.map((p) => [p, 200]), ...errors]) {
      name = `${width} ${locale} ${path.replace(waiting, "waiting").replace(refunded, "refunded").replace(late, "late").replace(held, "held")}`;
      mayFail = status !== 200;
      await read(page, path, status, name);
      check((await page.locator("html").getAttribute("lang")) === (locale === "zh-CN" ? "zh-CN" : "en"), name, "is in another language");
      await page.evaluate(axe);
      const found = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
      for (const v of found.violations.filter((v) => ["serious", "critical"].includes(v.impact))) {
        check(false, name, "axe:", v.id, v.nodes.slice(0, 2).map((n) => n.html.slice(0, 120)).join(" | "));
      }
      const small = await page.evaluate(() => Array.from(document.querySelectorAll("nav a, button:not(.copy), .button, input:not([type=hidden]):not([type=checkbox]), select"))
        .filter((e) => e.offsetParent && e.getBoundingClientRect().height < 43.5).map((e) => e.outerHTML.slice(0, 80)));
      check(small.length === 0, name, "less than 44 px:", small[0]);
    }
    await context.close();
  }
}

// The keys.
{
  const context = await open({ viewport: { width: 1440, height: 900 }, locale: "zh-CN" });
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: ADMIN });
  const page = await context.newPage();
  await page.goto(ADMIN + "/ui/refunds");
  await page.keyboard.press("/");
  const box = page.locator("header input[type=search]");
  check(await box.evaluate((e) => e === document.activeElement), "/ does not focus the search");
  await page.keyboard.type("go");
  check(page.url().endsWith("/ui/refunds") && (await box.inputValue()) === "go", "keys act while somebody types");
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  check(await page.locator("#help").isVisible(), "? shows no help");
  await page.keyboard.press("Escape");
  check(!(await page.locator("#help").isVisible()), "Esc does not close the help");
  for (const [key, path] of [["o", "/ui/orders"], ["r", "/ui/refunds"], ["b", "/ui/reconciliations"], ["h", "/ui/held"], ["s", "/ui/stock"],
    ["t", "/ui/timeouts"], ["d", "/ui/tasks"]]) {
    await page.keyboard.press("g");
    await page.keyboard.press(key);
    await page.waitForURL(ADMIN + path).catch(() => check(false, "g", key, "leads to", page.url()));
  }
  await page.goto(ADMIN + "/ui/orders");
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("k");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/ui\/orders\/[0-9A-Z]{26}$/).catch(() => check(false, "Enter opens", page.url()));
  const opened = page.url();
  await page.goto(ADMIN + "/ui/stock");
  await page.keyboard.press("j");
  await page.keyboard.press("x");
  await page.locator("dialog.sheet a[data-act]").first().waitFor().catch(() => check(false, "x offers no acts"));
  await page.goto(opened);
  const id = page.locator("main .crumb code");
  await page.locator("main .crumb .copy").click();
  await page.waitForTimeout(100);
  check((await page.evaluate(() => navigator.clipboard.readText())) === (await id.textContent()), "copy copies something else");
  await box.fill(transaction);
  await box.press("Enter");
  await page.waitForURL(ADMIN + "/ui/orders/" + refunded).catch(() => check(false, "a transaction leads to", page.url()));
  await context.close();
}

// What changes is heard: a list says so and stays as it is, the page of an order is loaded anew unless somebody
// types, and whoever has paused hears nothing.
{
  const context = await open({ viewport: { width: 1440, height: 900 }, locale: "zh-CN" });
  const list = await context.newPage(), one = await context.newPage();
  const mine = await place();
  await list.goto(ADMIN + "/ui/orders");
  const first = await list.locator("table.stack tbody tr").first().textContent();
  const listening = list.waitForResponse((r) => r.url().endsWith("/ui/events")).catch(() => {});
  await list.reload();
  await listening;
  await place();
  const news = list.locator("#news a");
  await news.waitFor({ state: "visible", timeout: 15_000 }).catch(() => check(false, "a list does not say that there is something new"));
  check((await news.textContent()) === "1 条新变化", "a list says", await news.textContent());
  check((await list.locator("table.stack tbody tr").first().textContent()) === first, "a list moves by itself");
  await news.click();
  check((await list.locator("table.stack tbody tr").first().textContent()) !== first, "the link loads nothing new");
  const opened = one.waitForResponse((r) => r.url().endsWith("/ui/events")).catch(() => {});
  await one.goto(ADMIN + "/ui/orders/" + mine);
  await opened;
  await one.bringToFront();
  trigger("payment.success", mine);
  await one.locator("main h1 .st.ok").waitFor({ timeout: 15_000 }).catch(() => check(false, "the page of an order stays as it was"));
  check((await one.locator("main .crumb .copy").count()) === 1, "a page that was loaded anew has no copy button, or two");
  await one.locator("#pause").click();
  check((await one.locator("#pause").textContent()) === "恢复更新", "the pause says", await one.locator("#pause").textContent());
  const asked = [];
  one.on("request", (r) => asked.push(r.url()));
  await one.reload();
  check(!asked.some((u) => u.endsWith("/ui/events")), "a page that is paused listens");
  await context.close();
}

// Without scripts.
{
  const context = await open({ viewport: { width: 390, height: 844 }, locale: "zh-CN", javaScriptEnabled: false });
  const page = await context.newPage();
  for (const path of pages) {
    const answer = await page.goto(ADMIN + path);
    check(answer.status() === 200, "without scripts", path, answer.status());
    check((await page.locator("button.copy").count()) + (await page.locator("[data-help]:visible").count()) === 0, path, "has a button that does nothing");
  }
  await page.locator("header input[type=search]").fill(transaction);
  await page.locator("form[role=search] button").click();
  await page.waitForURL(ADMIN + "/ui/orders/" + refunded).catch(() => check(false, "without scripts a search leads to", page.url()));
  await page.locator("form.lang button").click();
  check((await page.locator("html").getAttribute("lang")) === "en" && page.url().endsWith(refunded), "the language is not changed in its place:", page.url());
  await page.goto(ADMIN + "/ui/orders");
  await page.locator("select[name=state]").selectOption("refunding");
  await page.locator("form.filter button").click();
  const [rows, those] = [await page.locator("table.stack tbody tr").count(), await page.locator("table.stack .st.hold").count()];
  check(rows > 0 && rows === those, "without scripts a filter shows", rows, "rows of which", those, "are meant");
  await context.close();
}

await browser.close();
for (const w of new Set(wrong)) console.error("WRONG:", w);
console.log(`browser: ${tried} pages read, ${wrong.length} wrong`);
process.exit(wrong.length ? 1 : 0);
