package scheduler

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// Anybody with access to Redis, and every older or newer program of ours, can put a task into the queue: what is no
// task must be poison, which is archived at once, and what is one must name what it is about.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{`{"v":1,"order_no":"01JD4Z0000000000000000000A","version":3}`,
		`{"v":1,"out_refund_no":"R42","version":0}`,
		`{"v":2,"order_no":"x","new":{"a":[1]}}`,
		`{"v":2,"slot":5,"from":{"at":1,"order_no":"a"},"to":{"at":2,"order_no":"b"}}`,
		`{"v":0,"order_no":"x"}`, `{"v":1}`, `{"v":1e99,"order_no":"x"}`, `null`, `[]`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePayload(b)
		if err != nil {
			if !errors.Is(err, errPoison) || len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q", err)
			}
			return
		}
		if p.key() == "" && p.Slot <= 0 || p.V < 1 {
			t.Fatalf("%q is taken for %+v", b, p)
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := decodePayload(again); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%+v is written %s and read %+v, %v", p, again, q, err)
		}
	})
}
