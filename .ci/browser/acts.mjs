// Works in the console as 客服, 财务 and an admin do, with a mouse and counting the clicks, in both widths and without
// scripts. In the environment: API, ADMIN and SIM (addresses), TOKEN (the bootstrap token), CUSTOMER (a customer's),
// ORDERD (the program, with ORDERD_DATA_DIR), CHROMIUM; SHOTS, a folder for pictures, is optional.
import { ADMIN, admin, api, behave, check, finish, jobs, misbehave, pay, payWrong, somebody, until } from "./kit.mjs";

const sku = (await admin("skus")).data.find((s) => s.unlimited || s.available > 200);
const place = async (quantity = 1) => {
  const order = await api("/v1/orders", { items: [{ sku_id: sku.sku_id, quantity }] });
  await api(`/v1/orders/${order.order_no}/prepay`, { trade_type: "NATIVE" });
  return order.order_no;
};
const paid = async (quantity) => {
  const no = await place(quantity);
  await pay(no);
  return no;
};
const refund = async (quantity) => {
  const no = await paid(quantity);
  return [no, (await api(`/v1/orders/${no}/refunds`, { reason: "too small" })).out_refund_no];
};
const dayBefore = (n) => new Date(Date.now() + (8 - 24 * n) * 3600e3).toISOString().slice(0, 10); // of Beijing
const chinese = (text) => /\p{Script=Han}/u.test(text) && !/[a-z]+ [a-z]+ [a-z]+/.test(text);

const says = (one, what, said, wanted) => check(said.includes(wanted), one.says, what, said);

// 客服: a customer calls.
const service = async (width, script) => {
  const li = await somebody("li", "operator", width, script);
  const open = await place();
  const search = async (text, no) => {
    await li.page.fill("header input[type=search]", text);
    await li.page.locator("header input[type=search]").press("Enter");
    await li.page.waitForURL(ADMIN + "/ui/orders/" + no);
  };
  const bought = await paid();
await pay(await place(), dayBefore(1) + "T12:00:00+08:00"); // so that yesterday has money
  const transaction = (await admin("orders/" + bought)).payment.transaction_id;
  await li.job("find an order by its transaction id", 0, () => search(transaction, bought));
  await li.go("/");
  await li.job("close an order", 2, async () => {
    await search(open, open);
    await li.click("a[data-act='order.close']");
    await li.fill("reason", "买家来电取消");
    await li.shot("close");
    says(li, "closing says", await li.send(), "订单已关闭");
  });
  check((await li.page.locator("a[data-act='order.close']").count()) === 0, li.says, "a closed order can be closed");
  await li.go("/");
  await li.job("why an order was closed", 0, async () => {
    await search(open, open);
    const story = li.page.locator("main .why:not([role])").first(), box = await story.boundingBox();
    check((await story.textContent()).includes("运营人员关闭"), li.says, "of a closed order it says", await story.textContent());
    check(box && box.y + box.height < (width > 800 ? 900 : 844), li.says, "what happened is not on the first screen");
  });
  await li.go("/");
  await li.job("what is due, and when", 1, async () => {
    await li.click("main a[href='/ui/timeouts']");
    check((await li.page.locator("main h1").textContent()).length > 0, li.says, "nothing of what is due");
  });
  await li.go("/");
  await again(li);
  // Whoever is not of the role is not shown an act.
  await li.go("/ui/refunds");
  check((await li.page.locator("a[data-act='refund.approve']").count()) === 0, li.says, "is shown what finance decides");
  await li.context.close();
};

