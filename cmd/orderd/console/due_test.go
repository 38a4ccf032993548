package console

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"orderd/scheduler"
)

// redisTasks has the seconds that have a wake-up in Redis, or is away.
type redisTasks struct {
	set map[int64]bool
	err error
}

func (*redisTasks) Depth() (scheduler.Depth, error) { return scheduler.Depth{}, nil }

func (*redisTasks) Workers() ([]scheduler.WorkerProcess, error) { return nil, nil }

func (r *redisTasks) Scheduled(time.Time) (map[int64]bool, error) { return r.set, r.err }

// A storm whose wake-ups Redis has lost looks like any other until it is late.
func TestTimeoutsThatRedisHasLostAreShown(t *testing.T) {
	d := newDesk(t)
	d.SKU(t, "mug", 10)
	d.Clock.Set(d.Clock.Now().Truncate(time.Minute).Add(time.Second))
	late := d.PlaceOne(t, "late", "mug", 1)
	d.Clock.Set(late.DueAt.Add(time.Minute))
	first := d.PlaceOne(t, "first", "mug", 1)
	d.PlaceOne(t, "again", "mug", 1)
	d.Clock.Advance(time.Second)
	d.PlaceOne(t, "lost", "mug", 1)
	redis := &redisTasks{set: map[int64]bool{first.DueAt.Unix(): true, first.DueAt.Unix() + 2: true}}
	c := &console{Options: Options{Orders: d.Service, Tasks: redis, Now: d.Clock.Now,
		Log: slog.New(slog.DiscardHandler)}}
	ask := func(query string) dueView {
		t.Helper()
		w := httptest.NewRecorder()
		if err := c.listDue(echo.New().NewContext(httptest.NewRequest("GET", "/?"+query, nil), w)); err != nil {
			t.Fatal(err)
		}
		var v dueView
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := ask("")
	at := v.Data[int(first.DueAt.Sub(v.Data[0].From)/time.Minute)]
	if v.Overdue != 1 || v.Missing == nil || *v.Missing != 1 || at.DueInDB != 3 || *at.Scheduled != 2 ||
		len(v.Data) != 61 {
		t.Errorf("%d buckets, %+v, %+v", len(v.Data), v, at)
	}
	if v = ask("bucket=10m&horizon=10m"); len(v.Data) != 2 {
		t.Errorf("%+v", v)
	}
	redis.set, redis.err = nil, errors.New("away")
	if v = ask("bucket=1h"); v.Missing != nil || v.Data[0].Scheduled != nil || v.Overdue != 1 {
		t.Errorf("without Redis: %+v", v)
	}
	for _, query := range []string{"bucket=x", "bucket=0s", "bucket=1500ms", "bucket=-1m", "horizon=7h", "horizon=1s",
		"bucket=1s&horizon=6h", "bucket=1m&bucket=2m", "by=x"} {
		want(t, d.ask(Viewer, "GET", "/admin/v1/timeouts/due?"+query, ""), 422, "VALIDATION_FAILED")
	}
	want(t, d.ask(Viewer, "GET", "/admin/v1/timeouts/due", ""), 200, `"missing":null`)
}

// How well orders are closed on time is one sentence: whoever reads quantiles only cannot say how many were late.
func TestTimeoutsSayHowManyWereInTime(t *testing.T) {
	d := newDesk(t)
	if page := d.browse(Viewer, "/ui/timeouts").Body.String(); strings.Contains(page, "处理到期订单") {
		t.Error("a process that has taken none says how many were in time")
	}
	for _, late := range []time.Duration{0, time.Second, 1100 * time.Millisecond} {
		d.metrics.Lateness(late)
	}
	want(t, d.browse(Viewer, "/ui/timeouts"), 200, "处理到期订单 3 单，其中 2 单（66.66 %）准时，即到期后 1 秒内开始关单。 1 单晚于 1 秒。")
	for part, text := range map[uint64]string{99_999: "99.99 %", 100_000: "100 %", 0: "0 %"} {
		if got := percentText(part, 100_000); got != text {
			t.Errorf("%d of 100,000: %s", part, got)
		}
	}
}
