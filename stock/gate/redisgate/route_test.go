package redisgate_test

import (
	"fmt"
	"slices"
	"testing"

	"orderd/stock/gate/redisgate"
)

// Two processes that read the open buckets in another order must send a customer to the same one, or a repeat does not
// find its ticket and the limit counts twice.
func TestRouteDependsOnNumbersAlone(t *testing.T) {
	open := []int64{0, 1, 2, 5, 7}
	want := redisgate.Route("ann", open)
	if !slices.Equal(open, []int64{0, 1, 2, 5, 7}) {
		t.Errorf("the caller's list was changed: %v", open)
	}
	for range 4 {
		open = append(open[1:], open[0])
		if got := redisgate.Route("ann", open); !slices.Equal(got, want) {
			t.Errorf("%v: %v, in another order of the buckets %v", open, got, want)
		}
	}
	if slices.Sort(want); !slices.Equal(want, []int64{0, 1, 2, 5, 7}) {
		t.Errorf("not every bucket once: %v", want)
	}
	if got := redisgate.Route("ann", nil); len(got) != 0 {
		t.Errorf("no bucket is open, and %v are routed to", got)
	}
}

// Processes of different versions run side by side: a hash that changes splits every customer over two buckets.
func TestRouteStaysWhatItIs(t *testing.T) {
	for customer, want := range map[string][]int64{"": {0, 2, 3, 1}, "ann": {0, 1, 2, 3}, "客户": {0, 3, 1, 2}} {
		if got := redisgate.Route(customer, []int64{0, 1, 2, 3}); !slices.Equal(got, want) {
			t.Errorf("%q: %v, was %v", customer, got, want)
		}
	}
}

// A bucket that holds twice the customers of the others is empty first, and its buyers ask three buckets.
func TestRouteSpreadsEvenly(t *testing.T) {
	const buckets, each = 16, 2000
	open, first := numbers(buckets), map[int64]int{}
	for i := range buckets * each {
		first[redisgate.Route(fmt.Sprint("customer-", i), open)[0]]++
	}
	for no, n := range first {
		if n < each*9/10 || n > each*11/10 {
			t.Errorf("bucket %d has %d customers of %d", no, n, each)
		}
	}
	if len(first) != buckets {
		t.Errorf("%d of %d buckets have customers", len(first), buckets)
	}
}

// When a bucket comes, only customers that go to the new one may move: all others find their tickets where they were.
func TestRouteMovesNobodyElse(t *testing.T) {
	moved := 0
	const all = 4000
	for i := range all {
		customer := fmt.Sprint("customer-", i)
		before, after := redisgate.Route(customer, numbers(7)), redisgate.Route(customer, numbers(8))
		if after[0] != before[0] {
			moved++
			if after[0] != 7 {
				t.Fatalf("%s went from %d to %d", customer, before[0], after[0])
			}
		}
		rest := slices.DeleteFunc(after, func(no int64) bool { return no == 7 })
		if !slices.Equal(rest, before) {
			t.Fatalf("%s: the others are in another order: %v, before %v", customer, rest, before)
		}
	}
	if moved < all/8*8/10 || moved > all/8*12/10 {
		t.Errorf("%d of %d customers moved, an eighth was to", moved, all)
	}
}

func numbers(n int64) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(i)
	}
	return all
}

// ("ab", "c") and ("a", "bc") are two customers: if they had one Key, one would be told of the other's order.
func TestKeyOfKeepsCustomersApart(t *testing.T) {
	seen := map[redisgate.Key]string{}
	for _, pair := range [][2]string{{"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}, {"ab", "d"}} {
		key := redisgate.KeyOf(pair[0], pair[1])
		if other, twice := seen[key]; twice {
			t.Errorf("%q has the key of %s", pair, other)
		}
		seen[key] = fmt.Sprintf("%q", pair)
		if key != redisgate.KeyOf(pair[0], pair[1]) {
			t.Errorf("%q has two keys", pair)
		}
	}
}
