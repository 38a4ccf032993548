// Opens every page of the console in Chromium, in both widths and languages, and reads it as its users do. In the
// environment: ADMIN, API and SIM (addresses), TOKEN (an operator's), CUSTOMER (a customer's), ORDERD (the program),
// CHROMIUM; SHOTS, a folder for pictures, is optional.
import { ADMIN, TOKEN, admin, api, check, context, finish, pay, payLate, payWrong, shot, sound, until, watch } from "./kit.mjs";
import { pages as known, routeOf } from "./routes.mjs";

// Something of each kind: an order that waits, money that is held, a refund to approve, one that was paid after its
// close, somebody who is told.
const sku = (await admin("skus")).data.find((s) => s.unlimited || s.available > 10).sku_id;
const place = async (prepay = true) => {
  const order = await api("/v1/orders", { items: [{ sku_id: sku, quantity: 1 }] });
  if (prepay) await api(`/v1/orders/${order.order_no}/prepay`, { trade_type: "NATIVE" });
  return order.order_no;
};
const waiting = await place(), refunded = await place(), held = await place(), late = await place();
await pay(refunded);
await payWrong(held);
const refund = (await api(`/v1/orders/${refunded}/refunds`, { reason: "fits nobody" })).out_refund_no;
await api(`/v1/orders/${late}/cancel`, {});
await payLate(late);
const money = (await until(async () => (await admin("held?limit=1")).data[0])).transaction_id;
const hook = (await admin("webhooks", { url: "https://hooks.invalid/check", reason: "to be read" })).id;
const day = (await admin("reconciliations")).data[0], today = new Date(Date.now() + 8 * 3600e3).toISOString().slice(0, 10);
await admin("reconciliations", { bill_date: today, bill_type: "ALL", reason: "a bill that lacks what was before" });
const difference = (await until(async () => (await admin("differences?status=OPEN&limit=1")).data[0])).id;
const task = (await admin("tasks/dead?state=dead&limit=1")).data[0];
const { seen } = await admin("bulk/order.ask", { filter: { order_no: waiting } });
const run = (await admin("bulk/order.ask", { filter: { order_no: waiting }, count: 1, seen, dry_run: false, reason: "to be read" },
  { "Idempotency-Key": "01J" + String(Date.now()).padStart(23, "0") })).id;
const transaction = (await admin("orders/" + refunded)).payment.transaction_id;

// Every page that needs no login, by these numbers; and more of some.
const numbers = { orders: waiting, refunds: refund, held: money, gates: sku, stock: sku, reconciliations: day.id,
  differences: difference, tasks: task.id, webhooks: hook, bulk: run };
const group = new URLSearchParams({ type: task.type, state: "dead", error: task.error, failed_before: new Date(Date.now() + 1000).toISOString() });
const open = known.filter((r) => !["everybody", "who is signed in"].includes(r.who)).map((r) => r.path);
const pathOf = (route) => route.replace(/:[a-z]+/, numbers[route.split("/")[2]]) + (/^\/ui\/tasks\/(run|discard)$/.test(route) ? "?" + group : "");
const isAct = (route) => /^\/ui\/[a-z]+\/(:[a-z]+\/)[a-z-]+$|^\/ui\/tasks\/(run|discard)$/.test(route);
const acts = open.filter(isAct).map(pathOf);
const pages = [...open.filter((r) => !isAct(r)).map(pathOf), "/ui/orders?state=paid&limit=5", "/ui/orders?stuck=1",
  ...[refunded, late, held].map((no) => "/ui/orders/" + no), "/ui/orders?hide=items,expire&limit=5", "/ui/search?q=nothing"];
for (const route of open) check([...pages, ...acts].some((p) => routeOf(p.split("?")[0]) === route), route, "is not read");
const errors = [["/ui/orders/01NONE", 404], ["/ui/orders?cursor=%20", 422], ["/none", 404]];

const reader = (options) => context({ extraHTTPHeaders: { Authorization: "Bearer " + TOKEN }, ...options });
let tried = 0;

// read reads all pages as one sees them; the pages of acts, which are of one kind, as two of the four do.
const read = async ([width, height, locale, colorScheme, all]) => {
  const page = await (await reader({ viewport: { width, height }, locale, colorScheme })).newPage();
  let name = "", mayFail = false;
  await watch(page, ADMIN, () => ({ name, mayFail }));
  for (const [path, status] of [...pages.map((p) => [p, 200]), ...(all ? acts : []).map((p) => [p, 200]), ...errors]) {
    name = `${width} ${locale} ${path.replace(waiting, "waiting").replace(refunded, "refunded").replace(late, "late").replace(held, "held")}`;
    mayFail = status !== 200;
    const answer = await page.goto(ADMIN + path);
    tried++;
    check(answer.status() === status, name, "status", answer.status());
    check((await page.locator("main h1").count()) === 1, name, "has no heading, or two");
    check((await page.locator("html").getAttribute("lang")) === (locale === "zh-CN" ? "zh-CN" : "en"), name, "is in another language");
    await sound(page, name);
    await shot(page, name);
  }
  await page.context().close();
};
const faces = [[1440, 900, "zh-CN", "light", true], [390, 844, "en-US", "dark", true], [1440, 900, "en-US", "dark", false], [390, 844, "zh-CN", "light", false]];
for (const two of [faces.slice(0, 2), faces.slice(2)]) await Promise.all(two.map(read));

// The keys.
{
  const context = await reader({ viewport: { width: 1440, height: 900 }, locale: "zh-CN" });
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
  const context = await reader({ viewport: { width: 1440, height: 900 }, locale: "zh-CN" });
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
  await pay(mine);
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
  const context = await reader({ viewport: { width: 390, height: 844 }, locale: "zh-CN", javaScriptEnabled: false });
  const page = await context.newPage();
  for (const path of [...pages, ...acts]) {
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

await finish(`browser: ${tried} pages read of ${open.length} routes`);
