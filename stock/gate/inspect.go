package gate

import (
	"context"
	"slices"

	"orderd/stock"
)

// Inspector is what people ask of a shared home. It changes nothing, and needs no process that
// keeps the home.
type Inspector interface {
	// Look gives the buckets of a sale as the home has them, by number; gates are its gates in
	// mode redis.
	Look(ctx context.Context, gates []stock.Gate) ([]HomeBucket, error)
	// Verify holds the buckets of all sales against the database, while orders are placed or
	// not: it reports no difference that is only the moment between two reads. An error
	// means that one of the two could not be read.
	Verify(ctx context.Context) (Verdict, error)
}

// HomeBucket is a bucket of a sale in its home.
type HomeBucket struct {
	No      int64
	Epoch   int64 // 0: the home does not know it
	Open    bool
	Tickets int64                // calls whose tickets have not all become orders yet, or come back
	Waiting int64                // placements in its queue
	Units   map[string]HomeUnits // by SKU
}

// HomeUnits is the part of a SKU in such a bucket.
type HomeUnits struct {
	Bucket int64 // its id; the rest means nothing when it is another's
	Seq    int64 // of the last move
	Left   int64 // units, below 0: lost
}

// QueuedUnits gives how many of the units of a gate's buckets in a shared home are set aside and no
// order's yet: of those who wait, and for a moment of those whose order is being made. The rows
// of the buckets were read before their homes were looked at. False when that is not known,
// because the home does not have one of them as it should be.
func QueuedUnits(g *stock.GateStock, held []HomeBucket) (units int64, known bool) {
	for i := range g.Buckets {
		row := &g.Buckets[i]
		if row.Home != stock.HomeRedis {
			continue
		}
		at := slices.IndexFunc(held, func(b HomeBucket) bool { return b.No == row.No && b.Epoch == row.Epoch })
		if at < 0 {
			return 0, false
		}
		of := held[at].Units[g.SkuID]
		if of.Bucket != row.ID || of.Seq != row.Seq || of.Left < 0 {
			return 0, false
		}
		units += max(row.Remaining-of.Left, 0)
	}
	return units, true
}

// Verdict is the result of Inspector.Verify.
type Verdict struct {
	Buckets int // that were looked at
	Checks  []Check
}

// Broken gives the checks that found something.
func (v Verdict) Broken() []Check {
	return slices.DeleteFunc(slices.Clone(v.Checks), func(c Check) bool { return len(c.Violations) == 0 })
}

// Check is what holds between a home and the database, and what breaks it.
type Check struct {
	ID         string // as docs/verify.md has it
	Meaning    string
	Violations []string
}