// again runs all tasks of a cause again: how many there are is typed, and another number is refused.
const again = (li) => li.job("run all failed tasks of a cause again", 3, async () => {
  await li.click("main a[href='/ui/tasks']");
  const group = li.page.locator("tr", { has: li.page.locator("a[data-act='tasks.run']") }).filter({ hasText: "seeded" }).first();
  const [count, cause] = [(await group.locator("td.n").textContent()).trim(), (await group.locator("td.long").textContent()).trim()];
  const before = li.clicks();
  await li.click(`tr:has-text("${cause}") a[data-act='tasks.run']`);
  await li.fill("reason", "原因已排除");
  await li.fill("matched", String(Number(count) + 1));
  await li.page.locator(`${li.form} button.do`).click(); // a mistake: no part of the way
  check(chinese(await li.refusal()), li.says, "a wrong count is refused with", await li.refusal());
  check((await li.page.locator(`${li.form} [name=reason]`).inputValue()) === "原因已排除", li.says, "what was typed is lost with a wrong count");
  await li.fill("matched", count);
  await li.shot("rerun");
  says(li, "running a cause again says", await li.send(), "将重新执行");
  check(li.clicks() === before + 2, li.says, "a cause takes more clicks");
  const left = (await admin("tasks/dead?state=dead&limit=200")).data.filter((t) => t.error === cause).length;
  check(left === 0, li.says, left, "tasks of the cause are left of", count);
});

// 财务: refunds.
const refunds = async (width, script) => {
  const fin = await somebody("fin", "finance", width, script);
  const [paidNo, number] = await refund();
  await fin.go("/");
  const approve = async (one, no) => {
    await one.click("main a[href^='/ui/refunds']");
    await one.click(`a[data-act='refund.approve'][href*='${no}']`);
    await one.fill("reason", "同意");
    await one.shot("approve");
    says(one, "approving says", await one.send(), "已批准");
  };
  await fin.job("approve a refund", 3, () => approve(fin, number));
  const state = (await admin("orders/" + paidNo)).state;
  check(["refunding", "refunded"].includes(state), fin.says, "an approved refund's order is", state);

  // Above the limit of two people the same person is none of them twice: not by the list, not by the address, not by
  // a form that was opened before. Another person ends it.
  const [, large] = await refund(Math.ceil(500_001 / sku.price.total));
  const one = async () => (await admin("refunds?state=PENDING_APPROVAL&limit=200")).data.find((r) => r.out_refund_no === large);
  const before = await fin.context.newPage(), address = `${ADMIN}/ui/refunds/${large}/approve`;
  await before.goto(address);
  await before.fill("form.act [name=reason]", "再次同意");
  await fin.go("/");
  await approve(fin, large);
  check((await one())?.approvals.length === 1, fin.says, "after the first approval of two it has", JSON.stringify((await one())?.approvals));
  check((await fin.page.locator(`a[data-act='refund.approve'][href*='${large}']`).count()) === 0, fin.says, "is asked for the second approval, too");
  await before.click("form.act button.do");
  const said = await before.locator("main [role=alert], main .why.bad").first().textContent();
  check(chinese(said), fin.says, "the second approval of the same person is refused with", said);
  await before.goto(address);
  const off = await before.locator("main .why.bad").textContent();
  check(off.includes("请由其他人批准") && (await before.locator("form.act").count()) === 0, fin.says, "may approve twice:", off);
  check((await one())?.approvals.length === 1, fin.says, "approved twice");
  const hua = await somebody("hua", "finance", width, script);
  await hua.job("approve as the second person", 3, () => approve(hua, large));
  check(await until(async () => !(await one())), hua.says, "two people approved and it still waits");
  for (const who of [fin, hua]) await who.context.close();
};

