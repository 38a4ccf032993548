package sqldb

import "testing"

// A proxy that swallows what each connection is given shows nowhere else.
func TestSessionOfAProxyIsSeen(t *testing.T) {
	wrong := judgeSession(map[string]string{"time_zone": "SYSTEM", "tx_isolation": "REPEATABLE-READ"})
	right := judgeSession(map[string]string{"time_zone": "+00:00", "transaction_isolation": "READ-COMMITTED"})
	for i := range wrong {
		if f := wrong[i]; f.Level != LevelWarn || f.Why == "" || f.Fix == "" || right[i].Level != LevelOK {
			t.Errorf("%+v %+v", f, right[i])
		}
	}
}
