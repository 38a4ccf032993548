package order

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb"
)

// HitKind is what a search found.
type HitKind string

// The kinds, in the order of a search's answer.
const (
	HitOrder     HitKind = "order"     // by order_no
	HitAttempt   HitKind = "attempt"   // by out_trade_no
	HitPayment   HitKind = "payment"   // by transaction_id
	HitRefund    HitKind = "refund"    // by out_refund_no, or by WeChat Pay's refund_id
	HitReference HitKind = "reference" // by the number that a shop gave an order: several shops may have it
	HitCustomer  HitKind = "customer"  // by the customer's id
	HitSKU       HitKind = "sku"       // by sku_id, or by the beginning of its title
	HitAttach    HitKind = "attach"    // by what the shop attached to an order: many may have the same
)

// Hit is one thing that a search found.
type Hit struct {
	Kind HitKind
	ID   string // its number: of a refund the out_refund_no, however it was found
	// OrderNo is its order, of a customer his newest; "" of a SKU, and of a payment without one.
	OrderNo string
	// Outcome is of a payment, "" of everything else: SettledHeld and SettledWrittenOff have a list each.
	Outcome Settled
	Title   string // of a SKU that was found by it
}

// SearchMost is how many SKUs, and how many orders by what is attached to them, a search gives; with one more it
// says that there are others.
const SearchMost = 10

// searchQuery looks for one text in every index of numbers. Its arguments are the text, and
// the text in capitals for what this service numbers itself; see Search.
const searchQuery = `SELECT 'order', order_no, order_no, ''
FROM orders
WHERE order_no = ?
UNION ALL
SELECT 'attempt', out_trade_no, order_no, ''
FROM payment_attempts
WHERE out_trade_no = ?
UNION ALL
SELECT 'payment', p.transaction_id, p.order_no,
  CASE WHEN w.written_off_at > 0 THEN '` + string(SettledWrittenOff) + `' ELSE p.outcome END
FROM payments p
LEFT JOIN write_offs w ON w.transaction_id = p.transaction_id
WHERE p.transaction_id = ?
UNION ALL
SELECT 'refund', out_refund_no, order_no, ''
FROM refunds
WHERE out_refund_no = ?
UNION ALL
SELECT 'refund', out_refund_no, order_no, ''
FROM refunds
WHERE out_refund_no = ?
UNION ALL
SELECT 'refund', out_refund_no, order_no, ''
FROM refunds
WHERE refund_id = ?
UNION ALL
SELECT 'reference', reference, order_no, ''
FROM orders
WHERE reference = ?
UNION ALL
SELECT 'customer', customer_id, order_no, ''
FROM orders
WHERE order_no = (
    SELECT order_no
    FROM orders /*! FORCE INDEX (ix_orders_open) */
    WHERE customer_id = ?
    ORDER BY order_no DESC
    LIMIT 1)
UNION ALL
SELECT 'sku', sku_id, '', ''
FROM skus
WHERE sku_id = ?`

// searchArgs are the arguments of searchQuery for a text.
func searchArgs(text string) []any {
	capitals := strings.ToUpper(text)
	return []any{capitals, capitals, text, text, capitals, text, text, text, text}
}

// What is found by texts and not by numbers: goods by the beginning of their title, and the newest orders by what is
// attached to them. Each is read by a page of its index.
const (
	titleQuery = `SELECT sku_id, title
FROM skus /*! FORCE INDEX (ix_skus_title) */
WHERE title >= ?
  AND title < ?
ORDER BY title, sku_id
LIMIT ?`
	attachQuery = `SELECT attach, order_no
FROM orders /*! FORCE INDEX (ix_orders_attach) */
WHERE attach = ?
ORDER BY order_no DESC
LIMIT ?`
)

// titlesLike are the ways in which the beginning of a title may be written: the columns tell capitals apart.
func titlesLike(text string) []string {
	lower := strings.ToLower(text)
	first, size := utf8.DecodeRuneInString(lower)
	all := []string{text, lower, strings.ToUpper(text), string(unicode.ToUpper(first)) + lower[size:]}
	slices.Sort(all)
	return slices.Compact(all)
}

// searchTexts adds what is found by a text.
func searchTexts(ctx context.Context, q querier, text string, hits []Hit) ([]Hit, error) {
	titled := 0
	for _, begin := range titlesLike(text) {
		err := sqldb.Each(ctx, q, titleQuery, []any{begin, begin + string(unicode.MaxRune), SearchMost + 1 - titled},
			func(rows *sql.Rows) error {
				h := Hit{Kind: HitSKU}
				err := rows.Scan(&h.ID, &h.Title)
				if !slices.ContainsFunc(hits, func(o Hit) bool { return o.Kind == HitSKU && o.ID == h.ID }) {
					hits, titled = append(hits, h), titled+1
				}
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	err := sqldb.Each(ctx, q, attachQuery, []any{text, SearchMost + 1}, func(rows *sql.Rows) error {
		h := Hit{Kind: HitAttach}
		err := rows.Scan(&h.ID, &h.OrderNo)
		hits = append(hits, h)
		return err
	})
	return hits, err
}

// hitKinds are the kinds in the order of an answer.
var hitKinds = []HitKind{HitOrder, HitAttempt, HitPayment, HitRefund, HitReference, HitAttach, HitCustomer, HitSKU}

// Search finds whatever has a text as its number or id: what a person has copied from a
// message, a bill or WeChat Pay's platform; and goods whose title begins with it, and orders that
// have it attached, SearchMost+1 of each at most. Space around it does not count, and neither does the
// case of our own numbers. Every table is read by a key. That there is nothing is said only where
// orders are written. Errors: *ValidationError for a text that no number can be, database errors.
func (s *Service) Search(ctx context.Context, text string) ([]Hit, error) {
	text = strings.TrimSpace(text)
	if wrong := bounds.Searched.Check(text); wrong != nil {
		return nil, &ValidationError{Fields: []FieldError{{"?q", wrong.Code, wrong.Detail}}}
	}
	hits, err := searchHits(ctx, s.db, text)
	if err == nil && len(hits) == 0 {
		err = s.db.Decide(ctx, func(ctx context.Context, tx *sqldb.Tx) (err error) {
			hits, err = searchHits(ctx, tx, text)
			return err
		})
	}
	if err != nil {
		return nil, sqldb.Wrap("search", err)
	}
	slices.SortStableFunc(hits, func(a, b Hit) int {
		return slices.Index(hitKinds, a.Kind) - slices.Index(hitKinds, b.Kind)
	})
	return slices.Compact(hits), nil // what is in capitals already was looked for twice
}

// searchHits reads everything that has a text as its number or id, in no order.
func searchHits(ctx context.Context, q querier, text string) (hits []Hit, err error) {
	err = sqldb.Each(ctx, q, searchQuery, searchArgs(text), func(rows *sql.Rows) error {
		var h Hit
		err := rows.Scan(&h.Kind, &h.ID, &h.OrderNo, &h.Outcome)
		hits = append(hits, h)
		return err
	})
	if err != nil {
		return nil, err
	}
	return searchTexts(ctx, q, text, hits)
}
