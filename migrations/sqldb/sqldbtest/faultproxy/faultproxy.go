// Package faultproxy is a TCP proxy that does to a connection what networks
// and dying servers do: latency, resets, nobody there, silence, another server
// behind the same address. In front of MySQL it also knows the COMMIT packet:
// it can cut the connection before COMMIT reaches the server or after the server
// has done it, never deliver the answer, deliver the COMMIT when its sender has
// given up, or let the sender die in silence. To the client these look the same,
// which is what it is for.
//
// The methods may be called at any time, from anywhere.
package faultproxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Mode is what happens to a COMMIT. What the client sees is a connection that ended, or
// one on which nothing comes.
type Mode string

// The modes.
const (
	// Pass forwards it as it is.
	Pass Mode = ""
	// CutBefore: the server never gets it and rolls back.
	CutBefore Mode = "cut before COMMIT"
	// CutAfter: the server has done it, its answer is not delivered, the connection
	// ends.
	CutAfter Mode = "cut after COMMIT"
	// Stall: the server has done it, its answer is not delivered, the connection stays.
	Stall Mode = "stall COMMIT"
	// Late: the server gets it lateBy after the client has given up.
	Late Mode = "late COMMIT"
	// Dead: the host of the client loses its power with the COMMIT on its lips. The
	// server never gets it and hears nothing more, no FIN and no RST: it keeps the
	// transaction, with its locks, until a time-out of its own.
	Dead Mode = "dead before COMMIT"
	// Refused: the server rolls back, and the client gets the error of Answer.
	Refused Mode = "refused COMMIT"
)

// lateBy is how long after its sender has gone a late COMMIT arrives: long
// enough for the sender to have begun again.
const lateBy = 50 * time.Millisecond

// Proxy forwards connections to a server.
type Proxy struct {
	listener net.Listener
	commits  bool // the clients speak MySQL

	mu     sync.Mutex
	open   sync.Cond // signalled when silence or the proxy ends
	server string
	conns  map[net.Conn]bool

	// next is for one COMMIT, often for one in every, counted by seen from the last
	// call of Every on. hits counts those that met each mode.
	next     Mode
	about    []byte // next is for a COMMIT of a transaction that has spoken of this
	every    int    // of the COMMITs, one in so many meets often
	often    Mode
	seen     int
	hits     map[Mode]int
	commands int // of MySQL, see Commands
	rewrites []rewrite
	latency  time.Duration
	answer   answer
	// down, silent and closed: see Down, Silence and Close.
	down   bool
	silent bool
	closed bool

	// talks are the conversations that are open, without those of dead hosts, whose
	// connections are in graves until Close.
	talks  map[*conversation]bool
	graves []net.Conn

	done sync.WaitGroup
}

// New listens on a loopback port and forwards any protocol, byte by byte.
func New(server string) (*Proxy, error) { return start(server, false) }

// NewMySQL is New for MySQL, without TLS: only there are COMMITs seen, and do
// Next, Every, Hits and Commands mean something.
func NewMySQL(server string) (*Proxy, error) { return start(server, true) }

// start listens and serves until Close.
func start(server string, commits bool) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, commits: commits, server: server, hits: map[Mode]int{}, conns: map[net.Conn]bool{},
		talks: map[*conversation]bool{}}
	p.open.L = &p.mu
	p.done.Go(p.accept)
	return p, nil
}

// Addr is where to connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Next sets what happens to the next COMMIT; it wins over Every.
func (p *Proxy) Next(m Mode) { p.NextAbout("", m) }

// NextAbout sets what happens to the next COMMIT of a transaction in which a
// statement had this text, such as a key that only one caller uses.
func (p *Proxy) NextAbout(text string, m Mode) { p.set(func() { p.next, p.about = m, []byte(text) }) }

// Every lets one COMMIT in n meet a mode from now on; Every(0, Pass) ends it.
func (p *Proxy) Every(n int, m Mode) { p.set(func() { p.every, p.often, p.seen = n, m, 0 }) }

