package console

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"orderd/order"
	"orderd/order/orderhttp"
	"orderd/payment"
	"orderd/payment/reconcile"
)

// funcsOf are the functions of templates in a language.
func funcsOf(l lang) template.FuncMap {
	return template.FuncMap{
		"t":         l.word,
		"look":      l.look,
		"event":     l.event,
		"says":      l.says,
		"actor":     l.actor,
		"ours":      l.ours,
		"resolved":  l.resolution,
		"why":       l.why,
		"refusal":   l.refusal,
		"asset":     assetPath,
		"shown":     shown,
		"yuan":      yuan,
		"decimals":  decimals,
		"money":     money,
		"total":     total,
		"counted":   counted,
		"mask":      mask,
		"ended":     l.ended,
		"act":       l.actName,
		"code":      codeOf,
		"ms":        func(d time.Duration) int64 { return d.Milliseconds() },
		"clock":     clock,
		"exact":     exactTime,
		"iso":       func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
		"zoned":     zoned,
		"rows":      func(all []order.Order) orderRows { return orderRows{Orders: all} },
		"day":       day,
		"fen":       fen,
		"minute":    func(t time.Time) string { return t.In(beijing).Format("15:04") },
		"took":      tookText,
		"at":        at,
		"whyclosed": whyClosed,
		"pair":      func(first, second any) pair { return pair{first, second} },
	}
}

// ours is what our books say of a payment or of a refund, as a difference has it.
func (l lang) ours(state string) string { return l.oneOf(state, "settled.", "st.refund.") }

// why is for which reason money that arrived is not the order's.
func (l lang) why(reason string) string { return l.oneOf(reason, "reason.", "heldwhy.") }

// oneOf is the word of a value by the first of some beginnings that has one, or the value.
func (l lang) oneOf(value string, begins ...string) string {
	for _, of := range begins {
		if _, known := words[of+value]; known {
			return l.word(of + value)
		}
	}
	return value
}

// resolution says how a difference ended, as the books have it.
func (l lang) resolution(text string) string {
	if outcome, is := strings.CutPrefix(text, reconcile.PaymentBecame); is {
		return l.word("resolution.payment", l.ours(outcome))
	}
	if by, is := strings.CutPrefix(text, reconcile.WrittenOffAfter); is {
		return l.word("resolution.writtenoff", by)
	}
	return l.word("resolution." + text)
}

// clock is a time of Beijing.
func clock(t time.Time) string { return t.In(beijing).Format("2006-01-02 15:04:05") }

// pair is what a template is given two of.
type pair struct{ First, Second any }

// zoned says a time with its zone, and in UTC.
func zoned(t time.Time) string {
	return t.In(beijing).Format("2006-01-02 15:04:05.000 -07:00") + " = " + t.UTC().Format("2006-01-02 15:04:05.000Z")
}

