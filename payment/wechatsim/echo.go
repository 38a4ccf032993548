package wechatsim

import (
	"encoding/json"
	"net/http"
	"slices"
)

// maxEcho bounds echo_message, in bytes. The documents name no bound: it is ours.
const maxEcho = 1024

// askedEcho is a request of WeChat's test of signatures.
type askedEcho struct {
	Message   string `json:"echo_message"`
	NotifyURL string `json:"notify_url"`
	Encrypted string `json:"encrypted_echo_message"`
}

// echo is WeChat's test of a merchant's signatures (POST /v3/security/echo, merchant/4014551946):
// it says the message again and, with a notify_url, sends it there as a callback
// (merchant/4015164042). No trade comes of it. The key is chosen by Wechatpay-Serial, which
// has to be there. The test of encryption, encrypted_echo_message, is not played.
func (s *Sim) echo(x *exchange) answer {
	var all map[string]any
	if refusal := decodeObject(x.body, &all); refusal != nil {
		return *refusal
	}
	var q askedEcho
	asked := x.r.Header.Get("Wechatpay-Serial")
	switch err := json.Unmarshal(x.body, &q); {
	case err != nil:
		return wrongParam("", nil, "字段类型不正确", tailParam)
	case asked != s.o.Keys.PublicKeyID && !slices.ContainsFunc(s.ring, func(k signer) bool { return k.id == asked }):
		return refuse(http.StatusBadRequest, "PARAM_ERROR", "Wechatpay-Serial有误", tailParam)
	case q.Message == "" || len(q.Message) > maxEcho:
		return wrongParam("/echo_message", q.Message, "回显信息必填", tailParam)
	case q.NotifyURL != "" && !validNotifyURL(q.NotifyURL):
		return wrongParam("/notify_url", q.NotifyURL, "通知地址须为不带参数的完整URL，最长255个字符", tailParam)
	case q.Encrypted != "":
		return refuse(http.StatusBadRequest, "INVALID_REQUEST", "the simulator does not play encrypted_echo_message",
			tailNotSpecified)
	}
	if q.NotifyURL != "" && !s.spawn(func() { s.deliverEcho(q) }) {
		s.logCallback("", Entry{Event: "lost", Detail: "the simulator is closing or has too many callbacks waiting"})
	}
	return ok(map[string]string{"echo_message": q.Message})
}

// deliverEcho sends the callback of an echo until it is accepted, on the ladder of all
// callbacks. Faults of "notify" for every number apply to it.
func (s *Sim) deliverEcho(q askedEcho) {
	id, steps := newNotifyID(), ladder()
	for attempt := 1; attempt <= len(steps)+1; attempt++ {
		if attempt > 1 && !s.pause(s.scaled(steps[attempt-2])) {
			return
		}
		p := s.takeFaults("notify", "", "")
		if !s.pause(p.delay) {
			return
		}
		switch {
		case p.drop:
			s.logCallback("", Entry{Event: "lost", Attempt: attempt, Faults: p.names, Detail: "echo"})
			return
		case p.cutBefore:
			s.logCallback("", Entry{Event: "cut_before", Attempt: attempt, Faults: p.names, Detail: "echo"})
			continue
		}
		if d := s.postEcho(q, id, p, attempt); d.Accepted() && !p.cutAfter && p.status == 0 {
			return
		}
	}
	s.logCallback("", Entry{Event: "given_up", Attempt: len(steps) + 1, Detail: "echo"})
}

// postEcho puts the callback of an echo on the wire once, newly encrypted, signed and dated.
func (s *Sim) postEcho(q askedEcho, id string, p plan, attempt int) Delivery {
	if !s.takeSlot() {
		return Delivery{Error: "the simulator is closed"}
	}
	defer func() { <-s.slots }()
	resource := s.encrypt(mustJSON(map[string]string{"echo_message": q.Message}), "security")
	resource.OriginalType = "security"
	d := s.send(q.NotifyURL, "", mustJSON(notifyBody{
		ID: id, CreateTime: wechatTime(s.o.Now()), EventType: "SECURITY_ECHO.SUCCESS",
		ResourceType: "encrypt-resource", Summary: "回显成功", Resource: resource,
	}), p.seal)
	s.logCallback("", Entry{Event: d.event(), Status: d.Status, Attempt: attempt, Faults: p.names,
		Detail: "echo " + d.Error})
	return d
}
