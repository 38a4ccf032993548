package model

import "fmt"

// Shelf is what one SKU may have left: an interval, since what is under way or
// has no answer may have taken its units or not. Not safe for concurrent use.
type Shelf struct{ low, high int64 }

// NewShelf is a shelf that holds exactly n.
func NewShelf(n int64) *Shelf { return &Shelf{n, n} }

// Taking says that n units are being asked for; call it before the request
// leaves. They may be gone from now on.
func (s *Shelf) Taking(n int64) { s.low -= n }

// Took says that the n units of a Taking are gone.
func (s *Shelf) Took(n int64) error {
	s.high -= n
	return s.check(fmt.Sprintf("%d taken", n))
}

// NotTaken says that the n units of a Taking were definitely not taken. An
// unknown answer says neither, and the interval stays wide.
func (s *Shelf) NotTaken(n int64) { s.low += n }

// Giving says that n units may come back from now on, Gave that they have.
func (s *Shelf) Giving(n int64) { s.high += n }

// Gave says that the n units of a Giving are back.
func (s *Shelf) Gave(n int64) { s.low += n }

// Observe is a read with nothing beginning or ending between.
func (s *Shelf) Observe(n int64) error {
	if n < s.low || n > s.high || n < 0 {
		return fmt.Errorf("the shelf holds %d, possible %d to %d", n, max(s.low, 0), s.high)
	}
	return nil
}

// Range gives the bounds.
func (s *Shelf) Range() (low, high int64) { return s.low, s.high }

// check fails when more was taken than can have been there.
func (s *Shelf) check(what string) error {
	if s.high < 0 {
		return fmt.Errorf("%s: %d more than there ever were", what, -s.high)
	}
	return nil
}