// 财务: the day's differences, the money that fits no order, and the close of a day.
const books = async (width, script, n) => {
  const [fin, hua] = [await somebody("fin", "finance", width, script), await somebody("hua", "finance", width, script)];
  const resolve = async (one, row, told) => {
    await one.click("main a[href^='/ui/differences']");
    await one.click(row);
    await one.click("a[data-act='diff.resolve']");
    await one.fill("reason", "已与银行核实");
    await one.shot("resolve");
    says(one, "resolving says", await one.send(), told);
  };
  await fin.go("/");
  await fin.job("propose to write a difference off", 4, () => resolve(fin, "table.stack tbody a[href^='/ui/differences/']", "已登记您的提议"));
  const id = new URL(fin.page.url()).pathname.split("/").pop();
  check((await fin.page.locator("a[data-act='diff.resolve']").count()) === 1, fin.says, "a proposal hides the act");
  await fin.page.locator("a[data-act='diff.resolve']").click();
  const off = fin.page.locator(`${script ? "dialog.sheet" : "main"} .why.bad`).first();
  check(chinese(await off.textContent()), fin.says, "the same person's second word is answered", await off.textContent());
  await hua.go("/");
  await hua.job("resolve a difference", 4, () => resolve(hua, `table.stack tbody a[href='/ui/differences/${id}']`, "差异已结束"));
  check((await admin("differences?limit=200&status=WRITTEN_OFF")).data.some((d) => d.id === id), hua.says, "two people wrote it off and it is open");

  // Another is given to somebody, and talked about.
  await fin.go("/ui/differences?status=OPEN");
  await fin.click("table.stack tbody a[href^='/ui/differences/']");
  await fin.click("a[data-act='diff.assign']");
  await fin.fill("assignee", hua.who);
  says(fin, "assigning says", await fin.send(), "已指派");
  await fin.click("a[data-act='diff.comment']");
  await fin.fill("text", "请查一下这一笔");
  says(fin, "commenting says", await fin.send(), "已写入");
  const notes = await fin.page.locator("main table.stack tbody").last().textContent();
  check(notes.includes("请查一下这一笔") && notes.includes(hua.who), fin.says, "the difference does not show what was said:", notes);

  // A day of before is reconciled, closed, and its month knows.
  await fin.go("/");
  await fin.job("reconcile yesterday", 3, async () => {
    await fin.click("nav a[href='/ui/reconciliations']");
    await fin.click(`main a[data-act='day.run'][href='/ui/reconciliations/${dayBefore(1)}-ALL/run']`);
    await fin.fill("reason", "每日对账");
    says(fin, "reconciling says", await fin.send(), "已开始对账");
  });
  const day = dayBefore(n);
  if (n > 1) await admin("reconciliations", { bill_date: day, bill_type: "ALL", reason: "the days before" });
  const done = await until(async () => (await admin("reconciliations?limit=50")).data.find((d) => d.bill_date === day && d.state === "done"));
  check(done, fin.says, day, "is not reconciled");
  await fin.go(`/ui/reconciliations/${day}-ALL`);
  await fin.job("close a day", 2, async () => {
    await fin.click("a[data-act='day.close']");
    await fin.fill("reason", "核对完毕");
    says(fin, "closing a day says", await fin.send(), "已关账");
  });
  await fin.go("/ui/reconciliations?month=" + day.slice(0, 7));
  const row = fin.page.locator("main table.stack tbody tr", { hasText: day }).first();
  check((await row.textContent()).includes(fin.who), fin.says, "the month does not say who closed the day:", await row.textContent());

  await fin.go("/");
  await fin.job("whose money is held", 1, async () => {
    await fin.click("nav a[href='/ui/held']");
    check((await fin.page.locator("main table.stack tbody tr code").count()) > 0, fin.says, "no money is held");
  });
  for (const one of [fin, hua]) await one.context.close();
};

// An admin: a count of the shelf found one more.
const shelf = async (width, script) => {
  const wang = await somebody("wang", "admin", width, script);
  const left = async () => (await admin("skus/" + sku.sku_id)).available;
  const before = await left();
  await wang.job("correct the stock of a SKU by a count", 4, async () => {
    await wang.click("nav a[href='/ui/stock']");
    await wang.click(`main a[href='/ui/stock/${sku.sku_id}']`);
    await wang.click("a[data-act='stock.adjust']");
    await wang.fill("delta", "1");
    await wang.fill("reason", "盘点多一件");
    says(wang, "adjusting says", await wang.send(), "已调整");
  });
  check((await left()) === before + 1, wang.says, "one more makes", await left(), "of", before);
  await wang.context.close();
};

