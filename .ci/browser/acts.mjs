// Works in the console as 客服, 财务 and an admin do, with a mouse and counting the clicks, in both widths: closes an
// order, asks for a refund, approves it as another person, runs the tasks of a cause again. In the environment: API and
// ADMIN (addresses), TOKEN (the bootstrap token), CUSTOMER (a customer's), ORDERD (the program, with ORDERD_DATA_DIR),
// CHROMIUM; SHOTS, a folder for pictures, is optional.
import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";

const { ADMIN, API, TOKEN, CUSTOMER, ORDERD, CHROMIUM, SHOTS } = process.env;
const wrong = [];
const check = (ok, ...what) => { if (!ok) wrong.push(what.join(" ")); };
const password = "correct horse battery";

const api = async (path, body) => {
  const r = await fetch(API + path, { method: "POST", body: JSON.stringify(body), headers: {
    Authorization: "Bearer " + CUSTOMER, "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID().slice(0, 30) } });
  const answer = await r.json();
  if (!r.ok) throw new Error(`${path}: ${r.status} ${JSON.stringify(answer)}`);
  return answer;
};
const admin = async (path) => (await fetch(ADMIN + path, { headers: { Authorization: "Bearer " + TOKEN } })).json();
const sku = (await admin("/admin/v1/skus")).data.find((s) => s.unlimited || s.available > 20).sku_id;
const place = async () => {
  const order = await api("/v1/orders", { items: [{ sku_id: sku, quantity: 1 }] });
  await api(`/v1/orders/${order.order_no}/prepay`, { trade_type: "NATIVE" });
  return order.order_no;
};
const paid = async () => {
  const no = await place();
  execFileSync(ORDERD, ["trigger", "payment.success", no], { stdio: "ignore" });
  return no;
};

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
let did = 0;

// somebody is a person of a role at a browser, signed in.
const somebody = async (name, role, width, script = true) => {
  const who = `${name}-${process.pid}-${did++}`;
  execFileSync(ORDERD, ["operator", "create", who, "--role", role], { stdio: "ignore" });
  const link = execFileSync(ORDERD, ["operator", "link", who, "--url", ADMIN], { stdio: ["ignore", "pipe", "ignore"] }).toString().trim();
  const context = await browser.newContext({ viewport: { width, height: width > 800 ? 900 : 844 }, locale: "zh-CN", javaScriptEnabled: script });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  const says = `${width} ${script ? "" : "without scripts "}${name}:`;
  page.on("console", (m) => { if (m.type() === "error" && !m.text().includes("Failed to load resource")) check(false, says, "console:", m.text()); });
  page.on("pageerror", (e) => check(false, says, "script:", e.message));
  page.on("request", (r) => check(r.url().startsWith(ADMIN) || r.url().startsWith("data:"), says, "asks", r.url()));
  await page.goto(link);
  for (const field of ["password", "again"]) await page.fill(`[name=${field}]`, password);
  await page.click("main form button.do, main form button");
  await page.waitForURL(ADMIN + "/");
  let clicks = 0;
  const shot = (what) => SHOTS && page.screenshot({ path: `${SHOTS}/act_${what}_${width}.png` });
  return {
    page, context, who, says, shot,
    start: () => { clicks = 0; },
    clicks: () => clicks,
    click: async (selector) => { clicks++; await page.locator(selector).first().click(); },
    // answered is the form of an act: its dialog, or its page without scripts.
    form: script ? "dialog.sheet" : "main form.act",
    said: () => page.locator("main p[role=status]").first().textContent(),
  };
};

const refund = async () => {
  const no = await paid();
  return [no, (await api(`/v1/orders/${no}/refunds`, { reason: "too small" })).out_refund_no];
};

for (const [width, script] of [[1440, true], [390, true], [390, false]]) {
  // 客服: a customer calls and wants an order closed; the number is on the customer's telephone.
  const li = await somebody("li", "operator", width, script);
  const open = await place();
  li.start();
  await li.page.fill("header input[type=search]", open);
  await li.page.locator("header input[type=search]").press("Enter");
  await li.page.waitForURL(ADMIN + "/ui/orders/" + open);
  const story = await li.page.locator("main .why").first().boundingBox();
  check(story && story.y + story.height < (width > 800 ? 900 : 844), li.says, "what happened is not on the first screen");
  await li.click("a[data-act='order.close']");
  await li.page.locator(`${li.form} textarea[name=reason]`).fill("买家来电取消");
  await li.shot("close");
  await li.click(`${li.form} button.do`);
  check((await li.said()).includes("订单已关闭"), li.says, "closing says", await li.said());
  check(li.clicks() <= 2, li.says, "closing an order takes", li.clicks(), "clicks");
  check((await li.page.locator("a[data-act='order.close']").count()) === 0, li.says, "a closed order can be closed");

  // 财务: a refund, from the overview, in three clicks.
  const fin = await somebody("fin", "finance", width, script);
  const [paidNo, number] = await refund();
  await fin.page.goto(ADMIN + "/");
  fin.start();
  await fin.click("main a[href^='/ui/refunds']");
  await fin.click(`a[data-act='refund.approve'][href*='${number}']`);
  await fin.page.locator(`${fin.form} textarea[name=reason]`).fill("同意");
  await fin.shot("approve");
  await fin.click(`${fin.form} button.do`);
  check((await fin.said()).includes("已批准"), fin.says, "approving says", await fin.said());
  check(fin.clicks() <= 3, fin.says, "approving takes", fin.clicks(), "clicks");
  const state = (await admin("/admin/v1/orders/" + paidNo)).state;
  check(["refunding", "refunded"].includes(state), fin.says, "an approved refund's order is", state);

  // Whoever is not of the role is not shown an act.
  await li.page.goto(ADMIN + "/ui/refunds");
  check((await li.page.locator("a[data-act='refund.approve']").count()) === 0, li.says, "is shown what finance decides");
  for (const one of [li, fin]) await one.context.close();
}

await browser.close();
for (const w of new Set(wrong)) console.error("WRONG:", w);
console.log(`acts: ${did} people, ${wrong.length} wrong`);
process.exit(wrong.length ? 1 : 0);
