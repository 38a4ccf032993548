package redisgate

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// Route gives the open buckets of a sale in the order in which a customer's orders try
// them (rendezvous hashing). It depends on nothing but the customer and the numbers, so
// that repeats, limits and tickets of a customer meet in one bucket, in every process; a
// bucket that comes or goes changes nothing between the others. open is left as it is.
func Route(customerID string, open []int64) []int64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(customerID)) // cannot fail
	customer := hash.Sum64()
	routed := slices.Clone(open)
	slices.SortFunc(routed, func(a, b int64) int {
		return cmp.Or(cmp.Compare(weight(customer, b), weight(customer, a)), cmp.Compare(a, b))
	})
	return routed
}

// weight mixes customer and bucket so that each bit of either changes half of the result:
// the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
func weight(customer uint64, bucket int64) uint64 {
	x := customer + uint64(bucket+1)*0x9e3779b97f4a7c15 //nolint:gosec // numbers of buckets are not negative
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
