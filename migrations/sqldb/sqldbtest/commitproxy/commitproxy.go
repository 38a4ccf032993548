// Package commitproxy is a TCP proxy in front of MariaDB that knows the COMMIT
// packet: it can cut the connection before COMMIT reaches the server, after the
// server has done it, or never deliver the answer. To the client all three look
// the same, which is what it is for.
package commitproxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// Mode is what happens to the next COMMIT.
type Mode string

// The modes.
const (
	Pass      Mode = ""
	CutBefore Mode = "cut before COMMIT"
	CutAfter  Mode = "cut after COMMIT"
	Stall     Mode = "stall COMMIT"
)

// Proxy forwards connections to one server.
type Proxy struct {
	listener net.Listener
	server   string

	mu    sync.Mutex
	next  Mode
	hits  map[Mode]int
	conns map[net.Conn]bool
	done  sync.WaitGroup
}

// New listens on a loopback port.
func New(server string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, server: server, hits: map[Mode]int{}, conns: map[net.Conn]bool{}}
	p.done.Go(p.accept)
	return p, nil
}

// Addr is where to connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Next sets what happens to the next COMMIT; the ones after it pass.
func (p *Proxy) Next(m Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = m
}

// Hits counts the COMMITs that met a mode.
func (p *Proxy) Hits(m Mode) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hits[m]
}

// Close ends all connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.done.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.done.Go(func() { p.serve(client, server) })
	}
}

// serve forwards one connection, packet by packet from the client.
func (p *Proxy) serve(client, server net.Conn) {
	var mode Mode
	var mu sync.Mutex // guards mode between the two directions
	back := make(chan struct{})
	go func() {
		defer close(back)
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			mu.Lock()
			m := mode
			mu.Unlock()
			if n > 0 && m == Pass {
				_, err = client.Write(buf[:n])
			}
			if m == CutAfter || err != nil { // the server has answered the COMMIT: the client never hears
				_ = client.Close()
				return
			}
		}
	}()
	for {
		packet, commit, err := readPacket(client)
		if err != nil {
			break
		}
		if commit {
			m := p.take()
			mu.Lock()
			mode = m
			mu.Unlock()
			if m == CutBefore {
				break
			}
		}
		if _, err := server.Write(packet); err != nil {
			break
		}
	}
	_ = client.Close()
	_ = server.Close()
	<-back
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

func (p *Proxy) take() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.next
	p.next = Pass
	if m != Pass {
		p.hits[m]++
	}
	return m
}

const comQuery = 3 // MySQL's command byte for a text statement

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
