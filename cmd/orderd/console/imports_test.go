package console

import (
	"fmt"
	"html"
	"slices"
	"strings"
	"testing"

	"orderd/migrations/sqldb/sqldbtest"
	"orderd/order"
	"orderd/order/ordertest"
	"orderd/payment/trail"
	"orderd/stock"
)

const csvHead = "sku_id,title,price_fen,quantity\n"

// importJSON is the body of an import by the API.
func importJSON(csv, mode, more string) string {
	return `{"csv":"` + strings.ReplaceAll(csv, "\n", `\n`) + `","mode":"` + mode + `"` + more + `}`
}

// Whoever imports a file by the page does what they have seen, and no more: a SKU that was sold or priced anew between
// the look and the button is passed by, the rest is done, and the button twice does it once.
func TestAFileOfSKUsIsImportedAsItWasSeen(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	d.SKU(t, "pot", 10)
	b := d.browser(t, "ann", Admin)
	want(t, b.get("/ui/skus/import"), 200, "试运行")
	file := csvHead + "mug,Mug,100,12\npot,Pot & lid,300,7\nnew,New,500,3\n"
	w := b.give(t, "/ui/skus/import", map[string]string{"csv": file, "mode": "set"})
	want(t, w, 200, "新建 1，已有 2")
	page := w.Body.String()
	for _, text := range []string{"10 → 12", "10 → 7", "0 → 3", "Pot &amp; lid", "+2", "-3"} {
		if !strings.Contains(page, text) {
			t.Errorf("the plan does not say %q", text)
		}
	}
	if all, err := d.Admin.List(t.Context(), "", 10); err != nil || len(all) != 2 || all[0].Free() != 10 {
		t.Fatalf("the dry run wrote: %+v %v", all, err)
	}
	d.PlaceOne(t, "c1", "pot", 1) // meanwhile
	send := map[string]string{"again": hidden(t, page, "again"), "seen": html.UnescapeString(hidden(t, page, "seen")),
		"mode": "set", "reason": "盘点", "prove_password": password}
	w = b.give(t, "/ui/skus/import", send)
	want(t, w, 200, "新建 1，更新 1")
	want(t, w, 200, "<code>3</code>")
	want(t, b.give(t, "/ui/skus/import", send), 200, "新建 0，更新 0，此前已导入 2")
	for id, units := range map[string]int64{"mug": 12, "pot": 9, "new": 3} {
		if s, err := d.Admin.Find(t.Context(), id); err != nil || s.Free() != units {
			t.Errorf("%s has %d, %v; want %d", id, s.Free(), err, units)
		}
	}
	flows := b.get("/ui/stock/mug").Body.String()
	if !strings.Contains(flows, "盘点") || !strings.Contains(flows, "ann") {
		t.Error("the flow does not say who and why")
	}
	if acts := d.acted(t); !slices.Contains(acts, "ann sku.import done") {
		t.Errorf("%q", acts)
	}
}

