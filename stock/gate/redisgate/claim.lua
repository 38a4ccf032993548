-- Reads from the head of the queue for the one who makes orders of it, as many as the rate allows, and marks them as
-- claimed in the same step: what is claimed cannot be cancelled any more. Entries stay until they are deleted. Those
-- that were claimed so long ago that nobody works on them are given again, before all others.
-- KEYS: gate, queue, queued, claimed
-- ARGV: now, interval between two orders (0: no rate), burst, when a claim has lapsed, all in microseconds; most
-- Returns entries as XRANGE does. The token does not matter: what waits since an earlier opening is claimed too.
local gate = redis.call('HMGET', KEYS[1], 'tok', 'tat', 'at')
local interval, burst, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
local now, tat, at = tonumber(ARGV[1]), tonumber(gate[2] or 0), tonumber(gate[3] or 0)
if at > now and at - now <= 10000000 then
  now = at
end
if interval > 0 then -- see deduct.lua
  if tat > now + math.max(burst, 0) + interval then
    tat = now + math.max(burst, 0)
  end
  tat = math.max(tat, now)
  most = math.min(most, math.floor((now + burst - tat) / interval) + 1)
end
if most <= 0 then
  return {}
end
local found, again = {}, {}
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now - tonumber(ARGV[4]), 'LIMIT', 0, most)
if #lapsed < most then -- and what was claimed by a clock that was set back since
  local after = '(' .. string.format('%.0f', now + 10000000)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], after, '+inf', 'LIMIT', 0, most - #lapsed)) do
    lapsed[#lapsed + 1] = id
  end
end
for _, id in ipairs(lapsed) do
  local entry = redis.call('XRANGE', KEYS[2], id, id)[1]
  if entry then
    found[#found + 1], again[id] = entry, true
  else
    redis.call('ZREM', KEYS[4], id)
  end
end
local last
if #found < most then
  local from = '-' -- nobody works on any: the head is the next
  if redis.call('ZCARD', KEYS[4]) > 0 then
    from = '(' .. (redis.call('HGET', KEYS[3], 'c') or '0-0')
  end
  for _, entry in ipairs(redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', most - #found)) do
    last = entry[1]
    if not again[last] then -- of a claim that died before it noted its last
      found[#found + 1] = entry
    end
  end
end
if #found == 0 then
  return found
end
-- The rate is used up first. What is marked as claimed before the last one is noted may be claimed twice, and never be
-- forgotten.
if interval > 0 and gate[1] then
  redis.call('HSET', KEYS[1], 'tat', string.format('%.0f', tat + #found * interval), 'at', string.format('%.0f', now))
end
local scores = {}
for _, entry in ipairs(found) do
  scores[#scores + 1], scores[#scores + 2] = string.format('%.0f', now), entry[1]
end
redis.call('ZADD', KEYS[4], unpack(scores))
if last then
  redis.call('HSET', KEYS[3], 'c', last)
end
return found
