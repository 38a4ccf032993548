package redisgate_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// mutant is a mistake that somebody has made in public, put into one of the scripts.
type mutant struct{ name, script, old, text string }

const (
	sufficiency = `  for l = from, to do
    local there = left[sku[l]]
    if there ~= -1 and there < units[l] then
      refused = true
      return -2
    end
  end
`
	repeated = "  local of = fresh[keys[i]] or known[i] or before[i]\n"
	// takesHalf takes the lines before the one that is short.
	takesHalf = `for k = from, l - 1 do
        if left[sku[k]] ~= -1 then
          redis.call('DECRBY', KEYS[3 * sku[k] + 4], units[k])
        end
      end
      return -2`
	otherToken = "~= ARGV[1] then\n  return -3"
)

var mutants = []mutant{
	{"sufficiency before duplicate", "deduct", repeated, sufficiency + repeated},
	{"half a cart taken", "deduct", "return -2", takesHalf},
	{"token not compared", "deduct", "gate[1] ~= ARGV[1] or ", ""},
	{"closed not looked at", "deduct", " or gate[2] ~= 'open'", ""},
	{"ticket not looked at", "deduct", "if of then", "if false then"},
	{"flow not looked at", "deduct", "if flowed[i] or records[no] then", "if false then"},
	{"withdrawn ticket forgets its number", "deduct", " or sub(of, 1, 26) == no then", " then"},
	{"withdrawn ticket keeps its key", "deduct", "if state ~= 'x' or ", "if true or "},
	{"body not compared", "deduct", "if sub(of, 27) ~= sub(order, 43, 50) then", "if false then"},
	{"limit of earlier orders alone", "deduct", "bought[s][who] = bought[s][who] + n\n", "bought[s][who] = n\n"},
	{"queue without end", "deduct", "waiting + #queue >= room or", "false or"},
	{"queued against its will", "deduct", " or byte(order, 51) ~= a then", " then"},
	{"overtakes who waits", "deduct", "unread == 0 and tat", "tat"},
	{"waits behind what is claimed", "deduct", "waiting - redis.call('ZCARD', KEYS[6])", "waiting"},
	{"rate not kept", "deduct", "tat - now <= burst then", "true then"},
	{"rate not used up", "deduct", "tat, fresh_tat = tat + interval, true", "fresh_tat = true"},
	{"clock goes back", "deduct", "if at > now and at - now <= 10000000 then", "if false then"},
	{"clock that was set back is waited for", "deduct", " and at - now <= 10000000 then", " then"},
	{"clock that was set back is waited for by claims", "claim", " and at - now <= 10000000 then", " then"},
	{"claims of before the clock was set back", "claim", "if #lapsed < most then", "if false then"},
	{"rate of before is waited for", "deduct", "if tat > now + math.max(burst, 0) + interval then", "if false then"},
	{"rate of before is waited for by claims", "claim", "if tat > now + math.max(burst, 0) + interval then",
		"if false then"},
	{"who waits since before is queued again", "deduct", " or known[i] or before[i]", " or known[i]"},
	{"batch counted once", "deduct", "left[s], took[s] = left[s] - n, took[s] + n", "took[s] = took[s] + n"},
	{"refusal forgotten", "deduct", "redis.call('HSET', KEYS[1], 'flows', 'filling')\n", ""},
	{"number used again", "deduct", "entry + #queue)", "entry - 1)"},
	{"return without ref", "return", "if not back[2] then", "if true then"},
	{"return above deducted", "return", "return -1", "break"},
	{"return of the units in the pool", "return", "to == 'bucket' and ", ""},
	{"return with an old token", "return", otherToken, "~= ARGV[1] and false then\n  return -3"},
	{"return makes a lost key", "return", "if not left then", "if false then"},
	{"return leaves the limit used", "return", "if bought > 0 then", "if false then"},
	{"grant ignores seq", "grant", "if seq <= last then", "if false then"},
	{"grant over a gap", "grant", "if seq > last + 1 then", "if false then"},
	{"grant to another bucket", "grant", "gate[1] ~= ARGV[2] or ", ""},
	{"grant below zero", "grant", "if left + delta < 0 then", "if false then"},
	{"open again", "open", "if token == ARGV[1] then\n  return 0", "if token == ARGV[1] and false then\n  return 0"},
	{"open over a newer opening", "open", "if token and tonumber(token) > tonumber(ARGV[1]) then", "if false then"},
	{"open keeps old tickets", "open", "redis.call('UNLINK', KEYS[2])\n", ""},
	{"close with an old token", "close", otherToken, "~= ARGV[1] and false then\n  return -3"},
	{"open forgets the rate", "open", "if rate[1] then", "if false then"},
	{"cancel of what is claimed", "cancel", "token == claimed and n <= last then", "false then"},
	{"cancel of another entry", "cancel", "string.sub(place, 1, #id + 1) ~= id .. ' ' or ", ""},
	{"withdrawal without a word", "cancel", "if to == 'c' and of and", "if false and of and"},
	{"taken out while it is made", "cancel", "if to == 'c' or free then", "if to == 'c' then"},
	{"cancel twice", "cancel", "== to and 1 or 0", "== to and 0 or 0"},
	{"cancel leaves the entry", "cancel", "redis.call('XDEL', KEYS[2], id)\n", ""},
	{"cancel leaves the claim", "cancel", "redis.call('ZREM', KEYS[4], id)\n", ""},
	{"cancel leaves the key", "cancel", "no, string.sub(place, #id + 2, #id + 17))", "no)"},
	{"claim above the rate", "claim", "most = math.min(most, math.floor((now + burst - tat) / interval) + 1)", ""},
	{"claim uses up nothing", "claim", "tat + #found * interval", "tat"},
	{"claim without a mark", "claim", "redis.call('HSET', KEYS[3], 'c', last)\n", ""},
	{"claim without a lease", "claim", "redis.call('ZADD', KEYS[4], unpack(scores))\n", ""},
	{"claim never lapses", "claim", "now - tonumber(ARGV[4])", "'-1'"},
	{"claim lapses at once", "claim", "now - tonumber(ARGV[4])", "now"},
	{"done leaves the entry", "done", "redis.call('XDEL', KEYS[2], id)", "0"},
	{"done leaves the claim", "done", "redis.call('ZREM', KEYS[4], id)\n", ""},
	{"done leaves the ticket", "done", "if state == 'q' then", "if false then"},
	{"done leaves the place", "done", "redis.call('HDEL', KEYS[3], no, string.sub(place, #id + 2, #id + 17))\n", ""},
}

