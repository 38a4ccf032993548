// Buys in the storefront as a visitor does, in Chromium, in both widths and languages. In the environment: SHOP
// (its address), ADMIN and TOKEN (the operators' listener and a token), ORDERD (the program), CHROMIUM; SHOTS, a
// folder for pictures, is optional.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const { SHOP, ADMIN, TOKEN, ORDERD, CHROMIUM, SHOTS } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const wrong = [];
const check = (ok, ...what) => { if (!ok) wrong.push(what.join(" ")); };
const admin = async (path) => (await fetch(ADMIN + "/admin/v1/" + path, { headers: { Authorization: "Bearer " + TOKEN } })).json();

// What is for sale: SKUs that do not run out here, one for each width, whose visitors buy at the same time; and the
// scarce one, of whoever does not pay.
const goods = (await admin("skus")).data;
const [wide, narrow] = goods.filter((s) => s.available > 100);
const scarce = goods.find((s) => s.available > 0 && s.available < 100);
const sold = { [wide.sku_id]: 0, [narrow.sku_id]: 0, [scarce.sku_id]: 0 };
let pages = 0;

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"] });

// visit gives somebody with a browser of their own, whose every page is watched.
const visit = async (name, options) => {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(15_000);
  const v = { context, name, mayFail: false };
  v.open = async () => {
    const page = await context.newPage();
    await page.exposeFunction("violated", (what) => check(false, name, "policy:", what));
    await page.addInitScript(() => document.addEventListener("securitypolicyviolation",
      (e) => window.violated(e.violatedDirective + " " + e.blockedURI)));
    page.on("console", (m) => { if (m.type() === "error" && !(v.mayFail && m.text().includes("Failed to load resource"))) check(false, name, "console:", m.text()); });
    page.on("pageerror", (e) => check(false, name, "script:", e.message));
    page.on("request", (r) => check(r.url().startsWith(SHOP) || r.url().startsWith("data:"), name, "asks", r.url()));
    return page;
  };
  return v;
};

