package reconcile

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"orderd/migrations/sqldb"
)

// A bill is of a merchant number, and not of a shop: payment codes at a till, contracts,
// another shop or app under the same number stand in it too. What cannot be of an order of
// ours is other business: counted and summed in the result, and no difference.

// elsewhereTypes are the words of 交易类型 for ways to pay that orderd does not offer, in
// WeChat's document of the format of trade bills.
var elsewhereTypes = []string{"MICROPAY", "FACE"}

// foreign reports that a row of the bill does not look like one of our orders: by its number,
// the app id, the way to pay, or because a partner took it. Whether it is ours all the same,
// our rows say (otherBusiness).
func (r *Reconciler) foreign(it *item) bool {
	f := it.said()
	return r.cfg.Orders.OrderNoOf(f.OutTradeNo) == "" ||
		r.cfg.AppIDs != nil && !slices.Contains(r.cfg.AppIDs, f.AppID) ||
		f.SubMchID != "" || f.MchID != r.cfg.MchID ||
		slices.Contains(elsewhereTypes, f.TradeType)
}

// otherBusiness tells by their lines which rows of a bill, at most lookups of them, which are
// none of our payments and refunds, are of other business: they look foreign, no attempt of
// ours has their number, and none of our payments their transaction id.
func (r *Reconciler) otherBusiness(ctx context.Context, rows []item) (map[int64]bool, error) {
	others := map[int64]bool{}
	var sent, paid []string
	for i := range rows {
		if r.foreign(&rows[i]) {
			f := rows[i].said()
			others[rows[i].line] = true
			sent = append(sent, f.OutTradeNo)
			paid = append(paid, f.TransactionID)
		}
	}
	if len(others) == 0 {
		return others, nil
	}
	ours := map[string]bool{}
	for query, keys := range map[string][]string{
		`SELECT out_trade_no
FROM payment_attempts
WHERE out_trade_no IN (`: sent,
		`SELECT transaction_id
FROM payments
WHERE transaction_id IN (`: paid} {
		err := r.decide(ctx, query+sqldb.In(len(keys))+`)`, sqldb.Args(keys), func(rows *sql.Rows) error {
			var key string
			err := rows.Scan(&key)
			ours[key] = true
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("find what of the bill is other business: %w", err)
		}
	}
	for i := range rows {
		if f := rows[i].said(); ours[f.OutTradeNo] || ours[f.TransactionID] {
			delete(others, rows[i].line)
		}
	}
	return others, nil
}
