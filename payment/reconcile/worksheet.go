package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"orderd/payment/sheet"
)

// The workbook that finance fills in: a row for each difference, with columns for what shall be
// done. What stands in the others is for people, but for id and version, by which a row is known
// again.

// importRows is how many differences a workbook to fill in has at most: each of them may be three
// transactions, and a question to WeChat Pay.
const importRows = 2000

// workSheet is the name of its sheet.
const workSheet = "Work"

// Names of columns that an import reads.
const (
	colID       = "id"
	colVersion  = "version"
	colAssigned = "assigned"
	colAssignee = "assignee"
	colComment  = "comment"
	colAction   = "action"
	colReason   = "reason"
)

// workColumns are the columns, in their order: the name for programs, and that for people.
var workColumns = [][2]string{{"bill_date", "账单日期"}, {"type", "类型"}, {"label", "说明"}, {"age_days", "已过天数"},
	{"order_no", "订单号"}, {"ref", "单号"}, {"ours_yuan", "本方金额(元)"}, {"bill_yuan", "账单金额(元)"},
	{"difference_yuan", "差额(元)"}, {"ours_state", "本方状态"}, {"bill_state", "账单状态"}, {"status", "状态"},
	{"proposed_by", "核销提议人"}, {"proposed_why", "提议原因"}, {"allowed", "可选操作"}, {colAssigned, "现处理人"},
	{colAssignee, "【填】处理人"}, {colComment, "【填】备注"}, {colAction, "【填】操作"}, {colReason, "【填】原因"},
	{colID, "差异号(勿改)"}, {colVersion, "版本(勿改)"}}

// Version is a hash of what a decision about a difference rests on, but for who has proposed
// something and who works on it: 16 characters.
func (d *Difference) Version() string {
	facts, err := json.Marshal(d.Facts)
	if err != nil {
		facts = []byte(err.Error())
	}
	return keyOf(d.ID, string(d.Kind), string(d.Status), string(d.Source), d.OrderNo, d.OutTradeNo, d.TransactionID,
		d.BillState, d.OursState, string(facts))[:16]
}

// label is an action in words and by its name, as the list of a cell offers it.
func (a Action) label() string {
	words := map[Action]string{ApplyPayment: "入账", RefundPayment: "退款", MarkPending: "等待", WriteOff: "核销"}
	return words[a] + " " + string(a)
}

// workRow gives the cells of a difference.
func (r *Reconciler) workRow(d *Difference, stamp string) []sheet.Cell {
	t := sheet.Text
	row := exportRow(d)
	bill, ours := row[slices.Index(exportHeader(), "bill_yuan")], row[slices.Index(exportHeader(), "ours_yuan")]
	var names, labels []string
	for _, a := range d.Allowed() {
		names, labels = append(names, string(a)), append(labels, a.label())
	}
	return []sheet.Cell{t(d.Date), t(string(d.Kind)), t(d.Kind.Label()), sheet.Count(int64(d.AgeDays(r.cfg.Now()))),
		t(d.OrderNo), t(d.Ref), ours, bill, sheet.Yuan(d.Diff()), t(d.OursState), t(d.BillState), t(string(d.Status)),
		t(d.ProposedBy), t(d.ProposedWhy), t(strings.Join(names, " ")), t(d.Assignee), t(d.Assignee), {},
		{OneOf: labels}, {}, t(d.ID), t(d.Version() + "." + stamp)}
}

// workTable is the differences as the sheet that is filled in.
func (r *Reconciler) workTable(all []Difference) sheet.Table {
	stamp := strconv.FormatInt(r.cfg.Now().UnixMilli(), 36)
	t := sheet.Table{Name: workSheet,
		Wide: []string{"order_no", "ref", colComment, colReason, colID, colVersion, "allowed"},
		Rows: sheet.Rows(func(yield func([]sheet.Cell) bool) {
			for i := range all {
				if !yield(r.workRow(&all[i], stamp)) {
					return
				}
			}
		})}
	for _, c := range workColumns {
		t.Header, t.Titles = append(t.Header, c[0]), append(t.Titles, c[1]+" "+c[0])
	}
	return t
}

// helpTable says how the sheet is filled in.
func helpTable() sheet.Table {
	rows := [][]sheet.Cell{
		{sheet.Text("【填】处理人 assignee"), sheet.Text("改为谁处理；须有财务角色的账号。不改则保持原样，清空则无人处理。")},
		{sheet.Text("【填】备注 comment"), sheet.Text("追加一条备注，500 字以内；追加后不能修改。")},
		{sheet.Text("【填】操作 action"), sheet.Text("只能从该行列出的操作中选择；留空则不处理。")},
		{sheet.Text("【填】原因 reason"), sheet.Text("选了操作就必须写原因，200 字以内。")},
	}
	for _, a := range Actions() {
		rows = append(rows, []sheet.Cell{sheet.Text(a.label()), sheet.Text(a.Does())})
	}
	return sheet.Table{Name: "Help", Header: []string{"column", "text"}, Titles: []string{"列 column", "说明 text"},
		Wide: []string{"column", "text"}, Rows: sheet.Rows(slices.Values(rows))}
}

// WriteWork writes a workbook with the differences of a filter for people to fill in and give back
// (Import). With more than a workbook has room for the error matches sheet.ErrTooLong: the filter
// has to be narrowed.
func (r *Reconciler) WriteWork(ctx context.Context, w io.Writer, f DifferenceFilter) error {
	f.Cursor, f.Limit = "", importRows+1
	_, all, err := r.Export(ctx, "", f)
	if err != nil {
		return err
	}
	if len(all) > importRows {
		return fmt.Errorf("%w: more than %d differences", sheet.ErrTooLong, importRows)
	}
	slices.SortStableFunc(all, func(a, b Difference) int {
		return strings.Compare(a.Date+a.ID, b.Date+b.ID)
	})
	return sheet.WriteXLSX(w, r.workTable(all), helpTable())
}

// olderThan is the OpenedBefore of what has been open for so many days; 0 is no bound.
func olderThan(now time.Time, days int) time.Time {
	if days <= 0 {
		return time.Time{}
	}
	return now.AddDate(0, 0, -days).Add(time.Millisecond)
}

// OlderThan sets the filter to what has been open for so many whole days; 0 is no bound.
func (f *DifferenceFilter) OlderThan(now time.Time, days int) { f.OpenedBefore = olderThan(now, days) }