// A look is not the import in the trail, with the reason that was given; and whoever imports while somebody else holds
// a SKU is told how much is in and how much is not, and sends the same once more.
func TestAnImportInPartSaysHowMuch(t *testing.T) {
	db := sqldbtest.MariaDB(t)
	d := newDeskOf(t, ordertest.NewWith(t, db, func(*order.Config) {}), nil)
	d.SKU(t, "mug", 10)
	d.SKU(t, "pot", 10)
	b := d.browser(t, "ann", Admin)
	w := b.give(t, "/ui/skus/import", map[string]string{"csv": csvHead + "mug,Mug,100,5\npot,Pot,100,5\n",
		"mode": "add"})
	want(t, w, 200, "已有 2")
	raw, err := db.Pool().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for _, q := range []string{"BEGIN", "UPDATE skus SET updated_at = updated_at + 1 WHERE sku_id = 'pot'"} {
		if _, err := raw.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	again := func(page string) map[string]string {
		return map[string]string{"again": hidden(t, page, "again"), "mode": "add", "reason": "到货",
			"seen": html.UnescapeString(hidden(t, page, "seen"))}
	}
	w = b.give(t, "/ui/skus/import", again(w.Body.String()))
	want(t, w, 503, "新建 0，更新 1，此前已导入 0")
	want(t, w, 503, "还剩 1 行未导入")
	if _, err := raw.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	w = b.give(t, "/ui/skus/import", again(w.Body.String()))
	want(t, w, 200, "新建 0，更新 1，此前已导入 1")
	if strings.Contains(w.Body.String(), "还剩") {
		t.Error("it says that something is left")
	}
	var said []string
	all, _, err := trail.New(db, d.Clock.Now, nil).List(t.Context(), trail.Filter{Limit: 20})
	for _, e := range all {
		if strings.HasPrefix(e.Action, "sku.") {
			said = append(said, strings.Join([]string{e.Action, e.Outcome, e.Reason, e.Became}, "|"))
		}
	}
	slices.Reverse(said)
	done := "mode=add lines=2 new=0 updated=1 before="
	expected := []string{"sku.preview|||", "sku.preview|done||", "sku.import||到货|",
		"sku.import|failed:MAINTENANCE|到货|" + done + "0 changed=0 left=1", "sku.import||到货|",
		"sku.import|done|到货|" + done + "1 changed=0 left=0"}
	if err != nil || !slices.Equal(said, expected) {
		t.Errorf("%q %v", said, err)
	}
}

// What is wrong with a file is said line by line and in the language of the page, and nothing is imported.
func TestABadFileOfSKUsIsRefusedByLine(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "ann", Admin)
	give := func(csv string) string {
		t.Helper()
		w := b.give(t, "/ui/skus/import", map[string]string{"csv": csv, "mode": "add"})
		if strings.Contains(w.Body.String(), `name="again"`) {
			t.Errorf("it offers to import %q", csv)
		}
		if m := english.FindString(strings.SplitN(w.Body.String(), "<h2>", 2)[0]); m != "" {
			t.Errorf("%q is said in English: %s", csv, m)
		}
		return w.Body.String()
	}
	for csv, says := range map[string]string{csvHead + "a,A,x,1\n": "第 2 行：price_fen &#34;x&#34; 不是整数",
		csvHead + "a,A,1,1\na,A,1,1\n": "第 3 行：SKU a 在第 2 行已出现", csvHead + "a,A,1\n": "第 2 行：有 3 列，应为 4 列",
		csvHead: "没有数据行", "sku_id,title\n": "第 1 行：缺少列 price_fen", "": "第一行须为列名",
		csvHead + "a,\xb1\xad,1,1\n": "第 2 行：文件不是 UTF-8", "PK\x03\x04": "不是 CSV",
		csvHead + "a,\"A\"x,1,1\n": "第 2 行：引号", csvHead + "a,A,0,-9\n": "第 2 行", csvHead + "a,\x00,1,1\n": "第 2 行",
		csvHead + strings.Repeat("a,A,1,1\n", 3): "有 2 处问题"} {
		if page := give(csv); !strings.Contains(page, says) {
			t.Errorf("%q does not say %q: %.1500s", csv, says, page[strings.Index(page, "<h1>"):])
		}
	}
	var long strings.Builder
	for i := range stock.ImportMost + 1 {
		fmt.Fprintf(&long, "s%d,A,1,1\n", i)
	}
	if page := give(csvHead + long.String()); !strings.Contains(page, "最多 2000 行") {
		t.Error("a file too long is not refused")
	}
	w := b.give(t, "/ui/skus/import", map[string]string{"csv": strings.Repeat("x", maxStockFile+1), "mode": "add"})
	want(t, w, 413, "")
	if all, err := d.Admin.List(t.Context(), "", 10); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}