// Hits counts the COMMITs that met a mode.
func (p *Proxy) Hits(m Mode) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits[m]
}

// Commands counts what the clients have asked of MySQL so far: statements, and all else that
// is a command of its protocol, such as a PING.
func (p *Proxy) Commands() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commands
}

// Latency holds back everything that the server says by d; 0 ends it.
func (p *Proxy) Latency(d time.Duration) { p.set(func() { p.latency = d }) }

// Silence lets nothing pass in either direction, as a network that drops all packets
// does: connections stay, new ones are taken and get no byte. When it ends, what was
// sent meanwhile arrives, also what its sender has given up.
func (p *Proxy) Silence(on bool) { p.set(func() { p.silent = on }) }

// Abandon is the death of the host behind the connections that are open now: they carry
// nothing more, in either direction, and neither side hears of it, no FIN and no RST,
// before Close. New connections are as before. Call it in the middle of a transaction,
// and the server keeps its locks; Next(Dead) does it at a COMMIT.
func (p *Proxy) Abandon() {
	p.set(func() {
		for c := range p.talks {
			p.bury(c)
		}
	})
}

// EndDead tells the servers of dead hosts that they are gone, after all.
func (p *Proxy) EndDead() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.graves {
		reset(c)
	}
	p.graves = nil
}

// bury takes a conversation out of all that may end it. Called with mu locked.
func (p *Proxy) bury(c *conversation) {
	c.dead = true
	delete(p.talks, c)
	for _, conn := range []net.Conn{c.client, c.server} {
		delete(p.conns, conn)
		p.graves = append(p.graves, conn)
	}
}

// rest reports that a conversation is that of a dead host, and then returns only when
// the proxy ends.
func (p *Proxy) rest(c *conversation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.dead {
		return false
	}
	for !p.closed {
		p.open.Wait()
	}
	return true
}

// Down ends all connections and resets every new one, until it is called with false.
func (p *Proxy) Down(on bool) {
	p.set(func() { p.down = on })
	if on {
		p.Reset()
	}
}

// Rewrite replaces texts in every statement from now on, given as before, after, before, after,
// for settings that the client insists on and questions that a server has other answers to.
func (p *Proxy) Rewrite(pairs ...string) {
	var all []rewrite
	for pair := range slices.Chunk(pairs, 2) {
		all = append(all, rewrite{[]byte(pair[0]), []byte(pair[1])})
	}
	p.set(func() { p.rewrites = all })
}

// rewrite is one text that is replaced in statements.
type rewrite struct{ before, after []byte }

// Switch sends new connections to another server, as a fail-over does; the
// open ones stay where they are.
func (p *Proxy) Switch(server string) { p.set(func() { p.server = server }) }

// Answer answers the next so many text statements that have about in them with an error
// in the server's place, which does not see them. A COMMIT is answered so, too, and the
// server rolls back, as one does that refuses it.
func (p *Proxy) Answer(about string, number uint16, text string, times int) {
	p.set(func() { p.answer = answer{about: []byte(about), packet: errPacket(number, text), times: times} })
}

// answer is what Answer has set.
type answer struct {
	about, packet []byte
	times         int // that are left
}

// errPacket is an error as the first packet after a command (MySQL's manual, "ERR_Packet").
func errPacket(number uint16, text string) []byte {
	body := append([]byte{0xff, byte(number), byte(number >> 8)}, "#HY000"+text...) //nolint:gosec // low, high
	n := len(body)
	return append([]byte{byte(n), byte(n >> 8), 0, 1}, body...) //nolint:gosec // a text is shorter than 64 kB
}

// answered gives the error for a statement, nil when it is for the server.
func (p *Proxy) answered(packet []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := &p.answer
	if a.times == 0 || len(packet) < 5 || packet[4] != comQuery || !bytes.Contains(packet, a.about) {
		return nil
	}
	a.times--
	p.hits[Refused]++
	return a.packet
}

