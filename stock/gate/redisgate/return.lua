-- Gives back units of an order, once for each ref and never more than were deducted.
-- KEYS: gate, ticket; per line: leaved, flow, back, buyer
-- ARGV: token, order_no, ref, bucket|pool; per line: line id, quantity
-- pool: the database has put the units into its pool. Here they are only marked, leaved does not change.
-- Returns 1 given back, 0 this ref was there before, -1 more than was deducted (nothing moves), -3 not this opening.
if redis.call('HGET', KEYS[1], 'tok') ~= ARGV[1] then
  return -3
end
local to, todo = ARGV[4], {}
for l = 1, (#ARGV - 4) / 2 do
  local id, q, k = ARGV[2 * l + 3], tonumber(ARGV[2 * l + 4]), 4 * l - 1
  local left = redis.call('GET', KEYS[k])
  if not left then
    return -3
  end
  local back = redis.call('HMGET', KEYS[k + 2], id, id .. '|' .. ARGV[3])
  if not back[2] then
    local all = tonumber(back[1] or 0) + q
    if all > tonumber(redis.call('HGET', KEYS[k + 1], id) or 0) then
      return -1
    end
    todo[#todo + 1] = {k = k, id = id, q = q, all = all, counts = to == 'bucket' and left ~= '-1'}
  end
end
if #todo == 0 then
  return 0
end

local record = redis.call('HGET', KEYS[2], ARGV[2])
local n, state, units, customer = string.match(record or '', '^(%d+) (%a) (%d+) (.*)$')
units = tonumber(units or 0)
-- Marks before units: a script that dies half-way leaves units idle, and never one too many.
for _, line in ipairs(todo) do
  redis.call('HSET', KEYS[line.k + 2], line.id, line.all, line.id .. '|' .. ARGV[3], line.q)
  local bought = customer and tonumber(redis.call('HGET', KEYS[line.k + 3], customer) or 0) or 0
  if bought > 0 then
    redis.call('HSET', KEYS[line.k + 3], customer, math.max(bought - line.q, 0))
  end
  units = math.max(units - line.q, 0)
end
if record then
  if units == 0 and to == 'bucket' and state ~= 'c' then
    state = 'x' -- nothing is left of a ticket that became no order: its key is free
  end
  redis.call('HSET', KEYS[2], ARGV[2], string.format('%s %s %.0f %s', n, state, units, customer))
end
for _, line in ipairs(todo) do
  if line.counts then
    redis.call('INCRBY', KEYS[line.k], line.q)
  end
end
return 1
