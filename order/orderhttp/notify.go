package orderhttp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/migrations/sqldb/failpoint"
	"orderd/order"
	"orderd/payment"
)

// Notifications checks the signature of what WeChat Pay sends and reads it;
// *wechat.Gateway implements it. It gives nothing of a body whose signature is wrong:
// whoever finds the public address of this listener can send anything to it.
type Notifications interface {
	// ParseNotification gives a notification of a payment only if WeChat Pay signed it.
	// Errors: payment.ErrProbe, ErrBadSignature, ErrMalformed.
	ParseNotification(h http.Header, body []byte) (payment.Notification, error)
	// ParseRefund is the same for refunds.
	ParseRefund(h http.Header, body []byte) (payment.RefundNotification, error)
	// IsV2Refund reports a notification of a refund that was made on the merchant platform,
	// in the form of WeChat Pay's older API. It is not signed and proves nothing.
	IsV2Refund(body []byte) bool
	// IsEcho reports a body that calls itself the callback of WeChat Pay's test of
	// signatures. It proves nothing: ParseEcho does.
	IsEcho(body []byte) bool
	// ParseEcho is ParseNotification for such a callback. With an ErrMalformed the Echo has
	// its ID when WeChat Pay signed it and it does not decrypt.
	ParseEcho(h http.Header, body []byte) (payment.Echo, error)
}

// Echoes remembers the callbacks of WeChat Pay's test of signatures, for doctor --live;
// *echoes.Store implements it.
type Echoes interface {
	Heard(ctx context.Context, e payment.Echo) error
}

// Settler records what WeChat Pay says of payments and refunds; *order.Service implements
// it.
type Settler interface {
	// Settle records a payment, once however often it is called. Its error is
	// order.ErrNotPaid for a trade that is none.
	Settle(ctx context.Context, trade payment.Trade, cause order.Cause) (order.Settlement, error)
	// SettleRefund records how far a refund is, likewise.
	SettleRefund(ctx context.Context, refund payment.Refund, cause order.Cause) (order.RefundSettled, error)
}

// NotifyOptions shape WeChat Pay's listener. Notifications, Settler, Echoes and Now are
// required.
type NotifyOptions struct {
	Notifications Notifications
	Settler       Settler
	Echoes        Echoes
	// Now measures durations and stamps request ids. What is too old is refused by
	// Notifications, whose clock is its own.
	Now     func() time.Time
	Log     *slog.Logger // nil: silent
	Observe Observer     // nil: nothing is counted
	// AccessLog logs every request.
	AccessLog bool
	// Parallel is how many notifications may be worked on at once; more wait, within
	// notifyBudget. 0: 256, the members of two full group commits, one for each
	// lane, beyond which more at once are no faster.
	Parallel int
}

// Bounds of notifications.
const (
	// notifyBudget is less than the five seconds that WeChat Pay waits for an answer (its
	// documentation of payment notifications says so), by a second for the network. Past
	// it the answer is 500, and WeChat Pay repeats the notification.
	notifyBudget = 4 * time.Second
	// defaultParallel is the default of NotifyOptions.Parallel.
	defaultParallel = 256
)

// Where notifications arrive. Payments and refunds have an address each because WeChat
// Pay allows no query in a notify_url.
const (
	// PathNotifyPayment is the path of the notify_url of a prepay.
	PathNotifyPayment = "/wechat/v3/notify/payment"
	// PathNotifyRefund is the path of the notify_url of a refund.
	PathNotifyRefund = "/wechat/v3/notify/refund"
)

// The outcomes of a notification that are not a settlement.
const (
	// outcomeProbe is WeChat Pay's own test with a wrong signature: no alarm may rise.
	outcomeProbe = "probe"
	// outcomeUnsigned is a wrong signature: a forger.
	outcomeUnsigned = "unsigned"
	// outcomeUnknownKey is signed with a key that we lack, or by a forger who names one as
	// WeChat Pay names its own.
	outcomeUnknownKey = "unknown_key"
	// outcomeMalformed is what cannot be read, or is signed and tells of no payment.
	outcomeMalformed = "malformed"
	// outcomeV2 is a refund made on the merchant platform, told in the older API's form.
	outcomeV2 = "v2_refund"
	// outcomeEcho is WeChat Pay's test of signatures, which this merchant has asked for.
	outcomeEcho = "echo"
	// outcomeTooLarge is more than maxBody.
	outcomeTooLarge = "too_large"
	// outcomeFailed is a failure of ours, mostly of the database: WeChat Pay repeats it.
	outcomeFailed = "failed"
)