// look reads a page as it is now.
const look = async (v, page, what) => {
  pages++;
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(wide <= 0, v.name, what, `scrolls sideways by ${wide} px`);
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run({ resultTypes: ["violations"] }));
  for (const one of found.violations.filter((x) => ["serious", "critical"].includes(x.impact))) {
    check(false, v.name, what, "axe:", one.id, one.nodes.slice(0, 2).map((n) => n.html.slice(0, 120)).join(" | "));
  }
  const small = await page.evaluate(() => Array.from(document.querySelectorAll("button, .button, .brand, .mine a"))
    .filter((e) => e.offsetParent && e.getBoundingClientRect().height < 43.5).map((e) => e.outerHTML.slice(0, 80)));
  check(small.length === 0, v.name, what, "less than 44 px:", small[0]);
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/shop_${v.name.replace(/[^a-z0-9]+/gi, "_")}_${what}.png`, fullPage: true });
};

const number = async (page) => Number((await page.locator(".bought .left").textContent()).replaceAll(",", ""));
const buy = async (page, what) => {
  await page.goto(SHOP + "/");
  await page.click("#buy-" + what);
  await page.waitForURL(/\/orders\/[0-9A-Z]{26}$/);
  await page.locator("#do-pay").waitFor();
};
// becomes waits until the order is in a state and the sentence has the words of the case.
const becomes = async (v, page, state, sentence) => {
  await page.locator(".verdict .st." + state).waitFor().catch(() => check(false, v.name, "never becomes", state));
  const h1 = page.locator(".verdict h1").filter({ hasText: sentence });
  await h1.waitFor().catch(async () => check(false, v.name, "says:", await page.locator(".verdict h1").textContent(), "and not", sentence));
};

// Somebody leaves without paying; the end is looked at last, because it takes its time.
const leaver = await visit("nobody pays", { viewport: { width: 1440, height: 900 }, locale: "en-US" });
const left = await leaver.open();
await buy(left, scarce.sku_id);
await left.click("#do-leave");

await Promise.all([[1440, 900, wide.sku_id], [390, 844, narrow.sku_id]].map(async ([width, height, sku]) => {
  for (const [locale, colorScheme] of [["zh-CN", "light"], ["en-US", "dark"]]) {
    const zh = locale === "zh-CN", say = (chinese, english) => (zh ? chinese : english);
    const v = await visit(`${width} ${locale}`, { viewport: { width, height }, locale, colorScheme });
    const page = await v.open();
    await page.goto(SHOP + "/");
    check((await page.locator("html").getAttribute("lang")) === (zh ? "zh-CN" : "en"), v.name, "is in another language");
    await look(v, page, "home");

    // Buy, the code, pay, paid; the page hears of it by itself.
    await buy(page, sku);
    const left = await number(page);
    await page.waitForFunction(() => document.querySelector("img.qr")?.naturalWidth > 0).catch(() => check(false, v.name, "shows no code"));
    check(/\d:\d\d$/.test(await page.locator("[data-until]").textContent()), v.name, "has no countdown");
    await look(v, page, "pending");
    await page.click("#do-pay");
    await becomes(v, page, "paid", say("只卖了一次", "sold once"));
    check((await number(page)) === left, v.name, "stock moved with a payment");
    sold[sku]++;
    await look(v, page, "paid");

    // The callback is lost; asked for, it is found.
    await buy(page, sku);
    await page.click("#do-lose");
    await becomes(v, page, "pending", say("通知却丢了", "its callback is lost"));
    await look(v, page, "lost");
    await page.click("#do-ask");
    await becomes(v, page, "paid", say("通知丢了，订单照样已支付", "The callback was lost, and the order is paid"));
    sold[sku]++;

    // Paid in the instant of the close.
    await buy(page, sku);
    const kept = await number(page);
    await page.click("#do-instant");
    await becomes(v, page, "paid", say("以付款为准", "the payment won"));
    check((await number(page)) === kept, v.name, "stock went back for a paid order");
    sold[sku]++;
    await look(v, page, "instant");

    // A reload and another tab show the same; the way back leads to a shop with the stock of now.
    const story = await page.locator(".steps li").count();
    await page.reload();
    check((await page.locator(".steps li").count()) >= story, v.name, "a reload forgets what was said");
    const tab = await v.open();
    await tab.goto(page.url());
    check((await tab.locator(".verdict h1").textContent()) === (await page.locator(".verdict h1").textContent()), v.name, "two tabs say two things");
    await tab.close();
    await page.goBack();
    await page.locator("#buy-" + sku).waitFor();
    check(Number((await page.locator(`[data-sku="${sku}"]`).textContent()).replaceAll(",", "")) <= kept, v.name, "the way back shows old stock");

    // Paid twice, cancelled, and paid after that.
    await buy(page, sku);
    await page.click("#do-twice");
    await becomes(v, page, "paid", say("付了两次", "Paid twice"));
    sold[sku]++;
    await look(v, page, "twice");
    await buy(page, sku);
    const held = await number(page);
    await page.click("#do-cancel");
    await becomes(v, page, "closed", say("微信支付先关了单", "WeChat Pay closed it first"));
    check((await number(page)) === held + 1, v.name, "the unit is not back after the close");
    await page.click("#do-late");
    await becomes(v, page, "late", say("单已关，钱却来了", "It was closed, and money came"));
    await look(v, page, "late");

    // A refund waits for a person, who is not the buyer.
    await buy(page, sku);
    await page.click("#do-pay");
    await becomes(v, page, "paid", say("只卖了一次", "sold once"));
    await page.click("#do-refund");
    await becomes(v, page, "refunding", say("等人批准", "waits for a person"));
    check((await page.locator("#to-console").getAttribute("href")) === ADMIN + "/ui/refunds", v.name, "no way to the console");
    await look(v, page, "refund");
    sold[sku]++;
    await page.locator("header form button").click();
    await page.waitForURL(/\/orders\//);
    check((await page.locator("html").getAttribute("lang")) === (zh ? "en" : "zh-CN"), v.name, "the language is not changed in its place");
    v.mayFail = true;
    await page.goto(SHOP + "/orders/01M8Q98G222EP3PHQ5ZYWR9F9V");
    await look(v, page, "nobodys");
    await v.context.close();
  }
}));

// An open page hears of what another one does, and a refund that was approved comes to its end in it.
{
  const sku = wide.sku_id, v = await visit("two tabs", { viewport: { width: 1440, height: 900 }, locale: "en-US" });
  const [home, page] = [await v.open(), await v.open()];
  await home.goto(SHOP + "/");
  const shown = async () => Number((await home.locator(`[data-sku="${sku}"]`).textContent()).replaceAll(",", ""));
  const was = await shown();
  await buy(page, sku);
  await home.waitForFunction(([id, n]) => document.querySelector(`[data-sku="${id}"]`).textContent.replaceAll(",", "") === String(n), [sku, was - 1])
    .catch(async () => check(false, "an open shop shows", await shown(), "of", was - 1));
  await page.click("#do-pay");
  await becomes(v, page, "paid", "sold once");
  await page.click("#do-refund");
  await page.locator("#to-console").waitFor();
  const no = (await page.locator(".acts .note code").textContent()).trim();
  execFileSync(ORDERD, ["refund", "approve", no, "--reason", "fits nobody", "--yes"], { stdio: "ignore" });
  await page.locator(".verdict .st.refunded").waitFor({ timeout: 60_000 }).catch(() => check(false, "an approved refund does not end on the page"));
  await v.context.close();
}

// Without scripts.
{
  const sku = narrow.sku_id, v = await visit("without scripts", { viewport: { width: 390, height: 844 }, locale: "zh-CN", javaScriptEnabled: false });
  const page = await v.context.newPage();
  await buy(page, sku);
  await page.click("#do-instant");
  await page.locator(".verdict .st.paid").waitFor().catch(() => check(false, "without scripts nothing is paid"));
  sold[sku]++;
  await v.context.close();
}
// Nobody pays: the page says how it ended without being touched.
await left.locator(".verdict .st.closed").waitFor({ timeout: 120_000 }).catch(() => check(false, "nothing ends an order that nobody pays"));
await becomes(leaver, left, "closed", "Nobody paid");
await browser.close();

for (const one of [wide, narrow, scarce]) {
  const { available } = await admin("skus/" + one.sku_id);
  check(one.available - available === sold[one.sku_id],
    `of ${one.available} ${one.sku_id} ${sold[one.sku_id]} were sold, ${available} are left`);
}
for (const w of new Set(wrong)) console.error("WRONG:", w);
console.log(`storefront: ${pages} pages read, ${Object.values(sold).join(" + ")} sold, ${wrong.length} wrong`);
process.exit(wrong.length ? 1 : 0);
