-- Withdraws a queued order before anybody makes an order of it, and puts its units back.
-- KEYS: gate, ticket, queue; per line: leaved, flow, back, buyer
-- ARGV: token, order_no, number of its entry; per line: line id
-- Returns 1 withdrawn, also again; 0 too late, it is or becomes an order; -3 not this opening.
local gate = redis.call('HMGET', KEYS[1], 'tok', 'taken')
if gate[1] ~= ARGV[1] then
  return -3
end
local record = redis.call('HGET', KEYS[2], ARGV[2])
local n, state, _, customer = string.match(record or '', '^(%d+) (%a) (%d+) (.*)$')
local entry = ARGV[1] .. '-' .. ARGV[3]
if n ~= ARGV[3] then
  return 0
end
if state == 'c' then
  return 1
end
if state ~= 'q' or tonumber(n) <= tonumber(gate[2]) or #redis.call('XRANGE', KEYS[3], entry, entry) == 0 then
  return 0
end
local lines = {}
for l = 1, #ARGV - 3 do
  local id, k = ARGV[l + 3], 4 * l
  local left = redis.call('GET', KEYS[k])
  local flow = tonumber(redis.call('HGET', KEYS[k + 1], id) or 0)
  local back = tonumber(redis.call('HGET', KEYS[k + 2], id) or 0)
  if not left then
    return -3
  end
  if flow > back then
    lines[#lines + 1] = {k = k, id = id, q = flow - back, all = flow, counts = left ~= '-1'}
  end
end

-- The entry goes first, units come back last: half-way they are idle, never two orders or a unit too many.
redis.call('XDEL', KEYS[3], entry)
redis.call('HSET', KEYS[2], ARGV[2], n .. ' c 0 ' .. customer)
for _, line in ipairs(lines) do
  redis.call('HSET', KEYS[line.k + 2], line.id, line.all, line.id .. '|cancel', line.q)
  local bought = tonumber(redis.call('HGET', KEYS[line.k + 3], customer) or 0)
  if bought > 0 then
    redis.call('HSET', KEYS[line.k + 3], customer, math.max(bought - line.q, 0))
  end
end
for _, line in ipairs(lines) do
  if line.counts then
    redis.call('INCRBY', KEYS[line.k], line.q)
  end
end
return 1