// tookText says how long something took, as short as it can be told.
func tookText(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// at is a time of a view of the API, the zero time for none.
func at(text *string) time.Time {
	if text == nil {
		return time.Time{}
	}
	t, _ := time.Parse(time.RFC3339Nano, *text) // made by stamp
	return t
}

// whyClosed reports that who wanted an order closed says something about it: of one that was paid
// first, it does not.
func whyClosed(s order.State, why order.CloseReason) bool {
	return why != "" && (s == order.StateClosing || s == order.StateClosed || s == order.StateLate)
}

// yuan shows an amount as people write it: ¥1,234.00.
func yuan(f payment.Fen) string { return decimals(f.String()) }

// decimals is yuan of an amount in yuan with any number of decimals, as fees have them.
func decimals(amount string) string {
	digits, sign := strings.CutPrefix(amount, "-")
	whole, rest, _ := strings.Cut(digits, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	text := "¥" + whole
	if rest != "" {
		text += "." + rest
	}
	if sign {
		return "−" + text
	}
	return text
}

// money is yuan of an amount that WeChat Pay may not have said.
func money(m payment.MaybeFen) string {
	if f, said := m.Fen(); said {
		return yuan(f)
	}
	return "–"
}

// total is yuan of a refund's payment, which WeChat Pay need not have said of one made elsewhere.
func total(f payment.Fen) string {
	if f == 0 {
		return "–"
	}
	return yuan(f)
}

// mask hides all of a person's id but its ends, which tell two of them apart.
func mask(id string) string {
	switch n := len(id); {
	case n == 0:
		return "–"
	case n < 8:
		return "••••"
	default:
		return id[:1] + "••••" + id[n-2:]
	}
}

// look is how a state is shown, everywhere: a word, a shape and a colour, so that none of them is
// needed to know it.
type look struct{ Word, Shape, Class string }

// The colours of states, as classes of the stylesheet.
const (
	colourGood = "ok"   // done, and well
	colourInfo = "info" // waits for somebody outside
	colourWarn = "warn" // waits for us
	colourBad  = "bad"  // a person has to look
	colourBack = "hold" // money on its way back, or back
	colourIdle = "idle" // over, without money
)

// looks are shape and colour of every state, by the kind of thing and its state.
var looks = map[string]look{
	"order.pending":   {Shape: "◔", Class: colourInfo},
	"order.closing":   {Shape: "◑", Class: colourWarn},
	"order.closed":    {Shape: "○", Class: colourIdle},
	"order.paid":      {Shape: "●", Class: colourGood},
	"order.refunding": {Shape: "↺", Class: colourBack},
	"order.refunded":  {Shape: "✓", Class: colourBack},
	"order.late":      {Shape: "▲", Class: colourBad},

	"refund.pending_approval": {Shape: "◔", Class: colourWarn},
	"refund.rejected":         {Shape: "○", Class: colourIdle},
	"refund.owed":             {Shape: "◑", Class: colourBack},
	"refund.processing":       {Shape: "↺", Class: colourBack},
	"refund.success":          {Shape: "✓", Class: colourBack},
	"refund.closed":           {Shape: "○", Class: colourIdle},
	"refund.abnormal":         {Shape: "▲", Class: colourBad},
	"refund.refused":          {Shape: "▲", Class: colourBad},
	"refund.cancelled":        {Shape: "○", Class: colourIdle},
	"refund.by_hand":          {Shape: "✓", Class: colourBack},
	"refund.held":             {Shape: "▲", Class: colourBad},

	"attempt.calling": {Shape: "◔", Class: colourInfo},
	"attempt.live":    {Shape: "◑", Class: colourInfo},
	"attempt.refused": {Shape: "▲", Class: colourBad},
	"attempt.closed":  {Shape: "○", Class: colourIdle},

	"day.new":     {Shape: "○", Class: colourIdle},
	"day.running": {Shape: "◔", Class: colourInfo},
	"day.waiting": {Shape: "◑", Class: colourInfo},
	"day.failed":  {Shape: "▲", Class: colourBad},
	"day.done":    {Shape: "✓", Class: colourGood},

	"cal.BALANCED":    {Shape: "✓", Class: colourGood},
	"cal.OPEN":        {Shape: "▲", Class: colourBad},
	"cal.RUNNING":     {Shape: "◔", Class: colourInfo},
	"cal.WAITING":     {Shape: "◑", Class: colourInfo},
	"cal.FAILED":      {Shape: "▲", Class: colourBad},
	"cal.UNCONFIRMED": {Shape: "◑", Class: colourWarn},
	"cal.MISSING":     {Shape: "✕", Class: colourBad},
	"cal.NOT_DUE":     {Shape: "·", Class: colourIdle},
	"cal.BEFORE":      {Shape: "–", Class: colourIdle},
	"cal.CLOSED":      {Shape: "■", Class: colourGood},
	"cal.REOPENED":    {Shape: "↺", Class: colourWarn},

	"import.new":      {Shape: "✓", Class: colourGood},
	"import.change":   {Shape: "◔", Class: colourInfo},
	"import.same":     {Shape: "○", Class: colourIdle},
	"import.before":   {Shape: "○", Class: colourIdle},
	"outcome.planned": {Shape: "◔", Class: colourInfo},
	"outcome.done":    {Shape: "✓", Class: colourGood},
	"outcome.waits":   {Shape: "◑", Class: colourWarn},
	"outcome.already": {Shape: "○", Class: colourIdle},
	"outcome.refused": {Shape: "▲", Class: colourBad},
	"outcome.failed":  {Shape: "▲", Class: colourBad},

	"diff.OPEN":             {Shape: "▲", Class: colourBad},
	"diff.PENDING_NEXT_DAY": {Shape: "◔", Class: colourWarn},
	"diff.RESOLVED":         {Shape: "✓", Class: colourGood},
	"diff.WRITTEN_OFF":      {Shape: "○", Class: colourIdle},

	"ship.OWED":     {Shape: "◔", Class: colourWarn},
	"ship.DUE":      {Shape: "◑", Class: colourInfo},
	"ship.REPORTED": {Shape: "✓", Class: colourGood},
	"ship.REFUSED":  {Shape: "▲", Class: colourBad},
	"ship.VOID":     {Shape: "○", Class: colourIdle},

	"sku.ok":        {Shape: "●", Class: colourGood},
	"sku.low":       {Shape: "▲", Class: colourWarn},
	"sku.out":       {Shape: "▲", Class: colourBad},
	"sku.unlimited": {Shape: "○", Class: colourIdle},

	"light.pass":    {Shape: "●", Class: colourGood},
	"light.warn":    {Shape: "▲", Class: colourWarn},
	"light.fail":    {Shape: "✗", Class: colourBad},
	"light.ok":      {Shape: "●", Class: colourGood},
	"light.unknown": {Shape: "○", Class: colourIdle},

	"bulk.running":    {Shape: "◔", Class: colourInfo},
	"bulk.stopped":    {Shape: "■", Class: colourWarn},
	"bulk.done":       {Shape: "✓", Class: colourGood},
	"bulkrow.waiting": {Shape: "○", Class: colourIdle},
	"bulkrow.doing":   {Shape: "◔", Class: colourInfo},
	"bulkrow.done":    {Shape: "✓", Class: colourGood},
	"bulkrow.changed": {Shape: "↺", Class: colourWarn},
	"bulkrow.failed":  {Shape: "▲", Class: colourBad},

	"task.failing": {Shape: "◑", Class: colourWarn},
	"task.dead":    {Shape: "▲", Class: colourBad},

	"ended.done":    {Shape: "✓", Class: colourGood},
	"ended.refused": {Shape: "○", Class: colourIdle},
	"ended.failed":  {Shape: "▲", Class: colourBad},

	"sent.waiting":   {Shape: "◔", Class: colourInfo},
	"sent.failing":   {Shape: "◑", Class: colourWarn},
	"sent.delivered": {Shape: "✓", Class: colourGood},
	"sent.given_up":  {Shape: "▲", Class: colourBad},

	"hook.on":       {Shape: "●", Class: colourGood},
	"hook.disabled": {Shape: "○", Class: colourIdle},
	"hook.failing":  {Shape: "▲", Class: colourBad},

	"person.active":   {Shape: "●", Class: colourGood},
	"person.disabled": {Shape: "○", Class: colourIdle},
}

// look shows a state of a kind of thing. One that has no row is shown by its name.
func (l lang) look(kind string, state any) look {
	name := fmt.Sprint(state)
	known, ok := looks[kind+"."+name]
	if !ok {
		return look{name, "◇", colourIdle}
	}
	known.Word = words["st."+kind+"."+name][l]
	return known
}

// says is a sentence of the domain, in the language of the page.
func (l lang) says(text string) string {
	if l == en || text == "" {
		return text
	}
	return orderhttp.InChinese(text)
}

// event says an event of a timeline; one that has no words is shown by its name.
func (l lang) event(name string) string {
	if w, known := words["event."+name]; known {
		return w[l]
	}
	return name
}

// actor says who did something.
func (l lang) actor(typ any) string {
	if w, known := words["actor."+fmt.Sprint(typ)]; known {
		return w[l]
	}
	return fmt.Sprint(typ)
}
