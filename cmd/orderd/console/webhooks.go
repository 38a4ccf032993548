package console

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/migrations/bounds"
	"orderd/order/orderhttp"
	"orderd/order/webhooks"
	"orderd/payment/feed"
)

// Webhooks is what operators need of webhooks; *webhooks.Service implements it, and documents
// its errors.
type Webhooks interface {
	Add(ctx context.Context, p webhooks.Put) (e webhooks.Endpoint, secret string, err error)
	Change(ctx context.Context, id string, p webhooks.Put) (webhooks.Endpoint, error)
	Rotate(ctx context.Context, id, why, seen string) (e webhooks.Endpoint, secret string, err error)
	Disable(ctx context.Context, id, why string) (webhooks.Endpoint, error)
	Enable(ctx context.Context, id, why string) (webhooks.Endpoint, error)
	Remove(ctx context.Context, id, why string) error
	List(ctx context.Context) ([]webhooks.Endpoint, error)
	Find(ctx context.Context, id string) (webhooks.Endpoint, error)
	Test(ctx context.Context, id string) (webhooks.Tried, error)
	Deliveries(ctx context.Context, id string, before int64, limit int) ([]webhooks.Delivery, error)
	// OfOrder gives what was told of an order.
	OfOrder(ctx context.Context, orderNo string, limit int) ([]webhooks.Delivery, error)
	Redeliver(ctx context.Context, id string, event int64, why string) error
	RedeliverSince(ctx context.Context, id string, at time.Time, why string) (int64, error)
	Backlog(ctx context.Context) (webhooks.Backlog, error)
}

// webhookRoutes are the administrators': whoever is told what happens is a matter of trust.
func (c *console) webhookRoutes() []route {
	const one = "/admin/v1/webhooks/:id"
	return []route{
		{http.MethodGet, "/ui/webhooks", Admin, c.webhooksPage},
		{http.MethodGet, "/ui/webhooks/:id", Admin, c.webhookPage},
		{http.MethodGet, "/admin/v1/webhooks", Admin, c.listWebhooks},
		{http.MethodPost, "/admin/v1/webhooks", Admin, c.addWebhook},
		{http.MethodGet, one, Admin, c.getWebhook},
		{http.MethodPut, one, Admin, c.changeWebhook},
		{http.MethodDelete, one, Admin, c.removeWebhook},
		{http.MethodPost, one + "/rotate", Admin, c.rotateWebhook},
		{http.MethodPost, one + "/enable", Admin, c.enableWebhook},
		{http.MethodPost, one + "/disable", Admin, c.disableWebhook},
		{http.MethodPost, one + "/test", Admin, c.testWebhook},
		{http.MethodGet, one + "/deliveries", Admin, c.listDeliveries},
		{http.MethodPost, one + "/redeliver", Admin, c.redeliver},
	}
}

// webhookView is an endpoint as operators see it. Secret is there when it was just made, and
// never again.
type webhookView struct {
	ID              string      `json:"id"`
	URL             string      `json:"url"`
	Note            string      `json:"note"`
	Types           []feed.Type `json:"types"` // [] for all
	State           string      `json:"state"` // on, disabled
	Why             string      `json:"why,omitempty"`
	FailingSince    *time.Time  `json:"failing_since"`
	TwoSecretsUntil *time.Time  `json:"two_secrets_until"`
	SecretVersion   string      `json:"secret_version"`
	CreatedBy       string      `json:"created_by"`
	CreatedAt       time.Time   `json:"created_at"`
	Secret          string      `json:"secret,omitempty"`
}

func viewWebhook(e *webhooks.Endpoint) webhookView {
	return webhookView{ID: e.ID, URL: e.URL, Note: e.Note, Types: append([]feed.Type{}, e.Types...),
		State: string(e.State), Why: e.Why, FailingSince: optional(e.FailingSince),
		TwoSecretsUntil: optional(e.TwoSecretsUntil), SecretVersion: e.SecretVersion(), CreatedBy: e.CreatedBy,
		CreatedAt: e.CreatedAt}
}

