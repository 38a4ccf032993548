-- Ends a queued order without an order being made of it, and puts its units back: its buyer withdraws it (c), or it is
-- refused (x), by the one who has claimed it, or it is one too many (u: x, unless it was claimed).
-- KEYS: ticket, queue, queued, claimed, ended, ended of its key; per line: leaved, flow, back, buyer
-- ARGV: order_no, id of its entry, c|x|u, seconds that its end is told, what is told, which begins with c or x;
-- per line: line id
-- Returns 1 ended so, also again; 0 too late (c, u): it was claimed, or it is not known here.
local no, id, to = ARGV[1], ARGV[2], ARGV[3]
local free = to == 'u'
if free then
  to = 'x'
end
local function numbers(of)
  local token, n = string.match(of or '', '^(%d+)%-(%d+)')
  return tonumber(token or 0), tonumber(n or 0)
end
local place = redis.call('HGET', KEYS[3], no)
if not place then
  return string.sub(redis.call('GET', KEYS[5]) or '', 1, 1) == to and 1 or 0
end
local token, n = numbers(id)
if to == 'c' or free then
  local claimed, last = numbers(redis.call('HGET', KEYS[3], 'c'))
  if string.sub(place, 1, #id + 1) ~= id .. ' ' or token < claimed or token == claimed and n <= last then
    return 0
  end
end
-- What waits since an earlier opening has no ticket, and nothing is here that its units could go back to: the row of
-- their bucket has them.
local was, state, _, customer = string.match(redis.call('HGET', KEYS[1], no) or '', '^(%d+) (%a) (%d+) (.*)$')
local lines = {}
if state == 'q' then
  for l = 1, #ARGV - 5 do
    local line, k = ARGV[l + 5], 4 * l + 3
    local left = redis.call('GET', KEYS[k])
    local flow = tonumber(redis.call('HGET', KEYS[k + 1], line) or 0)
    local back = tonumber(redis.call('HGET', KEYS[k + 2], line) or 0)
    if left and flow > back then
      lines[#lines + 1] = {k = k, id = line, q = flow - back, all = flow, counts = left ~= '-1'}
    end
  end
end

-- The entry goes first, units come back last: half-way they are idle, never two orders or a unit too many. The place is
-- forgotten when the rest is done, so that the same call again does the rest.
redis.call('XDEL', KEYS[2], id)
redis.call('ZREM', KEYS[4], id)
redis.call('SET', KEYS[5], ARGV[5], 'EX', ARGV[4])
-- A repeat is told so too, when it comes to another bucket or opening.
local of = redis.call('HGET', KEYS[3], string.sub(place, #id + 2, #id + 17))
if to == 'c' and of and string.sub(of, 1, 26) == no then
  redis.call('SET', KEYS[6], of, 'EX', ARGV[4])
end
if state == 'q' then
  redis.call('HSET', KEYS[1], no, was .. ' ' .. to .. ' 0 ' .. customer)
end
for _, line in ipairs(lines) do
  redis.call('HSET', KEYS[line.k + 2], line.id, line.all, line.id .. '|queue', line.q)
  local bought = tonumber(redis.call('HGET', KEYS[line.k + 3], customer) or 0)
  if bought > 0 then
    redis.call('HSET', KEYS[line.k + 3], customer, math.max(bought - line.q, 0))
  end
end
redis.call('HDEL', KEYS[3], no, string.sub(place, #id + 2, #id + 17))
for _, line in ipairs(lines) do
  if line.counts then
    redis.call('INCRBY', KEYS[line.k], line.q)
  end
end
return 1
