package faultproxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orderd/migrations/sqldb/sqldbtest/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers every line with its name before it.
func server(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintf(c, "%s: %s\n", name, lines.Text())
				}
			}()
		}
	}()
	return l.Addr().String()
}

type client struct {
	net.Conn
	lines *bufio.Reader
}

func dial(t *testing.T, p *faultproxy.Proxy) *client {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{c, bufio.NewReader(c)}
}

// ask says a line and gives the answer, within the time.
func (c *client) ask(line string, within time.Duration) (string, error) {
	if _, err := fmt.Fprintln(c, line); err != nil {
		return "", err
	}
	return c.hear(within)
}

func (c *client) hear(within time.Duration) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(within))
	return c.lines.ReadString('\n')
}

const (
	soon = time.Minute
	beat = 60 * time.Millisecond
)

// A proxy that injects nothing makes every test that uses it green for nothing: each fault must be felt, and its end
// too.
func TestFaultsAreFelt(t *testing.T) {
	p, err := faultproxy.New(server(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c := dial(t, p)
	says := func(c *client, want string) {
		t.Helper()
		if got, err := c.ask("hello", soon); err != nil || got != want+": hello\n" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	says(c, "one")

	p.Latency(2 * beat)
	begin := time.Now()
	says(c, "one")
	if took := time.Since(begin); took < 2*beat {
		t.Errorf("latency: answered after %s", took)
	}
	p.Latency(0)

	p.Silence(true)
	late := dial(t, p)
	for name, conn := range map[string]*client{"old": c, "new": late} {
		if got, err := conn.ask("hush", beat); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("silence, %s connection: %q, %v", name, got, err)
		}
	}
	p.Silence(false)
	for name, conn := range map[string]*client{"old": c, "new": late} {
		if got, err := conn.hear(soon); err != nil || got != "one: hush\n" {
			t.Errorf("after silence, %s connection: %q, %v", name, got, err)
		}
	}

	p.Switch(server(t, "two"))
	says(c, "one")
	says(dial(t, p), "two")

	p.Reset()
	if got, err := c.ask("hello", soon); err == nil {
		t.Errorf("reset: %q", got)
	}
	c = dial(t, p)
	says(c, "two")

	p.Down(true)
	if got, err := c.ask("hello", soon); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("down: %q, %v", got, err)
	}
	if conn, err := net.Dial("tcp", p.Addr()); err == nil { // a reset may also come while it connects
		if _, err := (&client{conn, bufio.NewReader(conn)}).ask("hello", soon); err == nil ||
			errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("down, new connection: %v", err)
		}
		_ = conn.Close()
	}
	p.Down(false)
	says(dial(t, p), "two")
}

// commit is a MySQL packet with the text COMMIT; its answer here is a line, because the server answers lines.
var commit = append([]byte{7, 0, 0, 0, 3}, "COMMIT"...)

// Next and Every must meet the COMMITs they were told to, and no others.
func TestWhichCommitsAreMet(t *testing.T) {
	p, err := faultproxy.NewMySQL(server(t, "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Every(3, faultproxy.CutBefore)
	p.Next(faultproxy.CutBefore) // takes the first
	var cut []int
	for i := 1; i <= 9; i++ {
		c := dial(t, p)
		// The line ends in a packet of its own, so that the server has something to answer.
		if _, err := c.Write(append(commit[:11:11], 1, 0, 0, 0, '\n')); err != nil {
			t.Fatal(err)
		}
		if _, err := c.hear(soon); err != nil {
			cut = append(cut, i)
		}
		_ = c.Close()
	}
	if fmt.Sprint(cut) != "[1 3 6 9]" || p.Hits(faultproxy.CutBefore) != 4 {
		t.Errorf("cut %v, %d hits", cut, p.Hits(faultproxy.CutBefore))
	}
	p.Every(0, faultproxy.Pass)
	p.Next(faultproxy.CutAfter)
	for i, want := range []bool{true, false, false, false} {
		c := dial(t, p)
		if _, err := c.Write(append(commit[:11:11], 1, 0, 0, 0, '\n')); err != nil {
			t.Fatal(err)
		}
		if _, err := c.hear(soon); (err != nil) != want {
			t.Errorf("COMMIT %d: %v", i, err)
		}
	}
}

// A dead host that is told of, by a FIN or a reset, is no dead host: its server would give its locks back at once and
// every test of them would be green for nothing.
func TestADeadHostIsNotHeardOf(t *testing.T) {
	heard := make(chan error, 2)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, err := c.Read(make([]byte, 64))
				fmt.Fprintln(c, "here")
				for err == nil {
					_, err = c.Read(make([]byte, 64))
				}
				heard <- err
			}()
		}
	}()
	p, err := faultproxy.NewMySQL(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	greeting := append([]byte{3, 0, 0, 0, 3}, "hi"...)
	for name, die := range map[string]func(c *client){
		"at a COMMIT": func(c *client) {
			p.Next(faultproxy.Dead)
			if _, err := c.Write(commit); err != nil {
				t.Error(err)
			}
		},
		"between two statements": func(*client) { p.Abandon() },
	} {
		c := dial(t, p)
		if _, err := c.Write(greeting); err != nil {
			t.Fatal(err)
		}
		if _, err := c.hear(soon); err != nil {
			t.Fatal(err)
		}
		die(c)
		if got, err := c.hear(beat); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s, the client: %q, %v", name, got, err)
		}
		_ = c.Close()
		p.Reset() // ends the connections of the living
		select {
		case err := <-heard:
			t.Errorf("%s: the server has heard of it: %v", name, err)
		case <-time.After(beat):
		}
	}
	p.Close()
	for range 2 {
		select {
		case <-heard:
		case <-time.After(soon):
			t.Fatal("the proxy has ended, and its graves are open")
		}
	}
}

// A COMMIT of somebody else's would meet the fault, and the one that was meant would pass: what the test then measures
// is nothing.
func TestTheCommitThatIsMeant(t *testing.T) {
	p, err := faultproxy.NewMySQL(server(t, "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.NextAbout("mug", faultproxy.CutBefore)
	for i, about := range []string{"cup", "mug", "mug"} {
		c := dial(t, p)
		statement := append([]byte{byte(len(about) + 1), 0, 0, 0, 3}, about...)
		if _, err := c.Write(append(append(statement, commit...), 1, 0, 0, 0, '\n')); err != nil {
			t.Fatal(err)
		}
		if _, err := c.hear(soon); (err != nil) != (i == 1) {
			t.Errorf("transaction %d, of a %s: %v", i, about, err)
		}
		_ = c.Close()
	}
	if n := p.Hits(faultproxy.CutBefore); n != 1 {
		t.Errorf("%d hits", n)
	}
}