// deliveryView is a delivery as operators see it.
type deliveryView struct {
	EventID     int64      `json:"event_id"`
	MessageID   string     `json:"message_id"` // the header webhook-id
	Type        feed.Type  `json:"type"`
	At          time.Time  `json:"at"`
	OrderNo     string     `json:"order_no,omitempty"`
	Version     int64      `json:"version,omitempty"`
	State       string     `json:"state,omitempty"`
	Tries       int64      `json:"tries"`
	DeliveredAt *time.Time `json:"delivered_at"`
	DueAt       *time.Time `json:"due_at"` // null: delivered, or given up
	TriedAt     *time.Time `json:"tried_at"`
	Status      int        `json:"status"`
	Problem     string     `json:"problem,omitempty"`
	TookMS      int64      `json:"took_ms"`
	Answer      string     `json:"answer,omitempty"` // its beginning, without secrets
}

func viewDelivery(d *webhooks.Delivery) deliveryView {
	e := &d.Event
	return deliveryView{EventID: e.ID, MessageID: feed.MessageID(e.ID), Type: e.Type, At: e.At, OrderNo: e.OrderNo,
		Version: e.Version, State: e.State, Tries: d.Tries, DeliveredAt: optional(d.Delivered),
		DueAt: optional(d.DueAt), TriedAt: optional(d.TriedAt), Status: d.Status, Problem: d.Problem,
		TookMS: d.Took.Milliseconds(), Answer: d.Answer}
}

// webhookError gives the errors of webhooks their codes.
func webhookError(err error) error {
	var bad *webhooks.InvalidError
	var there *webhooks.ThereError
	var rotated *webhooks.RotatedError
	switch {
	case errors.As(err, &there):
		return &orderhttp.Failure{Code: orderhttp.CodeWebhookChanged, Text: orderhttp.Text{En: err.Error(),
			Zh: "该地址已有 webhook " + there.ID + "，不会重复通知；如需新的密钥，请在其页面轮换。"}}
	case errors.As(err, &rotated):
		return &orderhttp.Failure{Code: orderhttp.CodeWebhookChanged, Text: orderhttp.Text{En: err.Error(),
			Zh: rotatedZh(rotated)}}
	case errors.As(err, &bad):
		return invalid("#/"+bad.Field, bad.Code, bad.Detail)
	case errors.Is(err, webhooks.ErrNotFound):
		return fail(orderhttp.CodeNotFound, "There is no such webhook; GET /admin/v1/webhooks lists them.")
	case errors.Is(err, webhooks.ErrNoEvent):
		return invalid("#/event_id", "UNKNOWN", webhooks.ErrNoEvent.Error())
	case errors.Is(err, webhooks.ErrTooMany), errors.Is(err, webhooks.ErrOff):
		return invalid("#/url", "LIMIT", err.Error())
	}
	return err
}

// rotatedZh is a RotatedError in Chinese.
func rotatedZh(r *webhooks.RotatedError) string {
	if r.Full {
		return "已有三个密钥同时签名，到 " + clock(r.Until) + " 为止不能再轮换：请让接收方改用最新的密钥，或等到那时。"
	}
	return "密钥已在 " + clock(r.At) + " 更换，最近的操作（操作人：原因）为“" + r.Why + "”。原密钥到 " + clock(r.Until) +
		" 前仍然签名；只有没人拿到新密钥时，才需要再轮换一次。"
}

// webhookBody is what POST and PUT take.
type webhookBody struct {
	URL    string      `json:"url"`
	Note   string      `json:"note"`
	Types  []feed.Type `json:"types"`
	Reason string      `json:"reason"`
}

