// Package alisql is a stand-in for Alibaba Cloud's MySQL: a proxy in front of a MariaDB
// that has the variables of the statement queue, does what the inventory hints of a
// statement say (sqldb's UpdateLast tells what that is, and where it is written), and
// keeps every statement that it has heard. It shows that orderd is right with a server
// that does what the documents say. It cannot show that Alibaba's does.
//
// The methods may be called at any time, from anywhere.
package alisql

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Mode is what kind of server it is.
type Mode string

// The modes.
const (
	// Obey: it has the variables, and does what the hints say.
	Obey Mode = "obeys hints"
	// Ignore: it has the variables, and takes a hint for a comment.
	Ignore Mode = "ignores hints"
	// Refuse: it has the variables, and answers every hint with an error.
	Refuse Mode = "refuses hints"
	// Plain: it has no such variables.
	Plain Mode = "plain MySQL"
)

// Cut is where the connection ends on a statement with hints.
type Cut string

// The cuts.
const (
	NoCut Cut = ""
	// CutBefore: the server never gets the statement, and rolls back.
	CutBefore Cut = "cut before"
	// CutAfter: the server has done it, COMMIT included; its answer is not delivered.
	CutAfter Cut = "cut after"
)

// Statement is one that a client has said; those that it had prepared are "EXECUTE".
type Statement struct {
	Conn int // which of the connections
	Text string
}

// Server is the proxy. Close ends it.
type Server struct {
	listener net.Listener
	maria    string // where the MariaDB listens
	done     sync.WaitGroup

	mu     sync.Mutex
	mode   Mode
	every  int // of the statements with hints, one in so many meets the cut; 0: none
	cut    Cut
	hinted int // statements with hints, since Every
	cuts   int // those that met a cut
	conns  map[net.Conn]bool
	n      int // connections so far
	heard  []Statement
	closed bool
}

// Start listens on a loopback port, in front of a MariaDB.
func Start(maria string, mode Mode) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, maria: maria, mode: mode, conns: map[net.Conn]bool{}}
	s.done.Go(s.accept)
	return s, nil
}

// Addr is where to connect.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Every lets one statement with hints in n meet a cut from now on; Every(0, NoCut) ends it.
func (s *Server) Every(n int, cut Cut) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.every, s.cut, s.hinted = n, cut, 0
}

// Cuts counts the statements that met a cut.
func (s *Server) Cuts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cuts
}

// Heard gives the statements since the last call, in the order in which they came.
func (s *Server) Heard() []Statement {
	s.mu.Lock()
	defer s.mu.Unlock()
	heard := s.heard
	s.heard = nil
	return heard
}

// Close ends the proxy and its connections, and waits for its goroutines.
func (s *Server) Close() {
	_ = s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
}

// accept takes connections until the listener is closed.
func (s *Server) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		maria, err := net.Dial("tcp", s.maria)
		if err != nil {
			_ = client.Close()
			continue
		}
		t := &talk{s: s, client: client, maria: maria}
		if !s.keep(t) {
			t.end()
			continue
		}
		s.done.Go(t.questions)
		s.done.Go(t.answers)
	}
}

// keep numbers a conversation and remembers its connections.
func (s *Server) keep(t *talk) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.n++
	t.no = s.n
	s.conns[t.client], s.conns[t.maria] = true, true
	return true
}

// talk is one connection in both directions. MySQL's protocol takes turns: what the
// answers read of it was written before the question went to the server.
type talk struct {
	s             *Server
	no            int
	client, maria net.Conn

	mu   sync.Mutex
	hint *hint // of the question that is not answered yet
}

// hint is what is to be done when the server has answered a statement with hints.
type hint struct {
	rows uint64 // TARGET_AFFECT_ROW
	cut  Cut
}

// end ends both connections.
func (t *talk) end() { _, _ = t.client.Close(), t.maria.Close() }

// questions forwards what the client says, packet by packet.
func (t *talk) questions() {
	defer t.end()
	for {
		packet, err := readPacket(t.client)
		if err != nil {
			return
		}
		packet, h := t.s.hear(t.no, packet)
		if h != nil && h.cut == CutBefore {
			return
		}
		t.mu.Lock()
		t.hint = h
		t.mu.Unlock()
		if _, err := t.maria.Write(packet); err != nil {
			return
		}
	}
}

// answers forwards what the server says, packet by packet.
func (t *talk) answers() {
	defer t.end()
	for {
		packet, err := readPacket(t.maria)
		if err != nil {
			return
		}
		t.mu.Lock()
		h := t.hint
		t.hint = nil
		t.mu.Unlock()
		if h != nil {
			if packet, err = t.obey(packet, h.rows); err != nil || h.cut == CutAfter {
				return
			}
		}
		if _, err := t.client.Write(packet); err != nil {
			return
		}
	}
}