// Reset ends all connections the hard way.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		reset(c)
	}
}

// Close ends the proxy, with all its connections, and waits for its goroutines.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.set(func() { p.closed = true })
	p.Reset()
	p.EndDead()
	p.done.Wait()
}

// set makes a change under the lock and wakes those who wait for the end of a silence.
func (p *Proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	p.open.Broadcast()
}

// reset ends a connection by RST instead of FIN (linger 0), as a peer does that has
// crashed: what was not delivered is lost.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// accept takes connections until the listener is closed.
func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.keep(client) {
			continue
		}
		p.done.Go(func() { p.serve(client) })
	}
}

// keep remembers a connection, or resets it when the proxy is down.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down || p.closed {
		reset(c)
		return false
	}
	p.conns[c] = true
	return true
}

// forget closes connections and no longer counts them.
func (p *Proxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

// pass waits while there is silence and gives the server and the latency of this moment.
func (p *Proxy) pass() (server string, latency time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.silent && !p.closed {
		p.open.Wait()
	}
	return p.server, p.latency
}

// conversation is one connection in both directions.
type conversation struct {
	client, server net.Conn
	dead           bool // see Abandon; guarded by Proxy.mu
	about          bool // a statement since the last COMMIT had the text of NextAbout; of questions only

	mu      sync.Mutex
	mode    Mode   // what its last COMMIT met
	refusal []byte // of mode Refused, what the client gets for the server's next answer
}

// refuse notes what the client gets in place of the server's next answer.
func (c *conversation) refuse(refusal []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode, c.refusal = Refused, refusal
}

// refused gives that, once, and nil afterwards.
func (c *conversation) refused() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mode != Refused {
		return nil
	}
	c.mode = Pass
	return c.refusal
}

// set notes what the COMMIT meets, before it goes to the server.
func (c *conversation) set(m Mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = m
}

// met gives what the last COMMIT of this connection met.
func (c *conversation) met() Mode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mode
}

// serve forwards one connection until either side ends it. A server that cannot be
// reached is a reset to the client.
func (p *Proxy) serve(client net.Conn) {
	addr, _ := p.pass()
	server, err := net.Dial("tcp", addr)
	if err != nil || !p.keep(server) {
		reset(client)
		p.forget(client)
		return
	}
	c := &conversation{client: client, server: server}
	p.set(func() { p.talks[c] = true })
	back := make(chan struct{})
	go func() {
		defer close(back)
		p.answers(c)
	}()
	if p.questions(c) {
		<-back
	}
	_ = client.Close()
	_ = server.Close()
	<-back
	p.set(func() { delete(p.talks, c) })
	p.forget(client, server)
}

// questions forwards what the client says, COMMIT by COMMIT when it speaks
// MySQL. It reports that the server's last answer is still to be waited for.
func (p *Proxy) questions(c *conversation) (more bool) {
	buf := make([]byte, 64<<10)
	for {
		packet, commit, err := p.read(c.client, buf)
		p.pass()
		if p.rest(c) {
			return false
		}
		p.listen(c, packet)
		if refusal := p.answered(packet); refusal != nil {
			if !p.refuse(c, refusal, commit) {
				return false
			}
			continue
		}
		if len(packet) > 0 && commit {
			m := p.take(c.about)
			c.about = false
			c.set(m)
			switch m {
			case Pass, CutAfter, Stall, Refused:
			case CutBefore:
				return false
			case Dead:
				p.set(func() { p.bury(c) })
				p.rest(c)
				return false
			case Late:
				_, _ = io.Copy(io.Discard, c.client)
				time.Sleep(lateBy)
				_, err := c.server.Write(packet)
				return err == nil
			}
		}
		if len(packet) > 0 {
			if _, err := c.server.Write(packet); err != nil {
				return false
			}
		}
		if err != nil {
			return false
		}
	}
}