// notify holds what the handlers share.
type notify struct {
	NotifyOptions
	log *slog.Logger
	// slots has room for Parallel: a handler puts one in before it works, so that a burst
	// of notifications waits here and not in the connection pool of the database.
	slots chan struct{}
}

// NewNotify gives the listener that WeChat Pay calls: notifications and a health check,
// nothing else. There is no limit by address, because WeChat Pay calls from few
// addresses; what is worked on at once is bounded instead.
func NewNotify(o NotifyOptions) (*echo.Echo, error) {
	if o.Notifications == nil || o.Settler == nil || o.Echoes == nil || o.Now == nil {
		return nil, errors.New("orderhttp: NotifyOptions needs Notifications, Settler, Echoes and Now")
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	n := &notify{NotifyOptions: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		slots: make(chan struct{}, o.Parallel)}
	e := newEcho(EdgeOptions{Now: o.Now, Log: o.Log, Observe: o.Observe, Access: o.AccessLog,
		WriteError: writeFail})
	e.POST(PathNotifyPayment, n.handle("payment", n.payment))
	e.POST(PathNotifyRefund, n.handle("refund", n.refund))
	e.GET("/healthz", Quiet(healthz))
	return e, nil
}

// settles reads one kind of notification and records it. The outcome is for the Observer;
// an error of reading is one of package payment's.
type settles func(ctx context.Context, c echo.Context, body []byte) (outcome string, err error)

// handle answers 204 once a notification is committed, and never before: WeChat Pay
// repeats what was not acknowledged. The work goes on when WeChat Pay hangs up, because
// the payment was made either way.
func (n *notify) handle(kind string, settle settles) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := n.Now()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), notifyBudget)
		defer cancel()
		outcome, err := n.take(ctx, c, settle)
		if n.Observe != nil {
			n.Observe.Notified(kind, outcome, n.Now().Sub(start))
		}
		if err != nil {
			return err
		}
		if outcome == outcomeV2 {
			return c.Blob(http.StatusOK, echo.MIMETextXML, []byte(v2Taken))
		}
		return c.NoContent(http.StatusNoContent)
	}
}

// v2Taken is what the older API wants to hear, else it repeats for a day (WeChat's document
// of the refund notification, wiki/doc/api/app/app.php?chapter=9_16).
const v2Taken = "<xml><return_code><![CDATA[SUCCESS]]></return_code><return_msg><![CDATA[OK]]></return_msg></xml>"

// take reads the body, at most maxBody of it, waits for a slot, and lets settle do the
// rest. The signature is checked with the slot held: it costs more than anything before
// it.
func (n *notify) take(ctx context.Context, c echo.Context, settle settles) (outcome string, err error) {
	r := c.Request()
	if r.ContentLength > maxBody {
		return outcomeTooLarge, &Failure{Code: CodeBodyTooLarge}
	}
	body, err := readAll(http.MaxBytesReader(c.Response(), r.Body, maxBody), r.ContentLength)
	if f := (*Failure)(nil); errors.As(err, &f) && f.Code == CodeBodyTooLarge {
		return outcomeTooLarge, err
	} else if err != nil {
		return outcomeMalformed, err
	}
	// The slot is taken after the body has been read: a slow sender must not hold one.
	select {
	case n.slots <- struct{}{}:
		defer func() { <-n.slots }()
	case <-ctx.Done():
		return outcomeFailed, ctx.Err()
	}
	// Before any signature, which it has not: it changes nothing but a counter.
	if n.Notifications.IsV2Refund(body) {
		n.log.Info("a refund was made on the merchant platform; the day's bill will book it",
			IDs(c)...)
		return outcomeV2, nil
	}
	if n.Notifications.IsEcho(body) {
		settle = n.echo
	}
	return settle(ctx, c, body)
}

// unread gives the outcome of a notification that could not be read. Only the three
// errors that Notifications promises are passed on: the text of another one may hold keys
// or personal data.
func (n *notify) unread(c echo.Context, err error, length int) (string, error) {
	var unknown *payment.UnknownKeyError
	switch {
	case errors.Is(err, payment.ErrProbe): // WeChat tests that we look at signatures: no alarm
		return outcomeProbe, err
	case errors.As(err, &unknown):
		n.refused(c, "notification refused: "+unknown.Error(), length)
		return outcomeUnknownKey, err
	case errors.Is(err, payment.ErrBadSignature):
		n.refused(c, "unsigned notification refused: "+err.Error(), length)
		return outcomeUnsigned, err
	case errors.Is(err, payment.ErrMalformed):
		n.refused(c, "malformed notification refused", length)
		return outcomeMalformed, err
	}
	// not one of the three: its text may hold anything and is not passed on
	return outcomeFailed, fmt.Errorf("reading a notification failed with a %T", err)
}

