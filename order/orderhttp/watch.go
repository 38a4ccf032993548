package orderhttp

import (
	"context"
	"sync"
	"time"
)

// lookEvery is how often the watcher looks: a buyer sees the payment a fifth of a second
// later, which feels like at once, and the database answers five short reads a second,
// however many buyers wait.
const lookEvery = 200 * time.Millisecond

// watcher looks for all long polls of a process, with one read of versions at a time: a
// poll that looked by itself would cost the same as a reader who reloads. It reads the
// database and listens to nothing: a change may be made by any process, and there is no
// channel between them but the database. It runs while somebody waits. It is safe for
// concurrent use.
type watcher struct {
	// read gives the versions of those orders that are there.
	read func(ctx context.Context, orderNos []string) (map[string]int64, error)

	mu      sync.Mutex
	running bool
	waiting map[*waiter]struct{}
}

// waiter is one poll: told has room for the one thing that it is told, nil for a newer
// version, or why nobody could look.
type waiter struct {
	orderNo string
	since   int64
	told    chan error
}

// newWatcher makes a watcher, which does nothing until somebody waits.
func newWatcher(read func(context.Context, []string) (map[string]int64, error)) *watcher {
	return &watcher{read: read, waiting: map[*waiter]struct{}{}}
}

// wait tells on the channel, once, that the order has a version above since. leave must be
// called by whoever waits, however the wait ends.
func (w *watcher) wait(orderNo string, since int64) (told <-chan error, leave func()) {
	one := &waiter{orderNo: orderNo, since: since, told: make(chan error, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[one] = struct{}{}
	if !w.running {
		w.running = true
		go w.run()
	}
	return one.told, func() {
		w.mu.Lock()
		delete(w.waiting, one)
		w.mu.Unlock()
	}
}

// run looks until nobody waits any more.
func (w *watcher) run() {
	pause := time.NewTicker(lookEvery)
	defer pause.Stop()
	for range pause.C {
		orderNos := w.orders()
		if orderNos == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), storeBudget)
		versions, err := w.read(ctx, orderNos)
		cancel()
		w.tell(versions, err)
	}
}

// orders gives the orders that somebody waits for, each once; nil says that the watcher
// has ended, which is decided under the lock that begins the next one.
func (w *watcher) orders() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.running = false
		return nil
	}
	seen := make(map[string]bool, len(w.waiting))
	var all []string
	for one := range w.waiting {
		if !seen[one.orderNo] {
			seen[one.orderNo] = true
			all = append(all, one.orderNo)
		}
	}
	return all
}

// tell ends the waits whose order is newer, or all of them with an error. One that came
// while the versions were read is told by them too: they are newer than what it has.
func (w *watcher) tell(versions map[string]int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.waiting {
		if err != nil || versions[one.orderNo] > one.since {
			one.told <- err
			delete(w.waiting, one)
		}
	}
}