// rollback is the text statement, as a packet.
var rollback = append([]byte{9, 0, 0, 0, comQuery}, "ROLLBACK"...)

// refuse answers a statement with an error; a COMMIT's comes when the server has rolled
// back. It reports whether the conversation goes on.
func (p *Proxy) refuse(c *conversation, refusal []byte, commit bool) bool {
	if !commit {
		_, err := c.client.Write(refusal)
		return err == nil
	}
	c.about = false
	c.refuse(refusal)
	_, err := c.server.Write(rollback)
	return err == nil
}

// listen counts a command, and notes that it has the text that the next COMMIT is chosen by.
func (p *Proxy) listen(c *conversation, packet []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.commits && len(packet) > 0 {
		p.commands++
	}
	c.about = c.about || (len(p.about) > 0 && bytes.Contains(packet, p.about))
}

// answers forwards what the server says, unless it is the answer to a COMMIT that the
// client must not get.
func (p *Proxy) answers(c *conversation) {
	defer func() { _ = c.client.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := c.server.Read(buf)
		if _, latency := p.pass(); latency > 0 {
			time.Sleep(latency)
		}
		if p.rest(c) {
			return
		}
		said := buf[:n]
		if refusal := c.refused(); refusal != nil {
			said = refusal
		}
		m := c.met()
		if len(said) > 0 && m == Pass {
			if _, err := c.client.Write(said); err != nil {
				return
			}
		}
		if m == CutAfter || m == Late || err != nil { // the server has answered the COMMIT: the client never gets it
			return
		}
	}
}

// take gives what the COMMIT that has just come meets; about: its transaction has spoken
// of what NextAbout waits for. Next wins over Every; the COMMIT is counted for both.
func (p *Proxy) take(about bool) Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := Pass
	if about || len(p.about) == 0 {
		m, p.next, p.about = p.next, Pass, nil
	}
	if p.seen++; m == Pass && p.every > 0 && p.seen%p.every == 0 {
		m = p.often
	}
	if m != Pass {
		p.hits[m]++
	}
	return m
}

// read gives what the client says next: of MySQL one whole packet, else whatever is
// there.
func (p *Proxy) read(from io.Reader, buf []byte) (packet []byte, commit bool, err error) {
	if p.commits {
		packet, commit, err := readPacket(from)
		return p.rewritten(packet), commit, err
	}
	n, err := from.Read(buf)
	return buf[:n], false, err
}

// rewritten gives a packet with the replaced text and its new length. Only text
// statements are changed; prepared ones go as they are.
func (p *Proxy) rewritten(packet []byte) []byte {
	p.mu.Lock()
	rewrites := p.rewrites
	p.mu.Unlock()
	if len(packet) < 5 || packet[4] != comQuery {
		return packet
	}
	for _, r := range rewrites {
		packet = bytes.ReplaceAll(packet, r.before, r.after)
	}
	n := len(packet) - 4
	packet[0], packet[1], packet[2] = byte(n), byte(n>>8), byte(n>>16) //nolint:gosec // the three low bytes are meant
	return packet
}

const comQuery = 3 // MySQL's command byte for a text statement

// readPacket reads one packet of MySQL's protocol (its manual, "MySQL Packets"): three
// bytes of length, the number of the packet, and so many bytes, of which a command's
// first says which it is. commit: it is the text statement COMMIT.
func readPacket(r io.Reader) (packet []byte, commit bool, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, false, err
	}
	length := int(binary.LittleEndian.Uint32(append(head[:3:3], 0)))
	packet = make([]byte, 4+length)
	copy(packet, head[:])
	if _, err := io.ReadFull(r, packet[4:]); err != nil {
		return nil, false, err
	}
	return packet, length > 1 && packet[4] == comQuery && bytes.EqualFold(packet[5:], []byte("COMMIT")), nil
}