// notified is the cause, in the timeline, of what a notification changes: its id, or ours
// when that is not well formed.
func notified(c echo.Context, id string) order.Cause {
	if !bounds.NotificationID.Fits(id) {
		id = CauseID(c)
	}
	return order.Cause{Actor: order.Actor{Type: order.ActorWeChat}, Type: "notification", ID: id}
}

// payment records the payment that a notification tells of. A notification that is signed
// and yet no payment is answered 400: repeating it would not help, and WeChat Pay ends
// its repeats by itself.
func (n *notify) payment(ctx context.Context, c echo.Context, body []byte) (string, error) {
	got, err := n.Notifications.ParseNotification(c.Request().Header, body)
	if err != nil {
		return n.unread(c, err, len(body))
	}
	// Tests kill the process here and below: before and after the commit, with no answer
	// sent.
	failpoint.Hit("notify.verified")
	s, err := n.Settler.Settle(ctx, got.Trade, notified(c, got.ID))
	switch {
	case errors.Is(err, payment.ErrMalformed), errors.Is(err, order.ErrNotPaid):
		n.refused(c, "notification without a payment refused", 0)
		return outcomeMalformed, err
	case err != nil:
		return outcomeFailed, err
	}
	failpoint.Hit("notify.committed")
	return string(s.Settled), nil
}

// refund records how far the refund is that a notification tells of.
func (n *notify) refund(ctx context.Context, c echo.Context, body []byte) (string, error) {
	got, err := n.Notifications.ParseRefund(c.Request().Header, body)
	if err != nil {
		return n.unread(c, err, len(body))
	}
	s, err := n.Settler.SettleRefund(ctx, got.Refund, notified(c, got.ID))
	switch {
	case errors.Is(err, payment.ErrMalformed):
		n.refused(c, "notification without a refund refused", 0)
		return outcomeMalformed, err
	case err != nil:
		return outcomeFailed, err
	}
	return string(s.Outcome), nil
}

// echo records that the callback of a test came, at whichever address it was sent to. One
// that does not decrypt is recorded too, before it is refused: doctor then knows why.
func (n *notify) echo(ctx context.Context, c echo.Context, body []byte) (string, error) {
	got, err := n.Notifications.ParseEcho(c.Request().Header, body)
	if err == nil || got.ID != "" {
		if err := n.Echoes.Heard(ctx, got); err != nil {
			return outcomeFailed, err
		}
	}
	if err != nil {
		return n.unread(c, err, len(body))
	}
	return outcomeEcho, nil
}

// refused logs that something came which is no notification of WeChat Pay. Of the body
// only the length is logged: it may hold anything.
func (n *notify) refused(c echo.Context, what string, length int) {
	n.log.Warn(what, append(IDs(c), "length", length)...)
}

// writeFail answers in the form that WeChat Pay documents for a notification that was not
// accepted. The message is one of a few words of ours and says nothing that a forger
// could use.
func writeFail(c echo.Context, err error) {
	status, message := failStatus(err)
	body, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{"FAIL", message})
	if err != nil {
		panic(err) // two strings
	}
	// An error means that WeChat Pay hung up; it repeats the notification.
	_ = c.JSONBlob(status, body) // an error: WeChat Pay hung up, and repeats the notification
}

// failStatus gives the status of an error and the word of the answer. Everything that is
// not the sender's fault is 500: WeChat Pay then repeats the notification.
func failStatus(err error) (int, string) {
	var failure *Failure
	var router *echo.HTTPError
	switch {
	case errors.Is(err, payment.ErrBadSignature): // probes match it too
		return http.StatusUnauthorized, "signature"
	case errors.Is(err, payment.ErrMalformed), errors.Is(err, order.ErrNotPaid):
		return http.StatusBadRequest, "malformed"
	case errors.As(err, &failure):
		k := kindOf(failure.Code)
		return k.status, k.title
	case errors.As(err, &router):
		return router.Code, "no such address"
	}
	return http.StatusInternalServerError, "try again"
}