// By keys: the act of the chosen row, of the page, the file of a list; and none of them while somebody types.
const byKeys = async () => {
  const [fin, li] = [await somebody("fin", "finance", 1440), await somebody("li", "operator", 1440)];
  const press = async (one, ...keys) => { for (const key of keys) await one.page.keyboard.press(key); };
  const opened = async (one, act) => check(await one.page.locator(`dialog.sheet[open] form[action$='/${act}']`).waitFor().then(() => true, () => false),
    one.says, "no key opens", act);
  const shut = async (one) => {
    await press(one, "Escape", "Escape"); // out of the field, then out of the dialog
    check(!(await one.page.locator("dialog.sheet[open]").count()), one.says, "Esc does not close an act");
  };
  await refund();
  await refund();
  await fin.go("/ui/refunds");
  await press(fin, "a");
  check(!(await fin.page.locator("dialog.sheet[open]").count()), fin.says, "a approves one of many that nobody chose");
  await press(fin, "j", "a");
  await opened(fin, "approve");
  await fin.page.locator("dialog.sheet [name=reason]").focus();
  await fin.page.keyboard.type("a j k x s n e / ?");
  check((await fin.page.locator("dialog.sheet [name=reason]").inputValue()) === "a j k x s n e / ?", fin.says, "keys act while somebody types");
  await shut(fin);
  await li.go("/ui/orders/" + await place());
  for (const [key, act] of [["n", "note"], ["s", "ask"]]) {
    await press(li, key);
    await opened(li, act);
    await shut(li);
  }
  await li.go("/ui/orders");
  const file = li.page.waitForEvent("download").catch(() => null);
  await press(li, "e");
  check((await file)?.suggestedFilename().endsWith(".xlsx"), li.says, "e exports nothing");
  for (const one of [fin, li]) await one.context.close();
};

// An admin gives the shop's back end an address that is told what happens; its secret is shown once.
const hook = async () => {
  const wang = await somebody("wang", "admin", 1440);
  await wang.go("/ui/webhooks");
  await wang.click("a[data-act='webhook.add']");
  await wang.fill("url", "https://hooks.invalid/orderd");
  await wang.fill("reason", "后台");
  await wang.click(`${wang.form} button.do`);
  await wang.page.locator("dialog.sheet .secret code").waitFor();
  check((await wang.page.locator("dialog.sheet .secret code").textContent()).startsWith("whsec_"), wang.says, "no secret of a webhook is shown");
  await wang.context.close();
};

// A bill by hand: today's file, as it was fetched, is given again, and waits for somebody else to say so, too.
const byHand = async () => {
  const fin = await somebody("fin", "finance", 1440);
  const day = dayBefore(0), bill = await (await fin.page.request.get(`${ADMIN}/admin/v1/reconciliations/${day}-ALL/bill`)).body();
  await fin.go("/ui/reconciliations/upload");
  await fin.page.fill("main [name=bill_date]", day);
  await fin.page.fill("main [name=reason]", "微信商户平台下载");
  await fin.page.setInputFiles("main [name=bill]", { name: "bill.csv", mimeType: "text/csv", buffer: bill });
  await fin.click("main form.act button.do");
  await fin.page.waitForURL(/\/ui\/reconciliations\/\d/);
  await fin.context.close();
};

// A bill of today with a wrong sum, that lacks what the simulator of before knew: differences. And money for no order.
await payWrong(await place());
await paid();
await pay(await place(), dayBefore(1) + "T12:00:00+08:00"); // so that yesterday has money
await misbehave("bill", "one_fen_off");
await admin("reconciliations", { bill_date: dayBefore(0), bill_type: "ALL", reason: "a bill that differs" });
const differs = async (type) => (await admin("differences?status=OPEN&type=" + type)).data.length > 0;
check(await until(async () => await differs("AMOUNT_MISMATCH") || await differs("REFUND_AMOUNT_MISMATCH")), "no sum differs"); // of whichever row
await behave();

await hook();
await byHand();
await byKeys();
for (const [n, [width, script]] of [[1440, true], [390, true], [390, false]].entries()) {
  await service(width, script);
  await refunds(width, script);
  await books(width, script, n + 1);
  await shelf(width, script);
}
const table = new Map();
for (const j of jobs) table.set(j.what, [...(table.get(j.what) ?? []), `${j.clicks} clicks ${(j.ms / 1000).toFixed(1)} s`]);
console.log("job".padEnd(40), "1440".padEnd(18), "390".padEnd(18), "390 without scripts");
for (const [what, took] of table) console.log(what.padEnd(40), took.map((t) => t.padEnd(18)).join(" "));
await finish(`acts: ${jobs.length} jobs`);
