-- Takes queued orders that were made out of the queue. Their tickets say so, for repeats.
-- KEYS: ticket, queue, queued, claimed
-- ARGV: per order: id of its entry, order_no
-- Returns how many this call took out.
local count = 0
for i = 1, #ARGV, 2 do
  local id, no = ARGV[i], ARGV[i + 1]
  count = count + redis.call('XDEL', KEYS[2], id)
  redis.call('ZREM', KEYS[4], id)
  local place = redis.call('HGET', KEYS[3], no)
  if place and string.sub(place, 1, #id + 1) == id .. ' ' then
    local n, state, rest = string.match(redis.call('HGET', KEYS[1], no) or '', '^(%d+) (%a) (.*)$')
    if state == 'q' then
      redis.call('HSET', KEYS[1], no, n .. ' o ' .. rest)
    end
    redis.call('HDEL', KEYS[3], no, string.sub(place, #id + 2, #id + 17))
  end
end
return count