// The API's import has the same rule: what corrects a shelf is an admin's, what was not seen is not done, and what
// is added is added whatever was sold since.
func TestImportOfSKUsByTheAPI(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	const path = "/admin/v1/stock/import"
	file := csvHead + "mug,Mug,100,5\n"
	want(t, d.ask(Operator, "POST", path, importJSON(file, "set", "")), 403, "FORBIDDEN")
	want(t, d.ask(Operator, "POST", path+"/apply", importJSON(file, "set", `,"reason":"count","seen":[]`)), 403,
		"FORBIDDEN")
	want(t, d.ask(Operator, "POST", path, importJSON(file, "both", "")), 422, "mode")
	plan := asJSON[stock.ImportReport](t, d.ask(Operator, "POST", path, importJSON(file, "add", "")).Body.Bytes())
	if len(plan.Rows) != 1 || plan.Rows[0].Delta != 5 || plan.Rows[0].Seen != (stock.Seen{SkuID: "mug", Version: 1,
		Units: 10}) {
		t.Fatalf("%+v", plan)
	}
	want(t, d.ask(Operator, "POST", path+"/apply", importJSON(file, "add", `,"reason":"came"`)), 422, "#/seen")
	want(t, d.ask(Operator, "POST", path+"/apply", importJSON(file, "add", `,"reason":"","seen":[]`)), 422, "reason")
	want(t, d.ask(Operator, "POST", path+"/apply", importJSON(file, "add", `,"reason":"came","seen":[]`)), 200,
		`"changed":[2]`)
	d.PlaceOne(t, "c1", "mug", 1)
	seen := `,"reason":"came","seen":[{"sku_id":"mug","version":1,"units":10}]`
	want(t, d.ask(Operator, "POST", path+"/apply", importJSON(file, "add", seen)), 200, `"updated":1`)
	want(t, d.ask(Operator, "POST", path+"/apply", importJSON(file, "add", seen)), 200, `"repeated":1`)
	if s, err := d.Admin.Find(t.Context(), "mug"); err != nil || s.Free() != 14 {
		t.Errorf("%d %v", s.Free(), err)
	}
	bad := d.ask(Operator, "POST", path+"/apply", importJSON(csvHead+"a,A,x,1\n", "add", `,"reason":"came","seen":[]`))
	want(t, bad, 422, "第 2 行")
}

// A SKU is made by a form once: one that is there is not written over by somebody who believes it new.
func TestASKUIsMadeByAForm(t *testing.T) {
	d := newDesk(t)
	b := d.browser(t, "li", Operator)
	want(t, b.get(uiStock), 200, `data-act="sku.new"`)
	const path = "/ui/skus/new"
	want(t, b.get(path), 200, "SKU 编号")
	of := func(more ...string) []string {
		return append([]string{"title", "Pot", "price.total", "12.50", "reason", "new"}, more...)
	}
	want(t, b.post(path, of("sku_id", "pot")...), 422, `aria-invalid="true"`)
	want(t, b.post(path, of("sku_id", "pot", "quantity", "3", "unlimited", "1")...), 422, "不限量的商品不填数量")
	want(t, b.post(path, of("sku_id", "a pot", "quantity", "3")...), 422, "sku_id")
	leads(t, b.post(path, of("sku_id", "pot", "quantity", "3", "low_at", "1")...), uiStock)
	leads(t, b.post(path, of("sku_id", "air", "unlimited", "1")...), uiStock)
	want(t, b.post(path, of("sku_id", "pot", "quantity", "9")...), 412, "已有此编号")
	s, err := d.Admin.Find(t.Context(), "pot")
	if err != nil || s.Free() != 3 || s.PriceFen != 1250 || s.Version != 1 || s.LowAt != 1 {
		t.Errorf("%+v %v", s, err)
	}
	if s, err := d.Admin.Find(t.Context(), "air"); err != nil || !s.Unlimited {
		t.Errorf("%+v %v", s, err)
	}
}