// put reads the body of a change.
func (b *webhookBody) put(ctx echo.Context) (webhooks.Put, error) {
	err := decodeReasoned(ctx, b, &b.Reason)
	return webhooks.Put{URL: b.URL, Note: b.Note, Types: b.Types, By: operator(ctx), Why: whyOf(ctx, b.Reason)}, err
}

// reasoned reads a body that has a reason alone.
func reasoned(ctx echo.Context) (reason string, err error) {
	var body struct {
		Reason string `json:"reason"`
	}
	err = decodeReasoned(ctx, &body, &body.Reason)
	return body.Reason, err
}

// whyOf is who did it, and the reason, as the endpoint keeps it.
func whyOf(ctx echo.Context, reason string) string { return operator(ctx) + ": " + reason }

// listWebhooks is GET /admin/v1/webhooks.
func (c *console) listWebhooks(ctx echo.Context) error {
	all, err := c.Webhooks.List(ctx.Request().Context())
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(all, "", viewWebhook))
}

// getWebhook is GET /admin/v1/webhooks/:id.
func (c *console) getWebhook(ctx echo.Context) error {
	e, err := c.Webhooks.Find(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return webhookError(err)
	}
	return ctx.JSON(http.StatusOK, viewWebhook(&e))
}

// addWebhook is POST /admin/v1/webhooks, 201: the one answer that has the secret.
func (c *console) addWebhook(ctx echo.Context) error {
	var body webhookBody
	p, err := body.put(ctx)
	if err != nil {
		return err
	}
	e, secret, err := c.Webhooks.Add(ctx.Request().Context(), p)
	return c.answerWebhook(ctx, http.StatusCreated, "added", body.Reason, &e, secret, err)
}

// changeWebhook is PUT /admin/v1/webhooks/:id.
func (c *console) changeWebhook(ctx echo.Context) error {
	var body webhookBody
	p, err := body.put(ctx)
	if err != nil {
		return err
	}
	e, err := c.Webhooks.Change(ctx.Request().Context(), ctx.Param("id"), p)
	return c.answerWebhook(ctx, http.StatusOK, "changed", body.Reason, &e, "", err)
}

// removeWebhook is DELETE /admin/v1/webhooks/:id {"reason"}, 204.
func (c *console) removeWebhook(ctx echo.Context) error {
	reason, err := reasoned(ctx)
	if err != nil {
		return err
	}
	if err := c.Webhooks.Remove(ctx.Request().Context(), ctx.Param("id"), whyOf(ctx, reason)); err != nil {
		return webhookError(err)
	}
	c.Log.Info("webhook removed", "id", ctx.Param("id"), "by", operator(ctx), "reason", reason)
	return ctx.NoContent(http.StatusNoContent)
}

