package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"orderd/payment/trail"
)

// Who makes people, tokens and keys at the machine is in the same trail as who does it in the console, refused or not,
// and no secret is.
func TestWhatIsDoneAboutPeopleAtTheMachineIsInTheTrail(t *testing.T) {
	dir := t.TempDir()
	a := embedded(t, dir)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	var secrets []string
	expected := []string{}
	for _, c := range []struct {
		args, row string
		code      int
	}{
		{"operator create anna --role finance", "person.create anna", exitOK},
		{"operator create anna --role finance", "person.create anna", exitFailed},
		{"operator role anna --role viewer --yes", "person.role anna", exitOK},
		{"operator link anna", "person.link anna", exitOK},
		{"token create --person anna --label laptop", "token.create anna", exitOK},
		{"token create --operator bea", "token.create bea", exitOK},
		{"token revoke anna:laptop --yes", "token.revoke anna:laptop", exitOK},
		{"token create --shop web --scopes read", "shopkey.create web", exitOK},
		{"token revoke web/1 --yes", "shopkey.revoke web/1", exitOK},
		{"operator disable anna --yes", "person.disable anna", exitOK},
		{"operator disable anna --yes", "person.disable anna", exitFailed},
	} {
		code, out, errs := words(t, append(strings.Fields(c.args), "--data-dir", dir)...)
		if code != c.code {
			t.Fatalf("%s: exit %d: %s", c.args, code, errs)
		}
		if out = strings.TrimSpace(out); out != "" {
			secrets = append(secrets, out[strings.LastIndexByte(out, '=')+1:])
		}
		end := " done"
		if code != exitOK {
			end = " refused"
		}
		expected = append(expected, c.row, c.row+end)
	}
	var got []string
	err := trail.New(a.db, time.Now, nil).All(t.Context(), time.Time{}, time.Time{}, func(e *trail.Entry) error {
		if e.Actor != byWhom() {
			t.Errorf("row %d is of %s", e.Seq, e.Actor)
		}
		for _, secret := range secrets {
			if strings.Contains(e.Asked+e.Target+e.Was+e.Became, secret) {
				t.Errorf("row %d has a secret", e.Seq)
			}
		}
		got = append(got, strings.TrimSpace(e.Action+" "+e.Target+" "+e.Outcome))
		return nil
	})
	if err != nil || len(secrets) != 4 || !slices.Equal(got, expected) {
		t.Errorf("%v, %d secrets, the trail has\n%s\nwant\n%s", err, len(secrets), strings.Join(got, "\n"),
			strings.Join(expected, "\n"))
	}
}
