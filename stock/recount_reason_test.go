package stock

import (
	"math"
	"strings"
	"testing"

	"orderd/migrations/bounds"
)

// The longest reason of a repair fits behind the longest numbers: it is not cut.
func TestRecountReasonFits(t *testing.T) {
	why := strings.Repeat("退", bounds.RepairReason.Most)
	got := recountReason(Recounted{Was: math.MinInt64, Flows: math.MinInt64}, why)
	if !bounds.Reason.Fits(got) || !strings.HasSuffix(got, why) {
		t.Errorf("%d characters: %v", len([]rune(got)), bounds.Reason.Check(got))
	}
}