// rotateWebhook is POST /admin/v1/webhooks/:id/rotate {"secret_version", "reason"}: a new secret, in this answer
// alone.
func (c *console) rotateWebhook(ctx echo.Context) error {
	var body struct {
		SecretVersion string `json:"secret_version"`
		Reason        string `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	e, secret, err := c.Webhooks.Rotate(ctx.Request().Context(), ctx.Param("id"), whyOf(ctx, body.Reason),
		body.SecretVersion)
	return c.answerWebhook(ctx, http.StatusOK, "rotated", body.Reason, &e, secret, err)
}

// enableWebhook is POST /admin/v1/webhooks/:id/enable {"reason"}.
func (c *console) enableWebhook(ctx echo.Context) error {
	reason, err := reasoned(ctx)
	if err != nil {
		return err
	}
	e, err := c.Webhooks.Enable(ctx.Request().Context(), ctx.Param("id"), whyOf(ctx, reason))
	return c.answerWebhook(ctx, http.StatusOK, "enabled", reason, &e, "", err)
}

// disableWebhook is POST /admin/v1/webhooks/:id/disable {"reason"}.
func (c *console) disableWebhook(ctx echo.Context) error {
	reason, err := reasoned(ctx)
	if err != nil {
		return err
	}
	e, err := c.Webhooks.Disable(ctx.Request().Context(), ctx.Param("id"), whyOf(ctx, reason))
	return c.answerWebhook(ctx, http.StatusOK, "disabled", reason, &e, "", err)
}

// answerWebhook logs who changed what and why, and answers with the endpoint as it is then.
func (c *console) answerWebhook(ctx echo.Context, status int, did, reason string, e *webhooks.Endpoint, secret string,
	err error) error {
	if err != nil {
		return webhookError(err)
	}
	c.Log.Info("webhook "+did, "id", e.ID, "by", operator(ctx), "reason", reason)
	view := viewWebhook(e)
	view.Secret = secret
	return ctx.JSON(status, view)
}

// testWebhook is POST /admin/v1/webhooks/:id/test: a message of type webhook.test, now.
func (c *console) testWebhook(ctx echo.Context) error {
	if err := orderhttp.NoBody(ctx); err != nil {
		return err
	}
	tried, err := c.Webhooks.Test(ctx.Request().Context(), ctx.Param("id"))
	if err != nil {
		return webhookError(err)
	}
	return ctx.JSON(http.StatusOK, map[string]any{"taken": tried.Taken, "status": tried.Status,
		"problem": tried.Problem})
}

// listDeliveries is GET /admin/v1/webhooks/:id/deliveries, the newest events first. A cursor
// is the event_id of the last one seen.
func (c *console) listDeliveries(ctx echo.Context) error {
	q := query{Context: ctx}
	limit := q.limit()
	if err := q.err(); err != nil {
		return err
	}
	rows, next, err := c.deliveries(ctx, limit)
	if err != nil {
		return err
	}
	return ctx.JSON(http.StatusOK, orderhttp.PageOf(rows, next, viewDelivery))
}

// deliveries gives a page of the deliveries to an endpoint, and the cursor of the next.
func (c *console) deliveries(ctx echo.Context, limit int) (rows []webhooks.Delivery, next string, err error) {
	before := int64(0)
	if text := ctx.QueryParam("cursor"); text != "" {
		if before, err = strconv.ParseInt(text, 10, 64); err != nil || before < 1 {
			return nil, "", bounds.ErrCursor
		}
	}
	rows, err = c.Webhooks.Deliveries(ctx.Request().Context(), ctx.Param("id"), before, limit)
	if err != nil {
		return nil, "", webhookError(err)
	}
	if len(rows) == limit {
		next = strconv.FormatInt(rows[len(rows)-1].Event.ID, 10)
	}
	return rows, next, nil
}

// redeliver is POST /admin/v1/webhooks/:id/redeliver, 202: one event by event_id, or all
// since a time that it wants; with a reason.
func (c *console) redeliver(ctx echo.Context) error {
	var body struct {
		EventID int64      `json:"event_id"`
		Since   *time.Time `json:"since"`
		Reason  string     `json:"reason"`
	}
	if err := decodeReasoned(ctx, &body, &body.Reason); err != nil {
		return err
	}
	n, err := int64(1), error(nil)
	switch {
	case (body.EventID > 0) == (body.Since != nil):
		return invalid("#/event_id", bounds.CodeRequired, "give event_id for one event, or since for all of a time")
	case body.Since != nil:
		n, err = c.Webhooks.RedeliverSince(ctx.Request().Context(), ctx.Param("id"), *body.Since,
			whyOf(ctx, body.Reason))
	default:
		err = c.Webhooks.Redeliver(ctx.Request().Context(), ctx.Param("id"), body.EventID, whyOf(ctx, body.Reason))
	}
	if err != nil {
		return webhookError(err)
	}
	c.Log.Info("webhook sends again", "id", ctx.Param("id"), "events", n, "by", operator(ctx), "reason",
		body.Reason)
	return ctx.JSON(http.StatusAccepted, map[string]int64{"events": n})
}