// Commands of MySQL's protocol (its manual, "Command Phase"), and the heads of answers.
const (
	comQuery   = 0x03
	comExecute = 0x17
	headOK     = 0x00
	headErr    = 0xff

	statusInTrans    = 0x0001
	statusAutocommit = 0x0002
)

// The errors of the hints, with the texts of the documents.
const (
	errAutocommit = 7531
	textAuto      = "Inventory transactional hints didn't allowed in autocommit mode"
	errRows       = 7532
	textRows      = "Inventory conditional hints didn't match with result"
)

// hints are all of them as a statement may have them.
var hints = regexp.MustCompile(
	`^UPDATE /\*\+ (?:ccl_queue_field\(\w+\) )?TARGET_AFFECT_ROW\((\d+)\) ROLLBACK_ON_FAIL COMMIT_ON_SUCCESS \*/ `)

// hear keeps a statement, and gives it as the MariaDB gets it, with what is to be done
// about its hints.
func (s *Server) hear(conn int, packet []byte) ([]byte, *hint) {
	if len(packet) < 5 {
		return packet, nil
	}
	text := string(packet[5:])
	switch packet[4] {
	case comQuery:
	case comExecute:
		text = "EXECUTE"
	default:
		return packet, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = append(s.heard, Statement{conn, text})
	if s.mode == Plain || packet[4] != comQuery {
		return packet, nil
	}
	if strings.HasPrefix(text, "SHOW VARIABLES LIKE 'ccl_queue") {
		return query("SELECT 'ccl_queue_bucket_count' AS Variable_name, '4' AS Value"), nil
	}
	m := hints.FindStringSubmatch(text)
	switch {
	case m == nil || s.mode == Ignore:
		return packet, nil
	case s.mode == Refuse:
		return query(fmt.Sprintf("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = %d, MESSAGE_TEXT = %q", errAutocommit,
			textAuto)), nil
	}
	rows, _ := strconv.ParseUint(m[1], 10, 64) // digits
	h := &hint{rows: rows}
	if s.hinted++; s.every > 0 && s.hinted%s.every == 0 {
		h.cut = s.cut
		s.cuts++
	}
	return packet, h
}

// obey ends the transaction as the hints of a statement with this answer want it, and
// gives the answer that the client gets.
func (t *talk) obey(answer []byte, rows uint64) ([]byte, error) {
	word := "ROLLBACK"
	if len(answer) > 4 && answer[4] == headOK {
		affected, rest := number(answer[5:])
		_, rest = number(rest) // the last insert id
		status := binary.LittleEndian.Uint16(rest)
		switch {
		case status&statusAutocommit != 0 && status&statusInTrans == 0:
			answer = failure(errAutocommit, textAuto)
		case affected != rows:
			answer = failure(errRows, textRows)
		default:
			word = "COMMIT"
		}
	}
	if _, err := t.maria.Write(query(word)); err != nil {
		return nil, err
	}
	done, err := readPacket(t.maria)
	if err == nil && len(done) > 4 && done[4] == headErr {
		answer = done
	}
	return answer, err
}

// number reads a length-encoded integer and gives what is behind it.
func number(b []byte) (uint64, []byte) {
	wide := map[byte]int{0xfc: 2, 0xfd: 3, 0xfe: 8}[b[0]]
	if wide == 0 {
		return uint64(b[0]), b[1:]
	}
	var n [8]byte
	copy(n[:], b[1:1+wide])
	return binary.LittleEndian.Uint64(n[:]), b[1+wide:]
}

// query is the packet of a statement.
func query(text string) []byte { return newPacket(0, append([]byte{comQuery}, text...)) }

// failure is the packet of an error, as the first answer to a statement.
func failure(no uint16, text string) []byte {
	body := binary.LittleEndian.AppendUint16([]byte{headErr}, no)
	return newPacket(1, append(body, "#HY000"+text...))
}

// newPacket puts length and number before a body of less than 64 kB.
func newPacket(no byte, body []byte) []byte {
	head := binary.LittleEndian.AppendUint16(nil, uint16(len(body))) //nolint:gosec // see above
	return bytes.Join([][]byte{head, {0, no}, body}, nil)
}

// readPacket reads three bytes of length, the number of the packet, and so many bytes.
func readPacket(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, 4+int(binary.LittleEndian.Uint32([]byte{head[0], head[1], head[2], 0})))
	copy(packet, head[:])
	_, err := io.ReadFull(r, packet[4:])
	return packet, err
}
