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

// Where TiDB is not as it must be, doctor says so, and serve does not start on what books wrongly.
func TestSettingsOfTiDBAreSeen(t *testing.T) {
	wrong := judgeTiDB(map[string]string{"tidb_enable_check_constraint": "OFF"},
		map[string]string{"tidb_txn_mode": "optimistic", "transaction_isolation": "REPEATABLE-READ"})
	right := judgeTiDB(map[string]string{"tidb_enable_check_constraint": "ON"},
		map[string]string{"tidb_txn_mode": "pessimistic", "transaction_isolation": "READ-COMMITTED"})
	for i, level := range []Level{LevelWarn, LevelFail, LevelFail} {
		if f := wrong[i]; f.Level != level || f.Why == "" || f.Fix == "" || right[i].Level != LevelOK {
			t.Errorf("%+v %+v", f, right[i])
		}
	}
}