// mostSequences is how many sequences a mutant may survive.
const mostSequences = 200

// shortMutants are tried in an ordinary run, drawn anew each time; all with ORDERD_TEST_LONG=1.
const shortMutants = 8

// A test of the scripts that a wrong script passes is worth nothing: each of these mistakes must be seen by the
// sequences of TestScriptsAgainstModel. The last one is made in Go: a repeat with an order number that was made anew.
// Every mutant finds its place in its script in every run.
func TestMutantsAreCaught(t *testing.T) {
	client := mini(t)
	prefix := 0
	caught := func(t *testing.T, change func(w *world)) {
		for seed := range mostSequences {
			prefix++
			w := newWorld(t.Context(), client, fmt.Sprintf("%d:", prefix), map[string]int{})
			change(w)
			if wrong := w.play(sequences().Example(seed)); wrong != "" {
				if strings.Contains(wrong, "unexpected: ") {
					t.Fatalf("the script does not run: %s", wrong)
				}
				t.Logf("sequence %d: %s\n%s", seed, w.trace[len(w.trace)-1], wrong)
				return
			}
		}
		t.Errorf("not caught by %d sequences", mostSequences)
	}
	tried := slices.Clone(mutants)
	for _, m := range tried {
		if w := newWorld(t.Context(), client, "place:", map[string]int{}); !w.home.Mutate(m.script, m.old, m.text) {
			t.Errorf("%s.lua has no %q", m.script, m.old)
		}
	}
	if os.Getenv("ORDERD_TEST_LONG") != "1" {
		rand.Shuffle(len(tried), func(i, j int) { tried[i], tried[j] = tried[j], tried[i] })
		tried = tried[:shortMutants]
	}
	for _, m := range tried {
		t.Run(m.name, func(t *testing.T) {
			caught(t, func(w *world) {
				if !w.home.Mutate(m.script, m.old, m.text) {
					t.Fatalf("%s.lua has no %q", m.script, m.old)
				}
			})
		})
	}
	t.Run("order number made anew", func(t *testing.T) { caught(t, func(w *world) { w.forget = true }) })
}
